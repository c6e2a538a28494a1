//! Wide starts for a whole recording.

use super::record::ONCE;
use super::{Environment, Observation, Spec, Step};
use crate::Result;
use crate::image::Image;
use crate::rng::{Rng, Stream};

/// An environment whose resets are wide starts, keyed by the episode's seed.
pub(super) struct Scattered(pub Box<dyn Environment>);

impl Environment for Scattered {
    fn spec(&self) -> &'static Spec {
        self.0.spec()
    }

    fn fresh(&self) -> Box<dyn Environment> {
        Box::new(Self(self.0.fresh()))
    }

    fn reset(&mut self, seed: u64) {
        self.0.reset(seed);
        self.0.scatter(&mut Rng::new(seed, Stream::Execution, ONCE, u32::MAX));
    }

    fn scatter(&mut self, rng: &mut Rng) {
        self.0.scatter(rng);
    }

    fn step(&mut self, action: &[f64]) -> Result<Step> {
        self.0.step(action)
    }

    fn expert_action(&self) -> Vec<f64> {
        self.0.expert_action()
    }

    fn seed_expert_action(&self) -> Vec<f64> {
        self.0.seed_expert_action()
    }

    fn position(&self) -> Vec<f64> {
        self.0.position()
    }

    fn distance(&self) -> f64 {
        self.0.distance()
    }

    fn observe(&self, observation: &mut Observation) {
        self.0.observe(observation);
    }

    fn takes_decision(&self) -> bool {
        self.0.takes_decision()
    }

    fn executed(&self) -> Option<&[f64]> {
        self.0.executed()
    }

    fn shoved_at(&self) -> Option<usize> {
        self.0.shoved_at()
    }

    fn render(&self) -> Image {
        self.0.render()
    }
}
