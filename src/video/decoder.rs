//! Pictures by number.

use super::Video;
use crate::{Error, Result, image::Image};

/// Decodes a file's pictures in any order; the next one after the last is the cheapest.
pub struct Decoder<'a> {
    video: &'a Video,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(video: &'a Video) -> Self {
        Self { video }
    }

    /// The picture at a place in presentation order.
    ///
    /// # Errors
    /// If there is no such frame, or the file is broken there; the error names file and frame.
    pub fn frame(&mut self, index: usize) -> Result<Image> {
        let path = self.video.path().display();
        Err(Error::failure(format!("{path}, frame {index}: video files cannot be read yet")))
    }
}
