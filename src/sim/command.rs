//! Command: a synthetic walker with thirty joints follows a commanded velocity that changes half-way.
//!
//! Not a robot's physics, but a robot's shape: 200 measured numbers, 30 actions, 50 steps a second, a command from
//! outside that the measurements do not contain. A policy that does not read the command, or goes on with an old one,
//! cannot succeed.
//!
//! Hidden are the base's velocity v (m/s forward, m/s left, rad/s turning), thirty joints q, the phase φ of the gait
//! and a slope d. With orthonormal directions p₁ p₂ p₃ (push) and s₁ s₂ (stride) in joint space, one step of 1/50 s is
//!
//! - q' = q + (a − q)/3: joints follow the action a,
//! - φ' = φ + 2π·2/50: two strides a second,
//! - k = q'·(s₁ cos φ' + s₂ sin φ') / (0.8 A), in 0 to 1: how well the joints are in step,
//! - v' = v + (k P q' + d − v)/10 with (P q)ᵢ = pᵢ·q / 0.8: the base goes where joints in step push it.
//!
//! Measured is tanh(W h) of h = (v, cos φ, sin φ, q) with a fixed W: everything but the command and the slope,
//! nothing of it by itself.

use std::f64::consts::TAU;
use std::sync::LazyLock;

use super::disturbable::{Disturbable, Frame, Quantity, Shove, turn_seen};
use super::numpy_random::NumpyRng;
use super::shapes::{arc, paint, rod};
use super::unmixed::unmixed;
use super::{
    Contract, ENVIRONMENT_STATE, Environment, Feature, Observation, STATE, Spec, Step, checked_action,
};
use crate::Result;
use crate::image::Image;
use crate::rng::Rng;

/// Joints, and components of an action.
pub const JOINTS: usize = 30;
/// Measured numbers.
pub const MEASURED: usize = 200;
/// Steps of an episode.
pub const STEPS: usize = 200;
/// The step whose observation is the first to show the second command.
pub const CHANGE: usize = 100;
/// Solved as long as the velocity is nearer than this to the command: ‖v − c‖, m/s and rad/s together.
pub const TOLERANCE: f64 = 0.15;

/// Greatest command: forward, left, turning.
const FASTEST: [f64; 3] = [1.0, 0.5, 1.0];
const PHASE_STEP: f64 = TAU * 2.0 / 50.0;
const JOINT_RATE: f64 = 1.0 / 3.0;
const BASE_RATE: f64 = 0.1;
/// Length of the joints' deflection per unit of velocity.
const DEFLECTION: f64 = 0.8;
/// Length A of the joints' deflection in a stride.
const STRIDE: f64 = 1.5;
/// Share of a stride that pushes in full.
const ENOUGH: f64 = 0.8;
const STEEPEST: f64 = 0.1;

static SPEC: LazyLock<Spec> = LazyLock::new(|| Spec {
    name: "command",
    task: "follow the commanded velocity",
    observations: vec![
        Feature {
            key: STATE,
            shape: &[MEASURED],
            names: numbered::<MEASURED>("measured"),
            units: &["1"; MEASURED],
            low: &[-1.0; MEASURED],
            high: &[1.0; MEASURED],
        },
        Feature {
            key: ENVIRONMENT_STATE,
            shape: &[3],
            names: &["forward", "left", "turning"],
            units: &["m/s", "m/s", "rad/s"],
            low: &[-FASTEST[0], -FASTEST[1], -FASTEST[2]],
            high: &FASTEST,
        },
    ]
    .leak(),
    action: Feature {
        key: "action",
        shape: &[JOINTS],
        names: numbered::<JOINTS>("joint"),
        units: &["1"; JOINTS],
        low: &[-1.0; JOINTS],
        high: &[1.0; JOINTS],
    },
    low: &[-1.0; JOINTS],
    high: &[1.0; JOINTS],
    fps: 50,
    horizon: STEPS,
    ends: false,
    contract: Contract {
        version: 1,
        reset: "numpy.random.default_rng(seed) draws two commands, each forward from U(−1, 1) m/s, left from \
                U(−0.5, 0.5) m/s and turning from U(−1, 1) rad/s, a slope of three components from U(−0.1, 0.1), and \
                the gait's phase from U(0, 2π) rad; velocity and joints are 0; the second command is in force from \
                step 100 on",
        success: "after a step ‖v − c‖ < 0.15 for the base's velocity v and the command c that was in force, m/s and \
                  rad/s together; an episode is solved if that holds after its last step",
        failure: "it does not hold after the last step",
        termination: "never: episodes last for the horizon",
        reward: "−‖v − c‖² after the step, m²/s² and rad²/s² together",
    },
});

/// How fast commands are, how slowly the base answers, the slope; the start, a push of the base, and the frame in which the
/// command is given. A command is of full scale at its greatest, a measurement at 1.
static DISTURBABLE: Disturbable = Disturbable {
    dynamics: &[Quantity::Speed, Quantity::Mass, Quantity::Gravity],
    shifts: true,
    shove: Some(Shove { unit: "m/s", levels: [0.0, 0.5, 1.0, 2.0] }),
    frame: Some(Frame::Seen(|observation, radians| turn_seen(&mut observation.environment_state, radians))),
    scales: &[(ENVIRONMENT_STATE, &[1.0, 0.5, 1.0])],
};

/// `name_0`, `name_1`, …, made once.
fn numbered<const N: usize>(name: &str) -> &'static [&'static str] {
    let names: Vec<&'static str> = (0..N).map(|i| &*format!("{name}_{i}").leak()).collect();
    names.leak()
}

/// What all walkers have in common.
struct Body {
    /// p₁ p₂ p₃.
    push: [[f64; JOINTS]; 3],
    /// s₁ s₂.
    stride: [[f64; JOINTS]; 2],
    /// W: `[measured][v, cos φ, sin φ, q]`.
    mixing: Vec<[f64; 5 + JOINTS]>,
}

static BODY: LazyLock<Body> = LazyLock::new(|| {
    let mut rng = NumpyRng::default_rng(200);
    let mut directions: Vec<[f64; JOINTS]> = Vec::new();
    for _ in 0..5 {
        // Gram and Schmidt.
        let mut new = [0; JOINTS].map(|_| rng.uniform(-1.0, 1.0));
        for old in &directions {
            let along = dot(old, &new);
            new.iter_mut().zip(old).for_each(|(value, old)| *value -= along * old);
        }
        let length = dot(&new, &new).sqrt();
        directions.push(new.map(|value| value / length));
    }
    // Variance 1/4: five or so of unit variance in h give each measurement a standard deviation near 1.
    let width = 0.75_f64.sqrt();
    let mixing = (0..MEASURED).map(|_| [0; 5 + JOINTS].map(|_| rng.uniform(-width, width))).collect();
    Body {
        push: [directions[0], directions[1], directions[2]],
        stride: [directions[3], directions[4]],
        mixing,
    }
});

/// The state of one walker.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// The base's velocity v: m/s forward, m/s left, rad/s turning.
    pub velocity: [f64; 3],
    /// The gait's phase φ, rad.
    pub phase: f64,
    /// The joints q.
    pub joints: [f64; JOINTS],
    /// What pulls the base away, as a velocity.
    pub slope: [f64; 3],
    /// The first command and the second.
    pub commands: [[f64; 3]; 2],
    /// Steps taken.
    pub step: usize,
    /// How heavy the base is: it answers at so much less than its rate. 1 is nominal.
    pub mass: f64,
}

impl Command {
    /// A fresh walker, drawn from `numpy.random.default_rng(seed)`: two commands, each from U(−1, 1) times the
    /// greatest, the slope from U(−0.1, 0.1), the phase from U(0, 2π). It stands with its joints at 0.
    pub fn new(seed: u64) -> Self {
        let mut rng = NumpyRng::default_rng(seed);
        let commands = [0; 2].map(|_| FASTEST.map(|fastest| fastest * rng.uniform(-1.0, 1.0)));
        let slope = [0; 3].map(|_| rng.uniform(-STEEPEST, STEEPEST));
        let phase = rng.uniform(0.0, TAU);
        Self { velocity: [0.0; 3], phase, joints: [0.0; JOINTS], slope, commands, step: 0, mass: 1.0 }
    }

    /// The command in force: the second from step 100 on.
    pub fn command(&self) -> [f64; 3] {
        self.commands[usize::from(self.step >= CHANGE)]
    }

    /// One step; actions beyond ±1 are clipped. The reward is −‖v' − c‖² with the command c that was in force.
    pub fn advance(&mut self, action: [f64; JOINTS]) -> Step {
        let Body { push, stride, .. } = &*BODY;
        let command = self.command();
        for (joint, target) in self.joints.iter_mut().zip(action) {
            *joint += JOINT_RATE * (target.clamp(-1.0, 1.0) - *joint);
        }
        self.phase = (self.phase + PHASE_STEP) % TAU;
        let (sin, cos) = self.phase.sin_cos();
        let length = dot(&stride[0], &self.joints) * cos + dot(&stride[1], &self.joints) * sin;
        let in_step = (length / (ENOUGH * STRIDE)).clamp(0.0, 1.0);
        for ((velocity, push), slope) in self.velocity.iter_mut().zip(push).zip(self.slope) {
            let pushed = in_step * dot(push, &self.joints) / DEFLECTION;
            *velocity += BASE_RATE / self.mass * (pushed + slope - *velocity);
        }
        self.step += 1;
        let error = apart(self.velocity, command);
        Step { terminated: false, success: error < TOLERANCE, reward: -error * error }
    }

    /// The expert for a command c, clipped to ±1: joints towards t = Σ 0.8 wᵢ pᵢ + A (s₁ cos φ* + s₂ sin φ*) by
    /// a = t + (t − q)/2, with w = c + 3 (c − v) and a phase φ* that is ahead by what the joints lag.
    pub fn expert(&self, command: [f64; 3]) -> [f64; JOINTS] {
        let Body { push, stride, .. } = &*BODY;
        // One step, and the lag of q' = q + (t − q)/2 at the stride's frequency.
        let lag = (0.5 * PHASE_STEP.sin()).atan2(1.0 - 0.5 * PHASE_STEP.cos());
        let (sin, cos) = (self.phase + PHASE_STEP + lag).sin_cos();
        let mut action = [0.0; JOINTS];
        for (j, value) in action.iter_mut().enumerate() {
            let mut target = STRIDE * (stride[0][j] * cos + stride[1][j] * sin);
            for i in 0..3 {
                target += DEFLECTION * (command[i] + 3.0 * (command[i] - self.velocity[i])) * push[i][j];
            }
            *value = (target + 0.5 * (target - self.joints[j])).clamp(-1.0, 1.0);
        }
        action
    }

    /// The measurements `[200]`.
    fn measured(&self) -> impl Iterator<Item = f32> {
        let mut hidden = [0.0; 5 + JOINTS];
        hidden[..3].copy_from_slice(&self.velocity);
        hidden[3..5].copy_from_slice(&[self.phase.cos(), self.phase.sin()]);
        hidden[5..].copy_from_slice(&self.joints);
        BODY.mixing.iter().map(move |row| dot(row, &hidden).tanh() as f32)
    }
}

impl Environment for Command {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn fresh(&self) -> Box<dyn Environment> {
        Box::new(Self::new(0))
    }

    fn reset(&mut self, seed: u64) {
        *self = Self::new(seed);
    }

    /// Any velocity up to one and a half times the greatest command, any joints, any phase.
    fn scatter(&mut self, rng: &mut Rng) {
        let mut even = |limit: f64| limit * (2.0 * rng.uniform() - 1.0);
        self.velocity = FASTEST.map(|fastest| even(1.5 * fastest));
        self.joints = [1.0; JOINTS].map(&mut even);
        self.phase = TAU * rng.uniform();
    }

    fn step(&mut self, action: &[f64]) -> Result<Step> {
        Ok(self.advance(checked_action(&SPEC, action)?))
    }

    fn expert_action(&self) -> Vec<f64> {
        self.expert(self.command()).to_vec()
    }

    /// `[v, c]`: the velocity and the command in force, three components each.
    fn position(&self) -> Vec<f64> {
        [self.velocity, self.command()].concat()
    }

    /// ‖v − c‖ to the command in force, m/s and rad/s together.
    fn distance(&self) -> f64 {
        apart(self.velocity, self.command())
    }

    fn observe(&self, observation: &mut Observation) {
        observation.state.clear();
        observation.state.extend(self.measured());
        observation.environment_state.clear();
        observation.environment_state.extend(self.command().map(|v| v as f32));
    }

    /// From above, forward is up: velocities as lines from the middle, turning as arcs; commands pale and wide.
    /// What lies behind the measurements, going by the command that was seen.
    fn expert_seeing(&self, observation: &Observation) -> Option<Vec<f64>> {
        let hidden = unmixed(&BODY.mixing, &observation.state)?;
        let command = <[f32; 3]>::try_from(&observation.environment_state[..]).ok()?;
        let mut walker = Self { phase: hidden[4].atan2(hidden[3]), ..self.clone() };
        walker.velocity.copy_from_slice(&hidden[..3]);
        walker.joints.copy_from_slice(&hidden[5..]);
        Some(walker.expert(command.map(f64::from)).to_vec())
    }

    fn disturbable(&self) -> &'static Disturbable {
        &DISTURBABLE
    }

    /// Of both commands, of the base's mass, and of the slope.
    fn set_dynamics(&mut self, quantity: Quantity, factor: f64) {
        match quantity {
            Quantity::Speed => self.commands = self.commands.map(|command| command.map(|v| v * factor)),
            Quantity::Mass => self.mass = factor,
            Quantity::Gravity => self.slope = self.slope.map(|v| v * factor),
        }
    }

    /// The base is already on its way against the first command.
    fn shift_reset(&mut self, share: f64) {
        for (velocity, command) in self.velocity.iter_mut().zip(self.commands[0]) {
            *velocity += share * (-command - *velocity);
        }
    }

    /// The base's velocity changes by so much, turning included.
    fn shove(&mut self, size: f64, rng: &mut Rng) {
        let push = [0; 3].map(|_| rng.normal());
        let length = dot(&push, &push).sqrt();
        for (velocity, push) in self.velocity.iter_mut().zip(push) {
            *velocity += size * push / length;
        }
    }

    fn render(&self) -> Image {
        const SIDE: usize = 256;
        let middle = [SIDE as f64 / 2.0; 2];
        let mut image = Image::filled(SIDE, SIDE, [255; 3]);
        let mut show = |[forward, left, turning]: [f64; 3], colour, thickness| {
            let tip = [middle[0] - 70.0 * left, middle[1] - 70.0 * forward];
            paint(&mut image, colour, rod(middle, tip, thickness));
            paint(&mut image, colour, arc(middle, 105.0, turning, thickness));
        };
        show(self.command(), [200, 230, 210], 18.0);
        show(self.velocity, [204, 77, 77], 6.0);
        image
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn apart(a: [f64; 3], b: [f64; 3]) -> f64 {
    [0, 1, 2].map(|i| (a[i] - b[i]).powi(2)).iter().sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests;
