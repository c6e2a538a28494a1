//! Built-in tasks: environments with an expert, their pictures, rollouts and recordings.
//!
//! Knows nothing of networks, devices or dataset files. Episode `i` of seed `s` starts from
//! `numpy.random.default_rng(s + i)`, so that published seeds mean the same episodes here.

pub mod command;
mod contract;
mod discs;
pub mod disturbable;
pub mod experts;
pub mod numpy_random;
pub mod pendulum;
pub mod pendulum_goal;
pub mod perturb;
pub mod pursuit;
pub mod pursuit_cameras;
pub mod pursuit_two;
pub mod record;
pub mod rollout;
mod scattered;
mod seen;
mod shapes;
mod unmixed;

pub use command::Command;
pub use contract::{Contract, FeatureContract, Horizon, TaskContract};
pub use disturbable::Disturbable;
pub use experts::Scripted;
pub use pendulum::Pendulum;
pub use pendulum_goal::PendulumGoal;
pub use perturb::{Axis, Perturbation, Perturbations};
pub use pursuit::Pursuit;
pub use pursuit_cameras::PursuitCameras;
pub use pursuit_two::PursuitTwo;
pub use rollout::{Episode, Turn, rollout};

use crate::image::Image;
use crate::rng::Rng;
use crate::{Error, Result};
use disturbable::Quantity;

/// LeRobot's key of what a robot measures of itself.
pub const STATE: &str = "observation.state";
/// LeRobot's key of what is known besides: a target, a command.
pub const ENVIRONMENT_STATE: &str = "observation.environment_state";

/// A named array that an environment gives or takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Feature {
    /// LeRobot's key: of a camera `observation.image` or `observation.images.NAME`, [`STATE`], [`ENVIRONMENT_STATE`] or
    /// `action`.
    pub key: &'static str,
    /// `[3, height, width]` for a picture, `[dim]` for a vector.
    pub shape: &'static [usize],
    /// What each axis of a picture or each component of a vector is.
    pub names: &'static [&'static str],
    /// The unit of each component of a vector, `1` where it has none; of a picture one, that of all its values.
    pub units: &'static [&'static str],
    /// The least value of each component, or of all a picture's values: what an episode can show, or should be told.
    pub low: &'static [f64],
    /// The greatest.
    pub high: &'static [f64],
}

impl Feature {
    /// Whether this is a picture.
    pub fn is_image(&self) -> bool {
        self.shape.len() == 3
    }
}

/// What stays the same about an environment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spec {
    /// The name [`make`] knows it by.
    pub name: &'static str,
    /// What to do, as a sentence: a dataset's task.
    pub task: &'static str,
    /// What a policy sees: any number of pictures, at most one [`STATE`] and one [`ENVIRONMENT_STATE`].
    pub observations: &'static [Feature],
    /// What a policy decides.
    pub action: Feature,
    /// Least value of each action component.
    pub low: &'static [f64],
    /// Greatest value of each action component.
    pub high: &'static [f64],
    /// Steps per second.
    pub fps: u32,
    /// Steps after which an evaluation stops an episode.
    pub horizon: usize,
    /// Whether the task ends by its own rule once it is solved. Where it does not, recordings stop at the horizon too.
    pub ends: bool,
    /// The rest of what a result depends on, in words.
    pub contract: Contract,
}

/// What a policy sees at one step; a buffer to be used again with the same environment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observation {
    /// Every camera's key and its picture as planes `[3, height, width]`.
    pictures: Vec<(&'static str, Vec<u8>)>,
    /// `observation.state` as `[dim]`; empty where the environment has none.
    pub state: Vec<f32>,
    /// `observation.environment_state` as `[dim]`; empty where the environment has none.
    pub environment_state: Vec<f32>,
}

impl Observation {
    /// The camera's picture of that key as planes `[3, height, width]`; empty for every other key.
    pub fn picture(&self, key: &str) -> &[u8] {
        self.pictures.iter().find(|(known, _)| *known == key).map_or(&[], |(_, planes)| planes)
    }

    /// The buffer of that camera's picture, to be overwritten.
    pub fn picture_mut(&mut self, key: &'static str) -> &mut Vec<u8> {
        let at = self.pictures.iter().position(|(known, _)| *known == key).unwrap_or_else(|| {
            self.pictures.push((key, Vec::new()));
            self.pictures.len() - 1
        });
        &mut self.pictures[at].1
    }

    /// The vector of that key; empty for every other key.
    pub fn vector(&self, key: &str) -> &[f32] {
        match key {
            STATE => &self.state,
            ENVIRONMENT_STATE => &self.environment_state,
            _ => &[],
        }
    }
}

/// What one step brought.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// The episode is over by the task's own rule; horizons are the caller's.
    pub terminated: bool,
    /// The task is solved.
    pub success: bool,
    /// The task's reward, its own unit.
    pub reward: f64,
}

/// A task: state, dynamics, picture and expert.
pub trait Environment: Send {
    /// Name, features, bounds and rates.
    fn spec(&self) -> &'static Spec;

    /// Another environment of the same kind, to be reset before use.
    fn fresh(&self) -> Box<dyn Environment>;

    /// Starts an episode from `numpy.random.default_rng(seed)`.
    fn reset(&mut self, seed: u64);

    /// Moves what was just reset to anywhere an episode may lead, for demonstrations from states that
    /// ordinary resets and an expert rarely visit.
    fn scatter(&mut self, rng: &mut Rng);

    /// Applies one action, `[dim]`.
    ///
    /// # Errors
    /// If the action has another length or a component that is not finite; nothing has moved then.
    fn step(&mut self, action: &[f64]) -> Result<Step>;

    /// What the task's expert, who sees the whole state, does now: `[dim]`, inside the bounds.
    fn expert_action(&self) -> Vec<f64>;

    /// What the expert does as the task's seed published it, mistakes included; the same where it had none.
    fn seed_expert_action(&self) -> Vec<f64> {
        self.expert_action()
    }

    /// Where the controlled body is, in the environment's own units, and what it should reach where that varies:
    /// what metrics are measured on.
    fn position(&self) -> Vec<f64>;

    /// How far from solved this is, in the task's own unit: what a shove enlarges and a recovery makes small again.
    fn distance(&self) -> f64;

    /// Writes what a policy sees now.
    fn observe(&self, observation: &mut Observation);

    /// What the expert does if it knows only what that observation shows: `[dim]`, inside the bounds. None where an
    /// observation does not tell it enough.
    fn expert_seeing(&self, _observation: &Observation) -> Option<Vec<f64>> {
        None
    }

    /// What can be disturbed about it: the next three methods do nothing where that says so.
    fn disturbable(&self) -> &'static Disturbable {
        &Disturbable::NOTHING
    }

    /// Makes a quantity so many times its nominal value, of the episode that was just reset: the next reset brings
    /// the nominal value back, and the expert keeps believing in it where it does not see better.
    fn set_dynamics(&mut self, _quantity: Quantity, _factor: f64) {}

    /// Moves what was just reset by that share, 0 to 1, of the way to where the task is hardest to solve from.
    fn shift_reset(&mut self, _share: f64) {}

    /// Pushes the controlled body, in the unit and by sizes as [`Disturbable::shove`] has them, in a random direction.
    fn shove(&mut self, _size: f64, _rng: &mut Rng) {}

    /// Whether the next step takes a new decision; where it does not, the last one is carried on.
    fn takes_decision(&self) -> bool {
        true
    }

    /// What the last step did, `[dim]`, instead of the action that it was given.
    fn executed(&self) -> Option<&[f64]> {
        None
    }

    /// The steps taken when the body was shoved in this episode, if it was: the position after so many steps is that
    /// right after the shove.
    fn shoved_at(&self) -> Option<usize> {
        None
    }

    /// The disturbed conditions it is under.
    fn perturbations(&self) -> Perturbations {
        Perturbations::default()
    }

    /// The scene for people.
    fn render(&self) -> Image;
}

/// The names [`make`] knows.
pub const KNOWN: [&str; 6] =
    ["pursuit", "pursuit-two", "pursuit-cameras", "pendulum", "pendulum-goal", "command"];

/// The environment of that name, to be reset before use.
///
/// # Errors
/// If there is none; the message names those there are.
pub fn make(name: &str) -> Result<Box<dyn Environment>> {
    match name {
        "pursuit" => Ok(Box::new(Pursuit::new(0))),
        "pursuit-two" => Ok(Box::new(PursuitTwo::new(0))),
        "pursuit-cameras" => Ok(Box::new(PursuitCameras::new(0))),
        "pendulum" => Ok(Box::new(Pendulum::new(0))),
        "pendulum-goal" => Ok(Box::new(PendulumGoal::new(0))),
        "command" => Ok(Box::new(Command::new(0))),
        _ => Err(Error::input(format!("unknown environment `{name}`: known are {}", KNOWN.join(", ")))),
    }
}

/// Checks that an action has the spec's length and is finite.
fn check_action(spec: &Spec, action: &[f64]) -> Result<()> {
    let fail = |what: String| Err(Error::failure(format!("environment `{}`: {what}", spec.name)));
    if action.len() != spec.low.len() {
        return fail(format!("an action has {} components, not {}", spec.low.len(), action.len()));
    }
    if action.iter().any(|v| !v.is_finite()) {
        return fail(format!("the action {action:?} is not finite"));
    }
    Ok(())
}

/// An action of the spec's length N, all finite.
fn checked_action<const N: usize>(spec: &Spec, action: &[f64]) -> Result<[f64; N]> {
    check_action(spec, action)?;
    <[f64; N]>::try_from(action).map_err(|e| Error::failure(format!("environment `{}`: {e}", spec.name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Stream;

    #[test]
    fn every_known_environment_can_be_made_and_keeps_its_promises() {
        for name in KNOWN {
            let mut environment = make(name).expect("known");
            let spec = environment.spec();
            assert_eq!(spec.name, name);
            assert_eq!(spec.action.shape, [spec.low.len()]);
            assert_eq!((spec.low, spec.high), (spec.action.low, spec.action.high));
            environment.reset(7);
            let mut observation = Observation::default();
            environment.observe(&mut observation);
            for feature in spec.observations {
                let length: usize = feature.shape.iter().product();
                let (picture, vector) = (observation.picture(feature.key), observation.vector(feature.key));
                let ours = if feature.is_image() { picture.len() } else { vector.len() };
                assert_eq!(ours, length, "{}", feature.key);
                assert!(feature.is_image() || feature.names.len() == length, "{}", feature.key);
            }
            environment.scatter(&mut Rng::new(7, Stream::Execution, 0, 0));
            for action in [environment.expert_action(), environment.seed_expert_action()] {
                assert!((0..action.len()).all(|i| (spec.low[i]..=spec.high[i]).contains(&action[i])));
                environment.step(&action).expect("the expert's action is valid");
            }
        }
    }

    #[test]
    fn an_unknown_environment_is_named_with_the_known_ones() {
        let error = make("pong").err().expect("there is no pong");
        let known = "pursuit, pursuit-two, pursuit-cameras, pendulum, pendulum-goal, command";
        assert_eq!(error.to_string(), format!("unknown environment `pong`: known are {known}"));
        assert_eq!(error.exit_code(), 2);
    }
}
