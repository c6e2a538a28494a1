//! Perturbations: any environment under disturbed conditions, which is an environment again.
//!
//! A perturbation is an axis and a level; level 0 changes nothing, to the last bit. Several act together: on their way to
//! the body actions are held back ([`Axis::ControlRate`]), late, turned, noisy and clipped, in this order; on their way
//! to the policy observations are turned, noisy, hidden, lost and late. All that is random is keyed by the perturbations'
//! seed and the reset of the episode, so that an episode is the same alone, beside others, and when it is played again.

mod acting;
mod axis;
mod perturbed;
mod seeing;

use serde_json::{Map, Value, json};

use super::Environment;
use crate::rng::{Rng, Stream};
use crate::{Error, Result};
pub use axis::Axis;
use perturbed::Perturbed;

/// One disturbance of one strength.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Perturbation {
    /// What is disturbed.
    pub axis: Axis,
    /// How much, in the axis's unit; 0 changes nothing.
    pub level: f64,
}

/// The conditions of an evaluation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Perturbations {
    /// At most one of every axis.
    pub all: Vec<Perturbation>,
    /// Another seed, other noise.
    pub seed: u64,
    /// The reset seed of episode 0: noise on actions is keyed by the number of an episode.
    pub first: u64,
}

impl Perturbations {
    /// Whether they change nothing.
    pub fn is_none(&self) -> bool {
        self.all.iter().all(|perturbation| perturbation.level == 0.0)
    }

    /// The level of an axis; 0 where it is left alone.
    pub fn level(&self, axis: Axis) -> f64 {
        self.all.iter().find(|perturbation| perturbation.axis == axis).map_or(0.0, |found| found.level)
    }

    /// The environment under these conditions; every [`Environment::fresh`] of it is under them too.
    ///
    /// # Errors
    /// Names the flag of an axis that is given twice, whose level is out of range, or that the environment does not have.
    pub fn apply(&self, environment: Box<dyn Environment>) -> Result<Box<dyn Environment>> {
        for (i, Perturbation { axis, level }) in self.all.iter().enumerate() {
            if self.all[..i].iter().any(|before| before.axis == *axis) {
                return Err(Error::input(format!("--{} is given twice", axis.name())));
            }
            axis.check(*level)?;
            axis.fits(environment.as_ref())?;
        }
        Ok(Box::new(Perturbed::new(environment, self.clone())))
    }

    /// `{"action-delay": 2.0, ..}`, without what changes nothing.
    pub fn to_json(&self) -> Value {
        let levels = self.acting().map(|Perturbation { axis, level }| (axis.name().to_owned(), json!(level)));
        Value::Object(levels.collect::<Map<_, _>>())
    }

    fn acting(&self) -> impl Iterator<Item = &Perturbation> {
        self.all.iter().filter(|perturbation| perturbation.level != 0.0)
    }
}

/// `action delay 2, occlusion 0.1`; nothing for none.
impl std::fmt::Display for Perturbations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, perturbation) in self.acting().enumerate() {
            f.write_str(if i > 0 { ", " } else { "" })?;
            perturbation.fmt(f)?;
        }
        Ok(())
    }
}

/// `action delay 2`.
impl std::fmt::Display for Perturbation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.axis.name().replace('-', " "), self.level)
    }
}

/// Random numbers of one episode.
#[derive(Debug, Clone, Copy, Default)]
struct Draws {
    /// The perturbations' seed.
    seed: u64,
    /// The seed of the episode's reset.
    reset: u64,
    /// The episode's number.
    episode: u32,
}

impl Draws {
    /// What is drawn once an episode.
    fn once(&self, axis: Axis) -> Rng {
        Rng::new(self.seed, Stream::Perturbation, self.reset, axis as u32)
    }

    /// What is drawn at every step. Noise on actions keeps to the numbers it always had.
    fn at(&self, axis: Axis, step: usize) -> Rng {
        if axis == Axis::ActionNoise {
            return Rng::new(self.seed, Stream::Exploration, step as u64, self.episode);
        }
        // Seed and reset fill a key and a counter: a key drawn from both leaves the counter to the step.
        let mut key = Rng::new(self.seed, Stream::Perturbation, self.reset, !(axis as u32));
        let key = u64::from(key.next_u32()) << 32 | u64::from(key.next_u32());
        Rng::new(key, Stream::Perturbation, step as u64, axis as u32)
    }
}

#[cfg(test)]
mod tests;
