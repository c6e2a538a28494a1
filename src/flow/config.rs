//! The `flow` block of a configuration.

use serde_json::{Value, json};

use super::{Solver, TimeLaw};
use crate::fields::Fields;
use crate::{Error, Result};

/// Solver steps at most: a program holds every step's launches.
pub const MAX_STEPS: usize = 1000;

/// At which end of the path the noise is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoiseAt {
    /// t = 0 is noise, t = 1 is the action.
    Zero,
    /// t = 1 is noise, t = 0 is the action.
    One,
}

/// How exact the adaptive solver is, and how much it may spend.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerances {
    /// Allowed error of a step as a share of the value.
    pub rtol: f64,
    /// Allowed error of a step besides.
    pub atol: f64,
    /// Velocities of a batch at most.
    pub max_evaluations: usize,
}

impl Default for Tolerances {
    fn default() -> Self {
        Self { rtol: 1e-4, atol: 1e-4, max_evaluations: 1000 }
    }
}

impl Tolerances {
    /// # Errors
    /// Names the value that is not finite or not positive.
    pub fn check(&self) -> Result<()> {
        for (key, value) in [("rtol", self.rtol), ("atol", self.atol)] {
            if !value.is_finite() || value <= 0.0 {
                return Err(Error::input(format!("`flow.{key}` is {value}: use a finite number above 0")));
            }
        }
        if self.max_evaluations == 0 {
            return Err(Error::input("`flow.max_evaluations` is 0: use at least 1"));
        }
        Ok(())
    }
}

/// The flow's conventions; saved with every checkpoint.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FlowConfig {
    /// Where the noise is.
    pub noise_at: NoiseAt,
    /// How training draws times.
    pub time_law: TimeLaw,
    /// Solver steps unless the caller asks for others.
    pub num_steps: usize,
    /// The solver unless the caller asks for another.
    pub solver: Solver,
    /// What the adaptive solver keeps to.
    pub tolerances: Tolerances,
}

impl Default for FlowConfig {
    fn default() -> Self {
        Self {
            noise_at: NoiseAt::Zero,
            time_law: TimeLaw::Uniform,
            num_steps: 20,
            solver: Solver::Euler,
            tolerances: Tolerances::default(),
        }
    }
}

impl FlowConfig {
    /// π0's conventions (arXiv 2410.24164), which LeRobot's flow policies follow: noise at t = 1, times from
    /// 0.999 · Beta(1.5, 1) + 0.001, ten Euler steps.
    pub fn pi0() -> Self {
        let time_law = TimeLaw::Beta { alpha: 1.5, beta: 1.0, scale: 0.999, offset: 0.001 };
        Self { noise_at: NoiseAt::One, time_law, num_steps: 10, ..Self::default() }
    }

    /// Reads the block; missing keys are as in `default`.
    ///
    /// # Errors
    /// Names the key that is unknown or of no use.
    pub fn from_json(value: Value, default: &Self) -> Result<Self> {
        let mut fields = Fields::of(value, "config.json: `flow`")?;
        let noise_at = match fields.or("noise_at", default.noise_at as u8)? {
            0 => NoiseAt::Zero,
            1 => NoiseAt::One,
            other => {
                return Err(Error::input(format!("config.json: `flow.noise_at` is {other}: use 0 or 1")));
            }
        };
        let num_steps = fields.or("num_steps", default.num_steps)?;
        if !(1..=MAX_STEPS).contains(&num_steps) {
            return Err(Error::input(format!(
                "config.json: `flow.num_steps` is {num_steps}: use 1 to {MAX_STEPS}"
            )));
        }
        let time_law = fields.optional("time_law")?.map_or(Ok(default.time_law), TimeLaw::from_json)?;
        let solver = Solver::named(&fields.or("solver", default.solver.name().to_owned())?)
            .map_err(|e| e.at("config.json: `flow.solver`"))?;
        let tolerances = Tolerances {
            rtol: fields.or("rtol", default.tolerances.rtol)?,
            atol: fields.or("atol", default.tolerances.atol)?,
            max_evaluations: fields.or("max_evaluations", default.tolerances.max_evaluations)?,
        };
        tolerances.check().map_err(|e| e.at("config.json"))?;
        fields.finish(&[])?;
        Ok(Self { noise_at, time_law, num_steps, solver, tolerances })
    }

    /// The block as it is saved. Tolerances are written where they say something.
    pub fn to_json(&self) -> Value {
        let mut block = json!({
            "noise_at": self.noise_at as u8,
            "time_law": self.time_law.to_json(),
            "num_steps": self.num_steps,
            "solver": self.solver.name(),
        });
        let Tolerances { rtol, atol, max_evaluations } = self.tolerances;
        if self.solver == Solver::Dopri5 || self.tolerances != Tolerances::default() {
            block["rtol"] = json!(rtol);
            block["atol"] = json!(atol);
            block["max_evaluations"] = json!(max_evaluations);
        }
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: Value) -> Result<FlowConfig> {
        FlowConfig::from_json(value, &FlowConfig::default())
    }

    #[test]
    fn tolerances_are_saved_only_where_they_say_something() {
        let plain = FlowConfig::default();
        assert_eq!(
            plain.to_json(),
            json!({"noise_at": 0, "time_law": "uniform", "num_steps": 20, "solver": "euler"})
        );
        let adaptive = FlowConfig { solver: Solver::Dopri5, ..plain };
        assert_eq!(adaptive.to_json()["rtol"], json!(1e-4));
        let loose = FlowConfig { tolerances: Tolerances { atol: 0.01, ..plain.tolerances }, ..plain };
        assert_eq!(loose.to_json()["atol"], json!(0.01));
        for flow in [plain, adaptive, loose] {
            assert_eq!(read(flow.to_json()), Ok(flow));
        }
    }

    #[test]
    fn errors_name_the_key() {
        for (block, key) in [
            (json!({"noise_at": 2}), "noise_at"),
            (json!({"num_steps": 0}), "num_steps"),
            (json!({"solver": "rk45"}), "flow.solver"),
            (json!({"rtol": 0}), "rtol"),
            (json!({"atol": -1.0}), "atol"),
            (json!({"max_evaluations": 0}), "max_evaluations"),
            (json!({"step": 1}), "step"),
        ] {
            let message = read(block.clone()).expect_err("refused").to_string();
            assert!(message.contains(key), "{block}: {message}");
        }
    }
}
