//! Pendulum: swing a rod up with a motor that is too weak to lift it, and balance it.
//!
//! Gymnasium's Pendulum-v1 (1.4), as the seed `flow_matching_pendulum` uses it: draws from `default_rng(seed)`, f64
//! state, f32 observation. A rod of m = 1 kg and l = 1 m turns about its end under g = 10 m/s²; the angle θ is 0
//! upright and grows counter-clockwise, in rad. One step is dt = 1/20 s:
//! θ̇' = clip(θ̇ + (3g/(2l) sin θ + 3/(ml²) u) dt, ±8), θ' = θ + θ̇' dt.

use std::f64::consts::{PI, TAU};

use super::disturbable::{Disturbable, Frame, Quantity, Shove, turn_seen};
use super::numpy_random::NumpyRng;
use super::shapes::{arc, paint, rod};
use super::{
    Contract, ENVIRONMENT_STATE, Environment, Feature, Observation, STATE, Spec, Step, checked_action,
};
use crate::Result;
use crate::image::Image;
use crate::rng::Rng;

/// Greatest torque, N·m.
pub const MAX_TORQUE: f64 = 2.0;
/// Greatest angular speed, rad/s.
pub const MAX_SPEED: f64 = 8.0;
/// Solved as long as the angle is nearer than this to where it should be, rad.
pub const TOLERANCE: f64 = 0.2;
/// Steps of an episode, Gymnasium's time limit.
pub const STEPS: usize = 200;
/// What is measured: `[cos θ, sin θ, θ̇]`.
pub(super) const MEASURED: Feature = Feature {
    key: STATE,
    shape: &[3],
    names: &["cos_theta", "sin_theta", "theta_dot"],
    units: &["1", "1", "rad/s"],
    low: &[-1.0, -1.0, -MAX_SPEED],
    high: &[1.0, 1.0, MAX_SPEED],
};
/// What is decided: the torque u.
pub(super) const TORQUE: Feature = Feature {
    key: "action",
    shape: &[1],
    names: &["torque"],
    units: &["N m"],
    low: &[-MAX_TORQUE],
    high: &[MAX_TORQUE],
};
/// What both tasks of this rod promise.
pub(super) const CONTRACT: Contract = Contract {
    version: 1,
    reset: "numpy.random.default_rng(seed) draws the angle θ from U(−π, π) rad, 0 being upright, and the speed θ̇ from \
            U(−1, 1) rad/s",
    success: "after a step |θ| < 0.2 rad, θ brought to ±π; an episode is solved if that holds after its last step",
    failure: "it does not hold after the last step",
    termination: "never: episodes last for the horizon",
    reward: "−(θ² + 0.1 θ̇² + 0.001 u²) of the state before the step, θ in ±π rad, θ̇ in rad/s, u the torque in N m",
};

const GRAVITY: f64 = 10.0;
const SECONDS: f64 = 0.05;
const SIDE: usize = 256;

static SPEC: Spec = Spec {
    name: "pendulum",
    task: "swing the pendulum up and balance it",
    observations: &[MEASURED],
    action: TORQUE,
    low: TORQUE.low,
    high: TORQUE.high,
    fps: 20,
    horizon: STEPS,
    ends: false,
    contract: CONTRACT,
};

/// The rod's mass and gravity, the start, a kick, and where the sensor's angle is 0. Sines and cosines are of full scale
/// 1, the speed of its greatest.
pub(super) static DISTURBABLE: Disturbable = Disturbable {
    dynamics: &[Quantity::Mass, Quantity::Gravity],
    shifts: true,
    shove: Some(Shove { unit: "rad/s", levels: [0.0, 2.0, 4.0, 8.0] }),
    frame: Some(Frame::Seen(|observation, radians| turn_seen(&mut observation.state, radians))),
    scales: &[(STATE, &[1.0, 1.0, MAX_SPEED as f32]), (ENVIRONMENT_STATE, &[1.0; 2])],
};

/// The state of one pendulum.
#[derive(Debug, Clone, PartialEq)]
pub struct Pendulum {
    /// The angle θ, rad: 0 upright, counter-clockwise, turns are counted.
    pub theta: f64,
    /// The angular speed θ̇, rad/s.
    pub speed: f64,
    /// The torque u of the last step, N·m; 0 before the first.
    pub torque: f64,
    /// The rod's mass m, kg. Experts believe in 1.
    pub mass: f64,
    /// Gravity g, m/s². Experts believe in 10.
    pub gravity: f64,
}

impl Pendulum {
    /// A rod at an angle, rad, with a speed, rad/s; mass and gravity are nominal, no torque has acted.
    pub fn at(theta: f64, speed: f64) -> Self {
        Self { theta, speed, torque: 0.0, mass: 1.0, gravity: GRAVITY }
    }

    /// A fresh pendulum, drawn from `numpy.random.default_rng(seed)`.
    pub fn new(seed: u64) -> Self {
        Self::drawn(&mut NumpyRng::default_rng(seed))
    }

    /// θ from U(−π, π), then θ̇ from U(−1, 1).
    pub(super) fn drawn(rng: &mut NumpyRng) -> Self {
        Self::at(rng.uniform(-PI, PI), rng.uniform(-1.0, 1.0))
    }

    /// Any angle, any speed: what an episode may lead to.
    pub(super) fn scattered(rng: &mut Rng) -> Self {
        Self::at((2.0 * rng.uniform() - 1.0) * PI, (2.0 * rng.uniform() - 1.0) * MAX_SPEED)
    }

    /// Moves the angle by a share of its way to opposite the target.
    pub(super) fn shift_from(&mut self, target: f64, share: f64) {
        let error = normalised(self.theta - target);
        self.theta += share * (PI.copysign(error) - error);
    }

    /// Moves by one step under `torque`, clipped to ±2.
    pub fn swing(&mut self, torque: f64) {
        self.torque = torque.clamp(-MAX_TORQUE, MAX_TORQUE);
        let acceleration = 3.0 * self.gravity / 2.0 * self.theta.sin() + 3.0 / self.mass * self.torque;
        self.speed = (self.speed + acceleration * SECONDS).clamp(-MAX_SPEED, MAX_SPEED);
        self.theta += self.speed * SECONDS;
    }

    /// One step. The reward is −(θ² + 0.1 θ̇² + 0.001 u²) of the state before it, θ in ±π; never ends.
    pub fn advance(&mut self, torque: f64) -> Step {
        let (angle, speed) = (normalised(self.theta), self.speed);
        self.swing(torque);
        let cost = angle * angle + 0.1 * (speed * speed) + 0.001 * (self.torque * self.torque);
        Step { terminated: false, success: normalised(self.theta).abs() < TOLERANCE, reward: -cost }
    }

    /// `[cos θ, sin θ, θ̇]` as Gymnasium rounds it.
    pub fn seen(&self) -> [f32; 3] {
        [self.theta.cos(), self.theta.sin(), self.speed].map(|v| v as f32)
    }

    /// θ in ±π and θ̇ as the experts read them from the f32 observation.
    fn read(&self) -> (f64, f64) {
        read(self.seen())
    }

    /// The expert: near the top u = −(10 θ + 2 θ̇); elsewhere it pumps the energy to that of rest upright.
    ///
    /// With inertia ml²/3 and the centre of mass at l/2 the energy is E = θ̇²/6 + 5 cos θ, and it grows by u θ̇: so
    /// u = 2 (5 − E) sign θ̇.
    pub fn expert(&self) -> f64 {
        balance(self.read())
    }

    /// The expert as `flow_matching_pendulum` publishes it: the same near the top; elsewhere
    /// u = −2 (E − 10) sign(θ̇ cos θ) with E = θ̇²/2 + 10 (1 − cos θ).
    ///
    /// That is the energy of a point mass with potential 0 at the top, where it should be greatest, so the rule
    /// swings up by luck; policies and recordings of that seed are compared with it all the same.
    pub fn seed_expert(&self) -> f64 {
        let (theta, speed) = self.read();
        if theta.abs() < NEAR {
            return self.expert();
        }
        let energy = 0.5 * speed * speed + 10.0 * (1.0 - theta.cos());
        (-2.0 * (energy - 10.0) * sign(speed * theta.cos())).clamp(-MAX_TORQUE, MAX_TORQUE)
    }

    /// The rod in red, the last torque as a blue arc from straight up, its target (if any) as a pale rod.
    pub(super) fn picture(&self, target: Option<f64>) -> Image {
        let pivot = [SIDE as f64 / 2.0; 2];
        let tip =
            |angle: f64, length: f64| [pivot[0] - length * angle.sin(), pivot[1] - length * angle.cos()];
        let mut image = Image::filled(SIDE, SIDE, [255; 3]);
        if let Some(target) = target {
            paint(&mut image, [200, 230, 210], rod(pivot, tip(target, 112.0), 26.0));
        }
        paint(&mut image, [204, 77, 77], rod(pivot, tip(self.theta, 100.0), 18.0));
        paint(&mut image, [40, 40, 40], rod(pivot, pivot, 10.0));
        if self.torque != 0.0 {
            let sweep = self.torque / MAX_TORQUE * (PI / 2.0);
            paint(&mut image, [0, 114, 178], arc(pivot, 36.0, sweep, 6.0));
        }
        image
    }
}

/// θ in ±π and θ̇ of what was seen, `[cos θ, sin θ, θ̇]`.
pub(super) fn read(seen: [f32; 3]) -> (f64, f64) {
    let [cos, sin, speed] = seen.map(f64::from);
    (sin.atan2(cos), speed)
}

/// The expert's torque at θ in ±π and θ̇.
fn balance((theta, speed): (f64, f64)) -> f64 {
    steer(theta, speed, Goal { error: theta, torque: 0.0, energy: 5.0 })
}

/// Where an expert steers to.
pub(super) struct Goal {
    /// The angle less the target, rad, in ±π.
    pub error: f64,
    /// The torque that holds the target, N·m.
    pub torque: f64,
    /// The energy at which the target is reached, J: θ̇²/6 + 5 cos θ.
    pub energy: f64,
}

/// Nearer than this to the target, experts leave the energy and hold the angle, rad.
const NEAR: f64 = 0.5;

/// The expert's torque: near the goal the holding torque less 10 times the error and 2 times the speed; elsewhere
/// the energy towards the goal's, with a push where there is no speed to pump. Clipped.
pub(super) fn steer(theta: f64, speed: f64, goal: Goal) -> f64 {
    let torque = if goal.error.abs() < NEAR {
        goal.torque - (10.0 * goal.error + 2.0 * speed)
    } else if speed == 0.0 {
        MAX_TORQUE
    } else {
        2.0 * (goal.energy - (speed * speed / 6.0 + 5.0 * theta.cos())) * sign(speed)
    };
    torque.clamp(-MAX_TORQUE, MAX_TORQUE)
}

/// An angle brought to [−π, π).
pub fn normalised(angle: f64) -> f64 {
    (angle + PI).rem_euclid(TAU) - PI
}

/// −1, 0 or 1, as `numpy.sign`.
fn sign(value: f64) -> f64 {
    if value == 0.0 { 0.0 } else { value.signum() }
}

impl Environment for Pendulum {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn fresh(&self) -> Box<dyn Environment> {
        Box::new(Self::new(0))
    }

    fn reset(&mut self, seed: u64) {
        *self = Self::new(seed);
    }

    fn scatter(&mut self, rng: &mut Rng) {
        *self = Self::scattered(rng);
    }

    fn step(&mut self, action: &[f64]) -> Result<Step> {
        let [torque] = checked_action(&SPEC, action)?;
        Ok(self.advance(torque))
    }

    fn expert_action(&self) -> Vec<f64> {
        vec![self.expert()]
    }

    fn seed_expert_action(&self) -> Vec<f64> {
        vec![self.seed_expert()]
    }

    /// `[θ in ±π, θ̇]`.
    fn position(&self) -> Vec<f64> {
        vec![normalised(self.theta), self.speed]
    }

    /// |θ| in ±π, rad.
    fn distance(&self) -> f64 {
        normalised(self.theta).abs()
    }

    fn observe(&self, observation: &mut Observation) {
        observation.state.clear();
        observation.state.extend(self.seen());
    }

    fn expert_seeing(&self, observation: &Observation) -> Option<Vec<f64>> {
        let seen = <[f32; 3]>::try_from(&observation.state[..]).ok()?;
        Some(vec![balance(read(seen))])
    }

    fn disturbable(&self) -> &'static Disturbable {
        &DISTURBABLE
    }

    /// Of the rod's mass and of gravity.
    fn set_dynamics(&mut self, quantity: Quantity, factor: f64) {
        match quantity {
            Quantity::Mass => self.mass = factor,
            Quantity::Gravity => self.gravity = GRAVITY * factor,
            Quantity::Speed => (),
        }
    }

    /// The rod towards hanging.
    fn shift_reset(&mut self, share: f64) {
        self.shift_from(0.0, share);
    }

    /// The rod is so many rad/s faster, either way, up to its greatest speed.
    fn shove(&mut self, size: f64, rng: &mut Rng) {
        let kick = if rng.uniform() < 0.5 { size } else { -size };
        self.speed = (self.speed + kick).clamp(-MAX_SPEED, MAX_SPEED);
    }

    fn render(&self) -> Image {
        self.picture(None)
    }
}

#[cfg(test)]
mod tests;
