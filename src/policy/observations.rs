//! What policies see: borrowed from whoever observes, or kept from step to step.

use std::ops::Range;

use super::images::Pixels;
use super::{Config, Images};
use crate::graph::Program;
use crate::kernels::Dtype;
use crate::{Error, Result};

/// What B episodes see, T = `n_obs_steps` time steps of each, the oldest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Observations<'a> {
    /// Every camera in the configuration's order, [B, T, 3, H, W] each; empty for a camera that is missing.
    pub images: Vec<Images<'a>>,
    /// All state vectors, concatenated in the configuration's order, [B, T, S], in the robot's units; empty for a policy
    /// that has none.
    pub state: &'a [f32],
}

impl<'a> Observations<'a> {
    /// Pictures of one camera alone.
    pub fn of_images(images: Images<'a>) -> Self {
        Self { images: vec![images], state: &[] }
    }

    /// States alone.
    pub fn of_state(state: &'a [f32]) -> Self {
        Self { images: Vec::new(), state }
    }

    /// What each camera's pictures are; none for a camera that is missing.
    pub fn cameras(&self) -> Vec<Option<Dtype>> {
        self.images.iter().map(|images| (!images.is_empty()).then(|| images.dtype())).collect()
    }

    /// A run of time steps.
    pub(super) fn part(&self, steps: Range<usize>, sizes: &FrameSizes) -> Self {
        let run = |size: usize| steps.start * size..steps.end * size;
        let images = self.images.iter().zip(&sizes.images).map(|(images, &size)| images.part(run(size)));
        Self { images: images.collect(), state: &self.state[run(sizes.state)] }
    }

    /// Checks that these are `batch` times `frames` time steps, every camera at its own size or at the network's.
    pub(super) fn check(&self, config: &Config, batch: usize, frames: usize) -> Result<()> {
        let steps = batch * frames;
        let wrong = |what: &str, given: usize, size: usize| {
            Err(Error::input(format!(
                "{what} has {given} values where {batch} x {frames} time steps of {size} have {}",
                steps * size
            )))
        };
        let cameras: Vec<_> = config.images().collect();
        if self.images.len() != cameras.len() {
            let keys: Vec<_> = cameras.iter().map(|(key, _)| format!("`{key}`")).collect();
            return Err(Error::input(format!(
                "{} cameras are given, the policy sees {}: {}",
                self.images.len(),
                cameras.len(),
                if keys.is_empty() { "none".to_owned() } else { keys.join(", ") }
            )));
        }
        let mut missing = 0;
        for ((key, feature), images) in cameras.into_iter().zip(&self.images) {
            let own: usize = feature.shape.iter().product();
            if images.is_empty() {
                missing += 1;
                if missing > config.empty_cameras() {
                    return wrong(&format!("`{key}`"), 0, own);
                }
            } else if images.len() != steps * own && images.len() != steps * config.seen_len(feature) {
                return wrong(&format!("`{key}`"), images.len(), own);
            }
        }
        if self.state.len() != steps * config.state_dim() {
            let keys: Vec<_> = config.states().map(|(key, _)| format!("`{key}`")).collect();
            return wrong(&format!("the state ({})", keys.join(", ")), self.state.len(), config.state_dim());
        }
        Ok(())
    }

    /// The first value that is not finite, with what holds it and where in its `samples`: (what, sample, element,
    /// value).
    pub(super) fn not_finite(&self, samples: usize) -> Option<(&'static str, usize, usize, f32)> {
        let state = Images::Floats(self.state);
        let all = self.images.iter().map(|images| ("the picture", images)).chain([("the state", &state)]);
        for (what, values) in all {
            if let Some((at, value)) = values.not_finite() {
                let size = values.len() / samples;
                return Some((what, at / size, at % size, value));
            }
        }
        None
    }

    /// Writes them to a program's inputs; a camera that is missing has none.
    ///
    /// # Errors
    /// If their number does not fit.
    pub fn write(&self, program: &Program) -> Result<()> {
        for (camera, images) in self.images.iter().enumerate().filter(|(_, images)| !images.is_empty()) {
            images.write(program, &image_input(camera))?;
        }
        if program.has("states") { program.write("states", self.state) } else { Ok(()) }
    }
}

/// The name of the program input that takes a camera's pictures.
pub(super) fn image_input(camera: usize) -> String {
    format!("images.{camera}")
}

/// State vectors side by side, row by row: each part is [rows, width] with its width.
pub fn join_states(parts: &[(&[f32], usize)]) -> Vec<f32> {
    let rows = parts.first().map_or(0, |(values, width)| values.len() / width);
    let row = |r: usize| parts.iter().flat_map(move |(values, width)| &values[r * width..][..*width]);
    (0..rows).flat_map(row).copied().collect()
}

/// Values of one time step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FrameSizes {
    /// 3 · H · W of every camera; 0 for one that is missing.
    pub images: Vec<usize>,
    /// S.
    pub state: usize,
}

impl FrameSizes {
    /// Of observations that are so many time steps in all.
    pub(super) fn of(observations: &Observations<'_>, steps: usize) -> Self {
        let images = observations.images.iter().map(|images| images.len() / steps.max(1)).collect();
        Self { images, state: observations.state.len() / steps.max(1) }
    }
}

/// Observations that are kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// As [`Observations::images`].
    pub images: Vec<Pixels>,
    /// As [`Observations::state`].
    pub state: Vec<f32>,
}

impl Kept {
    /// `times` copies of a time step.
    pub fn repeated(step: &Observations<'_>, times: usize) -> Self {
        let images = step.images.iter().map(|images| Pixels::repeated(*images, times)).collect();
        Self { images, state: step.state.repeat(times) }
    }

    /// To be read.
    pub fn observations(&self) -> Observations<'_> {
        Observations { images: self.images.iter().map(Pixels::images).collect(), state: &self.state }
    }

    /// Appends observations of the same cameras.
    ///
    /// # Errors
    /// If some pictures are bytes and others floats.
    pub fn append(&mut self, more: &Observations<'_>) -> Result<()> {
        for (kept, images) in self.images.iter_mut().zip(&more.images) {
            kept.append(*images)?;
        }
        self.state.extend_from_slice(more.state);
        Ok(())
    }

    /// Forgets the first time step.
    pub(super) fn drop_first(&mut self, sizes: &FrameSizes) {
        for (images, &size) in self.images.iter_mut().zip(&sizes.images) {
            images.drop_first(size);
        }
        self.state.drain(..sizes.state);
    }

    /// Fills up with zeros to so many time steps.
    pub(super) fn fill_up(&mut self, steps: usize, sizes: &FrameSizes) {
        for (images, &size) in self.images.iter_mut().zip(&sizes.images) {
            images.fill_up(steps * size);
        }
        self.state.resize(steps * sizes.state, 0.0);
    }

    /// Brings every camera's pictures, of so many time steps in all, to the size at which the network sees them; those that
    /// have it stay as they are.
    pub(super) fn resized(mut self, config: &Config, steps: usize) -> Self {
        for ((_, feature), images) in config.images().zip(&mut self.images) {
            let (&[_, height, width], [to_height, to_width]) =
                (feature.shape.as_slice(), config.seen_size(feature))
            else {
                continue;
            };
            let own = images.images().len() == steps * 3 * height * width;
            if own && [height, width] != [to_height, to_width] {
                images.resize([height, width], [to_height, to_width]);
            }
        }
        self
    }
}
