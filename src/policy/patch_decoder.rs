//! Seed 000's network: patches of an image, encoded once, and action tokens that look at them.
//!
//! Image → patches → linear → GELU → + position → encoder layers → memory. Noisy actions → linear → + time
//! (+ slot) → decoder layers over the memory → velocity. A network that sees several frames stacks them by
//! channel: motion is a local difference, which a patch of both frames shows to one product, and the number of
//! tokens, the cost of attention, stays as it was.

use super::network::{Euler, Time};
use super::{Config, Family, InitialValues, PatchDecoderConfig};
use crate::graph::ops::{Bias, Columns, DecoderShape};
use crate::graph::{Graph, Init, ParamId, Params, Value};
use crate::kernels::activation::Activation;
use crate::kernels::decoder_steps::DecoderOf;
use crate::kernels::time_embedding::TimeFeatures;
use crate::nn::{
    DecoderLayer, EncoderLayer, KeysValues, LayerSizes, Projection, grid_positions, patch_weights,
};

/// Time features: sine on even, cosine on odd dimensions, 10000^(−2i/d).
const TIME: TimeFeatures = TimeFeatures::Interleaved { max_period: 10_000.0 };

/// Amplitude of the first positions: about as large as what patches of a mostly white picture say.
const POSITIONS: f64 = 0.5;

/// The network: its parameters' places and its sizes.
#[derive(Debug, Clone)]
pub struct PatchDecoder {
    sizes: PatchDecoderConfig,
    chunk: usize,
    patch_embed: Projection,
    pos_embed: ParamId,
    encoder: Vec<EncoderLayer>,
    decoder: Vec<DecoderLayer>,
    action_proj: Projection,
    velocity_head: Projection,
    action_pos_embed: Option<ParamId>,
}

/// What the encoder leaves for the decoder: each layer's keys and values.
pub type Layers = Vec<KeysValues>;

impl PatchDecoder {
    /// Declares the parameters of a configuration, under the reference PyTorch module's names.
    ///
    /// # Panics
    /// If the configuration is of another family, or was not checked: [`Config::parse`] checks.
    pub fn new(config: &Config, params: &mut Params) -> Self {
        let Family::PatchDecoder(sizes) = config.family.clone() else {
            panic!("a configuration of this family")
        };
        let (_, image) = config.images().next().expect("a checked configuration has an image");
        let [channels, height, width] = [3 * config.n_obs_steps, image.shape[1], image.shape[2]];
        let (d, patch) = (sizes.d_model, sizes.patch_size);
        let (grid, fan_in) = ([height / patch, width / patch], channels * patch * patch);
        // A convolution whose stride is its size is a product over patches; its weight keeps PyTorch's shape.
        // The seed starts as PyTorch does, with positions at N(0, 0.02) and a weight of its own for each pixel, and spends most
        // of its training on finding out where patches are and that red is red wherever it lies in one. Here sines and
        // cosines of row and column say the first from the start, and a weight for each of a patch's channels the second;
        // white, the colour of nothing, is nothing to the product.
        let tokens = grid[0] * grid[1];
        let shape = [d, channels, patch, patch];
        let name = "patch_embed.0";
        let (weight, bias, positions) = match sizes.initial_values {
            InitialValues::Grid => {
                let first = patch_weights(patch, 1.0);
                let weight = params.declare_weight(format!("{name}.weight"), &shape, first);
                let white = Init::MinusProduct(weight, vec![1.0; fan_in]);
                (weight, white, Init::Values(grid_positions(grid, d, POSITIONS)))
            }
            InitialValues::Pytorch => {
                let weight = params.declare_weight(format!("{name}.weight"), &shape, Init::fan_in(fan_in));
                (weight, Init::fan_in(fan_in), Init::Normal(0.02))
            }
        };
        let bias = params.declare(format!("{name}.bias"), &[d], bias);
        let patch_embed = Projection { weight, bias, outputs: d };
        let pos_embed = params.declare("pos_embed", &[1, tokens, d], positions);
        let layer = |heads| LayerSizes {
            width: d,
            heads,
            feedforward: sizes.dim_feedforward,
            activation: Activation::Relu,
        };
        let encoder = (0..sizes.encoder_layers).map(|i| {
            EncoderLayer::new(params, &format!("transformer_encoder.layers.{i}"), layer(sizes.encoder_heads))
        });
        let encoder = encoder.collect();
        let decoder = (0..sizes.decoder_layers).map(|i| {
            DecoderLayer::new(params, &format!("transformer_decoder.layers.{i}"), layer(sizes.decoder_heads))
        });
        let decoder = decoder.collect();
        let (_, dims) = config.action();
        let action_proj = Projection::new(params, "action_proj", dims, d);
        let velocity_head = Projection::new(params, "velocity_head", d, dims);
        let action_pos_embed = sizes
            .action_pos_embed
            .then(|| params.declare("action_pos_embed", &[1, config.chunk_size, d], Init::Normal(0.02)));
        Self {
            chunk: config.chunk_size,
            patch_embed,
            pos_embed,
            encoder,
            decoder,
            action_proj,
            velocity_head,
            action_pos_embed,
            sizes,
        }
    }

    /// Encodes images [B, 3·T, H, W].
    pub fn encode(&self, graph: &mut Graph, images: Value) -> Layers {
        let memory = self.memory(graph, images);
        self.decoder.iter().map(|layer| layer.keys_values(graph, memory)).collect()
    }

    /// What the encoder makes of images, [B·N, d].
    fn memory(&self, graph: &mut Graph, images: Value) -> Value {
        let batch = graph.shape(images)[0];
        let patches = graph.patchify(images, self.sizes.patch_size);
        let positions = graph.param(self.pos_embed);
        let tokens = graph.rows(patches).0 / batch;
        let embed = self.patch_embed.of(patches).activation(Activation::Gelu).plus(positions, tokens);
        let mut x = graph.linear(embed);
        for layer in &self.encoder {
            x = layer.apply(graph, x, batch);
        }
        x
    }

    /// From images and noise [B, H, A] to the end of as many Euler steps as there are times, of length `size` each, with
    /// one launch for the whole decoder; nothing where its sizes have no such launch.
    pub fn sample_in_one_launch(
        &self,
        graph: &mut Graph,
        images: Value,
        noise: Value,
        times: &[f64],
        size: f64,
    ) -> Option<Value> {
        let (d, layers) = (self.sizes.d_model, self.decoder.len());
        let decoder = DecoderOf {
            layers: self.decoder.iter().map(DecoderLayer::parameters).collect(),
            velocity_head: self.velocity_head.parameters(),
            action_proj: self.action_proj.weight,
            action_pos_embed: self.action_pos_embed,
        };
        let batch = graph.shape(noise)[0];
        let shape = DecoderShape {
            batch,
            slots: self.chunk,
            heads: self.sizes.decoder_heads,
            keys: graph.params().get(self.pos_embed).shape[1],
            steps: times.len(),
            size,
        };
        let launch = graph.decoder_launch(&decoder, shape)?;
        let table = self.time_table(graph, times);
        let seen = self.memory(graph, images);
        let memory = graph.temporary(&[batch * shape.keys, layers * 2 * d]);
        for (l, layer) in self.decoder.iter().enumerate() {
            layer.keys_values_into(graph, seen, Columns { value: memory, first: l * 2 * d });
        }
        Some(graph.decoder_steps(launch, memory, noise, table))
    }

    /// What the network makes of a solver's times, a row for each: their features, added to the action projection's
    /// bias, are one small sum.
    pub fn time_table(&self, graph: &mut Graph, times: &[f64]) -> Value {
        let d = self.sizes.d_model;
        let features = times.iter().flat_map(|&t| TIME.at(t, d)).map(|v| v as f32).collect();
        let features = graph.constant(&[times.len(), d], features);
        let bias = graph.param(self.action_proj.bias);
        graph.add_rows(features, bias, 1, 1)
    }

    /// The velocity [B·H, A] at x [B, H, A], or a step along it.
    pub fn velocity(
        &self,
        graph: &mut Graph,
        memory: &Layers,
        x: Value,
        time: Time,
        step: Option<Euler>,
    ) -> Value {
        let (batch, d) = (graph.shape(x)[0], self.sizes.d_model);
        let slots = batch * self.chunk;
        let mut project = self.action_proj.of(x);
        if let Some(embedding) = self.action_pos_embed {
            project = project.plus(graph.param(embedding), self.chunk);
        }
        if let Time::Row { table, row } = time {
            project.bias = Bias::Row { table, first: row * d };
        }
        let mut tokens = graph.linear(project);
        if let Time::Given(t) = time {
            let features = graph.time_embedding(t, d, TIME);
            let times = graph.len(t);
            tokens = graph.add_rows(tokens, features, slots / times, times);
        }
        let tokens = self.decode(graph, memory, tokens, batch);
        let mut head = self.velocity_head.of(tokens);
        if let Some(Euler { from, size }) = step {
            head = head.plus(from, slots);
            head.alpha = size as f32;
        }
        graph.linear(head)
    }

    fn decode(&self, graph: &mut Graph, memory: &Layers, mut tokens: Value, batch: usize) -> Value {
        for (layer, memory) in self.decoder.iter().zip(memory) {
            tokens = layer.apply(graph, tokens, *memory, batch);
        }
        tokens
    }
}
