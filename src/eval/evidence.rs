//! An evaluation that leaves evidence: episodes in groups, each measured and labelled, then trace, videos and summary.

use std::path::Path;
use std::time::Instant;

use serde_json::{Map, Value, json};

use super::artifact::{
    Artifact, ArtifactWriter, Decisions, EpisodeRecord, FailureRecord, LatencyRecord, Outcome, RunRecord,
    Termination, files, worst_first, write_trace, write_videos,
};
use super::intervals::quantile;
use super::labels::{Diagnosis, TrainingRange};
use super::metrics::measure;
use super::trial::{Played, Subject, Trial};
use crate::sim::Environment;
use crate::sim::perturb::Perturbations;
use crate::sim::rollout::episode_seed;
use crate::{Error, Result};

/// What is to be evaluated, and what is to be kept of it.
pub struct Order<'a> {
    /// Environment, timing, seed and horizon; the environment is disturbed already.
    pub trial: Trial<'a>,
    /// The environment without disturbances.
    pub plain: &'a dyn Environment,
    /// What disturbs it.
    pub perturbations: &'a Perturbations,
    /// What `run.json` will say.
    pub run: RunRecord,
    /// Keys the noise that chunks start from.
    pub noise_seed: u64,
    /// What measurements the policy was trained on, where that is known.
    pub training: Option<&'a TrainingRange>,
    /// Videos of the worst episodes.
    pub videos: usize,
}

/// How far an evaluation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// So many episodes were there already.
    Resumed {
        /// Episodes that are there.
        done: usize,
    },
    /// A step was taken.
    Step {
        /// The group's first episode.
        first: usize,
        /// Steps taken in it.
        step: usize,
        /// Episodes that took the last one.
        running: usize,
    },
}

/// Evaluates into a folder, going on where it stopped before.
///
/// # Errors
/// If the folder holds something else, the policy or the device fails, or the disk refuses.
pub fn evaluate_into(
    folder: &Path,
    order: &Order<'_>,
    subject: &mut Subject<'_>,
    watch: &mut dyn FnMut(Progress),
) -> Result<Artifact> {
    let start = Instant::now();
    let Order { trial, run, .. } = order;
    if run.episodes == 0 || run.batch_size == 0 || trial.horizon == 0 {
        return Err(Error::input("there is nothing to evaluate: use at least one episode of one step"));
    }
    let mut writer = ArtifactWriter::open(folder, run.clone())?;
    if writer.done() > 0 {
        watch(Progress::Resumed { done: writer.done() });
    }
    let diagnosis = Diagnosis {
        trial: *trial,
        plain: order.plain,
        perturbations: order.perturbations,
        training: order.training,
    };
    while writer.done() < run.episodes {
        let group: Vec<usize> = (writer.done()..(writer.done() + run.batch_size).min(run.episodes)).collect();
        let played = trial.play(subject, &group, &mut |step, running| {
            watch(Progress::Step { first: group[0], step, running });
        })?;
        let mut failures = diagnosis.of(subject, &played)?;
        let records =
            played.iter().map(|played| order.record(played, failures.remove(&played.episode.index)));
        writer.add(records.collect(), played.iter().map(Decisions::of).collect())?;
    }
    let episodes = writer.episodes();
    let metadata = [("policy", run.policy.name.as_str()), ("environment", run.contract.environment.as_str())];
    write_trace(&writer.path(files::TRACE), trial.environment, episodes, writer.decisions(), &metadata)?;
    let worst: Vec<&EpisodeRecord> = worst_first(episodes).into_iter().take(order.videos).collect();
    let videos = write_videos(folder, trial.environment, &worst, writer.decisions())?;
    let folder = writer.finish(start.elapsed().as_secs_f64(), &videos)?;
    Artifact::read(folder)
}

impl Order<'_> {
    /// What a line says of an episode.
    fn record(&self, played: &Played, failure: Option<FailureRecord>) -> EpisodeRecord {
        let Played { episode, log, .. } = played;
        let metrics = measure(episode.spec.name, episode)
            .into_iter()
            .map(|(name, value)| (name.to_owned(), json!(value)));
        let mut latencies: Vec<f64> = log.chunks.iter().map(|chunk| chunk.latency_ms).collect();
        latencies.sort_by(f64::total_cmp);
        let latency = |share| quantile(&latencies, share);
        EpisodeRecord {
            episode: episode.index,
            seed: episode_seed(self.trial.seed, episode.index),
            noise_seed: self.noise_seed,
            initial_position: episode.positions.first().cloned().unwrap_or_default(),
            initial_distance: episode.distances.first().copied().unwrap_or_default(),
            outcome: if episode.success { Outcome::Success } else { Outcome::Failure },
            termination: if episode.terminated { Termination::Task } else { Termination::Horizon },
            steps: episode.actions.len(),
            sum_reward: episode.rewards.iter().sum(),
            max_reward: episode.rewards.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            metrics: metrics.collect(),
            shoved_at: episode.shoved_at,
            failure,
            perturbations: object(self.perturbations.to_json()),
            chunks: log.chunks.len(),
            evaluations: log.chunks.iter().map(|chunk| chunk.evaluations).sum(),
            deadline_misses: log.deadline_misses,
            idle_steps: log.idle_steps,
            latency_ms: (!latencies.is_empty()).then(|| LatencyRecord {
                p50: latency(0.5),
                p95: latency(0.95),
                p99: latency(0.99),
                max: latency(1.0),
            }),
        }
    }
}

/// The fields of a JSON object.
pub fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}
