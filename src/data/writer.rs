//! Writing a LeRobotDataset v3.0: frames in, a folder out that LeRobot, pandas and this program read.

use std::{fs::File, path::PathBuf, sync::Arc};

use arrow_array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray,
    builder::{ListBuilder, StringBuilder},
};
use parquet::arrow::ArrowWriter;

use super::{
    Dtype, Feature, Features, Info, Stats,
    columns::{self, Column},
    describe::{self, NAMES},
    filming::{self, Clip, Filming},
    info::{AUTOMATIC, EPISODES_PATH, STATS_PATH, TASKS_PATH, numbered},
    named_splits::TRAIN,
};
use crate::{Error, Result, image::Image};

/// One finished episode, a row of `meta/episodes`.
struct Row {
    tasks: Vec<String>,
    length: usize,
    file: usize,
    from: usize,
    /// In the order of the cameras that are kept as video.
    clips: Vec<Clip>,
    stats: Stats,
}

/// Writes a dataset folder episode by episode.
///
/// The folder can be opened only after [`finish`](Self::finish): `meta/info.json` is written last.
pub struct DatasetWriter {
    root: PathBuf,
    info: Info,
    /// The columns the caller fills; the automatic ones follow them in `info`.
    features: Features,
    episode: Vec<Column>,
    task_of_frame: Vec<usize>,
    tasks: Vec<String>,
    rows: Vec<Row>,
    file: usize,
    data: Option<ArrowWriter<File>>,
    filming: Filming,
    /// Names with the first episode of each.
    splits: Vec<(String, usize)>,
}

impl DatasetWriter {
    /// Begins a dataset in a new or empty folder. The columns `timestamp`, `frame_index`, `episode_index`, `index`
    /// and `task_index` are added to `features`.
    ///
    /// # Errors
    /// If the folder holds anything, or a feature is none that can be written: float32, int64 and bool of shape
    /// `[N]`, RGB images and videos of shape `[H, W, 3]` or `[3, H, W]`, videos of even sides (of 16 to 4096).
    pub fn create(
        root: impl Into<PathBuf>,
        fps: u32,
        robot_type: Option<&str>,
        features: &Features,
    ) -> Result<Self> {
        let root = root.into();
        for (key, feature) in features.iter() {
            check_feature(key, feature)?;
        }
        if fps == 0 {
            return Err(Error::input("a dataset's fps must be above 0"));
        }
        if std::fs::read_dir(&root).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(Error::input(format!(
                "{} is not empty; choose another folder for the dataset, or remove this one",
                root.display()
            )));
        }
        let meta = root.join("meta");
        std::fs::create_dir_all(&meta)
            .map_err(|e| Error::failure(format!("cannot create {}: {e}", meta.display())))?;
        let info = Info::new(fps, robot_type, features);
        let features = features.clone();
        let episode = empty(&features);
        let filming = Filming::new(&features, fps);
        let (task_of_frame, tasks, rows) = (Vec::new(), Vec::new(), Vec::new());
        let (file, data, splits) = (0, None, vec![(TRAIN.to_owned(), 0)]);
        Ok(Self { root, info, features, episode, task_of_frame, tasks, rows, file, data, filming, splits })
    }

    /// Episodes from now on are of this split, which follows `train` or the last one named.
    ///
    /// # Errors
    /// If there has been one of that name: a split is one range of episodes.
    pub fn begin_split(&mut self, name: &str) -> Result<()> {
        if self.splits.last().is_some_and(|(last, _)| last == name) {
            return Ok(());
        }
        if self.splits.iter().any(|(known, _)| known == name) {
            return Err(Error::input(format!(
                "split `{name}` has ended already: a split is one range of episodes"
            )));
        }
        self.splits.push((name.to_owned(), self.rows.len()));
        Ok(())
    }

    /// Lets data files end at `megabytes` and chunk folders at `files`.
    #[cfg(test)]
    pub(super) fn limit_files(&mut self, megabytes: usize, files: usize) {
        (self.info.data_files_size_in_mb, self.info.chunks_size) = (megabytes, files);
    }

    /// Adds a frame to the episode: every image and every vector of the features, each once, and the task's sentence.
    ///
    /// int64 features take whole numbers (to 2^24, given as f32), bool features 0 or 1.
    ///
    /// # Errors
    /// If a feature is missing, unknown, of the wrong shape, or not finite; nothing is added then.
    pub fn add_frame(
        &mut self,
        images: &[(&str, &Image)],
        vectors: &[(&str, &[f32])],
        task: &str,
    ) -> Result<()> {
        let given = images.iter().map(|i| i.0).chain(vectors.iter().map(|v| v.0));
        if let Some(unknown) = given.clone().find(|key| self.features.get(key).is_none()) {
            return Err(Error::input(format!("feature `{unknown}` is not one of the dataset's features")));
        }
        if given.count() > self.features.keys().count() {
            return Err(Error::input("a frame holds a feature twice"));
        }
        let mut frame = Vec::with_capacity(self.episode.len());
        for (key, feature) in self.features.iter() {
            let missing = || Error::input(format!("a frame lacks feature `{key}`"));
            frame.push(if feature.is_visual() {
                let image = images.iter().find(|i| i.0 == key).ok_or_else(missing)?.1;
                Column::Pictures(vec![encode(key, feature, image)?])
            } else {
                let values = vectors.iter().find(|v| v.0 == key).ok_or_else(missing)?.1;
                Column::Values(check_values(key, feature, values)?)
            });
        }
        for (column, value) in self.episode.iter_mut().zip(frame) {
            match (column, value) {
                (Column::Values(all), Column::Values(new)) => all.extend(new),
                (Column::Pictures(all), Column::Pictures(new)) => all.extend(new),
                _ => unreachable!("columns and frames are made from the same features"),
            }
        }
        let known = self.tasks.iter().position(|t| t == task);
        self.task_of_frame.push(known.unwrap_or_else(|| {
            self.tasks.push(task.into());
            self.tasks.len() - 1
        }));
        Ok(())
    }

    /// Frames added since the last episode ended.
    pub fn frames_in_episode(&self) -> usize {
        self.task_of_frame.len()
    }

    /// Forgets the frames since the last episode ended.
    pub fn discard_episode(&mut self) {
        self.episode = empty(&self.features);
        self.task_of_frame.clear();
    }

    /// Writes the frames since the last call as one episode: a row group of its own.
    ///
    /// # Errors
    /// If there is no frame, or a file cannot be written.
    pub fn end_episode(&mut self) -> Result<()> {
        let length = self.frames_in_episode();
        if length == 0 {
            return Err(Error::input("an episode needs at least one frame"));
        }
        let columns = self.with_automatic_columns();
        let mut stats = Stats::new(format!("episode {}", self.rows.len()));
        for ((key, feature), column) in self.info.features.iter().zip(&columns) {
            match column {
                Column::Values(values) => describe::vectors(&mut stats, key, feature.len(), values)?,
                Column::Pictures(pngs) => {
                    let picture = |frame: usize| Image::from_png(&pngs[frame]);
                    describe::pictures(&mut stats, key, pngs.len(), picture)?;
                }
            }
        }
        self.write_data(&columns)?;
        let mut clips = Vec::new();
        for (key, column) in self.info.features.keys().zip(&columns) {
            if let (true, Column::Pictures(pngs)) = (self.filming.keeps(key), column) {
                clips.push(self.filming.add(&self.root, &self.info, key, pngs)?);
            }
        }
        let mut tasks: Vec<String> = Vec::new();
        for task in self.task_of_frame.iter().map(|&t| &self.tasks[t]) {
            if !tasks.contains(task) {
                tasks.push(task.clone());
            }
        }
        let (file, from) = (self.file, self.info.total_frames);
        self.rows.push(Row { tasks, length, file, from, clips, stats });
        self.info.total_frames += length;
        self.discard_episode();
        self.close_large_file()
    }

    /// The episode's columns with the automatic ones, in the order of the file's features.
    fn with_automatic_columns(&mut self) -> Vec<Column> {
        let frames = self.frames_in_episode();
        let (episode, first, fps) = (self.rows.len() as f64, self.info.total_frames, self.info.fps);
        let mut columns = std::mem::take(&mut self.episode);
        for (key, _) in AUTOMATIC {
            let value = |frame: usize| match key {
                "timestamp" => frame as f64 / fps,
                "frame_index" => frame as f64,
                "episode_index" => episode,
                "index" => (first + frame) as f64,
                _ => self.task_of_frame[frame] as f64,
            };
            columns.push(Column::Values((0..frames).map(value).collect()));
        }
        columns
    }

    fn data_path(&self) -> Result<PathBuf> {
        let size = self.info.chunks_size;
        Ok(self.root.join(self.info.data_file(self.file / size, self.file % size)?))
    }

    fn write_data(&mut self, columns: &[Column]) -> Result<()> {
        let path = self.data_path()?;
        let failed = |e: String| Error::failure(format!("cannot write {}: {e}", path.display()));
        let schema = columns::schema(&self.info.features);
        let stored = self.info.features.iter().zip(columns).filter(|((_, f), _)| f.dtype != Dtype::Video);
        let arrays = stored.map(|((_, f), column)| columns::array(f, column));
        let arrays = arrays.collect::<std::result::Result<Vec<_>, _>>().map_err(failed)?;
        let batch = RecordBatch::try_new(schema.clone(), arrays).map_err(|e| failed(e.to_string()))?;
        let writer = match &mut self.data {
            Some(writer) => writer,
            None => {
                let footer = columns::huggingface_footer(&self.info.features);
                self.data.insert(columns::create(&path, schema, Some(footer))?)
            }
        };
        writer.write(&batch).and_then(|()| writer.flush()).map_err(|e| failed(e.to_string()))
    }

    /// Lets the next episode begin a new file once this one has reached the size the format names.
    fn close_large_file(&mut self) -> Result<()> {
        let limit = self.info.data_files_size_in_mb * 1024 * 1024;
        if self.data.as_ref().is_some_and(|writer| writer.bytes_written() >= limit) {
            self.close_file()?;
            self.file += 1;
        }
        Ok(())
    }

    fn close_file(&mut self) -> Result<()> {
        let path = self.data_path()?;
        let Some(writer) = self.data.take() else { return Ok(()) };
        let failed = |e| Error::failure(format!("cannot write {}: {e}", path.display()));
        writer.close().map(|_| ()).map_err(failed)
    }

    /// Writes episodes, tasks, statistics and, last, `meta/info.json`, whose content it returns.
    ///
    /// # Errors
    /// If no episode was recorded, if frames were added after the last episode's end, or if a file cannot be written.
    pub fn finish(mut self) -> Result<Info> {
        if self.rows.is_empty() {
            return Err(Error::input(format!(
                "{}: a dataset needs at least one episode",
                self.root.display()
            )));
        }
        if self.frames_in_episode() > 0 {
            return Err(Error::input("the last episode has not ended: end or discard it before finishing"));
        }
        self.close_file()?;
        self.filming.finish(&mut self.info)?;
        self.write_episodes()?;
        let indices: ArrayRef = Arc::new(Int64Array::from_iter_values(0..self.tasks.len() as i64));
        let tasks: ArrayRef = Arc::new(StringArray::from_iter_values(&self.tasks));
        let table = vec![("task_index".into(), indices), ("task".into(), tasks)];
        columns::write_table(&self.root.join(TASKS_PATH), table, Some(columns::pandas_footer()))?;
        let stats: Vec<Stats> = self.rows.iter().map(|row| row.stats.clone()).collect();
        Stats::aggregate(&stats)?.write(&self.root.join(STATS_PATH))?;
        self.info.total_episodes = self.rows.len();
        self.info.total_tasks = self.tasks.len();
        let ends = self.splits.iter().skip(1).map(|(_, start)| *start).chain([self.rows.len()]);
        for ((name, start), end) in self.splits.iter().zip(ends).filter(|((_, start), end)| start < end) {
            self.info.splits.insert(name.clone(), format!("{start}:{end}").into());
        }
        self.info.write(&self.root)?;
        Ok(self.info)
    }

    fn write_episodes(&self) -> Result<()> {
        let whole = |f: &dyn Fn(usize, &Row) -> usize| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values(
                self.rows.iter().enumerate().map(|(i, row)| f(i, row) as i64),
            ))
        };
        let mut tasks = ListBuilder::new(StringBuilder::new());
        for row in &self.rows {
            tasks.append_value(row.tasks.iter().map(Some));
        }
        let size = self.info.chunks_size;
        let mut table: Vec<(String, ArrayRef)> = vec![
            ("episode_index".into(), whole(&|i, _| i)),
            ("tasks".into(), Arc::new(tasks.finish())),
            ("length".into(), whole(&|_, row| row.length)),
            ("data/chunk_index".into(), whole(&|_, row| row.file / size)),
            ("data/file_index".into(), whole(&|_, row| row.file % size)),
            ("dataset_from_index".into(), whole(&|_, row| row.from)),
            ("dataset_to_index".into(), whole(&|_, row| row.from + row.length)),
        ];
        let fps = self.info.fps;
        let seconds = |f: &dyn Fn(&Row) -> usize| -> ArrayRef {
            Arc::new(Float64Array::from_iter_values(self.rows.iter().map(|row| f(row) as f64 / fps)))
        };
        for (i, key) in self.filming.keys().enumerate() {
            let column = |name: &str| format!("videos/{key}/{name}");
            table.push((column("chunk_index"), whole(&|_, row| row.clips[i].file / size)));
            table.push((column("file_index"), whole(&|_, row| row.clips[i].file % size)));
            table.push((column("from_timestamp"), seconds(&|row| row.clips[i].from)));
            table.push((column("to_timestamp"), seconds(&|row| row.clips[i].from + row.length)));
        }
        for key in self.info.features.keys() {
            for name in NAMES {
                let stats =
                    self.rows.iter().map(|row| row.stats.get(key, name)).collect::<Result<Vec<_>>>()?;
                table.push((format!("stats/{key}/{name}"), columns::stat_array(name, &stats)));
            }
        }
        table.push(("meta/episodes/chunk_index".into(), whole(&|_, _| 0)));
        table.push(("meta/episodes/file_index".into(), whole(&|_, _| 0)));
        columns::write_table(&self.root.join(numbered(EPISODES_PATH, 0, 0)?), table, None)
    }
}

fn empty(features: &Features) -> Vec<Column> {
    let column = |(_, feature): (&str, &Feature)| match feature.is_visual() {
        true => Column::Pictures(Vec::new()),
        false => Column::Values(Vec::new()),
    };
    features.iter().map(column).collect()
}

fn check_feature(key: &str, feature: &Feature) -> Result<()> {
    let shape = &feature.shape;
    let fits = match feature.dtype {
        Dtype::Float32 | Dtype::Int64 | Dtype::Bool => shape.len() == 1 && shape[0] > 0,
        Dtype::Image => shape.len() == 3 && !feature.is_empty() && feature.policy_shape()[0] == 3,
        Dtype::Video => filming::fits(feature),
        _ => false,
    };
    if !fits || key.is_empty() || key.contains('/') || AUTOMATIC.iter().any(|(name, _)| *name == key) {
        return Err(Error::input(format!(
            "feature `{key}` ({}, shape {shape:?}) cannot be written: use float32, int64 or bool of shape [N], or an \
             image of shape [height, width, 3], or a video with even sides of 16 to 4096; names have no '/' and are none of the automatic columns",
            feature.dtype
        )));
    }
    Ok(())
}

fn check_values(key: &str, feature: &Feature, values: &[f32]) -> Result<Vec<f64>> {
    if values.len() != feature.len() {
        let (given, wanted) = (values.len(), feature.len());
        return Err(Error::input(format!(
            "feature `{key}` has {given} values in a frame, expected {wanted}"
        )));
    }
    let allowed = |v: f32| match feature.dtype {
        Dtype::Bool => v == 0.0 || v == 1.0,
        Dtype::Int64 => v.fract() == 0.0,
        _ => v.is_finite(),
    };
    match values.iter().find(|v| !allowed(**v)) {
        Some(bad) => Err(Error::input(format!("feature `{key}` ({}) cannot hold {bad}", feature.dtype))),
        None => Ok(values.iter().copied().map(f64::from).collect()),
    }
}

fn encode(key: &str, feature: &Feature, image: &Image) -> Result<Vec<u8>> {
    let shape = [3, image.height, image.width];
    if feature.policy_shape() != shape {
        return Err(Error::input(format!(
            "feature `{key}` has a picture of shape {shape:?}, expected {:?}",
            feature.policy_shape()
        )));
    }
    image.to_png().map_err(|e| e.at(key))
}
