//! Policies that need no network: the experts, one that stands still, and a random one.

use super::rollout::{Driver, Turn};
use crate::rng::{Rng, Stream};

/// A policy written down as a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scripted {
    /// The task's own expert, who sees the whole state.
    Expert,
    /// The expert as the task's seed published it.
    SeedExpert,
    /// Zero at every step.
    Noop,
    /// Uniform between the bounds, keyed by (seed, episode, step).
    Random {
        /// Another seed, other actions.
        seed: u64,
    },
}

impl Scripted {
    /// The names [`Scripted::named`] knows.
    pub const NAMES: [&'static str; 4] = ["expert", "expert-seed", "noop", "random"];

    /// The rule of that name, if it is one; `seed` is the random one's.
    pub fn named(name: &str, seed: u64) -> Option<Self> {
        match name {
            "expert" => Some(Self::Expert),
            "expert-seed" => Some(Self::SeedExpert),
            "noop" => Some(Self::Noop),
            "random" => Some(Self::Random { seed }),
            _ => None,
        }
    }

    /// The action at one turn, `[dim]`.
    pub fn action(self, turn: &Turn<'_>) -> Vec<f64> {
        let spec = turn.environment.spec();
        match self {
            Self::Expert => turn.environment.expert_action(),
            Self::SeedExpert => turn.environment.seed_expert_action(),
            Self::Noop => vec![0.0; spec.low.len()],
            Self::Random { seed } => {
                let mut rng = Rng::new(seed, Stream::RandomPolicy, turn.step as u64, turn.episode as u32);
                spec.low.iter().zip(spec.high).map(|(low, high)| low + (high - low) * rng.uniform()).collect()
            }
        }
    }

    /// The rule as a driver of rollouts and recordings.
    pub fn driver(self) -> Box<Driver<'static>> {
        Box::new(move |turns| Ok(turns.iter().map(|turn| self.action(turn)).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::Pursuit;

    #[test]
    fn random_actions_fill_the_bounds_and_depend_only_on_their_key() {
        let environment = Pursuit::new(0);
        let at = |seed, episode, step| {
            Scripted::Random { seed }.action(&Turn { episode, step, environment: &environment })
        };
        let all: Vec<f64> = (0..500).flat_map(|step| at(3, 1, step)).collect();
        let (least, greatest) = all.iter().fold((0.0_f64, 0.0_f64), |(l, g), &v| (l.min(v), g.max(v)));
        assert!((-5.0..-4.9).contains(&least) && (4.9..5.0).contains(&greatest), "{least} to {greatest}");
        assert!((all.iter().sum::<f64>() / all.len() as f64).abs() < 0.3);
        assert_eq!(at(3, 1, 7), at(3, 1, 7));
        assert_ne!(at(3, 1, 7), at(3, 2, 7));
        assert_ne!(at(3, 1, 7), at(4, 1, 7));
    }

    #[test]
    fn names_give_their_rules() {
        for name in Scripted::NAMES {
            assert!(Scripted::named(name, 0).is_some(), "{name}");
        }
        assert_eq!(Scripted::named("weights/pursuit", 0), None);
    }
}
