//! The wrapper around an environment.

use super::acting::Acting;
use super::seeing::Seeing;
use super::{Axis, Draws, Perturbations};
use crate::Result;
use crate::image::Image;
use crate::rng::Rng;
use crate::sim::disturbable::{Disturbable, Quantity};
use crate::sim::{Environment, Observation, Spec, Step, check_action};

/// Steps, the first and the last, between which an episode that ends once it is solved is shoved: those of pursuit last
/// about 17.
const EARLY: [usize; 2] = [3, 8];

/// An environment under perturbations.
pub(super) struct Perturbed {
    inner: Box<dyn Environment>,
    perturbations: Perturbations,
    draws: Draws,
    acting: Acting,
    /// None where all is seen as it is.
    seeing: Option<Seeing>,
    /// Steps taken.
    step: usize,
    /// After how many steps the body is shoved, if it is.
    shove_at: Option<usize>,
    shoved_at: Option<usize>,
}

impl Perturbed {
    /// Of levels that make sense, on axes that fit; to be reset before use.
    pub fn new(inner: Box<dyn Environment>, perturbations: Perturbations) -> Self {
        Self {
            draws: Draws::default(),
            acting: Acting::new(inner.as_ref(), &perturbations),
            seeing: Seeing::new(inner.as_ref(), &perturbations),
            step: 0,
            shove_at: None,
            shoved_at: None,
            inner,
            perturbations,
        }
    }

    /// Changes what the reset made nominal.
    fn set_up(&mut self) {
        let quantities = [
            (Axis::Speed, Quantity::Speed),
            (Axis::Mass, Quantity::Mass),
            (Axis::Gravity, Quantity::Gravity),
        ];
        for (axis, quantity) in quantities {
            let level = self.perturbations.level(axis);
            if level != 0.0 {
                self.inner.set_dynamics(quantity, 1.0 + level);
            }
        }
        let share = self.perturbations.level(Axis::ResetShift);
        if share > 0.0 {
            self.inner.shift_reset(share);
        }
    }

    /// Early in episodes that end once they are solved; else between a quarter and three quarters of the horizon.
    fn draw_shove(&self) -> Option<usize> {
        let spec = self.inner.spec();
        let [first, last] = if spec.ends { EARLY } else { [spec.horizon / 4, 3 * spec.horizon / 4] };
        let steps = (last - first) as u32 + 1;
        let drawn = || first + self.draws.once(Axis::Shove).below(steps) as usize;
        (self.perturbations.level(Axis::Shove) > 0.0).then(drawn)
    }
}

impl Environment for Perturbed {
    fn spec(&self) -> &'static Spec {
        self.inner.spec()
    }

    fn fresh(&self) -> Box<dyn Environment> {
        Box::new(Self::new(self.inner.fresh(), self.perturbations.clone()))
    }

    fn reset(&mut self, seed: u64) {
        let Perturbations { seed: own, first, .. } = self.perturbations;
        self.draws = Draws { seed: own, reset: seed, episode: seed.wrapping_sub(first) as u32 };
        self.inner.reset(seed);
        self.set_up();
        self.acting.begin(self.inner.spec());
        (self.step, self.shove_at, self.shoved_at) = (0, self.draw_shove(), None);
        if let Some(seeing) = &mut self.seeing {
            seeing.begin(self.inner.as_ref(), &self.draws);
        }
    }

    fn scatter(&mut self, rng: &mut Rng) {
        self.inner.scatter(rng);
        if let Some(seeing) = &mut self.seeing {
            seeing.begin(self.inner.as_ref(), &self.draws);
        }
    }

    fn step(&mut self, action: &[f64]) -> Result<Step> {
        let spec = self.inner.spec();
        // An action that is refused must not wait for its turn.
        check_action(spec, action)?;
        let outcome = self.inner.step(self.acting.execute(action, self.step, &self.draws, spec))?;
        self.step += 1;
        if self.shove_at == Some(self.step) && !outcome.terminated {
            let size = self.perturbations.level(Axis::Shove);
            self.inner.shove(size, &mut self.draws.at(Axis::Shove, self.step));
            self.shoved_at = Some(self.step);
        }
        if let Some(seeing) = &mut self.seeing {
            seeing.look(self.inner.as_ref(), self.step, &self.draws);
        }
        Ok(outcome)
    }

    /// Where what is seen is disturbed, the expert acts on what was seen, as far as that tells it enough.
    fn expert_action(&self) -> Vec<f64> {
        let seen = self.seeing.as_ref().and_then(Seeing::seen);
        let seeing = seen.and_then(|seen| self.inner.expert_seeing(seen));
        seeing.unwrap_or_else(|| self.inner.expert_action())
    }

    fn seed_expert_action(&self) -> Vec<f64> {
        self.inner.seed_expert_action()
    }

    fn position(&self) -> Vec<f64> {
        self.inner.position()
    }

    fn distance(&self) -> f64 {
        self.inner.distance()
    }

    fn observe(&self, observation: &mut Observation) {
        match self.seeing.as_ref().and_then(Seeing::seen) {
            Some(seen) => observation.clone_from(seen),
            None => self.inner.observe(observation),
        }
    }

    fn expert_seeing(&self, observation: &Observation) -> Option<Vec<f64>> {
        self.inner.expert_seeing(observation)
    }

    fn disturbable(&self) -> &'static Disturbable {
        self.inner.disturbable()
    }

    fn takes_decision(&self) -> bool {
        self.acting.takes(self.step)
    }

    fn executed(&self) -> Option<&[f64]> {
        self.acting.executed()
    }

    fn shoved_at(&self) -> Option<usize> {
        self.shoved_at
    }

    fn perturbations(&self) -> Perturbations {
        self.perturbations.clone()
    }

    fn render(&self) -> Image {
        self.inner.render()
    }
}
