//! A training step as one program: forward, backward, clipping, optimiser, averaging.

use std::sync::Arc;

use crate::graph::{Bank, Graph, Program, Training, Value};
use crate::kernels::optimizer::{Adam, ClipScale, Hyper, SquaredNorm};
use crate::kernels::{Dtype, Set};
use crate::policy::{Config, Images, Network, Objective};
use crate::{Error, Result};

/// Which update follows the gradients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Update {
    /// AdamW's decay, rather than Adam's L2 term in the gradient.
    pub decoupled: bool,
    /// Whether an average of the weights is kept.
    pub average: bool,
}

/// What a step's program does beyond the loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Nothing: validation.
    Loss,
    /// Gradients, left in [`Set::Gradients`].
    Gradients,
    /// Gradients, clipping, and the update.
    Update(Update),
}

/// What one step is made from, all in the policy's normalised units.
#[derive(Debug, Clone, Copy)]
pub struct StepInputs<'a> {
    /// Images [B, 3·T, H, W].
    pub images: Images<'a>,
    /// Actions [B, H, A].
    pub actions: &'a [f32],
    /// Noise [B, H, A].
    pub noise: &'a [f32],
    /// Times `[B]`, or [B, H].
    pub times: &'a [f32],
    /// What each action step counts in the loss, [B, H]; see [`loss_weights`].
    pub weights: &'a [f32],
}

/// What a step reports.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// The loss before the update.
    pub loss: f32,
    /// The gradient's norm before clipping.
    pub grad_norm: f32,
    /// The first step whose gradient was not finite, if there was one since the program was made.
    pub bad_step: Option<u64>,
}

/// Shapes of a step's program.
#[derive(Debug, Clone, Copy)]
pub struct StepShape {
    /// B.
    pub batch: usize,
    /// What images come as.
    pub images: Dtype,
    /// Whether each action slot has a time of its own.
    pub t_per_slot: bool,
    /// What follows the loss.
    pub purpose: Purpose,
    /// Dropout; none in validation and verification.
    pub dropout: f32,
}

/// A compiled training step.
pub struct TrainStep {
    program: Program,
    launches: usize,
    updates: bool,
}

impl TrainStep {
    /// Builds and compiles the step.
    ///
    /// # Errors
    /// If the device lacks memory or refuses a shader.
    pub fn new(config: &Config, network: &Network, bank: &Bank, shape: StepShape) -> Result<Self> {
        let training = (shape.purpose != Purpose::Loss).then_some(Training { dropout: shape.dropout });
        let mut graph = Graph::new(Arc::clone(bank.params()), training);
        let loss = forward(&mut graph, config, network, shape);
        graph.output("loss", loss);
        if training.is_some() {
            let one = graph.constant(&[1], vec![1.0]);
            graph.differentiate(loss, one);
        }
        if let Purpose::Update(update) = shape.purpose {
            append_update(&mut graph, update);
        }
        let updates = matches!(shape.purpose, Purpose::Update(_));
        Ok(Self { program: Program::new(&graph, bank)?, launches: graph.launches(), updates })
    }

    /// Runs one step; on a GPU it is submitted, not awaited. `step` counts from 1.
    ///
    /// # Errors
    /// If an input's length does not fit, or the GPU was lost.
    pub fn run(&self, inputs: &StepInputs<'_>, hyper: &Hyper, seed: u64, step: u64) -> Result<()> {
        self.load(inputs)?;
        if self.program.has("control") {
            let words = [seed as u32, (seed >> 32) as u32, step as u32, (step >> 32) as u32];
            self.program.write_words("control", &words)?;
        }
        if self.updates {
            self.program.write("hyper", &hyper.words(step))?;
        }
        self.program.run()
    }

    fn load(&self, inputs: &StepInputs<'_>) -> Result<()> {
        inputs.images.write(&self.program)?;
        self.program.write("actions", inputs.actions)?;
        if self.program.has("noise") {
            self.program.write("noise", inputs.noise)?;
            self.program.write("t", inputs.times)?;
        }
        self.program.write("weights", inputs.weights)
    }

    /// Waits for the last step and reads what it reports.
    ///
    /// # Errors
    /// If the GPU was lost.
    pub fn report(&self) -> Result<StepReport> {
        let loss = self.program.read("loss")?[0];
        if !self.updates {
            return Ok(StepReport { loss, grad_norm: f32::NAN, bad_step: None });
        }
        let state = self.program.read("state")?;
        Ok(StepReport { loss, grad_norm: state[0], bad_step: (state[3] > 0.0).then_some(state[3] as u64) })
    }

    /// The loss in the device's own precision.
    ///
    /// # Errors
    /// If the GPU was lost.
    pub fn loss(&self) -> Result<f64> {
        let loss = self.program.read_wide("loss")?;
        loss.first().copied().ok_or_else(|| Error::failure("the step has no loss"))
    }

    /// Kernel launches of one step.
    pub fn launches(&self) -> usize {
        self.launches
    }

    /// The compiled program.
    pub fn program(&self) -> &Program {
        &self.program
    }
}

/// Appends the loss of a batch.
fn forward(graph: &mut Graph, config: &Config, network: &Network, shape: StepShape) -> Value {
    let (_, dims) = config.action();
    let (batch, chunk) = (shape.batch, config.chunk_size);
    let images = network.image_input(graph, "images", batch, shape.images);
    let actions = graph.input("actions", Dtype::F32, &[batch, chunk, dims]);
    let weights = graph.input("weights", Dtype::F32, &[batch * chunk]);
    let memory = network.encode(graph, images);
    let (x, t, target) = match config.objective {
        Objective::Flow => {
            let noise = graph.input("noise", Dtype::F32, &[batch, chunk, dims]);
            let times: &[usize] = if shape.t_per_slot { &[batch, chunk] } else { &[batch] };
            let t = graph.input("t", Dtype::F32, times);
            let (x, v) = graph.flow_path(noise, actions, t, config.flow.noise_at as u32);
            (x, t, v)
        }
        Objective::Regression => {
            let x = graph.constant(&[batch, chunk, dims], vec![0.0; batch * chunk * dims]);
            let t = graph.constant(&[batch], vec![config.flow.noise_time() as f32; batch]);
            (x, t, actions)
        }
    };
    let prediction = network.velocity(graph, &memory, x, t);
    graph.weighted_mse(prediction, target, weights)
}

/// Appends clipping and the optimiser over the flat shards.
fn append_update(graph: &mut Graph, update: Update) {
    let shards = graph.params().shards().to_vec();
    let norms: Vec<SquaredNorm> = shards.iter().map(|&len| SquaredNorm { len }).collect();
    let total = norms.iter().map(SquaredNorm::groups).sum();
    let partials = graph.input("partials", Dtype::F32, &[total]);
    let hyper = graph.input("hyper", Dtype::F32, &[Hyper::WORDS]);
    let state = graph.input("state", Dtype::F32, &[4]);
    let mut first = 0;
    for (shard, norm) in norms.into_iter().enumerate() {
        let (gradients, groups) = (graph.shard(Set::Gradients, shard), norm.groups());
        let part = graph.view(partials, first, groups);
        graph.launch(norm, &[Some(gradients)], &[part]);
        first += groups;
    }
    graph.launch(ClipScale { partials: total }, &[Some(partials), Some(hyper)], &[state]);
    for (shard, len) in shards.into_iter().enumerate() {
        let gradients = graph.shard(Set::Gradients, shard);
        let mut changed = vec![Set::Weights, Set::Moment1, Set::Moment2];
        changed.extend(update.average.then_some(Set::Average));
        let changed: Vec<Value> = changed.into_iter().map(|set| graph.shard(set, shard)).collect();
        let adam = Adam { len, decoupled: update.decoupled, average: update.average };
        graph.launch(adam, &[Some(gradients), Some(state), Some(hyper)], &changed);
    }
}

/// What each action step counts in the loss, [B, H], for A-dimensional actions: the mean's divisor included.
///
/// | reduction | padded steps | divisor |
/// |---|---|---|
/// | `Valid` | 0 | unpadded steps · A |
/// | `Zeroed` | 0 | B · H · A |
/// | `All` | as others | B · H · A |
pub fn loss_weights(reduction: crate::policy::LossReduction, is_pad: &[bool], dims: usize) -> Vec<f32> {
    use crate::policy::LossReduction::{All, Valid, Zeroed};
    let valid = is_pad.iter().filter(|pad| !**pad).count();
    let count = if reduction == Valid { valid } else { is_pad.len() };
    let weight = 1.0 / (count.max(1) * dims) as f32;
    let of = |&pad: &bool| match reduction {
        All => weight,
        Valid | Zeroed => {
            if pad {
                0.0
            } else {
                weight
            }
        }
    };
    is_pad.iter().map(of).collect()
}
