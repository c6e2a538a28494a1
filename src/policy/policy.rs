//! A policy at work: observations in, chunks of actions out, on any device. `acting.rs` executes them.
//!
//! Programs are compiled per batch size, number of solver steps and kind of picture, and the last few are kept.
//! A batch has 128 samples at most. On a GPU, where compiling takes time, it is filled up to a power of two, so that a
//! few programs serve every number of episodes.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::acting::Episodes;
use super::images::Pixels;
use super::{
    Config, Images, Network, Noise, Normalizer, Objective, Pretrained, Sampler, SamplerShape, resolve,
};
use crate::graph::{Bank, Device, Program};
use crate::kernels::Set;
use crate::{Error, Result};

/// Programs kept compiled.
const PROGRAMS: usize = 8;
/// Samples of one program at most.
const MAX_BATCH: usize = 128;
/// Solver steps at most: a program holds every step's launches.
const MAX_STEPS: usize = 1000;

/// What B episodes see now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observations<'a> {
    /// The camera, [B, T, 3, H, W] for T = `n_obs_steps`, the oldest frame first.
    pub images: Images<'a>,
}

/// Chunks for B observations.
#[derive(Debug, Clone, PartialEq)]
pub struct Chunk {
    /// Actions [B, H, A] in the robot's units, inside the bounds saved with the policy.
    pub actions: Vec<f32>,
    /// The network's answer [B, H, A], normalised and not clamped.
    pub normalized: Vec<f32>,
}

/// Work done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Chunks made, those that only filled up a batch not counted.
    pub chunks: usize,
    /// From writing observations to reading actions; compiling not counted.
    pub busy: Duration,
}

/// A policy on a device.
pub struct Policy {
    pub(super) config: Config,
    network: Network,
    pub(super) bank: Bank,
    normalizer: Normalizer,
    /// The one used last is the last.
    pub(super) programs: Vec<Sampler>,
    usage: Usage,
    pub(super) noise: Noise,
    pub(super) episodes: Episodes,
}

impl Policy {
    /// A policy over weights that are on a device already. They are shared, not copied: of a policy in training,
    /// or its average with [`Bank::with_weights_from`].
    pub fn new(config: Config, network: Network, bank: Bank, normalizer: Normalizer) -> Self {
        let (noise, usage) = (Noise::Seeded(0), Usage::default());
        let (programs, episodes) = (Vec::new(), Episodes::new());
        Self { config, network, bank, normalizer, programs, usage, noise, episodes }
    }

    /// Puts a loaded policy on a device.
    ///
    /// # Errors
    /// If its weights do not fit its configuration, statistics are missing, or the device lacks memory.
    pub fn from_parts(mut pretrained: Pretrained, device: &Device) -> Result<Self> {
        let (network, params) = Network::new(&pretrained.config);
        let weights = pretrained.weights(&params)?;
        let normalizer = pretrained.normalizer()?;
        let bank = Bank::new(device, &Arc::new(params), &[Set::Weights])?;
        for ((_, param), values) in bank.params().iter().zip(&weights) {
            bank.write(Set::Weights, &param.name, values);
        }
        Ok(Self::new(pretrained.config, network, bank, normalizer))
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

    /// The device it is on.
    pub fn device(&self) -> &Device {
        self.bank.device()
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

    /// Chunks for B observations from `noise` [B, H, A] (normalised). Remembers nothing.
    ///
    /// # Errors
    /// If an input has another size than it should or is not finite, if an action is not finite, or the device
    /// fails.
    pub fn predict_chunk(&mut self, observations: &Observations<'_>, noise: &[f32]) -> Result<Chunk> {
        let normalized = self.integrate(observations.images, noise, false)?.pop().unwrap_or_default();
        self.finish(normalized, |i| format!("sample {i}"))
    }

    /// The same sample's way: points [B, H, A] from noise to action, in the robot's units and not clamped.
    ///
    /// # Errors
    /// As [`Self::predict_chunk`].
    pub fn predict_path(&mut self, observations: &Observations<'_>, noise: &[f32]) -> Result<Vec<Vec<f32>>> {
        let mut path = self.integrate(observations.images, noise, true)?;
        path.iter_mut().try_for_each(|point| self.normalizer.unnormalize_actions(point))?;
        Ok(path)
    }

    /// The program that made the last batch of chunks, to be profiled: its inputs are still in it.
    pub fn last_program(&self) -> Option<&Program> {
        self.programs.last().map(Sampler::program)
    }

    /// Values of one frame: 3 · H · W.
    pub(super) fn frame_len(&self) -> usize {
        self.config.images().map(|(_, image)| image.shape.iter().product::<usize>()).sum()
    }

    /// Values of one chunk: H · A.
    pub(super) fn chunk_len(&self) -> usize {
        self.config.chunk_size * self.config.action().1
    }

    /// Checks that pictures are `batch` times `frames` frames.
    pub(super) fn check_images(&self, images: Images<'_>, batch: usize, frames: usize) -> Result<()> {
        let wanted = batch * frames * self.frame_len();
        match self.config.images().next() {
            Some((key, image)) if images.len() != wanted => Err(Error::input(format!(
                "`{key}` has {} values where {batch} x {frames} frames of shape {:?} have {wanted}",
                images.len(),
                image.shape
            ))),
            _ => Ok(()),
        }
    }

    /// Runs the solver: the whole path, or its end alone, each point [B, H, A] and normalised.
    pub(super) fn integrate(
        &mut self,
        images: Images<'_>,
        noise: &[f32],
        path: bool,
    ) -> Result<Vec<Vec<f32>>> {
        let (frames, size) = (self.config.n_obs_steps * self.frame_len(), self.chunk_len());
        if noise.is_empty() || !noise.len().is_multiple_of(size) {
            let (given, shape) = (noise.len(), [self.config.chunk_size, self.config.action().1]);
            return Err(Error::input(format!("noise of {given} values is no batch of chunks {shape:?}")));
        }
        let batch = noise.len() / size;
        self.check_images(images, batch, self.config.n_obs_steps)?;
        let finite = |what: &str, values: Images<'_>, size: usize| match values.not_finite() {
            Some((at, value)) => Err(Error::input(format!(
                "{what} holds {value} in sample {}, element {}",
                at / size,
                at % size
            ))),
            None => Ok(()),
        };
        finite("the picture", images, frames)?;
        finite("the noise", Images::Floats(noise), size)?;
        let mut points: Vec<Vec<f32>> = Vec::new();
        for first in (0..batch).step_by(MAX_BATCH) {
            let last = (first + MAX_BATCH).min(batch);
            let part = images.part(first * frames..last * frames);
            let parts = self.run(part, &noise[first * size..last * size], last - first, path)?;
            points.resize(parts.len(), Vec::new());
            points.iter_mut().zip(parts).for_each(|(point, part)| point.extend(part));
        }
        Ok(points)
    }

    /// [`Self::integrate`] for a batch that one program holds.
    fn run(&mut self, images: Images<'_>, noise: &[f32], batch: usize, path: bool) -> Result<Vec<Vec<f32>>> {
        let shape = SamplerShape {
            batch: match self.bank.device() {
                Device::Gpu(_) => batch.next_power_of_two(),
                Device::Cpu | Device::Oracle => batch,
            },
            steps: self.config.flow.num_steps,
            images: images.dtype(),
            path,
        };
        let steps = match self.config.objective {
            Objective::Flow => shape.steps,
            Objective::Regression => 1,
        };
        let program = self.sampler(shape)?.program();
        let start = Instant::now();
        let mut filled = Pixels::repeated(images, 1);
        filled.fill_up(images.len() / batch * shape.batch);
        filled.images().write(program)?;
        if program.has("noise") {
            let mut filled = noise.to_vec();
            filled.resize(noise.len() / batch * shape.batch, 0.0);
            program.write("noise", &filled)?;
        }
        program.run()?;
        let read = |name: &str| -> Result<Vec<f32>> {
            let mut values = program.read(name)?;
            values.truncate(noise.len());
            Ok(values)
        };
        let points = match path {
            true => (0..=steps).map(|i| read(&format!("path.{i}"))).collect::<Result<_>>()?,
            false => vec![read("sample")?],
        };
        self.usage.busy += start.elapsed();
        self.usage.chunks += batch;
        Ok(points)
    }

    /// The program of that shape, compiled now if need be; the one used longest ago makes room.
    fn sampler(&mut self, shape: SamplerShape) -> Result<&Sampler> {
        let sampler = match self.programs.iter().position(|sampler| sampler.shape() == shape) {
            Some(at) => self.programs.remove(at),
            None => {
                self.programs.drain(..(self.programs.len() + 1).saturating_sub(PROGRAMS));
                Sampler::new(&self.config, &self.network, &self.bank, shape)?
            }
        };
        self.programs.push(sampler);
        self.programs.last().ok_or_else(|| Error::failure("there is no program to run"))
    }

    /// Brings normalised chunks [B, H, A] into the robot's units; `name` says whose a chunk is, in errors.
    pub(super) fn finish(&self, normalized: Vec<f32>, name: impl Fn(usize) -> String) -> Result<Chunk> {
        let mut actions = normalized.clone();
        for (i, chunk) in actions.chunks_mut(self.chunk_len()).enumerate() {
            self.normalizer.finish_actions(chunk).map_err(|e| e.at(name(i)))?;
        }
        Ok(Chunk { actions, normalized })
    }
}
