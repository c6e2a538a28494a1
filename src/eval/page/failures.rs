//! Why episodes failed: labels, the rules that gave them, and what reruns showed.

use std::collections::BTreeMap;

use super::charts::bars;
use super::html::{Markup, spoken, table, tag};
use crate::eval::artifact::{Artifact, EpisodeRecord};
use crate::eval::labels::Label;

const HOW: &str = "A label is given by the first written rule that holds, over what happened and over reruns of the \
same episode with one thing put right; a person may correct it.";

/// The section.
pub fn section(artifact: &Artifact) -> Markup {
    let counts = artifact.failures();
    let failed: usize = counts.iter().map(|(_, count)| count).sum();
    let heading = tag("h2", "Why episodes failed");
    if failed == 0 {
        return tag("section", [heading, tag("p", format!("None of {} did.", artifact.episodes.len()))]);
    }
    let named: Vec<(String, usize)> =
        counts.iter().map(|(label, count)| (spoken(label.name()), *count)).collect();
    let chart = bars(&format!("Failed episodes by label, {failed} of {}", artifact.episodes.len()), &named);
    let rows = counts.iter().map(|(label, count)| {
        let of: Vec<&EpisodeRecord> =
            artifact.episodes.iter().filter(|episode| artifact.label(episode) == Some(*label)).collect();
        let texts = [spoken(label.name()), count.to_string()].map(Markup::from);
        texts.into_iter().chain([rules(artifact, *label, &of), reruns(&of)]).collect()
    });
    let table =
        table("Labels and what they rest on", &["label", "episodes", "rule", "reruns that succeeded"], rows);
    tag("section", [heading, tag("p", HOW), chart, table])
}

/// The rules that gave a label, each with its count where there are several; what a person said stands apart.
fn rules(artifact: &Artifact, label: Label, episodes: &[&EpisodeRecord]) -> Markup {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for episode in episodes {
        let Some(failure) = &episode.failure else { continue };
        let words = match artifact.corrected.get(&episode.episode) {
            Some(_) if failure.label != label => {
                format!("a person says so; the rules said {}: {}", spoken(failure.label.name()), failure.rule)
            }
            Some(_) => format!("a person agrees: {}", failure.rule),
            None => failure.rule.clone(),
        };
        *counts.entry(words).or_default() += 1;
    }
    let several = counts.len() > 1;
    let list = counts
        .into_iter()
        .map(|(words, count)| tag("li", if several { format!("{words} ({count})") } else { words }));
    tag("ul", list.collect::<Markup>())
}

/// How many reruns of each kind succeeded.
fn reruns(episodes: &[&EpisodeRecord]) -> Markup {
    let mut kinds: Vec<(&str, [usize; 2])> = Vec::new();
    for (name, saved) in
        episodes.iter().filter_map(|episode| episode.failure.as_ref()).flat_map(|f| &f.reruns)
    {
        let at = kinds.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
            kinds.push((name, [0, 0]));
            kinds.len() - 1
        });
        kinds[at].1[0] += usize::from(saved.as_bool() == Some(true));
        kinds[at].1[1] += 1;
    }
    let list =
        kinds.into_iter().map(|(name, [saved, of])| tag("li", format!("{}: {saved} of {of}", rerun(name))));
    tag("ul", list.collect::<Markup>())
}

/// What a rerun changed, in words.
pub fn rerun(name: &str) -> String {
    let words = match name {
        "expert" => "the expert acts, nothing disturbed",
        "without_delay" => "without delays",
        "true_observation" => "seeing what is there",
        "expert_seeing" => "an expert acts on what the policy saw",
        "faithful_actions" => "actions executed as decided",
        "ordinary_start" => "from the ordinary start",
        "replanning" => "a new chunk at every step",
        "undisturbed" => "nothing disturbed or delayed",
        other => return spoken(other),
    };
    words.to_owned()
}
