//! What a dataset folder says of itself, without reading its frames.

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
};

use super::{
    Dtype, Episode, Info, Stats, episodes,
    info::{Layout, STATS_PATH, TASKS_PATH},
    legacy,
};
use crate::{Error, Result};

/// Where an episode's pictures of one camera lie: in a video file, from a time in seconds on.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Clip {
    pub path: PathBuf,
    pub from: f64,
}

/// The `meta` folder of a dataset.
#[derive(Debug, Clone)]
pub struct Overview {
    /// The folder.
    pub root: PathBuf,
    /// `meta/info.json`.
    pub info: Info,
    /// `meta/stats.json`, or the episodes' statistics as one; empty where there are none.
    pub stats: Stats,
    /// The episodes in order.
    pub episodes: Vec<Episode>,
    /// Task sentences.
    pub tasks: Vec<String>,
    /// The data files in order.
    pub(super) files: Vec<PathBuf>,
    /// For each video feature a clip an episode.
    pub(super) clips: BTreeMap<String, Vec<Clip>>,
}

impl Overview {
    /// Reads it.
    ///
    /// # Errors
    /// If a file is missing or broken, or of a version of the format that is not known.
    pub fn read(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        let info = Info::read(&root)?;
        let cameras: Vec<String> = (info.features.iter())
            .filter(|(_, feature)| feature.dtype == Dtype::Video)
            .map(|(key, _)| key.to_owned())
            .collect();
        let stats_path = root.join(STATS_PATH);
        let stats = match stats_path.exists() {
            true => Stats::read(&stats_path)?,
            false => Stats::new(stats_path.display().to_string()),
        };
        let mut overview = Self {
            stats,
            episodes: Vec::new(),
            tasks: Vec::new(),
            files: Vec::new(),
            clips: BTreeMap::new(),
            root,
            info,
        };
        match overview.info.layout()? {
            Layout::SharedFiles => overview.read_shared(&cameras)?,
            Layout::FilePerEpisode => overview.read_per_episode(&cameras)?,
        }
        Ok(overview)
    }

    fn read_shared(&mut self, cameras: &[String]) -> Result<()> {
        let rows = episodes::read_episodes(&self.root, cameras)?;
        let mut data = std::collections::BTreeSet::new();
        for row in rows {
            data.insert(row.data);
            for (key, (chunk, file, from)) in cameras.iter().zip(row.videos) {
                let path = self.below(self.info.video_file(key, chunk, file))?;
                self.clips.entry(key.clone()).or_default().push(Clip { path, from });
            }
            self.episodes.push(row.episode);
        }
        for (chunk, file) in data {
            self.files.push(self.below(self.info.data_file(chunk, file))?);
        }
        if !self.episodes.is_empty() {
            self.tasks = episodes::read_tasks(&self.root.join(TASKS_PATH))?;
        }
        Ok(())
    }

    fn read_per_episode(&mut self, cameras: &[String]) -> Result<()> {
        self.episodes = legacy::read_episodes(&self.root)?;
        for episode in 0..self.episodes.len() {
            self.files.push(self.below(self.info.episode_file(episode, None))?);
            for key in cameras {
                let path = self.below(self.info.episode_file(episode, Some(key)))?;
                self.clips.entry(key.clone()).or_default().push(Clip { path, from: 0.0 });
            }
        }
        self.tasks = legacy::read_tasks(&self.root)?;
        // v2.1 keeps statistics by episode; a stats.json beside them is left from v2.0.
        if let Some(stats) = legacy::read_stats(&self.root)? {
            self.stats = stats;
        }
        Ok(())
    }

    /// A place below the root; a template must not lead out of it.
    fn below(&self, place: Result<PathBuf>) -> Result<PathBuf> {
        let plain = |part: Component| matches!(part, Component::Normal(_) | Component::CurDir);
        let inside = |place: PathBuf| match place.components().all(plain) {
            true => Ok(self.root.join(place)),
            false => Err(Error::input(format!(
                "meta/info.json: a path template leads to {}, outside the data set's folder",
                place.display()
            ))),
        };
        place.and_then(inside).map_err(|e| e.at(self.root.display()))
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

    /// Frames in the episodes.
    ///
    /// # Errors
    /// If there are none, more than can be counted, or others than `meta/info.json` has.
    pub(super) fn frames(&self) -> Result<usize> {
        let frames = self.episodes.last().map_or(0, |e| e.frames.end);
        let here = self.root.display();
        if frames == 0 {
            return Err(Error::input(format!("{here} holds no frames; record some first")));
        }
        // Memory is taken for so many: two files must agree before.
        if frames != self.info.total_frames || u32::try_from(frames).is_err() {
            return Err(Error::input(format!(
                "{here}: meta/episodes has {frames} frames and meta/info.json {}; the dataset is incomplete: copy or \
                 record it again",
                self.info.total_frames
            )));
        }
        Ok(frames)
    }
}
