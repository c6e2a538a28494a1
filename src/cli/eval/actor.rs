//! Who acts: a rule, or a policy on a device.

use std::path::Path;

use super::timing::carried;
use super::{Args, NoiseKind};
use crate::cli::common::note;
use crate::eval::labels::TrainingRange;
use crate::eval::{
    self, ExecPlanner, Execution, NetworkPlanner, Options, Planner, Report, Setting, Subject, Timing,
};
use crate::graph::Device;
use crate::policy::{BUILT_IN, Chunking, Noise, Policy, Pretrained, resolve_policy, weights_sha256};
use crate::sim::{Environment, Scripted, Spec};
use crate::{Error, Result};

/// A name of `--policy`, made to act.
pub struct Actor {
    /// As it was given.
    pub name: String,
    body: Body,
    training: Option<TrainingRange>,
}

enum Body {
    Rule(Scripted),
    Network(Box<Policy>),
    Program(Box<ExecPlanner>),
}

/// What a program's name begins with.
const PROGRAM: &str = "exec:";

impl Actor {
    /// All that `--policy` names, set to what the flags say. The device is opened once, and for rules not at all.
    ///
    /// # Errors
    /// If one is unknown, named twice, or does not fit the environment or a flag.
    pub fn all(args: &Args, spec: &'static Spec) -> Result<Vec<Self>> {
        let names = args.policies();
        let mut device = None;
        let mut all: Vec<Self> = Vec::new();
        for name in &names {
            if all.iter().any(|actor| actor.name == *name) {
                return Err(Error::input(format!("--policy {name} is given twice")));
            }
            let mut training = None;
            let body = Body::named(name, args, spec, &mut device, &mut training);
            let body = body.map_err(|e| if names.len() > 1 { e.at(name) } else { e })?;
            all.push(Self { name: name.clone(), body, training });
        }
        Ok(all)
    }

    /// What it is to be evaluated with.
    ///
    /// # Errors
    /// If it can carry out none of the timings.
    pub fn settings(&self, args: &Args) -> Result<Vec<Setting>> {
        let timings = carried(self, &args.timing.all()?)?;
        let solved = match &self.body {
            Body::Rule(_) | Body::Program(_) => vec![Setting::NONE],
            Body::Network(policy) => Setting::all(policy.config(), &args.solver, &args.steps),
        };
        let timed = |setting: Setting| timings.iter().map(move |&timing| Setting { timing, ..setting });
        Ok(solved.into_iter().flat_map(timed).collect())
    }

    /// The policy; none of a rule or a program.
    pub fn policy(&self) -> Option<&Policy> {
        match &self.body {
            Body::Rule(_) | Body::Program(_) => None,
            Body::Network(policy) => Some(policy),
        }
    }

    /// Checks that it can execute its chunks so.
    ///
    /// # Errors
    /// Says what it lacks.
    pub fn check_timing(&self, timing: Timing) -> Result<()> {
        let refuse = |why: &str| Err(Error::input(format!("{} {why}", self.name)));
        match (&self.body, timing.execution) {
            (Body::Rule(_), _) if timing == Timing::NONE => Ok(()),
            (Body::Rule(_), _) => refuse("is a rule: it decides at every step and takes no time"),
            (_, Execution::Wait | Execution::Move(Chunking::Naive)) => Ok(()),
            (Body::Program(_), _) => refuse("makes its chunks by itself: use --chunking naive or wait"),
            (Body::Network(policy), Execution::Move(chunking)) => policy.check_chunking(chunking),
        }
    }

    /// `rule`, `program`, or the family of its network.
    pub fn kind(&self) -> &'static str {
        match &self.body {
            Body::Rule(_) => "rule",
            Body::Program(_) => "program",
            Body::Network(policy) => policy.config().family.name(),
        }
    }

    /// The SHA-256 of its weights file; none of what has none.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn weights_sha256(&self) -> Result<Option<String>> {
        self.policy().map(|_| weights_sha256(&self.name)).transpose()
    }

    /// What measurements it was trained on, where its statistics say.
    pub fn training_range(&self) -> Option<TrainingRange> {
        self.training.clone()
    }

    /// How many actions of each chunk it executes; 1 of a rule.
    pub fn n_action_steps(&self) -> usize {
        match &self.body {
            Body::Rule(_) => 1,
            Body::Network(policy) => policy.config().n_action_steps,
            Body::Program(program) => program.n_action_steps(),
        }
    }

    /// Lends it to an evaluation with that setting.
    ///
    /// # Errors
    /// If the setting is of no use to it.
    pub fn with_subject<T>(
        &mut self,
        setting: Setting,
        act: impl FnOnce(&mut Subject<'_>) -> Result<T>,
    ) -> Result<T> {
        match &mut self.body {
            Body::Rule(rule) => act(&mut Subject::Rule(*rule)),
            Body::Program(program) => act(&mut Subject::Planner(program.as_mut())),
            Body::Network(policy) => {
                setting.apply(policy)?;
                act(&mut Subject::Planner(&mut NetworkPlanner::new(policy)))
            }
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
            Body::Network(policy) => {
                setting.apply(policy)?;
                eval::evaluate_timed(environment, policy, setting.timing, options, watch)
            }
            _ => {
                let n_action_steps = self.n_action_steps();
                let report = self.with_subject(setting, |subject| {
                    eval::evaluate_subject(environment, subject, setting.timing, options, watch)
                })?;
                Ok(Report { n_action_steps, ..report })
            }
        }
    }
}

impl Body {
    fn named(
        name: &str,
        args: &Args,
        spec: &'static Spec,
        device: &mut Option<Device>,
        training: &mut Option<TrainingRange>,
    ) -> Result<Self> {
        if let Some(command) = name.strip_prefix(PROGRAM) {
            let mut program = ExecPlanner::start(command, spec)?;
            args.n_action_steps.map_or(Ok(()), |steps| program.set_action_steps(steps))?;
            return Ok(Self::Program(Box::new(program)));
        }
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
                "unknown policy `{name}`: known are {known}, folders that hold a policy, and exec:COMMAND"
            )));
        }
        let pretrained = resolve_policy(name)?;
        pretrained.notes.iter().for_each(note);
        *training = measured_range(&pretrained);
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

/// The range of the first state vector that a policy was trained on.
fn measured_range(pretrained: &Pretrained) -> Option<TrainingRange> {
    let (key, _) = pretrained.config.states().next()?;
    let values = |stat| Some(pretrained.stats.get(key, stat)?.values.clone());
    Some(TrainingRange { key: key.to_owned(), low: values("min")?, high: values("max")? })
}
