//! Pictures as networks want them, planes of bytes at one size: from memory, from files of an earlier run, or decoded.

use std::{path::PathBuf, sync::Arc};

use rayon::prelude::*;

use super::{
    Dataset,
    frame_files::{FrameFiles, name_of},
};
use crate::{Error, Result, image::resize};

/// The memory that decoded pictures of a dataset may take unless told otherwise: 2 GiB.
pub const MAX_CACHE_BYTES: usize = 2 << 30;

/// Where decoded pictures may stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheOptions {
    /// Bytes of memory; if all pictures fit, they are decoded up front, else each when it is needed.
    pub memory: usize,
    /// A folder for them, and how many bytes it may hold.
    pub files: Option<(PathBuf, u64)>,
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self { memory: MAX_CACHE_BYTES, files: None }
    }
}

/// The pictures of one camera.
#[derive(Debug, Clone)]
pub(super) struct Camera {
    /// The dataset's feature.
    pub key: String,
    /// `[3, H, W]`, as the network sees them.
    pub shape: [usize; 3],
    /// All of them, `[frames, 3, H, W]`.
    pixels: Option<Vec<u8>>,
    /// The camera's name among the files.
    files: Option<(String, Arc<FrameFiles>)>,
}

/// The cameras of a dataset and where their pictures are.
#[derive(Debug, Clone)]
pub(super) struct ImageCache {
    pub cameras: Vec<Camera>,
    files: Option<Arc<FrameFiles>>,
}

impl ImageCache {
    /// Makes ready the cameras, each given with the shape `[3, H, W]` that the network sees.
    ///
    /// # Errors
    /// If a camera is missing, there is no such memory, or a picture is broken; what is decoded later fails later.
    pub fn new(dataset: &Dataset, cameras: &[(&str, [usize; 3])], options: &CacheOptions) -> Result<Self> {
        for (key, shape) in cameras {
            if shape.contains(&0) {
                return Err(Error::input(format!("feature `{key}` is configured as empty: {shape:?}")));
            }
            // A first picture tells early what is wrong with all.
            dataset.image_shape(key)?;
        }
        let name = |&(key, [_, height, width]): &(&str, [usize; 3])| name_of(dataset, key, [height, width]);
        let files = match &options.files {
            None => None,
            Some((folder, limit)) => {
                let names = cameras.iter().map(name).collect::<Result<Vec<_>>>()?;
                Some((Arc::new(FrameFiles::open(folder, *limit, &names)?), names))
            }
        };
        let mut cameras: Vec<Camera> = cameras
            .iter()
            .enumerate()
            .map(|(i, &(key, shape))| Camera {
                key: key.into(),
                shape,
                pixels: None,
                files: files.as_ref().map(|(files, names)| (names[i].clone(), Arc::clone(files))),
            })
            .collect();
        if bytes_needed(dataset, &cameras) <= options.memory as u128 {
            for camera in &mut cameras {
                camera.decode_all(dataset)?;
            }
        }
        Ok(Self { cameras, files: files.map(|(files, _)| files) })
    }

    /// Bytes of pictures in memory.
    pub fn bytes(&self) -> usize {
        self.cameras.iter().filter_map(|camera| camera.pixels.as_ref().map(Vec::len)).sum()
    }

    /// What the user should hear of since last asked.
    pub fn take_notes(&self) -> Vec<String> {
        self.files.as_ref().map(|files| files.take_notes()).unwrap_or_default()
    }
}

/// Bytes of all decoded pictures.
fn bytes_needed(dataset: &Dataset, cameras: &[Camera]) -> u128 {
    let product = |camera: &Camera| {
        camera.shape.iter().fold(dataset.used_frames() as u128, |n, &d| n.saturating_mul(d as u128))
    };
    cameras.iter().map(product).sum()
}

impl Camera {
    /// Values in a picture: 3 · H · W.
    pub fn frame_len(&self) -> usize {
        self.shape.iter().product()
    }

    /// A frame's picture, `[3, H, W]`. One of another size is resized as networks do ([`resize`]) and rounded.
    ///
    /// # Errors
    /// If it has to be decoded and is missing or broken.
    ///
    /// # Panics
    /// If there is no such frame, or `planes` has not room for exactly one.
    pub fn read(&self, dataset: &Dataset, frame: usize, planes: &mut [u8]) -> Result<()> {
        if let Some(pixels) = &self.pixels {
            planes.copy_from_slice(&pixels[frame * planes.len()..][..planes.len()]);
            return Ok(());
        }
        if self.files.as_ref().is_some_and(|(name, files)| files.read(name, frame, planes)) {
            return Ok(());
        }
        let image = dataset.image(&self.key, frame)?;
        let [_, height, width] = self.shape;
        if [image.height, image.width] == [height, width] {
            planes.copy_from_slice(&image.planar());
        } else {
            let resized = resize(&image.planar(), [image.height, image.width], [height, width]);
            planes.iter_mut().zip(resized).for_each(|(byte, level)| *byte = to_byte(level));
        }
        if let Some((name, files)) = &self.files {
            files.write(name, frame, planes);
        }
        Ok(())
    }

    fn decode_all(&mut self, dataset: &Dataset) -> Result<()> {
        let total = self.frame_len() * dataset.used_frames();
        let mut pixels = Vec::new();
        pixels.try_reserve_exact(total).map_err(|_| {
            Error::failure(format!(
                "no memory for the pictures of `{}`: {} MiB are needed",
                self.key,
                total >> 20
            ))
        })?;
        pixels.resize(total, 0);
        let frames = pixels.par_chunks_exact_mut(self.frame_len()).enumerate();
        frames.try_for_each(|(frame, planes)| self.read(dataset, frame, planes))?;
        self.pixels = Some(pixels);
        Ok(())
    }
}

/// A level in [0, 1] as the nearest byte.
pub(super) fn to_byte(level: f32) -> u8 {
    (level * 255.0 + 0.5) as u8
}
