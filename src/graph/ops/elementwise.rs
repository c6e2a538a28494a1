//! Activations, dropout, and sums with broadcast.

use crate::graph::backward::Backward;
use crate::graph::{Graph, Training, Value};
use crate::kernels::Dtype;
use crate::kernels::activation::{Activate, ActivateBackward, Activation};
use crate::kernels::add_rows::{AddRows, ReduceRows};
use crate::kernels::combine::{Combine, MAX_TERMS};
use crate::kernels::dropout::{Dropout, DropoutSite};

impl Graph {
    /// f(x), element by element.
    pub fn activation(&mut self, x: Value, kind: Activation) -> Value {
        let y = self.temporary_like(x);
        self.launch(Activate { kind, len: self.len(x) }, &[Some(x)], &[y]);
        self.record(ActivationBackward { x, y, kind });
        y
    }

    /// f'(x) · dy; for a rectifier `x` may be its result.
    pub(super) fn activation_gradient(&mut self, x: Value, dy: Value, kind: Activation) -> Value {
        let dx = self.temporary_like(x);
        self.launch(ActivateBackward { kind, len: self.len(x) }, &[Some(x), Some(dy)], &[dx]);
        dx
    }

    /// x[r, :] + b[(r / div) % modulo, :].
    pub fn add_rows(&mut self, x: Value, b: Value, div: usize, modulo: usize) -> Value {
        let (rows, columns) = self.rows(x);
        assert_eq!(self.len(b), modulo * columns, "a broadcast sum's rows");
        let y = self.temporary(&[rows, columns]);
        self.launch(AddRows { rows, columns, div, modulo }, &[Some(x), Some(b)], &[y]);
        self.record(AddRowsBackward { x, b, kernel: AddRows { rows, columns, div, modulo }, y });
        y
    }

    /// Σ c_j x_j over values of one shape; what is trained must not depend on the terms.
    ///
    /// # Panics
    /// If there is no term, there are more than seven, or one needs a gradient in a graph that trains.
    pub fn combine(&mut self, terms: &[(f64, Value)]) -> Value {
        let learnt = terms.iter().any(|(_, value)| self.needs_grad(*value));
        assert!(self.training.is_none() || !learnt, "a combination has no backward pass");
        let (len, y) = (self.len(terms[0].1), self.temporary_like(terms[0].1));
        assert!(terms.iter().all(|(_, value)| self.len(*value) == len), "terms of one shape");
        let kernel = Combine { len, coefficients: terms.iter().map(|(c, _)| *c).collect() };
        let mut inputs: Vec<_> = terms.iter().map(|(_, value)| Some(*value)).collect();
        inputs.resize(MAX_TERMS, None);
        self.launch(kernel, &inputs, &[y]);
        y
    }

    /// Where the training step drops out: r + dropout(x), or r + x where it does not.
    pub fn dropout(&mut self, x: Value, residual: Option<Value>) -> Value {
        let Some(site) = self.dropout_site() else {
            return match residual {
                Some(residual) => self.add_rows(x, residual, 1, self.rows(x).0),
                None => x,
            };
        };
        let y = self.drop_out(x, residual, site);
        self.record(DropoutBackward { x, residual, y, site });
        y
    }

    /// r + dropout(x) of one place.
    pub(super) fn drop_out(&mut self, x: Value, residual: Option<Value>, site: DropoutSite) -> Value {
        let (y, control) = (self.temporary_like(x), self.control());
        let kernel = Dropout { len: self.len(x), site, residual: residual.is_some() };
        self.launch(kernel, &[Some(x), residual, Some(control)], &[y]);
        y
    }

    /// Builds a part of the graph in which nothing is dropped out.
    pub fn without_dropout<R>(&mut self, build: impl FnOnce(&mut Self) -> R) -> R {
        let training = self.training;
        self.training = training.map(|_| Training { dropout: 0.0 });
        let built = build(self);
        self.training = training;
        built
    }

    /// A new place where dropout happens, if it happens at all.
    pub(super) fn dropout_site(&mut self) -> Option<DropoutSite> {
        let share = self.training.map_or(0.0, |training| training.dropout);
        self.dropout_sites += 1;
        (share > 0.0).then(|| DropoutSite::new(self.dropout_sites - 1, f64::from(share)))
    }

    /// The input that holds [seed, step], which random masks are keyed by.
    pub(super) fn control(&mut self) -> Value {
        self.input("control", Dtype::U32, &[4])
    }

    /// Adds to the gradient of what `sum` repeated: `upstream` has the sum's rows, whatever shape it is noted with.
    pub(super) fn add_repeated_gradient(&mut self, value: Value, upstream: Value, sum: &AddRows) {
        if !self.needs_grad(value) {
            return;
        }
        let &AddRows { rows, columns, div, modulo } = sum;
        if let Some(id) = self.param_of(value) {
            self.parameter_gradient(id, 0..modulo * columns, |graph, target| {
                let reduce = ReduceRows { div, modulo, ..ReduceRows::all(rows, columns) };
                graph.launch(reduce, &[Some(upstream)], &[target]);
            });
        } else if div == 1 && modulo == rows {
            self.add_gradient(value, upstream);
        } else {
            let sum = self.temporary(&[modulo, columns]);
            let reduce = ReduceRows { div, modulo, ..ReduceRows::all(rows, columns) };
            self.launch(reduce, &[Some(upstream)], &[sum]);
            self.add_gradient(value, sum);
        }
    }
}

struct ActivationBackward {
    x: Value,
    y: Value,
    kind: Activation,
}

impl Backward for ActivationBackward {
    fn output(&self) -> Value {
        self.y
    }

    fn backward(&self, graph: &mut Graph, upstream: Value) {
        let dx = graph.activation_gradient(self.x, upstream, self.kind);
        graph.add_gradient(self.x, dx);
    }
}

struct AddRowsBackward {
    x: Value,
    b: Value,
    kernel: AddRows,
    y: Value,
}

impl Backward for AddRowsBackward {
    fn output(&self) -> Value {
        self.y
    }

    fn backward(&self, graph: &mut Graph, upstream: Value) {
        graph.add_gradient(self.x, upstream);
        graph.add_repeated_gradient(self.b, upstream, &self.kernel);
    }
}

struct DropoutBackward {
    x: Value,
    residual: Option<Value>,
    y: Value,
    site: DropoutSite,
}

impl Backward for DropoutBackward {
    fn output(&self) -> Value {
        self.y
    }

    fn backward(&self, graph: &mut Graph, upstream: Value) {
        if let Some(residual) = self.residual {
            graph.add_gradient(residual, upstream);
        }
        let dx = graph.drop_out(upstream, None, self.site);
        graph.add_gradient(self.x, dx);
    }
}
