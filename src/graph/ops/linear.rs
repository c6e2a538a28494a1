//! y = R + α f(x Wᵀ + b), with dX = dY W, dW = dYᵀ X, db = Σ_rows dY.

use std::ops::Range;

use crate::graph::backward::Backward;
use crate::graph::{Graph, ParamId, Value};
use crate::kernels::activation::Activation;
use crate::kernels::add_rows::{AddRows, ReduceRows};
use crate::kernels::matmul::{Matmul, Matrix};

/// What a product adds at its end: `rows` rows that repeat.
#[derive(Debug, Clone, Copy)]
pub struct Residual {
    /// The rows.
    pub value: Value,
    /// How many there are; row i of the product takes row i mod `rows`.
    pub rows: usize,
}

/// b.
#[derive(Debug, Clone, Copy)]
pub enum Bias {
    /// A parameter `[out]`, of which the run of the weight's rows is used.
    Param(ParamId),
    /// A run of a table of biases, from element `first` on; inference only.
    Row {
        /// The table.
        table: Value,
        /// First element.
        first: usize,
    },
}

/// A linear layer's application. `x` is [.., in]; the weight is [out, in] as PyTorch stores it, of which the
/// rows in `outputs` are used, and the same run of the bias `[out]`.
#[derive(Debug, Clone)]
pub struct Linear {
    /// Input.
    pub x: Value,
    /// Weight [out, in].
    pub weight: ParamId,
    /// b.
    pub bias: Bias,
    /// Which rows of the weight.
    pub outputs: Range<usize>,
    /// f.
    pub activation: Activation,
    /// R.
    pub residual: Option<Residual>,
    /// α; 1 while training.
    pub alpha: f32,
}

impl Linear {
    /// x Wᵀ + b over all of a weight with `outputs` rows.
    pub fn new(x: Value, weight: ParamId, bias: ParamId, outputs: Range<usize>) -> Self {
        Self {
            x,
            weight,
            bias: Bias::Param(bias),
            outputs,
            activation: Activation::None,
            residual: None,
            alpha: 1.0,
        }
    }

    /// With an activation.
    #[must_use]
    pub fn activation(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }

    /// With R, one row for each of the product's.
    #[must_use]
    pub fn plus(self, value: Value, rows: usize) -> Self {
        Self { residual: Some(Residual { value, rows }), ..self }
    }
}

impl Graph {
    /// Applies a linear layer: [.., in] to [rows, out].
    ///
    /// # Panics
    /// If shapes do not fit: a mistake of a network, not of a user.
    pub fn linear(&mut self, op: Linear) -> Value {
        // The backward pass of these needs what they were applied to; a rectifier's needs only its result.
        let keeps_input = !matches!(op.activation, Activation::None | Activation::Relu)
            || (op.activation == Activation::Relu && op.residual.is_some());
        if self.training.is_some() && keeps_input {
            let (activation, residual) = (op.activation, op.residual);
            let before = self.linear(Linear { activation: Activation::None, residual: None, ..op });
            let after = self.activation(before, activation);
            return match residual {
                Some(Residual { value, rows }) => self.add_rows(after, value, 1, rows),
                None => after,
            };
        }
        assert!(self.training.is_none() || op.alpha == 1.0, "a scaled product has no backward pass");
        let (bias, first_bias) = match op.bias {
            Bias::Param(id) => (self.param(id), op.outputs.start),
            Bias::Row { table, first } => (table, first),
        };
        let (m, k) = self.rows(op.x);
        let n = op.outputs.len();
        let y = self.temporary(&[m, n]);
        let weight = self.param(op.weight);
        assert_eq!(self.len(weight), self.shape(weight)[0] * k, "{}", self.params.get(op.weight).name);
        let kernel = Matmul {
            b: Matrix::transposed(k).at(op.outputs.start * k),
            bias: Some(first_bias),
            activation: op.activation,
            alpha: op.alpha,
            residual_rows: op.residual.map(|residual| residual.rows),
            ..Matmul::new(m, k, n)
        };
        let residual = op.residual.map(|residual| residual.value);
        self.launch(kernel, &[Some(op.x), Some(weight), Some(bias), residual], &[y]);
        self.record(LinearBackward { op, rows: m, inputs: k, y });
        y
    }
}

struct LinearBackward {
    op: Linear,
    rows: usize,
    inputs: usize,
    y: Value,
}

impl Backward for LinearBackward {
    fn output(&self) -> Value {
        self.y
    }

    fn backward(&self, graph: &mut Graph, upstream: Value) {
        let op = &self.op;
        let (m, k, n) = (self.rows, self.inputs, op.outputs.len());
        if let Some(Residual { value, rows }) = op.residual {
            let sum = AddRows { rows: m, columns: n, div: 1, modulo: rows };
            graph.add_repeated_gradient(value, upstream, &sum);
        }
        let dy = match op.activation {
            Activation::None => upstream,
            kind => graph.activation_gradient(self.y, upstream, kind),
        };
        if let Bias::Param(bias) = op.bias {
            graph.parameter_gradient(bias, op.outputs.clone(), |graph, target| {
                let reduce = ReduceRows { offset: op.outputs.start, ..ReduceRows::all(m, n) };
                graph.launch(reduce, &[Some(dy)], &[target]);
            });
        }
        let run = op.outputs.start * k..op.outputs.end * k;
        graph.parameter_gradient(op.weight, run.clone(), |graph, target| {
            let product =
                Matmul { a: Matrix::transposed(n), c: Matrix::rows(k).at(run.start), ..Matmul::new(n, m, k) };
            graph.launch(product, &[Some(dy), Some(op.x), None, None], &[target]);
        });
        if graph.needs_grad(op.x) {
            // What the input's gradient holds already becomes this product's residual.
            let earlier = graph.gradient_so_far(op.x);
            let dx = graph.temporary(&[m, k]);
            let product = Matmul {
                b: Matrix::rows(k).at(run.start),
                residual_rows: earlier.map(|_| m),
                ..Matmul::new(m, n, k)
            };
            let weight = graph.param(op.weight);
            graph.launch(product, &[Some(dy), Some(weight), None, earlier], &[dx]);
            graph.set_gradient(op.x, dx);
        }
    }
}
