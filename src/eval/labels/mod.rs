//! Why an episode failed: one label, from written rules over what happened and over reruns with one thing changed.
//!
//! A rerun is the same episode, seeds and noise, with one thing put right. Rules are asked in this order, and the first that
//! holds gives the label:
//!
//! | label | rule |
//! |---|---|
//! | `evaluation` | the expert fails as well, from the same start within the same horizon, though nothing is disturbed: what is asked for cannot be done |
//! | `timing` | it succeeds without delays: no action delay, chunks that take no time, the full control rate |
//! | `perception` | pictures were disturbed, and it succeeds if it sees what is there |
//! | `state_estimation` | measurements were disturbed, frames late or lost, or the frame of reference wrong, and it succeeds if it sees what is there |
//! | `control` | actions were not executed as decided, or bodies moved otherwise than usual, and it succeeds where they do |
//! | `data_coverage` | it succeeds from the ordinary start of that seed; or a tenth of its steps or more lie outside the range of the training data |
//! | `timing` | it succeeds if it makes a new chunk at every step: chunks are executed for too long without looking |
//! | `planning` | it fails though nothing is disturbed, and its decisions do not agree with the expert's: their mean cosine is below 0.7 |
//! | `unlabelled` | none of these |
//!
//! Where disturbances are several and no single one explains the failure, it stays `unlabelled`: the record has all reruns.

mod reruns;
mod rules;
#[cfg(test)]
mod tests;

pub use reruns::{Diagnosis, TrainingRange};
pub use rules::{AGREEMENT, Evidence, OUTSIDE, Reruns, judge};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Why an episode failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Label {
    /// What pictures showed was taken for something else.
    Perception,
    /// The state that decisions rest on was not the true one.
    StateEstimation,
    /// Decisions were wrong.
    Planning,
    /// Decisions were not carried out.
    Control,
    /// Decisions came too late or too seldom.
    Timing,
    /// It was where the training data never was.
    DataCoverage,
    /// What was asked for could not be done.
    Evaluation,
    /// No rule holds.
    Unlabelled,
}

impl Label {
    /// All labels.
    pub const ALL: [Self; 8] = [
        Self::Perception,
        Self::StateEstimation,
        Self::Planning,
        Self::Control,
        Self::Timing,
        Self::DataCoverage,
        Self::Evaluation,
        Self::Unlabelled,
    ];

    /// Its name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Perception => "perception",
            Self::StateEstimation => "state_estimation",
            Self::Planning => "planning",
            Self::Control => "control",
            Self::Timing => "timing",
            Self::DataCoverage => "data_coverage",
            Self::Evaluation => "evaluation",
            Self::Unlabelled => "unlabelled",
        }
    }

    /// The label of that name; `-` and blanks count as `_`.
    ///
    /// # Errors
    /// If there is none.
    pub fn named(name: &str) -> Result<Self> {
        let spelled = name.replace(['-', ' '], "_");
        Self::ALL.into_iter().find(|label| label.name() == spelled).ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            Error::input(format!("unknown failure label `{name}`: known are {known}"))
        })
    }
}

impl std::fmt::Display for Label {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
