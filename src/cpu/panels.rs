//! Right operands laid out for the product of panels: 64 columns of them, row after row, so that what a product reads next
//! is what lies next. Weights are packed once, and again only when somebody has written to them.

use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use super::product::View;
use super::scratch::{LINE, Line, lines};
use super::threads::{each_chunk, worth_sharing};

/// Columns of a panel; the last may be narrower, in whole cache lines.
pub const PANEL: usize = 64;
/// Rows that are transposed together: as many as make whole cache lines on both sides.
const ROWS: usize = 16;

/// Where a k x n right operand lies in a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// First element.
    pub offset: usize,
    /// Elements from one row to the next.
    pub row: usize,
    /// Elements from one column to the next.
    pub column: usize,
    /// Rows.
    pub k: usize,
    /// Columns.
    pub n: usize,
}

/// Floats that the panels of a k x n matrix take.
pub fn panels_len(k: usize, n: usize) -> usize {
    n.next_multiple_of(LINE) * k
}

/// Columns of the panel that begins at column `first` of n.
pub fn panel_width(first: usize, n: usize) -> usize {
    PANEL.min((n - first).next_multiple_of(LINE))
}

/// Lays a k x n matrix out in panels, [k, 64] each and the last [k, panel_width], zeros behind the last column.
pub fn pack(b: View<'_>, [k, n]: [usize; 2], panels: &mut [f32]) {
    if k == 0 {
        return;
    }
    let each = |(panel, to): (usize, &mut [f32])| {
        let first = panel * PANEL;
        let b = View { data: &b.data[first * b.column..], ..b };
        pack_one(b, [k, PANEL.min(n - first)], panel_width(first, n), to);
    };
    each_chunk(worth_sharing(k * n), &mut panels[..panels_len(k, n)], k * PANEL, each);
}

fn pack_one(b: View<'_>, [k, n]: [usize; 2], width: usize, panel: &mut [f32]) {
    if n < width {
        panel.fill(0.0);
    }
    if b.column == 1 {
        for (i, to) in panel.chunks_exact_mut(width).enumerate() {
            copy(&b.data[i * b.row..][..n], &mut to[..n]);
        }
        return;
    }
    for first in (0..k).step_by(ROWS) {
        let rows = ROWS.min(k - first);
        let to = &mut panel[first * width..][..rows * width];
        let from = View { data: &b.data[first * b.row..], ..b };
        match width {
            PANEL if b.row == 1 && rows == ROWS => transpose::<PANEL>(from, n, to),
            LINE if b.row == 1 && rows == ROWS => transpose::<LINE>(from, n, to),
            _ => transpose_some(from, [rows, n], width, to),
        }
    }
}

/// [`ROWS`] rows of n columns, whose elements follow one another column by column, to rows of W. Known sizes make it a
/// load and a store for each element.
fn transpose<const W: usize>(b: View<'_>, n: usize, to: &mut [f32]) {
    let to = to.as_chunks_mut::<W>().0.first_chunk_mut::<ROWS>().expect("a row of W for each");
    for (j, column) in b.data.chunks(b.column).take(n.min(W)).enumerate() {
        let column = column.first_chunk::<ROWS>().expect("a column has these rows");
        for (row, &x) in to.iter_mut().zip(column) {
            row[j] = x;
        }
    }
}

/// Any rows of any columns, to rows of `width`.
fn transpose_some(b: View<'_>, [rows, n]: [usize; 2], width: usize, to: &mut [f32]) {
    for j in 0..n {
        for i in 0..rows {
            to[i * width + j] = b.data[i * b.row + j * b.column];
        }
    }
}

/// A few lines, without a call.
fn copy(from: &[f32], to: &mut [f32]) {
    let ((lines, rest), (to_lines, to_rest)) = (from.as_chunks::<LINE>(), to.as_chunks_mut::<LINE>());
    for (to, from) in to_lines.iter_mut().zip(lines) {
        *to = *from;
    }
    for (to, &from) in to_rest.iter_mut().zip(rest) {
        *to = from;
    }
}

/// A buffer's operand in panels, shared by all launches that read it.
#[derive(Debug)]
pub struct Panels {
    layout: Layout,
    packed: RwLock<Packed>,
    /// Held by who packs: whoever comes meanwhile waits for that, and not for those who read for long.
    packing: Mutex<()>,
}

#[derive(Debug, Default)]
struct Packed {
    lines: Vec<Line>,
    /// The buffer's writes when it was packed.
    at: Option<u64>,
}

/// The operands of a buffer that are kept in panels.
#[derive(Debug, Default)]
pub struct Kept(Mutex<Vec<Arc<Panels>>>);

impl Kept {
    /// The panels of an operand, the same ones for whoever asks; packed when first read.
    pub fn of(&self, layout: Layout) -> Arc<Panels> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = kept.iter().find(|panels| panels.layout == layout) {
            return Arc::clone(known);
        }
        kept.push(Arc::new(Panels { layout, packed: RwLock::default(), packing: Mutex::default() }));
        Arc::clone(&kept[kept.len() - 1])
    }
}

impl Panels {
    /// The panels of what the buffer, written to `writes` times, holds.
    fn read(&self, data: &[f32], writes: u64) -> Reading<'_> {
        if let Some(reading) = self.fresh(writes) {
            return reading;
        }
        let _packing = self.packing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reading) = self.fresh(writes) {
            return reading;
        }
        let Layout { offset, row, column, k, n } = self.layout;
        let mut packed = self.packed.write().unwrap_or_else(PoisonError::into_inner);
        if packed.lines.is_empty() {
            packed.lines = lines(panels_len(k, n));
        }
        let b = View { data: &data[offset..], row, column };
        pack(b, [k, n], bytemuck::cast_slice_mut(&mut packed.lines));
        packed.at = Some(writes);
        drop(packed);
        Reading(self.packed.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is packed, if nobody has written since.
    fn fresh(&self, writes: u64) -> Option<Reading<'_>> {
        let packed = self.packed.read().unwrap_or_else(PoisonError::into_inner);
        (packed.at == Some(writes)).then(|| Reading(packed))
    }
}

/// An operand of a launch that is kept in panels, and the input it is made from.
pub type Operand = (usize, Arc<Panels>);

/// All of a launch's, and the buffers of its inputs.
#[derive(Clone, Copy)]
pub struct Operands<'a> {
    /// In the order that the kernel asked for them.
    pub kept: &'a [Operand],
    /// Each buffer as a whole, and how often it was written to.
    pub buffers: &'a [(&'a [f32], u64)],
}

impl<'a> Operands<'a> {
    /// The panels of one operand.
    pub fn read(self, operand: usize) -> impl AsRef<[f32]> + 'a {
        let (input, panels) = &self.kept[operand];
        let (data, writes) = self.buffers[*input];
        panels.read(data, writes)
    }

    /// The panels of all operands.
    pub fn all(self) -> impl Iterator<Item = impl AsRef<[f32]> + 'a> {
        (0..self.kept.len()).map(move |operand| self.read(operand))
    }
}

/// Panels that stay as they are for as long as this is held.
struct Reading<'a>(RwLockReadGuard<'a, Packed>);

impl AsRef<[f32]> for Reading<'_> {
    fn as_ref(&self) -> &[f32] {
        bytemuck::cast_slice(&self.0.lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panel_holds_columns_side_by_side_and_zeros_behind_them() {
        let k = 17;
        for n in [1, 16, 37, 64, 83] {
            let data: Vec<f32> = (0..k * n).map(|i| i as f32 + 1.0).collect();
            for (row, column) in [(n, 1), (1, k)] {
                let mut panels = vec![-1.0; panels_len(k, n)];
                pack(View { data: &data, row, column }, [k, n], &mut panels);
                for (at, &x) in panels.iter().enumerate() {
                    let first = at / (k * PANEL) * PANEL;
                    let (inside, width) = (at - first * k, panel_width(first, n));
                    let (i, j) = (inside / width, first + inside % width);
                    let expected = if j < n { data[i * row + j * column] } else { 0.0 };
                    assert_eq!(x, expected, "row {i}, column {j} of {n}");
                }
            }
        }
    }

    #[test]
    fn panels_follow_the_buffer_they_were_made_from() {
        let layout = Layout { offset: 1, row: 2, column: 1, k: 2, n: 2 };
        let kept = Kept::default();
        let panels = kept.of(layout);
        assert!(Arc::ptr_eq(&panels, &kept.of(layout)), "one layout is packed once");
        let first = |panels: &Panels, data: &[f32], writes| panels.read(data, writes).as_ref()[..2].to_vec();
        assert_eq!(first(&panels, &[0.0, 1.0, 2.0, 3.0, 4.0], 7), [1.0, 2.0]);
        assert_eq!(
            first(&panels, &[0.0, 9.0, 9.0, 9.0, 9.0], 7),
            [1.0, 2.0],
            "nobody said that it was written"
        );
        assert_eq!(first(&panels, &[0.0, 5.0, 6.0, 7.0, 8.0], 8), [5.0, 6.0]);
    }
}
