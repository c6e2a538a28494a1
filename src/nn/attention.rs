//! Multi-head attention with PyTorch's packed input projection.

use super::{Norm, Projection};
use crate::graph::ops::{Attend, AttentionShape, Columns, Linear};
use crate::graph::{Graph, Init, ParamId, Params, Value};

/// `{name}.in_proj_weight` [3d, d], `{name}.in_proj_bias` [3d], `{name}.out_proj.*`.
#[derive(Debug, Clone, Copy)]
struct MultiHead {
    weight: ParamId,
    bias: ParamId,
    out: Projection,
    width: usize,
    heads: usize,
}

impl MultiHead {
    fn new(params: &mut Params, name: &str, width: usize, heads: usize) -> Self {
        // As nn.MultiheadAttention starts: Glorot over the packed weight, zero biases.
        let weight = params.declare_weight(
            format!("{name}.in_proj_weight"),
            &[3 * width, width],
            Init::xavier(width, 3 * width),
        );
        let bias = params.declare(format!("{name}.in_proj_bias"), &[3 * width], Init::Zeros);
        let out = Projection {
            weight: params.declare_weight(
                format!("{name}.out_proj.weight"),
                &[width, width],
                Init::fan_in(width),
            ),
            bias: params.declare(format!("{name}.out_proj.bias"), &[width], Init::Zeros),
            outputs: width,
        };
        Self { weight, bias, out, width, heads }
    }

    fn project(&self, graph: &mut Graph, x: Value, parts: std::ops::Range<usize>) -> Value {
        graph.linear(self.projection(x, parts))
    }

    fn projection(&self, x: Value, parts: std::ops::Range<usize>) -> Linear {
        Linear::new(x, self.weight, self.bias, parts.start * self.width..parts.end * self.width)
    }

    /// Weights with their biases: of the packed projection, and of the output's.
    fn parameters(&self) -> [[ParamId; 2]; 2] {
        [[self.weight, self.bias], self.out.parameters()]
    }

    /// Attention of x [B·T, d] to keys and values [B·N, 2d].
    fn look(&self, graph: &mut Graph, x: Value, memory: KeysValues, batch: usize) -> Attended {
        let q = self.project(graph, x, 0..1);
        let shape = self.shape(batch, graph.rows(x).0 / batch, graph.rows(memory.0).0 / batch);
        let k = Columns { value: memory.0, first: 0 };
        let v = Columns { value: memory.0, first: self.width };
        Attended { attend: Attend { q: Columns { value: q, first: 0 }, k, v, shape }, out: self.out }
    }

    fn shape(&self, batch: usize, queries: usize, keys: usize) -> AttentionShape {
        AttentionShape { batch, heads: self.heads, queries, keys, head_width: self.width / self.heads }
    }
}

/// An attention whose projections are made, up to and including the output's; what becomes of its rows is the caller's.
#[derive(Debug, Clone, Copy)]
pub struct Attended {
    attend: Attend,
    out: Projection,
}

impl Attended {
    /// The output projection's application, to which the caller may add a residual.
    pub fn linear(self, graph: &mut Graph) -> Linear {
        let answers = graph.attention(self.attend);
        self.out.of(answers)
    }

    /// norm(r + x Wᵀ + b) of the answers x, with nothing dropped from the sum.
    pub fn add_and_norm(self, graph: &mut Graph, residual: Value, norm: &Norm) -> Value {
        let rows = graph.rows(residual).0;
        norm.apply_to_attention(graph, self.attend, |answers| self.out.of(answers).plus(residual, rows))
    }
}

/// Attention of tokens [B·T, d] to one another.
#[derive(Debug, Clone, Copy)]
pub struct SelfAttention(MultiHead);

impl SelfAttention {
    /// Declares the layer.
    pub fn new(params: &mut Params, name: &str, width: usize, heads: usize) -> Self {
        Self(MultiHead::new(params, name, width, heads))
    }

    /// Projects queries, keys and values.
    pub fn of(&self, graph: &mut Graph, x: Value, batch: usize) -> Attended {
        let tokens = graph.rows(x).0 / batch;
        let qkv = self.0.project(graph, x, 0..3);
        let part = |i| Columns { value: qkv, first: i * self.0.width };
        let shape = self.0.shape(batch, tokens, tokens);
        Attended { attend: Attend { q: part(0), k: part(1), v: part(2), shape }, out: self.0.out }
    }

    /// Weights with their biases: of the packed input projection, and of the output projection.
    pub fn parameters(&self) -> [[ParamId; 2]; 2] {
        self.0.parameters()
    }

    /// The same where only some of the tokens ask, [B·Q, d], and all of them, [B·T, d], are looked at.
    pub fn of_queries(&self, graph: &mut Graph, queries: Value, x: Value, batch: usize) -> Attended {
        let memory = KeysValues(self.0.project(graph, x, 1..3));
        self.0.look(graph, queries, memory, batch)
    }
}

/// Attention of tokens [B·T, d] to a memory [B·N, d].
#[derive(Debug, Clone, Copy)]
pub struct CrossAttention(MultiHead);

/// Keys and values [B·N, 2d] of a memory: made once per chunk, used by every solver step.
#[derive(Debug, Clone, Copy)]
pub struct KeysValues(Value);

impl KeysValues {
    /// Both, side by side.
    pub fn value(&self) -> Value {
        self.0
    }
}

impl CrossAttention {
    /// Declares the layer.
    pub fn new(params: &mut Params, name: &str, width: usize, heads: usize) -> Self {
        Self(MultiHead::new(params, name, width, heads))
    }

    /// Projects the memory.
    pub fn keys_values(&self, graph: &mut Graph, memory: Value) -> KeysValues {
        KeysValues(self.0.project(graph, memory, 1..3))
    }

    /// The same, to columns of a value that holds several layers' keys and values.
    pub fn keys_values_into(&self, graph: &mut Graph, memory: Value, columns: Columns) {
        graph.linear(self.0.projection(memory, 1..3).into_columns(columns));
    }

    /// As [`SelfAttention::parameters`].
    pub fn parameters(&self) -> [[ParamId; 2]; 2] {
        self.0.parameters()
    }

    /// As [`SelfAttention::of`].
    pub fn of(&self, graph: &mut Graph, x: Value, memory: KeysValues, batch: usize) -> Attended {
        self.0.look(graph, x, memory, batch)
    }
}
