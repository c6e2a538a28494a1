//! All Euler steps of a small decoder: weights and tokens stay in a core's cache from the first step to the last, and keys and
//! values of the memory are laid out once.

use std::ops::Range;

use arrayvec::ArrayVec;

use super::heads::Heads;
use super::panel_product::{Finish, multiply};
use super::panels::{Layout, Operands};
use super::product::View;
use super::rows::Normalised;
use super::scratch::scratch;
use super::simd::arch;
use super::threads::{each_chunk, worth_sharing};
use crate::kernels::Io;
use crate::kernels::activation::Activation;
use crate::kernels::decoder_steps::{DecoderSteps, EPS, LAYERS, LayerOf, Spot};

/// Samples whose rows go through a product together, at most.
const TOGETHER: usize = 8;
/// Products of a layer.
const PRODUCTS: usize = 6;

/// Where each product's right operand lies, and in which input.
pub fn wants_panels(kernel: &DecoderSteps) -> Vec<(usize, Layout)> {
    let &DecoderSteps { dims, width, feedforward, ref places, .. } = kernel;
    let operand = |Spot { shard, offset }: Spot, k: usize, n: usize| {
        (shard, Layout { offset, row: 1, column: k, k, n })
    };
    let of_layer = |&[self_in, self_out, cross_in, cross_out, linear1, linear2, ..]: &LayerOf<Spot>| {
        [
            operand(self_in[0], width, 3 * width),
            operand(self_out[0], width, width),
            operand(cross_in[0], width, width),
            operand(cross_out[0], width, width),
            operand(linear1[0], width, feedforward),
            operand(linear2[0], feedforward, width),
        ]
    };
    let ends = [operand(places.action_proj, dims, width), operand(places.velocity_head[0], width, dims)];
    places.layers.iter().flat_map(of_layer).chain(ends).collect()
}

/// A linear layer whose weight is in panels.
#[derive(Clone, Copy)]
struct Linear<'a> {
    inputs: usize,
    outputs: usize,
    panels: &'a [f32],
    bias: &'a [f32],
}

/// A layer's parameters.
struct Layer<'a> {
    /// In the order of the operands.
    products: [Linear<'a>; PRODUCTS],
    norms: [[&'a [f32]; 2]; 3],
}

struct Decoder<'a> {
    kernel: &'a DecoderSteps,
    layers: ArrayVec<Layer<'a>, LAYERS>,
    action_proj: Linear<'a>,
    action_pos_embed: Option<&'a [f32]>,
    velocity_head: Linear<'a>,
    memory: &'a [f32],
    times: &'a [f32],
}

/// The whole kernel; `kept` has the panels that [`wants_panels`] asks for.
pub fn run(kernel: &DecoderSteps, kept: Operands<'_>, io: &mut Io<'_, '_, f32>) {
    let &DecoderSteps { batch, slots, dims, width, feedforward, keys, steps, ref places, .. } = kernel;
    let kept: ArrayVec<_, { LAYERS * PRODUCTS + 2 }> = kept.all().collect();
    let panels = |operand: usize| kept[operand].as_ref();
    let inputs = io.inputs;
    let values = |Spot { shard, offset }: Spot, len: usize| &inputs[shard].floats()[offset..][..len];
    let of_layer = |(l, layer): (usize, &LayerOf<Spot>)| {
        let [self_in, self_out, cross_in, cross_out, linear1, linear2, norms @ ..] = *layer;
        let product = |p: usize, [_, bias]: [Spot; 2], inputs: usize, outputs: usize| Linear {
            inputs,
            outputs,
            panels: panels(l * PRODUCTS + p),
            bias: values(bias, outputs),
        };
        let products = [
            product(0, self_in, width, 3 * width),
            product(1, self_out, width, width),
            product(2, cross_in, width, width),
            product(3, cross_out, width, width),
            product(4, linear1, width, feedforward),
            product(5, linear2, feedforward, width),
        ];
        Layer { products, norms: norms.map(|norm| norm.map(|spot| values(spot, width))) }
    };
    let end = places.layers.len() * PRODUCTS;
    let bias = values(places.velocity_head[1], dims);
    let decoder = Decoder {
        kernel,
        layers: places.layers.iter().enumerate().map(of_layer).collect(),
        action_proj: Linear { inputs: dims, outputs: width, panels: panels(end), bias: &[] },
        action_pos_embed: places.action_pos_embed.map(|spot| values(spot, slots * width)),
        velocity_head: Linear { inputs: width, outputs: dims, panels: panels(end + 1), bias },
        memory: inputs[4].floats(),
        times: inputs[6].floats(),
    };
    let (of_sample, x) = (slots * dims, &mut io.outputs[0][..batch * slots * dims]);
    x.copy_from_slice(&inputs[5].floats()[..x.len()]);
    let work = batch * steps * slots * width * (width + feedforward + keys);
    let shared = worth_sharing(work);
    let together = if shared { batch.div_ceil(rayon::current_num_threads()).min(TOGETHER) } else { TOGETHER };
    each_chunk(shared, x, together * of_sample, |(block, x)| {
        let first = block * together;
        decoder.steps(first..first + x.len() / of_sample, x);
    });
}

/// What a thread works in; rows are the slots of all its samples.
struct Room<'r> {
    /// [rows, width].
    tokens: &'r mut [f32],
    /// [rows, width]: what the tokens become.
    next: &'r mut [f32],
    /// [rows, width], or queries, keys and values side by side.
    queries: &'r mut [f32],
    /// The samples' keys and values of their slots, see [`Heads::pack`].
    panels: &'r mut [f32],
    /// Of all heads of a sample.
    scores: &'r mut [f32],
    /// [rows, width]: what attention answers.
    answers: &'r mut [f32],
    /// [rows, feedforward].
    hidden: &'r mut [f32],
}

impl Decoder<'_> {
    /// From noise in `x` to the samples.
    fn steps(&self, samples: Range<usize>, x: &mut [f32]) {
        let &DecoderSteps { slots, dims, width, heads, feedforward, keys, steps, size, .. } = self.kernel;
        let rows = samples.len() * slots;
        let to_memory = Heads { heads, queries: slots, keys, width: width / heads };
        let to_slots = Heads { keys: slots, ..to_memory };
        let (memory_len, layers) = (samples.len() * to_memory.panels_len(), self.layers.len());
        let lens = [
            layers * memory_len,
            rows * dims,
            rows * width,
            rows * width,
            rows * 3 * width,
            samples.len() * to_slots.panels_len(),
            to_memory.scores_len().max(to_slots.scores_len()),
            rows * width,
            rows * feedforward,
        ];
        scratch(lens, |[memory, point, tokens, next, queries, panels, scores, answers, hidden]| {
            let row = layers * 2 * width;
            for (l, memory) in memory.chunks_exact_mut(memory_len).enumerate() {
                to_memory.pack(&self.memory[samples.start * keys * row + l * 2 * width..], row, memory);
            }
            let mut room = Room { tokens, next, queries, panels, scores, answers, hidden };
            for time in self.times.chunks_exact(width).take(steps) {
                let residual = self.action_pos_embed.map(|embed| (embed, slots));
                let embedded = Finish { bias: Some(time), residual, ..Finish::scaled(1.0) };
                self.action_proj.of(x, embedded, room.tokens);
                for (layer, memory) in self.layers.iter().zip(memory.chunks_exact(memory_len)) {
                    layer.attend_to_slots(&mut room, to_slots);
                    layer.attend_to_memory(&mut room, to_memory, memory);
                    layer.feed_forward(&mut room);
                }
                let moved = Finish { residual: Some((x, rows)), ..Finish::scaled(size) };
                self.velocity_head.of(room.tokens, moved, point);
                x.copy_from_slice(point);
            }
        });
    }
}

impl Layer<'_> {
    fn attend_to_slots(&self, room: &mut Room<'_>, heads: Heads) {
        let [qkv, out, ..] = &self.products;
        qkv.of(room.tokens, Finish::scaled(1.0), room.queries);
        let (width, row) = (out.inputs, qkv.outputs);
        heads.pack(&room.queries[width..], row, room.panels);
        heads.attend(room.queries, row, room.panels, room.scores, room.answers);
        out.add_and_norm(room.answers, self.norms[0], &mut room.tokens, &mut room.next);
    }

    fn attend_to_memory(&self, room: &mut Room<'_>, heads: Heads, memory: &[f32]) {
        let [_, _, query, out, ..] = &self.products;
        let queries = &mut room.queries[..room.tokens.len()];
        query.of(room.tokens, Finish::scaled(1.0), queries);
        heads.attend(queries, query.outputs, memory, room.scores, room.answers);
        out.add_and_norm(room.answers, self.norms[1], &mut room.tokens, &mut room.next);
    }

    fn feed_forward(&self, room: &mut Room<'_>) {
        let [.., linear1, linear2] = &self.products;
        let rectified = Finish { activation: Activation::Relu, ..Finish::scaled(1.0) };
        linear1.of(room.tokens, rectified, room.hidden);
        linear2.add_and_norm(room.hidden, self.norms[2], &mut room.tokens, &mut room.next);
    }
}

impl Linear<'_> {
    /// residual + α f(x Wᵀ + b), with all but x, W and b from `finish`, which may have another b.
    fn of(&self, x: &[f32], finish: Finish<'_>, y: &mut [f32]) {
        let Self { inputs, outputs, panels, bias } = *self;
        let a = View { data: x, row: inputs, column: 1 };
        let finish = Finish { bias: finish.bias.or(Some(bias)), ..finish };
        multiply([y.len() / outputs, inputs, outputs], a, panels, y, outputs, finish);
    }

    /// tokens = norm(tokens + x Wᵀ + b), by way of `next`.
    fn add_and_norm<'r>(
        &self,
        x: &[f32],
        [gamma, beta]: [&[f32]; 2],
        tokens: &mut &'r mut [f32],
        next: &mut &'r mut [f32],
    ) {
        let width = self.outputs;
        let residual = Some((&**tokens, tokens.len() / width));
        self.of(x, Finish { residual, ..Finish::scaled(1.0) }, next);
        arch().dispatch(Normalised { rows: next, width, gamma, beta, eps: EPS, stats: None });
        std::mem::swap(tokens, next);
    }
}
