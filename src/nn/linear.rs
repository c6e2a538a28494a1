//! Linear layers and layer norms with their parameters.

use crate::graph::ops::{Attend, Bias, Linear, Part};
use crate::graph::{Graph, Init, ParamId, Params, Value};

/// y = x Wᵀ + b, `{name}.weight` [out, in] and `{name}.bias` `[out]`.
#[derive(Debug, Clone, Copy)]
pub struct Projection {
    /// W.
    pub weight: ParamId,
    /// b.
    pub bias: ParamId,
    /// Width of y.
    pub outputs: usize,
}

impl Projection {
    /// Declares a layer with PyTorch's default initial values.
    pub fn new(params: &mut Params, name: &str, inputs: usize, outputs: usize) -> Self {
        Self::spread(params, name, inputs, outputs, 1.0)
    }

    /// The same, the weight's values spread `factor` times as wide.
    pub fn spread(params: &mut Params, name: &str, inputs: usize, outputs: usize, factor: f64) -> Self {
        let weight = Init::fan_in(inputs).scaled(factor);
        Self {
            weight: params.declare_weight(format!("{name}.weight"), &[outputs, inputs], weight),
            bias: params.declare(format!("{name}.bias"), &[outputs], Init::fan_in(inputs)),
            outputs,
        }
    }

    /// The layer's application, to be given an activation or a residual, and appended by [`Graph::linear`].
    pub fn of(&self, x: Value) -> Linear {
        Linear::new(x, self.weight, self.bias, 0..self.outputs)
    }

    /// The same for an input that is several values side by side.
    pub fn of_parts(&self, graph: &Graph, values: &[Value]) -> Linear {
        let mut column = 0;
        let part = |&x: &Value| {
            let part = Part { x, column };
            column += graph.rows(x).1;
            part
        };
        Linear { inputs: values.iter().map(part).collect(), ..self.of(values[0]) }
    }

    /// W and b.
    pub fn parameters(&self) -> [ParamId; 2] {
        [self.weight, self.bias]
    }

    /// What a part of the input, whose first column meets the weight's `column`, adds to the product; no bias.
    pub fn of_columns(&self, x: Value, column: usize) -> Linear {
        Linear { inputs: vec![Part { x, column }], bias: Bias::None, ..self.of(x) }
    }
}

/// Layer norm, `{name}.weight` `[d]` and `{name}.bias` `[d]`.
#[derive(Debug, Clone, Copy)]
pub struct Norm {
    gamma: ParamId,
    beta: ParamId,
    eps: f32,
}

impl Norm {
    /// Declares a norm that starts as the identity.
    pub fn new(params: &mut Params, name: &str, width: usize, eps: f32) -> Self {
        Self {
            gamma: params.declare(format!("{name}.weight"), &[width], Init::Ones),
            beta: params.declare(format!("{name}.bias"), &[width], Init::Zeros),
            eps,
        }
    }

    /// Its weight and bias.
    pub fn parameters(&self) -> [ParamId; 2] {
        [self.gamma, self.beta]
    }

    /// Applies it.
    pub fn apply(&self, graph: &mut Graph, x: Value) -> Value {
        graph.layer_norm(x, self.gamma, self.beta, self.eps)
    }

    /// Applies it to the rows of a linear layer, which nobody else wants.
    pub fn apply_to(&self, graph: &mut Graph, op: Linear) -> Value {
        graph.linear_norm(op, self.gamma, self.beta, self.eps)
    }

    /// The same where the layer is applied to an attention's answers.
    pub fn apply_to_attention(
        &self,
        graph: &mut Graph,
        attend: Attend,
        op: impl Fn(Value) -> Linear,
    ) -> Value {
        graph.attention_norm(attend, op, [self.gamma, self.beta], self.eps)
    }
}
