//! How often each thing happened.

use super::{WIDTH, chart, unit, words};
use crate::eval::page::html::{Markup, tag_with};

/// A bar for each name, as long as its count.
pub fn bars(caption: &str, counts: &[(String, usize)]) -> Markup {
    const ROW: f64 = 28.0;
    const NAMES: f64 = 122.0;
    let most = counts.iter().map(|(_, count)| *count).max().unwrap_or(0).max(1) as f64;
    let mut marks = Vec::new();
    for (i, (name, count)) in counts.iter().enumerate() {
        let top = i as f64 * ROW;
        let width = *count as f64 / most * (WIDTH - NAMES - 40.0);
        let bar = [
            ("class", "bar"),
            ("x", &*unit(NAMES)),
            ("y", &unit(top + 5.0)),
            ("width", &unit(width.max(1.0))),
            ("height", "18"),
        ];
        marks.push(words("end", [NAMES - 8.0, top + 19.0], name));
        marks.push(tag_with("rect", &bar, ""));
        marks.push(words("number", [NAMES + width + 6.0, top + 19.0], &count.to_string()));
    }
    let told: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
    let told = format!("Bar chart. {}", told.join(", "));
    chart(counts.len() as f64 * ROW + 4.0, &told, caption, marks)
}
