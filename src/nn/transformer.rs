//! nn.TransformerEncoderLayer and nn.TransformerDecoderLayer, post-norm, as PyTorch builds them.

use super::{Attended, CrossAttention, KeysValues, Norm, Projection, SelfAttention};
use crate::graph::ops::{Columns, Linear};
use crate::graph::{Graph, ParamId, Params, Value};
use crate::kernels::activation::Activation;
use crate::kernels::decoder_steps::LayerOf;

/// Sizes that the layers of a stack share.
#[derive(Debug, Clone, Copy)]
pub struct LayerSizes {
    /// d.
    pub width: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width between the two products of the feed-forward block.
    pub feedforward: usize,
    /// Between these products.
    pub activation: Activation,
}

/// PyTorch's default.
const EPS: f32 = 1e-5;

/// Whether anything of a layer's sums is dropped.
fn drops(graph: &Graph) -> bool {
    graph.training().is_some_and(|training| training.dropout > 0.0)
}

/// norm(r + dropout(x Wᵀ + b)): one product where nothing is dropped.
fn add_and_norm(graph: &mut Graph, product: Linear, residual: Value, norm: &Norm) -> Value {
    if drops(graph) {
        let x = graph.linear(product);
        let sum = graph.dropout(x, Some(residual));
        norm.apply(graph, sum)
    } else {
        let rows = graph.rows(residual).0;
        norm.apply_to(graph, product.plus(residual, rows))
    }
}

/// The same where x is what an attention answers.
fn attend_and_norm(graph: &mut Graph, attended: Attended, residual: Value, norm: &Norm) -> Value {
    if drops(graph) {
        let product = attended.linear(graph);
        add_and_norm(graph, product, residual, norm)
    } else {
        attended.add_and_norm(graph, residual, norm)
    }
}

/// linear2(dropout(activation(linear1(x)))).
#[derive(Debug, Clone, Copy)]
struct FeedForward {
    linear1: Projection,
    linear2: Projection,
    activation: Activation,
}

impl FeedForward {
    fn new(params: &mut Params, name: &str, sizes: LayerSizes) -> Self {
        Self {
            linear1: Projection::new(params, &format!("{name}.linear1"), sizes.width, sizes.feedforward),
            linear2: Projection::new(params, &format!("{name}.linear2"), sizes.feedforward, sizes.width),
            activation: sizes.activation,
        }
    }

    fn of(&self, graph: &mut Graph, x: Value) -> Linear {
        let hidden = graph.linear_dropped(self.linear1.of(x).activation(self.activation));
        self.linear2.of(hidden)
    }
}

/// x ← norm1(x + attention(x)); x ← norm2(x + feed-forward(x)).
#[derive(Debug, Clone, Copy)]
pub struct EncoderLayer {
    attention: SelfAttention,
    feedforward: FeedForward,
    norm1: Norm,
    norm2: Norm,
}

impl EncoderLayer {
    /// Declares the layer.
    pub fn new(params: &mut Params, name: &str, sizes: LayerSizes) -> Self {
        Self {
            attention: SelfAttention::new(params, &format!("{name}.self_attn"), sizes.width, sizes.heads),
            feedforward: FeedForward::new(params, name, sizes),
            norm1: Norm::new(params, &format!("{name}.norm1"), sizes.width, EPS),
            norm2: Norm::new(params, &format!("{name}.norm2"), sizes.width, EPS),
        }
    }

    /// Applies it to tokens [B·T, d].
    pub fn apply(&self, graph: &mut Graph, x: Value, batch: usize) -> Value {
        let attended = self.attention.of(graph, x, batch);
        let x = attend_and_norm(graph, attended, x, &self.norm1);
        let fed = self.feedforward.of(graph, x);
        add_and_norm(graph, fed, x, &self.norm2)
    }
}

/// x ← norm1(x + self-attention(x)); x ← norm2(x + cross-attention(x, memory)); x ← norm3(x + feed-forward(x)).
#[derive(Debug, Clone, Copy)]
pub struct DecoderLayer {
    attention: SelfAttention,
    cross: CrossAttention,
    feedforward: FeedForward,
    norms: [Norm; 3],
}

impl DecoderLayer {
    /// Declares the layer.
    pub fn new(params: &mut Params, name: &str, sizes: LayerSizes) -> Self {
        Self {
            attention: SelfAttention::new(params, &format!("{name}.self_attn"), sizes.width, sizes.heads),
            cross: CrossAttention::new(params, &format!("{name}.multihead_attn"), sizes.width, sizes.heads),
            feedforward: FeedForward::new(params, name, sizes),
            norms: [1, 2, 3].map(|i| Norm::new(params, &format!("{name}.norm{i}"), sizes.width, EPS)),
        }
    }

    /// Keys and values of a memory [B·N, d] for this layer.
    pub fn keys_values(&self, graph: &mut Graph, memory: Value) -> KeysValues {
        self.cross.keys_values(graph, memory)
    }

    /// The same, to columns of a value that holds several layers' keys and values.
    pub fn keys_values_into(&self, graph: &mut Graph, memory: Value, columns: Columns) {
        self.cross.keys_values_into(graph, memory, columns);
    }

    /// Its parameters, as the launch wants them that makes all steps of a decoder.
    pub fn parameters(&self) -> LayerOf<ParamId> {
        let [[self_in, self_out], [cross_in, cross_out]] =
            [self.attention.parameters(), self.cross.parameters()];
        let [linear1, linear2] = [self.feedforward.linear1, self.feedforward.linear2].map(|p| p.parameters());
        let [norm1, norm2, norm3] = self.norms.map(|norm| norm.parameters());
        [self_in, self_out, cross_in, cross_out, linear1, linear2, norm1, norm2, norm3]
    }

    /// Applies it to tokens [B·T, d].
    pub fn apply(&self, graph: &mut Graph, x: Value, memory: KeysValues, batch: usize) -> Value {
        let attended = self.attention.of(graph, x, batch);
        let x = attend_and_norm(graph, attended, x, &self.norms[0]);
        let looked = self.cross.of(graph, x, memory, batch);
        let x = attend_and_norm(graph, looked, x, &self.norms[1]);
        let fed = self.feedforward.of(graph, x);
        add_and_norm(graph, fed, x, &self.norms[2])
    }
}
