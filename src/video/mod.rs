//! MP4 files with AV1 or H.264: pictures by number out of them, and pictures into them. In process, without FFmpeg.
//!
//! [`Video::open`] reads a file's tables once and is shared by threads; each thread has a [`Decoder`] of its own, which
//! finds frames by presentation order. [`VideoWriter`] goes the other way (H.264).

mod decoder;
mod writer;

use std::path::{Path, PathBuf};

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
#[derive(Debug)]
pub struct Video {
    path: PathBuf,
    codec: Codec,
    frames: usize,
    fps: f64,
    size: [usize; 2],
}

impl Video {
    /// Reads a file's tables.
    ///
    /// # Errors
    /// If the file is missing, is no MP4 file, is cut short, or has no track of AV1 or H.264.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        Err(Error::failure(format!("cannot read {}: video files cannot be read yet", path.display())))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How the pictures are compressed.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Frames in the file.
    pub fn len(&self) -> usize {
        self.frames
    }

    /// Whether the file has no frame at all.
    pub fn is_empty(&self) -> bool {
        self.frames == 0
    }

    /// Frames per second, on average.
    pub fn fps(&self) -> f64 {
        self.fps
    }

    /// `[height, width]` of the pictures, in pixels.
    pub fn size(&self) -> [usize; 2] {
        self.size
    }

    /// A decoder of this file, for one thread.
    pub fn decoder(&self) -> Decoder<'_> {
        Decoder::new(self)
    }
}
