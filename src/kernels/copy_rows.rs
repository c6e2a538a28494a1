//! Runs of rows from one place to another: a class token before its patches, the first token of every sample.
//!
//! ```text
//! y[(g · to.stride + to.first + i), c] = x[(g · from.stride + from.first + i), c]        g < groups, i < rows
//! ```
//! A stride of 0 repeats the same rows for every group. The gradient is the same kernel with `from` and `to` exchanged,
//! over zeros. Rows of y that no run reaches keep what they held.

use super::check::Case;
use super::shader::shader;
use super::{AdapterClass, Describe, Dispatch, Float, Io, word};

/// Where the run of each group begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Runs {
    /// Rows from one group's run to the next one's.
    pub stride: usize,
    /// The first group's first row.
    pub first: usize,
}

/// The copy. Inputs: x `[.., columns]`. Outputs, in place: y `[.., columns]`.
#[derive(Debug, Clone, PartialEq)]
pub struct CopyRows {
    /// Runs.
    pub groups: usize,
    /// Rows of a run.
    pub rows: usize,
    /// Columns of x and y.
    pub columns: usize,
    /// Where runs are read.
    pub from: Runs,
    /// Where they are written.
    pub to: Runs,
}

impl CopyRows {
    fn len(&self) -> usize {
        self.groups * self.rows * self.columns
    }
}

impl Describe for CopyRows {
    const NAME: &'static str = "copy_rows";

    fn dispatch(&self, _: AdapterClass) -> Dispatch {
        Dispatch::linear(shader!("copy_rows"), self.len(), 256)
    }

    fn params(&self) -> Vec<u32> {
        let sizes = [self.len(), self.rows * self.columns];
        let runs = [self.from.stride, self.from.first, self.to.stride, self.to.first];
        sizes.into_iter().chain(runs.map(|rows| rows * self.columns)).map(word).collect()
    }

    fn twin<T: Float>(&self, io: &mut Io<'_, '_, T>) {
        let (x, run) = (io.inputs[0].floats(), self.rows * self.columns);
        for group in 0..self.groups {
            let [from, to] =
                [self.from, self.to].map(|runs| (group * runs.stride + runs.first) * self.columns);
            io.outputs[0][to..to + run].copy_from_slice(&x[from..from + run]);
        }
    }

    fn flops(&self) -> u64 {
        self.len() as u64
    }
}

impl CopyRows {
    /// The cases that tests and `doctor` run.
    pub fn cases() -> Vec<Case> {
        let case = |groups: usize, rows: usize, columns: usize, from: (usize, usize), to: (usize, usize)| {
            let [from, to] = [from, to].map(|(stride, first)| Runs { stride, first });
            let size = |runs: Runs| ((groups - 1) * runs.stride + runs.first + rows) * columns;
            let name = format!("{groups} runs of {rows}x{columns}, {from:?} to {to:?}");
            Case::new(name, CopyRows { groups, rows, columns, from, to }).input(size(from)).output(size(to))
        };
        vec![
            case(1, 1, 1, (0, 0), (0, 0)),
            // A class token before 16 patches, and back.
            case(3, 1, 65, (0, 0), (17, 0)),
            case(3, 16, 65, (16, 0), (17, 1)),
            case(3, 16, 65, (17, 1), (16, 0)),
            case(63, 1, 17, (129, 0), (1, 0)),
            case(1, 3, 129, (9, 6), (3, 0)),
            // More than 65,535 workgroups.
            case(65_537, 2, 129, (2, 1), (3, 1)),
        ]
    }
}
