//! `meta/info.json`: what a dataset folder holds and where.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Dtype, Feature, Features};
use crate::{Error, Result};

pub(super) const INFO_PATH: &str = "meta/info.json";
pub(super) const STATS_PATH: &str = "meta/stats.json";
pub(super) const TASKS_PATH: &str = "meta/tasks.parquet";
pub(super) const EPISODES_PATH: &str = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet";
const DATA_PATH: &str = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet";
pub(super) const VIDEO_PATH: &str = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4";
const DATA_PATH_V2: &str = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet";
const VIDEO_PATH_V2: &str = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4";

/// The keys LeRobot knows but this program has no use for.
const KNOWN_REST: [&str; 3] = ["tools", "total_videos", "total_chunks"];

/// The columns every dataset has, filled in by the writer.
pub(super) const AUTOMATIC: [(&str, Dtype); 5] = [
    ("timestamp", Dtype::Float32),
    ("frame_index", Dtype::Int64),
    ("episode_index", Dtype::Int64),
    ("index", Dtype::Int64),
    ("task_index", Dtype::Int64),
];

/// How a folder is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// v2.0 and v2.1: a file for each episode, JSON lines beside them.
    FilePerEpisode,
    /// v3.0: files of many episodes, tables beside them.
    SharedFiles,
}

/// `meta/info.json` of a LeRobotDataset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Info {
    /// The format's version: `v3.0` (written and read), `v2.1` or `v2.0` (read).
    pub codebase_version: String,
    /// What recorded it.
    #[serde(default)]
    pub robot_type: Option<String>,
    /// Episodes in the folder.
    pub total_episodes: usize,
    /// Frames in the folder.
    pub total_frames: usize,
    /// Task sentences in the folder.
    #[serde(default)]
    pub total_tasks: usize,
    /// Files in a chunk folder, at most.
    #[serde(default = "chunks_size")]
    pub chunks_size: usize,
    /// Size at which a new data file begins, in MB.
    #[serde(default = "data_files_size")]
    pub data_files_size_in_mb: usize,
    /// Size at which a new video file begins, in MB.
    #[serde(default = "video_files_size")]
    pub video_files_size_in_mb: usize,
    /// Frames per second, above 0; written as a whole number where it is one.
    #[serde(deserialize_with = "rate", serialize_with = "plain")]
    pub fps: f64,
    /// Named ranges of episodes, `"train": "0:<episodes>"`; [`Self::named_splits`] reads them.
    #[serde(default)]
    pub splits: Map<String, Value>,
    /// Where data files lie, as a Python format string.
    #[serde(default)]
    pub data_path: String,
    /// Where video files lie, as a Python format string; null without videos.
    #[serde(default)]
    pub video_path: Option<String>,
    /// The columns.
    pub features: Features,
    /// Keys this program does not know.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

fn chunks_size() -> usize {
    1000
}

fn data_files_size() -> usize {
    100
}

fn video_files_size() -> usize {
    200
}

/// A frame rate; a dataset slower than a frame in 1000 s, or faster than 1e6 Hz, is none.
fn rate<'de, D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<f64, D::Error> {
    let value = f64::deserialize(deserializer)?;
    if !(1e-3..=1e6).contains(&value) {
        return Err(serde::de::Error::custom(format!("fps is {value}; it must be a number above 0")));
    }
    Ok(value)
}

/// LeRobot wants whole numbers to look like it.
fn plain<S: serde::Serializer>(value: &f64, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    match value.fract() == 0.0 {
        true => serializer.serialize_u64(*value as u64),
        false => serializer.serialize_f64(*value),
    }
}

impl Info {
    /// The description of a dataset that has no frame yet; the automatic columns are added.
    pub fn new(fps: u32, robot_type: Option<&str>, features: &Features) -> Self {
        let mut features = features.clone();
        for (key, dtype) in AUTOMATIC {
            features.insert(key, Feature::scalar(dtype));
        }
        Self {
            codebase_version: "v3.0".into(),
            robot_type: robot_type.map(Into::into),
            total_episodes: 0,
            total_frames: 0,
            total_tasks: 0,
            chunks_size: chunks_size(),
            data_files_size_in_mb: data_files_size(),
            video_files_size_in_mb: video_files_size(),
            fps: f64::from(fps),
            splits: Map::new(),
            data_path: DATA_PATH.into(),
            video_path: None,
            features,
            rest: Map::new(),
        }
    }

    /// Reads a dataset folder's description.
    ///
    /// # Errors
    /// If the file is missing or broken, or of another version of the format.
    pub fn read(root: &Path) -> Result<Self> {
        let path = root.join(INFO_PATH);
        let text = std::fs::read_to_string(&path).map_err(|e| {
            Error::input(format!(
                "cannot read {} ({e}); is {} the folder of a finished LeRobotDataset?",
                path.display(),
                root.display()
            ))
        })?;
        let broken = |e: serde_json::Error| Error::input(format!("{}: {e}", path.display()));
        let mut info: Self = serde_json::from_str(&text).map_err(broken)?;
        let layout = info.layout().map_err(|e| e.at(path.display()))?;
        let (data, videos) = match layout {
            Layout::FilePerEpisode => (DATA_PATH_V2, VIDEO_PATH_V2),
            Layout::SharedFiles => (DATA_PATH, VIDEO_PATH),
        };
        if info.data_path.is_empty() {
            info.data_path = data.into();
        }
        if info.video_path.is_none() && info.features.iter().any(|(_, f)| f.dtype == Dtype::Video) {
            info.video_path = Some(videos.into());
        }
        if info.chunks_size == 0 {
            return Err(Error::input(format!("{}: chunks_size is 0", path.display())));
        }
        Ok(info)
    }

    /// How the folder is laid out.
    ///
    /// # Errors
    /// If this program does not know that version of the format.
    pub(super) fn layout(&self) -> Result<Layout> {
        let version = &self.codebase_version;
        match version.strip_prefix('v').unwrap_or(version).split('.').next() {
            Some("3") => Ok(Layout::SharedFiles),
            Some("2") => Ok(Layout::FilePerEpisode),
            Some("0" | "1") => Err(Error::input(format!(
                "version {version} of the format is too old; convert the dataset to v2.0 with LeRobot's \
                 convert_dataset_v1_to_v2, or record it again"
            ))),
            _ => Err(Error::input(format!(
                "version {version} of the format is not known; v2.0, v2.1 and v3.0 can be read: convert the dataset \
                 with LeRobot, or use a newer flowgpu"
            ))),
        }
    }

    /// Writes the description into a dataset folder.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, root: &Path) -> Result<()> {
        let path = root.join(INFO_PATH);
        let failed = |e: String| Error::failure(format!("cannot write {}: {e}", path.display()));
        let text = serde_json::to_string_pretty(self).map_err(|e| failed(e.to_string()))?;
        std::fs::write(&path, text).map_err(|e| failed(e.to_string()))
    }

    /// The keys of the file that mean nothing to this program.
    pub fn unknown_keys(&self) -> impl Iterator<Item = &str> {
        self.rest.keys().map(String::as_str).filter(|key| !KNOWN_REST.contains(key))
    }

    /// A data file's place below the root.
    ///
    /// # Errors
    /// If the template asks for anything but chunk and file.
    pub fn data_file(&self, chunk: usize, file: usize) -> Result<PathBuf> {
        numbered(&self.data_path, chunk, file).map_err(|e| e.at(INFO_PATH))
    }

    /// The place of a camera's video file below the root.
    pub(super) fn video_file(&self, key: &str, chunk: usize, file: usize) -> Result<PathBuf> {
        let fields = [("video_key", key.into()), ("chunk_index", chunk.into()), ("file_index", file.into())];
        fill(self.video_path.as_deref().unwrap_or(VIDEO_PATH), &fields).map_err(|e| e.at(INFO_PATH))
    }

    /// The place of an episode's data file, or of a camera's video of it, below the root of a v2 folder.
    pub(super) fn episode_file(&self, episode: usize, video: Option<&str>) -> Result<PathBuf> {
        let template = match video {
            None => &self.data_path,
            Some(_) => self.video_path.as_deref().unwrap_or(VIDEO_PATH_V2),
        };
        let chunk = episode / self.chunks_size.max(1);
        let mut fields = vec![("episode_chunk", chunk.into()), ("episode_index", episode.into())];
        fields.extend(video.map(|key| ("video_key", key.into())));
        fill(template, &fields).map_err(|e| e.at(INFO_PATH))
    }
}

/// Fills a Python format string in `{chunk_index}` and `{file_index}`, with or without a width (`:03d`).
pub(super) fn numbered(template: &str, chunk: usize, file: usize) -> Result<PathBuf> {
    fill(template, &[("chunk_index", chunk.into()), ("file_index", file.into())])
}

/// What stands in for a field of a template: a text, or a number that may have a width.
enum Field<'a> {
    Text(&'a str),
    Number(usize),
}

impl<'a> From<&'a str> for Field<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl From<usize> for Field<'_> {
    fn from(number: usize) -> Self {
        Self::Number(number)
    }
}

/// Fills a Python format string.
fn fill(template: &str, fields: &[(&str, Field<'_>)]) -> Result<PathBuf> {
    let bad = || {
        let names: Vec<_> = fields.iter().map(|(name, _)| *name).collect();
        Error::input(format!("the path template {template:?} is not one of {}", names.join(" and ")))
    };
    let mut path = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (field, tail) = after.split_once('}').ok_or_else(bad)?;
        let (name, format) = field.split_once(':').unwrap_or((field, ""));
        path += before;
        match fields.iter().find(|(known, _)| *known == name).ok_or_else(bad)?.1 {
            Field::Text(text) if ["", "s"].contains(&format) => path += text,
            Field::Text(_) => return Err(bad()),
            Field::Number(value) => {
                let width = if format.is_empty() { "" } else { format.strip_suffix('d').ok_or_else(bad)? };
                let width = if width.is_empty() { 0 } else { width.parse::<u8>().map_err(|_| bad())? };
                path += &format!("{value:0width$}", width = usize::from(width));
            }
        }
        rest = tail;
    }
    path += rest;
    Ok(path.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_formatted_as_python_does() {
        let path = numbered(DATA_PATH, 2, 1234).expect("formats");
        assert_eq!(path, Path::new("data/chunk-002/file-1234.parquet"));
        assert_eq!(numbered("{file_index}.parquet", 0, 7).expect("formats"), Path::new("7.parquet"));
        for bad in ["{episode_index:06d}", "{file_index:x}", "{file_index"] {
            assert!(numbered(bad, 0, 0).is_err(), "{bad}");
        }
    }

    #[test]
    fn files_of_an_episode_and_of_a_camera_have_their_places() {
        let camera = Feature { dtype: Dtype::Video, ..Feature::image(4, 2) };
        let mut info = Info::new(10, None, &Features::new().with("observation.images.top", camera));
        let path = info.video_file("observation.images.top", 1, 23).expect("formats");
        assert_eq!(path, Path::new("videos/observation.images.top/chunk-001/file-023.mp4"));
        info.data_path = DATA_PATH_V2.into();
        assert_eq!(
            info.episode_file(1234, None).expect("formats"),
            Path::new("data/chunk-001/episode_001234.parquet")
        );
        info.video_path = None;
        assert_eq!(
            info.episode_file(7, Some("a.b")).expect("formats"),
            Path::new("videos/chunk-000/a.b/episode_000007.mp4")
        );
    }

    #[test]
    fn a_rate_may_be_whole_or_not() {
        let root = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(root.path().join("meta")).expect("a folder");
        let mut info = Info::new(30, None, &Features::new());
        info.write(root.path()).expect("writes");
        let path = root.path().join(INFO_PATH);
        let text = std::fs::read_to_string(&path).expect("reads");
        assert!(text.contains("\"fps\": 30,"), "{text}");
        for (fps, expected) in [("30.0", Some(30.0)), ("29.97", Some(29.97)), ("0", None), ("-1", None)] {
            let text = text.replace("\"fps\": 30,", &format!("\"fps\": {fps},"));
            std::fs::write(&path, text).expect("writes");
            assert_eq!(Info::read(root.path()).ok().map(|info| info.fps), expected, "{fps}");
        }
        info.fps = 29.97;
        info.write(root.path()).expect("writes");
        assert_eq!(Info::read(root.path()).expect("reads").fps, 29.97);
    }

    #[test]
    fn unknown_keys_are_kept_and_named() {
        let root = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(root.path().join("meta")).expect("a folder");
        let mut info = Info::new(10, Some("sim"), &Features::new());
        info.rest.insert("total_videos".into(), 0.into());
        info.rest.insert("weather".into(), "fine".into());
        info.write(root.path()).expect("writes");
        let read = Info::read(root.path()).expect("reads");
        assert_eq!(read, info);
        assert_eq!(read.unknown_keys().collect::<Vec<_>>(), ["weather"]);
    }

    #[test]
    fn older_versions_and_broken_files_say_what_to_do() {
        let root = tempfile::tempdir().expect("a folder");
        let error = Info::read(root.path()).expect_err("no file");
        assert!(error.to_string().contains("info.json"), "{error}");
        std::fs::create_dir(root.path().join("meta")).expect("a folder");
        let mut info = Info::new(10, None, &Features::new());
        for (version, advice) in
            [("v1.6", "convert_dataset_v1_to_v2"), ("v4.0", "newer flowgpu"), ("", "v3.0")]
        {
            info.codebase_version = version.into();
            info.write(root.path()).expect("writes");
            let error = Info::read(root.path()).expect_err("another version");
            assert!(error.to_string().contains(advice), "{error}");
        }
        std::fs::write(root.path().join(INFO_PATH), "{\"fps\": 0}").expect("writes");
        assert!(Info::read(root.path()).is_err());
    }
}
