//! `run.json`: what was run.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::sim::TaskContract;

/// Everything that a result depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRecord {
    /// [`super::SCHEMA`].
    pub schema: u32,
    /// What ran.
    pub program: Program,
    /// The command line.
    pub command: String,
    /// When it began, seconds since 1970.
    pub started_unix_s: u64,
    /// Wall time; that of the last part, where it was interrupted.
    pub seconds: f64,
    /// The device, with its driver where there is one.
    pub device: String,
    /// Who acted.
    pub policy: PolicyRecord,
    /// The task.
    pub contract: TaskContract,
    /// Episodes asked for.
    pub episodes: usize,
    /// Episode i starts from `default_rng(seed + i)`.
    pub seed: u64,
    /// Episodes side by side.
    pub batch_size: usize,
    /// Steps after which an episode has failed.
    pub horizon: usize,
    /// What was made harder, and how time went.
    pub conditions: Conditions,
    /// Whether all episodes are there.
    pub complete: bool,
}

/// The program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The commit it was built from; `unknown` outside of a checkout.
    pub commit: String,
}

impl Program {
    /// This one.
    pub fn this() -> Self {
        Self {
            name: "flowgpu".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: option_env!("FLOWGPU_COMMIT").unwrap_or("unknown").to_owned(),
        }
    }
}

/// Who acted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyRecord {
    /// As it is called in tables.
    pub name: String,
    /// `rule`, `program`, or a family of networks.
    pub kind: String,
    /// SHA-256 of its weights file; none for what has none.
    pub sha256: Option<String>,
    /// Its config.json; none for what has none.
    pub config: Option<Value>,
    /// Actions executed of each chunk; 1 for a rule.
    pub n_action_steps: usize,
    /// How chunks were sampled: solver, steps, noise, guidance, weights.
    pub sampling: Map<String, Value>,
}

/// What was made harder, and how time went.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conditions {
    /// Disturbances: axis and level.
    pub perturbations: Map<String, Value>,
    /// Keys them.
    pub perturbation_seed: u64,
    /// How chunks were executed in time; empty where they took none.
    pub timing: Map<String, Value>,
}

impl RunRecord {
    /// Fields in which two evaluations differ that must be alike to be compared: task and episodes.
    /// Conditions may differ: what a disturbance does is a comparison as well.
    pub fn incomparable(&self, other: &Self) -> Vec<String> {
        let mut fields: Vec<String> = self
            .contract
            .differences(&other.contract)
            .iter()
            .map(|field| format!("contract.{field}"))
            .collect();
        let unequal = [
            ("seed", self.seed != other.seed),
            ("episodes", self.episodes != other.episodes),
            ("horizon", self.horizon != other.horizon),
        ];
        fields.extend(unequal.iter().filter(|(_, differs)| *differs).map(|(field, _)| (*field).to_owned()));
        fields
    }
}
