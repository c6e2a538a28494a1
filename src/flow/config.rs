//! The `flow` block of a configuration.

use serde_json::{Value, json};

use crate::fields::Fields;
use crate::{Error, Result};

/// At which end of the path the noise is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoiseAt {
    /// t = 0 is noise, t = 1 is the action.
    Zero,
    /// t = 1 is noise, t = 0 is the action.
    One,
}

/// How times are drawn while training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TimeLaw {
    /// U(0, 1).
    Uniform,
    /// scale · Beta(alpha, beta) + offset.
    Beta {
        /// First shape parameter.
        alpha: f64,
        /// Second shape parameter; 1 for now.
        beta: f64,
        /// Factor.
        scale: f64,
        /// Summand.
        offset: f64,
    },
}

/// How the flow is integrated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Solver {
    /// x += h v(x, t).
    Euler,
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
}

impl Default for FlowConfig {
    fn default() -> Self {
        Self { noise_at: NoiseAt::Zero, time_law: TimeLaw::Uniform, num_steps: 20, solver: Solver::Euler }
    }
}

impl FlowConfig {
    /// Reads the block; missing keys take the defaults.
    ///
    /// # Errors
    /// Names the key that is unknown or of no use.
    pub fn from_json(value: Value) -> Result<Self> {
        let mut fields = Fields::of(value, "config.json: `flow`")?;
        let default = Self::default();
        let noise_at = match fields.or("noise_at", 0)? {
            0 => NoiseAt::Zero,
            1 => NoiseAt::One,
            other => {
                return Err(Error::input(format!("config.json: `flow.noise_at` is {other}: use 0 or 1")));
            }
        };
        let num_steps = fields.or("num_steps", default.num_steps)?;
        if num_steps == 0 {
            return Err(Error::input("config.json: `flow.num_steps` is 0: use at least 1"));
        }
        let time_law = fields.optional("time_law")?.map_or(Ok(default.time_law), TimeLaw::from_json)?;
        let solver = Solver::named(&fields.or("solver", "euler".to_owned())?)?;
        fields.finish(&[])?;
        Ok(Self { noise_at, time_law, num_steps, solver })
    }

    /// The block as it is saved.
    pub fn to_json(&self) -> Value {
        json!({
            "noise_at": self.noise_at as u8,
            "time_law": self.time_law.to_json(),
            "num_steps": self.num_steps,
            "solver": self.solver.name(),
        })
    }
}

impl Solver {
    /// The solver of that name.
    ///
    /// # Errors
    /// If there is none.
    pub fn named(name: &str) -> Result<Self> {
        match name {
            "euler" => Ok(Self::Euler),
            other => Err(Error::input(format!("unknown solver `{other}`: known are euler"))),
        }
    }

    /// The solver's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Euler => "euler",
        }
    }
}

impl TimeLaw {
    fn from_json(value: Value) -> Result<Self> {
        let unknown = |value: &Value| {
            Error::input(format!(
                "config.json: `flow.time_law` is {value}: use \"uniform\" or \
                 {{\"beta\": [1.5, 1.0], \"scale\": 0.999, \"offset\": 0.001}}"
            ))
        };
        if value == "uniform" {
            return Ok(Self::Uniform);
        }
        if !value.is_object() {
            return Err(unknown(&value));
        }
        let mut fields = Fields::of(value.clone(), "config.json: `flow.time_law`")?;
        let [alpha, beta]: [f64; 2] = fields.required("beta")?;
        let law =
            Self::Beta { alpha, beta, scale: fields.or("scale", 1.0)?, offset: fields.or("offset", 0.0)? };
        fields.finish(&[])?;
        if beta != 1.0 || alpha <= 0.0 {
            return Err(unknown(&value));
        }
        Ok(law)
    }

    fn to_json(self) -> Value {
        match self {
            Self::Uniform => json!("uniform"),
            Self::Beta { alpha, beta, scale, offset } => {
                json!({"beta": [alpha, beta], "scale": scale, "offset": offset})
            }
        }
    }
}
