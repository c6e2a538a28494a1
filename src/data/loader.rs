//! Batches: pictures, states and action chunks of given frames, gathered into flat arrays.

use super::{Dataset, ImageCache, Padding, PolicyFeature, Role, Windows};
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

/// A dataset, its decoded pictures and the shape of a policy's windows.
#[derive(Debug, Clone)]
pub struct Loader {
    dataset: Dataset,
    cameras: Vec<ImageCache>,
    states: Vec<String>,
    windows: Windows,
    padding: Padding,
}

impl Loader {
    /// Checks that the dataset has what the policy is configured for and decodes the pictures of its cameras.
    ///
    /// `features` are the policy's inputs in the order it wants them, and its `action`; the pictures may take
    /// `max_cache_bytes` ([`MAX_CACHE_BYTES`](super::MAX_CACHE_BYTES)).
    ///
    /// # Errors
    /// If a feature is missing or of another shape, a picture is broken, or the pictures do not fit.
    pub fn new(
        dataset: Dataset,
        features: &[PolicyFeature],
        windows: Windows,
        padding: Padding,
        max_cache_bytes: usize,
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
        let cameras = ImageCache::decode(&dataset, &cameras, max_cache_bytes)?;
        Ok(Self { dataset, cameras, states, windows, padding })
    }

    /// The dataset.
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// The frames of some episodes, in order: what a [`Sampler`](super::Sampler) shuffles.
    ///
    /// # Panics
    /// If there is no such episode.
    pub fn frames_of(&self, episodes: &[usize]) -> Vec<u32> {
        let frames = |&episode: &usize| self.dataset.episodes[episode].frames.clone();
        episodes.iter().flat_map(frames).map(|frame| frame as u32).collect()
    }

    /// The samples whose current frames are given.
    ///
    /// # Errors
    /// If there is no such frame.
    pub fn batch(&self, frames: &[u32]) -> Result<Batch> {
        if let Some(frame) = frames.iter().find(|&&frame| frame as usize >= self.dataset.len()) {
            return Err(Error::input(format!("no frame {frame}: the dataset has {}", self.dataset.len())));
        }
        let mut observed = Vec::with_capacity(frames.len() * self.windows.observations());
        for &frame in frames {
            let episode = self.dataset.episode_range(frame as usize);
            observed.extend(self.windows.observation(&episode, frame as usize).map(|f| f as u32));
        }
        let image = |camera: &ImageCache| {
            let mut pixels = vec![0; observed.len() * camera.frame_len()];
            camera.gather(&observed, &mut pixels);
            pixels
        };
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
        let mut batch = Batch {
            images: self.cameras.iter().map(image).collect(),
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
