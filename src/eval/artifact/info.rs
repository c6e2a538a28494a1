//! `eval_info.json`: LeRobot's summary, key for key, and what it leaves out under `flowgpu`.

use serde_json::{Map, Value, json};

use super::{EpisodeRecord, RunRecord};
use crate::eval::evaluate::estimate_of;
use crate::eval::intervals::{jeffreys, wilson};
use crate::eval::metrics::Summary;

/// The summary of an evaluation, as `lerobot-eval` writes it: `per_task`, `per_group` and `overall`. Rates under `flowgpu`
/// are shares, `pc_success` is per cent.
pub fn eval_info(run: &RunRecord, episodes: &[EpisodeRecord], videos: &[String]) -> Value {
    let count = episodes.len().max(1) as f64;
    let sums: Vec<f64> = episodes.iter().map(|episode| episode.sum_reward).collect();
    let greatest: Vec<f64> = episodes.iter().map(|episode| episode.max_reward).collect();
    let successes: Vec<bool> = episodes.iter().map(EpisodeRecord::succeeded).collect();
    let solved = successes.iter().filter(|success| **success).count();
    let mean = |values: &[f64]| values.iter().sum::<f64>() / count;
    let group = json!({
        "avg_sum_reward": mean(&sums),
        "avg_max_reward": mean(&greatest),
        "pc_success": 100.0 * solved as f64 / count,
        "n_episodes": episodes.len(),
        "video_paths": videos,
    });
    let mut overall = group.clone();
    overall["eval_s"] = json!(run.seconds);
    overall["eval_ep_s"] = json!(run.seconds / count);
    let task = &run.contract.environment;
    json!({
        "per_task": [{
            "task_group": task,
            "task_id": 0,
            "metrics": {
                "sum_rewards": sums,
                "max_rewards": greatest,
                "successes": successes,
                "seeds": episodes.iter().map(|episode| episode.seed).collect::<Vec<_>>(),
                "video_paths": videos,
            },
        }],
        "per_group": { task: group },
        "overall": overall,
        "flowgpu": {
            "policy": run.policy.name,
            "confidence": 0.95,
            "success": {"wilson": wilson(solved, episodes.len()), "jeffreys": jeffreys(solved, episodes.len())},
            "metrics": metrics(episodes),
            "failures": failures(episodes),
            "deadline_misses": episodes.iter().map(|episode| episode.deadline_misses).sum::<usize>(),
        },
    })
}

/// Every metric's mean with its interval and spread over episodes.
fn metrics(episodes: &[EpisodeRecord]) -> Map<String, Value> {
    let names = episodes.first().into_iter().flat_map(|episode| episode.metrics.keys());
    let measured = names.filter_map(|name| {
        let values: Option<Vec<f64>> = episodes.iter().map(|episode| episode.metric(name)).collect();
        let values = values?;
        let mut metric = json!(estimate_of(name, &values)?);
        metric["std"] = json!(Summary::of(&values).std);
        Some((name.clone(), metric))
    });
    measured.collect()
}

/// How often each failure label was given by the rules.
fn failures(episodes: &[EpisodeRecord]) -> Map<String, Value> {
    let mut counts = Map::new();
    for failure in episodes.iter().filter_map(|episode| episode.failure.as_ref()) {
        let count = counts.entry(failure.label.name()).or_insert(json!(0));
        *count = json!(count.as_u64().unwrap_or(0) + 1);
    }
    counts
}
