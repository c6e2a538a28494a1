//! y = R + α f(x Wᵀ + b), with dX = dY W, dW = dYᵀ X, db = Σ_rows dY.
//!
//! An input that is several values side by side, [x₀ | x₁ | …], is never put together: W's columns are cut instead,
//! x Wᵀ = x₀ W₀ᵀ + x₁ W₁ᵀ + …, and what stays the same over a solver's steps is multiplied once.

use std::ops::Range;

use super::Columns;
use crate::graph::backward::{Backward, Rectified};
use crate::graph::{Graph, Launch, ParamId, Value};
use crate::kernels::activation::Activation;
use crate::kernels::add_rows::{AddRows, ReduceRows};
use crate::kernels::dropout::DropoutSite;
use crate::kernels::matmul::{Matmul, Matrix};
use crate::kernels::matmul_norm::MatmulNorm;
use crate::kernels::norm_matmul::NormMatmul;
use crate::kernels::{Dtype, Kernel};

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
    /// There is none.
    None,
}

/// A part of a linear layer's input.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// Its values, [.., columns].
    pub x: Value,
    /// The weight's column that its first column meets.
    pub column: usize,
}

/// A linear layer's application. `inputs` are [.., in] together; the weight is [out, in] as PyTorch stores it, of which
/// the rows in `outputs` are used, and the same run of the bias `[out]`.
#[derive(Debug, Clone)]
pub struct Linear {
    /// Input; while training its parts meet all of the weight's columns.
    pub inputs: Vec<Part>,
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
    /// The columns of a value that y becomes; a value of its own unless said. Inference only.
    pub into: Option<Columns>,
}

impl Linear {
    /// x Wᵀ + b over all of a weight with `outputs` rows.
    pub fn new(x: Value, weight: ParamId, bias: ParamId, outputs: Range<usize>) -> Self {
        Self {
            inputs: vec![Part { x, column: 0 }],
            weight,
            bias: Bias::Param(bias),
            outputs,
            activation: Activation::None,
            residual: None,
            alpha: 1.0,
            into: None,
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

    /// To columns of a value, beside what others write there.
    #[must_use]
    pub fn into_columns(self, columns: Columns) -> Self {
        Self { into: Some(columns), ..self }
    }
}

impl Graph {
    /// Applies a linear layer: [.., in] to [rows, out]. Weights stored as f16 do not learn.
    ///
    /// # Panics
    /// If shapes do not fit: a mistake of a network, not of a user.
    pub fn linear(&mut self, op: Linear) -> Value {
        self.apply_linear(op, false)
    }

    /// The same with dropout behind it, while training.
    ///
    /// # Panics
    /// As [`Self::linear`].
    pub fn linear_dropped(&mut self, op: Linear) -> Value {
        // The result of a rectifier with dropout behind it tells the slope of both.
        if op.activation == Activation::Relu && op.residual.is_none() && op.inputs.len() == 1 {
            return self.apply_linear(op, true);
        }
        let y = self.linear(op);
        self.dropout(y, None)
    }

    fn apply_linear(&mut self, op: Linear, drops: bool) -> Value {
        // The backward pass of these needs what they were applied to; a rectifier's needs only its result. A sum of
        // parts is activated when it is whole.
        let activated = op.activation != Activation::None;
        let keeps_input = self.training.is_some()
            && (!matches!(op.activation, Activation::None | Activation::Relu) || op.residual.is_some());
        if activated && (keeps_input || op.inputs.len() > 1) {
            let (activation, residual) = (op.activation, op.residual);
            let before = self.linear(Linear { activation: Activation::None, residual: None, ..op });
            let after = self.activation(before, activation);
            return match residual {
                Some(Residual { value, rows }) => self.add_rows(after, value, 1, rows),
                None => after,
            };
        }
        let plain = op.alpha == 1.0;
        assert!(plain || self.training.is_none(), "a scaled product has no backward pass");
        assert!(plain || op.inputs.len() == 1, "a scaled product has one part");
        let apart = op.into.is_none() || self.training.is_none() && op.inputs.len() == 1;
        assert!(apart, "what is written beside other columns has one part and no backward pass");
        let m = self.rows(op.inputs[0].x).0;
        let mut residual = op.residual;
        let mut bias = op.bias;
        for (i, &part) in op.inputs.iter().enumerate() {
            let activation = if i + 1 == op.inputs.len() { op.activation } else { Activation::None };
            let sum = self.product(&op, part, std::mem::replace(&mut bias, Bias::None), activation, residual);
            residual = Some(Residual { value: sum, rows: m });
        }
        let mut y = residual.expect("a linear layer has an input").value;
        let site = if drops { self.dropout_site() } else { None };
        if op.activation == Activation::Relu && self.training.is_some() {
            y = site.map_or(y, |site| self.drop_out(y, None, site));
            let scale = site.map_or(1.0, |site| site.scale() as f32);
            self.rectified.insert(y, Rectified { scale, passed: false });
        }
        let widths = op.inputs.iter().map(|part| self.rows(part.x).1).collect();
        self.record(LinearBackward { op, rows: m, widths, y, site });
        y
    }

    /// Layer norm of the rows of a linear layer's result, which nobody else wants: one launch where the device is better off
    /// with it.
    ///
    /// # Panics
    /// As [`Self::linear`].
    pub fn linear_norm(&mut self, op: Linear, gamma: ParamId, beta: ParamId, eps: f32) -> Value {
        if let (None, [_], None) = (self.training, &op.inputs[..], op.into) {
            let Prepared { kernel, inputs, y } = self.prepare(&op);
            let both = MatmulNorm { product: kernel, eps };
            if self.merges(&both) {
                let [a, b, bias, residual] = inputs;
                let [gamma, beta] = [gamma, beta].map(|id| Some(self.param(id)));
                self.launch(both, &[a, b, bias, residual, gamma, beta], &[y]);
                return y;
            }
            self.launch_product(both.product, &inputs, y);
            return self.layer_norm(y, gamma, beta, eps);
        }
        let sum = self.linear(op);
        self.layer_norm(sum, gamma, beta, eps)
    }

    /// R + α f(xᵢ Wᵢᵀ + b) for one part of the input.
    fn product(
        &mut self,
        op: &Linear,
        part: Part,
        bias: Bias,
        activation: Activation,
        residual: Option<Residual>,
    ) -> Value {
        let Prepared { kernel, inputs, y } = self.prepare_part(op, part, bias, activation, residual);
        self.launch_product(kernel, &inputs, y);
        y
    }

    /// Launches a product. Where its input is what the launch before it has normalised, and the device is better off so, the
    /// norm becomes a part of it.
    fn launch_product(&mut self, product: Matmul, inputs: &[Option<Value>; 4], y: Value) {
        let &[a, b, bias, residual] = inputs;
        let normed = self.launches[self.parted..].last();
        if let Some(Launch { kernel: Kernel::LayerNorm(norm), inputs: of_norm, outputs }) = normed
            && a == Some(outputs[0])
            && residual != a
        {
            let (both, rows) = (NormMatmul { product: product.clone(), eps: norm.eps }, outputs[0]);
            if *norm == both.norm() && self.merges(&both) {
                let &[x, gamma, beta] = &of_norm[..] else { unreachable!("a norm has three inputs") };
                self.launches.pop();
                return self.launch(both, &[x, b, bias, residual, gamma, beta], &[y, rows]);
            }
        }
        self.launch(product, inputs, &[y]);
    }

    /// The product of a linear layer with one input.
    pub(super) fn prepare(&mut self, op: &Linear) -> Prepared {
        self.prepare_part(op, op.inputs[0], op.bias, op.activation, op.residual)
    }

    fn prepare_part(
        &mut self,
        op: &Linear,
        Part { x, column }: Part,
        bias: Bias,
        activation: Activation,
        residual: Option<Residual>,
    ) -> Prepared {
        let (bias, first_bias) = match bias {
            Bias::Param(id) => (Some(self.param(id)), Some(op.outputs.start)),
            Bias::Row { table, first } => (Some(table), Some(first)),
            Bias::None => (None, None),
        };
        let (m, k) = self.rows(x);
        let n = op.outputs.len();
        let (y, c) = match op.into {
            Some(Columns { value, first }) => (value, Matrix::rows(self.rows(value).1).at(first)),
            None => (self.temporary(&[m, n]), Matrix::rows(n)),
        };
        assert!(self.rows(y).0 == m && c.offset + n <= c.stride, "a product's rows and columns");
        let weight = self.param(op.weight);
        let half_b = self.values[weight.0].dtype == Dtype::F16;
        assert!(!half_b || !self.learns(), "weights train as f32");
        let columns = self.columns_of(op.weight);
        assert!(column + k <= columns, "{} has {columns} columns", self.params.get(op.weight).name);
        let kernel = Matmul {
            b: Matrix::transposed(columns).at(op.outputs.start * columns + column),
            half_b,
            half_a: half_b && self.params.half_products(),
            c,
            bias: first_bias,
            activation,
            alpha: op.alpha,
            residual_rows: residual.map(|residual| residual.rows),
            ..Matmul::new(m, k, n)
        };
        Prepared { kernel, inputs: [Some(x), Some(weight), bias, residual.map(|residual| residual.value)], y }
    }

    /// Columns of a weight [out, ..].
    fn columns_of(&self, weight: ParamId) -> usize {
        let param = self.params.get(weight);
        param.len / param.shape[0]
    }
}

/// A product about to be launched.
pub(super) struct Prepared {
    pub(super) kernel: Matmul,
    pub(super) inputs: [Option<Value>; 4],
    pub(super) y: Value,
}

struct LinearBackward {
    op: Linear,
    rows: usize,
    /// Columns of each part; a value may get another shape later.
    widths: Vec<usize>,
    y: Value,
    /// Where y was dropped from, behind a rectifier.
    site: Option<DropoutSite>,
}

impl Backward for LinearBackward {
    fn output(&self) -> Value {
        self.y
    }

    fn backward(&self, graph: &mut Graph, upstream: Value) {
        let op = &self.op;
        let (m, n, k) = (self.rows, op.outputs.len(), graph.columns_of(op.weight));
        if let Some(Residual { value, rows }) = op.residual {
            let sum = AddRows { rows: m, columns: n, div: 1, modulo: rows };
            graph.add_repeated_gradient(value, upstream, &sum);
        }
        let dy = match op.activation {
            Activation::None => upstream,
            _ if graph.rectified.get(&self.y).is_some_and(|rectified| rectified.passed) => upstream,
            kind => {
                let upstream = self.site.map_or(upstream, |site| graph.drop_out(upstream, None, site));
                graph.activation_gradient(self.y, upstream, kind)
            }
        };
        if let Bias::Param(bias) = op.bias {
            graph.parameter_gradient(bias, op.outputs.clone(), |graph, target| {
                let reduce = ReduceRows { offset: op.outputs.start, ..ReduceRows::all(m, n) };
                graph.launch(reduce, &[Some(dy)], &[target]);
            });
        }
        assert_eq!(self.widths.iter().sum::<usize>(), k, "{}", graph.params.get(op.weight).name);
        let run = op.outputs.start * k..op.outputs.end * k;
        graph.parameter_gradient(op.weight, run.clone(), |graph, target| {
            for (part, &width) in op.inputs.iter().zip(&self.widths) {
                let product = Matmul {
                    a: Matrix::transposed(n),
                    c: Matrix::rows(k).at(run.start + part.column),
                    ..Matmul::new(n, m, width)
                };
                graph.launch(product, &[Some(dy), Some(part.x), None, None], &[target]);
            }
        });
        for (part, &width) in op.inputs.iter().zip(&self.widths) {
            if !graph.needs_grad(part.x) {
                continue;
            }
            // What the input's gradient holds already becomes this product's residual; what a rectifier made is its gate.
            let earlier = graph.gradient_so_far(part.x);
            // (Where weights stay as they are, a product without a gate has panels of them.)
            let gates = earlier.is_none() && graph.learns();
            let gate = if gates { graph.pass_through_rectifier(part.x) } else { None };
            let residual = gate.map(|_| part.x).or(earlier);
            let dx = graph.temporary(&[m, width]);
            let weight = graph.param(op.weight);
            let product = Matmul {
                b: Matrix::rows(k).at(run.start + part.column),
                half_b: graph.values[weight.0].dtype == Dtype::F16,
                residual_rows: residual.map(|_| m),
                gated: gate.is_some(),
                alpha: gate.unwrap_or(1.0),
                ..Matmul::new(m, n, width)
            };
            graph.launch(product, &[Some(dy), Some(weight), None, residual], &[dx]);
            graph.set_gradient(part.x, dx);
        }
    }
}
