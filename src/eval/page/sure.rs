//! How sure it is: success and metrics with their intervals, and success over steps.

use std::collections::BTreeMap;

use super::charts::{Curve, curves, strip};
use super::html::{Markup, figures, number, spoken, tag, tag_with};
use crate::eval::Estimate;
use crate::eval::artifact::Artifact;
use crate::eval::compare::Summarised;
use crate::eval::evaluate::YES_OR_NO;
use crate::eval::intervals::wilson;

/// The section.
pub fn section(artifact: &Artifact, summary: &Summarised) -> Markup {
    let solved = artifact.episodes.iter().filter(|episode| episode.succeeded()).count();
    let (n, Estimate { value, low, high }) = (artifact.episodes.len(), summary.wilson);
    let hero = tag_with(
        "p",
        &[("class", "hero")],
        [
            tag("strong", percent(value)),
            tag(
                "span",
                format!(
                    " of episodes succeeded: {solved} of {n}, 95 % interval {} to {}",
                    percent(low),
                    percent(high)
                ),
            ),
        ],
    );
    let shares = [
        ("success (Wilson)", &summary.wilson, "Wilson's score interval"),
        ("success (Jeffreys)", &summary.jeffreys, "Jeffreys' interval, of Beta(½, ½)"),
    ];
    let outcomes: Vec<f64> = artifact.episodes.iter().map(|e| f64::from(u8::from(e.succeeded()))).collect();
    let mut rows: Vec<Vec<Markup>> =
        shares.iter().map(|(name, estimate, how)| cells(name, estimate, &outcomes, how)).collect();
    for (name, estimate) in &summary.metrics {
        let values = artifact.values(name).unwrap_or_default();
        let shares = YES_OR_NO.contains(&name.as_str());
        let how = if shares { "Wilson's score interval" } else { "bootstrap, 10,000 resamples" };
        rows.push(cells(&spoken(name), estimate, &values, how));
    }
    let metrics = figures(
        "Means over episodes with 95 % intervals; a tick is an episode, the dot the mean, its line the interval",
        &["metric", "mean", "95 % interval", "episodes", "least", "greatest", "interval by"],
        rows,
    );
    tag("section", [tag("h2", "How sure"), hero, metrics, over_steps(artifact)])
}

/// `87.3 %`.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn cells(name: &str, estimate: &Estimate, values: &[f64], how: &str) -> Vec<Markup> {
    let digits = estimate.digits();
    let Estimate { value, low, high } = estimate;
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let greatest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let texts = [format!("{value:.digits$}"), format!("{low:.digits$} to {high:.digits$}")];
    let mut cells = vec![Markup::from(name)];
    cells.extend(texts.map(Markup::from));
    cells.push(strip(values, estimate));
    cells.extend([number(least), number(greatest), how.to_owned()].map(Markup::from));
    cells
}

/// The share of episodes that are solved within T steps, for T from 0 to the horizon.
pub fn curve(artifact: &Artifact, name: &str) -> Curve {
    let n = artifact.episodes.len();
    let mut ends: BTreeMap<usize, usize> = BTreeMap::from([(0, 0)]);
    for episode in artifact.episodes.iter().filter(|episode| episode.succeeded()) {
        *ends.entry(episode.steps.min(artifact.run.horizon)).or_default() += 1;
    }
    let shares = ends.into_iter().scan(0, |solved, (step, more)| {
        *solved += more;
        Some((step, wilson(*solved, n)))
    });
    Curve { name: name.to_owned(), shares: shares.collect(), end: artifact.run.horizon }
}

/// Whether episodes end when they are solved: else a curve would only jump at its end.
pub fn ends_early(artifact: &Artifact) -> bool {
    artifact.episodes.iter().any(|episode| episode.succeeded() && episode.steps < artifact.run.horizon)
}

fn over_steps(artifact: &Artifact) -> Markup {
    if !ends_early(artifact) {
        return Markup::none();
    }
    let caption = "Episodes solved within so many steps; the band is Wilson's 95 % interval at each step";
    curves(caption, &[curve(artifact, &artifact.run.policy.name)])
}
