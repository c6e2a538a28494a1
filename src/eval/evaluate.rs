//! A policy's episodes, measured.

use std::time::Instant;

use serde_json::{Map, Value, json};

use super::contract::check_policy_contract;
use super::executor::Executor;
use super::intervals::{Estimate, bootstrap, wilson};
use super::metrics::{Summary, measure, summarise};
use super::network_planner::NetworkPlanner;
use super::running::EpisodeLog;
use super::timing::{Timing, rate_of};
use super::trial::{Subject, Trial, Watch};
use crate::policy::{Policy, Usage};
use crate::sim::rollout::Driver;
use crate::sim::{Environment, Episode, Perturbations, Spec};
use crate::{Error, Result};

/// Metrics that are 1 or 0 of every episode.
pub(super) const YES_OR_NO: [&str; 2] = ["completed", "solved"];
/// The seed of all intervals: equal episodes are resampled equally.
pub(super) const BOOTSTRAP_SEED: u64 = 0;

/// Which episodes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// How many.
    pub episodes: usize,
    /// Episode i starts from `default_rng(seed + i)`.
    pub seed: u64,
    /// Steps after which an episode has failed; the environment's own horizon if none is given.
    pub horizon: Option<usize>,
    /// Episodes that are played side by side: a policy makes their chunks together.
    pub batch_size: usize,
}

impl Default for Options {
    /// A hundred episodes from seed 42, as pi-e publishes its flow-matching policy.
    fn default() -> Self {
        Self { episodes: 100, seed: 42, horizon: None, batch_size: 100 }
    }
}

/// What an evaluation found.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The environment's name.
    pub environment: &'static str,
    /// Which episodes, the horizon included.
    pub options: Options,
    /// The disturbed conditions that the environment was under.
    pub perturbations: Perturbations,
    /// Actions executed of each chunk; 1 for a rule, which decides at every step.
    pub n_action_steps: usize,
    /// Mean and spread over episodes, under their published names.
    pub metrics: Vec<(&'static str, Summary)>,
    /// Share of episodes that solved the task.
    pub success_rate: f64,
    /// Wall time of the whole evaluation.
    pub seconds: f64,
    /// Chunks made, and the time that took; none for a rule.
    pub usage: Option<Usage>,
    /// What happened, episode by episode.
    pub episodes: Vec<Episode>,
    /// How chunks were executed in each.
    pub logs: Vec<EpisodeLog>,
}

/// Evaluates a policy with the solver steps, action steps and noise it is set to. Every episode begins anew.
///
/// # Errors
/// If the policy does not fit the environment, there is no episode, the device fails, or an action is not finite:
/// the error names step and episode.
pub fn evaluate(environment: &dyn Environment, policy: &mut Policy, options: Options) -> Result<Report> {
    evaluate_watched(environment, policy, options, &mut |_, _| ())
}

/// The same; after every step, `watch` is told the steps taken and the episodes that took the last one.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_watched(
    environment: &dyn Environment,
    policy: &mut Policy,
    options: Options,
    watch: &mut dyn FnMut(usize, usize),
) -> Result<Report> {
    evaluate_timed(environment, policy, Timing::default(), options, watch)
}

/// The same with chunks that take time.
///
/// # Errors
/// As [`evaluate`], and if the timing means nothing to the policy.
pub fn evaluate_timed(
    environment: &dyn Environment,
    policy: &mut Policy,
    timing: Timing,
    options: Options,
    watch: &mut Watch<'_>,
) -> Result<Report> {
    check_fit(environment.spec(), policy)?;
    let before = policy.usage();
    let n_action_steps = timing.n_action_steps.unwrap_or(policy.config().n_action_steps);
    let mut planner = NetworkPlanner::new(policy);
    let report = evaluate_subject(environment, &mut Subject::Planner(&mut planner), timing, options, watch)?;
    Ok(Report { n_action_steps, usage: Some(policy.usage().since(before)), ..report })
}

/// Evaluates whatever decides: a rule of [`Scripted`](crate::sim::Scripted), say.
///
/// # Errors
/// If there is no episode; the driver's own errors.
pub fn evaluate_driver(
    environment: &dyn Environment,
    driver: &mut Driver<'_>,
    options: Options,
) -> Result<Report> {
    evaluate_subject(environment, &mut Subject::Driver(driver), Timing::default(), options, &mut |_, _| ())
}

/// Evaluates whoever acts.
///
/// # Errors
/// If there is no episode; the subject's own.
pub fn evaluate_subject(
    environment: &dyn Environment,
    subject: &mut Subject<'_>,
    timing: Timing,
    options: Options,
    watch: &mut Watch<'_>,
) -> Result<Report> {
    let spec = environment.spec();
    let horizon = options.horizon.unwrap_or(spec.horizon);
    if options.episodes == 0 || horizon == 0 || options.batch_size == 0 {
        return Err(Error::input("there is nothing to evaluate: use at least one episode of one step"));
    }
    let start = Instant::now();
    let trial = Trial { environment, timing, seed: options.seed, horizon };
    let (mut episodes, mut logs) = (Vec::new(), Vec::new());
    let numbers: Vec<usize> = (0..options.episodes).collect();
    for group in numbers.chunks(options.batch_size) {
        for played in trial.play(subject, group, watch)? {
            episodes.push(played.episode);
            logs.push(played.log);
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let measured: Vec<_> = episodes.iter().map(|episode| measure(spec.name, episode)).collect();
    let solved = episodes.iter().filter(|episode| episode.success).count();
    Ok(Report {
        environment: spec.name,
        options: Options { horizon: Some(horizon), ..options },
        perturbations: environment.perturbations(),
        n_action_steps: 1,
        metrics: summarise(&measured),
        success_rate: solved as f64 / episodes.len() as f64,
        seconds,
        usage: None,
        episodes,
        logs,
    })
}

/// A policy as a driver of rollouts and recordings: it sees what the environments show.
///
/// # Errors
/// If the policy asks for an observation that the environment does not show, or decides other actions.
pub fn driver<'a>(environment: &dyn Environment, policy: &'a mut Policy) -> Result<Box<Driver<'a>>> {
    check_fit(environment.spec(), policy)?;
    let planner = NetworkPlanner::new(policy);
    let mut executor = Executor::new(planner, Timing::default(), rate_of(environment))?;
    Ok(Box::new(move |turns| executor.act(turns)))
}

/// Checks that an environment shows what a policy sees, and takes what it decides. What else it shows is ignored, and
/// cameras that the policy can do without may be missing.
///
/// # Errors
/// Names the observation, the widths of the actions, or the field of the policy's contract, if it has one.
pub fn check_fit(spec: &Spec, policy: &Policy) -> Result<()> {
    let shown = |key: &str, shape: &[usize]| {
        spec.observations.iter().any(|feature| (feature.key, feature.shape) == (key, shape))
    };
    let config = policy.config();
    let read = config.cameras_to_read(|key| spec.observations.iter().any(|feature| feature.key == key));
    let cameras = config.images().zip(read).filter_map(|(camera, read)| read.then_some(camera));
    for (key, feature) in cameras.chain(config.states()) {
        if !shown(key, &feature.shape) {
            let list: Vec<_> =
                spec.observations.iter().map(|f| format!("`{}` {:?}", f.key, f.shape)).collect();
            return Err(Error::input(format!(
                "the policy sees `{key}` {:?}, which environment `{}` does not show: it shows {}",
                feature.shape,
                spec.name,
                list.join(", ")
            )));
        }
    }
    let (width, wanted) = (config.action().1, spec.low.len());
    if width != wanted {
        return Err(Error::input(format!(
            "the policy's actions have {width} components, those of environment `{}` have {wanted}",
            spec.name
        )));
    }
    check_policy_contract(spec, policy)
}

/// The mean of a metric's values with its 95 % interval: Wilson's for what is 1 or 0 of an episode, bootstrapped for
/// others; none of no values.
pub(super) fn estimate_of(name: &str, values: &[f64]) -> Option<Estimate> {
    let shares = || wilson(values.iter().filter(|value| **value == 1.0).count(), values.len());
    let estimate = || if YES_OR_NO.contains(&name) { shares() } else { bootstrap(values, BOOTSTRAP_SEED) };
    (!values.is_empty()).then(estimate)
}

/// Says what was disturbed, where anything was.
pub(super) fn add_perturbations(json: &mut Value, perturbations: &Perturbations) {
    if !perturbations.is_none() {
        json["perturbations"] = perturbations.to_json();
        json["perturbation_seed"] = json!(perturbations.seed);
    }
}

impl Report {
    /// Milliseconds a chunk took, in the batches in which chunks were made; none if none was made.
    pub fn ms_per_chunk(&self) -> Option<f64> {
        let usage = self.usage.filter(|usage| usage.chunks > 0)?;
        Some(1e3 * usage.busy.as_secs_f64() / usage.chunks as f64)
    }

    /// Passes through the network that a chunk took, as they were counted; none if no chunk was made. A batch's slowest
    /// sample is what an adaptive solver's batch costs.
    pub fn evaluations_per_chunk(&self) -> Option<f64> {
        let usage = self.usage.filter(|usage| usage.batches > 0)?;
        Some(usage.evaluations as f64 / usage.batches as f64)
    }

    /// Chunks made together, on average; none if none was made.
    pub fn mean_batch(&self) -> Option<f64> {
        let usage = self.usage.filter(|usage| usage.batches > 0)?;
        Some(usage.chunks as f64 / usage.batches as f64)
    }

    /// A metric of every episode, in their order; empty for an unknown one.
    pub fn values(&self, name: &str) -> Vec<f64> {
        let measured = self.episodes.iter().map(|episode| measure(self.environment, episode));
        let value = |metrics: Vec<(&str, f64)>| Some(metrics.iter().find(|(known, _)| *known == name)?.1);
        measured.filter_map(value).collect()
    }

    /// A metric's mean with its 95 % interval: Wilson's for what is 1 or 0 of an episode, bootstrapped for others.
    pub fn estimate(&self, name: &str) -> Option<Estimate> {
        estimate_of(name, &self.values(name))
    }

    /// The mean of a metric.
    pub fn mean(&self, name: &str) -> Option<f64> {
        self.metrics.iter().find(|(known, _)| *known == name).map(|(_, summary)| summary.mean)
    }

    /// One number to choose a checkpoint by, larger is better: the return, or, of a task that is to be solved soon, the
    /// share that is solved and then speed.
    pub fn score(&self) -> f64 {
        match self.mean("steps_to_capture") {
            Some(steps) => self.success_rate - steps / 1000.0,
            None => self.mean("return").unwrap_or(self.success_rate),
        }
    }

    /// The means of all metrics, and the share solved.
    pub fn means(&self) -> Value {
        let means = self.metrics.iter().map(|(name, summary)| ((*name).to_owned(), json!(summary.mean)));
        let success = ("success_rate".to_owned(), json!(self.success_rate));
        Value::Object(std::iter::once(success).chain(means).collect())
    }

    /// As `eval --json` prints it:
    /// `{"env", "policy", "episodes", "seed", "n_action_steps", "metrics": {name: {"mean", "std"}}}` with population
    /// std, and `horizon`, `success_rate`, `seconds`, `chunks`, `ms_per_chunk`, `evaluations_per_chunk`, and, where
    /// anything is disturbed, `perturbations`, `{axis: level}`, and `perturbation_seed`.
    pub fn to_json(&self, policy: &str) -> Value {
        let metrics: Map<String, Value> =
            self.metrics.iter().map(|(name, summary)| ((*name).to_owned(), json!(summary))).collect();
        let mut json = json!({
            "env": self.environment,
            "policy": policy,
            "episodes": self.options.episodes,
            "seed": self.options.seed,
            "n_action_steps": self.n_action_steps,
            "metrics": metrics,
            "horizon": self.options.horizon,
            "success_rate": self.success_rate,
            "seconds": self.seconds,
            "chunks": self.usage.map(|usage| usage.chunks),
            "ms_per_chunk": self.ms_per_chunk(),
            "evaluations_per_chunk": self.evaluations_per_chunk(),
        });
        add_perturbations(&mut json, &self.perturbations);
        json
    }
}
