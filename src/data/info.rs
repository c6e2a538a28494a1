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

/// The keys LeRobot knows but this program has no use for.
const KNOWN_REST: [&str; 2] = ["tools", "total_videos"];

/// The columns every dataset has, filled in by the writer.
pub(super) const AUTOMATIC: [(&str, Dtype); 5] = [
    ("timestamp", Dtype::Float32),
    ("frame_index", Dtype::Int64),
    ("episode_index", Dtype::Int64),
    ("index", Dtype::Int64),
    ("task_index", Dtype::Int64),
];

/// `meta/info.json` of a LeRobotDataset v3.0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Info {
    /// The format's version: `v3.0`.
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
    /// Frames per second.
    #[serde(deserialize_with = "whole")]
    pub fps: u32,
    /// Named ranges of episodes, `"train": "0:<episodes>"`.
    #[serde(default)]
    pub splits: Map<String, Value>,
    /// Where data files lie, as a Python format string.
    #[serde(default = "data_path")]
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

fn data_path() -> String {
    DATA_PATH.into()
}

/// A frame rate, also where a file has it as `10.0`.
fn whole<'de, D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<u32, D::Error> {
    let value = f64::deserialize(deserializer)?;
    if value.fract() != 0.0 || !(1.0..=1e6).contains(&value) {
        return Err(serde::de::Error::custom(format!("fps is {value}; it must be a whole number above 0")));
    }
    Ok(value as u32)
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
            fps,
            splits: Map::new(),
            data_path: data_path(),
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
        let info: Self = serde_json::from_str(&text).map_err(broken)?;
        if !info.codebase_version.starts_with("v3.") {
            return Err(Error::input(format!(
                "{}: version {} of the format; convert the dataset to v3.0 with LeRobot's convert_dataset_v21_to_v30",
                path.display(),
                info.codebase_version
            )));
        }
        Ok(info)
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
}

/// Fills a Python format string in `{chunk_index}` and `{file_index}`, with or without a width (`:03d`).
pub(super) fn numbered(template: &str, chunk: usize, file: usize) -> Result<PathBuf> {
    let bad =
        || Error::input(format!("the path template {template:?} is not one of chunk_index and file_index"));
    let mut path = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (field, tail) = after.split_once('}').ok_or_else(bad)?;
        let (name, format) = field.split_once(':').unwrap_or((field, "d"));
        let value = match name {
            "chunk_index" => chunk,
            "file_index" => file,
            _ => return Err(bad()),
        };
        let width = format.strip_suffix('d').ok_or_else(bad)?;
        let width = if width.is_empty() { 0 } else { width.parse::<u8>().map_err(|_| bad())? };
        path += before;
        path += &format!("{value:0width$}", width = usize::from(width));
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
        info.codebase_version = "v2.1".into();
        info.write(root.path()).expect("writes");
        let error = Info::read(root.path()).expect_err("an older version");
        assert!(error.to_string().contains("convert_dataset_v21_to_v30"), "{error}");
        std::fs::write(root.path().join(INFO_PATH), "{\"fps\": 0}").expect("writes");
        assert!(Info::read(root.path()).is_err());
    }
}
