//! Evaluations side by side: a dot and its interval each.

use super::{Scale, WIDTH, chart, line, unit, words};
use crate::eval::Estimate;
use crate::eval::page::html::{Markup, tag_with};

/// A row for each name on one axis, its number beside it; nothing where there is no number.
pub fn whiskers(caption: &str, rows: &[(String, Estimate)]) -> Markup {
    const ROW: f64 = 40.0;
    const MARGIN: f64 = 12.0;
    let numbers = rows.iter().flat_map(|(_, estimate)| [estimate.low, estimate.high]);
    let Some(scale) = Scale::around(numbers, MARGIN, WIDTH - MARGIN) else { return Markup::none() };
    let bottom = rows.len() as f64 * ROW + 6.0;
    let mut marks = Vec::new();
    for (value, text) in scale.ticks(5.0) {
        let x = scale.at(value);
        marks.push(line("grid", [x, 0.0], [x, bottom]));
        marks.push(words("middle small", [x, bottom + 16.0], &text));
    }
    for (i, (name, estimate)) in rows.iter().enumerate() {
        let top = i as f64 * ROW;
        let y = top + 29.0;
        let dot = [("class", "dot"), ("cx", &*unit(scale.at(estimate.value))), ("cy", &unit(y)), ("r", "5")];
        marks.push(words("halo", [MARGIN, top + 16.0], &short(name)));
        marks.push(words("halo end number", [WIDTH - MARGIN, top + 16.0], &estimate.to_string()));
        marks.push(line("whisker", [scale.at(estimate.low), y], [scale.at(estimate.high), y]));
        for end in [estimate.low, estimate.high] {
            marks.push(line("whisker", [scale.at(end), y - 5.0], [scale.at(end), y + 5.0]));
        }
        marks.push(tag_with("circle", &dot, ""));
    }
    let told: Vec<String> = rows.iter().map(|(name, estimate)| format!("{name} {estimate}")).collect();
    chart(bottom + 24.0, &format!("Dots with 95 % intervals. {}", told.join("; ")), caption, marks)
}

/// The end of a long name, which is where names differ.
fn short(name: &str) -> String {
    const MOST: usize = 24;
    let count = name.chars().count();
    if count <= MOST {
        return name.to_owned();
    }
    format!("…{}", name.chars().skip(count + 1 - MOST).collect::<String>())
}
