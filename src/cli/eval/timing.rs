//! Flags of time: how long chunks take, and what the robot does meanwhile.

use super::actor::Actor;
use crate::cli::common::note;
use crate::eval::{Execution, Latency, Timing};
use crate::policy::Chunking;
use crate::{Error, Result};

/// The greatest weight of guidance unless another is given (arXiv 2506.07339).
const MAX_WEIGHT: f64 = 5.0;

/// How time goes.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Time")]
pub struct TimingArgs {
    /// Control steps that a chunk takes from observation to actions, in simulated time; several make a table
    #[arg(long, value_name = "D,..", value_delimiter = ',', conflicts_with = "latency_ms")]
    inference_delay: Vec<usize>,
    /// The same in milliseconds: a number, or `measured` on this machine, each chunk made alone
    #[arg(long, value_name = "MS|measured")]
    latency_ms: Option<String>,
    /// Plays episodes one by one by the wall clock, the policy thinking on a thread of its own: no two runs are alike
    #[arg(long, conflicts_with_all = ["inference_delay", "latency_ms"])]
    real_time: bool,
    /// A chunk that takes longer has missed its deadline; misses are counted
    #[arg(long, value_name = "MS")]
    deadline_ms: Option<f64>,
    /// What the robot does while a chunk is made: wait, or move on as naive (the new chunk knows nothing of it), prefix
    /// (it goes on from the actions that are executed meanwhile; needs rtc_training_max_delay in training), guided (it is
    /// drawn towards the chunk before, by the exact gradient); several make a table
    #[arg(long, value_name = "NAME,..", value_delimiter = ',', value_parser = ["wait", "naive", "prefix", "guided"])]
    chunking: Vec<String>,
    /// Greatest weight of guided chunking
    #[arg(long, value_name = "W", default_value_t = MAX_WEIGHT)]
    max_guidance_weight: f64,
}

impl TimingArgs {
    /// Whether the flags ask for several timings.
    pub fn is_table(&self) -> bool {
        self.inference_delay.len() > 1 || self.chunking.len() > 1
    }

    /// Every timing that is asked for, each once.
    ///
    /// # Errors
    /// If a number makes no sense.
    pub fn all(&self) -> Result<Vec<Timing>> {
        if !self.max_guidance_weight.is_finite() || self.max_guidance_weight < 0.0 {
            let weight = self.max_guidance_weight;
            return Err(Error::input(format!(
                "--max-guidance-weight is {weight}: use a finite number, 0 or more"
            )));
        }
        let latencies: Vec<Latency> = match self.latency_ms.as_deref() {
            _ if self.real_time => vec![Latency::RealTime],
            Some("measured") => vec![Latency::Measured],
            Some(ms) => vec![Latency::Milliseconds(ms.parse().map_err(|_| {
                Error::input(format!("--latency-ms is {ms}: use a number of milliseconds, or measured"))
            })?)],
            None if self.inference_delay.is_empty() => vec![Latency::Steps(0)],
            None => self.inference_delay.iter().map(|&steps| Latency::Steps(steps)).collect(),
        };
        let executions: Vec<Execution> = match self.chunking.is_empty() {
            true => vec![Timing::NONE.execution],
            false => self.chunking.iter().map(|name| self.execution(name)).collect(),
        };
        let mut all: Vec<Timing> = Vec::new();
        for &execution in &executions {
            for &latency in &latencies {
                let timing = Timing { latency, execution, deadline_ms: self.deadline_ms, ..Timing::NONE };
                timing.check()?;
                if !all.contains(&timing) {
                    all.push(timing);
                }
            }
        }
        Ok(all)
    }

    fn execution(&self, name: &str) -> Execution {
        match name {
            "wait" => Execution::Wait,
            "prefix" => Execution::Move(Chunking::Prefix),
            "guided" => Execution::Move(Chunking::Guided { max_weight: self.max_guidance_weight }),
            _ => Execution::Move(Chunking::Naive),
        }
    }
}

/// Those timings that an actor can carry out; the others are left out with a line if there are several.
///
/// # Errors
/// If it can carry out none.
pub fn carried(actor: &Actor, timings: &[Timing]) -> Result<Vec<Timing>> {
    let mut carried = Vec::new();
    let mut why = None;
    for &timing in timings {
        match actor.check_timing(timing) {
            Ok(()) => carried.push(timing),
            Err(error) if timings.len() == 1 => return Err(error),
            Err(error) => why = Some(error),
        }
    }
    match why {
        Some(error) if carried.is_empty() => Err(error),
        Some(error) => {
            note(format!("{}: left out: {error}", actor.name));
            Ok(carried)
        }
        None => Ok(carried),
    }
}
