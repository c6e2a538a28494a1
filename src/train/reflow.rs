//! Rectified flow over a data set: a student learns on what a teacher made of noise, frame by frame (Liu et al.,
//! arXiv 2209.03003), and is measured on some of it.

use super::data::TrainingData;
use crate::flow::{self, Solver, straightness, velocity_loss};
use crate::policy::{Kept, Objective, Policy};
use crate::rng::{Rng, Stream};
use crate::{Error, Result};

/// Frames of a batch of samples.
const BATCH: usize = 128;
/// Times between noise and action at which straightness is measured.
const POINTS: usize = 10;

/// A noise for every frame of a data set, and what the teacher made of it there.
#[derive(Debug, Clone, PartialEq)]
pub struct FramePairs {
    /// Values of a chunk: H · A.
    size: usize,
    /// [frames, H, A].
    noise: Vec<f32>,
    /// [frames, H, A], normalised and not clamped.
    actions: Vec<f32>,
}

impl FramePairs {
    /// Samples `teacher` with the solver and steps it is set to, once at every frame of `data`. `progress` is told how
    /// many frames are done, and of how many. Noise is keyed by `seed` and frame, so that the same call makes the
    /// same pairs.
    ///
    /// # Errors
    /// If the teacher's objective is not flow, it does not fit the data, or the device fails.
    pub fn new(
        data: &TrainingData,
        teacher: &mut Policy,
        seed: u64,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Self> {
        if teacher.config().objective != Objective::Flow {
            return Err(Error::input("pairs are rectified for objective flow alone: others have no paths"));
        }
        let (frames, size) = (data.frames(), teacher.config().noise_len());
        let (mut noise, mut actions) = (Vec::with_capacity(frames * size), Vec::with_capacity(frames * size));
        for first in (0..frames).step_by(BATCH) {
            let batch: Vec<u32> = (first..frames.min(first + BATCH)).map(|frame| frame as u32).collect();
            for &frame in &batch {
                let mut rng = Rng::new(seed, Stream::Rectified, 0, frame);
                noise.extend((0..size).map(|_| rng.normal() as f32));
            }
            let seen = data.seen(&batch)?;
            actions.extend(teacher.predict_chunk(&seen.observations(), &noise[first * size..])?.normalized);
            progress(first + batch.len(), frames);
        }
        Ok(Self { size, noise, actions })
    }

    /// Noise [H, N] and actions [H, N] of a frame.
    pub(super) fn of(&self, frame: u32) -> (&[f32], &[f32]) {
        let range = frame as usize * self.size..(frame as usize + 1) * self.size;
        (&self.noise[range.clone()], &self.actions[range])
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        size_of_val(&self.noise[..]) + size_of_val(&self.actions[..])
    }
}

/// Pairs of some frames with what is seen there, to measure policies on.
#[derive(Debug, Clone)]
pub struct Probe {
    seen: Kept,
    pairs: flow::Pairs,
    count: usize,
}

impl Probe {
    /// Up to `most` frames of the validation episodes, or of all where there are none, spread evenly.
    ///
    /// # Errors
    /// If a frame cannot be read.
    pub fn new(data: &TrainingData, pairs: &FramePairs, most: usize) -> Result<Self> {
        let frames = data.spread(most);
        let (mut noise, mut actions) = (Vec::new(), Vec::new());
        for &frame in &frames {
            let (from, to) = pairs.of(frame);
            noise.extend(from.iter().map(|&v| f64::from(v)));
            actions.extend(to.iter().map(|&v| f64::from(v)));
        }
        Ok(Self { seen: data.seen(&frames)?, pairs: flow::Pairs { noise, actions }, count: frames.len() })
    }

    /// How many pairs.
    pub fn count(&self) -> usize {
        self.count
    }

    /// How far a policy's velocity is from the straight paths between the pairs' ends, as [`straightness`] at
    /// t = i/11, i = 1…10; in normalised units squared.
    ///
    /// # Errors
    /// If the policy sees other things, or the device fails.
    pub fn straightness(&self, policy: &mut Policy) -> Result<f64> {
        let flow::Pairs { noise, actions } = &self.pairs;
        let [x0, x1] = policy.config().flow.noise_at.ends(noise, actions);
        let mut velocity = |x: &[f64], t: &[f64]| {
            let v = policy.velocity(&self.seen.observations(), &narrow(x), &narrow(t))?;
            Ok(v.into_iter().map(f64::from).collect())
        };
        straightness(&mut velocity, x0, x1, self.count, POINTS)
    }

    /// The mean square between the chunks that `steps` Euler steps of a policy make of the noises and the teacher's;
    /// normalised units squared. The policy keeps that solver.
    ///
    /// # Errors
    /// As [`Self::straightness`].
    pub fn error(&self, policy: &mut Policy, steps: usize) -> Result<f64> {
        policy.set_solver(Solver::Euler);
        policy.set_solver_steps(steps)?;
        let chunk = policy.predict_chunk(&self.seen.observations(), &narrow(&self.pairs.noise))?;
        let made: Vec<f64> = chunk.normalized.into_iter().map(f64::from).collect();
        velocity_loss(&self.pairs.actions, &made)
    }
}

fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&v| v as f32).collect()
}
