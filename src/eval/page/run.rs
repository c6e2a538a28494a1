//! Where an evaluation comes from, how time went in it, under what conditions, and how to do it again.

use serde_json::{Map, Value};

use super::date::date;
use super::html::{Markup, figures, number, spoken, table, tag, tag_with, terms};
use super::sure::percent;
use crate::eval::artifact::{Artifact, EpisodeRecord, LatencyRecord};
use crate::eval::intervals::quantile;
use crate::sim::perturb::Axis;

/// Who was evaluated on what, with what, when: a line.
pub fn origin(artifact: &Artifact) -> Markup {
    let run = &artifact.run;
    let words = format!(
        "{} ({}) on {}, {} episodes from seed {}; {} {}, commit {}; {}",
        run.policy.name,
        run.policy.kind,
        run.contract.environment,
        run.episodes,
        run.seed,
        run.program.name,
        run.program.version,
        run.program.commit,
        date(run.started_unix_s)
    );
    tag_with("p", &[("class", "origin")], words)
}

/// Latency, deadlines and idle steps.
pub fn time(artifact: &Artifact) -> Markup {
    let sum = |of: fn(&EpisodeRecord) -> usize| artifact.episodes.iter().map(of).sum::<usize>();
    let (chunks, steps) = (sum(|episode| episode.chunks), sum(|episode| episode.steps));
    let heading = tag("h2", "Time");
    let latencies: Vec<LatencyRecord> = artifact.episodes.iter().filter_map(|e| e.latency_ms).collect();
    if chunks == 0 || latencies.is_empty() {
        return tag("section", [heading, tag("p", "No chunks were made: nobody had to think.")]);
    }
    let percentiles: [fn(&LatencyRecord) -> f64; 4] =
        [|latency| latency.p50, |latency| latency.p95, |latency| latency.p99, |latency| latency.max];
    let names = ["median (p50)", "p95", "p99", "greatest"];
    let rows = names.into_iter().zip(percentiles).map(|(name, of)| {
        let mut values: Vec<f64> = latencies.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        let shown = [quantile(&values, 0.5), quantile(&values, 1.0)].map(|ms| Markup::from(number(ms)));
        [Markup::from(name)].into_iter().chain(shown).collect()
    });
    let table = figures(
        "Wall time of a chunk in ms, that of the batch it was made in: each episode has its percentiles",
        &["within an episode", "median episode", "worst episode"],
        rows,
    );
    let (misses, idle) = (sum(|episode| episode.deadline_misses), sum(|episode| episode.idle_steps));
    let deadline = match artifact.run.conditions.timing.get("deadline_ms").and_then(Value::as_f64) {
        Some(ms) => format!(
            "{misses} of {chunks} later than {} ms ({})",
            number(ms),
            percent(misses as f64 / chunks as f64)
        ),
        None => "none was set".to_owned(),
    };
    let idle = format!("{idle} of {steps} ({})", percent(idle as f64 / steps.max(1) as f64));
    let passes = sum(|episode| episode.evaluations) as f64 / chunks as f64;
    let words = terms([
        ("Deadline", deadline.into()),
        ("Steps without an action", idle.into()),
        ("Chunks", format!("{chunks}, {} passes through the network each", number(passes)).into()),
    ]);
    tag("section", [heading, table, words])
}

/// What was made harder, and how chunks were executed.
pub fn conditions(artifact: &Artifact) -> Markup {
    let conditions = &artifact.run.conditions;
    let heading = tag("h2", "Conditions");
    let mut said = Vec::new();
    if conditions.perturbations.is_empty() {
        said.push(tag("p", "Nothing was disturbed."));
    } else {
        let rows = conditions.perturbations.iter().map(|(name, level)| {
            let about = Axis::named(name).map_or("", Axis::about);
            [spoken(name), plain(level), about.to_owned()].map(Markup::from).to_vec()
        });
        let caption = format!("Disturbances, keyed by seed {}", conditions.perturbation_seed);
        said.push(table(&caption, &["disturbance", "level", "what it does"], rows));
    }
    let policy = &artifact.run.policy;
    let mut settings =
        vec![("actions of a chunk that are executed".to_owned(), policy.n_action_steps.to_string())];
    settings.extend(
        policy.sampling.iter().chain(&conditions.timing).map(|(key, value)| (spoken(key), plain(value))),
    );
    said.push(terms(settings.iter().map(|(term, value)| (term.as_str(), value.as_str().into()))));
    tag("section", [heading, said.into()])
}

/// How to do it again, and what it depends on.
pub fn again(artifact: &Artifact) -> Markup {
    let run = &artifact.run;
    let code = |text: &str| tag("code", text);
    let weights = run.policy.sha256.as_deref().map_or_else(|| Markup::from("no weights file"), code);
    let words = terms([
        ("SHA-256 of the policy's weights", weights),
        ("Device", run.device.as_str().into()),
        (
            "Program",
            format!("{} {}, commit {}", run.program.name, run.program.version, run.program.commit).into(),
        ),
        ("Episodes side by side", run.batch_size.to_string().into()),
        ("Wall time", format!("{:.1} s", run.seconds).into()),
    ]);
    let command = tag("pre", code(&run.command));
    let mut said = vec![tag("h2", "How to do it again"), command, words];
    if let Some(config) = &run.policy.config {
        let text = serde_json::to_string_pretty(config).unwrap_or_default();
        let config = tag("pre", code(&text));
        said.push(tag("details", [tag("summary", "The policy's configuration"), config]));
    }
    tag("section", said)
}

/// A JSON value as it is read.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "none".to_owned(),
        Value::Number(value) => value.as_f64().map_or_else(|| value.to_string(), number),
        Value::Object(fields) => pairs(fields),
        other => other.to_string(),
    }
}

fn pairs(fields: &Map<String, Value>) -> String {
    let pairs: Vec<String> =
        fields.iter().map(|(key, value)| format!("{} {}", spoken(key), plain(value))).collect();
    pairs.join(", ")
}
