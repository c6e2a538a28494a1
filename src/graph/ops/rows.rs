//! Rows by their place: cut out of a value, or put before others.

use crate::graph::backward::Backward;
use crate::graph::{Graph, Value};
use crate::kernels::add_rows::AddRows;
use crate::kernels::copy_rows::{CopyRows, Runs};

/// Rows of a value: `rows` of every `stride`, from `first` on, `groups` times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowCut {
    /// Runs.
    pub groups: usize,
    /// Rows from one run to the next.
    pub stride: usize,
    /// The first run's first row.
    pub first: usize,
    /// Rows of a run.
    pub rows: usize,
}

impl RowCut {
    /// The copy that takes the rows out.
    fn copy(&self, columns: usize) -> CopyRows {
        let &Self { groups, stride, first, rows } = self;
        CopyRows { groups, rows, columns, from: Runs { stride, first }, to: Runs { stride: rows, first: 0 } }
    }

    /// The copy that puts them back.
    fn copy_back(&self, columns: usize) -> CopyRows {
        let CopyRows { from, to, .. } = self.copy(columns);
        CopyRows { from: to, to: from, ..self.copy(columns) }
    }
}

impl Graph {
    /// Some rows of x, [groups · rows, columns].
    pub fn cut_rows(&mut self, x: Value, cut: RowCut) -> Value {
        let columns = self.rows(x).1;
        let y = self.temporary(&[cut.groups * cut.rows, columns]);
        self.launch(cut.copy(columns), &[Some(x)], &[y]);
        self.record(CutBackward { x, cut, columns, y });
        y
    }

    /// A row `lead` of its own before each of `groups` runs of x: [groups · (1 + rows / groups), columns].
    pub fn lead_rows(&mut self, lead: Value, x: Value, groups: usize) -> Value {
        let (rows, columns) = self.rows(x);
        let run = rows / groups;
        assert_eq!(self.len(lead), columns, "a leading row is as wide as the others");
        let y = self.temporary(&[groups * (1 + run), columns]);
        let first = RowCut { groups, stride: 1 + run, first: 0, rows: 1 };
        let rest = RowCut { groups, stride: 1 + run, first: 1, rows: run };
        let repeated = Runs { stride: 0, first: 0 };
        self.launch(CopyRows { from: repeated, ..first.copy_back(columns) }, &[Some(lead)], &[y]);
        self.launch(rest.copy_back(columns), &[Some(x)], &[y]);
        self.record(LeadBackward { lead, x, first, rest, columns, y });
        y
    }
}

struct CutBackward {
    x: Value,
    cut: RowCut,
    columns: usize,
    y: Value,
}

impl Backward for CutBackward {
    fn output(&self) -> Value {
        self.y
    }

    fn backward(&self, graph: &mut Graph, upstream: Value) {
        let dx = graph.temporary_like(self.x);
        graph.zero(dx, 0..graph.len(self.x));
        graph.launch(self.cut.copy_back(self.columns), &[Some(upstream)], &[dx]);
        graph.add_gradient(self.x, dx);
    }
}

struct LeadBackward {
    lead: Value,
    x: Value,
    first: RowCut,
    rest: RowCut,
    columns: usize,
    y: Value,
}

impl Backward for LeadBackward {
    fn output(&self) -> Value {
        self.y
    }

    fn backward(&self, graph: &mut Graph, upstream: Value) {
        let columns = self.columns;
        let firsts = graph.temporary(&[self.first.groups, columns]);
        graph.launch(self.first.copy(columns), &[Some(upstream)], &[firsts]);
        let repeated = AddRows { rows: self.first.groups, columns, div: 1, modulo: 1 };
        graph.add_repeated_gradient(self.lead, firsts, &repeated);
        let dx = graph.temporary(&[self.rest.groups * self.rest.rows, columns]);
        graph.launch(self.rest.copy(columns), &[Some(upstream)], &[dx]);
        graph.add_gradient(self.x, dx);
    }
}
