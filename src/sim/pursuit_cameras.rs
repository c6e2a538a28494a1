//! Pursuit seen by two cameras and felt by the effector: one camera shows the whole arena, one moves with the effector.
//!
//! Dynamics, expert and seeds are those of [`pursuit`].

use super::discs::draw_halved_planes;
use super::disturbable::{Disturbable, Quantity};
use super::pursuit::{ARENA, OBSERVED, PICTURE, Pursuit};
use super::seen::{Places, centroid, chase};
use super::{Environment, Feature, Observation, STATE, Spec, Step, checked_action, pursuit};
use crate::Result;
use crate::image::Image;
use crate::rng::Rng;

/// Side of the moving camera's picture, at half size as the arena's: it shows 128 px of the arena.
pub const NEAR: usize = OBSERVED / 2;
/// What the moving camera shows beyond the walls, in every channel.
pub const BEYOND: u8 = 128;

const WHOLE: Feature = Feature { key: "observation.images.arena", ..PICTURE };
const AROUND: Feature = Feature { key: "observation.images.effector", shape: &[3, NEAR, NEAR], ..PICTURE };
const PLACE: Feature = Feature {
    key: STATE,
    shape: &[2],
    names: &["x", "y"],
    units: &["px"; 2],
    low: &[0.0; 2],
    high: &[pursuit::ARENA as f64; 2],
};

static SPEC: Spec = Spec {
    name: "pursuit-cameras",
    task: "catch the ball",
    observations: &[WHOLE, AROUND, PLACE],
    ..pursuit::SPEC
};

/// As pursuit's; the effector's place is as large as the arena.
static DISTURBABLE: Disturbable =
    Disturbable { scales: &[(STATE, &[ARENA as f32; 2])], ..pursuit::DISTURBABLE };

/// An arena of [`Pursuit`] with two cameras.
#[derive(Debug, Clone, PartialEq)]
pub struct PursuitCameras(pub Pursuit);

impl PursuitCameras {
    /// The arena of [`Pursuit::new`].
    pub fn new(seed: u64) -> Self {
        Self(Pursuit::new(seed))
    }

    /// Column and row of the arena's picture at which the moving camera's begins; may lie outside of it.
    fn corner(&self) -> [i32; 2] {
        self.0.effector.map(|v| v as i32 / 2 - NEAR as i32 / 2)
    }
}

impl Environment for PursuitCameras {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn fresh(&self) -> Box<dyn Environment> {
        Box::new(Self::new(0))
    }

    fn reset(&mut self, seed: u64) {
        self.0.reset(seed);
    }

    fn scatter(&mut self, rng: &mut Rng) {
        self.0.scatter(rng);
    }

    fn step(&mut self, action: &[f64]) -> Result<Step> {
        Ok(self.0.advance(checked_action(&SPEC, action)?))
    }

    fn expert_action(&self) -> Vec<f64> {
        self.0.expert_action()
    }

    fn position(&self) -> Vec<f64> {
        self.0.position()
    }

    fn distance(&self) -> f64 {
        self.0.gap()
    }

    /// The arena at half size, 64 x 64 of its pixels around the effector with grey beyond the walls, and the effector's
    /// place in px. The ball's speed stays hidden.
    fn observe(&self, observation: &mut Observation) {
        let mut arena = std::mem::take(observation.picture_mut(WHOLE.key));
        draw_halved_planes(OBSERVED, OBSERVED, &self.0.discs(), &mut arena);
        crop(&arena, self.corner(), observation.picture_mut(AROUND.key));
        *observation.picture_mut(WHOLE.key) = arena;
        observation.state.clear();
        observation.state.extend(self.0.effector.map(|v| v as f32));
    }

    /// From the place that the effector feels towards the middle of the red pixels in the whole arena.
    fn expert_seeing(&self, observation: &Observation) -> Option<Vec<f64>> {
        let places = Places::of(observation.picture(WHOLE.key));
        let felt = <[f32; 2]>::try_from(&observation.state[..]).ok().map(|place| place.map(f64::from));
        Some(chase(centroid(&places.red), felt))
    }

    fn disturbable(&self) -> &'static Disturbable {
        &DISTURBABLE
    }

    fn set_dynamics(&mut self, quantity: Quantity, factor: f64) {
        self.0.set_dynamics(quantity, factor);
    }

    fn shift_reset(&mut self, share: f64) {
        self.0.shift_reset(share);
    }

    fn shove(&mut self, size: f64, rng: &mut Rng) {
        self.0.shove(size, rng);
    }

    fn render(&self) -> Image {
        self.0.render()
    }
}

/// `[3, NEAR, NEAR]` of the planes `[3, OBSERVED, OBSERVED]` from a corner on, [`BEYOND`] where they end.
fn crop(planes: &[u8], [left, top]: [i32; 2], cropped: &mut Vec<u8>) {
    cropped.clear();
    cropped.resize(3 * NEAR * NEAR, BEYOND);
    let inside = |from: i32, to: usize| usize::try_from(from + to as i32).ok().filter(|&at| at < OBSERVED);
    for (channel, plane) in planes.chunks_exact(OBSERVED * OBSERVED).enumerate() {
        for y in 0..NEAR {
            let Some(row) = inside(top, y) else { continue };
            for x in 0..NEAR {
                if let Some(column) = inside(left, x) {
                    cropped[(channel * NEAR + y) * NEAR + x] = plane[row * OBSERVED + column];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{Episode, Scripted, rollout};

    fn seen(environment: &dyn Environment) -> Observation {
        let mut observation = Observation::default();
        environment.observe(&mut observation);
        observation
    }

    #[test]
    fn it_is_pursuit_but_for_what_is_seen() {
        let [ours, theirs]: [Box<dyn Environment>; 2] =
            [Box::new(PursuitCameras::new(0)), Box::new(Pursuit::new(0))];
        let run = |environment: &dyn Environment| {
            rollout(environment, 42, 0..30, 100, &mut Scripted::Expert.driver()).expect("runs")
        };
        for (ours, theirs) in run(ours.as_ref()).into_iter().zip(run(theirs.as_ref())) {
            assert_eq!(Episode { spec: theirs.spec, ..ours }, theirs);
        }
        for seed in 0..20 {
            let arena = Pursuit::new(seed);
            let cameras = seen(&PursuitCameras(arena.clone()));
            assert_eq!(cameras.picture(WHOLE.key), seen(&arena).picture(PICTURE.key));
            assert_eq!(cameras.state, arena.effector.map(|v| v as f32));
        }
    }

    #[test]
    fn the_moving_camera_keeps_the_effector_in_its_middle_and_shows_walls_in_grey() {
        let arena = |effector| Pursuit { ball: [200.0, 90.0], velocity: [1.0, 0.0], effector };
        for (effector, beyond) in [
            ([128.0, 128.0], 0),
            ([0.0, 128.0], 32 * 64),
            ([256.0, 256.0], 64 * 64 - 32 * 32),
            ([150.9, 21.0], 64 * 22),
        ] {
            let cameras = seen(&PursuitCameras(arena(effector)));
            let near = cameras.picture(AROUND.key);
            let plane = NEAR * NEAR;
            let at = |x: usize, y: usize| [0, 1, 2].map(|channel| near[channel * plane + y * NEAR + x]);
            let grey = (0..plane).filter(|i| at(i % NEAR, i / NEAR) == [BEYOND; 3]).count();
            assert_eq!(grey, beyond, "{effector:?}");
            if beyond == 0 {
                assert_eq!(at(32, 32), [0, 0, 255]);
                // The ball is 72 px right of the effector and 38 px above it: 36 and 19 pixels, at the border.
                assert_eq!(at(63, 13), [255, 0, 0]);
            }
        }
    }
}
