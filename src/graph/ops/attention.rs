//! Multi-head softmax attention on columns of packed projections.

use super::Linear;
use super::linear::Prepared;
use crate::graph::backward::Backward;
use crate::graph::{Graph, ParamId, Value};
use crate::kernels::attention::{Attention, Tokens};
use crate::kernels::attention_backward::{AttentionBackwardKeyValue, AttentionBackwardQuery};
use crate::kernels::attention_norm::AttentionNorm;
use crate::kernels::matmul_norm::MatmulNorm;

/// Queries, keys or values: as many columns of a value [B·T, stride] as the heads need, from `first` on.
#[derive(Debug, Clone, Copy)]
pub struct Columns {
    /// The packed projection.
    pub value: Value,
    /// First column.
    pub first: usize,
}

/// Sizes of an attention.
#[derive(Debug, Clone, Copy)]
pub struct AttentionShape {
    /// B.
    pub batch: usize,
    /// Heads.
    pub heads: usize,
    /// Queries of a sample.
    pub queries: usize,
    /// Keys of a sample.
    pub keys: usize,
    /// Columns of a head.
    pub head_width: usize,
}

/// An attention that is yet to be launched.
#[derive(Debug, Clone, Copy)]
pub struct Attend {
    /// Queries.
    pub q: Columns,
    /// Keys.
    pub k: Columns,
    /// Values.
    pub v: Columns,
    /// Sizes.
    pub shape: AttentionShape,
}

impl Graph {
    /// softmax(q kᵀ / √head_width) v, head by head: [B·queries, heads · head_width]. Probabilities are dropped
    /// out while training.
    pub fn attention(&mut self, attend: Attend) -> Value {
        let Attend { q, k, v, shape } = attend;
        let o = self.temporary(&[shape.batch * shape.queries, shape.heads * shape.head_width]);
        let lse = self.temporary(&[shape.batch, shape.heads, shape.queries]);
        let dropout = self.dropout_site();
        let kernel = Attention { dropout, ..self.attention_kernel(attend) };
        let control = dropout.map(|_| self.control());
        self.launch(kernel.clone(), &[Some(q.value), Some(k.value), Some(v.value), control], &[o, lse]);
        self.record(AttentionBackward { kernel, q: q.value, k: k.value, v: v.value, o, lse });
        o
    }

    /// Layer norm of the rows that `out` makes of an attention's answers, which nobody else wants: one launch where
    /// the device is better off with it.
    ///
    /// # Panics
    /// As [`Graph::linear`].
    pub fn attention_norm(
        &mut self,
        attend: Attend,
        out: impl Fn(Value) -> Linear,
        [gamma, beta]: [ParamId; 2],
        eps: f32,
    ) -> Value {
        let Attend { q, k, v, shape } = attend;
        if self.device.is_some() && self.training.is_none() && k.value == v.value {
            let attention = self.attention_kernel(attend);
            // Never launched: it says what shape the answers would have.
            let answers = self.temporary(&[shape.batch * shape.queries, shape.heads * shape.head_width]);
            let op = out(answers);
            assert!(
                op.inputs.len() == 1 && op.into.is_none(),
                "an attention's answers are projected as a whole"
            );
            let Prepared { kernel, inputs: [_, b, bias, residual], y } = self.prepare(&op);
            let both = AttentionNorm { attention, out: MatmulNorm { product: kernel, eps } };
            if self.merges(&both) {
                let [gamma, beta] = [gamma, beta].map(|id| Some(self.param(id)));
                let inputs = [Some(q.value), b, bias, residual, gamma, beta, Some(k.value)];
                self.launch(both, &inputs, &[y]);
                return y;
            }
        }
        let answers = self.attention(attend);
        self.linear_norm(out(answers), gamma, beta, eps)
    }

    fn attention_kernel(&self, Attend { q, k, v, shape }: Attend) -> Attention {
        let AttentionShape { batch, heads, queries, keys, head_width } = shape;
        let [q, k, v] = [q, k, v].map(|columns| self.tokens(columns));
        Attention { q, k, v, ..Attention::new(batch, heads, queries, keys, head_width) }
    }

    fn tokens(&self, columns: Columns) -> Tokens {
        Tokens { offset: columns.first, stride: self.rows(columns.value).1 }
    }
}

struct AttentionBackward {
    kernel: Attention,
    q: Value,
    k: Value,
    v: Value,
    o: Value,
    lse: Value,
}

impl Backward for AttentionBackward {
    fn output(&self) -> Value {
        self.o
    }

    fn backward(&self, graph: &mut Graph, upstream: Value) {
        assert_eq!(self.k, self.v, "keys and values come from one projection");
        // Gradients lie where the projections' columns do; the launches fill disjoint columns.
        let dq = self.gradient_of(graph, self.q);
        let packed = self.k == self.q;
        let control = self.kernel.dropout.map(|_| graph.control());
        let [q, k, v, o, lse] = [self.q, self.k, self.v, self.o, self.lse].map(Some);
        let inputs = [q, k, v, control, o, Some(upstream), lse];
        let attention = self.kernel.clone();
        let (d_o, d_q) = (attention.o, attention.q);
        graph.launch(AttentionBackwardQuery { attention: attention.clone(), d_o, d_q }, &inputs, &[dq]);
        // What is looked at may be given: nothing asks for the gradient of keys and values then.
        let dkv = match packed {
            true => Some(dq),
            false => graph.needs_grad(self.k).then(|| self.gradient_of(graph, self.k)),
        };
        if let Some(dkv) = dkv {
            let (d_k, d_v) = (attention.k, attention.v);
            graph.launch(AttentionBackwardKeyValue { attention, d_o, d_k, d_v }, &inputs, &[dkv]);
        }
        graph.add_gradient(self.q, dq);
        if let Some(dkv) = dkv.filter(|_| !packed) {
            graph.add_gradient(self.k, dkv);
        }
    }
}

impl AttentionBackward {
    /// A temporary for the gradient of a projection; zeros where it has columns that this attention does not read.
    fn gradient_of(&self, graph: &mut Graph, projection: Value) -> Value {
        let Attention { heads, head_width, q, k, v, .. } = self.kernel;
        let width = heads * head_width;
        let parts = [(self.q, q), (self.k, k), (self.v, v)];
        let parts: Vec<Tokens> =
            parts.into_iter().filter(|(value, _)| *value == projection).map(|(_, part)| part).collect();
        for (i, part) in parts.iter().enumerate() {
            let apart = parts[..i].iter().all(|other| other.offset.abs_diff(part.offset) >= width);
            assert!(apart, "queries, keys and values are different columns");
        }
        let gradient = graph.temporary_like(projection);
        if parts.len() * width < parts[0].stride {
            graph.zero(gradient, 0..graph.len(gradient));
        }
        gradient
    }
}
