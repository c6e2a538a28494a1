//! Batches: pictures, states and action chunks of given frames, gathered into flat arrays.

use rayon::prelude::*;

use super::{
    Augmentation, CacheOptions, Dataset, Padding, PolicyFeature, Role, Windows, cache::Camera,
    cache::ImageCache,
};
use crate::rng::{Rng, Stream};
use crate::{Error, Result};

/// What a training step needs of B samples: T observed frames, H actions, all in raw units.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// A camera each, in the order asked for: `[B, T * 3, H, W]`, bytes.
    pub images: Vec<Vec<u8>>,
    /// A state vector each, in the order asked for: `[B, T, S]`.
    pub states: Vec<Vec<f32>>,
    /// `[B, H, A]`
    pub actions: Vec<f32>,
    /// `[B, H]`: whether an action lies outside its episode.
    pub is_pad: Vec<bool>,
    /// `[B]`: the current frame of each sample.
    pub frames: Vec<u32>,
}

/// How pictures of a training step are varied: by what, keyed by what.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Varied {
    /// The changes.
    pub by: Augmentation,
    /// The run's seed.
    pub seed: u64,
    /// The step.
    pub step: u64,
}

/// A dataset, its pictures and the shape of a policy's windows. Threads may ask side by side.
#[derive(Debug, Clone)]
pub struct Loader {
    dataset: Dataset,
    images: ImageCache,
    states: Vec<String>,
    windows: Windows,
    padding: Padding,
}

impl Loader {
    /// Checks that the dataset has what the policy is configured for, and decodes the pictures of its cameras if they
    /// fit into memory.
    ///
    /// `features` are the policy's inputs in the order it wants them, and its `action`; pictures of another size are
    /// resized.
    ///
    /// # Errors
    /// If a feature is missing or of another shape, or a picture is broken.
    pub fn new(
        dataset: Dataset,
        features: &[PolicyFeature],
        windows: Windows,
        padding: Padding,
        options: &CacheOptions,
    ) -> Result<Self> {
        let (mut cameras, mut states) = (Vec::new(), Vec::new());
        for feature in features {
            match (feature.role, feature.shape.as_slice()) {
                (Role::Visual, &[3, height, width]) => {
                    cameras.push((feature.key.as_str(), [3, height, width]));
                }
                (Role::State, &[size]) => {
                    check_width(&dataset, &feature.key, size)?;
                    states.push(feature.key.clone());
                }
                (Role::Action, &[size]) if feature.key == "action" => {
                    check_width(&dataset, "action", size)?;
                }
                (role, shape) => {
                    return Err(Error::input(format!(
                        "feature `{}` is configured as {role:?} of shape {shape:?}; pictures are [3, H, W], states and \
                         `action` are [N]",
                        feature.key
                    )));
                }
            }
        }
        dataset.vectors("action")?;
        if windows.observations() == 0 || windows.actions() == 0 {
            return Err(Error::input("n_obs_steps and chunk_size must be above 0"));
        }
        let images = ImageCache::new(&dataset, &cameras, options)?;
        Ok(Self { dataset, images, states, windows, padding })
    }

    /// The dataset.
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// Bytes of decoded pictures in memory; 0 where they are decoded as they are needed.
    pub fn image_bytes(&self) -> usize {
        self.images.bytes()
    }

    /// What the user should hear of since last asked: of the cache on disk.
    pub fn take_notes(&self) -> Vec<String> {
        self.images.take_notes()
    }

    /// The frames of some episodes, in order: what a [`Sampler`](super::Sampler) shuffles.
    ///
    /// # Panics
    /// If there is no such episode.
    pub fn frames_of(&self, episodes: &[usize]) -> Vec<u32> {
        let frames = |&episode: &usize| self.dataset.episodes[episode].frames.clone();
        episodes.iter().flat_map(frames).map(|frame| frame as u32).collect()
    }

    /// The samples whose current frames are given. The work is done by the current thread pool of rayon.
    ///
    /// # Errors
    /// If there is no such frame, or its picture has to be decoded and is broken.
    pub fn batch(&self, frames: &[u32], varied: Option<&Varied>) -> Result<Batch> {
        if let Some(frame) = frames.iter().find(|&&frame| frame as usize >= self.dataset.len()) {
            return Err(Error::input(format!("no frame {frame}: the dataset has {}", self.dataset.len())));
        }
        let mut observed = Vec::with_capacity(frames.len() * self.windows.observations());
        for &frame in frames {
            let episode = self.dataset.episode_range(frame as usize);
            observed.extend(self.windows.observation(&episode, frame as usize).map(|f| f as u32));
        }
        let state = |key: &String| -> Result<Vec<f32>> {
            let (width, values) = self.dataset.vectors(key)?;
            Ok(observed
                .iter()
                .flat_map(|&frame| &values[frame as usize * width..][..width])
                .copied()
                .collect())
        };
        let (width, actions) = self.dataset.vectors("action")?;
        let steps = self.windows.actions();
        let cameras = self.images.cameras.par_iter().enumerate();
        let mut batch = Batch {
            images: cameras
                .map(|(number, camera)| self.pictures(number, camera, &observed, varied))
                .collect::<Result<_>>()?,
            states: self.states.iter().map(state).collect::<Result<_>>()?,
            actions: vec![0.0; frames.len() * steps * width],
            is_pad: vec![false; frames.len() * steps],
            frames: frames.to_vec(),
        };
        let chunks = batch.actions.chunks_exact_mut(steps * width).zip(batch.is_pad.chunks_exact_mut(steps));
        for (&frame, (chunk, is_pad)) in frames.iter().zip(chunks) {
            let episode = self.dataset.episode_range(frame as usize);
            self.windows.fill_chunk(actions, &episode, frame as usize, self.padding, chunk, is_pad);
        }
        Ok(batch)
    }

    /// A camera's pictures of B · T frames, one after another: `[B, T * 3, H, W]`. A sample's pictures of one camera
    /// are varied alike, so that what moves is what moved.
    fn pictures(
        &self,
        number: usize,
        camera: &Camera,
        observed: &[u32],
        varied: Option<&Varied>,
    ) -> Result<Vec<u8>> {
        let mut pixels = vec![0; observed.len() * camera.frame_len()];
        let pictures = pixels.par_chunks_exact_mut(camera.frame_len()).zip(observed).enumerate();
        pictures.try_for_each(|(at, (planes, &frame))| {
            camera.read(&self.dataset, frame as usize, planes)?;
            if let Some(&Varied { by, seed, step }) = varied {
                let sample = (at / self.windows.observations()) as u32;
                let mut rng = Rng::new(seed, Stream::Augmentation, step, sample | (number as u32) << 24);
                by.draw(camera.shape, &mut rng).apply(planes, camera.shape);
            }
            Ok(())
        })?;
        Ok(pixels)
    }
}

/// Checks that a vector of a dataset is as wide as a policy is configured for.
///
/// # Errors
/// If it is missing or of another width.
pub fn check_width(dataset: &Dataset, key: &str, configured: usize) -> Result<()> {
    let width = dataset.vectors(key)?.0;
    if width != configured {
        return Err(Error::input(format!(
            "feature `{key}` has {width} values in {}, but the policy is configured for {configured}",
            dataset.roots[0].display()
        )));
    }
    dataset.stats.check(key, width)
}
