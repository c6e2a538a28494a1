//! A training step as one program: forward, backward, clipping, optimiser, averaging.

use std::sync::Arc;

use crate::graph::{Bank, Graph, Params, Program, Shard, Training, Value};
use crate::kernels::add_rows::AddInto;
use crate::kernels::optimizer::{Adam, ClipScale, Hyper, SquaredNorm};
use crate::kernels::{Dtype, Set};
use crate::policy::{Config, Family, LossReduction, MIP_TIME, Network, Objective, Observations, Time};
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
    /// Gradients, added to those in [`Set::Gradients`], and a loss that is added up from [`TrainStep::begin`] on: a
    /// part of a batch, before an [`super::UpdateStep`].
    Accumulate,
    /// Gradients, clipping, and the update.
    Update(Update),
}

/// What one step is made from, all in the policy's normalised units.
#[derive(Debug, Clone)]
pub struct StepInputs<'a> {
    /// Images [B, 3·T, H, W] of each camera, as large as the network sees them, and states [B, T·S], as far as the policy sees them.
    pub seen: Observations<'a>,
    /// Which samples see nothing, `[B]` of 0 and 1; read where what stands for nothing is learned.
    pub dropped: &'a [f32],
    /// Actions [B, H, A].
    pub actions: &'a [f32],
    /// Noise [B, H, A].
    pub noise: &'a [f32],
    /// Times `[B]`, or [B, H] where each action has its own.
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
#[derive(Debug, Clone)]
pub struct StepShape {
    /// B.
    pub batch: usize,
    /// What each camera's pictures come as; none for a camera that is missing.
    pub cameras: Vec<Option<Dtype>>,
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
        if shape.t_per_slot && matches!(config.family, Family::VelocityMlp(_)) {
            return Err(Error::input("a velocity_mlp takes one flow time a sample, not one for each action"));
        }
        let graph = step_graph(config, network, bank.params(), &shape);
        let updates = matches!(shape.purpose, Purpose::Update(_));
        Ok(Self { program: Program::new(&graph, bank)?, launches: graph.launches(), updates })
    }

    /// Begins to add up losses anew; nothing where they are not.
    ///
    /// # Errors
    /// If the GPU was lost.
    pub fn begin(&self) -> Result<()> {
        if self.program.has(LOSS_SUM) { self.program.write(LOSS_SUM, &[0.0]) } else { Ok(()) }
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
        inputs.seen.write(&self.program)?;
        let rest = [
            ("dropped", inputs.dropped),
            ("actions", inputs.actions),
            ("noise", inputs.noise),
            ("t", inputs.times),
            ("weights", inputs.weights),
        ];
        for (name, values) in rest.into_iter().filter(|(name, _)| self.program.has(name)) {
            self.program.write(name, values)?;
        }
        Ok(())
    }

    /// Waits for the last step and reads what it reports.
    ///
    /// # Errors
    /// If the GPU was lost.
    pub fn report(&self) -> Result<StepReport> {
        let loss = self.program.read(if self.program.has(LOSS_SUM) { LOSS_SUM } else { "loss" })?[0];
        if !self.updates {
            return Ok(StepReport { loss, grad_norm: f32::NAN, bad_step: None });
        }
        let (grad_norm, bad_step) = clipped(&self.program)?;
        Ok(StepReport { loss, grad_norm, bad_step })
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

/// What [`append_update`] leaves of the last step: the gradient's norm before clipping, and the first step whose gradient
/// was not finite, if there was one.
pub(super) fn clipped(program: &Program) -> Result<(f32, Option<u64>)> {
    let state = program.read("state")?;
    Ok((state[0], (state[3] > 0.0).then_some(state[3] as u64)))
}

/// The sum of the losses of a batch's parts.
const LOSS_SUM: &str = "loss_sum";

/// The graph of a step: forward, and as much of backward, clipping and update as its purpose asks for.
pub fn step_graph(config: &Config, network: &Network, params: &Arc<Params>, shape: &StepShape) -> Graph {
    let training = (shape.purpose != Purpose::Loss).then_some(Training { dropout: shape.dropout });
    let mut graph = Graph::new(Arc::clone(params), training);
    let loss = forward(&mut graph, config, network, shape);
    graph.output("loss", loss);
    if shape.purpose == Purpose::Accumulate {
        let sum = graph.input(LOSS_SUM, Dtype::F32, &[1]);
        graph.launch(AddInto { offset: 0, len: 1 }, &[Some(loss)], &[sum]);
        graph.accumulate_gradients();
    }
    if training.is_some() {
        let one = graph.constant(&[1], vec![1.0]);
        graph.differentiate(loss, one);
    }
    if let Purpose::Update(update) = shape.purpose {
        append_update(&mut graph, update);
    }
    graph
}

/// What MIP's loss is multiplied by, as its authors do (arXiv 2512.01809).
const MIP_SCALE: f64 = 0.1;

/// Appends the loss of a batch:
///
/// | objective | loss |
/// |---|---|
/// | flow | ‖f(x_t, t) − dx_t/dt‖² |
/// | regression | ‖f(0, noise's time) − a‖² |
/// | mip | 0.1 (‖f(0, noise's time) − a‖² / t*² + ‖f(a + (1 − t*) ε, t*) − a‖² / (1 − t*)²), t* = 0.9 |
///
/// each weighted as [`loss_weights`] says.
fn forward(graph: &mut Graph, config: &Config, network: &Network, shape: &StepShape) -> Value {
    let (dims, counted) = (config.network_action_dim(), counted_dims(config));
    let (batch, chunk) = (shape.batch, config.chunk_size);
    let chunks = [batch, chunk, dims];
    let seen = network.inputs(graph, config, batch, &shape.cameras);
    let actions = graph.input("actions", Dtype::F32, &chunks);
    let weights = graph.input("weights", Dtype::F32, &[batch * chunk]);
    let memory = network.encode(graph, seen);
    let from_nothing = |graph: &mut Graph| {
        let x = graph.constant(&chunks, vec![0.0; batch * chunk * dims]);
        let t = graph.constant(&[batch], vec![config.flow.noise_time() as f32; batch]);
        network.velocity(graph, &memory, x, Time::Given(t), None)
    };
    match config.objective {
        Objective::Flow => {
            let noise = graph.input("noise", Dtype::F32, &chunks);
            let times: &[usize] = if shape.t_per_slot { &[batch, chunk] } else { &[batch] };
            let t = graph.input("t", Dtype::F32, times);
            let (x, v) = graph.flow_path(noise, actions, t, config.flow.noise_at as u32);
            let prediction = network.velocity(graph, &memory, x, Time::Given(t), None);
            graph.weighted_mse(prediction, v, weights, counted)
        }
        Objective::Regression => {
            let prediction = from_nothing(graph);
            graph.weighted_mse(prediction, actions, weights, counted)
        }
        Objective::Mip => {
            let noise = graph.input("noise", Dtype::F32, &chunks);
            let t = Objective::Mip.times(&config.flow, 1)[1];
            let t = graph.constant(&[batch], vec![t as f32; batch]);
            let near = graph.combine(&[(1.0, actions), (1.0 - MIP_TIME, noise)]);
            let early = from_nothing(graph);
            let late = network.velocity(graph, &memory, near, Time::Given(t), None);
            let scaled = |by: f64| [(MIP_SCALE / (by * by), weights)];
            let [for_early, for_late] = [MIP_TIME, 1.0 - MIP_TIME].map(|by| graph.combine(&scaled(by)));
            let early = graph.weighted_mse(early, actions, for_early, counted);
            let late = graph.weighted_mse(late, actions, for_late, counted);
            graph.add_rows(early, late, 1, 1)
        }
    }
}

/// Appends clipping and the optimiser over the flat shards.
pub(super) fn append_update(graph: &mut Graph, update: Update) {
    let shards: Vec<(usize, Shard)> = graph.params().learning_shards().collect();
    let norms: Vec<SquaredNorm> = shards.iter().map(|(_, shard)| SquaredNorm { len: shard.len }).collect();
    let total = norms.iter().map(SquaredNorm::groups).sum();
    let partials = graph.input("partials", Dtype::F32, &[total]);
    let hyper = graph.input("hyper", Dtype::F32, &[Hyper::WORDS]);
    let state = graph.input("state", Dtype::F32, &[4]);
    let mut first = 0;
    for (&(shard, _), norm) in shards.iter().zip(norms) {
        let (gradients, groups) = (graph.shard(Set::Gradients, shard), norm.groups());
        let part = graph.view(partials, first, groups);
        graph.launch(norm, &[Some(gradients)], &[part]);
        first += groups;
    }
    graph.launch(ClipScale { partials: total }, &[Some(partials), Some(hyper)], &[state]);
    for (shard, Shard { len, rate, .. }) in shards {
        let gradients = graph.shard(Set::Gradients, shard);
        let mut changed = vec![Set::Weights, Set::Moment1, Set::Moment2];
        changed.extend(update.average.then_some(Set::Average));
        let changed: Vec<Value> = changed.into_iter().map(|set| graph.shard(set, shard)).collect();
        let adam = Adam { len, decoupled: update.decoupled, average: update.average, rate };
        graph.launch(adam, &[Some(gradients), Some(state), Some(hyper)], &changed);
    }
}

/// Dimensions of a network's action that count in the loss: those of a `Valid` mean are the robot's own.
fn counted_dims(config: &Config) -> usize {
    match config.loss_reduction {
        LossReduction::Valid => config.action().1,
        LossReduction::Zeroed | LossReduction::All => config.network_action_dim(),
    }
}

/// What each action step counts in the loss, [B, H]: the mean's divisor included. A robot has A action dimensions, its
/// network N, of which N − A are padding.
///
/// | reduction | padded steps | padded dimensions | divisor |
/// |---|---|---|---|
/// | `Valid` | 0 | 0 | unpadded steps · A |
/// | `Zeroed` | 0 | as others | B · H · N |
/// | `All` | as others | as others | B · H · N |
///
/// `given` says how many actions at each chunk's start the network is given, `[B]`; empty where it is given none. They
/// are not taught: none of the above counts them, the divisor included.
pub fn loss_weights(config: &Config, is_pad: &[bool], given: &[usize]) -> Vec<f32> {
    let (reduction, slots) = (config.loss_reduction, config.chunk_size);
    let taught = |slot: usize| given.get(slot / slots).is_none_or(|&given| slot % slots >= given);
    let sum = |slot: usize| taught(slot) && (!is_pad[slot] || reduction == LossReduction::All);
    let mean = |slot: usize| taught(slot) && (!is_pad[slot] || reduction != LossReduction::Valid);
    let count = (0..is_pad.len()).filter(|&slot| mean(slot)).count();
    let weight = 1.0 / (count.max(1) * counted_dims(config)) as f32;
    (0..is_pad.len()).map(|slot| if sum(slot) { weight } else { 0.0 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::presets::preset;

    #[test]
    fn given_actions_are_in_no_sum_and_no_divisor() {
        let mut config = preset("pursuit").expect("known");
        (config.chunk_size, config.loss_reduction) = (4, LossReduction::Valid);
        // Two samples of four actions of two numbers: one and two are given, one is padding.
        let is_pad = [false, false, false, true, false, false, false, false];
        let of = |config: &Config, given: &[usize]| loss_weights(config, &is_pad, given);
        let (w, o) = (1.0 / 8.0, 0.0);
        assert_eq!(of(&config, &[1, 2]), [o, w, w, o, o, o, w, w]);
        assert_eq!(of(&config, &[0, 0]), of(&config, &[]));
        let w = 1.0 / 10.0;
        config.loss_reduction = LossReduction::Zeroed;
        assert_eq!(of(&config, &[1, 2]), [o, w, w, o, o, o, w, w]);
        config.loss_reduction = LossReduction::All;
        assert_eq!(of(&config, &[1, 2]), [o, w, w, w, o, o, w, w]);
    }
}
