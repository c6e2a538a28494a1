//! The `meta` folder of LeRobotDataset v2.0 and v2.1: JSON lines for episodes, tasks and statistics.

use std::path::{Path, PathBuf};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::{Episode, Stats, stats::spell_nulls};
use crate::{Error, Result};

/// A line of `meta/episodes.jsonl`.
#[derive(Deserialize)]
struct EpisodeLine {
    episode_index: usize,
    #[serde(default)]
    tasks: Vec<String>,
    length: usize,
}

/// A line of `meta/tasks.jsonl`.
#[derive(Deserialize)]
struct TaskLine {
    task_index: usize,
    task: String,
}

/// A line of `meta/episodes_stats.jsonl`.
#[derive(Deserialize)]
struct StatsLine {
    episode_index: usize,
    stats: Map<String, Value>,
}

/// The episodes in order.
///
/// # Errors
/// If the file is missing or broken, or an episode is missing or empty.
pub(super) fn read_episodes(root: &Path) -> Result<Vec<Episode>> {
    let (path, mut lines) = lines::<EpisodeLine>(root, "meta/episodes.jsonl")?;
    lines.sort_by_key(|line| line.episode_index);
    let mut episodes: Vec<Episode> = Vec::with_capacity(lines.len());
    for (i, line) in lines.into_iter().enumerate() {
        let start = episodes.last().map_or(0, |e| e.frames.end);
        let end = start.checked_add(line.length).filter(|&end| end > start);
        match end.filter(|_| line.episode_index == i) {
            Some(end) => episodes.push(Episode { frames: start..end, tasks: line.tasks }),
            None => {
                return Err(Error::input(format!(
                    "{}: episode {} with {} frames stands where episode {i} should; the dataset is incomplete: copy \
                     it again",
                    path.display(),
                    line.episode_index,
                    line.length
                )));
            }
        }
    }
    Ok(episodes)
}

/// The task sentences, by their index.
///
/// # Errors
/// If the file is missing or broken, or indices do not count from 0.
pub(super) fn read_tasks(root: &Path) -> Result<Vec<String>> {
    let (path, mut lines) = lines::<TaskLine>(root, "meta/tasks.jsonl")?;
    lines.sort_by_key(|line| line.task_index);
    if let Some((i, line)) = lines.iter().enumerate().find(|(i, line)| line.task_index != *i) {
        return Err(Error::input(format!(
            "{}: task {} stands where task {i} should; copy the dataset again",
            path.display(),
            line.task_index
        )));
    }
    Ok(lines.into_iter().map(|line| line.task).collect())
}

/// The statistics of all episodes as one, if the folder has them.
///
/// # Errors
/// If the file is broken, or shapes differ between episodes.
pub(super) fn read_stats(root: &Path) -> Result<Option<Stats>> {
    const NAME: &str = "meta/episodes_stats.jsonl";
    if !root.join(NAME).exists() {
        return Ok(None);
    }
    let (path, lines) = lines::<StatsLine>(root, NAME)?;
    let parse = |line: &StatsLine| {
        let stats = Stats::from_json(&line.stats, &path.display().to_string());
        stats.map_err(|e| e.at(format!("episode {}", line.episode_index)))
    };
    let parts = lines.iter().map(parse).collect::<Result<Vec<_>>>()?;
    Stats::aggregate(&parts).map(Some)
}

/// A file's lines; empty ones are passed over.
fn lines<T: DeserializeOwned>(root: &Path, name: &str) -> Result<(PathBuf, Vec<T>)> {
    let path = root.join(name);
    let text = std::fs::read_to_string(&path).map_err(|e| {
        Error::input(format!(
            "cannot read {} ({e}); the dataset is incomplete: copy it again",
            path.display()
        ))
    })?;
    let parse = |(number, line): (usize, &str)| {
        serde_json::from_str(&spell_nulls(line))
            .map_err(|e| Error::input(format!("{}, line {}: {e}", path.display(), number + 1)))
    };
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let lines = lines.map(parse).collect::<Result<_>>()?;
    Ok((path, lines))
}
