//! The axes along which conditions can be disturbed, as data.

use crate::sim::disturbable::Quantity;
use crate::sim::{Environment, KNOWN, make};
use crate::{Error, Result};

/// What can be disturbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Axis {
    /// Gaussian noise on everything that is seen.
    ObservationNoise,
    /// A grey patch on pictures, components of vectors that read 0.
    Occlusion,
    /// Observations that do not arrive: the last one that did is seen again.
    DroppedFrames,
    /// Observations that arrive late.
    StaleFrames,
    /// Actions that are executed late; until the first arrives the robot gets zeros.
    ActionDelay,
    /// Gaussian noise on executed actions.
    ActionNoise,
    /// Actuators that do not reach their bounds.
    Saturation,
    /// The speed of what is followed.
    Speed,
    /// The mass of the controlled body.
    Mass,
    /// What pulls the controlled body away.
    Gravity,
    /// Starts from farther away.
    ResetShift,
    /// One push in mid-episode.
    Shove,
    /// Decisions that are not taken: the last one that was is executed again.
    ControlRate,
    /// A coordinate frame that is off by an angle.
    WrongFrame,
}

/// What is known of an axis.
struct Facts {
    name: &'static str,
    /// What its flag calls its value.
    value: &'static str,
    /// What levels are measured in, or are shares of.
    unit: &'static str,
    /// What its flag does.
    about: &'static str,
    /// Least and greatest level.
    range: [f64; 2],
    /// Levels worth trying, ascending from 0.
    levels: [f64; 4],
}

/// Late by more steps than this is out of the question.
const LATEST: f64 = 100.0;

impl Axis {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::ObservationNoise,
        Self::Occlusion,
        Self::DroppedFrames,
        Self::StaleFrames,
        Self::ActionDelay,
        Self::ActionNoise,
        Self::Saturation,
        Self::Speed,
        Self::Mass,
        Self::Gravity,
        Self::ResetShift,
        Self::Shove,
        Self::ControlRate,
        Self::WrongFrame,
    ];

    const fn facts(self) -> Facts {
        const SHARE: [f64; 2] = [0.0, 1.0];
        const SIZE: [f64; 2] = [0.0, f64::MAX];
        match self {
            Self::ObservationNoise => Facts {
                name: "observation-noise",
                value: "SIGMA",
                unit: "of full scale",
                about: "Gaussian noise on pictures and vectors, its standard deviation as a share of full scale",
                range: SIZE,
                levels: [0.0, 0.05, 0.1, 0.2],
            },
            Self::Occlusion => Facts {
                name: "occlusion",
                value: "SHARE",
                unit: "of what is seen",
                about: "Covers that share of every picture with a grey patch, and hides each component of a vector with that probability",
                range: SHARE,
                levels: [0.0, 0.1, 0.2, 0.4],
            },
            Self::DroppedFrames => Facts {
                name: "dropped-frames",
                value: "SHARE",
                unit: "of the steps",
                about: "Loses each observation with that probability: the last one that arrived is seen again",
                range: SHARE,
                levels: [0.0, 0.25, 0.5, 0.75],
            },
            Self::StaleFrames => Facts {
                name: "stale-frames",
                value: "STEPS",
                unit: "steps",
                about: "Shows everything so many steps late",
                range: [0.0, LATEST],
                levels: [0.0, 1.0, 2.0, 4.0],
            },
            Self::ActionDelay => Facts {
                name: "action-delay",
                value: "STEPS",
                unit: "steps",
                about: "Executes actions so many steps late",
                range: [0.0, LATEST],
                levels: [0.0, 1.0, 2.0, 4.0],
            },
            Self::ActionNoise => Facts {
                name: "action-noise",
                value: "SIGMA",
                unit: "of the action",
                about: "Adds Gaussian noise of this standard deviation to executed actions, in their units, and clips them",
                range: SIZE,
                levels: [0.0, 0.1, 0.25, 0.5],
            },
            Self::Saturation => Facts {
                name: "saturation",
                value: "SHARE",
                unit: "of the bounds",
                about: "Actuators reach that share less of their bounds",
                range: SHARE,
                levels: [0.0, 0.25, 0.5, 0.75],
            },
            Self::Speed => Facts {
                name: "speed",
                value: "CHANGE",
                unit: "of nominal",
                about: "What is followed is faster by that share: 0.5 is half again as fast",
                range: [-1.0, 9.0],
                levels: [0.0, 0.5, 1.0, 1.5],
            },
            Self::Mass => Facts {
                name: "mass",
                value: "CHANGE",
                unit: "of nominal",
                about: "The body is heavier by that share: 0.5 is half again as heavy",
                range: [-0.9, 9.0],
                levels: [0.0, 0.25, 0.5, 1.0],
            },
            Self::Gravity => Facts {
                name: "gravity",
                value: "CHANGE",
                unit: "of nominal",
                about: "Gravity, or what else pulls the body away, is stronger by that share",
                range: [-1.0, 9.0],
                levels: [0.0, 0.25, 0.5, 1.0],
            },
            Self::ResetShift => Facts {
                name: "reset-shift",
                value: "SHARE",
                unit: "of the way",
                about: "Starts that share of the way towards where the task is hardest to solve from",
                range: SHARE,
                levels: [0.0, 0.25, 0.5, 1.0],
            },
            Self::Shove => Facts {
                name: "shove",
                value: "SIZE",
                unit: "of the body",
                about: "Pushes the body once in mid-episode, px, rad/s or m/s",
                range: SIZE,
                levels: [0.0, 1.0, 2.0, 4.0],
            },
            Self::ControlRate => Facts {
                name: "control-rate",
                value: "SHARE",
                unit: "of the rate",
                about: "Loses that share of the policy's decisions: the last one that was taken is executed again",
                range: [0.0, 0.99],
                levels: [0.0, 0.5, 0.75, 0.9],
            },
            Self::WrongFrame => Facts {
                name: "wrong-frame",
                value: "DEGREES",
                unit: "degrees",
                about: "The coordinate frame is off by this angle",
                range: [-180.0, 180.0],
                levels: [0.0, 15.0, 30.0, 60.0],
            },
        }
    }

    /// Its name, which is also its flag's.
    pub const fn name(self) -> &'static str {
        self.facts().name
    }

    /// What a flag calls its value: SHARE, STEPS, ..
    pub const fn value_name(self) -> &'static str {
        self.facts().value
    }

    /// What its flag does, as a sentence.
    pub const fn about(self) -> &'static str {
        self.facts().about
    }

    /// What its levels are measured in, in that environment.
    pub fn unit(self, environment: &dyn Environment) -> &'static str {
        match (self, environment.disturbable().shove) {
            (Self::Shove, Some(shove)) => shove.unit,
            _ => self.facts().unit,
        }
    }

    /// The axis of that name.
    ///
    /// # Errors
    /// If there is none; the message names those there are.
    pub fn named(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|axis| axis.name() == name).ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            Error::input(format!("unknown perturbation `{name}`: known are {known}"))
        })
    }

    /// Levels worth trying in that environment, ascending from 0.
    pub fn levels(self, environment: &dyn Environment) -> [f64; 4] {
        let spec = environment.spec();
        let levels = self.facts().levels;
        match (self, environment.disturbable().shove) {
            (Self::Shove, Some(shove)) => shove.levels,
            // Shares of half the range of the first component.
            (Self::ActionNoise, _) => levels.map(|level| level * (spec.high[0] - spec.low[0]) / 2.0),
            _ => levels,
        }
    }

    /// Checks that an environment has what this axis disturbs.
    ///
    /// # Errors
    /// Names the flag, the environment, and those that have it.
    pub fn fits(self, environment: &dyn Environment) -> Result<()> {
        if self.is_of(environment) {
            return Ok(());
        }
        let has = |name: &&str| make(name).is_ok_and(|environment| self.is_of(environment.as_ref()));
        let known: Vec<&str> = KNOWN.into_iter().filter(has).collect();
        let (flag, name) = (self.name(), environment.spec().name);
        let known = known.join(", ");
        Err(Error::input(format!("--{flag} disturbs nothing in environment `{name}`: it is for {known}")))
    }

    fn is_of(self, environment: &dyn Environment) -> bool {
        let disturbable = environment.disturbable();
        match self {
            Self::Speed => disturbable.dynamics.contains(&Quantity::Speed),
            Self::Mass => disturbable.dynamics.contains(&Quantity::Mass),
            Self::Gravity => disturbable.dynamics.contains(&Quantity::Gravity),
            Self::ResetShift => disturbable.shifts,
            Self::Shove => disturbable.shove.is_some(),
            Self::WrongFrame => disturbable.frame.is_some(),
            _ => true,
        }
    }

    /// Checks that a level makes sense.
    ///
    /// # Errors
    /// Names the flag, and says which levels do.
    pub fn check(self, level: f64) -> Result<()> {
        let Facts { name, unit, range: [least, most], .. } = self.facts();
        let steps = unit == "steps";
        if (least..=most).contains(&level) && !(steps && level.fract() != 0.0) {
            return Ok(());
        }
        let allowed = match (steps, most == f64::MAX) {
            (true, _) => format!("a whole number of steps from 0 to {most}"),
            (false, true) => "a finite number, 0 or more".to_owned(),
            (false, false) => format!("a number from {least} to {most}"),
        };
        Err(Error::input(format!("--{name} is {level}: use {allowed}")))
    }
}
