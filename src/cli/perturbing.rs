//! Flags that disturb an evaluation: one for every axis, made of what the axes say of themselves.

use clap::{Arg, ArgMatches, Command, FromArgMatches};

use crate::sim::{Axis, Environment, Perturbation, Perturbations, Spec, make};
use crate::{Error, Result};

/// The heading of these flags in the help.
const HEADING: &str = "Perturbations";
const PANEL: &str = "perturbation-panel";
const SEED: &str = "perturbation-seed";

/// What is disturbed.
#[derive(Debug, Clone)]
pub struct PerturbationArgs {
    /// All but the control rate.
    all: Vec<Perturbation>,
    /// Decisions a second, Hz.
    control_rate: Option<f64>,
    /// Whether all axes are to be tried at all of their levels.
    pub panel: bool,
    seed: Option<u64>,
}

impl PerturbationArgs {
    /// The environment of that name under what the flags say, for episodes from the reset seed `first` on.
    ///
    /// # Errors
    /// Names the environment if it is unknown, or the flag that makes no sense or does not fit it.
    pub fn environment(&self, name: &str, first: u64, noise_seed: u64) -> Result<Box<dyn Environment>> {
        let environment = make(name)?;
        let rate = self.control_rate.map(|_| Axis::ControlRate);
        let given = self.all.first().map(|given| given.axis).or(rate);
        if let (true, Some(axis)) = (self.panel, given) {
            let flag = axis.name();
            return Err(Error::input(format!("--{PANEL} tries every axis by itself: leave --{flag} out")));
        }
        let mut all = self.all.clone();
        all.extend(self.control_rate.map(|rate| slower(rate, environment.spec())).transpose()?);
        let perturbations = Perturbations { all, seed: self.seed(noise_seed), first };
        let disturbed = perturbations.apply(environment.fresh())?;
        Ok(if perturbations.is_none() { environment } else { disturbed })
    }

    /// The seed of what is random about them: that of other noise if none is given.
    pub fn seed(&self, noise_seed: u64) -> u64 {
        self.seed.unwrap_or(noise_seed)
    }
}

/// A control rate in Hz as the share of an environment's decisions that is lost.
fn slower(rate: f64, spec: &Spec) -> Result<Perturbation> {
    let own = f64::from(spec.fps);
    if !(rate > 0.0 && rate <= own) {
        return Err(Error::input(format!(
            "--control-rate is {rate}: environment `{}` takes decisions up to {own} times a second",
            spec.name
        )));
    }
    Ok(Perturbation { axis: Axis::ControlRate, level: 1.0 - rate / own })
}

impl clap::Args for PerturbationArgs {
    fn augment_args(command: Command) -> Command {
        let flag = |axis: &Axis| {
            let flag = Arg::new(axis.name()).long(axis.name()).value_name(axis.value_name());
            let flag = flag.help(axis.about()).help_heading(HEADING).allow_hyphen_values(true);
            let flag = flag.value_parser(clap::value_parser!(f64));
            match axis {
                // What this flag was called when it was alone.
                Axis::ActionNoise => flag.alias("exploration-noise"),
                // People think of it in Hz; as a disturbance it is the share that is lost.
                Axis::ControlRate => flag.value_name("HZ").help(
                    "Decides so many times a second instead of at every step: between, the last action is carried on",
                ),
                _ => flag,
            }
        };
        let panel = Arg::new(PANEL).long(PANEL).help_heading(HEADING).action(clap::ArgAction::SetTrue);
        let panel = panel.help("Tries every axis that the environment has, level by level, as a table");
        let seed = Arg::new(SEED).long(SEED).help_heading(HEADING).value_name("S");
        let seed = seed.value_parser(clap::value_parser!(u64));
        let seed = seed.help("Another seed, other disturbances [default: --noise-seed]");
        command.args(Axis::ALL.iter().map(flag)).args([panel, seed])
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for PerturbationArgs {
    fn from_arg_matches(matches: &ArgMatches) -> std::result::Result<Self, clap::Error> {
        let value = |axis: Axis| matches.get_one::<f64>(axis.name()).copied();
        let shares = Axis::ALL.into_iter().filter(|axis| *axis != Axis::ControlRate);
        Ok(Self {
            all: shares.filter_map(|axis| Some(Perturbation { axis, level: value(axis)? })).collect(),
            control_rate: value(Axis::ControlRate),
            panel: matches.get_flag(PANEL),
            seed: matches.get_one::<u64>(SEED).copied(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> std::result::Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
