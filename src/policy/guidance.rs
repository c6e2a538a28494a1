//! Guidance: what a policy would do anyway, and what it does because of what it sees.

use serde_json::{Value, json};

use super::Config;
use super::config::decimal;
use crate::{Error, Result};

/// Classifier-free guidance (Ho and Salimans, arXiv 2207.12598): v_u + scale · (v_c − v_u), where v_u sees
/// `unconditional`. A scale of 1 is no guidance.
#[derive(Debug, Clone, PartialEq)]
pub struct Guidance {
    /// 0 ignores the observation, 1 is the network's own answer, more exaggerates what the observation says.
    pub scale: f64,
    /// What the other branch sees.
    pub unconditional: Unconditional,
}

impl Guidance {
    /// Passes through the network that a guided evaluation takes: none but the other branch at scale 0, none but the
    /// observation's at 1.
    pub fn passes(&self) -> usize {
        if self.scale == 0.0 || self.scale == 1.0 { 1 } else { 2 }
    }

    /// Checks that it fits a policy.
    ///
    /// # Errors
    /// If the scale is not a finite number, or what stands for no observation is of another size or was not learned.
    pub fn check(&self, config: &Config) -> Result<()> {
        if !(self.scale as f32).is_finite() {
            return Err(Error::input(format!("--guidance-scale is {}: use a finite number", self.scale)));
        }
        let learned = |unconditional: &Unconditional| *unconditional == Unconditional::Learned;
        if learned(&self.unconditional) && !learned(&config.unconditional) {
            return Err(Error::input(
                "this policy has learned nothing that stands for no observation: train it with --set \
                 unconditional=learned --set observation_dropout=0.1, or use zeros",
            ));
        }
        self.unconditional.check(config)
    }
}

/// What stands for no observation, in normalised units: the condition of guidance's other branch.
#[derive(Debug, Clone, PartialEq)]
pub enum Unconditional {
    /// Zeros; black pictures.
    Zeros,
    /// A learned state, the parameter `unconditional` \[T · S\].
    Learned,
    /// This state `[S]`, for every time step.
    Given(Vec<f32>),
}

impl Unconditional {
    pub(super) fn from_json(value: Value) -> Result<Self> {
        match &value {
            Value::String(name) if name == "zeros" => Ok(Self::Zeros),
            Value::String(name) if name == "learned" => Ok(Self::Learned),
            _ => serde_json::from_value(value.clone()).map(Self::Given).map_err(|_| {
                Error::input(format!(
                    "config.json: `unconditional` is {value}: use \"zeros\", \"learned\", or a list of numbers"
                ))
            }),
        }
    }

    pub(super) fn to_json(&self) -> Value {
        match self {
            Self::Zeros => json!("zeros"),
            Self::Learned => json!("learned"),
            Self::Given(values) => values.iter().map(|&v| decimal(v)).collect(),
        }
    }

    pub(super) fn check(&self, config: &Config) -> Result<()> {
        let wrong = |what: String| Err(Error::input(format!("`unconditional` {what}")));
        if *self != Self::Zeros && config.images().next().is_some() {
            return wrong("of a policy with cameras is \"zeros\": black pictures".to_owned());
        }
        match self {
            Self::Learned if config.observation_dropout == 0.0 => {
                wrong("is learned where observations are dropped: set observation_dropout as well".to_owned())
            }
            Self::Given(values) if values.len() != config.state_dim() => wrong(format!(
                "has {} values: the state features have {} together",
                values.len(),
                config.state_dim()
            )),
            Self::Given(values) if values.iter().any(|v| !v.is_finite()) => {
                wrong("holds a value that is not finite".to_owned())
            }
            _ => Ok(()),
        }
    }
}
