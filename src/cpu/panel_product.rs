//! The product for few rows: every sum stays in registers from its first term to its last, whatever the number of rows,
//! and the right operand is read from panels. A result does not depend on which rows are computed together.

use pulp::{Simd, WithSimd};

use super::panels::PANEL;
use super::product::View;
use super::simd::{activate, arch};
use super::threads::worth_sharing;
use crate::kernels::activation::Activation;

/// Terms of a sum between two visits of the result: so many of some rows of A fit the first-level cache.
const DEPTH: usize = 1024;

/// What becomes of a sum: residual + α f(sum + bias).
#[derive(Debug, Clone, Copy)]
pub struct Finish<'a> {
    /// [n].
    pub bias: Option<&'a [f32]>,
    /// f.
    pub activation: Activation,
    /// α.
    pub alpha: f32,
    /// Rows of n values, and how many there are before they repeat.
    pub residual: Option<(&'a [f32], usize)>,
}

impl Finish<'_> {
    /// α times the sum.
    pub fn scaled(alpha: f32) -> Self {
        Self { bias: None, activation: Activation::None, alpha, residual: None }
    }
}

/// C = finish(A B): an m x k matrix whose rows' elements are neighbours, by a k x n one in panels; C has rows of
/// `stride` elements.
pub fn multiply(
    [m, k, n]: [usize; 3],
    a: View<'_>,
    panels: &[f32],
    c: &mut [f32],
    stride: usize,
    finish: Finish<'_>,
) {
    if m == 0 || n == 0 {
        return;
    }
    assert_eq!(a.column, 1, "a row's elements are neighbours");
    let each = |first: usize, c: &mut [f32]| {
        let rows = c.len().div_ceil(stride);
        arch().dispatch(Rows { first, rows, k, n, a, panels, c, stride, finish });
    };
    let c = &mut c[..(m - 1) * stride + n];
    if m >= 8 && worth_sharing(m * k * n) {
        use rayon::prelude::*;
        let rows = m.div_ceil(rayon::current_num_threads());
        c.par_chunks_mut(rows * stride).enumerate().for_each(|(at, c)| each(at * rows, c));
    } else {
        each(0, c);
    }
}

/// Some rows of a product, on one thread.
struct Rows<'a> {
    /// The first one's number.
    first: usize,
    rows: usize,
    k: usize,
    n: usize,
    a: View<'a>,
    panels: &'a [f32],
    /// From the first one on.
    c: &'a mut [f32],
    stride: usize,
    finish: Finish<'a>,
}

impl WithSimd for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        // Two vectors of a tile's columns for each of its rows, and what they are multiplied by, fill the registers.
        let most = if S::REGISTER_COUNT >= 32 { 8 } else { 6 };
        let tiles = self.rows.div_ceil(most);
        let mut depth = 0;
        loop {
            let terms = depth..(depth + DEPTH).min(self.k);
            for column in (0..self.n).step_by(2 * S::F32_LANES) {
                let mut row = 0;
                for tile in 0..tiles {
                    let at = Tile { row, column, terms: (terms.start, terms.end) };
                    // As even as can be: eight rows as four and four are faster than as six and two.
                    let rows = (self.rows - row).div_ceil(tiles - tile);
                    match rows {
                        1 => self.tile::<S, 1>(simd, at),
                        2 => self.tile::<S, 2>(simd, at),
                        3 => self.tile::<S, 3>(simd, at),
                        4 => self.tile::<S, 4>(simd, at),
                        5 => self.tile::<S, 5>(simd, at),
                        6 => self.tile::<S, 6>(simd, at),
                        7 => self.tile::<S, 7>(simd, at),
                        _ => self.tile::<S, 8>(simd, at),
                    }
                    row += rows;
                }
            }
            depth = terms.end;
            if depth == self.k {
                return;
            }
        }
    }
}

/// Which results are computed together, and from which terms.
#[derive(Clone, Copy)]
struct Tile {
    row: usize,
    column: usize,
    terms: (usize, usize),
}

impl Rows<'_> {
    /// R rows by two vectors of columns.
    #[inline(always)]
    fn tile<S: Simd, const R: usize>(&mut self, simd: S, at: Tile) {
        let Tile { row, column, terms: (from, to) } = at;
        let lanes = S::F32_LANES;
        let (panel, inside) = (column / PANEL, column % PANEL);
        let b = &self.panels[(panel * self.k + from) * PANEL..][..(to - from) * PANEL];
        let (b, _) = S::as_simd_f32s(b);
        let a: [&[f32]; R] =
            std::array::from_fn(|r| &self.a.data[(self.first + row + r) * self.a.row + from..][..to - from]);
        let left = column..(column + lanes).min(self.n);
        let right = left.end..(column + 2 * lanes).min(self.n);
        let mut sums = [[simd.splat_f32s(0.0); 2]; R];
        if from > 0 {
            for (r, sums) in sums.iter_mut().enumerate() {
                let c = &self.c[(row + r) * self.stride..];
                *sums = [&c[left.clone()], &c[right.clone()]].map(|c| simd.partial_load_f32s(c));
            }
        }
        let per = PANEL / lanes;
        let at = inside / lanes;
        for (k, b) in (0..to - from).zip(b.chunks_exact(per)) {
            let (b0, b1) = (b[at], b[at + 1]);
            for (a, sums) in a.iter().zip(&mut sums) {
                let x = simd.splat_f32s(a[k]);
                sums[0] = simd.mul_add_e_f32s(x, b0, sums[0]);
                sums[1] = simd.mul_add_e_f32s(x, b1, sums[1]);
            }
        }
        let done = to == self.k;
        for (r, sums) in sums.into_iter().enumerate() {
            let c = &mut self.c[(row + r) * self.stride..];
            for (sum, columns) in sums.into_iter().zip([left.clone(), right.clone()]) {
                if columns.is_empty() {
                    continue;
                }
                let sum = if done { self.finish.vector(simd, sum, columns.clone()) } else { sum };
                simd.partial_store_f32s(&mut c[columns], sum);
            }
            if done {
                self.finish.rest(self.first + row + r, left.start..right.end, self.n, c);
            }
        }
    }
}

impl Finish<'_> {
    /// The bias, and all else that is linear.
    #[inline(always)]
    fn vector<S: Simd>(&self, simd: S, mut sum: S::f32s, columns: std::ops::Range<usize>) -> S::f32s {
        if let Some(bias) = self.bias {
            sum = simd.add_f32s(sum, simd.partial_load_f32s(&bias[columns]));
        }
        if self.activation == Activation::Relu {
            sum = simd.max_f32s(sum, simd.splat_f32s(0.0));
        }
        if self.is_smooth() || self.alpha == 1.0 {
            sum
        } else {
            simd.mul_f32s(sum, simd.splat_f32s(self.alpha))
        }
    }

    /// What the activation leaves for later: itself where it is no rectifier, and the residual.
    #[inline(always)]
    fn rest(&self, row: usize, columns: std::ops::Range<usize>, n: usize, c: &mut [f32]) {
        let c = &mut c[columns.clone()];
        if self.is_smooth() {
            for c in c.iter_mut() {
                *c = self.alpha * activate(self.activation, *c);
            }
        }
        if let Some((residual, repeat)) = self.residual {
            for (c, &r) in c.iter_mut().zip(&residual[row % repeat * n..][columns]) {
                *c += r;
            }
        }
    }

    fn is_smooth(&self) -> bool {
        !matches!(self.activation, Activation::None | Activation::Relu)
    }
}
