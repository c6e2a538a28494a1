//! The product of panels: a sum stays in registers for all of its terms or for many, and the right operand is read in the
//! order that it lies in. With few rows it is four times as fast as a product that packs its operands first. A result
//! does not depend on which rows are computed together.

use std::hint::black_box;
use std::ops::Range;

use arrayvec::ArrayVec;
use pulp::{Simd, WithSimd};

use super::panels::{PANEL, panel_width};
use super::product::{Ahead, View};
use super::scratch::LINE;
use super::simd::{activate_each, arch, each_vector, rectify};
use super::threads::{each_chunk, worth_sharing};
use crate::kernels::activation::Activation;

/// Terms of a sum between two visits of the result, where there are more than can be summed in one: so many rows of a panel
/// stay in the first-level cache while all rows of A meet them.
const DEPTH: usize = 128;
/// Terms that are summed in one visit.
const SHALLOW: usize = 256;

/// Rows of a tile: sums enough to keep the multipliers busy, and not more than the registers hold.
const fn most_rows<S: Simd>(vectors: usize) -> usize {
    if vectors == 1 || (vectors == 2 && S::REGISTER_COUNT >= 32) { 8 } else { 6 }
}

/// A block for each index below a constant, written out: sums stay in registers only if every index into them is known
/// where it is compiled, and whether loops are unrolled is up to the compiler, which changes its mind.
macro_rules! each_below {
    ($i:ident in [$($at:literal)*], $end:ident, $body:block) => {
        $({
            let $i: usize = $at;
            if $i < $end $body
        })*
    };
}

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

/// Rows that one thread works on before it turns to the next: so many of A stay in the second-level cache while all of B
/// goes by.
const BLOCK: usize = 60;

/// Parts that a thread's share of a product's columns is cut into.
const PARTS: usize = 4;

/// Rows of a block of C, those of some columns.
type Block<'a> = ArrayVec<&'a mut [f32], BLOCK>;

/// C = finish(A B): an m x k matrix whose rows' elements are neighbours, by a k x n one in panels; C has rows of
/// `stride` elements. A sum is the same whoever computes it, and with whatever others.
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
    let product = Product { k, n, a, panels, finish };
    let blocks = m.div_ceil(BLOCK);
    let rows = m.div_ceil(blocks);
    // Each term costs a quarter of what it does where operands are packed first.
    let shared = worth_sharing(m * k * n / 4);
    let each = |(block, c): (usize, &mut [f32])| {
        let mut of_block = Block::new();
        c.chunks_mut(stride).for_each(|row| of_block.push(&mut row[..n]));
        // More parts than threads, so that one that is held up by the machine leaves some of its own to the others.
        let columns = if shared { n.div_ceil(PARTS * rayon::current_num_threads()) } else { n };
        product.by_columns(block * rows, 0, &mut of_block, columns.next_multiple_of(PANEL));
    };
    let c = &mut c[..(m - 1) * stride + n];
    each_chunk(shared && blocks > 1, c, rows * stride, each);
}

/// The same on the calling thread, inside of what is vectorised already: see [`pulp::WithSimd`]. C has as many rows as fit
/// its slice, not more than a block's.
#[inline(always)]
pub fn multiply_block<S: Simd>(
    simd: S,
    [k, n]: [usize; 2],
    a: View<'_>,
    panels: &[f32],
    c: &mut [f32],
    stride: usize,
    finish: Finish<'_>,
) {
    let mut rows = Block::new();
    c.chunks_mut(stride).for_each(|row| rows.push(&mut row[..n]));
    let product = Product { k, n, a, panels, finish };
    Part { product, first: 0, start: 0, c: &mut rows }.with_simd(simd);
}

/// What all parts of a product share.
#[derive(Clone, Copy)]
struct Product<'a> {
    k: usize,
    n: usize,
    a: View<'a>,
    panels: &'a [f32],
    finish: Finish<'a>,
}

impl Product<'_> {
    /// Some rows from `first` on and some columns from `start` on, whole panels, not more than `most` to a thread: each
    /// panel is then read by one thread alone.
    fn by_columns(self, first: usize, start: usize, c: &mut [&mut [f32]], most: usize) {
        let width = c.first().map_or(0, |row| row.len());
        if width <= most {
            arch().dispatch(Part { product: self, first, start, c });
            return;
        }
        let half = (width / 2).next_multiple_of(PANEL);
        let (mut left, mut right) = (Block::new(), Block::new());
        for row in c {
            let (near, far) = row.split_at_mut(half);
            left.push(near);
            right.push(far);
        }
        rayon::join(
            || self.by_columns(first, start, &mut left, most),
            || self.by_columns(first, start + half, &mut right, most),
        );
    }
}

/// Some rows and columns of a product, on one thread.
struct Part<'a, 'c> {
    product: Product<'a>,
    /// The first row's number.
    first: usize,
    /// The first column's number.
    start: usize,
    /// What of the rows lies in the columns.
    c: &'a mut [&'c mut [f32]],
}

impl WithSimd for Part<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        tiles(simd, self);
    }
}

/// A part's tiles: a call wherever one is wanted, since each of two dozen sizes is written out, which takes the compiler a
/// minute.
#[inline(never)]
fn tiles<S: Simd>(simd: S, part: Part<'_, '_>) {
    simd.vectorize(Tiles(part));
}

struct Tiles<'a, 'c>(Part<'a, 'c>);

impl WithSimd for Tiles<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.0.all_tiles(simd);
    }
}

impl Part<'_, '_> {
    #[inline(always)]
    fn all_tiles<S: Simd>(mut self, simd: S) {
        let lanes = S::F32_LANES;
        let (k, rows, end) = (self.product.k, self.c.len(), self.start + self.c[0].len());
        let depth = if k <= SHALLOW { k } else { DEPTH };
        let mut column = self.start;
        while column < end {
            // As many sums as the registers hold beside what they are made of.
            let vectors = match (end - column).div_ceil(lanes) {
                4.. if S::REGISTER_COUNT >= 32 => 4,
                2.. => 2,
                _ => 1,
            };
            let tiles = rows.div_ceil(most_rows::<S>(vectors));
            let mut from = 0;
            loop {
                let to = (from + depth).min(k);
                let mut row = 0;
                for tile in 0..tiles {
                    let at = Tile { row, column, terms: (from, to), line: tile };
                    // As even as can be: eight rows as four and four are faster than as six and two.
                    let count = match tiles - tile {
                        1 => rows - row,
                        left => (rows - row).div_ceil(left),
                    };
                    match vectors {
                        4 if const { S::REGISTER_COUNT >= 32 } => self.rows::<S, 4>(simd, count, at),
                        2 => self.rows::<S, 2>(simd, count, at),
                        _ => self.rows::<S, 1>(simd, count, at),
                    }
                    row += count;
                }
                from = to;
                if from == k {
                    break;
                }
            }
            column += vectors * lanes;
        }
    }
}

/// Which results are computed together, and from which terms.
#[derive(Clone, Copy)]
struct Tile {
    row: usize,
    column: usize,
    terms: (usize, usize),
    /// Its place among the tiles of these columns.
    line: usize,
}

impl Part<'_, '_> {
    #[inline(always)]
    fn rows<S: Simd, const V: usize>(&mut self, simd: S, rows: usize, at: Tile) {
        match rows {
            1 => self.tile::<S, 1, V>(simd, at),
            2 => self.tile::<S, 2, V>(simd, at),
            3 => self.tile::<S, 3, V>(simd, at),
            4 => self.tile::<S, 4, V>(simd, at),
            5 => self.tile::<S, 5, V>(simd, at),
            7 if const { most_rows::<S>(V) == 8 } => self.tile::<S, 7, V>(simd, at),
            8 if const { most_rows::<S>(V) == 8 } => self.tile::<S, 8, V>(simd, at),
            _ => self.tile::<S, 6, V>(simd, at),
        }
    }

    /// R rows by V vectors of columns.
    #[inline(always)]
    fn tile<S: Simd, const R: usize, const V: usize>(&mut self, simd: S, at: Tile) {
        let Tile { row, column, terms: (from, to), line } = at;
        // What a tile is made from is looked up tile by tile: left to itself the compiler makes ready for every size of tile
        // before the first one, which takes a small product as long as its sums.
        let Product { k: depth, n, a, panels, finish } = *black_box(&self.product);
        let (lanes, count) = (S::F32_LANES, to - from);
        let (panel, inside) = (column / PANEL * PANEL, column % PANEL / lanes);
        let width = panel_width(panel, n);
        let (b, _) = S::as_simd_f32s(&panels[panel * depth + from * width..][..count * width]);
        let a: [&[f32]; R] =
            std::array::from_fn(|r| &a.data[(self.first + row + r) * a.row + from..][..count]);
        let columns = column..(column + V * lanes).min(n);
        let of_part = columns.start - self.start..columns.end - self.start;

        let mut sums = [[simd.splat_f32s(0.0); V]; R];
        if from > 0 {
            each_below!(r in [0 1 2 3 4 5 6 7], R, {
                let c = &self.c[row + r][of_part.clone()];
                each_below!(v in [0 1 2 3], V, { sums[r][v] = load(simd, &c[(v * lanes).min(c.len())..]) });
            });
        }
        // What is read next, if it is far away, comes nearer meanwhile: a cache line of each of its rows by each of the
        // first tiles.
        let next = Ahead::of(panels, panel * depth + to * width + line % (PANEL / LINE) * LINE);
        for (k, b) in (0..count).zip(b.chunks_exact(width / lanes)) {
            let Some(b) = b[inside..].first_chunk::<V>() else { return };
            next.fetch(k * PANEL);
            each_below!(r in [0 1 2 3 4 5 6 7], R, {
                // SAFETY: each of these rows was cut to `count` elements, and k is less.
                #[allow(unsafe_code)]
                let x = simd.splat_f32s(unsafe { *a[r].get_unchecked(k) });
                each_below!(v in [0 1 2 3], V, { sums[r][v] = simd.mul_add_e_f32s(x, b[v], sums[r][v]) });
            });
        }
        if to < depth || columns.len() < V * lanes || finish.is_smooth() {
            each_below!(r in [0 1 2 3 4 5 6 7], R, {
                let c = &mut self.c[row + r][of_part.clone()];
                each_below!(v in [0 1 2 3], V, {
                    let at = (v * lanes).min(c.len());
                    store(simd, &mut c[at..], sums[r][v]);
                });
            });
            if to == depth {
                for r in row..row + R {
                    let c = &mut self.c[r][of_part.clone()];
                    finish.row(simd, self.first + r, columns.clone(), n, c);
                }
            }
            return;
        }
        // Whole vectors are finished before they leave their registers.
        let mut bias = [simd.splat_f32s(0.0); V];
        if let Some(values) = finish.bias {
            each_below!(v in [0 1 2 3], V, { bias[v] = load(simd, &values[columns.start + v * lanes..]) });
        }
        each_below!(r in [0 1 2 3 4 5 6 7], R, {
            let residual = match finish.residual_row(self.first + row + r, &columns, n) {
                Some(row) => S::as_simd_f32s(row).0.first_chunk::<V>(),
                None => None,
            };
            let c = &mut self.c[row + r][of_part.clone()];
            let Some(c) = S::as_mut_simd_f32s(c).0.first_chunk_mut::<V>() else { return };
            each_below!(v in [0 1 2 3], V, {
                let y = finish.straight(simd, simd.add_f32s(sums[r][v], bias[v]));
                c[v] = match residual {
                    Some(residual) => simd.add_f32s(residual[v], y),
                    None => y,
                };
            });
        });
    }
}

/// A vector of values, zeros behind the last.
#[inline(always)]
fn load<S: Simd>(simd: S, values: &[f32]) -> S::f32s {
    match S::as_simd_f32s(values).0 {
        [whole, ..] => *whole,
        [] => simd.partial_load_f32s(values),
    }
}

/// As many of a vector's values as there is room for.
#[inline(always)]
fn store<S: Simd>(simd: S, to: &mut [f32], values: S::f32s) {
    match S::as_mut_simd_f32s(to).0 {
        [whole, ..] => *whole = values,
        [] => simd.partial_store_f32s(to, values),
    }
}

impl<'a> Finish<'a> {
    /// Whether f is more than a comparison.
    #[inline(always)]
    fn is_smooth(&self) -> bool {
        !matches!(self.activation, Activation::None | Activation::Relu)
    }

    /// α f(x) of an f that is not smooth.
    #[inline(always)]
    fn straight<S: Simd>(&self, simd: S, x: S::f32s) -> S::f32s {
        let y = if self.activation == Activation::Relu { rectify(simd, x) } else { x };
        simd.mul_f32s(simd.splat_f32s(self.alpha), y)
    }

    /// What is added to some columns of a row.
    #[inline(always)]
    fn residual_row(&self, row: usize, columns: &Range<usize>, n: usize) -> Option<&'a [f32]> {
        let (residual, repeat) = self.residual?;
        let row = if row < repeat { row } else { row % repeat };
        Some(&residual[row * n..][columns.clone()])
    }

    /// What becomes of some of a row's sums where they lie.
    #[inline(always)]
    fn row<S: Simd>(&self, simd: S, row: usize, columns: Range<usize>, n: usize, c: &mut [f32]) {
        if let Some(bias) = self.bias {
            let bias = &bias[columns.clone()];
            each_vector(simd, c, |at, x| simd.add_f32s(x, load(simd, &bias[at..])));
        }
        match self.activation {
            Activation::None if self.alpha == 1.0 => {}
            smooth if self.is_smooth() => activate_each(smooth, self.alpha, c),
            _ => each_vector(simd, c, |_, x| self.straight(simd, x)),
        }
        if let Some(residual) = self.residual_row(row, &columns, n) {
            each_vector(simd, c, |at, x| simd.add_f32s(x, load(simd, &residual[at..])));
        }
    }
}
