//! Pictures into a file.

use std::path::Path;

use crate::{Error, Result, image::Image};

/// Writes an MP4 file of H.264, yuv420p.
pub struct VideoWriter;

impl VideoWriter {
    /// Begins a file of `height` rows of `width` pixels, `fps` pictures a second.
    ///
    /// # Errors
    /// If the sizes are odd, or the file cannot be written.
    pub fn create(path: impl AsRef<Path>, width: usize, height: usize, fps: u32) -> Result<Self> {
        let (path, size) = (path.as_ref().display(), format!("{width}x{height} at {fps} fps"));
        Err(Error::failure(format!("cannot write {path} ({size}): video files cannot be written yet")))
    }

    /// Adds a picture.
    ///
    /// # Errors
    /// If its size is another, or the file cannot be written.
    pub fn push(&mut self, image: &Image) -> Result<()> {
        let _ = image;
        Err(Error::failure("video files cannot be written yet"))
    }

    /// Ends the file, which nothing can read before, and returns the number of pictures in it.
    ///
    /// # Errors
    /// If there is none, or the file cannot be written.
    pub fn finish(self) -> Result<usize> {
        Err(Error::failure("video files cannot be written yet"))
    }
}
