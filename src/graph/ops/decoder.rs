//! All Euler steps of a small decoder in one launch; inference only.

use crate::graph::{Graph, ParamId, Value};
use crate::kernels::decoder_steps::{DecoderOf, DecoderSteps, SHARDS, Spot};
use crate::kernels::{Dtype, Set};

/// Sizes of a decoder's sample that its parameters do not tell.
#[derive(Debug, Clone, Copy)]
pub struct DecoderShape {
    /// B.
    pub batch: usize,
    /// Actions of a chunk.
    pub slots: usize,
    /// Heads of every attention.
    pub heads: usize,
    /// Tokens of a sample's memory.
    pub keys: usize,
    /// Euler steps.
    pub steps: usize,
    /// Their length.
    pub size: f64,
}

/// A sample that one launch can make.
#[derive(Debug, Clone)]
pub struct DecoderLaunch {
    kernel: DecoderSteps,
    /// The shards of weights that it binds.
    shards: Vec<usize>,
}

impl Graph {
    /// The launch that makes all of a decoder's Euler steps, if there is one for its sizes and its weights: f32, in no more
    /// shards than a launch binds.
    pub fn decoder_launch(&self, decoder: &DecoderOf<ParamId>, shape: DecoderShape) -> Option<DecoderLaunch> {
        let params = &self.params;
        if decoder.in_order().any(|id| params.get(id).dtype != Dtype::F32) {
            return None;
        }
        let mut shards: Vec<usize> = decoder.in_order().map(|id| params.get(id).shard).collect();
        shards.sort_unstable();
        shards.dedup();
        let places = decoder.map(|id| {
            let param = params.get(id);
            Spot { shard: shards.partition_point(|&shard| shard < param.shard), offset: param.offset }
        });
        let [head, linear1] = [decoder.velocity_head[0], decoder.layers.first()?[4][0]];
        let &[dims, width] = params.get(head).shape.as_slice() else { return None };
        let feedforward = params.get(linear1).shape[0];
        let DecoderShape { batch, slots, heads, keys, steps, size } = shape;
        let size = size as f32;
        let kernel =
            DecoderSteps { batch, slots, dims, width, heads, feedforward, keys, steps, size, places };
        (shards.len() <= SHARDS && kernel.fits()).then_some(DecoderLaunch { kernel, shards })
    }

    /// From noise [B, H, A] to the sample, of the same shape, with each layer's keys and values side by side in `memory`
    /// [B·N, layers · 2d], and what each step's time adds to the action projection in `times` [steps, d].
    ///
    /// # Panics
    /// If the graph trains, or shapes do not fit: mistakes of a network, not of a user.
    pub fn decoder_steps(
        &mut self,
        DecoderLaunch { kernel, shards }: DecoderLaunch,
        memory: Value,
        noise: Value,
        times: Value,
    ) -> Value {
        assert!(self.training.is_none(), "a decoder in one launch has no backward pass");
        let DecoderSteps { batch, slots, dims, width, keys, steps, ref places, .. } = kernel;
        assert_eq!(self.rows(memory), (batch * keys, places.layers.len() * 2 * width), "a memory's shape");
        assert_eq!(self.shape(noise), [batch, slots, dims], "noise has the sample's shape");
        assert_eq!(self.rows(times), (steps, width), "a row of times for each step");
        let mut inputs: Vec<_> =
            shards.into_iter().map(|shard| Some(self.shard(Set::Weights, shard))).collect();
        inputs.resize(SHARDS, None);
        inputs.extend([memory, noise, times].map(Some));
        let sample = self.temporary(&[batch, slots, dims]);
        self.launch(kernel, &inputs, &[sample]);
        sample
    }
}
