//! What was decided in each episode, kept while an evaluation runs: traces and videos are made from it in the end, also of
//! episodes from before an interruption.

use serde::{Deserialize, Serialize};

use crate::eval::running::ChunkLog;
use crate::eval::trial::Played;

/// The decisions of an episode: what plays it again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decisions {
    /// Its number.
    pub episode: usize,
    /// T actions as they were decided, each `[dim]`.
    pub actions: Vec<Vec<f64>>,
    /// T actions as they were executed.
    pub executed: Vec<Vec<f64>>,
    /// Chunks as they were made.
    pub chunks: Vec<ChunkLog>,
}

impl Decisions {
    /// Those of an episode that was played.
    pub fn of(played: &Played) -> Self {
        Self {
            episode: played.episode.index,
            actions: played.episode.actions.clone(),
            executed: played.episode.executed.clone(),
            chunks: played.log.chunks.clone(),
        }
    }
}
