//! Row by row work on the CPU: norms, sums, dropout, activations, the optimiser.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::scratch::{LINE, scratch};
use super::simd::{activate_each, arch, slope, sum, sum2, vectorised};
use super::threads::{each_chunk, may_share, worth_sharing};
use crate::kernels::Io;
use crate::kernels::Slice;
use crate::kernels::activation::{Activate, ActivateBackward};
use crate::kernels::add_rows::{AddRows, ReduceRows};
use crate::kernels::dropout::{Dropout, Mask};
use crate::kernels::layer_norm::LayerNorm;
use crate::kernels::layer_norm_backward::{LayerNormBackward, LayerNormBackwardParams};
use crate::kernels::optimizer::Adam;
use crate::kernels::patchify::Patchify;

/// Elements of a block: what one thread does at a time, and what sums are split by, so that results do not depend
/// on the number of threads.
const BLOCK: usize = 32 * 1024;

/// Runs `each` on blocks of whole rows of an output, side by side where there are several; its arguments are the
/// block's first row and its elements.
fn by_rows(out: &mut [f32], columns: usize, each: impl Fn(usize, &mut [f32]) + Sync) {
    let columns = columns.max(1);
    let rows = (BLOCK / columns).max(1);
    let shared = out.len() > rows * columns && may_share();
    each_chunk(shared, out, rows * columns, |(block, out)| each(block * rows, out));
}

/// y = f(x).
pub fn activation(kernel: &Activate, io: &mut Io<'_, '_, f32>) {
    let x = &io.inputs[0].floats()[..kernel.len];
    by_rows(io.outputs[0], 1, |first, y| {
        vectorised(
            #[inline(always)]
            || {
                y.copy_from_slice(&x[first..][..y.len()]);
                activate_each(kernel.kind, 1.0, y);
            },
        );
    });
}

/// dx = f'(x) dy.
pub fn activation_backward(kernel: &ActivateBackward, io: &mut Io<'_, '_, f32>) {
    let (x, dy) = (io.inputs[0].floats(), io.inputs[1].floats());
    by_rows(io.outputs[0], 1, |first, dx| {
        vectorised(
            #[inline(always)]
            || {
                for ((dx, &x), &dy) in dx.iter_mut().zip(&x[first..]).zip(&dy[first..]) {
                    *dx = slope(kernel.kind, x) * dy;
                }
            },
        );
    });
}

/// y = x + b, b repeated.
pub fn add_rows(kernel: &AddRows, io: &mut Io<'_, '_, f32>) {
    let (x, b) = (io.inputs[0].floats(), io.inputs[1].floats());
    let columns = kernel.columns;
    by_rows(io.outputs[0], columns, |first, y| {
        vectorised(
            #[inline(always)]
            || {
                let rows = y.chunks_exact_mut(columns).zip(x[first * columns..].chunks_exact(columns));
                for (row, (y, x)) in rows.enumerate() {
                    let b = &b[(first + row) / kernel.div % kernel.modulo * columns..][..columns];
                    for ((y, &x), &b) in y.iter_mut().zip(x).zip(b) {
                        *y = x + b;
                    }
                }
            },
        );
    });
}

/// Sums of rows: blocks side by side, then their sums in order.
pub fn reduce_rows(kernel: &ReduceRows, io: &mut Io<'_, '_, f32>) {
    let x = &io.inputs[0].floats()[..kernel.rows * kernel.columns];
    let (columns, size) = (kernel.columns, kernel.modulo * kernel.columns);
    let y = &mut io.outputs[0][kernel.offset..][..size];
    let rows = (BLOCK / columns.max(1)).max(1);
    let block_sum = |(block, x): (usize, &[f32])| {
        let mut sums = vec![0.0; size];
        vectorised(
            #[inline(always)]
            || {
                for (row, x) in x.chunks_exact(columns).enumerate() {
                    let group = (block * rows + row) / kernel.div % kernel.modulo;
                    for (sum, &x) in sums[group * columns..][..columns].iter_mut().zip(x) {
                        *sum += x;
                    }
                }
            },
        );
        sums
    };
    let sums: Vec<Vec<f32>> = if x.len() > rows * columns {
        x.par_chunks(rows * columns).enumerate().map(block_sum).collect()
    } else {
        vec![block_sum((0, x))]
    };
    for y in y.iter_mut() {
        *y = if kernel.beta == 0.0 { 0.0 } else { kernel.beta * *y };
    }
    for sums in sums {
        for (y, sum) in y.iter_mut().zip(sums) {
            *y += kernel.alpha * sum;
        }
    }
}

/// y = r + m x.
pub fn dropout(kernel: &Dropout, io: &mut Io<'_, '_, f32>) {
    let (x, residual) = (io.inputs[0].floats(), io.inputs[1].floats());
    let mask = Mask::<f32>::new(kernel.site, io.inputs[2].words());
    by_rows(io.outputs[0], 64, |first, y| {
        let first = first * 64;
        vectorised(
            #[inline(always)]
            || {
                mask.factors(first as u32, y);
                if kernel.residual {
                    for ((y, &x), &r) in y.iter_mut().zip(&x[first..]).zip(&residual[first..]) {
                        *y = r + *y * x;
                    }
                } else {
                    for (y, &x) in y.iter_mut().zip(&x[first..]) {
                        *y *= x;
                    }
                }
            },
        );
    });
}

/// The normalisation.
pub fn layer_norm(kernel: &LayerNorm, io: &mut Io<'_, '_, f32>) {
    let [x, gamma, beta] = [0, 1, 2].map(|i| io.inputs[i].floats());
    let (width, eps) = (kernel.width, kernel.eps);
    let [y, stats] = io.outputs else { panic!("layer_norm has two outputs") };
    let rows = (BLOCK / width).max(1);
    let each = |(block, (y, stats)): (usize, (&mut [f32], &mut [f32]))| {
        y.copy_from_slice(&x[block * rows * width..][..y.len()]);
        arch().dispatch(Normalised { rows: y, width, gamma, beta, eps, stats: Some(stats) });
    };
    if kernel.rows <= rows || !may_share() {
        each((0, (y, stats)));
    } else {
        y.par_chunks_mut(rows * width).zip(stats.par_chunks_mut(rows * 2)).enumerate().for_each(each);
    }
}

/// The same where the rows lie already, for a product that has gamma and beta behind its own inputs.
pub fn normalise(kernel: &LayerNorm, io: &mut Io<'_, '_, f32>) {
    let [gamma, beta] = [4, 5].map(|i| io.inputs[i].floats());
    let (width, eps) = (kernel.width, kernel.eps);
    by_rows(io.outputs[0], width, |_, rows| {
        arch().dispatch(Normalised { rows, width, gamma, beta, eps, stats: None });
    });
}

/// Rows that become normalised ones.
pub struct Normalised<'a> {
    pub rows: &'a mut [f32],
    pub width: usize,
    pub gamma: &'a [f32],
    pub beta: &'a [f32],
    pub eps: f32,
    pub stats: Option<&'a mut [f32]>,
}

impl WithSimd for Normalised<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { rows, width, gamma, beta, eps, mut stats } = self;
        // Each loop over some rows, so that the reductions of one are made while those of the next are begun, and all their
        // roots at once.
        for (some, rows) in rows.chunks_mut(LINE * width).enumerate() {
            let (mut means, mut rstds) = ([0.0; LINE], [1.0; LINE]);
            for (i, row) in rows.chunks_exact(width).enumerate() {
                means[i] = sum(simd, row, |x| x) / width as f32;
            }
            for (i, row) in rows.chunks_exact(width).enumerate() {
                let mean = means[i];
                rstds[i] = sum(simd, row, |x| (x - mean) * (x - mean)) / width as f32;
            }
            for rstd in &mut rstds {
                *rstd = 1.0 / (*rstd + eps).sqrt();
            }
            for (i, row) in rows.chunks_exact_mut(width).enumerate() {
                let (mean, rstd) = (means[i], rstds[i]);
                for ((x, &gamma), &beta) in row.iter_mut().zip(gamma).zip(beta) {
                    *x = gamma.mul_add((*x - mean) * rstd, beta);
                }
                if let Some(stats) = &mut stats {
                    stats[2 * (some * LINE + i)..][..2].copy_from_slice(&[mean, rstd]);
                }
            }
        }
    }
}

/// dx of the normalisation.
pub fn layer_norm_backward(kernel: &LayerNormBackward, io: &mut Io<'_, '_, f32>) {
    let [x, gamma, stats, dy, extra] = [0, 1, 2, 3, 4].map(|i| io.inputs[i].floats());
    let width = kernel.width;
    by_rows(io.outputs[0], width, |first, dx| {
        let [x, dy] = [x, dy].map(|values| &values[first * width..]);
        let stats = &stats[2 * first..];
        let extra = kernel.extra.then(|| &extra[first * width..]);
        scratch([width], |[weighted]| {
            arch().dispatch(NormGradients { x, gamma, stats, dy, extra, width, weighted, dx });
        });
    });
}

struct NormGradients<'a> {
    x: &'a [f32],
    gamma: &'a [f32],
    stats: &'a [f32],
    dy: &'a [f32],
    extra: Option<&'a [f32]>,
    width: usize,
    weighted: &'a mut [f32],
    dx: &'a mut [f32],
}

impl WithSimd for NormGradients<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { x, gamma, stats, dy, extra, width, weighted, dx } = self;
        for (row, dx) in dx.chunks_exact_mut(width).enumerate() {
            let (x, dy) = (&x[row * width..][..width], &dy[row * width..][..width]);
            let (mean, rstd) = (stats[2 * row], stats[2 * row + 1]);
            for ((w, &dy), &gamma) in weighted.iter_mut().zip(dy).zip(gamma) {
                *w = gamma * dy;
            }
            let g_mean = sum(simd, weighted, |w| w) / width as f32;
            let gx_mean = sum2(simd, weighted, x, |w, x| w * ((x - mean) * rstd)) / width as f32;
            for ((dx, &x), &w) in dx.iter_mut().zip(x).zip(&*weighted) {
                *dx = rstd * (w - g_mean - (x - mean) * rstd * gx_mean);
            }
            if let Some(extra) = extra {
                for (dx, &e) in dx.iter_mut().zip(&extra[row * width..]) {
                    *dx += e;
                }
            }
        }
    }
}

/// dγ and dβ of the normalisation: blocks side by side, then their sums in order.
pub fn layer_norm_backward_params(kernel: &LayerNormBackwardParams, io: &mut Io<'_, '_, f32>) {
    let [x, stats, dy] = [0, 1, 2].map(|i| io.inputs[i].floats());
    let width = kernel.width;
    let [d_gamma, d_beta] = io.outputs else { panic!("layer_norm_backward_params has two outputs") };
    let rows = (BLOCK / width).max(1);
    let block_sum = |block: usize| {
        let mut sums = vec![0.0; 2 * width];
        let (gammas, betas) = sums.split_at_mut(width);
        vectorised(
            #[inline(always)]
            || {
                for row in block * rows..((block + 1) * rows).min(kernel.rows) {
                    let (x, dy) = (&x[row * width..][..width], &dy[row * width..][..width]);
                    let (mean, rstd) = (stats[2 * row], stats[2 * row + 1]);
                    for (((gamma, beta), &x), &dy) in gammas.iter_mut().zip(betas.iter_mut()).zip(x).zip(dy) {
                        *gamma += dy * ((x - mean) * rstd);
                        *beta += dy;
                    }
                }
            },
        );
        sums
    };
    let blocks = kernel.rows.div_ceil(rows);
    let sums: Vec<Vec<f32>> =
        if blocks > 1 { (0..blocks).into_par_iter().map(block_sum).collect() } else { vec![block_sum(0)] };
    d_gamma.fill(0.0);
    d_beta.fill(0.0);
    for sums in sums {
        let (gammas, betas) = sums.split_at(width);
        d_gamma.iter_mut().zip(gammas).for_each(|(to, &from)| *to += from);
        d_beta.iter_mut().zip(betas).for_each(|(to, &from)| *to += from);
    }
}

/// Patches of images.
pub fn patchify(kernel: &Patchify, io: &mut Io<'_, '_, f32>) {
    match io.inputs[0] {
        Slice::U8(images) => patches(kernel, images, 1.0 / 255.0, io),
        images => patches(kernel, images.floats(), 1.0, io),
    }
}

/// `unit`: what a level of one stands for.
fn patches<P: Copy + Sync + Into<f32>>(kernel: &Patchify, images: &[P], unit: f32, io: &mut Io<'_, '_, f32>) {
    let affine = io.inputs[1].floats();
    let (patch, columns) = (kernel.patch, kernel.columns());
    let (down, across) = (kernel.height / patch, kernel.width / patch);
    let strip = across * columns;
    // A strip of patches, as wide as the image, at a time.
    let each = |(strip, out): (usize, &mut [f32])| {
        let (entry, top) = (strip / down, strip % down * patch);
        vectorised(
            #[inline(always)]
            || {
                for channel in 0..kernel.channels {
                    let (scale, shift) = match kernel.normalize {
                        true => (affine[channel] * unit, affine[kernel.channels + channel]),
                        false => (unit, 0.0),
                    };
                    for y in 0..patch {
                        let plane = (entry * kernel.channels + channel) * kernel.height + top + y;
                        let line = &images[plane * kernel.width..][..kernel.width];
                        for (place, pixels) in line.chunks_exact(patch).enumerate() {
                            let to = &mut out[place * columns + (channel * patch + y) * patch..][..patch];
                            levels(pixels, scale, shift, to);
                        }
                    }
                }
            },
        );
    };
    let len = kernel.batch * down * strip;
    each_chunk(worth_sharing(len), &mut io.outputs[0][kernel.first * columns..][..len], strip, each);
}

/// scale · pixel + shift, in runs of a known length, which become vectors; patches are often no wider.
#[inline(always)]
fn levels<P: Copy + Into<f32>>(pixels: &[P], scale: f32, shift: f32, to: &mut [f32]) {
    let ((runs, rest), (to_runs, to_rest)) = (pixels.as_chunks::<8>(), to.as_chunks_mut::<8>());
    for (to, pixels) in to_runs.iter_mut().zip(runs) {
        *to = pixels.map(|pixel| pixel.into().mul_add(scale, shift));
    }
    for (to, &pixel) in to_rest.iter_mut().zip(rest) {
        *to = pixel.into().mul_add(scale, shift);
    }
}

/// Adam, AdamW and the average.
pub fn adam(kernel: &Adam, io: &mut Io<'_, '_, f32>) {
    let [gradient, state, h] = [0, 1, 2].map(|i| io.inputs[i].floats());
    if state[2] == 0.0 {
        return;
    }
    let (weights, rest) = io.outputs.split_at_mut(1);
    let (moment1, rest) = rest.split_at_mut(1);
    let (moment2, average) = rest.split_at_mut(1);
    vectorised(
        #[inline(always)]
        || {
            let moments = moment1[0].iter_mut().zip(moment2[0].iter_mut());
            for ((w, (m, v)), &g) in weights[0].iter_mut().zip(moments).zip(gradient) {
                let g = g * state[1] + if kernel.decoupled { 0.0 } else { h[7] * *w };
                *m = h[1] * *m + h[2] * g;
                *v = h[3] * *v + h[4] * g * g;
                let decay = if kernel.decoupled { h[8] * *w } else { 0.0 };
                *w -= kernel.rate * (h[0] * *m / (v.sqrt() / h[5] + h[6]) + decay);
            }
            if kernel.average {
                for (average, &w) in average[0].iter_mut().zip(weights[0].iter()) {
                    *average += h[9] * (w - *average);
                }
            }
        },
    );
}
