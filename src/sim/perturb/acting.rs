//! The way of an action from the policy to the body.

use std::collections::VecDeque;

use super::{Axis, Draws, Perturbations};
use crate::sim::disturbable::Frame;
use crate::sim::{Environment, Spec};

/// Turns an action by so many rad.
type Turn = fn(&mut [f64], f64);

/// What stands between deciding and doing.
pub(super) struct Acting {
    /// Share of the decisions that are taken.
    rate: f64,
    /// Steps by which actions are late.
    delay: usize,
    turn: Option<(Turn, f64)>,
    /// Standard deviation, in the action's units.
    noise: f64,
    /// Share of the bounds that is reached.
    reach: f64,
    /// The last decision that was taken.
    held: Vec<f64>,
    /// Actions on their way, the next one first.
    waiting: VecDeque<Vec<f64>>,
    /// The last action that was executed; empty before the first.
    executed: Vec<f64>,
}

impl Acting {
    pub fn new(environment: &dyn Environment, perturbations: &Perturbations) -> Self {
        let angle = perturbations.level(Axis::WrongFrame).to_radians();
        let turn = match environment.disturbable().frame {
            Some(Frame::Executed(turn)) if angle != 0.0 => Some((turn, angle)),
            _ => None,
        };
        Self {
            rate: 1.0 - perturbations.level(Axis::ControlRate),
            delay: perturbations.level(Axis::ActionDelay) as usize,
            turn,
            noise: perturbations.level(Axis::ActionNoise),
            reach: 1.0 - perturbations.level(Axis::Saturation),
            held: Vec::new(),
            waiting: VecDeque::new(),
            executed: Vec::new(),
        }
    }

    /// Forgets the episode before; the robot gets zeros until the first action arrives.
    pub fn begin(&mut self, spec: &Spec) {
        self.waiting = vec![vec![0.0; spec.low.len()]; self.delay].into();
        self.held.clear();
        self.executed.clear();
    }

    /// What is done at a step at which that was decided, `[dim]`.
    pub fn execute(&mut self, decided: &[f64], step: usize, draws: &Draws, spec: &Spec) -> &[f64] {
        if self.takes(step) {
            self.held = decided.to_vec();
        }
        self.waiting.push_back(self.held.clone());
        let mut action = self.waiting.pop_front().unwrap_or_default();
        if let Some((turn, angle)) = self.turn {
            turn(&mut action, angle);
        }
        if self.noise > 0.0 {
            let mut rng = draws.at(Axis::ActionNoise, step);
            action.iter_mut().for_each(|value| *value += self.noise * rng.normal());
        }
        if self.turn.is_some() || self.noise > 0.0 || self.reach < 1.0 {
            for (value, (low, high)) in action.iter_mut().zip(spec.low.iter().zip(spec.high)) {
                *value = value.clamp(self.reach * low, self.reach * high);
            }
        }
        self.executed = action;
        &self.executed
    }

    /// Whether the decision of a step is taken: the first one is, and of n steps ⌈n r⌉ are, evenly spread.
    pub fn takes(&self, step: usize) -> bool {
        let taken = |steps: usize| (steps as f64 * self.rate).ceil();
        taken(step + 1) > taken(step)
    }

    /// What was executed last; none before the first step.
    pub fn executed(&self) -> Option<&[f64]> {
        (!self.executed.is_empty()).then_some(&self.executed)
    }
}
