//! Configurations by name.

use super::Config;
use crate::{Error, Result};

/// A configuration with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// Its name. Those that end in `-seed` are as published, mistakes included.
    pub name: &'static str,
    /// The environment it is for. None for seed 001's and seed 004's sizes, which take the features of any data set.
    pub env: Option<&'static str>,
    text: &'static str,
}

/// A preset whose configuration lies in `presets/`.
macro_rules! preset {
    ($name:literal, $env:expr) => {
        Preset { name: $name, env: $env, text: include_str!(concat!("presets/", $name, ".json")) }
    };
}

/// The presets, the default first.
pub const PRESETS: &[Preset] = &[
    preset!("pursuit", Some("pursuit")),
    preset!("pursuit-seed", Some("pursuit")),
    preset!("pendulum", Some("pendulum")),
    preset!("pendulum-seed", Some("pendulum")),
    preset!("pendulum-goal", Some("pendulum-goal")),
    preset!("pursuit-two", Some("pursuit-two")),
    preset!("pursuit-cameras", Some("pursuit-cameras")),
    preset!("command", Some("command")),
    preset!("flowmatching", None),
    preset!("flowmatching-seed", None),
    preset!("recommended", None),
    preset!("fast", None),
    preset!("quality", None),
];

/// The preset of that name.
///
/// # Errors
/// If there is none.
pub fn find(name: &str) -> Result<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name).ok_or_else(|| {
        let known: Vec<_> = PRESETS.iter().map(|preset| preset.name).collect();
        Error::input(format!("unknown preset `{name}`: known are {}", known.join(", ")))
    })
}

/// The configuration of that name.
///
/// # Errors
/// If there is none.
pub fn preset(name: &str) -> Result<Config> {
    find(name)?.config()
}

impl Preset {
    /// The configuration.
    ///
    /// # Errors
    /// None that a released preset has: its text is parsed.
    pub fn config(&self) -> Result<Config> {
        Config::parse(self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Sizes;
    use crate::policy::Network;

    #[test]
    fn seed_004s_sizes_have_as_many_parameters_as_their_formula_counts() {
        for (name, sizes, expected) in [
            ("recommended", Sizes::recommended(287), 862_976),
            ("fast", Sizes::fast(287), 168_832),
            ("quality", Sizes::quality(287), 862_976),
        ] {
            let config = preset(name).expect("known");
            assert_eq!(Network::new(&config).1.count(), expected, "{name}");
            assert_eq!(sizes.param_count(), expected, "{name}");
            assert_eq!(
                (config.flow.num_steps, config.flow.solver),
                (sizes.num_steps, sizes.solver),
                "{name}"
            );
        }
        assert_eq!(Network::new(&preset("pendulum-seed").expect("known")).1.count(), 71_425);
    }

    #[test]
    fn every_preset_is_a_network() {
        for preset in PRESETS {
            let config = preset.config().expect(preset.name);
            assert!(Network::new(&config).1.count() > 0, "{}", preset.name);
        }
        let error = preset("nobody").expect_err("there is none");
        assert!(error.to_string().starts_with("unknown preset `nobody`: known are pursuit, "), "{error}");
    }
}
