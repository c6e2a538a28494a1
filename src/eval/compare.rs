//! Finished evaluations compared: episodes are paired by seed, and a winner is named only where they decide.

use serde_json::{Map, Value, json};

use super::artifact::Artifact;
use super::evaluate::{BOOTSTRAP_SEED, estimate_of};
use super::intervals::{jeffreys, wilson};
use super::metrics::direction;
use super::significance::holm;
use super::{Comparison, Estimate, headline};
use crate::{Error, Result};

/// Two evaluations compared by one metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// The first one's policy.
    pub ours: String,
    /// The second one's.
    pub theirs: String,
    /// `success`, or a metric.
    pub metric: String,
    /// What the episodes say.
    pub comparison: Comparison,
}

impl Pair {
    /// The verdict as a sentence without its stop.
    pub fn in_words(&self) -> String {
        self.comparison.in_words(&self.ours, &self.theirs, &self.metric)
    }
}

/// Checks that two evaluations are of the same task and the same episodes.
///
/// # Errors
/// Names the fields that differ.
pub fn check_comparable(ours: &Artifact, theirs: &Artifact) -> Result<()> {
    let fields = ours.run.incomparable(&theirs.run);
    if fields.is_empty() {
        return Ok(());
    }
    let run = |artifact: &Artifact, field: &str| {
        let run = serde_json::to_value(&artifact.run).unwrap_or_default();
        field.split('.').fold(run, |value, key| value[key].clone())
    };
    let told: Vec<String> = (fields.iter())
        .map(|field| {
            let values = [run(ours, field), run(theirs, field)].map(|value| value.to_string());
            match values.iter().all(|value| value.len() <= 40 && value != "null") {
                true => format!("`{field}` ({} and {})", values[0], values[1]),
                false => format!("`{field}`"),
            }
        })
        .collect();
    Err(Error::input(format!(
        "{} and {} cannot be compared: they differ in {}; evaluate both with the same --env, --seed and --episodes",
        ours.folder.display(),
        theirs.folder.display(),
        told.join(", ")
    )))
}

/// Compares outcomes, and the metric that says most of the task.
///
/// # Errors
/// If they are not of the same task and episodes.
pub fn compare(ours: &Artifact, theirs: &Artifact) -> Result<Vec<Pair>> {
    check_comparable(ours, theirs)?;
    let outcomes = |artifact: &Artifact| -> Vec<bool> {
        artifact.episodes.iter().map(|episode| episode.succeeded()).collect()
    };
    let pair = |metric: &str, comparison| Pair {
        ours: ours.run.policy.name.clone(),
        theirs: theirs.run.policy.name.clone(),
        metric: metric.to_owned(),
        comparison,
    };
    let mut pairs = vec![pair("success", Comparison::of_outcomes(&outcomes(ours), &outcomes(theirs))?)];
    let metric = headline(&ours.run.contract.environment)[0];
    if let (Some(a), Some(b)) = (ours.values(metric), theirs.values(metric)) {
        let found = Comparison::of_numbers(&a, &b, direction(metric), BOOTSTRAP_SEED)?;
        pairs.push(pair(metric, found));
    }
    Ok(pairs)
}

/// Corrects the tests of several pairs for being several (Holm): one wrong name or more in 5 % of all tables at most.
pub fn corrected(mut pairs: Vec<Pair>) -> Vec<Pair> {
    let tested: Vec<f64> = pairs.iter().filter_map(|pair| pair.comparison.p).collect();
    let mut adjusted = holm(&tested).into_iter();
    for pair in pairs.iter_mut().filter(|pair| pair.comparison.p.is_some()) {
        if let Some(p) = adjusted.next() {
            pair.comparison = pair.comparison.corrected(p);
        }
    }
    pairs
}

/// One evaluation by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Summarised {
    /// Its policy.
    pub policy: String,
    /// Share of successes with Wilson's interval.
    pub wilson: Estimate,
    /// The same with Jeffreys'.
    pub jeffreys: Estimate,
    /// Every metric with its interval.
    pub metrics: Vec<(String, Estimate)>,
}

impl Summarised {
    /// Of one evaluation.
    pub fn of(artifact: &Artifact) -> Self {
        let solved = artifact.episodes.iter().filter(|episode| episode.succeeded()).count();
        let names = artifact.episodes.first().into_iter().flat_map(|episode| episode.metrics.keys());
        let metrics =
            names.filter_map(|name| Some((name.clone(), estimate_of(name, &artifact.values(name)?)?)));
        Self {
            policy: artifact.run.policy.name.clone(),
            wilson: wilson(solved, artifact.episodes.len()),
            jeffreys: jeffreys(solved, artifact.episodes.len()),
            metrics: metrics.collect(),
        }
    }

    /// A metric.
    pub fn metric(&self, name: &str) -> Option<Estimate> {
        Some(self.metrics.iter().find(|(known, _)| known == name)?.1)
    }

    fn to_json(&self) -> Value {
        let metrics: Map<String, Value> =
            self.metrics.iter().map(|(name, estimate)| (name.clone(), json!(estimate))).collect();
        json!({"policy": self.policy, "success": {"wilson": self.wilson, "jeffreys": self.jeffreys}, "metrics": metrics})
    }
}

/// As `compare --json` prints it: `{"confidence", "rows": [..], "pairs": [{"ours", "theirs", "metric", "verdict", ..,
/// "words"}]}`.
pub fn to_json(rows: &[Summarised], pairs: &[Pair]) -> Value {
    let pair = |pair: &Pair| {
        let mut json = json!({"ours": pair.ours, "theirs": pair.theirs, "metric": pair.metric});
        if let (Value::Object(json), Value::Object(found)) = (&mut json, json!(pair.comparison)) {
            json.extend(found);
        }
        json["words"] = json!(pair.in_words());
        json
    };
    json!({
        "confidence": 0.95,
        "rows": rows.iter().map(Summarised::to_json).collect::<Vec<_>>(),
        "pairs": pairs.iter().map(pair).collect::<Vec<_>>(),
    })
}
