//! Shares over steps: what had happened by then.

use super::{Scale, WIDTH, chart, line, unit, words};
use crate::eval::Estimate;
use crate::eval::page::html::{Markup, tag_with};

/// Lines that differ in colour and dashes; one more looks like the first again.
const LOOKS: usize = 4;

/// A share at steps 0 to T, with its intervals.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// Whose.
    pub name: String,
    /// One for each step.
    pub shares: Vec<Estimate>,
}

/// Curves from 0 to 1 over steps. One alone has the band of its intervals; several have a legend.
pub fn curves(caption: &str, all: &[Curve]) -> Markup {
    const [LEFT, BOTTOM, HEIGHT]: [f64; 3] = [38.0, 190.0, 170.0];
    let steps = all.iter().map(|curve| curve.shares.len().saturating_sub(1)).max().unwrap_or(0).max(1);
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
        for (step, share) in curve.shares.iter().enumerate().rev() {
            let height = unit(y.at(share.low));
            band += &match step + 1 == curve.shares.len() {
                true => format!("V{height}"),
                false => format!("V{height}H{}", unit(x.at(step as f64))),
            };
        }
        marks.push(tag_with("path", &[("class", "band"), ("d", &format!("{band}Z"))], ""));
    }
    let mut told = Vec::new();
    let mut below = BOTTOM + 40.0;
    for (i, curve) in all.iter().enumerate() {
        let class = format!("line look{}", i % LOOKS);
        marks.push(tag_with("path", &[("class", &class), ("d", &steps_of(curve, |share| share.value, x, y))], ""));
        if all.len() > 1 {
            below += 18.0;
            marks.push(line(&class, [LEFT, below - 4.0], [LEFT + 36.0, below - 4.0]));
            marks.push(words("", [LEFT + 44.0, below], &curve.name));
        }
        if let Some(end) = curve.shares.last() {
            told.push(format!("{}: {:.3} after {} steps", curve.name, end.value, curve.shares.len() - 1));
        }
    }
    chart(below + 6.0, &format!("Line chart. {}", told.join("; ")), caption, marks)
}

/// A path that goes up at the steps at which something happened.
fn steps_of(curve: &Curve, of: fn(&Estimate) -> f64, x: Scale, y: Scale) -> String {
    let mut path = String::new();
    let mut last = None;
    for (step, share) in curve.shares.iter().enumerate() {
        let (at, height) = (unit(x.at(step as f64)), unit(y.at(of(share))));
        path += &match &last {
            None => format!("M{at} {height}"),
            Some(before) if *before == height && step + 1 < curve.shares.len() => String::new(),
            Some(_) => format!("H{at}V{height}"),
        };
        last = Some(height);
    }
    path
}
