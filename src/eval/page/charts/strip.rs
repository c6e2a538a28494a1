//! A metric in a cell of a table: every episode a tick, their mean a dot with its interval.

use super::{Scale, line, unit};
use crate::eval::Estimate;
use crate::eval::page::html::{Markup, tag_with};

/// The strip of a metric `[n]` and its mean; nothing where there is no number.
pub fn strip(values: &[f64], mean: &Estimate) -> Markup {
    const SIZE: [f64; 2] = [180.0, 30.0];
    let ends = [mean.low, mean.high];
    let Some(scale) = Scale::around(values.iter().copied().chain(ends), 4.0, SIZE[0] - 4.0) else {
        return Markup::none();
    };
    let ticks: String =
        values.iter().filter(|v| v.is_finite()).map(|v| format!("M{} 4v14", unit(scale.at(*v)))).collect();
    let dot = [("class", "dot"), ("cx", &*unit(scale.at(mean.value))), ("cy", "24"), ("r", "4")];
    let marks = [
        tag_with("path", &[("class", "episodes"), ("d", &ticks)], ""),
        line("whisker", [scale.at(mean.low), 24.0], [scale.at(mean.high), 24.0]),
        tag_with("circle", &dot, ""),
    ];
    let (low, high) =
        values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(*v), high.max(*v)));
    let words = format!("Episodes from {low:.3} to {high:.3}, mean {mean}");
    let view = format!("0 0 {} {}", SIZE[0], SIZE[1]);
    tag_with("svg", &[("class", "strip"), ("viewBox", &view), ("role", "img"), ("aria-label", &words)], marks)
}
