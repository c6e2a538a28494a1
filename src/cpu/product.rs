//! The matrix product on the CPU: blocks of rows side by side, each filled with its residual and bias, multiplied
//! by the `gemm` crate, and finished by its activation while it is in the cache.

use rayon::prelude::*;

use super::simd::{activate, vectorised};
use crate::kernels::Io;
use crate::kernels::activation::Activation;
use crate::kernels::matmul::{Matmul, Matrix};

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

/// C += α A B or C = α A B for an m x k A and a k x n B; C has rows of `stride` elements. One thread.
///
/// # Panics
/// If a matrix reaches beyond its slice.
#[allow(unsafe_code)]
pub fn gemm(
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
            gemm::Parallelism::None,
        );
    }
}

/// Work that is worth a second thread, in multiply-adds.
const WORTH_A_THREAD: usize = 200_000;

/// The whole kernel.
pub fn run(kernel: &Matmul, io: &mut Io<'_, '_, f32>) {
    let [a, b, bias, residual] = [0, 1, 2, 3].map(|i| io.inputs[i].floats());
    let (m, k, n) = (kernel.m, kernel.k, kernel.n);
    for entry in 0..kernel.batch {
        let a = of(a, &kernel.a, entry);
        let b = of(b, &kernel.b, entry);
        let c = &mut io.outputs[0][kernel.c.offset + entry * kernel.c.batch_stride..];
        let stride = kernel.c.stride;
        let c = &mut c[..(m - 1) * stride + n];
        let rows = block_rows(m, k, n);
        let block = |(at, c): (usize, &mut [f32])| {
            let first = at * rows;
            let count = rows.min(m - first);
            let a = View { data: &a.data[first * a.row..], ..a };
            block_product(kernel, first, count, a, b, bias, residual, c);
        };
        if m * k * n < WORTH_A_THREAD {
            c.chunks_mut(rows * stride).enumerate().for_each(block);
        } else {
            c.par_chunks_mut(rows * stride).enumerate().for_each(block);
        }
    }
}

fn of<'a>(data: &'a [f32], matrix: &Matrix, entry: usize) -> View<'a> {
    let (row, column) = matrix.steps();
    View { data: &data[matrix.offset + entry * matrix.batch_stride..], row, column }
}

/// Rows of a block: its result fits the second-level cache, and there are blocks enough to share out. It depends on
/// the shape alone, so that results do not depend on the number of threads.
fn block_rows(m: usize, k: usize, n: usize) -> usize {
    if m * k * n < WORTH_A_THREAD {
        return m;
    }
    let cached = (64 * 1024 / n.max(1)).clamp(32, 1024);
    cached.min(m.div_ceil(4).next_multiple_of(16)).min(m)
}

fn block_product(
    kernel: &Matmul,
    first: usize,
    rows: usize,
    a: View<'_>,
    b: View<'_>,
    bias: &[f32],
    residual: &[f32],
    c: &mut [f32],
) {
    let (k, n, stride) = (kernel.k, kernel.n, kernel.c.stride);
    let bias = kernel.bias.map(|offset| &bias[offset..offset + n]);
    let linear = kernel.activation == Activation::None;
    // What an activation is applied to must not hold the residual yet.
    let residual_rows = kernel.residual_rows.filter(|_| linear);
    let scale = if linear { kernel.alpha } else { 1.0 };
    vectorised(
        #[inline(always)]
        || match (bias, residual_rows) {
            (None, None) => {}
            (Some(bias), None) => {
                for row in c.chunks_mut(stride).take(rows) {
                    for (c, &b) in row[..n].iter_mut().zip(bias) {
                        *c = scale * b;
                    }
                }
            }
            (bias, Some(repeat)) => {
                for (i, row) in c.chunks_mut(stride).take(rows).enumerate() {
                    let residual = &residual[(first + i) % repeat * n..][..n];
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
    let filled = bias.is_some() || residual_rows.is_some();
    gemm([rows, k, n], a, b, c, stride, scale, filled);
    if !linear {
        vectorised(
            #[inline(always)]
            || {
                for (i, row) in c.chunks_mut(stride).take(rows).enumerate() {
                    for c in &mut row[..n] {
                        *c = kernel.alpha * activate(kernel.activation, *c);
                    }
                    if let Some(repeat) = kernel.residual_rows {
                        let residual = &residual[(first + i) % repeat * n..][..n];
                        for (c, &r) in row[..n].iter_mut().zip(residual) {
                            *c += r;
                        }
                    }
                }
            },
        );
    }
}
