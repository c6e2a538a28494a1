//! All Euler steps of a transformer decoder over a chunk of actions, in one launch: x ← x + h v(x, tᵢ), i < steps.
//!
//! A chunk is so little work that a GPU spends a sample's time on starting launches: 24 of them a step. Here a
//! workgroup takes one sample from noise to action, and what it knows of it stays in workgroup memory. With LN for
//! layer norm (ε = 1e-5), Wᵀ as in a linear layer, and rows for the chunk's slots:
//!
//! ```text
//! y = x W_actionᵀ + times[i] + slots                                        a row of d for each slot
//! in each layer, keys K and values V of it from the memory:
//!   y = LN₁(y + attention(y W_qᵀ + b, y W_kᵀ + b, y W_vᵀ + b) W_oᵀ + b)      the three packed in one weight
//!   y = LN₂(y + attention(y W_qᵀ + b, K, V) W_oᵀ + b)                        the first d rows of a packed weight
//!   y = LN₃(y + max(0, y W₁ᵀ + b) W₂ᵀ + b)
//! x = x + h (y W_velocityᵀ + b)
//! ```
//!
//! | binding | shape |
//! |---|---|
//! | weights (4) | the flat shards that hold the parameters; nothing where there are fewer |
//! | memory | `[batch * keys, layers * 2 * width]`: each layer's keys, then its values |
//! | noise | `[batch, slots, dims]` |
//! | times | `[steps, width]`, the action projection's bias added |
//! | sample (out) | `[batch, slots, dims]` |
//!
//! What sizes there may be is said by [`DecoderSteps::fits`]; all others take a launch for each product. How the
//! workgroup shares its work: `docs/kernels/decoder_steps.md`.

use super::activation::Activation;
use super::attention::{Attention, Tokens};
use super::check::Case;
use super::layer_norm::LayerNorm;
use super::matmul::{Matmul, Matrix};
use super::shader::shader;
use super::{AdapterClass, Describe, Dispatch, Float, Io, Slice, word};
use crate::rng::{Rng, Stream};

/// Shards that parameters may lie in.
pub const SHARDS: usize = 4;
/// Places of parameters in the uniform block.
const PLACES: usize = 40;
/// Layers that there may be.
pub const LAYERS: usize = 2;
/// ε of the layer norms.
pub const EPS: f32 = 1e-5;

/// Where a parameter lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spot {
    /// Which of the weights' bindings.
    pub shard: usize,
    /// First element there, a multiple of 4.
    pub offset: usize,
}

/// A decoder layer's weights, each with its bias: into and out of the attention to the chunk itself, into and out of the
/// attention to the memory, the two products of the feed-forward block, three norms.
pub type LayerOf<P> = [[P; 2]; 9];

/// A decoder's parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderOf<P> {
    /// Its layers.
    pub layers: Vec<LayerOf<P>>,
    /// Weight [dims, width] and bias.
    pub velocity_head: [P; 2],
    /// Weight [width, dims].
    pub action_proj: P,
    /// [slots, width].
    pub action_pos_embed: Option<P>,
}

impl<P: Copy> DecoderOf<P> {
    /// All of them, in the order of the shader's numbers.
    pub fn in_order(&self) -> impl Iterator<Item = P> {
        let layers = self.layers.iter().flat_map(|layer| layer.as_flattened());
        let ends = self.velocity_head.iter().chain([&self.action_proj]).chain(&self.action_pos_embed);
        layers.chain(ends).copied()
    }

    /// Something else for each of them.
    pub fn map<Q>(&self, mut of: impl FnMut(P) -> Q) -> DecoderOf<Q> {
        DecoderOf {
            layers: self.layers.iter().map(|layer| layer.map(|pair| pair.map(&mut of))).collect(),
            velocity_head: self.velocity_head.map(&mut of),
            action_proj: of(self.action_proj),
            action_pos_embed: self.action_pos_embed.map(of),
        }
    }
}

/// The steps. Inputs: the weights' four bindings, memory, noise, times. Outputs: sample.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderSteps {
    /// Samples.
    pub batch: usize,
    /// Actions of a chunk.
    pub slots: usize,
    /// Dimensions of an action.
    pub dims: usize,
    /// Width of a token.
    pub width: usize,
    /// Heads of every attention.
    pub heads: usize,
    /// Width between the two products of the feed-forward block.
    pub feedforward: usize,
    /// Tokens of a sample's memory.
    pub keys: usize,
    /// Euler steps.
    pub steps: usize,
    /// h, negative where the noise is at t = 1.
    pub size: f32,
    /// Where the parameters lie.
    pub places: DecoderOf<Spot>,
}

impl DecoderSteps {
    /// Whether the shaders serve these sizes: a workgroup has 16 KiB of memory and 256 invocations at most, the uniform block
    /// `PLACES`, and one launch should not hold a GPU for long.
    pub fn fits(&self) -> bool {
        let Self { slots, dims, width, heads, feedforward, keys, steps, .. } = *self;
        let within = |size: usize, most: usize| (1..=most).contains(&size);
        within(slots, 8)
            && within(dims, 8)
            && within(width, 64)
            && within(feedforward, 256)
            && within(keys, 64)
            && within(heads * keys.max(slots), 128)
            && within(self.places.layers.len(), LAYERS)
            && within(steps, 128)
            && width.is_multiple_of(4 * heads)
            && feedforward.is_multiple_of(4)
    }

    /// The product of a linear layer over all samples' slots.
    fn linear(&self, inputs: usize, outputs: usize) -> Matmul {
        let b = Matrix::transposed(inputs);
        Matmul { b, bias: Some(0), ..Matmul::new(self.batch * self.slots, inputs, outputs) }
    }

    /// The tokens behind one layer, as the launches make them that this kernel stands for.
    fn layer<T: Float>(&self, mut tokens: Vec<T>, weights: LayerOf<&[T]>, memory: &[T], l: usize) -> Vec<T> {
        let Self { batch, slots, width, heads, feedforward, keys, .. } = *self;
        let [self_in, self_out, cross_in, cross_out, linear1, linear2, norms @ ..] = weights;
        let head_width = width / heads;
        let add_and_norm = |kernel: Matmul, x: &[T], weights, norm: [&[T]; 2], tokens: &mut Vec<T>| {
            let kernel = Matmul { residual_rows: Some(batch * slots), ..kernel };
            let sum = product(&kernel, x, weights, Slice::F(tokens));
            let kernel = LayerNorm { rows: batch * slots, width, eps: EPS };
            let mut stats = vec![T::ZERO; 2 * batch * slots];
            let inputs = [&sum, norm[0], norm[1]].map(Slice::F);
            kernel.twin(&mut Io { inputs: &inputs, outputs: &mut [tokens, &mut stats] });
        };
        let attend = |kernel: Attention, q: &[T], memory: &[T]| {
            let mut mixed = vec![T::ZERO; batch * slots * width];
            let mut lse = vec![T::ZERO; batch * slots * heads];
            let inputs = [Slice::F(q), Slice::F(memory), Slice::F(memory), Slice::Nothing];
            kernel.twin(&mut Io { inputs: &inputs, outputs: &mut [&mut mixed, &mut lse] });
            mixed
        };

        let qkv = product(&self.linear(width, 3 * width), &tokens, self_in, Slice::Nothing);
        let [q, k, v] = [0, 1, 2].map(|part| Tokens::part(part, width, 3));
        let attention = Attention { q, k, v, ..Attention::new(batch, heads, slots, slots, head_width) };
        let mixed = attend(attention, &qkv, &qkv);
        add_and_norm(self.linear(width, width), &mixed, self_out, norms[0], &mut tokens);

        let q = product(&self.linear(width, width), &tokens, cross_in, Slice::Nothing);
        let [k, v] = [0, 1].map(|part| Tokens::part(2 * l + part, width, 2 * self.places.layers.len()));
        let attention = Attention { k, v, ..Attention::new(batch, heads, slots, keys, head_width) };
        let mixed = attend(attention, &q, memory);
        add_and_norm(self.linear(width, width), &mixed, cross_out, norms[1], &mut tokens);

        let hidden = Matmul { activation: Activation::Relu, ..self.linear(width, feedforward) };
        let hidden = product(&hidden, &tokens, linear1, Slice::Nothing);
        add_and_norm(self.linear(feedforward, width), &hidden, linear2, norms[2], &mut tokens);
        tokens
    }
}

/// x Wᵀ + b with what else the kernel adds.
fn product<T: Float>(kernel: &Matmul, x: &[T], [w, b]: [&[T]; 2], residual: Slice<'_, T>) -> Vec<T> {
    let mut y = vec![T::ZERO; kernel.m * kernel.n];
    let inputs = [Slice::F(x), Slice::F(w), Slice::F(b), residual];
    kernel.twin(&mut Io { inputs: &inputs, outputs: &mut [&mut y] });
    y
}

impl Describe for DecoderSteps {
    const NAME: &'static str = "decoder_steps";

    fn dispatch(&self, class: AdapterClass) -> Dispatch {
        let shader = match class {
            AdapterClass::SoftwareSubgroup => shader!("decoder_steps_rows"),
            _ => shader!("decoder_steps"),
        };
        Dispatch::groups(shader, self.batch)
    }

    fn params(&self) -> Vec<u32> {
        assert!(self.fits(), "one launch has no shader for {self:?}");
        let place = |spot: Spot| {
            assert!(spot.shard < SHARDS && spot.offset.is_multiple_of(4), "{spot:?} is read in whole vec4s");
            word(spot.offset + spot.shard)
        };
        let layers = self.places.layers.len();
        let sizes = [self.batch, self.slots, self.dims, self.width, self.heads, self.feedforward, self.keys];
        let mut words: Vec<u32> = sizes.into_iter().chain([layers, self.steps]).map(word).collect();
        let scale = 1.0 / ((self.width / self.heads) as f32).sqrt();
        words.extend([u32::from(self.places.action_pos_embed.is_some())]);
        words.extend([self.size.to_bits(), scale.to_bits()]);
        let end = words.len() + PLACES;
        words.extend(self.places.in_order().map(place));
        words.resize(end, 0);
        words
    }

    fn twin<T: Float>(&self, io: &mut Io<'_, '_, T>) {
        let Self { batch, slots, dims, width, .. } = *self;
        let weights = self.places.map(|spot| &io.inputs[spot.shard].floats()[spot.offset..]);
        let [memory, noise, times] = [4, 5, 6].map(|n| io.inputs[n].floats());
        let slot_rows = weights.action_pos_embed.map(|_| slots);
        let slot_values = weights.action_pos_embed.map_or(Slice::Nothing, Slice::F);
        let mut x = noise.to_vec();
        for time in times.chunks_exact(width).take(self.steps) {
            let embed = Matmul { residual_rows: slot_rows, ..self.linear(dims, width) };
            let mut tokens = product(&embed, &x, [weights.action_proj, time], slot_values);
            for (l, &layer) in weights.layers.iter().enumerate() {
                tokens = self.layer(tokens, layer, memory, l);
            }
            let step =
                Matmul { alpha: self.size, residual_rows: Some(batch * slots), ..self.linear(width, dims) };
            x = product(&step, &tokens, weights.velocity_head, Slice::F(&x));
        }
        io.outputs[0].copy_from_slice(&x);
    }

    fn flops(&self) -> u64 {
        let Self { batch, slots, dims, width, feedforward, keys, steps, .. } = *self;
        let products = 6 * width + 2 * feedforward + 2 * (slots + keys);
        2 * (batch * slots * steps * width * (2 * dims + self.places.layers.len() * products)) as u64
    }
}

/// Sizes of a case.
struct Sizes {
    batch: usize,
    slots: usize,
    dims: usize,
    width: usize,
    heads: usize,
    feedforward: usize,
    keys: usize,
    layers: usize,
    steps: usize,
}

impl Sizes {
    /// A decoder with random weights of the size that trained ones have, its parameters taking turns over the shards.
    fn case(&self, size: f32, embedded: bool) -> Case {
        let &Self { batch, slots, dims, width, heads, feedforward, keys, layers, steps } = self;
        let mut rng = Rng::new(7, Stream::Init, 0, 0);
        let mut shards: [Vec<f32>; SHARDS] = Default::default();
        let mut turn = 0;
        let mut place = |len: usize, mean: f64, deviation: f64| {
            turn += 1;
            let shard = turn % SHARDS;
            let offset = shards[shard].len();
            shards[shard].extend((0..len).map(|_| (mean + deviation * rng.normal()) as f32));
            shards[shard].resize((offset + len).next_multiple_of(64), f32::NAN);
            Spot { shard, offset }
        };
        let mut linear = |inputs: usize, outputs: usize| {
            [place(inputs * outputs, 0.0, 1.0 / (inputs as f64).sqrt()), place(outputs, 0.0, 0.1)]
        };
        let mut products = || {
            let [self_in, self_out] = [linear(width, 3 * width), linear(width, width)];
            let [cross_in, cross_out] = [linear(width, 3 * width), linear(width, width)];
            [self_in, self_out, cross_in, cross_out, linear(width, feedforward), linear(feedforward, width)]
        };
        let products: Vec<_> = (0..layers).map(|_| products()).collect();
        let velocity_head = linear(width, dims);
        let mut norm = || [place(width, 1.0, 0.1), place(width, 0.0, 0.1)];
        let norms: Vec<_> = (0..layers).map(|_| [norm(), norm(), norm()]).collect();
        let layer =
            |([a, b, c, d, e, f], [g, h, i]): ([[Spot; 2]; 6], [[Spot; 2]; 3])| [a, b, c, d, e, f, g, h, i];
        let places = DecoderOf {
            layers: products.into_iter().zip(norms).map(layer).collect(),
            velocity_head,
            action_proj: place(width * dims, 0.0, 1.0 / (dims as f64).sqrt()),
            action_pos_embed: embedded.then(|| place(slots * width, 0.0, 0.5)),
        };
        let kernel =
            DecoderSteps { batch, slots, dims, width, heads, feedforward, keys, steps, size, places };
        let name = format!(
            "{batch} x {steps} steps, {slots} of {dims}, width {width}, {heads} heads, {feedforward} hidden, {keys} keys, \
             {layers} layers{}",
            if embedded { ", slots told apart" } else { "" }
        );
        let case = shards.into_iter().fold(Case::new(name, kernel), Case::floats);
        let case = case.input(batch * keys * layers * 2 * width).input(batch * slots * dims);
        case.input(steps * width).output(batch * slots * dims)
    }
}

impl DecoderSteps {
    /// The cases that tests and `doctor` run.
    pub fn cases() -> Vec<Case> {
        let seed = Sizes {
            batch: 1,
            slots: 8,
            dims: 2,
            width: 64,
            heads: 2,
            feedforward: 256,
            keys: 64,
            layers: 2,
            steps: 3,
        };
        let odd = Sizes {
            batch: 3,
            slots: 3,
            dims: 1,
            width: 20,
            heads: 5,
            feedforward: 48,
            keys: 17,
            layers: 1,
            steps: 2,
        };
        let many = Sizes { slots: 7, dims: 8, width: 56, heads: 14, feedforward: 200, keys: 9, ..seed };
        // One wide head, and keys that end inside of the second 32 and of four.
        let wide =
            Sizes { slots: 5, dims: 6, width: 60, heads: 1, feedforward: 132, keys: 35, steps: 2, ..seed };
        let least =
            Sizes { batch: 2, slots: 1, width: 4, heads: 1, feedforward: 4, keys: 1, steps: 1, ..odd };
        vec![
            seed.case(0.05, false),
            seed.case(-0.1, true),
            odd.case(0.5, true),
            many.case(0.1, true),
            wide.case(-0.2, true),
            least.case(1.0, false),
            Sizes { batch: 17, layers: 2, steps: 7, ..odd }.case(0.2, false),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Kernel;

    #[test]
    fn every_case_fits_and_what_is_larger_does_not() {
        for case in DecoderSteps::cases() {
            let Kernel::DecoderSteps(kernel) = case.kernel else { panic!("a case of this kernel") };
            assert!(kernel.fits() && kernel.params().len() <= 64, "{}", case.name);
            for larger in [
                DecoderSteps { slots: 9, ..kernel.clone() },
                DecoderSteps { dims: 9, ..kernel.clone() },
                DecoderSteps { width: 68, heads: 1, ..kernel.clone() },
                DecoderSteps { width: 30, heads: 1, ..kernel.clone() },
                DecoderSteps { feedforward: 260, ..kernel.clone() },
                DecoderSteps { keys: 65, ..kernel.clone() },
                DecoderSteps { keys: 64, heads: 4, width: 64, ..kernel.clone() },
                DecoderSteps { steps: 0, ..kernel.clone() },
            ] {
                assert!(!larger.fits(), "{larger:?}");
            }
        }
    }
}
