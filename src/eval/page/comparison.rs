//! Several evaluations beside one another; what is of other episodes than the first is shown and not compared.

use super::charts::{curves, whiskers};
use super::html::{Markup, figures, spoken, tag, tag_with};
use super::sure::{curve, ends_early};
use crate::Result;
use crate::eval::artifact::Artifact;
use crate::eval::compare::{Pair, Summarised, compare, corrected};
use crate::eval::{Estimate, headline};

const HOW: &str = "Episodes are paired by reset. A winner is named only where the interval of the difference leaves \
zero out; p values are corrected (Holm) for all comparisons of this page.";

/// The section.
///
/// # Errors
/// If episodes that were to be paired hold no numbers.
pub fn section(artifacts: &[Artifact], names: &[String], rows: &[Summarised]) -> Result<Markup> {
    let Some((first, others)) = artifacts.split_first() else { return Ok(Markup::none()) };
    let (mut pairs, mut refused) = (Vec::new(), Vec::new());
    // Which of the evaluations can stand in a chart with the first.
    let mut alike = vec![0];
    for (i, other) in others.iter().enumerate().map(|(i, other)| (i + 1, other)) {
        let fields = first.run.incomparable(&other.run);
        if fields.is_empty() {
            alike.push(i);
            let renamed = |pair| Pair { ours: names[i].clone(), theirs: names[0].clone(), ..pair };
            pairs.extend(compare(other, first)?.into_iter().map(renamed));
        } else {
            let fields = fields.join(", ");
            refused.push(format!("{} is not compared with {}: they differ in {fields}", names[i], names[0]));
        }
    }
    let pairs = corrected(pairs);
    let metric = headline(&first.run.contract.environment)[0];
    let mut said = vec![tag("h2", "Side by side"), overview(names, rows, &pairs, metric)];
    let item = |text: String| tag("li", format!("{text}."));
    said.extend(refused.into_iter().map(|text| tag_with("p", &[("class", "warning")], format!("{text}."))));
    if !pairs.is_empty() {
        said.push(tag("ul", pairs.iter().map(|pair| item(pair.in_words())).collect::<Markup>()));
        said.push(tag("p", HOW));
    }
    let estimates = |of: &dyn Fn(&Summarised) -> Option<Estimate>| -> Vec<(String, Estimate)> {
        alike.iter().filter_map(|&i| Some((names[i].clone(), of(&rows[i])?))).collect()
    };
    let mut charts =
        vec![whiskers("Share of successes, Wilson's 95 % intervals", &estimates(&|row| Some(row.wilson)))];
    let caption = format!("Mean {}, bootstrapped 95 % intervals", spoken(metric));
    charts.push(whiskers(&caption, &estimates(&|row| row.metric(metric))));
    if alike.iter().any(|&i| ends_early(&artifacts[i])) {
        let all: Vec<_> = alike.iter().map(|&i| curve(&artifacts[i], &names[i])).collect();
        charts.push(curves("Episodes solved within so many steps", &all));
    }
    said.push(tag_with("div", &[("class", "charts")], charts));
    Ok(tag("section", said))
}

/// A row for each evaluation.
fn overview(names: &[String], rows: &[Summarised], pairs: &[Pair], metric: &str) -> Markup {
    let difference = |name: &str, of: &str| {
        let pair = pairs.iter().find(|pair| pair.ours == name && pair.metric == of);
        pair.map_or_else(|| "–".to_owned(), |pair| pair.comparison.difference.to_string())
    };
    let cells = names.iter().zip(rows).enumerate().map(|(i, (name, row))| {
        let link = tag_with("a", &[("href", &*format!("#evaluation-{}", i + 1))], name.as_str());
        let Estimate { low, high, .. } = row.jeffreys;
        let value = row.metric(metric).map_or_else(|| "–".to_owned(), |estimate| estimate.to_string());
        let texts = [
            row.wilson.to_string(),
            format!("{low:.3} to {high:.3}"),
            value,
            difference(name, "success"),
            difference(name, metric),
        ];
        [link].into_iter().chain(texts.map(Markup::from)).collect()
    });
    let spoken = spoken(metric);
    let less = format!("{spoken} less the first's");
    figures(
        "Means with 95 % intervals; differences are to the first, over the same episodes",
        &["evaluation", "success (Wilson)", "Jeffreys", &spoken, "success less the first's", &less],
        cells,
    )
}
