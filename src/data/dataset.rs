//! A LeRobotDataset as it is used: vectors as flat f32 arrays, pictures decoded when they are asked for.

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

use super::{
    Episode, Info, NamedSplit, Overview, Stats,
    rows::{self, Column, Columns},
};
use crate::{Error, Result, image::Image};

/// Encoded pictures of a dataset that are kept in memory, about: 4 GiB.
pub(super) const MAX_KEPT_BYTES: u64 = 4 << 30;

/// Recorded frames in memory, from one dataset folder or several in a row.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// The folders, in order.
    pub roots: Vec<PathBuf>,
    /// What `meta/info.json` of the first folder says; totals are of all folders.
    pub info: Info,
    /// Statistics over all folders.
    pub stats: Stats,
    /// The episodes in order; together they hold every frame once.
    pub episodes: Vec<Episode>,
    /// Which of them train and which are kept for other ends; those that are in no split are for none.
    pub splits: Vec<NamedSplit>,
    /// Task sentences; `task_index` counts into them.
    pub tasks: Vec<String>,
    /// Things the user should hear of: unknown keys, ignored columns.
    pub warnings: Vec<String>,
    columns: Columns,
    episode_of_frame: Vec<u32>,
    /// The first frame of each folder.
    starts: Vec<usize>,
}

impl Dataset {
    /// Reads a dataset folder of LeRobotDataset v3.0, v2.1 or v2.0.
    ///
    /// Statistics of vectors that the folder lacks are computed, see [`Self::complete_stats`] for those of pictures.
    ///
    /// # Errors
    /// If a file is missing or broken, files contradict each other, there is no frame, or a value that a policy may
    /// read is not finite.
    pub fn open(root: impl AsRef<Path>) -> Result<Self> {
        let mut dataset = Self::read(Overview::read(root.as_ref())?, MAX_KEPT_BYTES)?;
        match dataset.faults().into_iter().next() {
            Some(fault) => Err(Error::input(fault)),
            None => {
                dataset.complete_vectors()?;
                Ok(dataset)
            }
        }
    }

    /// Reads the frames of a folder, whatever their values; of data files beyond `max_bytes` the pictures only when
    /// they are asked for.
    pub(super) fn read(overview: Overview, max_bytes: u64) -> Result<Self> {
        let here = overview.root.display();
        let unknown = |key| format!("{here}: meta/info.json has an unknown key `{key}`");
        let mut warnings: Vec<String> = overview.info.unknown_keys().map(unknown).collect();
        let columns = rows::read(&overview, max_bytes, &mut warnings)?;
        let mut episode_of_frame = Vec::with_capacity(overview.frames()?);
        for (i, episode) in overview.episodes.iter().enumerate() {
            episode_of_frame.resize(episode.frames.end, i as u32);
        }
        let Overview { root, info, stats, episodes, tasks, .. } = overview;
        // Splits that contradict each other are a fault.
        let splits = info.named_splits().unwrap_or_default();
        Ok(Self {
            roots: vec![root],
            info,
            stats,
            episodes,
            splits,
            tasks,
            warnings,
            columns,
            episode_of_frame,
            starts: vec![0],
        })
    }

    /// Reads several dataset folders as one dataset, in order. Features and frame rates must agree.
    ///
    /// # Errors
    /// As [`Self::open`], and if two folders do not fit together.
    pub fn open_all<P: AsRef<Path>>(roots: &[P]) -> Result<Self> {
        let (first, others) =
            roots.split_first().ok_or_else(|| Error::input("no dataset folder was given"))?;
        let mut whole = Self::open(first)?;
        for root in others {
            whole.append(Self::open(root)?)?;
        }
        Ok(whole)
    }

    /// Number of frames.
    pub fn len(&self) -> usize {
        self.episode_of_frame.len()
    }

    /// Frames up to the end of the last episode: fewer than all where the dataset was cut to its first episodes.
    pub fn used_frames(&self) -> usize {
        self.episodes.last().map_or(0, |episode| episode.frames.end)
    }

    /// Whether there is no frame; never so for a dataset that was opened.
    pub fn is_empty(&self) -> bool {
        self.episode_of_frame.is_empty()
    }

    /// The frames of the episode that `frame` belongs to.
    ///
    /// # Panics
    /// If `frame` is not below [`len`](Self::len).
    pub fn episode_range(&self, frame: usize) -> Range<usize> {
        self.episodes[self.episode_of_frame[frame] as usize].frames.clone()
    }

    /// A vector column: values in a frame, and all values row-major, `[frames, width]`, in raw units.
    ///
    /// # Errors
    /// If there is no vector column of that name.
    pub fn vectors(&self, key: &str) -> Result<(usize, &[f32])> {
        match self.columns.get(key) {
            Some(Column::Vectors { width, values }) => Ok((*width, values)),
            _ => Err(self.no_column(key, "vector")),
        }
    }

    /// A frame's picture, decoded: RGB, a byte a value. Threads may ask side by side.
    ///
    /// # Errors
    /// If there is no picture column of that name, no such frame, or the picture is missing or broken: folder,
    /// feature and frame are named.
    pub fn image(&self, key: &str, frame: usize) -> Result<Image> {
        match self.columns.get(key) {
            Some(Column::Pictures(_) | Column::Footage(_)) if frame >= self.len() => {
                Err(Error::input(format!("there is no such frame; there are {}", self.len())))
            }
            Some(Column::Pictures(pictures)) => pictures.image(frame),
            Some(Column::Footage(footage)) => footage.image(frame, self.episode_of_frame[frame] as usize),
            _ => return Err(self.no_column(key, "picture")),
        }
        .map_err(|e| {
            let folder = self.starts.partition_point(|&start| start <= frame).saturating_sub(1);
            e.at(format!("{}: `{key}` of frame {frame}", self.roots[folder].display()))
        })
    }

    /// The shape `[3, H, W]` of a camera's pictures, whatever `meta/info.json` declares: that of its first frame.
    ///
    /// # Errors
    /// As [`Self::image`].
    pub fn image_shape(&self, key: &str) -> Result<[usize; 3]> {
        self.image(key, 0).map(|image| [3, image.height, image.width])
    }

    fn no_column(&self, key: &str, what: &str) -> Error {
        let known: Vec<&str> = self.columns.keys().map(String::as_str).collect();
        Error::input(format!(
            "{} has no {what} feature `{key}`; it has {}",
            self.roots[0].display(),
            known.join(", ")
        ))
    }

    /// The columns by feature.
    pub(super) fn columns(&self) -> impl Iterator<Item = (&str, &Column)> {
        self.columns.iter().map(|(key, column)| (key.as_str(), column))
    }

    /// The cameras, by name.
    pub fn cameras(&self) -> impl Iterator<Item = &str> {
        self.columns().filter(|(_, column)| !matches!(column, Column::Vectors { .. })).map(|(key, _)| key)
    }

    /// The vectors, by name.
    pub fn vector_keys(&self) -> impl Iterator<Item = &str> {
        self.all_vectors().map(|(key, ..)| key)
    }

    /// The vector columns with their widths and values, by feature.
    pub(super) fn all_vectors(&self) -> impl Iterator<Item = (&str, usize, &[f32])> {
        self.columns.iter().filter_map(|(key, column)| match column {
            Column::Vectors { width, values } => Some((key.as_str(), *width, values.as_slice())),
            _ => None,
        })
    }

    /// What a policy may read must be finite, every task must have its sentence, and an episode is in one split at most:
    /// whatever contradicts that.
    pub(super) fn faults(&self) -> Vec<String> {
        let root = self.roots[0].display();
        let mut faults = Vec::new();
        faults.extend(self.info.named_splits().err().map(|e| e.at(&root).to_string()));
        for (key, width, values) in self.all_vectors().filter(|(key, ..)| matters(key)) {
            let count = values.iter().filter(|v| !v.is_finite()).count();
            if let Some(i) = values.iter().position(|v| !v.is_finite()) {
                let frame = i / width;
                let episode = self.episode_of_frame[frame];
                faults.push(format!(
                    "{root}: `{key}` of frame {frame} (episode {episode}) holds {}, one of {count} values that are not \
                     finite; remove such episodes from the dataset",
                    values[i]
                ));
            }
        }
        let tasks = self.vectors("task_index").map_or(&[][..], |(_, values)| values);
        if let Some(task) = tasks.iter().find(|t| !(0.0..self.tasks.len() as f32).contains(*t)) {
            faults.push(format!(
                "{root}: task_index {task} has no sentence in meta/tasks, which has {}",
                self.tasks.len()
            ));
        }
        faults
    }

    /// Adds another dataset's frames after this one's.
    pub(super) fn append(&mut self, other: Self) -> Result<()> {
        let between = format!("{} and {}", self.roots[0].display(), other.roots[0].display());
        self.info.features.check_same(&other.info.features).map_err(|e| e.at(&between))?;
        if self.info.fps != other.info.fps {
            let (mine, theirs) = (self.info.fps, other.info.fps);
            return Err(Error::input(format!("{between}: {mine} and {theirs} frames per second do not mix")));
        }
        let (frames, episodes) = (self.len(), self.episodes.len() as u32);
        self.stats = Stats::aggregate(&[self.stats.clone(), other.stats]).map_err(|e| e.at(&between))?;
        self.episodes.extend(other.episodes.into_iter().map(|mut episode| {
            episode.frames = episode.frames.start + frames..episode.frames.end + frames;
            episode
        }));
        self.episode_of_frame.extend(other.episode_of_frame.iter().map(|e| e + episodes));
        self.splits.extend(other.splits.into_iter().map(|split| split.after(episodes as usize)));
        let places: Vec<f32> =
            other.tasks.iter().map(|task| place_of(&mut self.tasks, task) as f32).collect();
        for (key, mut theirs) in other.columns {
            if let (Column::Vectors { values, .. }, "task_index") = (&mut theirs, key.as_str()) {
                values.iter_mut().for_each(|v| *v = places[*v as usize]);
            }
            if let Some(mine) = self.columns.get_mut(&key) {
                mine.append(theirs, frames);
            }
        }
        self.info.total_frames += other.info.total_frames;
        self.info.total_episodes += other.info.total_episodes;
        self.info.total_tasks = self.tasks.len();
        self.starts.extend(other.starts.iter().map(|start| start + frames));
        self.roots.extend(other.roots);
        self.warnings.extend(other.warnings);
        Ok(())
    }
}

/// Whether a policy may read or write a feature.
pub(super) fn matters(key: &str) -> bool {
    key.starts_with("observation") || key.starts_with("action")
}

fn place_of(tasks: &mut Vec<String>, task: &str) -> usize {
    tasks.iter().position(|t| t == task).unwrap_or_else(|| {
        tasks.push(task.into());
        tasks.len() - 1
    })
}
