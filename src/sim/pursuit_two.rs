//! Pursuit with two balls that look alike: catching either is enough, going between them is not.
//!
//! Two arenas of [`pursuit`] with one effector. The expert chooses a ball once an episode, by chance,
//! and no observation shows which: the right actions have two modes, and their mean leads to neither ball.

use super::discs::{Disc, draw, draw_halved_planes};
use super::disturbable::{Disturbable, Quantity};
use super::numpy_random::NumpyRng;
use super::pursuit::{ARENA, OBSERVED, PICTURE, Pursuit};
use super::seen::{Places, centroid, chase};
use super::{Contract, Environment, Observation, Spec, Step, checked_action, pursuit};
use crate::Result;
use crate::image::Image;
use crate::rng::Rng;

static SPEC: Spec = Spec {
    name: "pursuit-two",
    task: "catch one of the balls",
    contract: Contract {
        reset: "numpy.random.default_rng(seed) draws the first ball and the effector as pursuit does, a second ball \
                and an effector that is left out likewise, and a number from U(0, 1): below a half the expert goes \
                for the first ball",
        success: "after a step the effector's centre is nearer than 15 px to that of either ball",
        reward: "minus the distance from the effector's centre to that of the nearer ball after the step, px",
        ..pursuit::SPEC.contract
    },
    ..pursuit::SPEC
};

/// Two balls and an effector.
#[derive(Debug, Clone, PartialEq)]
pub struct PursuitTwo {
    /// One for each ball; their effectors are the same.
    pub arenas: [Pursuit; 2],
    /// Which ball the expert is after.
    pub chosen: usize,
}

impl PursuitTwo {
    /// From `numpy.random.default_rng(seed)`: an arena as [`Pursuit::new`] draws it, another whose effector is left
    /// out, and a number below a half for the first ball.
    pub fn new(seed: u64) -> Self {
        let mut rng = NumpyRng::default_rng(seed);
        let first = Pursuit::drawn(&mut rng);
        let second = Pursuit { effector: first.effector, ..Pursuit::drawn(&mut rng) };
        let chosen = usize::from(rng.random() >= 0.5);
        Self { arenas: [first, second], chosen }
    }

    /// One step of both arenas. The reward is minus the distance to the nearer ball; ended once one is caught.
    pub fn advance(&mut self, action: [f64; 2]) -> Step {
        let [first, second] = self.arenas.each_mut().map(|arena| arena.advance(action));
        let caught = first.success || second.success;
        Step { terminated: caught, success: caught, reward: first.reward.max(second.reward) }
    }

    /// Both balls, and the effector on top of them.
    fn discs(&self) -> [Disc; 3] {
        let [[first, effector], [second, _]] = self.arenas.each_ref().map(Pursuit::discs);
        [first, second, effector]
    }
}

impl Environment for PursuitTwo {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn fresh(&self) -> Box<dyn Environment> {
        Box::new(Self::new(0))
    }

    fn reset(&mut self, seed: u64) {
        *self = Self::new(seed);
    }

    /// Both balls anywhere, the effector where [`Pursuit`] puts it about the chosen one.
    fn scatter(&mut self, rng: &mut Rng) {
        let [first, second] = &mut self.arenas;
        let (chosen, other) = if self.chosen == 0 { (first, second) } else { (second, first) };
        other.scatter(rng);
        chosen.scatter(rng);
        other.effector = chosen.effector;
    }

    fn step(&mut self, action: &[f64]) -> Result<Step> {
        Ok(self.advance(checked_action(&SPEC, action)?))
    }

    /// What pursuit's expert does about the chosen ball.
    fn expert_action(&self) -> Vec<f64> {
        self.arenas[self.chosen].expert().to_vec()
    }

    /// `[effector x, y, first ball x, y, second ball x, y]`.
    fn position(&self) -> Vec<f64> {
        let [first, second] = &self.arenas;
        [first.effector, first.ball, second.ball].concat()
    }

    /// From the effector to the nearer ball, px.
    fn distance(&self) -> f64 {
        let [first, second] = self.arenas.each_ref().map(Pursuit::gap);
        first.min(second)
    }

    fn observe(&self, observation: &mut Observation) {
        draw_halved_planes(OBSERVED, OBSERVED, &self.discs(), observation.picture_mut(PICTURE.key));
    }

    /// After the nearer ball: no picture shows which one was chosen.
    fn expert_seeing(&self, observation: &Observation) -> Option<Vec<f64>> {
        let places = Places::of(observation.picture(PICTURE.key));
        let effector = centroid(&places.blue);
        let ball = effector.and_then(|effector| centroid(&places.nearest_ball(effector)));
        Some(chase(ball, effector))
    }

    fn disturbable(&self) -> &'static Disturbable {
        &pursuit::DISTURBABLE
    }

    fn set_dynamics(&mut self, quantity: Quantity, factor: f64) {
        self.arenas.iter_mut().for_each(|arena| arena.set_dynamics(quantity, factor));
    }

    /// The effector towards the corner whose nearer ball is farthest.
    fn shift_reset(&mut self, share: f64) {
        let wall = ARENA as f64;
        let nearer = |corner: &[f64; 2]| {
            let gaps =
                self.arenas.each_ref().map(|arena| Pursuit { effector: *corner, ..arena.clone() }.gap());
            gaps[0].min(gaps[1])
        };
        let corners = [[0.0, 0.0], [wall, 0.0], [0.0, wall], [wall, wall]];
        if let Some(corner) = corners.into_iter().max_by(|a, b| nearer(a).total_cmp(&nearer(b))) {
            self.arenas.iter_mut().for_each(|arena| arena.shift_towards(corner, share));
        }
    }

    fn shove(&mut self, size: f64, rng: &mut Rng) {
        self.arenas[0].shove(size, rng);
        self.arenas[1].effector = self.arenas[0].effector;
    }

    fn render(&self) -> Image {
        draw(ARENA, ARENA, &self.discs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Stream;
    use crate::sim::{Scripted, rollout};

    #[test]
    fn the_effector_is_one_and_the_first_ball_is_pursuits() {
        for seed in 0..50 {
            let mut two = PursuitTwo::new(seed);
            assert_eq!(two.arenas[0], Pursuit::new(seed));
            assert_ne!(two.arenas[0].ball, two.arenas[1].ball);
            if seed % 2 == 1 {
                two.scatter(&mut Rng::new(seed, Stream::Execution, 0, 0));
            }
            for _ in 0..40 {
                assert_eq!(two.arenas[0].effector, two.arenas[1].effector);
                two.advance([4.0, -3.0]);
            }
        }
    }

    #[test]
    fn the_expert_chooses_evenly_keeps_to_it_and_arrives() {
        let episodes =
            rollout(&PursuitTwo::new(0), 42, 0..300, 100, &mut Scripted::Expert.driver()).expect("runs");
        assert!(episodes.iter().all(|episode| episode.success && episode.terminated));
        let second = (42..342).filter(|&seed| PursuitTwo::new(seed).chosen == 1).count();
        assert!((130..170).contains(&second), "{second}");
        let mut two = PursuitTwo::new(42);
        let chosen = two.chosen;
        for _ in 0..10 {
            assert_eq!(two.expert_action(), two.arenas[chosen].expert());
            two.advance([0.0, 0.0]);
        }
    }

    #[test]
    fn nothing_shows_which_ball_was_chosen() {
        let two = PursuitTwo::new(9);
        let other = PursuitTwo { chosen: 1 - two.chosen, ..two.clone() };
        assert!(two.render() == other.render());
        assert_ne!(two.expert_action(), other.expert_action());
        let mut observation = Observation::default();
        two.observe(&mut observation);
        assert!(observation.picture(PICTURE.key) == two.render().halved().planar());
    }
}
