//! The worst episodes: those that were filmed as videos, all in a table, the worst first.

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::failures::rerun;
use super::html::{Markup, figures, number, spoken, tag, tag_with};
use crate::eval::artifact::{Artifact, EpisodeRecord, Outcome, Termination, files, worst_first};
use crate::{Error, Result};

/// Rows of the table that are seen at once where there are no videos.
const SEEN: usize = 6;

/// The section.
///
/// # Errors
/// If a video is there and cannot be read.
pub fn section(artifact: &Artifact) -> Result<Markup> {
    let worst = worst_first(&artifact.episodes);
    let mut videos = Vec::new();
    let (mut filmed, mut others) = (Vec::new(), Vec::new());
    for episode in worst {
        match video(artifact, episode)? {
            Some(bytes) => {
                videos.push(figure(artifact, episode, &bytes));
                filmed.push(episode);
            }
            None => others.push(episode),
        }
    }
    let mut said = vec![tag("h2", "The worst episodes")];
    if videos.is_empty() {
        let rest = others.split_off(SEEN.min(others.len()));
        filmed = std::mem::replace(&mut others, rest);
    } else {
        said.push(tag_with("div", &[("class", "videos")], videos));
    }
    said.push(rows(artifact, "Those that failed first, then by return", &filmed));
    if !others.is_empty() {
        let summary = tag("summary", format!("The other {} episodes", others.len()));
        said.push(tag("details", [summary, rows(artifact, "All other episodes, the worst first", &others)]));
    }
    Ok(tag("section", said))
}

/// An episode's video; none where there is none.
fn video(artifact: &Artifact, episode: &EpisodeRecord) -> Result<Option<Vec<u8>>> {
    let path = artifact.folder.join(files::VIDEOS).join(format!("eval_episode_{}.mp4", episode.episode));
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::input(format!("{}: cannot be read: {e}", path.display()))),
    }
}

fn figure(artifact: &Artifact, episode: &EpisodeRecord, video: &[u8]) -> Markup {
    let title = format!("Episode {}, seed {}", episode.episode, episode.seed);
    let source = format!("data:video/mp4;base64,{}", BASE64.encode(video));
    let attributes = [
        ("controls", ""),
        ("muted", ""),
        ("playsinline", ""),
        ("preload", "metadata"),
        ("aria-label", &*title),
        ("src", &source),
    ];
    let why = match (&episode.failure, artifact.label(episode)) {
        (Some(_), Some(label)) if artifact.corrected.contains_key(&episode.episode) => {
            format!("failed, {}: a person says so", spoken(label.name()))
        }
        (Some(failure), Some(label)) => format!("failed, {}: {}", spoken(label.name()), failure.rule),
        _ => outcome(episode).to_owned(),
    };
    let unplayable =
        tag_with("span", &[("class", "unplayable"), ("hidden", "")], " This browser cannot play it.");
    let caption = [
        tag("strong", title.as_str()),
        tag("span", format!(" {why} ({} steps).", episode.steps)),
        unplayable,
    ];
    tag("figure", [tag_with("video", &attributes, ""), tag("figcaption", caption)])
}

fn outcome(episode: &EpisodeRecord) -> &'static str {
    match episode.outcome {
        Outcome::Success => "succeeded",
        Outcome::Failure => "failed",
    }
}

/// A table of these episodes.
fn rows(artifact: &Artifact, caption: &str, episodes: &[&EpisodeRecord]) -> Markup {
    let mut metrics: Vec<&str> = Vec::new();
    for name in artifact.episodes.iter().flat_map(|episode| episode.metrics.keys()) {
        if !metrics.contains(&name.as_str()) {
            metrics.push(name);
        }
    }
    // What other columns say already.
    metrics.retain(|name| !["return", "completed", "steps"].contains(name));
    let named: Vec<String> = metrics.iter().map(|name| spoken(name)).collect();
    let mut head = vec!["episode", "seed", "outcome", "label", "ended by", "steps", "return"];
    head.extend(named.iter().map(String::as_str));
    head.extend(["distance at the start", "reruns"]);
    let cells = episodes.iter().map(|episode| {
        let ended = match episode.termination {
            Termination::Task => "task",
            Termination::Horizon => "horizon",
        };
        let mut cells: Vec<Markup> =
            [episode.episode.to_string(), episode.seed.to_string(), outcome(episode).to_owned()]
                .map(Markup::from)
                .to_vec();
        cells.push(label(artifact, episode));
        cells.extend(
            [ended.to_owned(), episode.steps.to_string(), number(episode.sum_reward)].map(Markup::from),
        );
        let metric = |name: &&str| episode.metric(name).map_or_else(|| "–".to_owned(), number).into();
        cells.extend(metrics.iter().map(metric));
        cells.push(number(episode.initial_distance).into());
        cells.push(reruns(episode));
        cells
    });
    figures(caption, &head, cells)
}

/// Why it failed, and whether a person said so.
fn label(artifact: &Artifact, episode: &EpisodeRecord) -> Markup {
    let Some(label) = artifact.label(episode) else { return "–".into() };
    let name = Markup::from(spoken(label.name()));
    match (artifact.corrected.get(&episode.episode), &episode.failure) {
        (Some(_), Some(failure)) => {
            let found = spoken(failure.label.name());
            [name, tag_with("em", &[("class", "person")], format!(" a person's; the rules said {found}"))]
                .into()
        }
        _ => name,
    }
}

/// Which reruns succeeded and which failed.
fn reruns(episode: &EpisodeRecord) -> Markup {
    let Some(failure) = &episode.failure else { return "–".into() };
    let told = |wanted: bool| {
        let names = failure.reruns.iter().filter(|(_, saved)| saved.as_bool() == Some(wanted));
        names.map(|(name, _)| rerun(name)).collect::<Vec<_>>().join("; ")
    };
    let parts = [("succeeds: ", told(true)), ("fails: ", told(false))];
    let parts = parts.into_iter().filter(|(_, names)| !names.is_empty());
    tag("ul", parts.map(|(how, names)| tag("li", format!("{how}{names}"))).collect::<Markup>())
}
