//! Gradients of layer normalisation, with the words of [`super::layer_norm`].
//!
//! With g = γ ∘ dy and x̂ = (x − μ) ρ:
//!
//! ```text
//! dx[r, c] = ρ[r] (g[r, c] − mean_c g[r, ·] − x̂[r, c] mean_c (g x̂)[r, ·]) + e[r, c]     `LayerNormBackward`
//! dγ[c]    = Σ_r dy[r, c] x̂[r, c]                                                 `LayerNormBackwardParams`
//! dβ[c]    = Σ_r dy[r, c]
//! ```
//!
//! e is the gradient that reaches x by another way, such as a residual connection.
//!
//! | binding | shape |
//! |---|---|
//! | x, dy, e | `[rows, width]` |
//! | gamma | `[width]` |
//! | stats | `[rows, 2]`: μ, ρ, as the forward kernel wrote them |
//! | dx (out) | `[rows, width]` |
//! | d_gamma, d_beta (out) | `[width]` |
//!
//! dγ and dβ are summed by one workgroup for eight columns, in a fixed order: no atomics.

use super::check::{Case, Data};
use super::layer_norm::{LayerNorm, by_rows, lanes};
use super::shader::shader;
use super::{AdapterClass, Describe, Dispatch, Float, Io, Kernel, word};

/// dx. Inputs: x, gamma, stats, dy, e (or nothing). Outputs: dx.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerNormBackward {
    /// Rows.
    pub rows: usize,
    /// Columns; at least one.
    pub width: usize,
    /// Whether there is an e.
    pub extra: bool,
}

impl Describe for LayerNormBackward {
    const NAME: &'static str = "layer_norm_backward";

    fn dispatch(&self, class: AdapterClass) -> Dispatch {
        let rows = shader!("layer_norm_backward_rows");
        let shaders = [rows, shader!("layer_norm_backward_subgroup"), shader!("layer_norm_backward")];
        by_rows(class, self.rows, self.width, shaders)
    }

    fn params(&self) -> Vec<u32> {
        vec![word(self.rows), word(self.width), word(lanes(self.width)), u32::from(self.extra)]
    }

    fn twin<T: Float>(&self, io: &mut Io<'_, '_, T>) {
        let [x, gamma, stats, dy, extra] = [0, 1, 2, 3, 4].map(|n| io.inputs[n].floats());
        let count = T::of(self.width as f64);
        for row in 0..self.rows {
            let range = row * self.width..(row + 1) * self.width;
            let (x, dy, dx) = (&x[range.clone()], &dy[range.clone()], &mut io.outputs[0][range.clone()]);
            let (mean, rstd) = (stats[2 * row], stats[2 * row + 1]);
            let (mut g_sum, mut gx_sum) = (T::ZERO, T::ZERO);
            for ((&x, &dy), &gamma) in x.iter().zip(dy).zip(gamma) {
                g_sum += gamma * dy;
                gx_sum += gamma * dy * ((x - mean) * rstd);
            }
            let (g_mean, gx_mean) = (g_sum / count, gx_sum / count);
            for (((dx, &x), &dy), &gamma) in dx.iter_mut().zip(x).zip(dy).zip(gamma) {
                *dx = rstd * (gamma * dy - g_mean - (x - mean) * rstd * gx_mean);
            }
            if self.extra {
                for (dx, &e) in dx.iter_mut().zip(&extra[range]) {
                    *dx += e;
                }
            }
        }
    }

    fn flops(&self) -> u64 {
        14 * (self.rows * self.width) as u64
    }
}

/// dγ and dβ. Inputs: x, stats, dy. Outputs: d_gamma, d_beta.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerNormBackwardParams {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub width: usize,
}

impl Describe for LayerNormBackwardParams {
    const NAME: &'static str = "layer_norm_backward_params";

    fn dispatch(&self, _: AdapterClass) -> Dispatch {
        Dispatch::groups(shader!("layer_norm_backward_params"), self.width.div_ceil(8))
    }

    fn params(&self) -> Vec<u32> {
        vec![word(self.rows), word(self.width)]
    }

    fn twin<T: Float>(&self, io: &mut Io<'_, '_, T>) {
        let [x, stats, dy] = [0, 1, 2].map(|n| io.inputs[n].floats());
        let [d_gamma, d_beta] = io.outputs else { panic!("layer_norm_backward_params has two outputs") };
        d_gamma.fill(T::ZERO);
        d_beta.fill(T::ZERO);
        let rows = x.chunks_exact(self.width).zip(dy.chunks_exact(self.width));
        for ((x, dy), stats) in rows.zip(stats.chunks_exact(2)).take(self.rows) {
            for (((d_gamma, d_beta), &x), &dy) in d_gamma.iter_mut().zip(d_beta.iter_mut()).zip(x).zip(dy) {
                *d_gamma += dy * ((x - stats[0]) * stats[1]);
                *d_beta += dy;
            }
        }
    }

    fn flops(&self) -> u64 {
        5 * (self.rows * self.width) as u64
    }
}

/// A case of a gradient without bindings yet, and x, gamma and what the forward kernel makes of x as stats.
fn backward_case(rows: usize, width: usize, name: &str, kernel: impl Into<Kernel>) -> (Case, [Data; 3]) {
    let forward = LayerNorm { rows, width, eps: 1e-5 }.case();
    let stats = forward.reference()[1].iter().map(|&x| x as f32).collect();
    let [x, gamma] = [0, 1].map(|n| forward.inputs[n].clone());
    (Case::new(format!("{rows}x{width}{name}"), kernel), [x, gamma, Data::F(stats)])
}

impl LayerNormBackward {
    /// The cases that tests and `doctor` run.
    pub fn cases() -> Vec<Case> {
        let mut cases = Vec::new();
        // Where a row has one column, dx is zero, and an answer would be rounding beside rounding.
        for (rows, width) in LayerNorm::shapes().filter(|&(_, width)| width > 1) {
            let extra = width % 2 == 1;
            let name = if extra { " extra" } else { "" };
            let kernel = Self { rows, width, extra };
            let (case, [x, gamma, stats]) = backward_case(rows, width, name, kernel);
            let case = case.data(x).data(gamma).data(stats).input(rows * width);
            let case = if extra { case.input(rows * width) } else { case.data(Data::Nothing) };
            cases.push(case.output(rows * width));
        }
        cases
    }
}

impl LayerNormBackwardParams {
    /// The cases that tests and `doctor` run.
    pub fn cases() -> Vec<Case> {
        let mut cases = Vec::new();
        for (rows, width) in LayerNorm::shapes().chain([(100_000, 16), (511, 20)]).filter(|&(_, w)| w > 1) {
            let (case, [x, _, stats]) = backward_case(rows, width, "", Self { rows, width });
            let case = case.data(x).data(stats).input(rows * width);
            cases.push(case.output(width).output(width));
        }
        cases
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Slice;
    use crate::rng::{Rng, Stream};

    #[test]
    fn gradients_are_the_finite_differences_of_layer_norm() {
        let (rows, width, eps) = (3, 7, 1e-5);
        let mut rng = Rng::new(5, Stream::Init, 0, 0);
        let mut noise = |len: usize| (0..len).map(|_| rng.normal()).collect::<Vec<f64>>();
        let parts = [noise(rows * width), noise(width), noise(width)];
        let (dy, extra) = (noise(rows * width), noise(rows * width));
        let forward = |parts: &[Vec<f64>; 3]| {
            let (mut y, mut stats) = (vec![0.0; rows * width], vec![0.0; rows * 2]);
            let inputs = [Slice::F(&parts[0]), Slice::F(&parts[1]), Slice::F(&parts[2])];
            let mut io = Io { inputs: &inputs, outputs: &mut [&mut y, &mut stats] };
            LayerNorm { rows, width, eps }.twin(&mut io);
            (y, stats)
        };
        // The loss reaches x through y and, with weights `extra`, past it.
        let sum = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let loss = |parts: &[Vec<f64>; 3]| sum(&forward(parts).0, &dy) + sum(&parts[0], &extra);

        let stats = forward(&parts).1;
        let [x, gamma, _] = &parts;
        let (mut dx, mut d_gamma, mut d_beta) = (vec![0.0; rows * width], vec![0.0; width], vec![0.0; width]);
        let inputs = [Slice::F(x), Slice::F(gamma), Slice::F(&stats), Slice::F(&dy), Slice::F(&extra)];
        LayerNormBackward { rows, width, extra: true }
            .twin(&mut Io { inputs: &inputs, outputs: &mut [&mut dx] });
        let inputs = [Slice::F(x), Slice::F(&stats), Slice::F(&dy)];
        LayerNormBackwardParams { rows, width }
            .twin(&mut Io { inputs: &inputs, outputs: &mut [&mut d_gamma, &mut d_beta] });

        for (part, gradient) in [dx, d_gamma, d_beta].iter().enumerate() {
            for (at, &gradient) in gradient.iter().enumerate() {
                let moved = |h: f64| {
                    let mut parts = parts.clone();
                    parts[part][at] += h;
                    loss(&parts)
                };
                let difference = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                approx::assert_abs_diff_eq!(gradient, difference, epsilon = 1e-8);
            }
        }
    }
}
