//! What is measured: launches as networks of both sizes make them, and products of round sizes.
//!
//! The seed network (preset `pursuit-seed`) has 64 tokens of width 64 and is trained on 64 pictures at a time; the
//! full-size one (preset `flowmatching`) has 197 tokens of width 768 and 50 action slots of width 1024, here of 8 samples.

use flowgpu::kernels::activation::{Activate, Activation};
use flowgpu::kernels::add_rows::{AddRows, ReduceRows};
use flowgpu::kernels::attention::Attention;
use flowgpu::kernels::attention_backward::{AttentionBackwardKeyValue, AttentionBackwardQuery};
use flowgpu::kernels::check::{Case, Data};
use flowgpu::kernels::copy_rows::{CopyRows, Runs};
use flowgpu::kernels::dropout::{Dropout, DropoutSite};
use flowgpu::kernels::layer_norm::LayerNorm;
use flowgpu::kernels::layer_norm_backward::{LayerNormBackward, LayerNormBackwardParams};
use flowgpu::kernels::matmul::{Matmul, Matrix};
use flowgpu::kernels::optimizer::{Adam, Hyper, SquaredNorm};
use flowgpu::kernels::patchify::Patchify;
use flowgpu::kernels::{Kernel, Work};
use half::f16;

use Input::{Bytes, Floats, Given, Halves, Nothing, Words};

/// What a kernel's speed is a share of.
#[derive(Clone, Copy)]
pub enum Bound {
    /// Multiply-adds.
    Arithmetic,
    /// Bytes.
    Memory,
}

/// What an input holds: so many of anything, or these.
enum Input {
    Floats(usize),
    Halves(usize),
    Bytes(usize),
    Given(Vec<f32>),
    Words([u32; 4]),
    Nothing,
}

/// A launch that is measured.
pub struct Launch {
    /// Its sizes.
    pub shape: String,
    /// What limits it.
    pub bound: Bound,
    kernel: Kernel,
    inputs: Vec<Input>,
    outputs: Vec<usize>,
}

impl Launch {
    /// The kernel's name.
    pub fn kernel(&self) -> &'static str {
        self.kernel.name()
    }

    /// As criterion calls it.
    pub fn id(&self) -> String {
        format!("{}/{}", self.kernel(), self.shape)
    }

    /// What it has to do.
    pub fn work(&self) -> Work {
        let inputs: usize = self.inputs.iter().map(Input::bytes).sum();
        let outputs: usize = self.outputs.iter().map(|len| 4 * len).sum();
        Work { kernel: self.kernel(), flops: self.kernel.flops(), bytes: (inputs + outputs) as u64 }
    }

    /// The launch with its inputs.
    pub fn case(&self) -> Case {
        let mut case = Case::new(&self.shape, self.kernel.clone());
        case.inputs = self.inputs.iter().map(Input::data).collect();
        // Positive, which Adam's second moments are.
        case.outputs = self.outputs.iter().map(|&len| vec![0.5; len]).collect();
        case
    }
}

impl Input {
    fn bytes(&self) -> usize {
        match self {
            Floats(len) => 4 * len,
            Halves(len) => 2 * len,
            Bytes(len) => *len,
            Given(values) => 4 * values.len(),
            Words(words) => 4 * words.len(),
            Nothing => 0,
        }
    }

    fn data(&self) -> Data {
        // Values that differ from their neighbours, and are made in no time.
        let value = |i: usize| (i * 619 % 1009) as f32 / 1009.0 - 0.5;
        match self {
            Floats(len) => Data::F((0..*len).map(value).collect()),
            Halves(len) => Data::H((0..*len).map(|i| f16::from_f32(value(i))).collect()),
            Bytes(len) => Data::U8((0..*len).map(|i| (i * 37 + i / 256) as u8).collect()),
            Given(values) => Data::F(values.clone()),
            Words(words) => Data::U32(words.to_vec()),
            Nothing => Data::Nothing,
        }
    }
}

/// All launches; the largest products only if asked for.
pub fn launches(large: bool) -> Vec<Launch> {
    let mut all = products(large);
    all.extend(attentions());
    all.extend(norms());
    all.extend(rows());
    all.extend(optimizer());
    all
}

/// A linear layer of the seed network or of the full-size one, its gradients, and squares.
fn products(large: bool) -> Vec<Launch> {
    let mut all = Vec::new();
    let mut add = |name: &str, kernel: Matmul| {
        let Matmul { m, k, n, half_b, .. } = kernel;
        let weights = if half_b { Halves(k * n) } else { Floats(k * n) };
        let bias = if kernel.bias.is_some() { Floats(n) } else { Nothing };
        all.push(Launch {
            shape: format!("{m}x{k}x{n}{name}"),
            bound: Bound::Arithmetic,
            inputs: vec![Floats(m * k), weights, bias, Nothing],
            outputs: vec![m * n],
            kernel: kernel.into(),
        });
    };
    let linear = |m, k, n| Matmul { b: Matrix::transposed(k), bias: Some(0), ..Matmul::new(m, k, n) };
    for (m, k, n) in [(4096, 768, 64), (4096, 64, 192), (4096, 64, 256), (4096, 256, 64), (512, 64, 64)] {
        add(" seed", linear(m, k, n));
    }
    add(" seed, one chunk", linear(8, 64, 256));
    add(" seed, gelu", Matmul { activation: Activation::Gelu, ..linear(4096, 64, 256) });
    add(" seed, of inputs", Matmul::new(4096, 256, 64));
    add(" seed, of weights", Matmul { a: Matrix::transposed(64), ..Matmul::new(64, 4096, 256) });
    for (m, k, n) in [(1576, 768, 2304), (1576, 768, 3072), (400, 1024, 4096)] {
        add(" full", linear(m, k, n));
    }
    add(" full, one chunk", linear(50, 1024, 4096));
    add(" full, f16", Matmul { half_b: true, ..linear(50, 1024, 4096) });
    add("", Matmul::new(1024, 1024, 1024));
    if large {
        add("", Matmul::new(4096, 4096, 4096));
    }
    all
}

fn attentions() -> Vec<Launch> {
    let mut all = Vec::new();
    for (name, batch, heads, tq, tk, head_width) in [
        ("seed, encoder", 64, 4, 64, 64, 16),
        ("seed, decoder", 64, 2, 8, 64, 32),
        ("full, encoder", 8, 12, 197, 197, 64),
        ("full, actions", 8, 8, 50, 50, 128),
    ] {
        let attention = Attention::new(batch, heads, tq, tk, head_width);
        let width = heads * head_width;
        let [queries, keys, sums] = [batch * tq * width, batch * tk * width, batch * heads * tq];
        let mut add = |kernel: Kernel, inputs: Vec<Input>, outputs: Vec<usize>| {
            let shape = format!("{batch}x{heads}x{tq}x{tk}x{head_width} {name}");
            all.push(Launch { shape, bound: Bound::Arithmetic, kernel, inputs, outputs });
        };
        let seen = || vec![Floats(queries), Floats(keys), Floats(keys), Nothing];
        // As large as sums of exponentials are.
        let backward = || {
            let mut inputs = seen();
            inputs.extend([Floats(queries), Floats(queries), Given(vec![5.0; sums])]);
            inputs
        };
        add(attention.clone().into(), seen(), vec![queries, sums]);
        add(AttentionBackwardQuery::of(attention.clone()).into(), backward(), vec![queries]);
        add(AttentionBackwardKeyValue::of(attention).into(), backward(), vec![2 * keys]);
    }
    all
}

fn norms() -> Vec<Launch> {
    let mut all = Vec::new();
    for (name, rows, width) in [("seed", 4096, 64), ("full", 1576, 768)] {
        let len = rows * width;
        let mut add = |kernel: Kernel, inputs: Vec<Input>, outputs: Vec<usize>| {
            let shape = format!("{rows}x{width} {name}");
            all.push(Launch { shape, bound: Bound::Memory, kernel, inputs, outputs });
        };
        let forward = LayerNorm { rows, width, eps: 1e-5 };
        add(forward.into(), vec![Floats(len), Floats(width), Floats(width)], vec![len, 2 * rows]);
        let stats = || Given(vec![0.5; 2 * rows]);
        let backward = LayerNormBackward { rows, width, extra: true };
        let inputs = vec![Floats(len), Floats(width), stats(), Floats(len), Floats(len)];
        add(backward.into(), inputs, vec![len]);
        let params = LayerNormBackwardParams { rows, width };
        add(params.into(), vec![Floats(len), stats(), Floats(len)], vec![width, width]);
    }
    all
}

/// What goes over rows of values once.
fn rows() -> Vec<Launch> {
    let mut all = Vec::new();
    let mut add = |shape: &str, kernel: Kernel, inputs: Vec<Input>, outputs: Vec<usize>| {
        all.push(Launch { shape: shape.to_owned(), bound: Bound::Memory, kernel, inputs, outputs });
    };
    let (rows, columns) = (4096, 256);
    let len = rows * columns;
    let site = DropoutSite::new(0, 0.1);
    let dropout = Dropout { len, site, residual: true };
    let control = || Words([7, 0, 1, 0]);
    add("4096x256 with residual", dropout.into(), vec![Floats(len), Floats(len), control()], vec![len]);
    let gelu = Activate { kind: Activation::Gelu, len };
    add("4096x256 gelu", gelu.into(), vec![Floats(len)], vec![len]);
    let bias = AddRows { rows, columns, div: 1, modulo: 64 };
    add("4096x256 of 64 rows", bias.into(), vec![Floats(len), Floats(64 * columns)], vec![len]);
    add("4096x256", ReduceRows::all(rows, columns).into(), vec![Floats(len)], vec![columns]);
    let runs = Runs { stride: 64, first: 0 };
    let copy = CopyRows { groups: 64, rows: 64, columns, from: runs, to: runs };
    add("64x64x256", copy.into(), vec![Floats(len)], vec![len]);
    let pictures = 64 * 3 * 128 * 128;
    let patches = Patchify {
        batch: 64,
        channels: 3,
        height: 128,
        width: 128,
        patch: 16,
        bytes: true,
        normalize: false,
        first: 0,
    };
    add("64x3x128x128 bytes", patches.into(), vec![Bytes(pictures), Nothing], vec![pictures]);
    all
}

/// The seed network's parameters, and 4 Mi of the full-size one's.
fn optimizer() -> Vec<Launch> {
    let mut all = Vec::new();
    let hyper = Hyper {
        lr: 1e-3,
        betas: [0.9, 0.999],
        eps: 1e-8,
        weight_decay: 0.01,
        ema_decay: 0.999,
        max_norm: 1.0,
    };
    for (shape, len) in [("240000 seed", 240_000), ("4194304 full", 4 << 20)] {
        let mut add = |kernel: Kernel, inputs: Vec<Input>, outputs: Vec<usize>| {
            all.push(Launch { shape: shape.to_owned(), bound: Bound::Memory, kernel, inputs, outputs });
        };
        let norm = SquaredNorm { len };
        let groups = norm.groups();
        add(norm.into(), vec![Floats(len)], vec![groups]);
        let adam = Adam { len, decoupled: true, average: true, rate: 1.0 };
        let inputs = vec![Floats(len), Given(vec![1.0, 1.0, 1.0, 0.0]), Given(hyper.words(1).to_vec())];
        add(adam.into(), inputs, vec![len; 4]);
    }
    all
}
