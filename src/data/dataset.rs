//! Reading a LeRobotDataset v3.0: vectors as flat f32 arrays, pictures as encoded bytes.

use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
};

use arrow_array::RecordBatch;

use super::{
    Dtype, Episode, Feature, Info, Stats,
    episodes::{read_episodes, read_tasks},
    info::{STATS_PATH, TASKS_PATH},
    pictures::Pictures,
    table,
};
use crate::{Error, Result, image::Image};

/// The values of one column.
#[derive(Debug, Clone, PartialEq)]
enum Column {
    /// `values[frame * width + component]`
    Vectors {
        width: usize,
        values: Vec<f32>,
    },
    Pictures(Pictures),
}

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
    /// Task sentences; `task_index` counts into them.
    pub tasks: Vec<String>,
    /// Things the user should hear of: unknown keys, ignored columns.
    pub warnings: Vec<String>,
    columns: BTreeMap<String, Column>,
    episode_of_frame: Vec<u32>,
}

impl Dataset {
    /// Reads a dataset folder.
    ///
    /// # Errors
    /// If a file is missing or broken, files contradict each other, there is no frame, or a camera's pictures are
    /// stored as video.
    pub fn open(root: impl AsRef<Path>) -> Result<Self> {
        let root = root.as_ref();
        let info = Info::read(root)?;
        let mut warnings: Vec<String> = (info.unknown_keys())
            .map(|key| format!("{}: meta/info.json has an unknown key `{key}`", root.display()))
            .collect();
        let mut columns = BTreeMap::new();
        // The counters say nothing that the episodes do not.
        let counters = ["frame_index", "episode_index", "index"];
        for (key, feature) in info.features.iter().filter(|(key, _)| !counters.contains(key)) {
            match empty_column(feature) {
                Some(column) => _ = columns.insert(key.to_string(), column),
                None if feature.dtype == Dtype::Video => {
                    return Err(Error::input(format!(
                        "{}: feature `{key}` is stored as video, which is not supported yet; record it with images \
                         (LeRobot: --dataset.video=false)",
                        root.display()
                    )));
                }
                None => warnings.push(format!(
                    "{}: feature `{key}` ({}, shape {:?}) is ignored: only vectors and pictures are read",
                    root.display(),
                    feature.dtype,
                    feature.shape
                )),
            }
        }
        let (episodes, files) = read_episodes(root)?;
        let frames = episodes.last().map_or(0, |e| e.frames.end);
        if frames == 0 {
            return Err(Error::input(format!("{} holds no frames; record some first", root.display())));
        }
        let mut episode_of_frame = Vec::with_capacity(frames);
        for (i, episode) in episodes.iter().enumerate() {
            episode_of_frame.resize(episode.frames.end, i as u32);
        }
        let stats = Stats::read(&root.join(STATS_PATH))?;
        let tasks = read_tasks(&root.join(TASKS_PATH))?;
        let roots = vec![root.to_path_buf()];
        let mut dataset = Self { roots, info, stats, episodes, tasks, warnings, columns, episode_of_frame };
        let mut row = 0;
        let mut wanted: Vec<String> = dataset.columns.keys().cloned().collect();
        wanted.extend(["index".into(), "episode_index".into()]);
        for (chunk, file) in files {
            let path = root.join(dataset.info.data_file(chunk, file)?);
            let keep = |name: &str| wanted.iter().any(|key| key == name);
            table::scan(&path, keep, |batch| dataset.append_rows(batch, &mut row))?;
        }
        if row != frames || dataset.info.total_frames != frames {
            return Err(Error::input(format!(
                "{}: the data files hold {row} frames, meta/episodes {frames} and meta/info.json {}; \
                 the dataset is incomplete: copy or record it again",
                root.display(),
                dataset.info.total_frames
            )));
        }
        dataset.check_values()?;
        Ok(dataset)
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
            Some(Column::Pictures(pictures)) if frame < pictures.len() => pictures.image(frame),
            Some(Column::Pictures(_)) => {
                Err(Error::input(format!("there is no such frame; there are {}", self.len())))
            }
            _ => return Err(self.no_column(key, "picture")),
        }
        .map_err(|e| e.at(format!("{}: `{key}` of frame {frame}", self.roots[0].display())))
    }

    /// A frame's picture as its parquet file has it. Use [`Self::image`], which reads every kind.
    ///
    /// # Errors
    /// If there is no picture column of that name, no such frame, or its picture is a file of its own.
    pub fn picture(&self, key: &str, frame: usize) -> Result<&[u8]> {
        match self.columns.get(key) {
            Some(Column::Pictures(pictures)) => pictures.kept(frame),
            _ => None,
        }
        .ok_or_else(|| self.no_column(key, "picture"))
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

    /// Appends a batch of rows, which must be the frames from `row` on.
    fn append_rows(&mut self, batch: &RecordBatch, row: &mut usize) -> Result<()> {
        let indices = table::integers(batch, "index")?;
        let episodes = table::integers(batch, "episode_index")?;
        for (offset, (index, episode)) in indices.iter().zip(&episodes).enumerate() {
            let frame = *row + offset;
            let expected = self.episode_of_frame.get(frame).map(|&e| i64::from(e));
            if *index != frame as i64 || Some(*episode) != expected {
                return Err(Error::input(format!(
                    "row {frame} has index {index} and episode_index {episode}, expected {frame} and {}; \
                     the dataset is incomplete or out of order: copy it again",
                    expected.map_or("no such row".into(), |e| e.to_string())
                )));
            }
        }
        for (key, column) in &mut self.columns {
            let array = table::column(batch, key)?;
            match column {
                Column::Vectors { width, values } => table::numbers(array, *width, values),
                Column::Pictures(pictures) => {
                    pictures.begin_block();
                    table::pictures(array, |row| pictures.push(row, &self.roots[0]))
                }
            }
            .map_err(|e| e.at(format!("column `{key}`")))?;
        }
        *row += indices.len();
        Ok(())
    }

    /// Everything a policy may read must be finite, and every task must have its sentence.
    fn check_values(&self) -> Result<()> {
        let root = self.roots[0].display();
        for (key, column) in &self.columns {
            let Column::Vectors { width, values } = column else { continue };
            let matters = key.starts_with("observation") || key.starts_with("action");
            if let Some(i) = values.iter().position(|v| !v.is_finite()).filter(|_| matters) {
                let (frame, bad) = (i / width, values[i]);
                return Err(Error::input(format!(
                    "{root}: `{key}` of frame {frame} holds {bad}; remove that episode from the dataset"
                )));
            }
        }
        let tasks = self.vectors("task_index")?.1;
        if let Some(task) = tasks.iter().find(|t| !(0.0..self.tasks.len() as f32).contains(*t)) {
            return Err(Error::input(format!(
                "{root}: task_index {task} has no sentence in {TASKS_PATH}, which has {}",
                self.tasks.len()
            )));
        }
        Ok(())
    }

    /// Adds another dataset's frames after this one's.
    fn append(&mut self, other: Self) -> Result<()> {
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
        let places: Vec<f32> =
            other.tasks.iter().map(|task| place_of(&mut self.tasks, task) as f32).collect();
        for (key, mut theirs) in other.columns {
            if let (Column::Vectors { values, .. }, "task_index") = (&mut theirs, key.as_str()) {
                values.iter_mut().for_each(|v| *v = places[*v as usize]);
            }
            if let Some(mine) = self.columns.get_mut(&key) {
                mine.append(theirs);
            }
        }
        self.info.total_frames += other.info.total_frames;
        self.info.total_episodes += other.info.total_episodes;
        self.info.total_tasks = self.tasks.len();
        self.roots.extend(other.roots);
        self.warnings.extend(other.warnings);
        Ok(())
    }
}

impl Column {
    fn append(&mut self, other: Self) {
        match (self, other) {
            (Self::Vectors { values, .. }, Self::Vectors { values: more, .. }) => values.extend(more),
            (Self::Pictures(pictures), Self::Pictures(more)) => pictures.append(more),
            // Features were compared before: columns of one name are of one kind.
            _ => {}
        }
    }
}

fn place_of(tasks: &mut Vec<String>, task: &str) -> usize {
    tasks.iter().position(|t| t == task).unwrap_or_else(|| {
        tasks.push(task.into());
        tasks.len() - 1
    })
}

/// A column to fill, for the features that can be read.
fn empty_column(feature: &Feature) -> Option<Column> {
    match feature.dtype {
        Dtype::Image => Some(Column::Pictures(Pictures::default())),
        Dtype::Float32 | Dtype::Float64 | Dtype::Int64 | Dtype::Bool
            if feature.shape.len() == 1 && feature.shape[0] > 0 =>
        {
            Some(Column::Vectors { width: feature.shape[0], values: Vec::new() })
        }
        _ => None,
    }
}
