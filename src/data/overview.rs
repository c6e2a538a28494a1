//! What a dataset folder says of itself, without reading its frames.

use std::path::{Path, PathBuf};

use super::{
    Episode, Info, Stats,
    episodes::{read_episodes, read_tasks},
    info::{STATS_PATH, TASKS_PATH},
};
use crate::Result;

/// The `meta` folder of a dataset, of videos too.
#[derive(Debug, Clone)]
pub struct Overview {
    /// The folder.
    pub root: PathBuf,
    /// `meta/info.json`.
    pub info: Info,
    /// `meta/stats.json`.
    pub stats: Stats,
    /// The episodes in order.
    pub episodes: Vec<Episode>,
    /// Task sentences.
    pub tasks: Vec<String>,
}

impl Overview {
    /// Reads it.
    ///
    /// # Errors
    /// If a file is missing or broken.
    pub fn read(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        let info = Info::read(&root)?;
        let stats = Stats::read(&root.join(STATS_PATH))?;
        let episodes = read_episodes(&root)?.0;
        let tasks = read_tasks(&root.join(TASKS_PATH))?;
        Ok(Self { root, info, stats, episodes, tasks })
    }

    /// Whether a folder is one of a dataset.
    pub fn is_dataset(root: &Path) -> bool {
        root.join("meta").is_dir()
    }

    /// Frames of the shortest and of the longest episode.
    pub fn episode_lengths(&self) -> Option<(usize, usize)> {
        let lengths = || self.episodes.iter().map(|episode| episode.frames.len());
        Some((lengths().min()?, lengths().max()?))
    }
}
