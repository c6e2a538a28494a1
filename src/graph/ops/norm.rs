//! Layer norm over the last dimension.

use crate::graph::backward::Backward;
use crate::graph::{Graph, ParamId, Value};
use crate::kernels::layer_norm::LayerNorm;
use crate::kernels::layer_norm_backward::{LayerNormBackward, LayerNormBackwardParams};

impl Graph {
    /// γ (x − mean) / √(variance + eps) + β, row by row.
    pub fn layer_norm(&mut self, x: Value, gamma: ParamId, beta: ParamId, eps: f32) -> Value {
        let (rows, columns) = self.rows(x);
        let (y, stats) = (self.temporary(&[rows, columns]), self.temporary(&[rows, 2]));
        let (gamma_value, beta_value) = (self.param(gamma), self.param(beta));
        self.launch(
            LayerNorm { rows, width: columns, eps },
            &[Some(x), Some(gamma_value), Some(beta_value)],
            &[y, stats],
        );
        self.record(NormBackward { x, rows, columns, gamma, beta, y, stats });
        y
    }
}

struct NormBackward {
    x: Value,
    rows: usize,
    columns: usize,
    gamma: ParamId,
    beta: ParamId,
    y: Value,
    stats: Value,
}

impl Backward for NormBackward {
    fn output(&self) -> Value {
        self.y
    }

    fn backward(&self, graph: &mut Graph, upstream: Value) {
        let &Self { rows, columns, .. } = self;
        graph.parameter_gradient(self.gamma, 0..columns, |graph, d_gamma| {
            graph.parameter_gradient(self.beta, 0..columns, |graph, d_beta| {
                graph.launch(
                    LayerNormBackwardParams { rows, width: columns },
                    &[Some(self.x), Some(self.stats), Some(upstream)],
                    &[d_gamma, d_beta],
                );
            });
        });
        if graph.needs_grad(self.x) {
            let earlier = graph.gradient_so_far(self.x);
            let dx = graph.temporary(&[rows, columns]);
            let gamma = graph.param(self.gamma);
            graph.launch(
                LayerNormBackward { rows, width: columns, extra: earlier.is_some() },
                &[Some(self.x), Some(gamma), Some(self.stats), Some(upstream), earlier],
                &[dx],
            );
            graph.set_gradient(self.x, dx);
        }
    }
}
