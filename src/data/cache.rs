//! Every picture decoded once: bytes in planes, ready to be gathered into batches.

use rayon::prelude::*;

use super::Dataset;
use crate::image::resize;
use crate::{Error, Result};

/// The memory the caches of a dataset may take unless told otherwise: 8 GiB.
pub const MAX_CACHE_BYTES: usize = 8 << 30;

/// The pictures of one camera, `[frames, 3, H, W]`, a byte a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageCache {
    /// The dataset's feature.
    pub key: String,
    /// `[3, H, W]`
    pub shape: [usize; 3],
    pixels: Vec<u8>,
}

impl ImageCache {
    /// Decodes all pictures of the cameras, each given with the shape `[3, H, W]` at which the network sees it: pictures of
    /// another size are resized, and rounded to bytes.
    ///
    /// # Errors
    /// If a camera is missing, a picture is broken or of another size than the first, or all together would take more than
    /// `max_bytes`.
    pub fn decode(dataset: &Dataset, cameras: &[(&str, [usize; 3])], max_bytes: usize) -> Result<Vec<Self>> {
        let bytes: u128 = cameras
            .iter()
            .map(|(_, shape)| shape.iter().fold(dataset.len() as u128, |n, &d| n.saturating_mul(d as u128)))
            .sum();
        if bytes > max_bytes as u128 {
            return Err(Error::input(format!(
                "the decoded pictures of {} frames take {:.1} GiB, more than the {:.1} GiB allowed; use fewer \
                 cameras, smaller pictures or part of the dataset, or allow more memory",
                dataset.len(),
                bytes as f64 / (1u64 << 30) as f64,
                max_bytes as f64 / (1u64 << 30) as f64
            )));
        }
        cameras.iter().map(|&(key, shape)| Self::decode_camera(dataset, key, shape)).collect()
    }

    fn decode_camera(dataset: &Dataset, key: &str, shape: [usize; 3]) -> Result<Self> {
        let given = dataset.image_shape(key)?;
        let size: usize = shape.iter().product();
        let total = size * dataset.len();
        let mut pixels = Vec::new();
        pixels.try_reserve_exact(total).map_err(|_| {
            Error::failure(format!("no memory for the pictures of `{key}`: {} MiB are needed", total >> 20))
        })?;
        pixels.resize(total, 0);
        pixels.par_chunks_exact_mut(size.max(1)).enumerate().try_for_each(|(frame, planes)| {
            let image = dataset.image(key, frame)?;
            let found = [3, image.height, image.width];
            if found != given {
                return Err(Error::input(format!(
                    "feature `{key}`: the picture of frame {frame} has shape {found:?}, that of frame 0 {given:?}; the \
                     pictures of a camera have one size"
                )));
            }
            if given == shape {
                planes.copy_from_slice(&image.planar());
            } else {
                let resized = resize(&image.planar(), [given[1], given[2]], [shape[1], shape[2]]);
                planes.iter_mut().zip(resized).for_each(|(byte, level)| *byte = (level * 255.0).round() as u8);
            }
            Ok(())
        })?;
        Ok(Self { key: key.into(), shape, pixels })
    }

    /// Values in a picture: 3 · H · W.
    pub fn frame_len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Copies pictures one after another: for frames of B samples with T steps each, `out` is `[B, T * 3, H, W]`.
    ///
    /// # Panics
    /// If a frame is not in the cache or `out` has not room for exactly all of them.
    pub fn gather(&self, frames: &[u32], out: &mut [u8]) {
        let size = self.frame_len();
        assert_eq!(out.len(), frames.len() * size, "room for every picture");
        for (&frame, picture) in frames.iter().zip(out.chunks_exact_mut(size)) {
            picture.copy_from_slice(&self.pixels[frame as usize * size..][..size]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_gathered_in_the_order_asked_for() {
        let cache = ImageCache { key: "camera".into(), shape: [3, 1, 2], pixels: (0..18).collect() };
        let mut out = [0; 24];
        cache.gather(&[2, 0, 0, 1], &mut out);
        let frames = [[12, 13, 14, 15, 16, 17], [0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]];
        assert_eq!(out.as_slice(), frames.as_flattened());
    }
}
