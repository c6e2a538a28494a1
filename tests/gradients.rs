//! Every op's gradient where it stands in the middle of a graph: against finite differences in f64, then each
//! device against f64.
//!
//! A net is a parameter, a linear layer, the op, a linear layer with SiLU, and a weighted loss of which 0.37 counts:
//! what comes to the op from behind is arbitrary, and what it passes on is used. Weights are multiples of the step
//! of the differences, so that both sides of it are exact. Every element of every parameter is compared.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use flowgpu::Result;
use flowgpu::graph::ops::{Attend, AttentionShape, Columns, Linear, RowCut};
use flowgpu::graph::{Bank, Device, Graph, Init, ParamId, Params, Program, Training, Value};
use flowgpu::kernels::activation::Activation;
use flowgpu::kernels::check::Distance;
use flowgpu::kernels::optimizer::Hyper;
use flowgpu::kernels::{Dtype, Set};
use flowgpu::nn::{Norm, Projection};
use flowgpu::policy::{Config, Images, Network, Observations, Unconditional};
use flowgpu::rng::{Rng, Stream};
use flowgpu::train::{Purpose, StepInputs, StepShape, TrainStep, loss_weights};

/// One device for all tests of this file: pipelines are dear on software adapters.
static GPU: LazyLock<Device> = LazyLock::new(|| Device::open("gpu").expect("the tests need an adapter"));

/// Samples of a net.
const BATCH: usize = 2;
/// Tokens of a sample.
const TOKENS: usize = 3;
/// Rows of the value that the op is given.
const ROWS: usize = BATCH * TOKENS;
/// Columns of what the op is given, and of what it gives.
const WIDTH: usize = 8;
/// Columns of the prediction.
const OUT: usize = 5;
/// The gradient of the loss.
const UPSTREAM: f32 = 0.37;
/// Half the distance of two points of a difference, 2^-17; every weight is a multiple of it.
const STEP: f32 = 1.0 / 131_072.0;
/// Seed and step: the mask of dropout.
const CONTROL: [u32; 4] = [11, 0, 5, 0];
/// Largest error of a gradient in units of the parameter's largest: the differences' own error.
const DIFFERENCES: f64 = 1e-7;
/// Largest NMSE of a device's gradients: an error of 3e-6.
const F32: f64 = 1e-11;
/// The same where erf is a formula of 1.5e-7, in attention, whose differences cancel, and in whole policies.
const LOOSER: f64 = 1e-10;

/// Parameters whose gradient is zero in some problems: the ending does not use them, or x is 0 in a regression.
const STILL: [&str; 2] = ["slots", "action_proj.weight"];

/// The op of a net, from what the first layer made.
type Op = Box<dyn Fn(&mut Graph, Value) -> Value>;

/// A graph that ends in a loss.
struct Net {
    name: String,
    params: Params,
    dropout: f32,
    nmse: f64,
    loss: Box<dyn Fn(&mut Graph) -> Value>,
}

impl Net {
    /// x → linear → op → linear, SiLU → loss.
    fn new(name: impl Into<String>, op: impl FnOnce(&mut Params) -> Op) -> Self {
        Self::ending(name, op, loss)
    }

    /// The same with an ending of its own, given the prediction's rows and a parameter of three rows.
    fn ending(
        name: impl Into<String>,
        op: impl FnOnce(&mut Params) -> Op,
        end: fn(&mut Graph, Value, ParamId) -> Value,
    ) -> Self {
        let mut params = Params::default();
        let x = params.declare("x", &[ROWS, WIDTH], Init::Zeros);
        let before = Projection::new(&mut params, "before", WIDTH, WIDTH);
        let op = op(&mut params);
        let after = Projection::new(&mut params, "after", WIDTH, OUT);
        let slots = params.declare("slots", &[TOKENS, OUT], Init::Zeros);
        let loss = Box::new(move |graph: &mut Graph| {
            let x = graph.param(x);
            let h = graph.linear(before.of(x));
            let y = op(graph, h);
            let y = graph.linear(after.of(y).activation(Activation::Silu));
            end(graph, y, slots)
        });
        Self { name: name.into(), params, dropout: 0.0, nmse: F32, loss }
    }

    /// With dropout.
    fn dropping(self, dropout: f32) -> Self {
        Self { dropout, name: format!("{}, dropped out", self.name), ..self }
    }

    /// With another bound on a device's error.
    fn within(self, nmse: f64) -> Self {
        Self { nmse, ..self }
    }

    fn graph(&self) -> Graph {
        let training = Training { dropout: self.dropout };
        let mut graph = Graph::new(Arc::new(self.params.clone()), Some(training));
        let loss = (self.loss)(&mut graph);
        graph.output("loss", loss);
        let upstream = graph.constant(&[1], vec![UPSTREAM]);
        graph.differentiate(loss, upstream);
        graph
    }

    fn problem(self) -> Problem {
        let graph = self.graph();
        let compile = move |bank: &Bank| -> Result<Run> {
            let program = Program::new(&graph, bank)?;
            if program.has("control") {
                program.write_words("control", &CONTROL)?;
            }
            if program.has("bytes") {
                program.write_bytes("bytes", &bytes(BATCH * 3 * 4 * 6))?;
            }
            if program.has("floats") {
                program.write("floats", &noise(BATCH * 3 * 4 * 6, 0.5, 3))?;
            }
            Ok(Box::new(move || {
                program.run()?;
                Ok(program.read_wide("loss")?[0])
            }))
        };
        let weights =
            self.params.iter().map(|(id, param)| on_grid(noise(param.len, 0.5, place(id)))).collect();
        Problem {
            name: self.name,
            params: Arc::new(self.params),
            weights,
            upstream: f64::from(UPSTREAM),
            nmse: self.nmse,
            compile: Box::new(compile),
        }
    }
}

/// Something with weights whose gradients are known by differences.
struct Problem {
    name: String,
    params: Arc<Params>,
    weights: Vec<Vec<f32>>,
    upstream: f64,
    nmse: f64,
    compile: Compile,
}

/// Makes a bank's program ready.
type Compile = Box<dyn Fn(&Bank) -> Result<Run>>;

/// Runs forward and backward, and gives the loss.
type Run = Box<dyn Fn() -> Result<f64>>;

impl Problem {
    fn bank(&self, device: &Device) -> Result<Bank> {
        let bank = Bank::new(device, &self.params, &[Set::Weights, Set::Gradients])?;
        for ((_, param), values) in self.params.iter().zip(&self.weights) {
            bank.write(Set::Weights, &param.name, values);
            // What a launch must not read, it had better not.
            bank.write(Set::Gradients, &param.name, &vec![7.5; param.len]);
        }
        Ok(bank)
    }

    /// Gradients on a device; of the second of two runs, so that nothing of the first may be left.
    fn gradients(&self, device: &Device) -> Result<Vec<Vec<f64>>> {
        let bank = self.bank(device)?;
        let run = (self.compile)(&bank)?;
        let first = run()?;
        assert_eq!(first.to_bits(), run()?.to_bits(), "{}", self.name);
        bank.read_wide(Set::Gradients)
    }

    /// Gradients by central differences.
    fn differences(&self) -> Result<Vec<Vec<f64>>> {
        let bank = self.bank(&Device::Oracle)?;
        let run = (self.compile)(&bank)?;
        let mut all = Vec::new();
        for ((_, param), values) in self.params.iter().zip(&self.weights) {
            let mut moved = values.clone();
            let mut differences = Vec::with_capacity(values.len());
            for i in 0..values.len() {
                let mut at = |value| {
                    moved[i] = value;
                    bank.write(Set::Weights, &param.name, &moved);
                    run()
                };
                let (above, below) = (at(values[i] + STEP)?, at(values[i] - STEP)?);
                at(values[i])?;
                differences.push(self.upstream * (above - below) / (2.0 * f64::from(STEP)));
            }
            all.push(differences);
        }
        Ok(all)
    }
}

/// Compares the oracle's gradients with differences.
fn check_differences(problems: Vec<Problem>) -> Result<()> {
    let (mut report, mut worst, mut elements) = (String::new(), 0.0_f64, 0);
    for problem in problems {
        let gradients = problem.gradients(&Device::Oracle)?;
        let differences = problem.differences()?;
        for (((_, param), gradient), difference) in problem.params.iter().zip(&gradients).zip(&differences) {
            let distance = Distance::between(gradient, difference);
            let still = STILL.contains(&param.name.as_str()) && distance.scale == 0.0;
            let error = if still { distance.max_abs } else { distance.max_abs / distance.scale };
            elements += gradient.len();
            worst = worst.max(error);
            if error > DIFFERENCES || (distance.scale < 1e-4 && !still) {
                report += &format!("{}: {}: {distance:?}\n", problem.name, param.name);
            }
        }
    }
    println!("{elements} derivatives, the worst off by {worst:.1e} of its parameter's largest");
    assert!(report.is_empty(), "not the gradients of finite differences:\n{report}");
    Ok(())
}

/// Compares a device's gradients with the oracle's.
fn check_device(device: &Device, problems: Vec<Problem>) -> Result<()> {
    let mut report = String::new();
    for problem in problems {
        let (gradients, reference) = (problem.gradients(device)?, problem.gradients(&Device::Oracle)?);
        let mut worst = 0.0_f64;
        for (((_, param), gradient), reference) in problem.params.iter().zip(&gradients).zip(&reference) {
            let distance = Distance::between(gradient, reference);
            worst = worst.max(distance.nmse);
            if distance.nmse > problem.nmse {
                report += &format!("{}: {}: {distance:?}\n", problem.name, param.name);
            }
        }
        println!("{device}: {}: NMSE {worst:.1e}", problem.name);
    }
    assert!(report.is_empty(), "{device} has other gradients than the oracle:\n{report}");
    Ok(())
}

/// The mean squared error of rows of which one is padding, with unequal weights.
fn loss(graph: &mut Graph, y: Value, _: ParamId) -> Value {
    let (rows, columns) = graph.rows(y);
    let target = graph.constant(&[rows, columns], noise(rows * columns, 1.0, 7));
    let weights = (0..rows).map(|row| if row == 1 { 0.0 } else { 0.1 + row as f32 * 0.03 }).collect();
    let weights = graph.constant(&[rows], weights);
    graph.weighted_mse(y, target, weights, columns)
}

/// A weight for each sample, not for each row, of a broadcast sum; and the loss itself goes on through SiLU.
fn loss_of_samples(graph: &mut Graph, y: Value, slots: ParamId) -> Value {
    let slots = graph.param(slots);
    let y = graph.add_rows(y, slots, 1, TOKENS);
    let target = graph.constant(&[BATCH, TOKENS * OUT], noise(ROWS * OUT, 1.0, 7));
    let weights = graph.constant(&[BATCH], vec![0.03, 0.05]);
    let loss = graph.weighted_mse(y, target, weights, TOKENS * OUT);
    graph.activation(loss, Activation::Silu)
}

/// Two losses, added up.
fn two_losses(graph: &mut Graph, y: Value, slots: ParamId) -> Value {
    let (a, b) = (loss(graph, y, slots), loss_of_samples(graph, y, slots));
    graph.add_rows(a, b, 1, 1)
}

/// Numbers around 0, keyed by what they are for.
fn noise(len: usize, spread: f32, key: u64) -> Vec<f32> {
    let mut rng = Rng::new(5, Stream::Init, key, 0);
    (0..len).map(|_| spread * rng.normal() as f32).collect()
}

fn bytes(len: usize) -> Vec<u8> {
    noise(len, 60.0, 9).into_iter().map(|value| (value + 128.0) as u8).collect()
}

/// The multiples of [`STEP`] next to some values.
fn on_grid(values: Vec<f32>) -> Vec<f32> {
    values.into_iter().map(|value| (value / STEP).round() * STEP).collect()
}

/// A key for a parameter's noise.
fn place(id: ParamId) -> u64 {
    format!("{id:?}").bytes().fold(100, |key, byte| key * 31 + u64::from(byte))
}

/// A linear layer as wide as the op's input.
fn square(params: &mut Params, name: &str) -> Projection {
    Projection::new(params, name, WIDTH, WIDTH)
}

/// Every op, and every way in which gradients meet.
fn nets() -> Vec<Net> {
    let mut nets = linear_nets();
    nets.extend(row_nets());
    nets.extend(attention_nets());
    nets.extend(sharing_nets());
    nets
}

const KINDS: [Activation; 4] = [Activation::Relu, Activation::Gelu, Activation::GeluTanh, Activation::Silu];

fn bound_of(kind: Activation) -> f64 {
    if kind == Activation::Gelu { LOOSER } else { F32 }
}

fn linear_nets() -> Vec<Net> {
    let mut nets = Vec::new();
    for kind in [Activation::None].into_iter().chain(KINDS) {
        let plain = Net::new(format!("linear {kind:?}"), |params| {
            let layer = square(params, "layer");
            Box::new(move |graph, h| graph.linear(layer.of(h).activation(kind)))
        });
        let values = Net::new(format!("linear {kind:?} plus values"), |params| {
            let (layer, other) = (square(params, "layer"), square(params, "other"));
            Box::new(move |graph, h| {
                let residual = graph.linear(other.of(h));
                graph.linear(layer.of(h).activation(kind).plus(residual, ROWS))
            })
        });
        let repeated = Net::new(format!("linear {kind:?} plus a parameter's rows"), |params| {
            let layer = square(params, "layer");
            let residual = params.declare("residual", &[TOKENS, WIDTH], Init::Zeros);
            Box::new(move |graph, h| {
                let residual = graph.param(residual);
                graph.linear(layer.of(h).activation(kind).plus(residual, TOKENS))
            })
        });
        nets.extend([plain, values, repeated].map(|net| net.within(bound_of(kind))));
    }
    nets.push(Net::new("linear plus its input", |params| {
        let layer = square(params, "layer");
        Box::new(move |graph, h| graph.linear(layer.of(h).plus(h, ROWS)))
    }));
    // Two runs of rows of one weight and bias, a gap between them: the gap's gradient is zero.
    nets.push(Net::new("linear by rows of a weight", |params| {
        let weight = params.declare("weight", &[20, WIDTH], Init::Zeros);
        let bias = params.declare("bias", &[20], Init::Zeros);
        Box::new(move |graph, h| {
            let first = graph.linear(Linear::new(h, weight, bias, 0..WIDTH));
            graph.linear(Linear::new(first, weight, bias, 12..20).plus(h, ROWS))
        })
    }));
    nets
}

/// A rectifier whose result one product reads, which is the gate of its gradient then, and one that others read as well.
fn rectifier_nets() -> Vec<Net> {
    let hidden = |name: &'static str, kind, again: bool| {
        move || {
            Net::new(name, |params| {
                let (first, second) = (square(params, "first"), square(params, "second"));
                Box::new(move |graph: &mut Graph, h| {
                    let hidden = graph.linear_dropped(first.of(h).activation(kind));
                    let y = graph.linear(second.of(hidden));
                    if again { graph.add_rows(y, hidden, 1, ROWS) } else { y }
                })
            })
        }
    };
    let once = hidden(GATED, Activation::Relu, false);
    let again = hidden("a rectifier whose result is used again", Activation::Relu, true);
    let added = || {
        Net::new("a rectifier whose result is added to what is made of it", |params| {
            let (first, second) = (square(params, "first"), square(params, "second"));
            Box::new(move |graph: &mut Graph, h| {
                let hidden = graph.linear_dropped(first.of(h).activation(Activation::Relu));
                graph.linear(second.of(hidden).plus(hidden, ROWS))
            })
        })
    };
    let smooth = hidden("a smooth hidden layer", Activation::Silu, false);
    let all = [once(), again(), added(), smooth()].into_iter();
    all.chain([once(), again(), added(), smooth()].map(|net| net.dropping(0.4))).collect()
}

const GATED: &str = "a rectifier between two layers";

#[test]
fn a_product_passes_a_gradient_through_the_rectifier_before_it() {
    for net in rectifier_nets() {
        let plan = net.graph().compile_plan();
        let count = |name| plan.steps.iter().filter(|step| step.kernel.name() == name).count();
        let gated = net.name.starts_with(GATED);
        // The SiLU behind the net has a backward launch of its own.
        assert_eq!(count("activation_backward") == 1, gated, "{}", net.name);
        let dropped = usize::from(net.dropout > 0.0);
        assert_eq!(count("dropout"), if gated { dropped } else { 2 * dropped }, "{}", net.name);
    }
}

fn row_nets() -> Vec<Net> {
    let mut nets = Vec::new();
    for kind in KINDS {
        let net =
            Net::new(format!("activation {kind:?}"), |_| Box::new(move |graph, h| graph.activation(h, kind)));
        nets.push(net.within(bound_of(kind)));
    }
    for (div, modulo) in [(1, ROWS), (1, TOKENS), (TOKENS, BATCH), (2, 3), (2, 2)] {
        nets.push(Net::new(format!("add_rows of values, each {div} of {modulo}"), |params| {
            let layer = square(params, "layer");
            let b = params.declare("b", &[modulo, WIDTH], Init::Zeros);
            Box::new(move |graph, h| {
                let b = graph.param(b);
                let b = graph.linear(layer.of(b));
                graph.add_rows(h, b, div, modulo)
            })
        }));
        nets.push(Net::new(format!("add_rows of a parameter, each {div} of {modulo}"), |params| {
            let b = params.declare("b", &[modulo, WIDTH], Init::Zeros);
            Box::new(move |graph, h| {
                let b = graph.param(b);
                graph.add_rows(h, b, div, modulo)
            })
        }));
    }
    let dropout = Net::new("dropout", |_| Box::new(|graph, h| graph.dropout(h, None)));
    let added = Net::new("dropout plus values", |params| {
        let other = square(params, "other");
        Box::new(move |graph, h| {
            let residual = graph.linear(other.of(h));
            graph.dropout(h, Some(residual))
        })
    });
    let itself = Net::new("dropout plus its input", |_| Box::new(|graph, h| graph.dropout(h, Some(h))));
    nets.extend([dropout, added, itself].map(|net| net.dropping(0.4)));
    nets.push(Net::new("dropout that is off, plus its input", |_| {
        Box::new(|graph, h| graph.dropout(h, Some(h)))
    }));
    nets.push(Net::new("layer_norm", |params| {
        let norm = Norm::new(params, "norm", WIDTH, 1e-5);
        Box::new(move |graph, h| norm.apply(graph, h))
    }));
    nets.push(Net::new("layer_norm of what is used again", |params| {
        let norm = Norm::new(params, "norm", WIDTH, 1e-5);
        Box::new(move |graph, h| {
            let y = norm.apply(graph, h);
            graph.add_rows(y, h, 1, ROWS)
        })
    }));
    for (name, dtype) in [("bytes", Dtype::U8), ("floats", Dtype::F32)] {
        nets.push(Net::new(format!("patchify of {name}"), |params| {
            let embed = Projection::new(params, "embed", 3 * 2 * 2, WIDTH);
            let positions = params.declare("positions", &[6, WIDTH], Init::Zeros);
            Box::new(move |graph, h| {
                let images = graph.input(name, dtype, &[BATCH, 3, 4, 6]);
                let patches = graph.patchify(images, 2);
                let positions = graph.param(positions);
                let patches = graph.linear(embed.of(patches).activation(Activation::Silu).plus(positions, 6));
                graph.add_rows(patches, h, 1, ROWS)
            })
        }));
    }
    let pass = |_: &mut Params| -> Op { Box::new(|_, h| h) };
    nets.push(Net::ending("weighted_mse of samples, in the middle", pass, loss_of_samples));
    nets.push(Net::ending("two losses", pass, two_losses));
    nets
}

/// Two heads over [`WIDTH`] columns, as many queries as there are tokens.
fn attend(q: Columns, k: Columns, v: Columns, keys: usize) -> Attend {
    let shape = AttentionShape { batch: BATCH, heads: 2, queries: TOKENS, keys, head_width: WIDTH / 2 };
    Attend { q, k, v, shape }
}

/// Part `part` of a packed projection.
fn part(value: Value, part: usize) -> Columns {
    Columns { value, first: part * WIDTH }
}

/// Weight and bias of `parts` projections side by side.
fn packed(params: &mut Params, parts: usize) -> Projection {
    Projection::new(params, "in_proj", WIDTH, parts * WIDTH)
}

fn attention_nets() -> Vec<Net> {
    let oneself = || {
        Net::new("self-attention", |params| {
            let packed = packed(params, 3);
            Box::new(move |graph, h| {
                let qkv = graph.linear(packed.of(h));
                graph.attention(attend(part(qkv, 0), part(qkv, 1), part(qkv, 2), TOKENS))
            })
        })
    };
    let cross = || {
        Net::new("cross-attention", |params| {
            let packed = packed(params, 3);
            let memory = params.declare("memory", &[BATCH * 5, WIDTH], Init::Zeros);
            Box::new(move |graph, h| {
                let (weight, bias) = (packed.weight, packed.bias);
                let q = graph.linear(Linear::new(h, weight, bias, 0..WIDTH));
                let memory = graph.param(memory);
                let kv = graph.linear(Linear::new(memory, weight, bias, WIDTH..3 * WIDTH));
                graph.attention(attend(part(q, 0), part(kv, 0), part(kv, 1), 5))
            })
        })
    };
    let mut nets = vec![oneself(), oneself().dropping(0.3), cross(), cross().dropping(0.3)];
    // Keys and values that two layers look at, in columns of one projection: each fills its own.
    nets.push(Net::new("two attentions on columns of one projection", |params| {
        let packed = packed(params, 6);
        Box::new(move |graph, h| {
            let all = graph.linear(packed.of(h));
            let first = graph.attention(attend(part(all, 0), part(all, 1), part(all, 2), TOKENS));
            graph.attention(attend(part(first, 0), part(all, 5), part(all, 3), TOKENS))
        })
    }));
    nets.into_iter().map(|net| net.within(LOOSER)).collect()
}

fn sharing_nets() -> Vec<Net> {
    let mut nets = Vec::new();
    nets.push(Net::new("a value used by every kind of op", |params| {
        let (a, b) = (square(params, "a"), square(params, "b"));
        let norm = Norm::new(params, "norm", WIDTH, 1e-5);
        let packed = packed(params, 3);
        Box::new(move |graph, h| {
            let y = graph.linear(a.of(h));
            let y = graph.linear(b.of(h).plus(y, ROWS));
            let z = graph.activation(h, Activation::Silu);
            let y = graph.add_rows(y, z, 1, ROWS);
            let z = norm.apply(graph, h);
            let y = graph.add_rows(y, z, 1, ROWS);
            let qkv = graph.linear(packed.of(h));
            let z = graph.attention(attend(part(qkv, 0), part(qkv, 1), part(qkv, 2), TOKENS));
            let y = graph.add_rows(y, z, 1, ROWS);
            let y = graph.dropout(y, Some(h));
            graph.add_rows(y, y, 1, ROWS)
        })
    }));
    // The one row goes before each sample's three; then the first and the last two of each sample's four are taken.
    nets.push(Net::new("rows led, cut and used twice", |params| {
        let lead = params.declare("lead", &[1, 1, WIDTH], Init::Zeros);
        let layer = square(params, "layer");
        Box::new(move |graph, h| {
            let lead = graph.param(lead);
            let y = graph.lead_rows(lead, h, BATCH);
            let y = graph.linear(layer.of(y).activation(Activation::Silu));
            let cut = |first, rows| RowCut { groups: BATCH, stride: 1 + TOKENS, first, rows };
            let firsts = graph.cut_rows(y, cut(0, 1));
            let rest = graph.cut_rows(y, cut(1, TOKENS));
            graph.add_rows(rest, firsts, TOKENS, BATCH)
        })
    }));
    nets.push(Net::new("a weight used twice", |params| {
        let layer = square(params, "layer");
        Box::new(move |graph, h| {
            let y = graph.linear(layer.of(h).activation(Activation::Relu));
            graph.linear(layer.of(y))
        })
    }));
    nets.extend(rectifier_nets());
    nets.push(Net::new("a norm used twice", |params| {
        let norm = Norm::new(params, "norm", WIDTH, 1e-5);
        let layer = square(params, "layer");
        Box::new(move |graph, h| {
            let y = norm.apply(graph, h);
            let y = graph.linear(layer.of(y));
            norm.apply(graph, y)
        })
    }));
    // 6..14 is written first; 0..8 then overlaps it by two rows, and 4..20 by all of it and more.
    nets.push(Net::new("rows of a weight that overlap", |params| {
        let weight = params.declare("weight", &[20, WIDTH], Init::Zeros);
        let bias = params.declare("bias", &[20], Init::Zeros);
        let down = Projection::new(params, "down", 16, WIDTH);
        Box::new(move |graph, h| {
            let y = graph.linear(Linear::new(h, weight, bias, 4..20).activation(Activation::Silu));
            let y = graph.linear(down.of(y));
            let y = graph.linear(Linear::new(y, weight, bias, 0..8));
            graph.linear(Linear::new(y, weight, bias, 6..14))
        })
    }));
    nets.push(Net::new("a parameter in every place of an op", |params| {
        let p = params.declare("p", &[ROWS, WIDTH], Init::Zeros);
        let layer = square(params, "layer");
        let norm = Norm::new(params, "norm", WIDTH, 1e-5);
        Box::new(move |graph, h| {
            let p = graph.param(p);
            let y = graph.linear(layer.of(p).plus(p, ROWS));
            let y = graph.add_rows(p, y, 1, ROWS);
            let z = graph.activation(p, Activation::Silu);
            let y = graph.add_rows(y, z, 1, ROWS);
            let z = norm.apply(graph, p);
            let y = graph.add_rows(y, z, 1, ROWS);
            let y = graph.dropout(y, Some(p));
            graph.add_rows(y, h, 1, ROWS)
        })
    }));
    // A shape changes between an op's forward and its backward pass.
    nets.push(Net::new("values that take another shape", |params| {
        let norm = Norm::new(params, "norm", WIDTH, 1e-5);
        let layer = square(params, "layer");
        let flat = params.declare("flat", &[1, TOKENS * WIDTH], Init::Zeros);
        let fold = |graph: &mut Graph, value| graph.reshape(value, &[BATCH, TOKENS * WIDTH]);
        let unfold = |graph: &mut Graph, value| graph.reshape(value, &[ROWS, WIDTH]);
        Box::new(move |graph, h| {
            let y = norm.apply(graph, h);
            let z = graph.linear(layer.of(y).plus(h, ROWS));
            [h, y, z].into_iter().for_each(|value| fold(graph, value));
            let flat = graph.param(flat);
            let sum = graph.add_rows(z, flat, 1, 1);
            let sum = graph.add_rows(sum, h, 1, BATCH);
            unfold(graph, sum);
            sum
        })
    }));
    nets
}

/// A training step of a tiny policy, all in one: two samples, of which the second sees nothing where that is learned.
fn policy(name: &str, json: &serde_json::Value, t_per_slot: bool) -> Problem {
    let config = Config::parse(&json.to_string()).expect("a configuration");
    let (network, params) = Network::new(&config);
    let params = Arc::new(params);
    let around = |id| {
        let noise = noise(params.get(id).len, 0.1, place(id));
        on_grid(params.initial(id, 1).iter().zip(noise).map(|(a, b)| a + b).collect())
    };
    let weights = params.iter().map(|(id, _)| around(id)).collect();
    let compile = move |bank: &Bank| -> Result<Run> {
        let shape = StepShape {
            batch: BATCH,
            cameras: vec![Some(Dtype::U8); config.images().count()],
            t_per_slot,
            purpose: Purpose::Gradients,
            dropout: config.dropout,
        };
        let step = TrainStep::new(&config, &network, bank, shape)?;
        let cameras =
            config.images().map(|(_, image)| bytes(BATCH * config.n_obs_steps * config.seen_len(image)));
        let cameras: Vec<Vec<u8>> = cameras.collect();
        let (seen, dropped) = (config.n_obs_steps * config.state_dim(), [0.0, 1.0]);
        let mut states = noise(BATCH * seen, 1.0, 22);
        if config.unconditional == Unconditional::Learned {
            states[seen..].fill(0.0);
        }
        let mut is_pad = [false; ROWS];
        is_pad[ROWS - 1] = true;
        let weights = loss_weights(&config, &is_pad, &[]);
        let times = if t_per_slot { ROWS } else { BATCH };
        let times: Vec<f32> = (0..times).map(|i| (i as f32 + 0.5) / times as f32).collect();
        let dims = config.network_action_dim();
        let (actions, noises) = (noise(ROWS * dims, 1.0, 20), noise(ROWS * dims, 1.0, 21));
        Ok(Box::new(move || {
            let inputs = StepInputs {
                seen: Observations {
                    images: cameras.iter().map(|images| Images::Bytes(images)).collect(),
                    state: &states,
                },
                dropped: &dropped,
                actions: &actions,
                noise: &noises,
                times: &times,
                weights: &weights,
            };
            let hyper = Hyper {
                lr: 0.0,
                betas: [0.0; 2],
                eps: 1.0,
                weight_decay: 0.0,
                ema_decay: 0.0,
                max_norm: 0.0,
            };
            step.run(&inputs, &hyper, 3, 4)?;
            step.loss()
        }))
    };
    let name = name.to_owned();
    Problem { name, params, weights, upstream: 1.0, nmse: LOOSER, compile: Box::new(compile) }
}

fn policies() -> Vec<Problem> {
    use serde_json::json;
    let seeing = json!({
        "type": "patch_decoder", "chunk_size": TOKENS,
        "input_features": {"observation.image": {"type": "VISUAL", "shape": [3, 4, 6]}},
        "output_features": {"action": {"type": "ACTION", "shape": [2]}},
        "patch_size": 2, "d_model": 16, "encoder_layers": 1, "encoder_heads": 2, "decoder_layers": 1,
        "decoder_heads": 1, "dim_feedforward": 12, "dropout": 0.3
    });
    let feeling = json!({
        "type": "velocity_mlp", "chunk_size": TOKENS,
        "input_features": {
            "observation.state": {"type": "STATE", "shape": [3]},
            "observation.environment_state": {"type": "ENV", "shape": [2]}
        },
        "output_features": {"action": {"type": "ACTION", "shape": [2]}},
        "hidden_dim": 10, "time_features": {"kind": "harmonics", "dim": 4}, "dropout": 0.2
    });
    let watching = json!({
        "type": "flowmatching", "chunk_size": TOKENS,
        "input_features": {
            "observation.images.left": {"type": "VISUAL", "shape": [3, 4, 6]},
            "observation.images.right": {"type": "VISUAL", "shape": [3, 9, 5]},
            "observation.state": {"type": "STATE", "shape": [2]}
        },
        "output_features": {"action": {"type": "ACTION", "shape": [2]}},
        "max_state_dim": 3, "max_action_dim": 3, "image_size": [4, 6], "vision_backbone": "vit",
        "vit_patch_size": 2, "vit_embed_dim": 8, "vit_heads": 1, "vit_layers": 2, "vit_mlp_dim": 10,
        "hidden_dim": 8, "denoiser_layers": 1, "denoiser_heads": 1, "dropout": 0.3, "action_pos_embed": true
    });
    let residual =
        json!({"layout": "residual", "num_layers": 2, "time_features": {"kind": "sinusoid", "dim": 10}});
    let with = |base: &serde_json::Value, changes: serde_json::Value| {
        let mut json = base.clone();
        for (key, value) in changes.as_object().into_iter().flatten() {
            json[key] = value.clone();
        }
        json
    };
    vec![
        policy("policy", &with(&seeing, json!({"action_pos_embed": true})), false),
        policy(
            "policy of two frames",
            &with(&seeing, json!({"n_obs_steps": 2, "flow": {"noise_at": 1}})),
            true,
        ),
        policy(
            "policy that regresses",
            &with(&seeing, json!({"objective": "regression", "action_pos_embed": true})),
            false,
        ),
        policy(
            "policy in two passes",
            &with(&seeing, json!({"objective": "mip", "action_pos_embed": true})),
            false,
        ),
        policy(
            "policy whose actions look at patches",
            &with(&seeing, json!({"encoder_layers": 0, "action_pos_embed": true})),
            true,
        ),
        policy("policy that watches", &watching, false),
        policy(
            "policy that watches, all counted, a time a slot",
            &with(&watching, json!({"loss_reduction": "zeroed", "action_pos_embed": false})),
            true,
        ),
        policy("state policy", &with(&feeling, json!({"n_obs_steps": 2})), false),
        policy(
            "state policy that learns what nothing looks like",
            &with(&feeling, json!({"observation_dropout": 0.5, "unconditional": "learned"})),
            false,
        ),
        policy("state policy of one layer", &with(&feeling, json!({"num_layers": 1})), false),
        policy("state policy in two passes", &with(&feeling, json!({"objective": "mip"})), false),
        policy("residual state policy", &with(&feeling, residual.clone()), false),
        policy(
            "residual state policy that learns what nothing looks like",
            &with(
                &with(&feeling, residual),
                json!({"activation": "gelu", "observation_dropout": 0.5, "unconditional": "learned"}),
            ),
            false,
        ),
    ]
}

fn problems() -> Vec<Problem> {
    nets().into_iter().map(Net::problem).collect()
}

#[test]
fn the_nets_launch_every_kernel_that_has_to_do_with_gradients() {
    let mut launched = BTreeSet::new();
    for net in nets() {
        launched.extend(net.graph().compile_plan().steps.iter().map(|step| step.kernel.name()));
    }
    // What works on constants, on gradients themselves, or, such as `decoder_steps`, while nothing trains.
    let others = [
        "time_embedding",
        "flow_path",
        "combine",
        "squared_norm",
        "clip_scale",
        "adam",
        "decoder_steps",
        "matmul_norm",
        "attention_norm",
        "norm_matmul",
    ];
    let expected: BTreeSet<_> = flowgpu::kernels::all_cases().iter().map(|case| case.kernel.name()).collect();
    let missing: Vec<_> = expected.difference(&launched).filter(|name| !others.contains(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_op_in_the_middle_of_a_graph_has_the_gradient_of_differences() -> Result<()> {
    check_differences(problems())
}

#[test]
fn a_training_step_has_the_gradient_of_differences() -> Result<()> {
    check_differences(policies())
}

#[test]
fn the_cpu_device_has_the_gradients_of_the_oracle() -> Result<()> {
    check_device(&Device::Cpu, problems())?;
    check_device(&Device::Cpu, policies())
}

#[test]
fn a_gpu_has_the_gradients_of_the_oracle() -> Result<()> {
    check_device(&GPU, problems())?;
    check_device(&GPU, policies())
}
