//! Chunks that go on from the one before while the robot moves: real-time chunking, trained for and not.
//!
//! | way | how planned actions are kept | which policies |
//! |---|---|---|
//! | naive | not at all | all |
//! | prefix | given, clean, at the action's time (arXiv 2512.05964) | trained with `rtc_training_max_delay` |
//! | guided | the velocity is steered towards them (arXiv 2506.07339, see [`crate::flow::Goal`]) | every flow |

use std::time::Instant;

use super::observations::{FrameSizes, Kept};
use super::sampling::{Batch, narrow, wide};
use super::{Chunk, Config, Objective, Observations, Policy};
use crate::flow::{Goal, sample, soft_mask};
use crate::{Error, Result};

/// How a new chunk goes on from the one before it, while the robot moves.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Chunking {
    /// It does not: what was planned is forgotten.
    #[default]
    Naive,
    /// The actions that will have been executed are given to the network: a policy that was trained so.
    Prefix,
    /// The chunk is drawn towards all that is planned, by the network's own Jacobian: every flow. A velocity counts as
    /// two passes.
    Guided {
        /// The largest weight of the correction.
        max_weight: f64,
    },
}

impl Chunking {
    /// Guidance with the paper's largest weight, 5.
    pub const GUIDED: Self = Self::Guided { max_weight: 5.0 };
}

/// What is left of the chunk before.
#[derive(Debug, Clone, PartialEq)]
pub struct Continuation {
    /// Actions that are planned from now on, [k, N] of at most H, as [`Chunk::normalized`] has them.
    pub planned: Vec<f32>,
    /// How many of them will have been executed when the new chunk arrives.
    pub delay: usize,
}

impl Continuation {
    /// k.
    fn known(&self, config: &Config) -> usize {
        self.planned.len() / config.network_action_dim()
    }

    /// Checks that a policy's chunk can go on from it.
    ///
    /// # Errors
    /// Says what does not fit.
    fn check(&self, config: &Config, chunking: Chunking) -> Result<()> {
        let (dims, slots, known) = (config.network_action_dim(), config.chunk_size, self.known(config));
        if !self.planned.len().is_multiple_of(dims) || known > slots {
            return Err(Error::input(format!(
                "a plan of {} values is not that of a chunk: pass up to {slots} actions of {dims} values",
                self.planned.len()
            )));
        }
        if let Some(at) = self.planned.iter().position(|value| !value.is_finite()) {
            return Err(Error::input(format!("planned action {} holds {}", at / dims, self.planned[at])));
        }
        if self.delay > known {
            return Err(Error::input(format!(
                "{} actions will be executed before the new chunk is there, but {known} are planned: \
                 execute fewer of a chunk",
                self.delay
            )));
        }
        let most = config.rtc_training_max_delay;
        if chunking == Chunking::Prefix && self.delay > most {
            return Err(Error::input(format!(
                "a delay of {} steps is longer than the policy was trained for: its `rtc_training_max_delay` \
                 is {most}",
                self.delay
            )));
        }
        Ok(())
    }
}

impl Policy {
    /// Checks that the policy can make chunks so.
    ///
    /// # Errors
    /// Says what it was not trained for, or what does not go together.
    pub fn check_chunking(&self, chunking: Chunking) -> Result<()> {
        match chunking {
            Chunking::Naive => Ok(()),
            Chunking::Prefix if self.config.rtc_training_max_delay == 0 => Err(Error::input(
                "this policy was not trained to go on from given actions: train it with --set \
                 rtc_training_max_delay=N, or use guided chunks",
            )),
            Chunking::Prefix => Ok(()),
            Chunking::Guided { max_weight } if !(max_weight.is_finite() && max_weight >= 0.0) => {
                Err(Error::input(format!(
                    "the largest weight of guided chunks is {max_weight}: use a number that is not negative"
                )))
            }
            Chunking::Guided { .. } if self.config.objective != Objective::Flow => {
                Err(Error::input("guided chunks steer a flow's velocity: this policy's `objective` has none"))
            }
            Chunking::Guided { .. } if self.guidance.is_some() => {
                Err(Error::input("guided chunks do not go with --guidance-scale: leave one of them out"))
            }
            Chunking::Guided { .. } => Ok(()),
        }
    }

    /// Chunks for B observations from `noise` [B, H, N] (normalised), each going on from its plan. Remembers nothing.
    /// Where nothing is planned for any, they are those of [`Self::predict_chunk`], to the bit.
    ///
    /// # Errors
    /// As [`Self::predict_chunk`] and [`Self::check_chunking`]; if a plan does not fit the policy.
    pub fn continue_chunk(
        &mut self,
        observations: &Observations<'_>,
        noise: &[f32],
        plans: &[Option<Continuation>],
        chunking: Chunking,
    ) -> Result<Chunk> {
        self.continued(observations, noise, plans, chunking, |i| format!("sample {i}"))
    }

    /// New chunks for some episodes, in their order, from what they saw last ([`Self::see`]). `plans` says what each
    /// goes on from; one with nothing planned is made as [`Self::select_action`] makes it. Queues stay as they are.
    ///
    /// # Errors
    /// As [`Self::continue_chunk`], and if an episode is not known; errors name the episode.
    pub fn plan(
        &mut self,
        due: &[usize],
        plans: &[Option<Continuation>],
        chunking: Chunking,
    ) -> Result<Chunk> {
        let Some((seen, noise)) = self.starts(due)? else {
            return Ok(Chunk { actions: Vec::new(), normalized: Vec::new() });
        };
        let name = |i: usize| format!("episode {}", due[i]);
        let chunk = self.continued(&seen.observations(), &noise, plans, chunking, name)?;
        self.count_chunks(due);
        Ok(chunk)
    }

    fn continued(
        &mut self,
        observations: &Observations<'_>,
        noise: &[f32],
        plans: &[Option<Continuation>],
        chunking: Chunking,
        name: impl Fn(usize) -> String,
    ) -> Result<Chunk> {
        self.check_chunking(chunking)?;
        let (size, frames) = (self.config.noise_len(), self.config.n_obs_steps);
        let batch = noise.len() / size;
        if plans.len() != batch {
            let given = plans.len();
            return Err(Error::input(format!(
                "{given} plans for {batch} chunks: pass one, or none, for each"
            )));
        }
        let (mut free, mut held, mut held_to) = (Vec::new(), Vec::new(), Vec::new());
        for (at, plan) in plans.iter().enumerate() {
            match plan.as_ref().filter(|plan| chunking != Chunking::Naive && !plan.planned.is_empty()) {
                Some(plan) => {
                    plan.check(&self.config, chunking).map_err(|e| e.at(name(at)))?;
                    held.push(at);
                    held_to.push(plan);
                }
                None => free.push(at),
            }
        }
        let normalized = if held.is_empty() {
            self.integrate(observations, noise, false)?.pop().unwrap_or_default()
        } else if free.is_empty() {
            self.going_on(observations, noise, &held_to, chunking)?
        } else {
            observations.check(&self.config, batch, frames)?;
            let sizes = FrameSizes::of(observations, batch * frames);
            let some = |places: &[usize]| -> Result<(Kept, Vec<f32>)> {
                let of = |at: usize| observations.part(at * frames..(at + 1) * frames, &sizes);
                let mut seen = Kept::repeated(&of(places[0]), 1);
                places[1..].iter().try_for_each(|&at| seen.append(&of(at)))?;
                Ok((seen, places.iter().flat_map(|at| &noise[at * size..][..size]).copied().collect()))
            };
            let (seen, start) = some(&free)?;
            let plain = self.integrate(&seen.observations(), &start, false)?.pop().unwrap_or_default();
            let (seen, start) = some(&held)?;
            let going_on = self.going_on(&seen.observations(), &start, &held_to, chunking)?;
            let mut all = vec![0.0; noise.len()];
            for (places, chunks) in [(free, plain), (held, going_on)] {
                for (at, chunk) in places.into_iter().zip(chunks.chunks(size)) {
                    all[at * size..][..size].copy_from_slice(chunk);
                }
            }
            all
        };
        self.finish(normalized, name)
    }

    /// Chunks [B, H, N] from `noise` [B, H, N], every one with something planned.
    fn going_on(
        &mut self,
        observations: &Observations<'_>,
        noise: &[f32],
        plans: &[&Continuation],
        chunking: Chunking,
    ) -> Result<Vec<f32>> {
        let mut points = self.in_batches(observations, noise, false, |policy, batch| {
            let plans = &plans[batch.samples.clone()];
            match chunking {
                Chunking::Naive => policy.plain(batch),
                Chunking::Prefix => Ok(vec![policy.behind_prefixes(batch, plans)?]),
                Chunking::Guided { max_weight } => Ok(vec![policy.towards_plans(batch, plans, max_weight)?]),
            }
        })?;
        Ok(points.pop().unwrap_or_default())
    }

    /// Samples whose first actions are given: these stay as they are, clean at the action's time.
    fn behind_prefixes(&mut self, batch: Batch<'_>, plans: &[&Continuation]) -> Result<Vec<f32>> {
        let (flow, slots, size) = (self.config.flow, self.config.chunk_size, self.config.noise_len());
        let (dims, padded, branches) = (size / slots, batch.shape.batch, self.branches());
        let mut noise = wide(batch.noise);
        for (chunk, plan) in noise.chunks_mut(size).zip(plans) {
            let given = wide(&plan.planned[..plan.delay * dims]);
            chunk[..given.len()].copy_from_slice(&given);
        }
        let evaluator = self.evaluator(batch.shape, true)?;
        let start = Instant::now();
        batch.seen.observations().write(evaluator.program())?;
        evaluator.encode()?;
        let mut velocity = |x: &[f64], t: &[f64]| {
            let of_chunk = |(&t, plan): (&f64, &&Continuation)| {
                let given = plan.delay;
                (0..slots).map(move |slot| if slot < given { flow.action_time() } else { t })
            };
            let times: Vec<f64> = t.iter().zip(plans).flat_map(of_chunk).collect();
            let v = evaluator.velocity(&narrow(x, padded * size), &narrow(&times, padded * slots))?;
            let mut v = wide(&v[..x.len()]);
            v.chunks_mut(size).zip(plans).for_each(|(v, plan)| v[..plan.delay * dims].fill(0.0));
            Ok(v)
        };
        let found = sample(&mut velocity, &noise, plans.len(), &flow)?;
        self.usage.busy += start.elapsed();
        self.usage.evaluations += found.evaluations * branches;
        Ok(narrow(&found.actions, batch.noise.len()))
    }

    /// Samples that are steered towards what is planned.
    fn towards_plans(
        &mut self,
        batch: Batch<'_>,
        plans: &[&Continuation],
        max_weight: f64,
    ) -> Result<Vec<f32>> {
        let (flow, slots, size) = (self.config.flow, self.config.chunk_size, self.config.noise_len());
        let (dims, padded) = (size / slots, batch.shape.batch);
        let mut goal = Goal { actions: vec![0.0; batch.noise.len()], mask: Vec::new(), max_weight };
        for (actions, plan) in goal.actions.chunks_mut(size).zip(plans) {
            actions[..plan.planned.len()].copy_from_slice(&wide(&plan.planned));
            let mask = soft_mask(slots, plan.known(&self.config), plan.delay);
            goal.mask.extend(mask.into_iter().flat_map(|weight| std::iter::repeat_n(weight, dims)));
        }
        let program = self.pull_back(batch.shape)?;
        let start = Instant::now();
        batch.seen.observations().write(program.program())?;
        program.encode()?;
        let mut velocity = |x: &[f64], t: &[f64]| {
            let cut = |mut values: Vec<f64>| {
                values.truncate(x.len());
                values
            };
            let v = cut(program.velocity(&narrow(x, padded * size), &narrow(t, padded))?);
            goal.steer(&v, x, t, flow.noise_at, |e| program.pull_back(&narrow(e, padded * size)).map(cut))
        };
        let found = sample(&mut velocity, &wide(batch.noise), plans.len(), &flow)?;
        self.usage.busy += start.elapsed();
        self.usage.evaluations += 2 * found.evaluations;
        Ok(narrow(&found.actions, batch.noise.len()))
    }
}
