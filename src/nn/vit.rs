//! torchvision's vision transformer up to its class token (Dosovitskiy et al., arXiv 2010.11929).

use super::{Norm, Projection, SelfAttention};
use crate::graph::ops::{ChannelScale, RowCut};
use crate::graph::{Graph, Init, ParamId, Params, Value};
use crate::kernels::activation::Activation;

/// Sizes of a vision transformer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VitSizes {
    /// Height and width of a picture.
    pub image: [usize; 2],
    /// Side of a square patch.
    pub patch: usize,
    /// Width of its tokens.
    pub width: usize,
    /// Layers.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the feed-forward blocks.
    pub mlp: usize,
}

impl VitSizes {
    /// Patches from top to bottom and from left to right.
    pub fn grid(&self) -> [usize; 2] {
        self.image.map(|side| side / self.patch)
    }

    /// Tokens of a picture: its patches and the class token before them.
    pub fn tokens(&self) -> usize {
        1 + self.grid().iter().product::<usize>()
    }
}

/// What ImageNet's pictures in [0, 1] have as mean and deviation, red, green, blue.
pub const IMAGENET: ChannelScale = ChannelScale { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
/// Amplitude of the first positions: as large as what patches say of pictures whose pixels have a deviation of 1.
const POSITIONS: f64 = std::f64::consts::SQRT_2;
/// What a channel adds to a token at first where all of a patch is white instead of black, at most. A patch decoder
/// learns as well with half and with twice as much.
const COLOUR: f64 = 8.0;
/// torchvision's.
const EPS: f32 = 1e-6;

/// The encoder.
#[derive(Debug, Clone)]
pub struct Vit {
    sizes: VitSizes,
    class_token: ParamId,
    conv_proj: Projection,
    pos_embedding: ParamId,
    layers: Vec<Layer>,
    norm: Norm,
}

/// x ← x + attention(ln_1(x)); x ← x + mlp(ln_2(x)).
#[derive(Debug, Clone, Copy)]
struct Layer {
    ln_1: Norm,
    attention: SelfAttention,
    ln_2: Norm,
    mlp: [Projection; 2],
}

impl Vit {
    /// Declares an encoder under torchvision's names. It starts as torchvision's does, but for what a small encoder would
    /// spend most of its training on: its positions are sines and cosines of row and column (`grid_positions`), whose mean
    /// over the grid is zero, a patch is its mean colours (`patch_weights`), white, the colour of nothing, gives zeros, and the
    /// class token is short. What the class token first takes in is the mean of all patches; white ones then cancel, and the
    /// norms behind it enlarge what is left, the few that show something.
    pub fn new(params: &mut Params, name: &str, sizes: VitSizes) -> Self {
        let VitSizes { patch, width, heads, mlp, .. } = sizes;
        let class_token = params.declare(format!("{name}.class_token"), &[1, 1, width], Init::Normal(0.02));
        let span = IMAGENET.of(1.0, 0) - IMAGENET.of(0.0, 0);
        let first = patch_weights(patch, f64::from(span));
        let shape = [width, 3, patch, patch];
        let weight = params.declare_weight(format!("{name}.conv_proj.weight"), &shape, first);
        let white = (0..3).flat_map(|channel| vec![IMAGENET.of(1.0, channel); patch * patch]).collect();
        let bias =
            params.declare(format!("{name}.conv_proj.bias"), &[width], Init::MinusProduct(weight, white));
        let conv_proj = Projection { weight, bias, outputs: width };
        let mut positions = vec![0.0; width];
        positions.extend(centred(grid_positions(sizes.grid(), width, POSITIONS), width));
        let pos_embedding = params.declare(
            format!("{name}.encoder.pos_embedding"),
            &[1, sizes.tokens(), width],
            Init::Values(positions),
        );
        let layer = |i| {
            let name = format!("{name}.encoder.layers.encoder_layer_{i}");
            let ln_1 = Norm::new(params, &format!("{name}.ln_1"), width, EPS);
            let attention = SelfAttention::new(params, &format!("{name}.self_attention"), width, heads);
            let ln_2 = Norm::new(params, &format!("{name}.ln_2"), width, EPS);
            let mut linear = |i: usize, inputs, outputs| Projection {
                weight: params.declare_weight(
                    format!("{name}.mlp.{i}.weight"),
                    &[outputs, inputs],
                    Init::xavier(inputs, outputs),
                ),
                bias: params.declare(format!("{name}.mlp.{i}.bias"), &[outputs], Init::Normal(1e-6)),
                outputs,
            };
            let mlp = [linear(0, width, mlp), linear(3, mlp, width)];
            Layer { ln_1, attention, ln_2, mlp }
        };
        let layers = (0..sizes.layers).map(layer).collect();
        let norm = Norm::new(params, &format!("{name}.encoder.ln"), width, EPS);
        Self { sizes, class_token, conv_proj, pos_embedding, layers, norm }
    }

    /// The class token [B, width] of each camera's pictures [B, 3, H, W], bytes or floats in [0, 1]. All cameras go
    /// through together, as one batch. Nothing is dropped out.
    pub fn class_tokens(&self, graph: &mut Graph, cameras: &[Value]) -> Vec<Value> {
        let Some(&first) = cameras.first() else { return Vec::new() };
        let (batch, width, tokens) = (graph.shape(first)[0], self.sizes.width, self.sizes.tokens());
        let pictures = batch * cameras.len();
        graph.without_dropout(|graph| {
            let patches = graph.patchify_all(cameras, self.sizes.patch, Some(IMAGENET));
            let patches = graph.linear(self.conv_proj.of(patches));
            let class = graph.param(self.class_token);
            let x = graph.lead_rows(class, patches, pictures);
            let positions = graph.param(self.pos_embedding);
            let mut x = graph.add_rows(x, positions, 1, tokens);
            // Of the last layer nothing but the class token is used: only it asks, and only it goes on.
            let (last, layers) = self.layers.split_last().expect("a checked configuration has layers");
            for layer in layers {
                x = layer.apply(graph, x, pictures);
            }
            let x = last.apply_to_first(graph, x, pictures);
            let x = self.norm.apply(graph, x);
            assert_eq!(graph.rows(x), (pictures, width), "a class token each");
            let camera = |i| RowCut { groups: 1, stride: pictures, first: i * batch, rows: batch };
            (0..cameras.len()).map(|i| graph.cut_rows(x, camera(i))).collect()
        })
    }
}

impl Layer {
    fn feed(&self, graph: &mut Graph, x: Value) -> Value {
        let [first, second] = &self.mlp;
        let normed = self.ln_2.apply(graph, x);
        let hidden = graph.linear(first.of(normed).activation(Activation::Gelu));
        let rows = graph.rows(x).0;
        graph.linear(second.of(hidden).plus(x, rows))
    }

    /// All tokens [B·T, d].
    fn apply(&self, graph: &mut Graph, x: Value, batch: usize) -> Value {
        let rows = graph.rows(x).0;
        let normed = self.ln_1.apply(graph, x);
        let attended = self.attention.of(graph, normed, batch).linear(graph);
        let x = graph.linear(attended.plus(x, rows));
        self.feed(graph, x)
    }

    /// The first token of each sample [B, d], which looks at all tokens [B·T, d].
    fn apply_to_first(&self, graph: &mut Graph, x: Value, batch: usize) -> Value {
        let first = RowCut { groups: batch, stride: graph.rows(x).0 / batch, first: 0, rows: 1 };
        let normed = self.ln_1.apply(graph, x);
        let query = graph.cut_rows(normed, first);
        let attended = self.attention.of_queries(graph, query, normed, batch).linear(graph);
        let x = graph.cut_rows(x, first);
        let x = graph.linear(attended.plus(x, batch));
        self.feed(graph, x)
    }
}

/// Rows of `width` values less the mean of all rows.
fn centred(rows: Vec<f32>, width: usize) -> Vec<f32> {
    let count = rows.len() / width;
    let mean = |column| (0..count).map(|row| rows[row * width + column]).sum::<f32>() / count as f32;
    let means: Vec<f32> = (0..width).map(mean).collect();
    rows.iter().zip(means.iter().cycle()).map(|(value, mean)| value - mean).collect()
}

/// First weights of a product over square patches, [d, channels, patch, patch]: one value for each channel, so that a patch starts as
/// its mean colours, wherever in it they are. `span` is what a channel rises by from black to white. A value of each pixel
/// besides, even PyTorch's small ones, drowns what covers little of a patch.
pub fn patch_weights(patch: usize, span: f64) -> Init {
    let pixels = patch * patch;
    Init::UniformRuns(COLOUR / (span * pixels as f64), pixels)
}

/// Sines and cosines of a patch's row, then of its column, [rows · columns, d], times `amplitude`: angles of
/// 1.5 · 100^(−4j/d) radians a patch, from fast enough to tell neighbours apart to slow enough to order the whole grid.
pub fn grid_positions([rows, columns]: [usize; 2], d: usize, amplitude: f64) -> Vec<f32> {
    let quarter = (d / 4).max(1);
    let mut values = Vec::with_capacity(rows * columns * d);
    for row in 0..rows {
        for column in 0..columns {
            for i in 0..d {
                let place = if i / quarter < 2 { row } else { column };
                let angle = 1.5 * 100_f64.powf(-((i % quarter) as f64) / quarter as f64) * place as f64;
                let value = if (i / quarter).is_multiple_of(2) { angle.sin() } else { angle.cos() };
                values.push((amplitude * value) as f32);
            }
        }
    }
    values
}
