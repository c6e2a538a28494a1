//! Charts as inline SVG. Colours are the page's variables, so that they follow its light and dark; widths are small and
//! letters large, so that a phone shows them unscaled. Every chart says in words what it shows.

mod bars;
mod curves;
mod strip;
mod whiskers;

pub use bars::bars;
pub use curves::{Curve, curves};
pub use strip::strip;
pub use whiskers::whiskers;

use super::html::{Markup, tag, tag_with};

/// A chart's width in its own units, which are pixels on a phone.
const WIDTH: f64 = 400.0;

/// A chart of that height, with the words that stand for it, and a caption.
fn chart(height: f64, words: &str, caption: &str, marks: Vec<Markup>) -> Markup {
    let svg = [("viewBox", &*format!("0 0 {WIDTH} {height}")), ("role", "img"), ("aria-label", words)];
    let caption = tag("figcaption", caption);
    tag_with("figure", &[("class", "chart")], [tag_with("svg", &svg, marks), caption])
}

/// A straight line of a class.
fn line(class: &str, [x1, y1]: [f64; 2], [x2, y2]: [f64; 2]) -> Markup {
    let path = format!("M{} {}L{} {}", unit(x1), unit(y1), unit(x2), unit(y2));
    tag_with("path", &[("class", class), ("d", &path)], "")
}

/// Words at a place; class `end` ends there, `middle` is centred.
fn words(class: &str, [x, y]: [f64; 2], text: &str) -> Markup {
    tag_with("text", &[("class", class), ("x", &unit(x)), ("y", &unit(y))], text)
}

/// A coordinate to a tenth of a pixel.
fn unit(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

/// Values from `low` to `high` on pixels from `from` to `to`.
#[derive(Debug, Clone, Copy)]
struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Scale {
    /// A scale that holds all finite values, with some room; none for no values.
    fn around(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Option<Self> {
        let (low, high) = values
            .filter(|value| value.is_finite())
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        let room = if high > low { 0.04 * (high - low) } else { 0.05 * low.abs().max(1.0) };
        (low <= high).then_some(Self { low: low - room, high: high + room, from, to })
    }

    fn at(&self, value: f64) -> f64 {
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    /// Round values on it, about `wanted` of them, with their decimals.
    fn ticks(&self, wanted: f64) -> Vec<(f64, String)> {
        let rough = (self.high - self.low) / wanted;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
        let step = step.into_iter().find(|step| *step >= rough).unwrap_or(rough);
        let digits = (-step.log10().floor()).clamp(0.0, 6.0) as usize;
        let (first, last) = ((self.low / step).ceil() as i64, (self.high / step).floor() as i64);
        let tick = |i: i64| (i as f64 * step, format!("{:.digits$}", i as f64 * step));
        (first..=last).map(tick).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_numbers_within_the_scale() {
        let ticks = |low, high| -> Vec<String> {
            let scale = Scale { low, high, from: 0.0, to: 1.0 };
            scale.ticks(4.0).into_iter().map(|(_, text)| text).collect()
        };
        assert_eq!(ticks(0.0, 1.0), ["0.0", "0.5", "1.0"]);
        assert_eq!(ticks(-163.0, -121.0), ["-160", "-140"]);
        assert_eq!(ticks(0.0, 100.0), ["0", "50", "100"]);
        assert_eq!(ticks(0.012, 0.031), ["0.015", "0.020", "0.025", "0.030"]);
    }

    #[test]
    fn one_value_has_a_scale_and_none_has_not() {
        let scale = Scale::around([3.0, f64::NAN].into_iter(), 0.0, 100.0).expect("a value");
        assert!((scale.at(3.0) - 50.0).abs() < 1e-9);
        assert!(Scale::around([f64::NAN].into_iter(), 0.0, 1.0).is_none());
    }
}
