//! One episode's chunks: the one in use, the one on its way.

use serde::{Deserialize, Serialize};

use super::planner::{Planned, Request};
use super::timing::{Execution, Timing};
use crate::policy::{Chunking, Continuation};

/// A chunk as it was made and used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChunkLog {
    /// The step it was asked for at.
    pub asked: usize,
    /// The step it arrived at.
    pub arrived: usize,
    /// Wall time from observation to actions, ms: of the batch that it was made in.
    pub latency_ms: f64,
    /// Passes through a network.
    pub evaluations: usize,
    /// Actions [H, A].
    pub actions: Vec<f32>,
}

/// What an executor did in one episode.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EpisodeLog {
    /// Its chunks, in order.
    pub chunks: Vec<ChunkLog>,
    /// Chunks that took longer than the deadline.
    pub deadline_misses: usize,
    /// Steps without an action to execute: the robot stood still.
    pub idle_steps: usize,
}

/// A chunk in use.
struct Current {
    planned: Planned,
    /// The step it was asked for at.
    asked: usize,
    /// Its next action.
    next: usize,
}

/// A chunk on its way.
enum Pending {
    /// It is there at that step.
    Made { planned: Planned, asked: usize, arrives: usize },
    /// It is being made.
    Thought { asked: usize },
}

/// The state of one episode.
#[derive(Default)]
pub(super) struct Running {
    /// Control steps so far.
    pub step: usize,
    current: Option<Current>,
    pending: Option<Pending>,
    /// Control steps that the last chunk took.
    delay: usize,
    pub log: EpisodeLog,
}

impl Running {
    /// The wish for a new chunk, where it is time for one. Takes what arrives now.
    pub fn due(
        &mut self,
        episode: usize,
        timing: &Timing,
        rate: f64,
        every: usize,
        chunk: usize,
    ) -> Option<Request> {
        self.arrive(timing.execution);
        if self.pending.is_some() {
            return None;
        }
        let Some(current) = &self.current else { return Some(Request { episode, continuing: None }) };
        let due = match timing.execution {
            Execution::Wait => current.next >= every,
            Execution::Move(_) => self.step >= current.asked + every || current.next >= chunk,
        };
        let continuing = match timing.chunking() {
            Chunking::Prefix | Chunking::Guided { .. } => {
                let next = current.next.min(chunk);
                let width = current.planned.normalized.len() / chunk;
                let planned = current.planned.normalized[next * width..].to_vec();
                // How long it will take is not known before: as long as the last one.
                let expected = timing.delay(self.delay as f64 * 1e3 / rate, rate);
                let delay = expected.min(chunk - next);
                (!planned.is_empty()).then_some(Continuation { planned, delay })
            }
            Chunking::Naive => None,
        };
        due.then_some(Request { episode, continuing })
    }

    /// A chunk was made, in simulated time. The first of an episode is there at once.
    pub fn take(&mut self, planned: Planned, latency_ms: f64, timing: &Timing, rate: f64) {
        self.delay = timing.delay(latency_ms, rate);
        let arrives = if self.current.is_none() { self.step } else { self.step + self.delay };
        self.note(&planned, self.step, arrives, latency_ms, timing, rate);
        self.pending = Some(Pending::Made { planned, asked: self.step, arrives });
        self.arrive(timing.execution);
    }

    /// A chunk is being made from now on.
    pub fn think(&mut self) {
        self.pending = Some(Pending::Thought { asked: self.step });
    }

    /// The chunk that was being made is there.
    pub fn receive(&mut self, planned: Planned, latency_ms: f64, timing: &Timing, rate: f64) {
        let asked = match self.pending {
            Some(Pending::Thought { asked }) => asked,
            _ => self.step,
        };
        self.delay = self.step - asked;
        self.note(&planned, asked, self.step, latency_ms, timing, rate);
        self.pending = Some(Pending::Made { planned, asked, arrives: self.step });
        self.arrive(timing.execution);
    }

    fn note(
        &mut self,
        planned: &Planned,
        asked: usize,
        arrived: usize,
        latency_ms: f64,
        timing: &Timing,
        rate: f64,
    ) {
        self.log.deadline_misses += usize::from(timing.misses(latency_ms, rate));
        let (evaluations, actions) = (planned.evaluations, planned.actions.clone());
        self.log.chunks.push(ChunkLog { asked, arrived, latency_ms, evaluations, actions });
    }

    /// Changes over to a chunk that is there by now.
    fn arrive(&mut self, execution: Execution) {
        let step = self.step;
        let there =
            |pending: &mut Pending| matches!(pending, Pending::Made { arrives, .. } if *arrives <= step);
        if let Some(Pending::Made { planned, asked, .. }) = self.pending.take_if(there) {
            let next = if execution == Execution::Wait { 0 } else { step - asked };
            self.current = Some(Current { planned, asked, next });
        }
    }

    /// The next action `[dims]`: of the current chunk of so many actions, or zeros where there is none.
    pub fn next(&mut self, chunk: usize, dims: usize, execution: Execution) -> Vec<f64> {
        self.step += 1;
        let waits = execution == Execution::Wait && self.pending.is_some();
        match &mut self.current {
            Some(current) if current.next < chunk && !waits => {
                let action = &current.planned.actions[current.next * dims..][..dims];
                current.next += 1;
                action.iter().map(|&v| f64::from(v)).collect()
            }
            _ => {
                self.log.idle_steps += 1;
                vec![0.0; dims]
            }
        }
    }
}
