//! MP4 files with AV1 or H.264: pictures by number out of them, and pictures into them. In process, without FFmpeg.
//!
//! [`Video::open`] reads a file's tables once and is shared by threads; each thread has a [`Decoder`] of its own, which
//! finds frames by presentation order. [`VideoWriter`] goes the other way (H.264).

mod av1;
mod boxes;
mod colour;
mod decoder;
mod h264;
mod mux;
mod sps;
mod track;
mod writer;

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use self::track::Track;
pub use self::{decoder::Decoder, writer::VideoWriter};
use crate::{Error, Result};

/// How a file's pictures are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// AV1, as LeRobot writes by default.
    Av1,
    /// H.264 (AVC).
    H264,
}

impl Codec {
    /// The name that LeRobot gives it in `info.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Av1 => "av1",
            Self::H264 => "h264",
        }
    }
}

/// The first video track of an MP4 file: where its frames lie and when they show. Holds no picture data.
///
/// Frames are numbered in the order of showing, from 0, whatever order they are stored in.
#[derive(Debug, Clone)]
pub struct Video {
    path: Arc<PathBuf>,
    track: Arc<Track>,
}

impl Video {
    /// Reads a file's tables.
    ///
    /// # Errors
    /// If the file is missing, is no MP4 file, is cut short, or has no track of AV1 or H.264 that can be decoded.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let read = || {
            let cannot = |e: std::io::Error| Error::input(format!("cannot be read: {e}"));
            let mut file = File::open(path).map_err(cannot)?;
            let length = file.metadata().map_err(cannot)?.len();
            Track::parse(&boxes::movie(&mut file, length)?, length)
        };
        let track = read().map_err(|e| e.at(path.display()))?;
        let video = Self { path: Arc::new(path.to_path_buf()), track: Arc::new(track) };
        decoder::check(&video.track).map_err(|e| e.at(path.display()))?;
        Ok(video)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How the pictures are compressed.
    pub fn codec(&self) -> Codec {
        self.track.codec
    }

    /// Frames in the file.
    pub fn len(&self) -> usize {
        self.track.order.len()
    }

    /// Whether the file has no frame at all. (Such a file is not opened.)
    pub fn is_empty(&self) -> bool {
        self.track.order.is_empty()
    }

    /// Frames per second, on average.
    pub fn fps(&self) -> f64 {
        self.track.fps
    }

    /// `[height, width]` of the pictures, in pixels.
    pub fn size(&self) -> [usize; 2] {
        self.track.size
    }

    /// When a frame is shown, in seconds after the first; none past the end.
    pub fn seconds(&self, index: usize) -> Option<f64> {
        let shown = |i: usize| Some(self.track.samples[*self.track.order.get(i)? as usize].shown);
        Some((shown(index)? - shown(0)?) as f64 / f64::from(self.track.timescale))
    }

    /// A decoder of this file, for one thread.
    pub fn decoder(&self) -> Decoder {
        Decoder::new(self.clone())
    }
}
