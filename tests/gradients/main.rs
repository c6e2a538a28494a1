//! Every op's gradient where it stands in the middle of a graph: against finite differences in f64, then each
//! device against f64.
//!
//! A net is a parameter, a linear layer, the op, a linear layer with SiLU, and a weighted loss of which 0.37 counts:
//! what comes to the op from behind is arbitrary, and what it passes on is used. Weights are multiples of the step
//! of the differences, so that both sides of it are exact. Every element of every parameter is compared.

mod nets;
mod policies;

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use flowgpu::Result;
use flowgpu::graph::{Bank, Device, Graph, Init, ParamId, Params, Program, Training, Value};
use flowgpu::kernels::Set;
use flowgpu::kernels::activation::Activation;
use flowgpu::kernels::check::Distance;
use flowgpu::nn::Projection;
use flowgpu::rng::{Rng, Stream};

/// One device for all tests of this folder: pipelines are dear on software adapters.
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

fn problems() -> Vec<Problem> {
    nets::all().into_iter().map(Net::problem).collect()
}

#[test]
fn the_nets_launch_every_kernel_that_has_to_do_with_gradients() {
    let mut launched = BTreeSet::new();
    for net in nets::all() {
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
    check_differences(policies::all())
}

#[test]
fn the_cpu_device_has_the_gradients_of_the_oracle() -> Result<()> {
    check_device(&Device::Cpu, problems())?;
    check_device(&Device::Cpu, policies::all())
}

#[test]
fn a_gpu_has_the_gradients_of_the_oracle() -> Result<()> {
    check_device(&GPU, problems())?;
    check_device(&GPU, policies::all())
}
