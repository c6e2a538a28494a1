//! The matrix product on the CPU: few rows by the product of panels, where the right operand stays as it is from launch
//! to launch; else blocks of rows side by side, each filled with its residual and bias, multiplied by the `gemm`
//! crate, and finished by its activation while it is in the cache.

use half::f16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

use super::panel_product::{Finish, multiply};
use super::panels::{Layout, Operands};
use super::simd::{activate_each, vectorised};
use super::threads::{each_chunk, is_large, may_share, worth_sharing};
use crate::kernels::activation::Activation;
use crate::kernels::matmul::{Matmul, Matrix};
use crate::kernels::{Io, Slice};

/// A matrix in a slice.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The elements.
    pub data: &'a [f32],
    /// Elements from one row to the next.
    pub row: usize,
    /// Elements from one column to the next.
    pub column: usize,
}

/// C += α A B or C = α A B for an m x k A and a k x n B; C has rows of `stride` elements.
///
/// # Panics
/// If a matrix reaches beyond its slice.
#[allow(unsafe_code)]
pub fn gemm(
    threads: Threads,
    [m, k, n]: [usize; 3],
    a: View<'_>,
    b: View<'_>,
    c: &mut [f32],
    stride: usize,
    alpha: f32,
    accumulate: bool,
) {
    if m == 0 || n == 0 {
        return;
    }
    let reach = |rows: usize, columns: usize, row: usize, column: usize| {
        if rows == 0 || columns == 0 { 0 } else { (rows - 1) * row + (columns - 1) * column + 1 }
    };
    assert!(reach(m, k, a.row, a.column) <= a.data.len(), "A reaches beyond its slice");
    assert!(reach(k, n, b.row, b.column) <= b.data.len(), "B reaches beyond its slice");
    assert!(stride >= n && reach(m, n, stride, 1) <= c.len(), "C reaches beyond its slice");
    // SAFETY: the three matrices lie inside their slices, checked above; C is borrowed exclusively, so that it
    // overlaps neither A nor B, and its rows do not overlap one another.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            1,
            stride as isize,
            accumulate,
            a.data.as_ptr(),
            a.column as isize,
            a.row as isize,
            b.data.as_ptr(),
            b.column as isize,
            b.row as isize,
            1.0,
            alpha,
            false,
            false,
            false,
            match threads {
                Threads::All if may_share() => gemm::Parallelism::Rayon(0),
                _ => gemm::Parallelism::None,
            },
        );
    }
}

/// Where something lies that will be read soon.
#[derive(Clone, Copy)]
pub struct Ahead(*const f32);

impl Ahead {
    /// Element `at`, if there is such an element.
    pub fn of(data: &[f32], at: usize) -> Self {
        Self(data.as_ptr().wrapping_add(at))
    }

    /// Asks for the element that lies so many further on, and does not wait for it.
    #[allow(unsafe_code)]
    #[inline(always)]
    pub fn fetch(self, further: usize) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
            // SAFETY: a prefetch reads nothing and has no address that it must not be given.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(self.0.wrapping_add(further).cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = further;
    }
}

/// Who computes a product; the bits are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// The caller's.
    One,
    /// All of the pool, which share out rows and columns, unless the caller works alone.
    All,
}

/// A right operand that no second-level cache holds, in elements: every block of rows would fetch it again.
const LARGE: usize = 128 * 1024;

/// Rows of a product for which panels of a large operand are worth their memory: with more of them packing is a small
/// part of the work.
const PANEL_ROWS: usize = 256;

/// Where the right operand lies, and in which input, if a product is faster with panels of it, as long as these are packed
/// once for many launches.
pub fn wants_panels(kernel: &Matmul) -> Option<(usize, Layout)> {
    let few = kernel.batch == 1 && (kernel.m <= PANEL_ROWS || kernel.k * kernel.n <= LARGE);
    let (row, column) = kernel.b.steps();
    let layout = Layout { offset: kernel.b.offset, row, column, k: kernel.k, n: kernel.n };
    (few && !kernel.half_b && !kernel.gated && kernel.k > 0 && kernel.a.steps().1 == 1).then_some((1, layout))
}

/// The whole kernel; `kept` has the panels that [`wants_panels`] asks for.
pub fn run(kernel: &Matmul, kept: Option<Operands<'_>>, io: &mut Io<'_, '_, f32>) {
    match kept {
        Some(kept) => run_by_panels(kernel, kept.read(0).as_ref(), io),
        None => run_by_blocks(kernel, io),
    }
}

fn run_by_panels(kernel: &Matmul, panels: &[f32], io: &mut Io<'_, '_, f32>) {
    let [a, bias, residual] = [0, 2, 3].map(|i| io.inputs[i].floats());
    let finish = Finish {
        bias: kernel.bias.map(|offset| &bias[offset..offset + kernel.n]),
        activation: kernel.activation,
        alpha: kernel.alpha,
        residual: kernel.residual_rows.map(|rows| (residual, rows)),
    };
    let c = &mut io.outputs[0][kernel.c.offset..];
    multiply([kernel.m, kernel.k, kernel.n], of(a, &kernel.a, 0), panels, c, kernel.c.stride, finish);
}

fn run_by_blocks(kernel: &Matmul, io: &mut Io<'_, '_, f32>) {
    let [a, bias, residual] = [0, 2, 3].map(|i| io.inputs[i].floats());
    let (m, k, n, stride) = (kernel.m, kernel.k, kernel.n, kernel.c.stride);
    let bias = kernel.bias.map(|offset| &bias[offset..offset + n]);
    let ends = Ends { kernel, bias, residual };
    for entry in 0..kernel.batch {
        let a = of(a, &kernel.a, entry);
        let c = &mut io.outputs[0][kernel.c.offset + entry * kernel.c.batch_stride..];
        let c = &mut c[..(m - 1) * stride + n];
        let rows = block_rows(m, k, n);
        let shared = worth_sharing(m * k * n);
        // The same blocks whoever computes them.
        let blocks = |c: &mut [f32], each: &(dyn Fn(usize, &mut [f32]) + Sync)| {
            each_chunk(shared, c, rows * stride, |(at, c)| each(at * rows, c));
        };
        let halves = match io.inputs[1] {
            Slice::H(halves) => Some(&halves[kernel.b.offset + entry * kernel.b.batch_stride..]),
            _ => None,
        };
        if halves.is_some() || (k * n > LARGE && is_large(m * k * n)) {
            blocks(c, &|first, c| ends.fill(first, c));
            match halves {
                Some(halves) => halved(kernel, a, halves, c, &ends),
                None => {
                    let b = of(io.inputs[1].floats(), &kernel.b, entry);
                    gemm(Threads::All, [m, k, n], a, b, c, stride, ends.scale(), ends.fills());
                }
            }
            blocks(c, &|first, c| ends.finish(first, c));
            continue;
        }
        let b = of(io.inputs[1].floats(), &kernel.b, entry);
        let block = |first: usize, c: &mut [f32]| {
            let a = View { data: &a.data[first * a.row..], ..a };
            ends.fill(first, c);
            gemm(Threads::One, [rows.min(m - first), k, n], a, b, c, stride, ends.scale(), ends.fills());
            ends.finish(first, c);
        };
        blocks(c, &block);
    }
}

/// The sums where B is stored as f16: some columns after the other are widened, and multiplied while they are in the
/// cache. Which columns go together depends on the shape alone.
fn halved(kernel: &Matmul, a: View<'_>, b: &[f16], c: &mut [f32], ends: &Ends<'_>) {
    let &Matmul { m, k, n, .. } = kernel;
    let threads = if is_large(m * k * n) { Threads::All } else { Threads::One };
    let together = (LARGE / k.max(1)).max(16).min(n);
    let mut wide = vec![0.0; together * k];
    for first in (0..n).step_by(together) {
        let columns = together.min(n - first);
        // B's stored rows are its columns or its rows; `part` of each is wanted, from `from` on.
        let (transposed, stride) = (kernel.b.transposed, kernel.b.stride);
        let (part, from) = if transposed { (k, first * stride) } else { (columns, first) };
        let wide = &mut wide[..columns * k];
        let widen = |(i, to): (usize, &mut [f32])| b[from + i * stride..][..part].convert_to_f32_slice(to);
        match threads {
            Threads::All if may_share() => {
                wide.par_chunks_mut(part).with_min_len(16).enumerate().for_each(widen)
            }
            _ => wide.chunks_mut(part).enumerate().for_each(widen),
        }
        let (row, column) = if transposed { (1, k) } else { (columns, 1) };
        let b = View { data: wide, row, column };
        let c = &mut c[first..];
        gemm(threads, [m, k, columns], a, b, c, kernel.c.stride, ends.scale(), ends.fills());
    }
}

fn of<'a>(data: &'a [f32], matrix: &Matrix, entry: usize) -> View<'a> {
    let (row, column) = matrix.steps();
    View { data: &data[matrix.offset + entry * matrix.batch_stride..], row, column }
}

/// Rows of a block: its result fits the second-level cache, and there are blocks enough to share out. It depends on
/// the shape alone, so that results do not depend on the number of threads.
fn block_rows(m: usize, k: usize, n: usize) -> usize {
    if !is_large(m * k * n) {
        return m;
    }
    let cached = (64 * 1024 / n.max(1)).clamp(32, 1024);
    cached.min(m.div_ceil(4).next_multiple_of(16)).min(m)
}

/// What comes before and after the sums of a product, for a block of C's rows whose first is given.
struct Ends<'a> {
    kernel: &'a Matmul,
    bias: Option<&'a [f32]>,
    residual: &'a [f32],
}

impl Ends<'_> {
    fn linear(&self) -> bool {
        self.kernel.activation == Activation::None
    }

    /// What an activation is applied to must not hold the residual yet.
    fn early_residual(&self) -> Option<usize> {
        self.kernel.residual_rows.filter(|_| self.linear() && !self.kernel.gated)
    }

    /// What the sums are scaled by.
    fn scale(&self) -> f32 {
        if self.linear() { self.kernel.alpha } else { 1.0 }
    }

    /// Whether the sums are added to what C holds.
    fn fills(&self) -> bool {
        self.bias.is_some() || self.early_residual().is_some()
    }

    /// Writes what the sums are added to.
    fn fill(&self, first: usize, c: &mut [f32]) {
        let (n, stride, scale) = (self.kernel.n, self.kernel.c.stride, self.scale());
        vectorised(
            #[inline(always)]
            || match (self.bias, self.early_residual()) {
                (None, None) => {}
                (Some(bias), None) => {
                    for row in c.chunks_mut(stride) {
                        for (c, &b) in row[..n].iter_mut().zip(bias) {
                            *c = scale * b;
                        }
                    }
                }
                (bias, Some(repeat)) => {
                    for (i, row) in c.chunks_mut(stride).enumerate() {
                        let residual = &self.residual[(first + i) % repeat * n..][..n];
                        match bias {
                            Some(bias) => {
                                for ((c, &r), &b) in row[..n].iter_mut().zip(residual).zip(bias) {
                                    *c = r + scale * b;
                                }
                            }
                            None => row[..n].copy_from_slice(residual),
                        }
                    }
                }
            },
        );
    }

    /// Applies the activation, and adds what must come after it.
    fn finish(&self, first: usize, c: &mut [f32]) {
        if self.linear() && !self.kernel.gated {
            return;
        }
        let (n, stride, kernel) = (self.kernel.n, self.kernel.c.stride, self.kernel);
        vectorised(
            #[inline(always)]
            || {
                for (i, row) in c.chunks_mut(stride).enumerate() {
                    let c = &mut row[..n];
                    if !self.linear() {
                        activate_each(kernel.activation, kernel.alpha, c);
                    }
                    let Some(repeat) = kernel.residual_rows else { continue };
                    let residual = c.iter_mut().zip(&self.residual[(first + i) % repeat * n..][..n]);
                    match kernel.gated {
                        true => residual.for_each(|(c, &r)| *c = if r > 0.0 { *c } else { 0.0 }),
                        false => residual.for_each(|(c, &r)| *c += r),
                    }
                }
            },
        );
    }
}
