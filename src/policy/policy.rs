//! A policy at work: observations in, chunks of actions out, on any device. `acting.rs` executes them,
//! `sampling.rs` runs its programs, `continuing.rs` those of chunks that go on from others.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::acting::Episodes;
use super::observations::Kept;
use super::{
    Config, Evaluator, Guidance, Images, Network, Noise, Normalizer, Observations, Pretrained, PullBack,
    Sampler, SamplerShape, WeightStorage, resolve,
};
use crate::flow::{MAX_STEPS, Solver, Tolerances};
use crate::graph::{Bank, Device, Program};
use crate::kernels::Set;
use crate::{Error, Result};

/// Chunks for B observations.
#[derive(Debug, Clone, PartialEq)]
pub struct Chunk {
    /// Actions [B, H, A] in the robot's units, inside the bounds saved with the policy.
    pub actions: Vec<f32>,
    /// The network's answer [B, H, N], normalised and not clamped; N is A, or more where the network pads actions.
    pub normalized: Vec<f32>,
}

/// Work done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Chunks made, those that only filled up a batch not counted.
    pub chunks: usize,
    /// Batches in which they were made.
    pub batches: usize,
    /// Passes through the network that these took, one after the other; a guided one counts twice.
    pub evaluations: usize,
    /// From writing observations to reading actions; compiling not counted.
    pub busy: Duration,
}

impl Usage {
    /// What was done since an earlier moment.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            chunks: self.chunks - earlier.chunks,
            batches: self.batches - earlier.batches,
            evaluations: self.evaluations - earlier.evaluations,
            busy: self.busy - earlier.busy,
        }
    }
}

/// A policy on a device.
pub struct Policy {
    pub(super) config: Config,
    pub(super) network: Network,
    pub(super) bank: Bank,
    normalizer: Normalizer,
    /// The one used last is the last.
    pub(super) programs: Vec<Sampler>,
    /// As [`Self::programs`].
    pub(super) evaluators: Vec<Evaluator>,
    /// As [`Self::programs`].
    pub(super) pull_backs: Vec<PullBack>,
    pub(super) guidance: Option<Guidance>,
    pub(super) usage: Usage,
    pub(super) noise: Noise,
    pub(super) episodes: Episodes,
    contract: Option<Value>,
}

impl Policy {
    /// A policy over weights that are on a device already. They are shared, not copied: of a policy in training,
    /// or its average with [`Bank::with_weights_from`].
    pub fn new(config: Config, network: Network, bank: Bank, normalizer: Normalizer) -> Self {
        let (noise, usage) = (Noise::Seeded(0), Usage::default());
        let (programs, evaluators, pull_backs) = (Vec::new(), Vec::new(), Vec::new());
        let (guidance, episodes, contract) = (None, Episodes::new(), None);
        Self {
            config,
            network,
            bank,
            normalizer,
            programs,
            evaluators,
            pull_backs,
            guidance,
            usage,
            noise,
            episodes,
            contract,
        }
    }

    /// Puts a loaded policy on a device, its weights as f32.
    ///
    /// # Errors
    /// If its weights do not fit its configuration, statistics are missing, or the device lacks memory.
    pub fn from_parts(pretrained: Pretrained, device: &Device) -> Result<Self> {
        Self::from_parts_as(pretrained, device, WeightStorage::F32)
    }

    /// The same with the weights of products stored as asked for.
    ///
    /// # Errors
    /// As [`Self::from_parts`], if a weight lies beyond f16 that is to be stored as that, and as
    /// [`WeightStorage::check`].
    pub fn from_parts_as(
        mut pretrained: Pretrained,
        device: &Device,
        storage: WeightStorage,
    ) -> Result<Self> {
        storage.check(device)?;
        let (network, params) = Network::new(&pretrained.config);
        let params = storage.of(params);
        pretrained.check_against(&params)?;
        let normalizer = pretrained.normalizer()?;
        let params = Arc::new(params);
        let bank = Bank::new(device, &params, &[Set::Weights])?;
        pretrained.each_weight(&params, |param, values| bank.write(Set::Weights, &param.name, values))?;
        let contract = pretrained.contract().cloned();
        Ok(Self { contract, ..Self::new(pretrained.config, network, bank, normalizer) })
    }

    /// Loads a pretrained_model folder, a checkpoint or a run (its last checkpoint), averaged weights first.
    ///
    /// # Errors
    /// Names what is missing or damaged.
    pub fn from_pretrained(path: impl AsRef<Path>, device: &Device) -> Result<Self> {
        Self::from_parts(Pretrained::load(resolve(path)?.folder)?, device)
    }

    /// What it is, with the settings below.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The contract of the task it was trained for, as its checkpoint has it; none for one without.
    pub fn contract(&self) -> Option<&Value> {
        self.contract.as_ref()
    }

    /// The device it is on.
    pub fn device(&self) -> &Device {
        self.bank.device()
    }

    /// Bytes of its weights on the device.
    pub fn weight_bytes(&self) -> usize {
        self.bank.bytes()
    }

    /// What its actions go through.
    pub fn normalizer(&self) -> &Normalizer {
        &self.normalizer
    }

    /// Chunks made and time spent since the policy was made.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// Sets the solver's steps; the configuration's unless set.
    ///
    /// # Errors
    /// If there are none, or more than 1,000.
    pub fn set_solver_steps(&mut self, steps: usize) -> Result<()> {
        if !(1..=MAX_STEPS).contains(&steps) {
            return Err(Error::input(format!("{steps} solver steps: use 1 to {MAX_STEPS}")));
        }
        self.config.flow.num_steps = steps;
        Ok(())
    }

    /// Sets the solver; the configuration's unless set.
    pub fn set_solver(&mut self, solver: Solver) {
        self.config.flow.solver = solver;
    }

    /// Sets what the adaptive solver keeps to; the configuration's unless set.
    ///
    /// # Errors
    /// If a tolerance is not a positive number, or the cap is 0.
    pub fn set_tolerances(&mut self, tolerances: Tolerances) -> Result<()> {
        tolerances.check()?;
        self.config.flow.tolerances = tolerances;
        Ok(())
    }

    /// Guidance, where it is not plain sampling.
    pub fn guidance(&self) -> Option<&Guidance> {
        self.guidance.as_ref()
    }

    /// Sets guidance; none unless set. A scale of 1 samples as without, bit for bit, and costs as much.
    ///
    /// # Errors
    /// If the scale is not a finite number, or what stands for no observation does not fit the policy.
    pub fn set_guidance(&mut self, guidance: Option<Guidance>) -> Result<()> {
        if let Some(guidance) = &guidance {
            guidance.check(&self.config)?;
        }
        self.guidance = guidance.filter(|guidance| guidance.scale != 1.0);
        Ok(())
    }

    /// Sets how many actions of a chunk are executed before the next one is made. Forgets all episodes.
    ///
    /// # Errors
    /// If there are none, or more than a chunk has.
    pub fn set_action_steps(&mut self, steps: usize) -> Result<()> {
        let chunk = self.config.chunk_size;
        if !(1..=chunk).contains(&steps) {
            return Err(Error::input(format!(
                "{steps} action steps: this policy's chunks have {chunk} actions, use 1 to {chunk}"
            )));
        }
        self.config.n_action_steps = steps;
        self.reset();
        Ok(())
    }

    /// Chunks for B observations from `noise` [B, H, N] (normalised). Remembers nothing.
    ///
    /// # Errors
    /// If an input has another size than it should or is not finite, if an action is not finite, or the device
    /// fails.
    pub fn predict_chunk(&mut self, observations: &Observations<'_>, noise: &[f32]) -> Result<Chunk> {
        let normalized = self.integrate(observations, noise, false)?.pop().unwrap_or_default();
        self.finish(normalized, |i| format!("sample {i}"))
    }

    /// The same sample's way: points [B, H, A] from noise to action, in the robot's units and not clamped.
    ///
    /// # Errors
    /// As [`Self::predict_chunk`].
    pub fn predict_path(&mut self, observations: &Observations<'_>, noise: &[f32]) -> Result<Vec<Vec<f32>>> {
        let mut path = self.integrate(observations, noise, true)?;
        for point in &mut path {
            *point = self.robots(point);
            self.normalizer.unnormalize_actions(point)?;
        }
        Ok(path)
    }

    /// The program that made the last batch of chunks, to be profiled: its inputs are still in it.
    pub fn last_program(&self) -> Option<&Program> {
        self.programs.last().map(Sampler::program)
    }

    /// The network's velocity at x [B, H, A] (normalised) and times `[B]`, where it sees `observations`; what it
    /// predicts, whatever the objective. No guidance.
    ///
    /// # Errors
    /// As [`Self::predict_chunk`].
    pub fn velocity(&mut self, observations: &Observations<'_>, x: &[f32], t: &[f32]) -> Result<Vec<f32>> {
        let (batch, state) = self.checked(observations, x)?;
        let seen = Observations { images: observations.images.clone(), state: &state };
        let seen = Kept::repeated(&seen, 1).resized(&self.config, batch * self.config.n_obs_steps);
        let seen = seen.observations();
        let shape = SamplerShape { cameras: seen.cameras(), ..SamplerShape::of(&self.config, batch) };
        let evaluator = self.evaluator(shape, false)?;
        seen.write(evaluator.program())?;
        evaluator.encode()?;
        evaluator.velocity(x, t)
    }

    /// Checks observations and noise [B, H, A]; B, and the states normalised.
    pub(super) fn checked(
        &self,
        observations: &Observations<'_>,
        noise: &[f32],
    ) -> Result<(usize, Vec<f32>)> {
        let size = self.config.noise_len();
        if noise.is_empty() || !noise.len().is_multiple_of(size) {
            let (given, shape) = (noise.len(), [self.config.chunk_size, self.config.network_action_dim()]);
            return Err(Error::input(format!("noise of {given} values is no batch of chunks {shape:?}")));
        }
        let batch = noise.len() / size;
        observations.check(&self.config, batch, self.config.n_obs_steps)?;
        let noise = Images::Floats(noise).not_finite();
        let noise = noise.map(|(at, value)| ("the noise", at / size, at % size, value));
        if let Some((what, sample, element, value)) = observations.not_finite(batch).or(noise) {
            return Err(Error::input(format!("{what} holds {value} in sample {sample}, element {element}")));
        }
        let mut state = observations.state.to_vec();
        self.normalizer.normalize_states(&mut state)?;
        Ok((batch, state))
    }

    /// The robot's own dimensions of a network's chunks: [.., N] to [.., A].
    fn robots(&self, chunks: &[f32]) -> Vec<f32> {
        let (network, robot) = (self.config.network_action_dim(), self.config.action().1);
        chunks.chunks(network).flat_map(|action| &action[..robot]).copied().collect()
    }

    /// Brings normalised chunks [B, H, N] into the robot's units; `name` says whose a chunk is, in errors.
    pub(super) fn finish(&self, normalized: Vec<f32>, name: impl Fn(usize) -> String) -> Result<Chunk> {
        let mut actions = self.robots(&normalized);
        let size = self.config.chunk_size * self.config.action().1;
        for (i, chunk) in actions.chunks_mut(size).enumerate() {
            self.normalizer.finish_actions(chunk).map_err(|e| e.at(name(i)))?;
        }
        Ok(Chunk { actions, normalized })
    }
}
