//! The rules, on plain facts.

use serde_json::{Map, Value, json};

use super::Label;
use crate::eval::artifact::FailureRecord;

/// Decisions whose mean cosine to the expert's is below this do not agree with it.
pub const AGREEMENT: f64 = 0.7;
/// From this share of its steps on an episode lies outside the training data.
pub const OUTSIDE: f64 = 0.1;

/// Whether the same episode succeeds with one thing put right; none where there was nothing to put right.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reruns {
    /// The task's expert acts, nothing is disturbed.
    pub expert: Option<bool>,
    /// No delay of actions, chunks that take no time, the full control rate.
    pub without_delay: Option<bool>,
    /// The policy sees what is there.
    pub true_observation: Option<bool>,
    /// An expert decides from what the policy saw, everything else as it was.
    pub expert_seeing: Option<bool>,
    /// Actions are executed as decided, by bodies that move as usual.
    pub faithful_actions: Option<bool>,
    /// It starts where the seed's ordinary reset puts it.
    pub ordinary_start: Option<bool>,
    /// A new chunk at every step.
    pub replanning: Option<bool>,
    /// Nothing is disturbed or delayed.
    pub undisturbed: Option<bool>,
}

/// What is known of a failed episode.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Evidence {
    /// Reruns.
    pub reruns: Reruns,
    /// Whether pictures were other than what is there: noise, something in the way.
    pub pictures_disturbed: bool,
    /// Mean cosine between what was decided and what the expert does in the same state; 1 for both standing still.
    pub agreement: f64,
    /// Share of its steps whose measurements lie outside the range of the training data; none where that is not known.
    pub outside_training: Option<f64>,
}

/// The label of a failed episode, with the rule that gave it.
pub fn judge(evidence: &Evidence) -> FailureRecord {
    let Evidence { reruns, pictures_disturbed, agreement, outside_training } = *evidence;
    let saved = |rerun: Option<bool>| rerun == Some(true);
    let outside = outside_training.unwrap_or(0.0);
    let undisturbed_fails = reruns.undisturbed != Some(true);
    let rules: [(bool, Label, &str); 9] = [
        (
            reruns.expert == Some(false),
            Label::Evaluation,
            "the expert fails as well from this start within this horizon, though nothing is disturbed",
        ),
        (saved(reruns.without_delay), Label::Timing, "it succeeds without delays"),
        (
            saved(reruns.true_observation) && pictures_disturbed,
            Label::Perception,
            "it succeeds if its pictures show what is there",
        ),
        (saved(reruns.true_observation), Label::StateEstimation, "it succeeds if it sees what is there"),
        (
            saved(reruns.faithful_actions),
            Label::Control,
            "it succeeds if actions are executed as decided and bodies move as usual",
        ),
        (
            saved(reruns.ordinary_start),
            Label::DataCoverage,
            "it succeeds from the ordinary start of its seed",
        ),
        (
            outside >= OUTSIDE,
            Label::DataCoverage,
            "a tenth of its steps or more lie outside the range of the training data",
        ),
        (
            saved(reruns.replanning),
            Label::Timing,
            "it succeeds with a new chunk at every step: chunks are executed for too long",
        ),
        (
            undisturbed_fails && agreement < AGREEMENT,
            Label::Planning,
            "it fails though nothing is disturbed, and its decisions do not agree with the expert's",
        ),
    ];
    let found = rules.into_iter().find(|(holds, ..)| *holds);
    let (label, rule) = found.map_or((Label::Unlabelled, "no rule holds"), |(_, label, rule)| (label, rule));
    let mut seen = Map::new();
    seen.insert("agreement".to_owned(), json!(agreement));
    seen.insert("outside_training".to_owned(), json!(outside_training));
    FailureRecord { label, rule: rule.to_owned(), reruns: reruns.to_json(), evidence: seen }
}

impl Reruns {
    /// Those that were made, by name: whether they succeeded.
    fn to_json(self) -> Map<String, Value> {
        let all = [
            ("expert", self.expert),
            ("without_delay", self.without_delay),
            ("true_observation", self.true_observation),
            ("expert_seeing", self.expert_seeing),
            ("faithful_actions", self.faithful_actions),
            ("ordinary_start", self.ordinary_start),
            ("replanning", self.replanning),
            ("undisturbed", self.undisturbed),
        ];
        all.into_iter().filter_map(|(name, saved)| Some((name.to_owned(), json!(saved?)))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A policy that decides as the expert does, nothing disturbed, and fails all the same.
    const PLAIN: Evidence = Evidence {
        reruns: Reruns {
            expert: Some(true),
            without_delay: None,
            true_observation: None,
            expert_seeing: None,
            faithful_actions: None,
            ordinary_start: None,
            replanning: Some(false),
            undisturbed: None,
        },
        pictures_disturbed: false,
        agreement: 0.9,
        outside_training: None,
    };

    fn label(change: impl FnOnce(&mut Evidence)) -> Label {
        let mut evidence = PLAIN;
        change(&mut evidence);
        judge(&evidence).label
    }

    #[test]
    fn every_rule_gives_its_label() {
        assert_eq!(label(|_| ()), Label::Unlabelled);
        assert_eq!(label(|e| e.agreement = 0.3), Label::Planning);
        assert_eq!(label(|e| e.reruns.replanning = Some(true)), Label::Timing);
        assert_eq!(label(|e| e.outside_training = Some(0.1)), Label::DataCoverage);
        assert_eq!(label(|e| e.reruns.ordinary_start = Some(true)), Label::DataCoverage);
        assert_eq!(label(|e| e.reruns.faithful_actions = Some(true)), Label::Control);
        assert_eq!(label(|e| e.reruns.true_observation = Some(true)), Label::StateEstimation);
        let picture = |e: &mut Evidence| {
            e.reruns.true_observation = Some(true);
            e.pictures_disturbed = true;
        };
        assert_eq!(label(picture), Label::Perception);
        assert_eq!(label(|e| e.reruns.without_delay = Some(true)), Label::Timing);
        assert_eq!(label(|e| e.reruns.expert = Some(false)), Label::Evaluation);
    }

    #[test]
    fn an_earlier_rule_goes_before_a_later_one_and_none_blames_a_policy_for_what_disturbed_it() {
        let all = |e: &mut Evidence| {
            e.reruns.expert = Some(false);
            e.reruns.without_delay = Some(true);
            e.agreement = 0.0;
        };
        assert_eq!(label(all), Label::Evaluation);
        // Each disturbance alone is too much: it is not the plan that failed.
        let several = |e: &mut Evidence| {
            e.reruns.undisturbed = Some(true);
            e.reruns.without_delay = Some(false);
            e.reruns.true_observation = Some(false);
            e.agreement = 0.0;
        };
        assert_eq!(label(several), Label::Unlabelled);
    }

    #[test]
    fn a_record_tells_what_the_label_rests_on() {
        let record = judge(&Evidence { agreement: 0.25, ..PLAIN });
        assert_eq!(record.evidence["agreement"], 0.25);
        assert_eq!(record.reruns.keys().collect::<Vec<_>>(), ["expert", "replanning"]);
        assert!(record.rule.contains("do not agree"));
    }

    #[test]
    fn labels_are_found_by_name() {
        for label in Label::ALL {
            assert_eq!(Label::named(label.name()), Ok(label));
            assert_eq!(serde_json::to_value(label).expect("a name"), label.name());
        }
        assert_eq!(Label::named("data coverage"), Ok(Label::DataCoverage));
        assert!(Label::named("luck").expect_err("no label").to_string().contains("known are perception"));
    }
}
