//! What policies see: borrowed from whoever observes, or kept from step to step.

use std::ops::Range;

use super::images::Pixels;
use super::{Config, Images};
use crate::graph::Program;
use crate::{Error, Result};

/// What B episodes see, T = `n_obs_steps` time steps of each, the oldest first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observations<'a> {
    /// The camera, [B, T, 3, H, W]; empty for a policy without one.
    pub images: Images<'a>,
    /// All state vectors, concatenated in the configuration's order, [B, T, S], in the robot's units; empty for a policy
    /// that has none.
    pub state: &'a [f32],
}

impl<'a> Observations<'a> {
    /// Pictures alone.
    pub fn of_images(images: Images<'a>) -> Self {
        Self { images, state: &[] }
    }

    /// States alone.
    pub fn of_state(state: &'a [f32]) -> Self {
        Self { images: Images::Bytes(&[]), state }
    }

    /// A run of time steps.
    pub(super) fn part(&self, steps: Range<usize>, sizes: FrameSizes) -> Self {
        let run = |size: usize| steps.start * size..steps.end * size;
        Self { images: self.images.part(run(sizes.image)), state: &self.state[run(sizes.state)] }
    }

    /// Checks that these are `batch` times `frames` time steps.
    pub(super) fn check(&self, config: &Config, batch: usize, frames: usize) -> Result<()> {
        let sizes = FrameSizes::of(config);
        let wrong = |what: &str, given: usize, size: usize| {
            Err(Error::input(format!(
                "{what} has {given} values where {batch} x {frames} time steps of {size} have {}",
                batch * frames * size
            )))
        };
        if self.images.len() != batch * frames * sizes.image {
            let key = config.images().next().map_or("the picture", |(key, _)| key);
            return wrong(&format!("`{key}`"), self.images.len(), sizes.image);
        }
        if self.state.len() != batch * frames * sizes.state {
            let keys: Vec<_> = config.states().map(|(key, _)| format!("`{key}`")).collect();
            return wrong(&format!("the state ({})", keys.join(", ")), self.state.len(), sizes.state);
        }
        Ok(())
    }

    /// The first value that is not finite, with what holds it and where.
    pub(super) fn not_finite(&self) -> Option<(&'static str, usize, f32)> {
        let image = self.images.not_finite().map(|(at, value)| ("the picture", at, value));
        image.or_else(|| {
            let found = self.state.iter().copied().enumerate().find(|(_, value)| !value.is_finite());
            found.map(|(at, value)| ("the state", at, value))
        })
    }

    /// Writes them to a program's inputs.
    ///
    /// # Errors
    /// If their number does not fit.
    pub fn write(&self, program: &Program) -> Result<()> {
        if program.has("images") {
            self.images.write(program)?;
        }
        if program.has("states") { program.write("states", self.state) } else { Ok(()) }
    }
}

/// State vectors side by side, row by row: each part is [rows, width] with its width.
pub fn join_states(parts: &[(&[f32], usize)]) -> Vec<f32> {
    let rows = parts.first().map_or(0, |(values, width)| values.len() / width);
    let row = |r: usize| parts.iter().flat_map(move |(values, width)| &values[r * width..][..*width]);
    (0..rows).flat_map(row).copied().collect()
}

/// Values of one time step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameSizes {
    /// 3 · H · W.
    pub image: usize,
    /// S.
    pub state: usize,
}

impl FrameSizes {
    pub(super) fn of(config: &Config) -> Self {
        Self { image: config.frame_len(), state: config.state_dim() }
    }
}

/// Observations that are kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// As [`Observations::images`].
    pub images: Pixels,
    /// As [`Observations::state`].
    pub state: Vec<f32>,
}

impl Kept {
    /// `times` copies of a time step.
    pub fn repeated(step: Observations<'_>, times: usize) -> Self {
        Self { images: Pixels::repeated(step.images, times), state: step.state.repeat(times) }
    }

    /// To be read.
    pub fn observations(&self) -> Observations<'_> {
        Observations { images: self.images.images(), state: &self.state }
    }

    /// Appends observations.
    ///
    /// # Errors
    /// If some pictures are bytes and others floats.
    pub fn append(&mut self, more: Observations<'_>) -> Result<()> {
        self.images.append(more.images)?;
        self.state.extend_from_slice(more.state);
        Ok(())
    }

    /// Forgets the first time step.
    pub(super) fn drop_first(&mut self, sizes: FrameSizes) {
        self.images.drop_first(sizes.image);
        self.state.drain(..sizes.state);
    }

    /// Fills up with zeros to so many time steps.
    pub(super) fn fill_up(&mut self, steps: usize, sizes: FrameSizes) {
        self.images.fill_up(steps * sizes.image);
        self.state.resize(steps * sizes.state, 0.0);
    }
}
