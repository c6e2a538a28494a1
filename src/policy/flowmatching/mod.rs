//! Seed 001's network: a vision transformer for each camera, a condition, and action tokens that it is added to.
//!
//! ```text
//! camera → resized → ViT → class token            (its weights serve all cameras; a missing camera gives zeros)
//! [state → state_proj | class tokens → vision_proj] → cond_network → condition
//! [action_in_proj(x_t) | time] → action_time_mlp (+ slot) + condition → post-norm layers → action_out_proj → velocity
//! ```
//! Names and sizes are LeRobot's, whose checkpoints load unchanged. What is seen is encoded once a chunk; of the first
//! product over [action | time] the time's part is computed once a program.

mod config;

pub use config::FlowMatchingConfig;

use super::network::{Euler, Time};
use super::{Config, Family, Seen};
use crate::graph::ops::{Bias, Linear};
use crate::graph::{Graph, Init, ParamId, Params, Value};
use crate::kernels::activation::Activation;
use crate::kernels::time_embedding::TimeFeatures;
use crate::nn::{EncoderLayer, LayerSizes, Projection, Vit};

/// Time features: sines, then cosines, of periods from 4e-3 to 4.
const TIME: TimeFeatures = TimeFeatures::Periods { min: 4e-3, max: 4.0 };

/// The network: its parameters' places and its sizes.
#[derive(Debug, Clone)]
pub struct FlowMatching {
    sizes: FlowMatchingConfig,
    chunk: usize,
    vision: Option<Vision>,
    state_proj: Option<Projection>,
    cond_network: [Projection; 3],
    action_in_proj: Projection,
    action_time_mlp: [Projection; 2],
    layers: Vec<EncoderLayer>,
    action_out_proj: Projection,
    action_pos_embed: Option<ParamId>,
}

/// What looks at pictures.
#[derive(Debug, Clone)]
struct Vision {
    encoder: Vit,
    /// Of all cameras' class tokens side by side.
    proj: Projection,
}

impl FlowMatching {
    /// Declares the parameters of a configuration, under LeRobot's names.
    ///
    /// # Panics
    /// If the configuration is of another family, or was not checked: [`Config::parse`] checks.
    pub fn new(config: &Config, params: &mut Params) -> Self {
        let Family::FlowMatching(sizes) = config.family.clone() else {
            panic!("a configuration of this family")
        };
        let (d, cameras) = (sizes.hidden_dim, config.images().count());
        let named = |name: &str| format!("model.{name}");
        let encoder = (cameras > 0).then(|| {
            params.at_rate(sizes.vision_rate(), |params| {
                Vit::new(params, &named("vision_encoder.vit_encoder"), sizes.vit())
            })
        });
        // PyTorch's first values make what passes through a layer √3 times smaller, and a ReLU √2 times: behind four layers
        // little is left of a picture. The seed starts so; here a layer keeps the size of what it is given.
        let [keep, keep_relu] = if sizes.action_pos_embed { [3_f64.sqrt(), 6_f64.sqrt()] } else { [1.0; 2] };
        let mut linear = |name: &str, inputs, outputs, factor| {
            Projection::spread(params, &named(name), inputs, outputs, factor)
        };
        let state_proj = (config.state_dim() > 0).then(|| linear("state_proj", sizes.max_state_dim, d, 1.0));
        let vision = encoder.map(|encoder| {
            let proj = linear("vision_proj", cameras * sizes.vit_embed_dim, d, keep);
            Vision { encoder, proj }
        });
        let conditions = usize::from(state_proj.is_some()) + usize::from(vision.is_some());
        let cond_network = [
            linear("cond_network.0", conditions * d, d, keep_relu),
            linear("cond_network.2", d, d, keep_relu),
            linear("cond_network.4", d, d, keep),
        ];
        let action_in_proj = linear("action_in_proj", sizes.max_action_dim, d, 1.0);
        let action_time_mlp =
            [linear("action_time_mlp_in", 2 * d, d, 1.0), linear("action_time_mlp_out", d, d, 1.0)];
        let layer = LayerSizes {
            width: d,
            heads: sizes.denoiser_heads,
            feedforward: 4 * d,
            activation: Activation::Gelu,
        };
        let layers = (0..sizes.denoiser_layers)
            .map(|i| EncoderLayer::new(params, &named(&format!("denoising_network.{i}")), layer))
            .collect();
        let action_out_proj = Projection::new(params, &named("action_out_proj"), d, sizes.max_action_dim);
        let shape = [1, config.chunk_size, d];
        let action_pos_embed = sizes
            .action_pos_embed
            .then(|| params.declare(named("action_pos_embed"), &shape, Init::Normal(0.02)));
        Self {
            chunk: config.chunk_size,
            vision,
            state_proj,
            cond_network,
            action_in_proj,
            action_time_mlp,
            layers,
            action_out_proj,
            action_pos_embed,
            sizes,
        }
    }

    /// The condition [B, d] of what is seen: cameras [B, 3, H, W] and state [B, S].
    pub fn encode(&self, graph: &mut Graph, seen: &Seen) -> Value {
        let mut parts = Vec::new();
        if let (Some(proj), Some(state)) = (&self.state_proj, seen.state) {
            let (batch, width) = graph.rows(state);
            let padding = self.sizes.max_state_dim - width;
            let padding =
                (padding > 0).then(|| graph.constant(&[batch, padding], vec![0.0; batch * padding]));
            let state: Vec<Value> = [state].into_iter().chain(padding).collect();
            let state = proj.of_parts(graph, &state);
            parts.push(graph.linear(state));
        }
        if let Some(Vision { encoder, proj }) = &self.vision {
            let there: Vec<Value> = seen.images.iter().copied().flatten().collect();
            let mut features = encoder.class_tokens(graph, &there).into_iter();
            let batch = there.first().or(seen.state.as_ref()).map_or(0, |value| graph.shape(*value)[0]);
            let width = self.sizes.vit_embed_dim;
            let tokens: Vec<Value> = (seen.images.iter())
                .map(|camera| match camera.and_then(|_| features.next()) {
                    Some(token) => token,
                    None => graph.constant(&[batch, width], vec![0.0; batch * width]),
                })
                .collect();
            let tokens = proj.of_parts(graph, &tokens);
            parts.push(graph.linear(tokens));
        }
        let [first, second, third] = &self.cond_network;
        let joined = first.of_parts(graph, &parts).activation(Activation::Relu);
        let x = graph.linear(joined);
        let x = graph.linear(second.of(x).activation(Activation::Relu));
        graph.linear(third.of(x))
    }

    /// What the first product over [action | time] makes of a solver's times, a row [d] for each, its bias included.
    pub fn time_table(&self, graph: &mut Graph, times: &[f64]) -> Value {
        let d = self.sizes.hidden_dim;
        let features = times.iter().flat_map(|&t| TIME.at(t, d)).map(|v| v as f32).collect();
        let features = graph.constant(&[times.len(), d], features);
        let [first, _] = &self.action_time_mlp;
        graph.linear(Linear { bias: Bias::Param(first.bias), ..first.of_columns(features, d) })
    }

    /// The velocity [B·H, N] at x [B, H, N] under a condition [B, d], or a step along it.
    pub fn velocity(
        &self,
        graph: &mut Graph,
        condition: Value,
        x: Value,
        time: Time,
        step: Option<Euler>,
    ) -> Value {
        let (batch, d) = (graph.shape(x)[0], self.sizes.hidden_dim);
        let slots = batch * self.chunk;
        let [first, second] = &self.action_time_mlp;
        let action = graph.linear(self.action_in_proj.of(x));
        let first = match time {
            Time::Row { table, row } => {
                Linear { bias: Bias::Row { table, first: row * d }, ..first.of_columns(action, 0) }
            }
            Time::Given(t) => {
                let features = graph.time_embedding(t, d, TIME);
                let times = graph.len(t);
                let zeros = graph.constant(&[slots, d], vec![0.0; slots * d]);
                let features = graph.add_rows(zeros, features, slots / times, times);
                first.of_parts(graph, &[action, features])
            }
        };
        let hidden = graph.linear(first.activation(Activation::Silu));
        let mut embed = second.of(hidden);
        if let Some(embedding) = self.action_pos_embed {
            embed = embed.plus(graph.param(embedding), self.chunk);
        }
        let tokens = graph.linear(embed);
        let mut tokens = graph.add_rows(tokens, condition, self.chunk, batch);
        for layer in &self.layers {
            tokens = layer.apply(graph, tokens, batch);
        }
        let mut head = self.action_out_proj.of(tokens);
        if let Some(Euler { from, size }) = step {
            head = head.plus(from, slots);
            head.alpha = size as f32;
        }
        graph.linear(head)
    }
}
