//! The patch decoder in Burn's modules; tests/golden/patch_decoder.py is the reference.
//!
//!     image [B, 3, 128, 128] --conv, GELU, + positions--> [B, 64, 64] --encoder--> memory [B, 64, 64]
//!     x_t [B, 8, 2] --linear, + time--> [B, 8, 64] --decoder over memory, linear--> velocity [B, 8, 2]

use burn::module::{Initializer, Param};
use burn::nn::activation::ActivationConfig;
use burn::nn::attention::{
    CrossAttention, CrossAttentionCache, CrossAttentionConfig, MhaInput, MultiHeadAttention,
    MultiHeadAttentionConfig,
};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::transformer::{
    PositionWiseFeedForward, PositionWiseFeedForwardConfig, TransformerEncoder, TransformerEncoderConfig,
    TransformerEncoderInput,
};
use burn::nn::{Dropout, DropoutConfig, Gelu, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::prelude::*;

const WIDTH: usize = 64;
const PATCH: usize = 16;
const PATCHES: usize = 64;
const ACTION_DIM: usize = 2;
const FEED_FORWARD: usize = 256;
const LAYERS: usize = 2;
const ENCODER_HEADS: usize = 4;
const DECODER_HEADS: usize = 2;
const DROPOUT: f64 = 0.1;

#[derive(Module, Debug)]
pub struct PatchDecoder {
    patch_embed: Conv2d,
    gelu: Gelu,
    pos_embed: Param<Tensor<3>>,
    transformer_encoder: TransformerEncoder,
    action_proj: Linear,
    transformer_decoder: Vec<DecoderLayer>,
    velocity_head: Linear,
    /// [1, 32]: what the time is multiplied by.
    frequencies: Tensor<2>,
}

impl PatchDecoder {
    pub fn new(device: &Device) -> Self {
        let frequency = |i: usize| 10000f64.powf(-2.0 * i as f64 / WIDTH as f64) as f32;
        let frequencies: Vec<f32> = (0..WIDTH / 2).map(frequency).collect();
        Self {
            patch_embed: Conv2dConfig::new([3, WIDTH], [PATCH, PATCH])
                .with_stride([PATCH, PATCH])
                .init(device),
            gelu: Gelu::new(),
            pos_embed: Initializer::Normal { mean: 0.0, std: 0.02 }.init([1, PATCHES, WIDTH], device),
            transformer_encoder: TransformerEncoderConfig::new(WIDTH, FEED_FORWARD, ENCODER_HEADS, LAYERS)
                .with_dropout(DROPOUT)
                .with_activation(ActivationConfig::Relu)
                .init(device),
            action_proj: LinearConfig::new(ACTION_DIM, WIDTH).init(device),
            transformer_decoder: (0..LAYERS).map(|_| DecoderLayer::new(device)).collect(),
            velocity_head: LinearConfig::new(WIDTH, ACTION_DIM).init(device),
            frequencies: Tensor::from_data(TensorData::new(frequencies, [1, WIDTH / 2]), device),
        }
    }

    /// images [B, 3, 128, 128], from 0 to 1 -> memory [B, 64, 64]
    pub fn encode(&self, images: Tensor<4>) -> Tensor<3> {
        let patches = self.gelu.forward(self.patch_embed.forward(images));
        let patches = patches.flatten::<3>(2, 3).swap_dims(1, 2);
        self.transformer_encoder.forward(TransformerEncoderInput::new(patches + self.pos_embed.val()))
    }

    /// times [N, 1] -> [N, 64]: sines at even places, cosines at odd ones
    pub fn time_embedding(&self, times: Tensor<2>) -> Tensor<2> {
        let angles = times * self.frequencies.clone();
        Tensor::stack::<3>(vec![angles.clone().sin(), angles.cos()], 2).flatten(1, 2)
    }

    /// memory [B, 64, 64], x [B, 8, 2], time [B or 1, 1, 64] -> velocity [B, 8, 2]
    pub fn decode(&self, memory: Tensor<3>, x: Tensor<3>, time: Tensor<3>) -> Tensor<3> {
        let queries = self.action_proj.forward(x) + time;
        let attend = |layer: &DecoderLayer, x| layer.cross_attn.forward(x, memory.clone(), None);
        let layers = self.transformer_decoder.iter();
        self.velocity_head.forward(layers.fold(queries, |x, layer| layer.forward(x, |x| attend(layer, x))))
    }

    /// memory [B, 64, 64], noise [B, 8, 2] -> actions [B, 8, 2]: Euler steps from noise at time 0, with the keys and
    /// values of the memory computed in the first of them
    pub fn sample(&self, memory: Tensor<3>, noise: Tensor<3>, steps: usize) -> Tensor<3> {
        let times = Tensor::<1, Int>::arange(0..steps as i64, &noise.device()).float() / steps as f64;
        let embedded = self.time_embedding(times.unsqueeze_dim(1));
        let mut caches: Vec<CrossAttentionCache> = (0..LAYERS).map(|_| CrossAttentionCache::new()).collect();
        let mut x = noise;
        for step in 0..steps {
            let time = embedded.clone().slice([step..step + 1]).unsqueeze::<3>();
            let mut queries = self.action_proj.forward(x.clone()) + time;
            for (layer, cache) in self.transformer_decoder.iter().zip(&mut caches) {
                queries = layer
                    .forward(queries, |x| layer.cross_attn.forward_cache(x, memory.clone(), None, cache));
            }
            x = x + self.velocity_head.forward(queries) / steps as f64;
        }
        x
    }
}

/// Burn's `TransformerDecoderLayer` with its `CrossAttention` in place of its `MultiHeadAttention`: that one's cache
/// suits a decoder whose queries change from step to step.
#[derive(Module, Debug)]
struct DecoderLayer {
    self_attn: MultiHeadAttention,
    cross_attn: CrossAttention,
    pwff: PositionWiseFeedForward,
    norm_1: LayerNorm,
    norm_2: LayerNorm,
    norm_3: LayerNorm,
    dropout: Dropout,
}

impl DecoderLayer {
    fn new(device: &Device) -> Self {
        let norm = || LayerNormConfig::new(WIDTH).init(device);
        let head = WIDTH / DECODER_HEADS;
        Self {
            self_attn: MultiHeadAttentionConfig::new(WIDTH, DECODER_HEADS).with_dropout(DROPOUT).init(device),
            cross_attn: CrossAttentionConfig::new(WIDTH, WIDTH, DECODER_HEADS, DECODER_HEADS, head)
                .with_dropout(DROPOUT)
                .init(device),
            pwff: PositionWiseFeedForwardConfig::new(WIDTH, FEED_FORWARD)
                .with_dropout(DROPOUT)
                .with_activation(ActivationConfig::Relu)
                .init(device),
            norm_1: norm(),
            norm_2: norm(),
            norm_3: norm(),
            dropout: DropoutConfig::new(DROPOUT).init(),
        }
    }

    fn forward(&self, x: Tensor<3>, attend: impl FnOnce(Tensor<3>) -> Tensor<3>) -> Tensor<3> {
        let y = self.self_attn.forward(MhaInput::self_attn(x.clone())).context;
        let x = self.norm_1.forward(x + self.dropout.forward(y));
        let y = attend(x.clone());
        let x = self.norm_2.forward(x + self.dropout.forward(y));
        let y = self.pwff.forward(x.clone());
        self.norm_3.forward(x + self.dropout.forward(y))
    }
}
