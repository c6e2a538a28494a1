//! Batches in the units of the network: windows of a data set, normalised, with keyed noise and times.

use crate::data::{
    Augmentation, Batch, CacheOptions, Dataset, Loader, Padding, PolicyFeature, Role, Sampler, Varied,
    Windows,
};
use crate::memory::available;
use crate::policy::{
    ActionPadding, Config, Feature, FeatureType, Images, Kept, Normalizer, Observations, Pixels, Stats,
    Unconditional, join_states,
};
use crate::rng::{Rng, Stream};
use crate::{Error, Result};

use super::reflow::FramePairs;
use super::{StepInputs, TrainConfig, loss_weights};

/// A batch as a training step takes it.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// [B, 3·T, H, W] of each camera; nothing for one that is missing.
    pub images: Vec<Vec<u8>>,
    /// [B, T·S], normalised; empty for a policy without state vectors.
    pub state: Vec<f32>,
    /// `[B]`: 1 where a sample sees what stands for no observation.
    pub dropped: Vec<f32>,
    /// [B, H, N], normalised; padded from A robot's to N network's dimensions by zeros.
    pub actions: Vec<f32>,
    /// [B, H, N].
    pub noise: Vec<f32>,
    /// `[B]`.
    pub times: Vec<f32>,
    /// [B, H].
    pub weights: Vec<f32>,
}

impl Prepared {
    /// One of `parts` equal parts of the samples, as a step takes it.
    ///
    /// # Panics
    /// If there is no such part.
    pub fn part(&self, part: usize, parts: usize) -> StepInputs<'_> {
        fn cut<T>(values: &[T], part: usize, parts: usize) -> &[T] {
            let size = values.len() / parts;
            &values[part * size..][..size]
        }
        StepInputs {
            seen: Observations {
                images: self.images.iter().map(|images| Images::Bytes(cut(images, part, parts))).collect(),
                state: cut(&self.state, part, parts),
            },
            dropped: cut(&self.dropped, part, parts),
            actions: cut(&self.actions, part, parts),
            noise: cut(&self.noise, part, parts),
            times: cut(&self.times, part, parts),
            weights: cut(&self.weights, part, parts),
        }
    }
}

/// The training and validation samples of a data set.
pub struct TrainingData {
    loader: Loader,
    train: Sampler,
    validation: Vec<u32>,
    /// Frames and episodes that train or validate.
    used: (usize, usize),
    /// Whether the data set has each of the policy's cameras.
    cameras: Vec<bool>,
    config: Config,
    normalizer: Normalizer,
    seed: u64,
    augmentation: Augmentation,
    pairs: Option<FramePairs>,
}

/// Bytes of a number of GiB.
fn gib(number: f64) -> f64 {
    number * f64::from(1 << 30)
}

impl TrainingData {
    /// Takes the episodes of the settings' split, holds some out, and makes ready the images, all of which are decoded now if they fit into memory.
    ///
    /// # Errors
    /// If the data set lacks what the policy is configured for, or is too small.
    pub fn new(
        mut dataset: Dataset,
        config: &Config,
        normalizer: Normalizer,
        settings: &TrainConfig,
    ) -> Result<Self> {
        let seed = settings.seed;
        let cameras = present_cameras(config, &dataset)?;
        let features = features(config, &cameras);
        let windows = Windows::new(config.n_obs_steps, config.chunk_size);
        let padding = match config.action_padding {
            ActionPadding::Hold => Padding::Hold,
            ActionPadding::Zero => Padding::Zero,
        };
        let split = dataset.split_for_training(&settings.dataset_split, settings.eval_split, seed)?;
        // What lies behind the last episode of use is not even decoded.
        let used = split.train.iter().chain(&split.validation).max().map_or(0, |last| last + 1);
        dataset.episodes.truncate(used);
        let files = settings.decoded_cache.clone();
        let options = CacheOptions {
            // At most half of what is free: a run needs more than pictures.
            memory: available()
                .map_or(usize::MAX, |free| free as usize / 2)
                .min(gib(settings.image_cache_gib) as usize),
            files: files.map(|folder| (folder, gib(settings.decoded_cache_gib) as u64)),
        };
        let loader = Loader::new(dataset, &features, windows, padding, &options)?;
        let train = loader.frames_of(&split.train);
        let validation = loader.frames_of(&split.validation);
        let used = (train.len() + validation.len(), split.train.len() + split.validation.len());
        let train = Sampler::new(train, settings.samples_per_step(), seed)?;
        Ok(Self {
            loader,
            train,
            validation,
            used,
            cameras,
            config: config.clone(),
            normalizer,
            seed,
            augmentation: settings.augmentation(),
            pairs: None,
        })
    }

    /// Steps that show every training sample once.
    pub fn steps_per_epoch(&self) -> u64 {
        self.train.steps_per_epoch()
    }

    /// Frames and episodes that train or validate.
    pub fn used(&self) -> (usize, usize) {
        self.used
    }

    /// Frames up to the last one of use; they are numbered so.
    pub fn frames(&self) -> usize {
        self.loader.dataset().used_frames()
    }

    /// The loader.
    pub fn loader(&self) -> &Loader {
        &self.loader
    }

    /// From now on a sample is its frame's pair: the noise and the chunk, without padding.
    pub fn couple(&mut self, pairs: FramePairs) {
        self.pairs = Some(pairs);
    }

    /// What a policy sees at some frames, in the robot's units.
    ///
    /// # Errors
    /// If there is no such frame.
    pub fn seen(&self, frames: &[u32]) -> Result<Kept> {
        let Batch { images, states, .. } = self.loader.batch(frames, None)?;
        let images = self.by_camera(images).into_iter().map(Pixels::Bytes).collect();
        Ok(Kept { images, state: self.joined(&states) })
    }

    /// Up to `most` validation frames, or of all frames where there are none, evenly spread.
    pub(super) fn spread(&self, most: usize) -> Vec<u32> {
        let all: Vec<u32> = match self.validation.is_empty() {
            true => (0..self.frames() as u32).collect(),
            false => self.validation.clone(),
        };
        all.iter().step_by(all.len().div_ceil(most.max(1)).max(1)).copied().collect()
    }

    /// The batch of a training step, counted from 1: a function of the seed and the step alone.
    ///
    /// # Errors
    /// If an action is not finite, or a picture is broken.
    pub fn batch(&self, step: u64) -> Result<Prepared> {
        let frames = self.train.batch(step - 1);
        self.prepare(&frames, [Stream::TrainNoise, Stream::TrainTime], step)
    }

    /// Frames that are kept for validation.
    pub fn held_out(&self) -> usize {
        self.validation.len()
    }

    /// Batches of `size` from the validation episodes, at most `most` of them, always with the same noise.
    pub fn validation(&self, size: usize, most: usize) -> impl Iterator<Item = Result<Prepared>> {
        // Spread over all of it, so that a few batches see many episodes.
        let count = (self.validation.len() / size).min(most);
        let stride = (self.validation.len() / (count * size).max(1)).max(1);
        (0..count).map(move |i| {
            let frames: Vec<u32> = (0..size).map(|j| self.validation[(i * size + j) * stride]).collect();
            self.prepare(&frames, [Stream::Validation, Stream::Validation], i as u64)
        })
    }

    fn prepare(&self, frames: &[u32], [noise, time]: [Stream; 2], step: u64) -> Result<Prepared> {
        // Validation sees what is there.
        let training = noise != time;
        let varied = Varied { by: self.augmentation, seed: self.seed, step };
        let varied = (training && self.augmentation != Augmentation::NONE).then_some(&varied);
        let Batch { images, states, mut actions, mut is_pad, .. } = self.loader.batch(frames, varied)?;
        match &self.pairs {
            Some(pairs) => {
                actions = frames.iter().flat_map(|&frame| pairs.of(frame).1).copied().collect();
                is_pad.fill(false);
            }
            None => {
                self.normalizer.normalize_actions(&mut actions)?;
                actions = widened(&actions, self.config.action().1, self.config.network_action_dim());
            }
        }
        let size = self.config.noise_len();
        let mut prepared = Prepared {
            images: self.by_camera(images),
            state: self.state(&states)?,
            dropped: vec![0.0; frames.len()],
            weights: loss_weights(&self.config, &is_pad),
            noise: Vec::with_capacity(actions.len()),
            times: Vec::with_capacity(frames.len()),
            actions,
        };
        for (sample, &frame) in (0..).zip(frames) {
            let mut rng = Rng::new(self.seed, noise, step, sample);
            let drawn: Vec<f32> = (0..size).map(|_| rng.normal() as f32).collect();
            prepared.noise.extend(self.pairs.as_ref().map_or(&drawn[..], |pairs| pairs.of(frame).0));
            // Where one stream serves both, the time follows the noise.
            let mut rng = if training { Rng::new(self.seed, time, step, sample) } else { rng };
            let flow = &self.config.flow;
            prepared.times.push(flow.time_law.sample(flow.noise_at, &mut rng) as f32);
            let share = if training { f64::from(self.config.observation_dropout) } else { 0.0 };
            let mut rng = Rng::new(self.seed, Stream::ObservationDropout, step, sample);
            if share > 0.0 && rng.uniform() < share {
                self.drop_observation(&mut prepared, sample as usize);
            }
        }
        if let Some(at) = prepared.actions.iter().position(|a| !a.is_finite()) {
            let frame = frames[at / size];
            return Err(Error::input(format!(
                "the action chunk of frame {frame} is not finite after normalisation"
            )));
        }
        Ok(prepared)
    }
}

impl TrainingData {
    /// The data set's pictures at their cameras' places, nothing where a camera is missing.
    fn by_camera(&self, images: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let mut images = images.into_iter();
        self.cameras
            .iter()
            .map(|&present| if present { images.next().unwrap_or_default() } else { Vec::new() })
            .collect()
    }

    /// Whether the data set has each of the policy's cameras.
    pub fn cameras(&self) -> &[bool] {
        &self.cameras
    }

    /// State vectors [B, T, S_i] of each feature as one [B, T·S].
    fn joined(&self, states: &[Vec<f32>]) -> Vec<f32> {
        let widths = self.config.states().map(|(_, feature)| feature.shape[0]);
        join_states(&states.iter().map(Vec::as_slice).zip(widths).collect::<Vec<_>>())
    }

    /// The same, normalised.
    fn state(&self, states: &[Vec<f32>]) -> Result<Vec<f32>> {
        let mut state = self.joined(states);
        self.normalizer.normalize_states(&mut state)?;
        if let Some(at) = state.iter().position(|value| !value.is_finite()) {
            return Err(Error::input(format!("a state holds {} after normalisation", state[at])));
        }
        Ok(state)
    }

    /// Shows a sample what stands for no observation. A learned stand-in is added on the device.
    fn drop_observation(&self, prepared: &mut Prepared, sample: usize) {
        let batch = prepared.dropped.len();
        let state = prepared.state.len() / batch;
        for images in &mut prepared.images {
            let image = images.len() / batch;
            images[sample * image..][..image].fill(0);
        }
        let state = &mut prepared.state[sample * state..][..state];
        match &self.config.unconditional {
            Unconditional::Given(values) => {
                state.chunks_mut(values.len()).for_each(|row| row.copy_from_slice(&values[..]));
            }
            Unconditional::Zeros | Unconditional::Learned => state.fill(0.0),
        }
        prepared.dropped[sample] = 1.0;
    }
}

/// Whether a data set has each of a policy's cameras.
///
/// # Errors
/// If more are missing than the policy allows, or one has pictures of another shape.
fn present_cameras(config: &Config, dataset: &Dataset) -> Result<Vec<bool>> {
    let has = |key: &str| dataset.info.features.get(key).is_some();
    let present = config.cameras_to_read(has);
    for ((key, feature), _) in config.images().zip(&present).filter(|(_, present)| **present) {
        if !has(key) {
            return Err(Error::input(format!(
                "{} has no picture feature `{key}`; it has {}. A policy may do without as many cameras as its \
                 `empty_cameras` says, which is {}",
                dataset.roots[0].display(),
                dataset.info.features.keys().collect::<Vec<_>>().join(", "),
                config.empty_cameras()
            )));
        }
        let found = dataset.image_shape(key)?;
        if found != feature.shape.as_slice() {
            return Err(Error::input(format!(
                "feature `{key}`: the dataset's pictures have shape {found:?}, but the policy is configured for {:?}",
                feature.shape
            )));
        }
    }
    Ok(present)
}

/// Rows of `from` values with zeros behind them, `to` in all.
fn widened(rows: &[f32], from: usize, to: usize) -> Vec<f32> {
    let padding = vec![0.0; to - from];
    rows.chunks(from).flat_map(|row| row.iter().chain(&padding)).copied().collect()
}

/// The features of a configuration in the data module's words, pictures as large as the network sees them; cameras
/// that are not there are left out.
fn features(config: &Config, cameras: &[bool]) -> Vec<PolicyFeature> {
    let role = |kind| match kind {
        FeatureType::Visual => Role::Visual,
        FeatureType::State | FeatureType::Env => Role::State,
        FeatureType::Action => Role::Action,
    };
    let mut cameras = cameras.iter();
    let mut there = |feature: &Feature| {
        feature.kind != FeatureType::Visual || cameras.next().copied().unwrap_or_default()
    };
    let all = config.input_features.iter().chain(&config.output_features);
    all.filter(|(_, feature)| there(feature))
        .map(|(key, feature)| {
            let shape = match feature.kind {
                FeatureType::Visual => {
                    let [height, width] = config.seen_size(feature);
                    vec![feature.shape[0], height, width]
                }
                _ => feature.shape.clone(),
            };
            PolicyFeature { key: key.clone(), role: role(feature.kind), shape }
        })
        .collect()
}

/// A data set's statistics as a policy keeps them.
///
/// # Errors
/// If a statistic is not finite.
pub fn statistics(dataset: &Dataset) -> Result<Stats> {
    let place = dataset.roots.first().map(|root| root.join("meta/stats.json").display().to_string());
    let mut stats = Stats::new(place.unwrap_or_default());
    for (key, feature) in dataset.stats.iter() {
        for (name, stat) in feature {
            stats.insert(key, name, &stat.shape, stat.to_f32())?;
        }
    }
    Ok(stats)
}
