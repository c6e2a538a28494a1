//! How time goes in an evaluation: how long chunks take, and what the robot does meanwhile.

use serde_json::{Map, Value, json};

use crate::policy::Chunking;
use crate::sim::{Axis, Environment};
use crate::{Error, Result};

/// How long a chunk takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Latency {
    /// So many control steps; 0 is the ideal robot that stops the world to think.
    Steps(usize),
    /// So many milliseconds: of a control rate, whole steps, rounded up.
    Milliseconds(f64),
    /// As long as it took on this machine, each chunk made alone, in simulated time.
    Measured,
    /// As long as it takes: episodes are played one by one by the wall clock while the policy thinks beside them.
    RealTime,
}

/// What the robot does while a chunk is made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Execution {
    /// It waits: actions of zero, then the whole chunk.
    Wait,
    /// It goes on with the chunk before; the new one is made as this says.
    Move(Chunking),
}

impl Execution {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Move(Chunking::Naive) => "naive",
            Self::Move(Chunking::Prefix) => "prefix",
            Self::Move(Chunking::Guided { .. }) => "guided",
        }
    }
}

/// The timing of an evaluation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Timing {
    /// How long a chunk takes.
    pub latency: Latency,
    /// What happens meanwhile.
    pub execution: Execution,
    /// A chunk that takes longer has missed its deadline, ms.
    pub deadline_ms: Option<f64>,
    /// Actions of a chunk that are executed before the next one is asked for; the planner's unless given.
    pub n_action_steps: Option<usize>,
}

impl Timing {
    /// Chunks take no time.
    pub const NONE: Self = Self {
        latency: Latency::Steps(0),
        execution: Execution::Move(Chunking::Naive),
        deadline_ms: None,
        n_action_steps: None,
    };

    /// Checks that its numbers mean something.
    ///
    /// # Errors
    /// Names the flag of one that does not.
    pub fn check(&self) -> Result<()> {
        let wrong = |flag: &str, value: f64| {
            Err(Error::input(format!("--{flag} is {value}: use a finite number of milliseconds, 0 or more")))
        };
        match (self.latency, self.deadline_ms) {
            (Latency::Milliseconds(ms), _) if !ms.is_finite() || ms < 0.0 => wrong("latency-ms", ms),
            (_, Some(ms)) if !ms.is_finite() || ms < 0.0 => wrong("deadline-ms", ms),
            _ => Ok(()),
        }
    }

    /// What differs from chunks that take no time: `delay_steps` or `simulated_latency_ms`, `chunking`, `deadline_ms`.
    pub fn to_json(&self) -> Map<String, Value> {
        let mut json = Map::new();
        match self.latency {
            Latency::Steps(0) => {}
            Latency::Steps(steps) => drop(json.insert("delay_steps".to_owned(), json!(steps))),
            Latency::Milliseconds(ms) => drop(json.insert("simulated_latency_ms".to_owned(), json!(ms))),
            Latency::Measured => drop(json.insert("simulated_latency_ms".to_owned(), json!("measured"))),
            Latency::RealTime => drop(json.insert("real_time".to_owned(), json!(true))),
        }
        if self.execution != Self::NONE.execution {
            json.insert("chunking".to_owned(), json!(self.execution.name()));
        }
        if let Execution::Move(Chunking::Guided { max_weight }) = self.execution {
            json.insert("max_guidance_weight".to_owned(), json!(max_weight));
        }
        if let Some(ms) = self.deadline_ms {
            json.insert("deadline_ms".to_owned(), json!(ms));
        }
        json
    }

    /// Control steps of a chunk that was made in so many ms of wall time, at a control rate in Hz.
    pub(super) fn delay(&self, latency_ms: f64, rate: f64) -> usize {
        match self.latency {
            Latency::Steps(steps) => steps,
            Latency::Milliseconds(ms) => steps_of(ms, rate),
            Latency::Measured | Latency::RealTime => steps_of(latency_ms, rate),
        }
    }

    /// Whether it has missed its deadline.
    pub(super) fn misses(&self, latency_ms: f64, rate: f64) -> bool {
        let took = match self.latency {
            Latency::Steps(0) | Latency::Measured | Latency::RealTime => latency_ms,
            Latency::Steps(steps) => 1e3 * steps as f64 / rate,
            Latency::Milliseconds(ms) => ms,
        };
        self.deadline_ms.is_some_and(|deadline| took > deadline)
    }

    /// What a new chunk is made from.
    pub(super) fn chunking(&self) -> Chunking {
        match self.execution {
            Execution::Wait => Chunking::Naive,
            Execution::Move(chunking) => chunking,
        }
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self::NONE
    }
}

/// Decisions a second that an environment takes.
pub fn rate_of(environment: &dyn Environment) -> f64 {
    let lost = environment.perturbations().level(Axis::ControlRate);
    f64::from(environment.spec().fps) * (1.0 - lost)
}

/// Whole control steps of a time in ms, rounded up; a hair over a step is that step.
pub(super) fn steps_of(ms: f64, rate: f64) -> usize {
    (ms * rate / 1e3 - 1e-9).ceil().max(0.0) as usize
}
