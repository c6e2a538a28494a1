//! Pendulum with a goal: bring the rod to an angle that changes with every episode, and hold it there.
//!
//! The same rod and the same first two draws as [`pendulum`], but a target θ* that a policy must
//! read: upright or hanging, half of the episodes each, and up to 0.37 rad off the vertical. The motor holds an angle
//! where 3g/(2l) sin θ* + 3u = 0: with u* = −5 sin θ*, so for |sin θ*| ≤ 0.4. Targets keep a tenth off that limit.

use std::f64::consts::PI;

use super::disturbable::{Disturbable, Quantity};
use super::numpy_random::NumpyRng;
use super::pendulum::{
    self, CONTRACT, Goal, MEASURED, Pendulum, STEPS, TOLERANCE, TORQUE, normalised, steer,
};
use super::{Contract, ENVIRONMENT_STATE, Environment, Feature, Observation, Spec, Step, checked_action};
use crate::Result;
use crate::image::Image;
use crate::rng::Rng;

static SPEC: Spec = Spec {
    name: "pendulum-goal",
    task: "bring the pendulum to the target and hold it",
    observations: &[
        MEASURED,
        Feature {
            key: ENVIRONMENT_STATE,
            shape: &[2],
            names: &["cos_target", "sin_target"],
            units: &["1"; 2],
            low: &[-1.0; 2],
            high: &[1.0; 2],
        },
    ],
    action: TORQUE,
    low: TORQUE.low,
    high: TORQUE.high,
    fps: 20,
    horizon: STEPS,
    ends: false,
    contract: Contract {
        reset: "numpy.random.default_rng(seed) draws the angle θ from U(−π, π) rad, 0 being upright, the speed θ̇ from \
                U(−1, 1) rad/s, a tilt from U(−0.9 asin 0.4, 0.9 asin 0.4) rad and a number from U(0, 1): the target \
                θ* is the tilt, or, if the number is below a half, the tilt about hanging",
        success: "after a step |θ − θ*| < 0.2 rad, the difference brought to ±π; an episode is solved if that holds \
                  after its last step",
        reward: "−((θ − θ*)² + 0.1 θ̇² + 0.001 (u − u*)²) of the state before the step, θ − θ* in ±π rad, θ̇ in rad/s, u \
                 the torque and u* = −5 sin θ* the one that holds the target, both in N m",
        ..CONTRACT
    },
};

/// A pendulum and the angle it should come to.
#[derive(Debug, Clone, PartialEq)]
pub struct PendulumGoal {
    /// The rod.
    pub body: Pendulum,
    /// The target θ*, rad in ±π.
    pub target: f64,
}

impl PendulumGoal {
    /// A fresh pendulum as [`Pendulum::new`] draws it; then the target's tilt from U(−0.37, 0.37), and a number below
    /// a half for a hanging target.
    pub fn new(seed: u64) -> Self {
        let mut rng = NumpyRng::default_rng(seed);
        let body = Pendulum::drawn(&mut rng);
        let limit = 0.9 * 0.4_f64.asin();
        let tilt = rng.uniform(-limit, limit);
        let hanging = rng.random() < 0.5;
        Self { body, target: if hanging { normalised(tilt + PI) } else { tilt } }
    }

    /// The angle less the target, rad in ±π.
    pub fn error(&self) -> f64 {
        normalised(self.body.theta - self.target)
    }

    /// The torque u* that holds the target, N·m.
    pub fn holding(&self) -> f64 {
        -5.0 * self.target.sin()
    }

    /// One step. The reward is −((θ − θ*)² + 0.1 θ̇² + 0.001 (u − u*)²) of the state before it; never ends.
    pub fn advance(&mut self, torque: f64) -> Step {
        let (error, speed) = (self.error(), self.body.speed);
        self.body.swing(torque);
        let excess = self.body.torque - self.holding();
        let cost = error * error + 0.1 * speed * speed + 0.001 * excess * excess;
        Step { terminated: false, success: self.error().abs() < TOLERANCE, reward: -cost }
    }

    /// `[cos θ*, sin θ*]`.
    fn shown(&self) -> [f32; 2] {
        [self.target.cos(), self.target.sin()].map(|v| v as f32)
    }

    /// The expert: it pumps the energy to that of rest upright, or takes it away for a hanging target, and near the
    /// target holds it: u = u* − (10 (θ − θ*) + 2 θ̇).
    pub fn expert(&self) -> f64 {
        Self::rule(self.body.seen(), self.shown())
    }

    /// The expert's torque for what was seen, `[cos θ, sin θ, θ̇]` and `[cos θ*, sin θ*]`.
    fn rule(seen: [f32; 3], target: [f32; 2]) -> f64 {
        let (theta, speed) = pendulum::read(seen);
        let [cos, sin] = target.map(f64::from);
        let goal = Goal {
            error: normalised(theta - sin.atan2(cos)),
            torque: -5.0 * sin,
            energy: if cos > 0.0 { 5.0 } else { -5.0 },
        };
        steer(theta, speed, goal)
    }
}

impl Environment for PendulumGoal {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn fresh(&self) -> Box<dyn Environment> {
        Box::new(Self::new(0))
    }

    fn reset(&mut self, seed: u64) {
        *self = Self::new(seed);
    }

    /// The rod anywhere at any speed; the target stays.
    fn scatter(&mut self, rng: &mut Rng) {
        self.body = Pendulum::scattered(rng);
    }

    fn step(&mut self, action: &[f64]) -> Result<Step> {
        let [torque] = checked_action(&SPEC, action)?;
        Ok(self.advance(torque))
    }

    fn expert_action(&self) -> Vec<f64> {
        vec![self.expert()]
    }

    /// `[θ in ±π, θ̇, θ*]`.
    fn position(&self) -> Vec<f64> {
        vec![normalised(self.body.theta), self.body.speed, self.target]
    }

    /// |θ − θ*| in ±π, rad.
    fn distance(&self) -> f64 {
        self.error().abs()
    }

    fn observe(&self, observation: &mut Observation) {
        self.body.observe(observation);
        observation.environment_state.clear();
        observation.environment_state.extend(self.shown());
    }

    fn expert_seeing(&self, observation: &Observation) -> Option<Vec<f64>> {
        let seen = <[f32; 3]>::try_from(&observation.state[..]).ok()?;
        let target = <[f32; 2]>::try_from(&observation.environment_state[..]).ok()?;
        Some(vec![Self::rule(seen, target)])
    }

    fn disturbable(&self) -> &'static Disturbable {
        &pendulum::DISTURBABLE
    }

    fn set_dynamics(&mut self, quantity: Quantity, factor: f64) {
        self.body.set_dynamics(quantity, factor);
    }

    /// The rod towards opposite the target.
    fn shift_reset(&mut self, share: f64) {
        self.body.shift_from(self.target, share);
    }

    fn shove(&mut self, size: f64, rng: &mut Rng) {
        self.body.shove(size, rng);
    }

    fn render(&self) -> Image {
        self.body.picture(Some(self.target))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Stream;
    use crate::sim::pendulum::MAX_TORQUE;

    /// Share of 300 episodes that end on their target.
    fn success(wide: bool, rule: impl Fn(&PendulumGoal) -> f64) -> f64 {
        let solved = (42..342).filter(|&seed| {
            let mut task = PendulumGoal::new(seed);
            if wide {
                task.scatter(&mut Rng::new(seed, Stream::Execution, 0, 0));
            }
            (0..STEPS).fold(false, |_, _| task.advance(rule(&task)).success)
        });
        solved.count() as f64 / 300.0
    }

    #[test]
    fn the_expert_reaches_every_target_from_anywhere() {
        assert_eq!(success(false, PendulumGoal::expert), 1.0);
        assert_eq!(success(true, PendulumGoal::expert), 1.0);
    }

    #[test]
    fn whoever_does_not_read_the_target_fails() {
        let upright = success(false, |task| task.body.expert());
        let idle = success(false, |_| 0.0);
        assert!(upright < 0.35 && idle < 0.35, "{upright}, {idle}");
    }

    #[test]
    fn targets_are_upright_or_hanging_and_can_be_held() {
        let all: Vec<PendulumGoal> = (0..1000).map(PendulumGoal::new).collect();
        assert!(all.iter().all(|task| task.target.abs() <= PI && task.holding().abs() < 0.95 * MAX_TORQUE));
        let hanging = all.iter().filter(|task| task.target.cos() < 0.0).count();
        assert!((450..550).contains(&hanging), "{hanging}");
        let steep = all.iter().filter(|task| task.holding().abs() > MAX_TORQUE / 2.0).count();
        assert!((350..550).contains(&steep), "{steep}");
        for task in all {
            let target = task.target;
            let body = Pendulum::at(target, 0.0);
            let mut task = PendulumGoal { body, target };
            let step = task.advance(task.holding());
            assert!(task.error().abs() < 1e-12 && step.success && step.reward > -1e-12, "{task:?}: {step:?}");
        }
    }

    #[test]
    fn the_target_is_shown_and_the_rod_starts_as_without_one() {
        let mut observation = Observation::default();
        for seed in 0..20 {
            let task = PendulumGoal::new(seed);
            assert_eq!(task.body, Pendulum::new(seed));
            task.observe(&mut observation);
            assert_eq!(observation.state, task.body.seen());
            let [cos, sin] = [task.target.cos() as f32, task.target.sin() as f32];
            assert_eq!(observation.environment_state, [cos, sin]);
        }
        assert_ne!(PendulumGoal::new(3).render(), PendulumGoal::new(3).body.render());
    }
}
