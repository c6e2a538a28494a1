//! Noise on executed actions at test time: what a policy does when its actions do not quite happen.

use crate::rng::{Rng, Stream};
use crate::sim::{Spec, Turn};
use crate::{Error, Result};

/// Gaussian noise that is added to executed actions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Exploration {
    sigma: f64,
    seed: u64,
}

impl Exploration {
    /// Noise of standard deviation `sigma` in the action's units, keyed by (seed, episode, step).
    ///
    /// # Errors
    /// If the deviation is negative or not finite.
    pub fn new(sigma: f64, seed: u64) -> Result<Self> {
        if !sigma.is_finite() || sigma < 0.0 {
            return Err(Error::input(format!(
                "the exploration noise is {sigma}: use a finite standard deviation, 0 or more"
            )));
        }
        Ok(Self { sigma, seed })
    }

    /// The standard deviation, in the action's units.
    pub fn sigma(&self) -> f64 {
        self.sigma
    }

    /// Adds noise to the action `[dim]` of one turn and clips it to the bounds; σ = 0 leaves it alone.
    pub(super) fn disturb(&self, spec: &Spec, turn: &Turn<'_>, action: &mut [f64]) {
        if self.sigma == 0.0 {
            return;
        }
        let mut rng = Rng::new(self.seed, Stream::Exploration, turn.step as u64, turn.episode as u32);
        for (value, (low, high)) in action.iter_mut().zip(spec.low.iter().zip(spec.high)) {
            *value = (*value + self.sigma * rng.normal()).clamp(*low, *high);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::{Options, evaluate_driver};
    use crate::sim::{Episode, Pursuit, Scripted};

    /// Twenty steps of standing still in each of fifty arenas, under noise.
    fn stand_still(exploration: Option<Exploration>) -> Vec<Episode> {
        let options = Options { episodes: 50, horizon: Some(20), exploration, ..Options::default() };
        let report = evaluate_driver(&Pursuit::new(0), &mut *Scripted::Noop.driver(), options);
        report.expect("runs").episodes
    }

    fn noise(sigma: f64, seed: u64) -> Option<Exploration> {
        Some(Exploration::new(sigma, seed).expect("a deviation"))
    }

    #[test]
    fn executed_actions_stray_by_sigma_and_stay_inside_the_bounds() {
        for sigma in [0.5, 1.25] {
            let episodes = stand_still(noise(sigma, 3));
            let all: Vec<f64> = episodes.iter().flat_map(|e| e.actions.iter().flatten()).copied().collect();
            let spread = (all.iter().map(|v| v * v).sum::<f64>() / all.len() as f64).sqrt();
            let mean = all.iter().sum::<f64>() / all.len() as f64;
            assert!((spread / sigma - 1.0).abs() < 0.06 && mean.abs() < 0.1 * sigma, "{mean} ± {spread}");
        }
        let wild = stand_still(noise(50.0, 3));
        let mut components = wild.iter().flat_map(|e| e.actions.iter().flatten());
        assert!(components.all(|v| (-5.0..=5.0).contains(v)));
    }

    #[test]
    fn one_seed_strays_in_one_way_and_zero_not_at_all() {
        assert_eq!(stand_still(noise(0.5, 3)), stand_still(noise(0.5, 3)));
        assert_ne!(stand_still(noise(0.5, 3)), stand_still(noise(0.5, 4)));
        assert_eq!(stand_still(noise(0.0, 3)), stand_still(None));
        let first = stand_still(noise(0.5, 3));
        assert_ne!(first[0].actions[0], first[1].actions[0]);
        assert_ne!(first[0].actions[0], first[0].actions[1]);
    }

    #[test]
    fn deviations_that_are_none_are_refused() {
        for sigma in [-0.1, f64::NAN, f64::INFINITY] {
            let told = Exploration::new(sigma, 0).expect_err("no deviation").to_string();
            assert!(told.contains("exploration noise"), "{told}");
        }
    }
}
