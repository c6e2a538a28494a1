//! What was measured: the task's contract in words.

use super::html::{Markup, number, table, tag, terms};
use crate::eval::artifact::RunRecord;
use crate::sim::FeatureContract;

/// The section.
pub fn section(run: &RunRecord) -> Markup {
    let contract = &run.contract;
    let seconds = run.horizon as f64 / f64::from(contract.rate_hz.max(1));
    let last = run.seed.wrapping_add(run.episodes.saturating_sub(1) as u64);
    let horizon = match run.horizon == contract.horizon.steps {
        true => format!("{} steps ({seconds:.1} s)", run.horizon),
        false => {
            format!("{} steps ({seconds:.1} s); the task's own is {}", run.horizon, contract.horizon.steps)
        }
    };
    let said = |text: &str| Markup::from(text);
    let words = terms([
        ("Task", said(&contract.task)),
        ("Success", said(&contract.success)),
        ("Failure", said(&contract.failure)),
        ("An episode ends", said(&contract.termination)),
        ("Horizon", said(&horizon)),
        ("Rate", said(&format!("{} decisions a second", contract.rate_hz))),
        ("Reset", said(&contract.reset)),
        ("Reward", said(&contract.reward)),
        ("Episodes", said(&format!("{}, from resets {} to {last}", run.episodes, run.seed))),
        ("Contract", said(&format!("{}, version {}", contract.environment, contract.version))),
    ]);
    let features =
        contract.observations.iter().map(|feature| ("sees", feature)).chain([("decides", &contract.action)]);
    let table = table(
        "What the policy sees and decides",
        &["feature", "", "shape", "components", "unit", "bounds"],
        features.map(|(role, feature)| cells(role, feature)),
    );
    tag("section", [tag("h2", "What was measured"), words, table])
}

fn cells(role: &str, feature: &FeatureContract) -> Vec<Markup> {
    let shape: Vec<String> = feature.shape.iter().map(usize::to_string).collect();
    let bounds: Vec<String> = (feature.low.iter().zip(&feature.high))
        .map(|(low, high)| format!("{} to {}", number(*low), number(*high)))
        .collect();
    let once = |all: &[String]| match all {
        [first, rest @ ..] if rest.iter().all(|other| other == first) => first.clone(),
        all => all.join(", "),
    };
    let texts = [shape.join(" × "), feature.names.join(", "), once(&feature.units), once(&bounds)];
    let code = tag("code", feature.key.as_str());
    [code, Markup::from(role)].into_iter().chain(texts.map(Markup::from)).collect()
}
