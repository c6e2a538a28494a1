//! Who acts: a rule, or a policy on a device.

use std::path::Path;

use super::{Args, NoiseKind};
use crate::cli::common::note;
use crate::eval::{self, Options, Report, Setting};
use crate::graph::Device;
use crate::policy::{BUILT_IN, Noise, Policy, resolve_policy};
use crate::sim::{Environment, Scripted, Spec};
use crate::{Error, Result};

/// A name of `--policy`, made to act.
pub struct Actor {
    /// As it was given.
    pub name: String,
    body: Body,
}

enum Body {
    Rule(Scripted),
    Network(Box<Policy>),
}

impl Actor {
    /// All that `--policy` names, set to what the flags say. The device is opened once, and for rules not at all.
    ///
    /// # Errors
    /// If one is unknown, named twice, or does not fit the environment or a flag.
    pub fn all(args: &Args, spec: &Spec) -> Result<Vec<Self>> {
        let names = args.policies();
        let mut device = None;
        let mut all: Vec<Self> = Vec::new();
        for name in &names {
            if all.iter().any(|actor| actor.name == *name) {
                return Err(Error::input(format!("--policy {name} is given twice")));
            }
            let body = Body::named(name, args, spec, &mut device);
            let body = body.map_err(|e| if names.len() > 1 { e.at(name) } else { e })?;
            all.push(Self { name: name.clone(), body });
        }
        Ok(all)
    }

    /// What it is to be evaluated with.
    pub fn settings(&self, args: &Args) -> Vec<Setting> {
        match &self.body {
            Body::Rule(_) => vec![Setting::NONE],
            Body::Network(policy) => Setting::all(policy.config(), &args.solver, &args.steps),
        }
    }

    /// The policy; none of a rule.
    pub fn policy(&self) -> Option<&Policy> {
        match &self.body {
            Body::Rule(_) => None,
            Body::Network(policy) => Some(policy),
        }
    }

    /// Evaluates it. After every step, `watch` is told the steps taken and the episodes that took the last one.
    ///
    /// # Errors
    /// As [`eval::evaluate`].
    pub fn evaluate(
        &mut self,
        environment: &dyn Environment,
        setting: Setting,
        options: Options,
        watch: &mut dyn FnMut(usize, usize),
    ) -> Result<Report> {
        match &mut self.body {
            Body::Rule(rule) => eval::evaluate_driver(environment, &mut *rule.driver(), options),
            Body::Network(policy) => {
                setting.apply(policy)?;
                eval::evaluate_watched(environment, policy, options, watch)
            }
        }
    }
}

impl Body {
    fn named(name: &str, args: &Args, spec: &Spec, device: &mut Option<Device>) -> Result<Self> {
        if let Some(rule) = Scripted::named(name, args.noise_seed) {
            let for_networks =
                args.n_action_steps.is_some() || !args.steps.is_empty() || !args.solver.is_empty();
            if for_networks && args.policies().len() == 1 {
                note(format!("{name} is a rule: it has no chunks and no solver"));
            }
            return Ok(Self::Rule(rule));
        }
        if !BUILT_IN.contains(&name) && !Path::new(name).exists() {
            let known = [&Scripted::NAMES, BUILT_IN].concat().join(", ");
            return Err(Error::input(format!(
                "unknown policy `{name}`: known are {known}, and folders that hold a policy"
            )));
        }
        let pretrained = resolve_policy(name)?;
        pretrained.notes.iter().for_each(note);
        let device = match device {
            Some(device) => device,
            None => device.insert(args.device.open()?),
        };
        let mut policy = Policy::from_parts_as(pretrained, device, args.weights)?;
        eval::check_fit(spec, &policy)?;
        args.n_action_steps.map_or(Ok(()), |steps| policy.set_action_steps(steps))?;
        // What makes no sense is said before anything runs.
        args.steps.iter().try_for_each(|&steps| policy.set_solver_steps(steps))?;
        args.sampling.apply(&mut policy)?;
        policy.set_noise(match args.noise {
            NoiseKind::Seeded => Noise::Seeded(args.noise_seed),
            NoiseKind::Zero => Noise::Zero,
        });
        Ok(Self::Network(Box::new(policy)))
    }
}
