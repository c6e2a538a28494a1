//! Seed 002's and seed 004's networks: a whole chunk, its time and the state through a few wide layers.
//!
//! | layout | what it computes |
//! |---|---|
//! | `concat` | layers over [x_t, time features, state], an activation between any two |
//! | `residual` | x_embed(x_t) + obs_embed(state) + time features; h ← h + f(D₂ f(D₁ h)) for each block; velocity_proj(h) |
//!
//! The chunk is flattened, so that slots are told apart. What does not change over a solver's steps is multiplied once:
//! the state's part of the first layer once a chunk, the times' part once a program.

use super::network::{Euler, Time};
use super::{Config, Family, Layout, Unconditional, VelocityMlpConfig};
use crate::graph::ops::{Bias, Linear, Part, Residual};
use crate::graph::{Graph, Init, ParamId, Params, Value};
use crate::nn::Projection;

/// The network: its parameters' places and its sizes.
#[derive(Debug, Clone)]
pub struct VelocityMlp {
    sizes: VelocityMlpConfig,
    /// H · A.
    chunk: usize,
    body: Body,
    unconditional: Option<ParamId>,
}

#[derive(Debug, Clone)]
enum Body {
    Concat { first: Projection, rest: Vec<Projection> },
    Residual { x_embed: Projection, obs_embed: Projection, blocks: Vec<[Projection; 2]>, head: Projection },
}

/// What a network keeps of a state.
#[derive(Debug, Clone, Copy)]
pub enum StateMemory {
    /// The state itself: a layer that learns needs it.
    State(Value),
    /// The state's part of the first layer, with its bias.
    Product(Value),
}

impl VelocityMlp {
    /// Declares the parameters of a configuration, under the reference PyTorch module's names. Seed 002 starts as
    /// PyTorch does; seed 004 with Glorot's uniform weights and zero biases.
    ///
    /// # Panics
    /// If the configuration is of another family.
    pub fn new(config: &Config, params: &mut Params) -> Self {
        let Family::VelocityMlp(sizes) = config.family.clone() else {
            panic!("a configuration of this family")
        };
        let chunk = config.chunk_size * config.action().1;
        let observed = config.n_obs_steps * config.state_dim();
        let (hidden, layers) = (sizes.hidden_dim, sizes.num_layers);
        let body = match sizes.layout {
            Layout::Concat => {
                let width = |i: usize| if i + 1 == layers { chunk } else { hidden };
                let mut declare =
                    |i: usize, inputs| Projection::new(params, &format!("layers.{i}"), inputs, width(i));
                let first = declare(0, chunk + sizes.time_dim + observed);
                Body::Concat { first, rest: (1..layers).map(|i| declare(i, hidden)).collect() }
            }
            Layout::Residual => {
                let x_embed = glorot(params, "x_embed", chunk, hidden);
                let obs_embed = glorot(params, "obs_embed", observed, hidden);
                let block = |i| [0, 1].map(|j| glorot(params, &format!("blocks.{i}.{j}"), hidden, hidden));
                let blocks = (0..layers).map(block).collect();
                let head = glorot(params, "velocity_proj", hidden, chunk);
                Body::Residual { x_embed, obs_embed, blocks, head }
            }
        };
        let learned = config.unconditional == Unconditional::Learned;
        let unconditional = learned.then(|| params.declare("unconditional", &[observed], Init::Zeros));
        Self { sizes, chunk, body, unconditional }
    }

    /// A state [B, T·S] with the learned one added where `dropped` [B, 1] is 1; there the state itself is zeros.
    pub fn observe(&self, graph: &mut Graph, state: Value, dropped: Option<Value>) -> Value {
        let (Some(weight), Some(dropped)) = (self.unconditional, dropped) else { return state };
        let (rows, columns) = graph.rows(state);
        let mut added = Linear::new(dropped, weight, weight, 0..columns).plus(state, rows);
        added.bias = Bias::None;
        graph.linear(added)
    }

    /// Encodes a state [B, T·S].
    pub fn encode(&self, graph: &mut Graph, state: Value) -> StateMemory {
        if graph.training().is_some() {
            return StateMemory::State(state);
        }
        let product = match &self.body {
            Body::Concat { first, .. } => {
                let column = self.chunk + self.sizes.time_dim;
                Linear { bias: Bias::Param(first.bias), ..first.of_columns(state, column) }
            }
            Body::Residual { obs_embed, .. } => obs_embed.of(state),
        };
        StateMemory::Product(graph.linear(product))
    }

    /// What the network makes of a solver's times, a row for each.
    pub fn time_table(&self, graph: &mut Graph, times: &[f64]) -> Value {
        let dim = self.sizes.time_dim;
        let features = times.iter().flat_map(|&t| self.sizes.time_features.at(t, dim)).map(|v| v as f32);
        let features = graph.constant(&[times.len(), dim], features.collect());
        match &self.body {
            Body::Concat { first, .. } => graph.linear(first.of_columns(features, self.chunk)),
            Body::Residual { x_embed, .. } => {
                let bias = graph.param(x_embed.bias);
                graph.add_rows(features, bias, 1, 1)
            }
        }
    }

    /// The velocity [B, H·A] at x [B, H, A], or a step along it.
    pub fn velocity(
        &self,
        graph: &mut Graph,
        memory: StateMemory,
        x: Value,
        time: Time,
        step: Option<Euler>,
    ) -> Value {
        let batch = graph.shape(x)[0];
        graph.reshape(x, &[batch, self.chunk]);
        let features = match time {
            Time::Given(t) => Some(graph.time_embedding(t, self.sizes.time_dim, self.sizes.time_features)),
            Time::Row { .. } => None,
        };
        let (mut h, head) = match &self.body {
            Body::Concat { first, rest } => {
                let mut h = self.first_layer(graph, first, memory, x, features, time);
                let Some((head, hidden)) = rest.split_last() else {
                    return step.map_or(h, |Euler { from, size }| graph.combine(&[(1.0, from), (size, h)]));
                };
                h = self.activate(graph, h);
                for layer in hidden {
                    h = graph.linear_dropped(layer.of(h).activation(self.sizes.activation));
                }
                (h, head)
            }
            Body::Residual { x_embed, obs_embed, head, .. } => {
                let observed = match memory {
                    StateMemory::State(state) => graph.linear(obs_embed.of(state)),
                    StateMemory::Product(product) => product,
                };
                let mut embed = x_embed.of(x).plus(observed, batch);
                if let Time::Row { table, row } = time {
                    embed.bias = Bias::Row { table, first: row * self.sizes.hidden_dim };
                }
                let h = graph.linear(embed);
                (features.map_or(h, |features| graph.add_rows(h, features, 1, batch)), head)
            }
        };
        if let Body::Residual { blocks, .. } = &self.body {
            for [first, second] in blocks {
                let inner = graph.linear_dropped(first.of(h).activation(self.sizes.activation));
                h = graph.linear(second.of(inner).activation(self.sizes.activation).plus(h, batch));
            }
        }
        let mut head = head.of(h);
        if let Some(Euler { from, size }) = step {
            graph.reshape(from, &[batch, self.chunk]);
            head = head.plus(from, batch);
            head.alpha = size as f32;
        }
        graph.linear(head)
    }

    /// [x, time, state] Wᵀ + b, not activated.
    fn first_layer(
        &self,
        graph: &mut Graph,
        first: &Projection,
        memory: StateMemory,
        x: Value,
        features: Option<Value>,
        time: Time,
    ) -> Value {
        let rows = graph.rows(x).0;
        match (memory, features, time) {
            (StateMemory::State(state), Some(features), _) => {
                graph.linear(first.of_parts(graph, &[x, features, state]))
            }
            (StateMemory::Product(product), _, Time::Row { table, row }) => {
                let bias = Bias::Row { table, first: row * first.outputs };
                graph.linear(Linear { bias, ..first.of_columns(x, 0) }.plus(product, rows))
            }
            (StateMemory::Product(product), Some(features), _) => {
                let parts = vec![Part { x, column: 0 }, Part { x: features, column: self.chunk }];
                let residual = Some(Residual { value: product, rows });
                graph.linear(Linear { inputs: parts, residual, ..first.of_columns(x, 0) })
            }
            (StateMemory::State(_), ..) => panic!("a solver's times have no backward pass"),
            (StateMemory::Product(_), None, Time::Given(_)) => panic!("a time has features"),
        }
    }

    fn activate(&self, graph: &mut Graph, x: Value) -> Value {
        let x = graph.activation(x, self.sizes.activation);
        graph.dropout(x, None)
    }
}

/// A linear layer with Glorot's uniform weights and zero biases, as Axon starts them.
fn glorot(params: &mut Params, name: &str, inputs: usize, outputs: usize) -> Projection {
    Projection {
        weight: params.declare_weight(
            format!("{name}.weight"),
            &[outputs, inputs],
            Init::xavier(inputs, outputs),
        ),
        bias: params.declare(format!("{name}.bias"), &[outputs], Init::Zeros),
        outputs,
    }
}
