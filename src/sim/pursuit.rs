//! Pursuit: an effector steps through a square arena to catch a ball that bounces off the walls.
//!
//! The task of Ying's "Policy with Experience" (pi-e), to the bit: draws from `default_rng(seed)` in its
//! order, f64 state, pictures pixel for pixel as pygame draws them. Lengths are pixels of the arena,
//! x to the right and y down; one step is 1/20 s.

use super::discs::{Disc, draw, draw_halved_planes};
use super::disturbable::{Disturbable, Frame, Quantity, Shove, turned};
use super::numpy_random::NumpyRng;
use super::seen::{Places, centroid, chase};
use super::{Contract, Environment, Feature, Observation, Spec, Step, checked_action};
use crate::Result;
use crate::image::Image;
use crate::rng::Rng;

/// Side of the arena and of its picture.
pub const ARENA: usize = 256;
/// Side of the observed picture.
pub const OBSERVED: usize = ARENA / 2;
/// The ball is caught when the effector is nearer than this.
pub const CAPTURE_RADIUS: f64 = 15.0;
/// Largest displacement per axis and step that the action space holds.
pub const MAX_ACTION: f64 = 5.0;

const WALL: f64 = ARENA as f64;
// Recorded from pygame 2.6.1 at radius 10 and 8; see tests/golden/pursuit_frames.py.
const BALL_HALF_WIDTHS: [i32; 10] = [10, 10, 10, 9, 9, 8, 7, 6, 5, 3];
const EFFECTOR_HALF_WIDTHS: [i32; 8] = [8, 8, 7, 7, 6, 5, 4, 2];

/// What is seen: the arena at half size.
pub(super) const PICTURE: Feature = Feature {
    key: "observation.image",
    shape: &[3, OBSERVED, OBSERVED],
    names: &["channels", "height", "width"],
    units: &["level"],
    low: &[0.0],
    high: &[255.0],
};
/// What is decided: the effector's displacement.
pub(super) const ACTION: Feature = Feature {
    key: "action",
    shape: &[2],
    names: &["dx", "dy"],
    units: &["px/step"; 2],
    low: &[-MAX_ACTION; 2],
    high: &[MAX_ACTION; 2],
};

pub(super) const SPEC: Spec = Spec {
    name: "pursuit",
    task: "catch the ball",
    observations: &[PICTURE],
    action: ACTION,
    low: ACTION.low,
    high: ACTION.high,
    fps: 20,
    horizon: 100,
    ends: true,
    contract: Contract {
        version: 1,
        reset: "numpy.random.default_rng(seed) draws the ball's x and y from U(28, 228) px, its direction from \
                U(0, 2π) rad, its speed from U(1, 4) px/step, and the effector's x and y from U(28, 228) px",
        success: "after a step the effector's centre is nearer than 15 px to the ball's",
        failure: "the horizon comes first",
        termination: "success",
        reward: "minus the distance between the two centres after the step, px",
    },
};

/// The ball's speed, the start, a shove of the effector, and the frame of its displacements.
pub(super) static DISTURBABLE: Disturbable = Disturbable {
    dynamics: &[Quantity::Speed],
    shifts: true,
    shove: Some(Shove { unit: "px", levels: [0.0, 20.0, 40.0, 80.0] }),
    frame: Some(Frame::Executed(|action, radians| {
        if let [dx, dy] = action {
            [*dx, *dy] = turned([*dx, *dy], radians);
        }
    })),
    scales: &[],
};

/// The state of one arena, in pixels and pixels per step.
#[derive(Debug, Clone, PartialEq)]
pub struct Pursuit {
    /// The ball's centre; up to 4 px outside the arena for the step before it comes back.
    pub ball: [f64; 2],
    /// The ball's displacement per step, 1 to 4 px long.
    pub velocity: [f64; 2],
    /// The effector's centre, inside the arena.
    pub effector: [f64; 2],
}

impl Pursuit {
    /// A fresh arena, drawn from `numpy.random.default_rng(seed)`.
    pub fn new(seed: u64) -> Self {
        Self::drawn(&mut NumpyRng::default_rng(seed))
    }

    /// The ball's place, its direction and speed, then the effector's place.
    pub(super) fn drawn(rng: &mut NumpyRng) -> Self {
        let place = |rng: &mut NumpyRng| [0; 2].map(|_| rng.random() * 200.0 + 28.0);
        let ball = place(rng);
        let angle = rng.random() * 2.0 * std::f64::consts::PI;
        let speed = rng.random() * 3.0 + 1.0;
        let effector = place(rng);
        Self { ball, velocity: [angle.cos() * speed, angle.sin() * speed], effector }
    }

    /// One step: the ball moves, then turns where it is outside; the effector moves by `action` (any
    /// length) and stops at the walls. The reward is minus the distance left; ended once caught.
    pub fn advance(&mut self, action: [f64; 2]) -> Step {
        for (axis, displacement) in action.into_iter().enumerate() {
            self.ball[axis] += self.velocity[axis];
            if self.ball[axis] < 0.0 || self.ball[axis] > WALL {
                self.velocity[axis] = -self.velocity[axis];
            }
            self.effector[axis] = (self.effector[axis] + displacement).clamp(0.0, WALL);
        }
        let gap = self.gap();
        let caught = gap < CAPTURE_RADIUS;
        Step { terminated: caught, success: caught, reward: -gap }
    }

    /// How far the effector is from the ball, px.
    pub fn gap(&self) -> f64 {
        let [dx, dy] = [0, 1].map(|axis| self.effector[axis] - self.ball[axis]);
        (dx * dx + dy * dy).sqrt()
    }

    /// Moves the effector by a share of its way to a place.
    pub(super) fn shift_towards(&mut self, place: [f64; 2], share: f64) {
        for (value, end) in self.effector.iter_mut().zip(place) {
            *value += share * (end - *value);
        }
    }

    /// The expert: as far as bounds allow towards where the ball will be after this step, not
    /// foreseeing bounces: clip(ball + velocity − effector, −5, 5).
    pub fn expert(&self) -> [f64; 2] {
        [0, 1].map(|axis| {
            (self.ball[axis] + self.velocity[axis] - self.effector[axis]).clamp(-MAX_ACTION, MAX_ACTION)
        })
    }

    /// The ball in red and the effector in blue on top of it, at whole pixels.
    pub(super) fn discs(&self) -> [Disc; 2] {
        let whole = |position: [f64; 2]| position.map(|v| v as i32);
        [
            Disc { centre: whole(self.ball), half_widths: &BALL_HALF_WIDTHS, colour: [255, 0, 0] },
            Disc { centre: whole(self.effector), half_widths: &EFFECTOR_HALF_WIDTHS, colour: [0, 0, 255] },
        ]
    }
}

impl Environment for Pursuit {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn fresh(&self) -> Box<dyn Environment> {
        Box::new(Self::new(0))
    }

    fn reset(&mut self, seed: u64) {
        *self = Self::new(seed);
    }

    /// The ball anywhere in the arena; the effector, half the time, 15 to 80 px from it, and otherwise
    /// anywhere, often at a wall. Resets stay 28 px off the walls, where balls bounce and learners err.
    fn scatter(&mut self, rng: &mut Rng) {
        self.ball = [0; 2].map(|_| rng.uniform() * WALL);
        let near = rng.uniform() < 0.5;
        let effector = if near {
            let distance = CAPTURE_RADIUS + rng.uniform() * 65.0;
            let angle = rng.uniform() * std::f64::consts::TAU;
            [self.ball[0] + distance * angle.cos(), self.ball[1] + distance * angle.sin()]
        } else {
            [0; 2].map(|_| rng.uniform() * (WALL + 40.0) - 20.0)
        };
        self.effector = effector.map(|v| v.clamp(0.0, WALL));
    }

    fn step(&mut self, action: &[f64]) -> Result<Step> {
        Ok(self.advance(checked_action(&SPEC, action)?))
    }

    fn expert_action(&self) -> Vec<f64> {
        self.expert().to_vec()
    }

    fn position(&self) -> Vec<f64> {
        self.effector.to_vec()
    }

    /// From the effector to the ball, px.
    fn distance(&self) -> f64 {
        self.gap()
    }

    /// The picture at half size; its speed is hidden, one frame shows no velocity.
    fn observe(&self, observation: &mut Observation) {
        draw_halved_planes(OBSERVED, OBSERVED, &self.discs(), observation.picture_mut(PICTURE.key));
    }

    /// From the middle of the blue pixels towards the middle of the red ones.
    fn expert_seeing(&self, observation: &Observation) -> Option<Vec<f64>> {
        let places = Places::of(observation.picture(PICTURE.key));
        Some(chase(centroid(&places.red), centroid(&places.blue)))
    }

    fn disturbable(&self) -> &'static Disturbable {
        &DISTURBABLE
    }

    /// Of the ball's speed.
    fn set_dynamics(&mut self, quantity: Quantity, factor: f64) {
        if quantity == Quantity::Speed {
            self.velocity = self.velocity.map(|v| v * factor);
        }
    }

    /// The effector towards the corner that is farthest from the ball.
    fn shift_reset(&mut self, share: f64) {
        let corner = self.ball.map(|v| if v < WALL / 2.0 { WALL } else { 0.0 });
        self.shift_towards(corner, share);
    }

    /// The effector is so many px elsewhere, or at the wall in between.
    fn shove(&mut self, size: f64, rng: &mut Rng) {
        let (sin, cos) = (rng.uniform() * std::f64::consts::TAU).sin_cos();
        for (value, along) in self.effector.iter_mut().zip([cos, sin]) {
            *value = (*value + size * along).clamp(0.0, WALL);
        }
    }

    fn render(&self) -> Image {
        draw(ARENA, ARENA, &self.discs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Stream;

    #[derive(serde::Deserialize)]
    struct Golden {
        frames: Vec<[[f64; 2]; 2]>,
        episodes: Vec<Trace>,
    }

    #[derive(serde::Deserialize)]
    struct Trace {
        seed: u64,
        states: Vec<[f64; 6]>,
        actions: Vec<[f64; 2]>,
    }

    fn golden() -> Golden {
        let text = include_str!("../../tests/golden/pursuit_frames.json");
        serde_json::from_str(text).expect("the golden file is well formed")
    }

    #[test]
    fn states_and_expert_actions_follow_the_reference() {
        let close =
            |ours: &[f64], theirs: &[f64]| ours.iter().zip(theirs).all(|(a, b)| (a - b).abs() < 1e-11);
        for Trace { seed, states, actions } in golden().episodes {
            let mut arena = Pursuit::new(seed);
            for (step, state) in states.iter().enumerate() {
                let ours = [arena.ball, arena.velocity, arena.effector].concat();
                assert!(close(&ours, state), "seed {seed}, step {step}: {ours:?} is not {state:?}");
                if let Some(action) = actions.get(step) {
                    assert!(close(&arena.expert(), action), "seed {seed}, step {step}");
                    arena.advance(arena.expert());
                }
            }
        }
    }

    #[test]
    fn pictures_equal_pygame_pixel_for_pixel() {
        let sheet = Image::from_png(include_bytes!("../../tests/golden/pursuit_frames.png")).expect("a PNG");
        let frames = golden().frames;
        assert_eq!((sheet.width, sheet.height), (ARENA, ARENA * frames.len()));
        for (index, (theirs, &[ball, effector])) in
            sheet.pixels.chunks_exact(ARENA * ARENA * 3).zip(&frames).enumerate()
        {
            let arena = Pursuit { ball, effector, velocity: [0.0; 2] };
            assert!(arena.render().pixels == theirs, "frame {index}: {arena:?}");
        }
    }

    #[test]
    fn the_observation_is_the_halved_picture() {
        let mut observation = Observation::default();
        let borders = [-4.0, -1.5, 0.0, 9.0, 10.0, 127.0, 128.0, 246.5, 255.0, 259.9];
        for x in borders {
            for y in borders {
                for gap in [0.0, 3.0, 12.0, -7.0] {
                    let effector = [x + gap, y - gap].map(|v: f64| v.clamp(0.0, WALL));
                    let arena = Pursuit { ball: [x, y], effector, velocity: [0.0; 2] };
                    arena.observe(&mut observation);
                    assert!(
                        observation.picture(PICTURE.key) == arena.render().halved().planar(),
                        "{arena:?}"
                    );
                }
            }
        }
        for [ball, effector] in golden().frames {
            let arena = Pursuit { ball, effector, velocity: [0.0; 2] };
            arena.observe(&mut observation);
            assert!(observation.picture(PICTURE.key) == arena.render().halved().planar(), "{arena:?}");
        }
    }

    #[test]
    fn a_ball_outside_turns_and_stays_where_it_is() {
        let mut arena = Pursuit { ball: [254.0, 1.0], velocity: [3.0, -2.0], effector: [128.0, 250.0] };
        let step = arena.advance([0.0, 900.0]);
        assert_eq!((arena.ball, arena.velocity), ([257.0, -1.0], [-3.0, 2.0]));
        assert_eq!(arena.effector, [128.0, 256.0]);
        assert!(!step.terminated && !step.success);
        assert_eq!(step.reward, -(129.0_f64.powi(2) + 257.0_f64.powi(2)).sqrt());
    }

    #[test]
    fn scattered_arenas_reach_the_walls_and_keep_their_ball_moving() {
        let scattered: Vec<Pursuit> = (0..2000)
            .map(|seed| {
                let mut arena = Pursuit::new(seed);
                let velocity = arena.velocity;
                arena.scatter(&mut Rng::new(seed, Stream::Execution, 0, 0));
                assert_eq!(arena.velocity, velocity);
                arena
            })
            .collect();
        let inside = |v: f64| (0.0..=WALL).contains(&v);
        assert!(scattered.iter().all(|a| a.ball.into_iter().chain(a.effector).all(inside)));
        let share = |what: &dyn Fn(&Pursuit) -> bool| {
            scattered.iter().filter(|arena| what(arena)).count() as f64 / scattered.len() as f64
        };
        let at_wall = share(&|arena| arena.effector.iter().any(|&v| v == 0.0 || v == WALL));
        let ball_at_edge = share(&|arena| arena.ball.iter().any(|&v| !(28.0..=228.0).contains(&v)));
        let near = share(&|arena| {
            let [dx, dy] = [0, 1].map(|axis| arena.effector[axis] - arena.ball[axis]);
            dx.hypot(dy) < 80.0
        });
        assert!((0.1..0.3).contains(&at_wall), "{at_wall}");
        assert!((0.33..0.45).contains(&ball_at_edge), "{ball_at_edge}");
        assert!((0.5..0.75).contains(&near), "{near}");
    }

    #[test]
    fn a_bad_action_is_an_error_and_changes_nothing() {
        let mut arena = Pursuit::new(1);
        let before = arena.clone();
        assert!(arena.step(&[1.0]).is_err());
        assert!(arena.step(&[1.0, f64::NAN]).is_err());
        assert_eq!(arena, before);
    }
}
