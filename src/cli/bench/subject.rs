//! What is measured: a policy that makes chunks, or a step that trains one, of made-up observations.

use std::sync::Arc;
use std::time::Instant;

use super::{Setting, milliseconds};
use crate::Result;
use crate::graph::{Bank, Device, ParamId, Params, Program};
use crate::kernels::{Dtype, Set};
use crate::policy::{
    Config, Kept, Network, Noise, Normalizer, Pixels, Policy, Pretrained, Stats, WeightStorage,
};
use crate::rng::{Rng, Stream};
use crate::train::{Purpose, StepInputs, StepShape, TrainConfig, TrainStep, Update, loss_weights};

/// The key of all that is made up.
const SEED: u64 = 0;
/// What a training step updates: what `flowgpu train` does unless told otherwise.
pub const UPDATE: Update = Update { decoupled: true, average: true };
/// The sets that a training step works on, and what to call them.
pub const SETS: [(Set, &str); 5] = [
    (Set::Weights, "weights"),
    (Set::Gradients, "gradients"),
    (Set::Moment1, "moment_1"),
    (Set::Moment2, "moment_2"),
    (Set::Average, "average"),
];

/// Work that can be done again and again.
pub enum Subject {
    /// Chunks.
    Chunk {
        /// Who makes them.
        policy: Box<Policy>,
        /// Of what.
        seen: Kept,
        /// From where.
        noise: Vec<f32>,
    },
    /// Training steps.
    Step(Box<Step>),
}

/// A training step with all that it takes.
pub struct Step {
    compiled: TrainStep,
    bank: Bank,
    batch: Batch,
    /// Steps done.
    done: u64,
}

/// What a step learns from.
struct Batch {
    seen: Kept,
    actions: Vec<f32>,
    noise: Vec<f32>,
    times: Vec<f32>,
    weights: Vec<f32>,
    dropped: Vec<f32>,
}

impl Subject {
    /// Puts a policy, or one of this configuration with its first weights, on the device.
    ///
    /// # Errors
    /// If the weights do not fit, or the device lacks memory or refuses a shader.
    pub fn new(config: &Config, pretrained: Option<Pretrained>, setting: &Setting) -> Result<Self> {
        if setting.train {
            return Ok(Self::Step(Box::new(Step::new(config, pretrained, setting)?)));
        }
        let policy = match pretrained {
            Some(pretrained) => Policy::from_parts_as(pretrained, &setting.device, setting.weights)?,
            None => first_policy(config, &setting.device, setting.weights)?,
        };
        let (config, batch) = (policy.config(), setting.batch);
        let seen = observations(config, batch, false);
        let len = config.noise_len();
        let noise = (0..batch).flat_map(|sample| Noise::Seeded(SEED).draw(sample, 0, len)).collect();
        Ok(Self::Chunk { policy: Box::new(policy), seen, noise })
    }

    /// Does it once, to its very end; how many milliseconds that took.
    ///
    /// # Errors
    /// If the device fails.
    pub fn once(&mut self) -> Result<f64> {
        let start = Instant::now();
        match self {
            Self::Chunk { policy, seen, noise } => {
                policy.predict_chunk(&seen.observations(), noise)?;
            }
            Self::Step(step) => step.run()?,
        }
        Ok(milliseconds(start))
    }

    /// The program that did it last; none of an adaptive solver.
    pub fn program(&self) -> Option<&Program> {
        match self {
            Self::Chunk { policy, .. } => policy.last_program(),
            Self::Step(step) => Some(step.compiled.program()),
        }
    }

    /// Bytes of weights and whatever else is shaped like them.
    pub fn set_bytes(&self) -> usize {
        match self {
            Self::Chunk { policy, .. } => policy.weight_bytes(),
            Self::Step(step) => step.bank.bytes(),
        }
    }
}

impl Step {
    fn new(config: &Config, pretrained: Option<Pretrained>, setting: &Setting) -> Result<Self> {
        let (network, params) = Network::new(config);
        let params = Arc::new(params);
        let bank = Bank::new(&setting.device, &params, &SETS.map(|(set, _)| set))?;
        let write = |name: &str, values: &[f32]| {
            bank.write(Set::Weights, name, values);
            bank.write(Set::Average, name, values);
        };
        match pretrained {
            Some(mut pretrained) => {
                pretrained.each_weight(&params, |param, values| write(&param.name, values))?;
            }
            None => first_values(&params, write),
        }
        let shape = training_shape(config, setting.batch);
        let compiled = TrainStep::new(config, &network, &bank, shape)?;
        Ok(Self { compiled, bank, batch: Batch::new(config, setting.batch), done: 0 })
    }

    fn run(&mut self) -> Result<()> {
        self.done += 1;
        let hyper = TrainConfig::default().hyper(self.done, 0.0);
        let Batch { seen, actions, noise, times, weights, dropped } = &self.batch;
        let inputs = StepInputs { seen: seen.observations(), dropped, actions, noise, times, weights };
        self.compiled.run(&inputs, &hyper, SEED, self.done)?;
        self.compiled.report().map(drop)
    }
}

impl Batch {
    fn new(config: &Config, batch: usize) -> Self {
        let chunks = batch * config.noise_len();
        Self {
            seen: observations(config, batch, true),
            actions: normal(chunks, 1),
            noise: normal(chunks, 2),
            times: (0..batch).map(|i| (i as f32 + 0.5) / batch as f32).collect(),
            weights: loss_weights(config, &vec![false; batch * config.chunk_size], &[]),
            dropped: vec![0.0; batch],
        }
    }
}

/// The shape of a training step: every camera there, as bytes.
pub fn training_shape(config: &Config, batch: usize) -> StepShape {
    StepShape {
        batch,
        cameras: vec![Some(Dtype::U8); config.images().count()],
        t_per_slot: false,
        purpose: Purpose::Update(UPDATE),
        dropout: config.dropout,
    }
}

/// A policy with its first weights. Nothing is normalised: there are no statistics, and it costs next to nothing.
fn first_policy(config: &Config, device: &Device, weights: WeightStorage) -> Result<Policy> {
    let config = Config { normalization: Vec::new(), ..config.clone() };
    let (network, params) = Network::new(&config);
    let params = Arc::new(weights.of(params));
    let bank = Bank::new(device, &params, &[Set::Weights])?;
    first_values(&params, |name, values| bank.write(Set::Weights, name, values));
    let normalizer = Normalizer::new(&config, &Stats::default())?;
    Ok(Policy::new(config, network, bank, normalizer))
}

fn first_values(params: &Params, mut write: impl FnMut(&str, &[f32])) {
    let all: Vec<ParamId> = params.iter().map(|(id, _)| id).collect();
    for id in all {
        write(&params.get(id).name, &params.initial(id, SEED));
    }
}

/// Pictures of noise, as the cameras give them or as large as the network sees them, and states of normal noise.
fn observations(config: &Config, batch: usize, as_seen: bool) -> Kept {
    let frames = batch * config.n_obs_steps;
    let picture = |(camera, (_, feature)): (usize, (&str, &crate::policy::Feature))| {
        let own = feature.shape.iter().product();
        let len = if as_seen { config.seen_len(feature) } else { own };
        let mut rng = Rng::new(SEED, Stream::SampleNoise, 0, camera as u32);
        Pixels::Bytes((0..frames * len).map(|_| rng.next_u32() as u8).collect())
    };
    let images = config.images().enumerate().map(picture).collect();
    Kept { images, state: normal(frames * config.state_dim(), 0) }
}

/// Normal noise, keyed by what it is for.
fn normal(len: usize, what: u32) -> Vec<f32> {
    let mut rng = Rng::new(SEED, Stream::TrainNoise, 0, what);
    (0..len).map(|_| rng.normal() as f32).collect()
}
