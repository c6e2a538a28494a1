//! The patch decoder as a Meganeura graph; tests/golden/patch_decoder.py is the reference.
//!
//! Meganeura's matrices have two dimensions, and its attention knows heads but no batch. So tokens come first and
//! batch second: N tokens of B images are a matrix [N B, 64] to a linear layer and, reinterpreted, [N, B 64] to the
//! attention, which takes the heads of all images for heads of one.

use meganeura::nn::{Activation, Conv2d, LayerNorm, Linear, Mlp};
use meganeura::{Graph, NodeId};

pub const WIDTH: usize = 64;
pub const PATCHES: usize = 64;
pub const SLOTS: usize = 8;
pub const ACTION_DIM: usize = 2;
const FEED_FORWARD: usize = 256;
const LAYERS: usize = 2;
const ENCODER_HEADS: usize = 4;
const DECODER_HEADS: usize = 2;
const LAYER_NORM_EPS: f32 = 1e-5;

/// The graph of a sample: inputs `image` [B 3 128 128] and `noise` [8 B, 2], output [8 B, 2]. All solver steps are
/// in it; the encoder, and the keys and values of the memory, are in it once.
pub fn sampler(batch: usize, steps: usize) -> Graph {
    let mut g = Graph::new();
    let network = PatchDecoder::new(&mut g, batch);
    let memory = network.encode(&mut g);
    let mut x = g.input("noise", &[SLOTS * batch, ACTION_DIM]);
    let step_size =
        g.constant(vec![1.0 / steps as f32; SLOTS * batch * ACTION_DIM], &[SLOTS * batch, ACTION_DIM]);
    for step in 0..steps {
        let time = g.constant(time_embedding(step as f32 / steps as f32), &[1, WIDTH]);
        let queries = network.action_proj.forward(&mut g, x);
        let queries = g.broadcast_add(queries, time);
        let velocity = network.decode(&mut g, queries, &memory);
        let change = g.mul(velocity, step_size);
        x = g.add(x, change);
    }
    g.set_outputs(vec![x]);
    g
}

/// The graph of a training loss: inputs `image`, `x_t` and `velocity` [8 B, 2], `time` [8 B, 64].
pub fn trainer(batch: usize) -> Graph {
    let mut g = Graph::new();
    let network = PatchDecoder::new(&mut g, batch);
    let memory = network.encode(&mut g);
    let x_t = g.input("x_t", &[SLOTS * batch, ACTION_DIM]);
    let time = g.input("time", &[SLOTS * batch, WIDTH]);
    let velocity = g.input("velocity", &[SLOTS * batch, ACTION_DIM]);
    let queries = network.action_proj.forward(&mut g, x_t);
    let queries = g.add(queries, time);
    let predicted = network.decode(&mut g, queries, &memory);
    let loss = g.mse_loss(predicted, velocity);
    g.set_outputs(vec![loss]);
    g
}

/// Sines at even places, cosines at odd ones.
pub fn time_embedding(t: f32) -> Vec<f32> {
    let angle = |i: usize| f64::from(t) * 10000f64.powf(-((i - i % 2) as f64) / WIDTH as f64);
    let value = |i: usize| if i.is_multiple_of(2) { angle(i).sin() } else { angle(i).cos() };
    (0..WIDTH).map(|i| value(i) as f32).collect()
}

struct PatchDecoder {
    batch: usize,
    patch_embed: Conv2d,
    patch_bias: NodeId,
    /// [1, 64 64]: channels first, as the convolution leaves them.
    pos_embed: NodeId,
    encoder: Vec<EncoderLayer>,
    action_proj: Linear,
    decoder: Vec<DecoderLayer>,
    velocity_head: Linear,
}

struct EncoderLayer {
    self_attn: Attention,
    feed_forward: Mlp,
    norms: Vec<LayerNorm>,
}

struct DecoderLayer {
    self_attn: Attention,
    cross_attn: Attention,
    feed_forward: Mlp,
    norms: Vec<LayerNorm>,
}

/// The memory as one decoder layer sees it.
struct KeysValues {
    keys: NodeId,
    values: NodeId,
}

impl PatchDecoder {
    fn new(g: &mut Graph, batch: usize) -> Self {
        let encoder = (0..LAYERS).map(|i| format!("transformer_encoder.layers.{i}"));
        let encoder = encoder.map(|name| EncoderLayer {
            self_attn: Attention::new(g, &format!("{name}.self_attn"), ENCODER_HEADS, batch, false),
            feed_forward: feed_forward(g, &name),
            norms: norms(g, &name, 2),
        });
        let encoder = encoder.collect();
        let decoder = (0..LAYERS).map(|i| format!("transformer_decoder.layers.{i}"));
        let decoder = decoder.map(|name| DecoderLayer {
            self_attn: Attention::new(g, &format!("{name}.self_attn"), DECODER_HEADS, batch, false),
            cross_attn: Attention::new(g, &format!("{name}.multihead_attn"), DECODER_HEADS, batch, true),
            feed_forward: feed_forward(g, &name),
            norms: norms(g, &name, 3),
        });
        let decoder = decoder.collect();
        Self {
            batch,
            patch_embed: Conv2d::new(g, "patch_embed.0", 3, WIDTH as u32, 16, 128, 128, 16, 0),
            patch_bias: g.parameter("patch_embed.0.bias", &[WIDTH]),
            pos_embed: g.parameter("pos_embed", &[1, WIDTH * PATCHES]),
            encoder,
            action_proj: Linear::new(g, "action_proj", ACTION_DIM, WIDTH),
            decoder,
            velocity_head: Linear::new(g, "velocity_head", WIDTH, ACTION_DIM),
        }
    }

    /// The input `image` -> the memory, for each decoder layer.
    fn encode(&self, g: &mut Graph) -> Vec<KeysValues> {
        let image = g.input("image", &[self.batch * 3 * 128 * 128]);
        let patches = self.patch_embed.forward(g, image, self.batch as u32);
        let patches = g.add_per_channel(patches, self.patch_bias, WIDTH as u32, PATCHES as u32);
        let patches = g.gelu(patches);
        let patches = g.reshape(patches, &[self.batch, WIDTH * PATCHES]);
        let patches = g.broadcast_add(patches, self.pos_embed);
        let patches = g.reshape(patches, &[self.batch * WIDTH, PATCHES]);
        let tokens = g.transpose(patches);
        let mut x = g.reshape(tokens, &[PATCHES * self.batch, WIDTH]);
        for layer in &self.encoder {
            let memory = layer.self_attn.keys_values(g, x);
            let y = layer.self_attn.forward(g, x, &memory);
            x = add_norm(g, &layer.norms[0], x, y);
            let y = layer.feed_forward.forward(g, x);
            x = add_norm(g, &layer.norms[1], x, y);
        }
        self.decoder.iter().map(|layer| layer.cross_attn.keys_values(g, x)).collect()
    }

    /// queries [8 B, 64] -> velocity [8 B, 2]
    fn decode(&self, g: &mut Graph, queries: NodeId, memory: &[KeysValues]) -> NodeId {
        let mut x = queries;
        for (layer, memory) in self.decoder.iter().zip(memory) {
            let own = layer.self_attn.keys_values(g, x);
            let y = layer.self_attn.forward(g, x, &own);
            x = add_norm(g, &layer.norms[0], x, y);
            let y = layer.cross_attn.forward(g, x, memory);
            x = add_norm(g, &layer.norms[1], x, y);
            let y = layer.feed_forward.forward(g, x);
            x = add_norm(g, &layer.norms[2], x, y);
        }
        self.velocity_head.forward(g, x)
    }
}

fn feed_forward(g: &mut Graph, name: &str) -> Mlp {
    Mlp::new(g, &format!("{name}.ff"), WIDTH, FEED_FORWARD, WIDTH, Activation::Relu)
}

fn norms(g: &mut Graph, name: &str, count: usize) -> Vec<LayerNorm> {
    (1..=count).map(|i| LayerNorm::new(g, &format!("{name}.norm{i}"), WIDTH, LAYER_NORM_EPS)).collect()
}

fn add_norm(g: &mut Graph, norm: &LayerNorm, x: NodeId, y: NodeId) -> NodeId {
    let sum = g.add(x, y);
    norm.forward(g, sum)
}

struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    heads: usize,
    batch: usize,
    is_cross: bool,
}

impl Attention {
    fn new(g: &mut Graph, name: &str, heads: usize, batch: usize, is_cross: bool) -> Self {
        let mut linear = |part: &str| Linear::new(g, &format!("{name}.{part}"), WIDTH, WIDTH);
        let [query, key, value, output] = ["query", "key", "value", "out_proj"].map(&mut linear);
        Self { query, key, value, output, heads, batch, is_cross }
    }

    /// x [N B, 64] -> keys and values [N, B 64]
    fn keys_values(&self, g: &mut Graph, x: NodeId) -> KeysValues {
        let [keys, values] = [&self.key, &self.value].map(|linear| {
            let y = linear.forward(g, x);
            self.images_as_heads(g, y)
        });
        KeysValues { keys, values }
    }

    /// x [N B, 64] -> [N B, 64]
    fn forward(&self, g: &mut Graph, x: NodeId, memory: &KeysValues) -> NodeId {
        let query = self.query.forward(g, x);
        let query = self.images_as_heads(g, query);
        let heads = (self.batch * self.heads) as u32;
        let head = (WIDTH / self.heads) as u32;
        let context = g.multi_head_attn(query, memory.keys, memory.values, heads, heads, head, self.is_cross);
        let context = if self.batch > 1 {
            let rows = g.node(context).ty.shape[0] * self.batch;
            g.reshape(context, &[rows, WIDTH])
        } else {
            context
        };
        self.output.forward(g, context)
    }

    /// [N B, 64] -> [N, B 64]
    fn images_as_heads(&self, g: &mut Graph, x: NodeId) -> NodeId {
        if self.batch == 1 {
            return x;
        }
        let rows = g.node(x).ty.shape[0] / self.batch;
        g.reshape(x, &[rows, self.batch * WIDTH])
    }
}
