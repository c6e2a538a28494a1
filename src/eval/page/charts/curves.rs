//! Shares over steps: what had happened by then.

use super::{Scale, WIDTH, chart, line, unit, words};
use crate::eval::Estimate;
use crate::eval::page::html::{Markup, tag_with};

/// Lines that differ in colour and dashes; one more looks like the first again.
const LOOKS: usize = 4;

/// A share over steps, with its intervals.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// Whose.
    pub name: String,
    /// From these steps on it is so much; the first is step 0.
    pub shares: Vec<(usize, Estimate)>,
    /// The last step.
    pub end: usize,
}

/// Curves from 0 to 1 over steps. One alone has the band of its intervals; several have a legend.
pub fn curves(caption: &str, all: &[Curve]) -> Markup {
    const LEFT: f64 = 46.0;
    const BOTTOM: f64 = 190.0;
    const HEIGHT: f64 = 170.0;
    let steps = all.iter().map(|curve| curve.end).max().unwrap_or(0).max(1);
    let x = Scale { low: 0.0, high: steps as f64, from: LEFT, to: WIDTH - 12.0 };
    let y = Scale { low: 0.0, high: 1.0, from: BOTTOM, to: BOTTOM - HEIGHT };
    let mut marks = Vec::new();
    for share in [0.0, 0.25, 0.5, 0.75, 1.0] {
        marks.push(line("grid", [x.from, y.at(share)], [x.to, y.at(share)]));
        marks.push(words("end small", [LEFT - 6.0, y.at(share) + 4.0], &format!("{:.0} %", 100.0 * share)));
    }
    for (step, text) in x.ticks(6.0) {
        marks.push(words("middle small", [x.at(step), BOTTOM + 16.0], &text));
    }
    marks.push(words("middle small", [0.5 * (x.from + x.to), BOTTOM + 32.0], "steps"));
    if let [curve] = all {
        let mut band = steps_of(curve, |share| share.high, x, y);
        // Back along the lower ends.
        for (step, share) in curve.shares.iter().rev() {
            band += &format!("V{}H{}", unit(y.at(share.low)), unit(x.at(*step as f64)));
        }
        marks.push(tag_with("path", &[("class", "band"), ("d", &format!("{band}Z"))], ""));
    }
    let mut told = Vec::new();
    let mut below = BOTTOM + 40.0;
    for (i, curve) in all.iter().enumerate() {
        let class = format!("line look{}", i % LOOKS);
        marks.push(tag_with(
            "path",
            &[("class", &class), ("d", &steps_of(curve, |share| share.value, x, y))],
            "",
        ));
        if all.len() > 1 {
            below += 18.0;
            marks.push(line(&class, [LEFT, below - 4.0], [LEFT + 36.0, below - 4.0]));
            marks.push(words("", [LEFT + 44.0, below], &curve.name));
        }
        if let Some((_, share)) = curve.shares.last() {
            told.push(format!("{}: {:.3} after {} steps", curve.name, share.value, curve.end));
        }
    }
    chart(below + 6.0, &format!("Line chart. {}", told.join("; ")), caption, marks)
}

/// A path that goes up at the steps at which something happened.
fn steps_of(curve: &Curve, of: fn(&Estimate) -> f64, x: Scale, y: Scale) -> String {
    let mut path = String::new();
    for (i, (step, share)) in curve.shares.iter().enumerate() {
        let (at, height) = (unit(x.at(*step as f64)), unit(y.at(of(share))));
        path += &if i == 0 { format!("M{at} {height}") } else { format!("H{at}V{height}") };
    }
    path + &format!("H{}", unit(x.at(curve.end as f64)))
}
