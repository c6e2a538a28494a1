//! One line of `episodes.jsonl`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::eval::labels::Label;

/// How an episode ended for the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// As the contract's `success` says.
    Success,
    /// Otherwise.
    Failure,
}

/// What ended it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Termination {
    /// The task's own rule.
    Task,
    /// The horizon.
    Horizon,
}

/// One episode. Equal but for times wherever policy, device, episodes and conditions are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpisodeRecord {
    /// Its number in the evaluation.
    pub episode: usize,
    /// It started from `numpy.random.default_rng(seed)`.
    pub seed: u64,
    /// Keys the noise that its chunks start from, with its number.
    pub noise_seed: u64,
    /// Where the controlled body was at the start, in the environment's units.
    pub initial_position: Vec<f64>,
    /// How far from solved it was then, in the task's unit.
    pub initial_distance: f64,
    /// How it ended for the task.
    pub outcome: Outcome,
    /// What ended it.
    pub termination: Termination,
    /// Steps taken.
    pub steps: usize,
    /// The sum of rewards.
    pub sum_reward: f64,
    /// The greatest reward.
    pub max_reward: f64,
    /// Every metric of the task.
    pub metrics: Map<String, Value>,
    /// The step of a shove, where there was one.
    pub shoved_at: Option<usize>,
    /// Why it failed, where it did.
    pub failure: Option<FailureRecord>,
    /// Disturbances in force: axis and level.
    pub perturbations: Map<String, Value>,
    /// Chunks made; 0 for a rule.
    pub chunks: usize,
    /// Passes through the network.
    pub evaluations: usize,
    /// Chunks that took longer than the deadline.
    pub deadline_misses: usize,
    /// Steps at which there was no action to execute.
    pub idle_steps: usize,
    /// Wall time of its chunks, each that of the batch it was made in; none for a rule.
    pub latency_ms: Option<LatencyRecord>,
}

/// Percentiles of wall times, ms.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatencyRecord {
    /// The median.
    pub p50: f64,
    /// 95 % are below.
    pub p95: f64,
    /// 99 % are below.
    pub p99: f64,
    /// The greatest.
    pub max: f64,
}

/// Why an episode failed, as rules found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailureRecord {
    /// The label.
    pub label: Label,
    /// The rule that gave it, in words.
    pub rule: String,
    /// Reruns of this episode with one thing changed, and whether they succeeded.
    pub reruns: Map<String, Value>,
    /// What else the rules looked at.
    pub evidence: Map<String, Value>,
}

impl EpisodeRecord {
    /// A metric, if it is there and a number.
    pub fn metric(&self, name: &str) -> Option<f64> {
        self.metrics.get(name)?.as_f64()
    }

    /// Whether it succeeded.
    pub fn succeeded(&self) -> bool {
        self.outcome == Outcome::Success
    }
}
