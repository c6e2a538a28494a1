//! How a policy runs its programs.
//!
//! Programs are compiled per batch size, solver, number of steps and kind of picture, and the last few are kept.
//! A batch has 128 samples at most. On a GPU, where compiling takes time, it is filled up to a power of two, so that a
//! few programs serve every number of episodes.

use std::ops::Range;
use std::time::Instant;

use super::observations::{FrameSizes, Kept};
use super::{Evaluator, Guidance, Objective, Observations, Policy, PullBack, Sampler, SamplerShape};
use crate::flow::{Solver, dopri5};
use crate::graph::Device;
use crate::{Error, Result};

/// Programs of a kind that are kept compiled.
const PROGRAMS: usize = 8;
/// Samples of one program at most.
const MAX_BATCH: usize = 128;

/// Samples of the largest program that makes a batch on a device.
pub fn program_batch(device: &Device, batch: usize) -> usize {
    let batch = batch.min(MAX_BATCH);
    match device {
        Device::Gpu(_) => batch.next_power_of_two(),
        Device::Cpu | Device::Oracle => batch,
    }
}

/// Samples that a program makes together.
pub(super) struct Batch<'a> {
    /// What the program is built for; it may be for more samples than there are.
    pub shape: SamplerShape,
    /// What they see, filled up to the program's batch.
    pub seen: &'a Kept,
    /// What they start from, [b, H, N].
    pub noise: &'a [f32],
    /// Which of all samples they are.
    pub samples: Range<usize>,
}

impl Policy {
    /// Runs the solver: the whole path, or its end alone, each point [B, H, A] and normalised.
    pub(super) fn integrate(
        &mut self,
        observations: &Observations<'_>,
        noise: &[f32],
        path: bool,
    ) -> Result<Vec<Vec<f32>>> {
        self.in_batches(observations, noise, path, Self::plain)
    }

    /// Cuts all samples into batches, and joins what `sample` makes of them, point by point of the path.
    pub(super) fn in_batches(
        &mut self,
        observations: &Observations<'_>,
        noise: &[f32],
        path: bool,
        mut sample: impl FnMut(&mut Self, Batch<'_>) -> Result<Vec<Vec<f32>>>,
    ) -> Result<Vec<Vec<f32>>> {
        let (size, frames) = (self.config.noise_len(), self.config.n_obs_steps);
        let (batch, state) = self.checked(observations, noise)?;
        let seen = Observations { images: observations.images.clone(), state: &state };
        let sizes = FrameSizes::of(&seen, batch * frames);
        let mut points: Vec<Vec<f32>> = Vec::new();
        for first in (0..batch).step_by(MAX_BATCH) {
            let last = (first + MAX_BATCH).min(batch);
            let mut part = Kept::repeated(&seen.part(first * frames..last * frames, &sizes), 1);
            let noise = &noise[first * size..last * size];
            let padded = program_batch(self.bank.device(), last - first);
            part.fill_up(padded * frames, &sizes);
            let part = part.resized(&self.config, padded * frames);
            let shape = SamplerShape {
                cameras: part.observations().cameras(),
                guidance: self.guidance.clone(),
                path,
                ..SamplerShape::of(&self.config, padded)
            };
            let parts = sample(self, Batch { shape, seen: &part, noise, samples: first..last })?;
            self.usage.chunks += last - first;
            self.usage.batches += 1;
            points.resize(parts.len(), Vec::new());
            points.iter_mut().zip(parts).for_each(|(point, part)| point.extend(part));
        }
        Ok(points)
    }

    /// A batch by the configuration's solver.
    pub(super) fn plain(&mut self, batch: Batch<'_>) -> Result<Vec<Vec<f32>>> {
        let adaptive = self.config.objective == Objective::Flow && self.config.flow.solver == Solver::Dopri5;
        if adaptive { self.adapt(batch) } else { self.run(batch) }
    }

    /// Fixed steps, one program.
    fn run(&mut self, Batch { shape, seen, noise, .. }: Batch<'_>) -> Result<Vec<Vec<f32>>> {
        let (padded, path) = (shape.batch * self.config.noise_len(), shape.path);
        let flow = &self.config.flow;
        let passes = self.config.objective.passes(flow.evaluations(flow.num_steps)) * self.branches();
        let sampler = self.sampler(shape)?;
        let (program, points) = (sampler.program(), sampler.points());
        let start = Instant::now();
        seen.observations().write(program)?;
        if program.has("noise") {
            program.write("noise", &filled(noise, padded))?;
        }
        program.run()?;
        let read = |name: &str| -> Result<Vec<f32>> {
            let mut values = program.read(name)?;
            values.truncate(noise.len());
            Ok(values)
        };
        let points = match path {
            true => (0..points).map(|i| read(&format!("path.{i}"))).collect::<Result<_>>()?,
            false => vec![read("sample")?],
        };
        self.usage.busy += start.elapsed();
        self.usage.evaluations += passes;
        Ok(points)
    }

    /// Adaptive steps: the host asks for one velocity after the other. The path is its two ends.
    fn adapt(&mut self, Batch { shape, seen, noise, .. }: Batch<'_>) -> Result<Vec<Vec<f32>>> {
        let (flow, path, padded) = (self.config.flow, shape.path, shape.batch);
        let (size, branches) = (self.config.noise_len(), self.branches());
        let evaluator = self.evaluator(shape, false)?;
        let start = Instant::now();
        seen.observations().write(evaluator.program())?;
        evaluator.encode()?;
        let mut velocity = |x: &[f64], t: &[f64]| {
            let v = evaluator.velocity(&narrow(x, padded * size), &narrow(t, padded))?;
            Ok(wide(&v[..x.len()]))
        };
        let found = dopri5(&mut velocity, &wide(noise), noise.len() / size, flow.noise_at, &flow.tolerances)?;
        self.usage.busy += start.elapsed();
        self.usage.evaluations += found.evaluations * branches;
        let end = narrow(&found.points, noise.len());
        Ok(if path { vec![noise.to_vec(), end] } else { vec![end] })
    }

    /// Passes through the network that one evaluation takes.
    pub(super) fn branches(&self) -> usize {
        self.guidance.as_ref().map_or(1, Guidance::passes)
    }

    /// The evaluator of that shape, compiled now if need be.
    pub(super) fn evaluator(&mut self, shape: SamplerShape, t_per_slot: bool) -> Result<&Evaluator> {
        let shape = of_evaluation(shape);
        let Self { evaluators, config, network, bank, .. } = self;
        let same = |known: &Evaluator| *known.shape() == shape && known.t_per_slot() == t_per_slot;
        recent(evaluators, same, || Evaluator::new(config, network, bank, shape.clone(), t_per_slot))
    }

    /// The velocity with its transposed Jacobian, of that shape, compiled now if need be.
    pub(super) fn pull_back(&mut self, shape: SamplerShape) -> Result<&PullBack> {
        let shape = of_evaluation(shape);
        let Self { pull_backs, config, network, bank, .. } = self;
        let same = |known: &PullBack| *known.shape() == shape;
        recent(pull_backs, same, || PullBack::new(config, network, bank, shape.clone()))
    }

    /// The program of that shape, compiled now if need be.
    fn sampler(&mut self, shape: SamplerShape) -> Result<&Sampler> {
        let Self { programs, config, network, bank, .. } = self;
        let same = |known: &Sampler| *known.shape() == shape;
        recent(programs, same, || Sampler::new(config, network, bank, shape.clone()))
    }
}

/// A shape without what an evaluation does not depend on: it must not compile another one.
fn of_evaluation(shape: SamplerShape) -> SamplerShape {
    SamplerShape { path: false, steps: 1, solver: Solver::Euler, ..shape }
}

/// The program that is asked for, made now if need be, and from then on the last of the list; the one used longest ago
/// makes room.
fn recent<T>(list: &mut Vec<T>, same: impl Fn(&T) -> bool, make: impl FnOnce() -> Result<T>) -> Result<&T> {
    let program = match list.iter().position(same) {
        Some(at) => list.remove(at),
        None => {
            list.drain(..(list.len() + 1).saturating_sub(PROGRAMS));
            make()?
        }
    };
    list.push(program);
    list.last().ok_or_else(|| Error::failure("there is no program to run"))
}

/// Values with zeros behind them, `len` in all.
fn filled(values: &[f32], len: usize) -> Vec<f32> {
    let mut filled = values.to_vec();
    filled.resize(len, 0.0);
    filled
}

/// As f32, with zeros behind them, `len` in all.
pub(super) fn narrow(values: &[f64], len: usize) -> Vec<f32> {
    let mut narrow: Vec<f32> = values.iter().map(|&v| v as f32).collect();
    narrow.resize(len, 0.0);
    narrow
}

/// As f64.
pub(super) fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}
