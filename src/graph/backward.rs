//! The backward pass: ops in reverse, each appending the launches that make its inputs' gradients.

use std::ops::Range;

use super::{Graph, Home, ParamId, Value};
use crate::kernels::Set;
use crate::kernels::add_rows::{AddInto, AddRows, ReduceRows};

/// What an op leaves behind for the backward pass.
pub(super) trait Backward {
    /// The value whose gradient this op turns into gradients of its inputs.
    fn output(&self) -> Value;
    /// Appends the launches that make the inputs' gradients from `upstream`, the output's.
    fn backward(&self, graph: &mut Graph, upstream: Value);
}

/// How a gradient passes through a rectifier: where its result is above 0, scaled by what dropout scaled the result by. The
/// product that makes the gradient of such a result can do so itself, if that is all there is of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rectified {
    /// What kept elements were multiplied by.
    pub(super) scale: f32,
    /// Whether the result's gradient has passed through already.
    pub(super) passed: bool,
}

impl Graph {
    /// Remembers an op, if its output's gradient can be of use.
    pub(super) fn record(&mut self, op: impl Backward + 'static) {
        if self.training.is_some() && self.needs_grad(op.output()) {
            self.backward.push(Box::new(op));
        }
    }

    /// By what the one product that reads a rectifier's result may scale its gradient where the result is above 0; none where
    /// there is no rectifier, or somebody else reads its result. Who asks does so.
    pub(super) fn pass_through_rectifier(&mut self, value: Value) -> Option<f32> {
        let rectified = self.rectified.get_mut(&value)?;
        let forward = self.launches[..self.forward_launches].iter();
        let reads = forward.flat_map(|launch| launch.inputs.iter().flatten()).filter(|read| **read == value);
        if reads.count() != 1 || self.values[value.0].home != Home::Temporary {
            return None;
        }
        rectified.passed = true;
        Some(rectified.scale)
    }

    /// Appends the backward pass of everything that led to `value`, whose own gradient is `upstream`.
    /// Parameter gradients end up in [`Set::Gradients`], zeros where nothing leads from a parameter to `value`; a graph
    /// whose parameters are frozen has none.
    ///
    /// # Panics
    /// If the graph was not built for training, the shapes differ, or this was done before: ops that two losses
    /// share could not know which is meant.
    pub fn differentiate(&mut self, value: Value, upstream: Value) {
        assert!(self.training.is_some(), "this graph was built for inference");
        assert_eq!(self.len(value), self.len(upstream), "a gradient has its value's shape");
        assert!(!self.differentiated, "a graph is differentiated once: add the losses up");
        self.differentiated = true;
        self.forward_launches = self.launches.len();
        self.add_gradient(value, upstream);
        let ops = std::mem::take(&mut self.backward);
        for op in ops.iter().rev() {
            if let Some(&upstream) = self.gradients.get(&op.output()) {
                op.backward(self, upstream);
            }
        }
        if self.frozen {
            return;
        }
        let learning = self.params.iter().filter(|(id, _)| self.params.rate(*id) > 0.0);
        let all: Vec<_> = learning.map(|(id, param)| (id, param.len)).collect();
        for (id, len) in all {
            let target = self.in_set(Set::Gradients, id);
            for gap in self.unwritten(id, 0..len) {
                self.zero(target, gap);
            }
        }
    }

    /// Parameter gradients will be added to what [`Set::Gradients`] holds instead of replacing it. Comes before
    /// [`Graph::differentiate`].
    pub fn accumulate_gradients(&mut self) {
        let all = self.params.iter().map(|(id, param)| (id, 0..param.len));
        self.written = all.collect();
    }

    /// The gradient of a value, after [`Graph::differentiate`]; that of a parameter is in [`Set::Gradients`], and that of a
    /// rectifier's result is not always made.
    pub fn gradient(&self, value: Value) -> Option<Value> {
        let passed = self.rectified.get(&value).is_some_and(|rectified| rectified.passed);
        self.gradients.get(&value).copied().filter(|_| !passed)
    }

    /// Adds a term to a value's gradient. The term may itself be another value's gradient: nothing is changed in
    /// place.
    pub(super) fn add_gradient(&mut self, value: Value, term: Value) {
        if !self.needs_grad(value) {
            return;
        }
        if let Some(id) = self.param_of(value) {
            let len = self.len(value);
            return self.parameter_gradient(id, 0..len, |graph, target| {
                graph.launch(ReduceRows::all(1, len), &[Some(term)], &[target]);
            });
        }
        let sum = match self.gradients.get(&value).copied() {
            None => term,
            Some(earlier) => {
                let (rows, columns) = self.rows(value);
                let sum = self.temporary(&[rows, columns]);
                let add = AddRows { rows, columns, div: 1, modulo: rows };
                self.launch(add, &[Some(earlier), Some(term)], &[sum]);
                sum
            }
        };
        self.gradients.insert(value, sum);
    }

    /// The gradient a value has so far, to be passed to a launch that adds its own term to it; the caller
    /// must store the sum with [`Graph::set_gradient`]. Of a parameter there is none.
    pub(super) fn gradient_so_far(&self, value: Value) -> Option<Value> {
        self.gradients.get(&value).copied()
    }

    /// Replaces a value's gradient by a sum that includes it.
    pub(super) fn set_gradient(&mut self, value: Value, sum: Value) {
        if self.param_of(value).is_some() {
            return self.add_gradient(value, sum);
        }
        self.gradients.insert(value, sum);
    }

    /// Lets `write` append the launch that makes a run of a parameter's gradient. Where some of that run was written
    /// before (a parameter used twice), the launch writes to a temporary that is added. A frozen parameter has none.
    pub(super) fn parameter_gradient(
        &mut self,
        id: ParamId,
        run: Range<usize>,
        write: impl FnOnce(&mut Graph, Value),
    ) {
        if self.frozen || self.params.rate(id) == 0.0 {
            return;
        }
        let target = self.in_set(Set::Gradients, id);
        let gaps = self.unwritten(id, run.clone());
        self.written.extend(gaps.iter().map(|gap| (id, gap.clone())));
        if gaps == [run.clone()] {
            return write(self, target);
        }
        let shape = self.params.get(id).shape.clone();
        let term = self.temporary(&shape);
        write(self, term);
        for gap in gaps {
            // What the run of the program before this one left there must go.
            self.zero(target, gap);
        }
        let (start, len) = (run.start, run.len());
        self.launch(AddInto { offset: start, len }, &[Some(term)], &[target]);
    }

    /// Appends the launch that fills a run of a value with zeros: a sum of no rows.
    pub(crate) fn zero(&mut self, value: Value, run: Range<usize>) {
        let kernel = ReduceRows { offset: run.start, ..ReduceRows::all(0, run.len()) };
        self.launch(kernel, &[None], &[value]);
    }

    /// The parts of a run of a parameter's gradient that no launch has written yet.
    fn unwritten(&self, id: ParamId, run: Range<usize>) -> Vec<Range<usize>> {
        let mut gaps = vec![run];
        for (_, done) in self.written.iter().filter(|(other, _)| *other == id) {
            let around =
                |gap: Range<usize>| [gap.start..gap.end.min(done.start), gap.start.max(done.end)..gap.end];
            gaps = gaps.into_iter().flat_map(around).filter(|gap| !gap.is_empty()).collect();
        }
        gaps
    }
}
