//! What plots of several panels share: axes with chosen ticks, panels, a header with title and legend, marks.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::plot::{Backend, Drawn, FAINT, INK, PAPER, Raised, extent, padded, short, text};

pub(super) type Area<'a> = DrawingArea<Backend<'a>, Shift>;
pub(super) type Panel<'a> = ChartContext<'a, Backend<'a>, Cartesian2d<Axis, Axis>>;

/// One axis of a panel. A range that runs downwards turns the axis around.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    /// Quantity and unit; empty for none.
    pub label: String,
    pub range: Range<f64>,
    /// Where a line of the grid lies, and the number beside it.
    pub ticks: Vec<(f64, String)>,
}

impl Axis {
    /// At most `most` ticks at round numbers: 1, 2 or 5 times a power of ten apart.
    pub fn linear(label: &str, range: Range<f64>, most: usize) -> Self {
        let (low, high) = (range.start.min(range.end), range.start.max(range.end));
        let least = ((high - low) / most.max(1) as f64).max(f64::MIN_POSITIVE);
        let power = 10_f64.powf(least.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| *s >= least);
        let step = step.unwrap_or(10.0 * power);
        let first = (low / step).ceil();
        let ticks = (0..=most).map(|i| (first + i as f64) * step).take_while(|v| *v <= high);
        // Adding nothing turns -0 into 0.
        Self { label: label.to_owned(), ticks: ticks.map(|v| (v + 0.0, short(&(v + 0.0)))).collect(), range }
    }

    /// Equal ratios, equal lengths: positions are log2 of the values, ticks stand at the values themselves;
    /// one that would touch its left neighbour has no number.
    pub fn of_ratios(label: &str, values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        values.dedup();
        let range = padded(extent(values.iter().map(|v| v.log2())).unwrap_or(0.0..0.0));
        let apart = (range.end - range.start) / 20.0;
        let mut last = f64::NEG_INFINITY;
        let number = |value: f64| {
            let place = value.log2();
            let free = place - last >= apart;
            last = if free { place } else { last };
            (place, if free { short(&value) } else { String::new() })
        };
        Self { label: label.to_owned(), ticks: values.into_iter().map(number).collect(), range }
    }

    /// The same grid without label and numbers, for a panel beside one that has them.
    pub fn bare(&self) -> Self {
        let ticks = self.ticks.iter().map(|(place, _)| (*place, String::new())).collect();
        Self { label: String::new(), range: self.range.clone(), ticks }
    }

    fn is_bare(&self) -> bool {
        self.ticks.iter().all(|tick| tick.1.is_empty())
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let share = (value - self.range.start) / (self.range.end - self.range.start);
        limit.0 + (f64::from(limit.1 - limit.0) * share).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        // Lines between the ticks are not asked for.
        if hint.weight().allow_light_points() { Vec::new() } else { self.ticks.iter().map(|t| t.0).collect() }
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, place: &f64) -> String {
        self.ticks.iter().find(|tick| tick.0 == *place).map_or_else(String::new, |tick| tick.1.clone())
    }
}

/// Pixels below a panel for the numbers and the label of its axis.
pub(super) fn below(axis: &Axis) -> u32 {
    match (axis.label.is_empty(), axis.is_bare()) {
        (false, _) => 48,
        (true, false) => 26,
        (true, true) => 4,
    }
}

/// An empty panel with its grid, `left` pixels from the area's left edge.
pub(super) fn panel<'a>(area: &Area<'a>, left: u32, x: &Axis, y: &Axis) -> Raised<Panel<'a>> {
    let mut builder = ChartBuilder::on(area);
    builder.margin(8).margin_right(24);
    builder.x_label_area_size(below(x)).y_label_area_size(left);
    let mut chart = builder.build_cartesian_2d(x.clone(), y.clone())?;
    let mut mesh = chart.configure_mesh();
    mesh.x_desc(&x.label).y_desc(&y.label).axis_desc_style(text(17)).label_style(text(15));
    mesh.set_all_tick_mark_size(5)
        .axis_style(INK)
        .bold_line_style(FAINT)
        .light_line_style(TRANSPARENT)
        .draw()?;
    Ok(chart)
}

/// How a legend shows what it names.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Mark {
    Line(ShapeStyle),
    Dashed,
    /// Where a solver starts.
    Ring(RGBColor),
    /// Where it ends.
    Disc(RGBColor),
}

/// Dashes and the gaps between them, in pixels.
const DASHES: (u32, u32) = (7, 5);
const RADIUS: u32 = 6;

impl Mark {
    /// Around a pixel of the area, 22 pixels wide.
    pub fn draw(self, area: &Area<'_>, (x, y): (i32, i32)) -> Drawn {
        let ends = [(x - 11, y), (x + 11, y)];
        match self {
            Mark::Line(style) => area.draw(&PathElement::new(ends, style))?,
            Mark::Dashed => area.draw(&DashedPathElement::new(ends, DASHES.0, DASHES.1, edge()))?,
            Mark::Ring(colour) => {
                area.draw(&Circle::new((x, y), RADIUS, colour.filled()))?;
                area.draw(&Circle::new((x, y), RADIUS - 2, PAPER.filled()))?;
            }
            Mark::Disc(colour) => area.draw(&Circle::new((x, y), RADIUS, colour.filled()))?,
        }
        Ok(())
    }
}

/// The line of bounds, limits and references.
pub(super) fn edge() -> ShapeStyle {
    INK.mix(0.6).stroke_width(2)
}

/// A dashed line between two points: a limit, a target, an expert to compare with.
pub(super) fn dashed(panel: &mut Panel<'_>, from: (f64, f64), to: (f64, f64)) -> Drawn {
    panel.draw_series(DashedLineSeries::new([from, to], DASHES.0, DASHES.1, edge()))?;
    Ok(())
}

/// Title and legend, centred above; returns the area below them.
pub(super) fn header<'a>(root: &Area<'a>, title: &str, legend: &[(String, Mark)]) -> Raised<Area<'a>> {
    const LINE: i32 = 24;
    let width = root.dim_in_pixel().0 as i32;
    let extent_of = |words: &str, size| root.estimate_text_size(words, &text(size)).map(|s| s.0 as i32);
    let mut size = 22;
    while size > 10 && extent_of(title, size)? > width - 24 {
        size -= 1;
    }
    let centred = text(size).pos(Pos::new(HPos::Center, VPos::Center));
    root.draw(&Text::new(title, (width / 2, 26), centred))?;

    // An entry is a mark, its name and the space to the next one; lines are filled from the left.
    let mut lines: Vec<(i32, Vec<(i32, usize)>)> = vec![(0, Vec::new())];
    for (index, (name, _)) in legend.iter().enumerate() {
        let wide = 30 + extent_of(name, 16)? + 26;
        if let Some((used, entries)) = lines.last_mut().filter(|l| l.1.is_empty() || l.0 + wide < width) {
            entries.push((*used, index));
            *used += wide;
        } else {
            lines.push((wide, vec![(0, index)]));
        }
    }
    let mut y = 56;
    for (used, entries) in lines.iter().filter(|line| !line.1.is_empty()) {
        let left = (width - (used - 26)) / 2;
        for (offset, index) in entries {
            let (name, mark) = &legend[*index];
            // The font's middle lies above that of its line.
            mark.draw(root, (left + offset + 11, y - 2))?;
            let style = text(16).pos(Pos::new(HPos::Left, VPos::Center));
            root.draw(&Text::new(name.as_str(), (left + offset + 30, y), style))?;
        }
        y += LINE;
    }
    Ok(root.split_vertically(y - 8).1)
}

/// Writes a name over the middle of a panel; the header leaves room if the panel's area has a margin of 24.
pub(super) fn name_above(root: &Area<'_>, panel: &Panel<'_>, name: &str) -> Drawn {
    let (xs, ys) = panel.plotting_area().get_pixel_range();
    let style = text(17).pos(Pos::new(HPos::Center, VPos::Bottom));
    root.draw(&Text::new(name.to_owned(), ((xs.start + xs.end) / 2, ys.start - 5), style))?;
    Ok(())
}

/// Width and height of one pixel in the panel's own units.
pub(super) fn pixel(panel: &Panel<'_>) -> (f64, f64) {
    let area = panel.plotting_area();
    let (width, height) = area.dim_in_pixel();
    let (xs, ys) = (area.get_x_range(), area.get_y_range());
    ((xs.end - xs.start) / f64::from(width.max(1)), (ys.end - ys.start) / f64::from(height.max(1)))
}

/// The longest stretches of points that are all kept: lines have gaps where something is missing.
pub(super) fn stretches(
    points: impl Iterator<Item = (f64, f64)>,
    keep: impl Fn(&(f64, f64)) -> bool,
) -> Vec<Vec<(f64, f64)>> {
    let mut lines = vec![Vec::new()];
    for point in points {
        if !keep(&point) {
            lines.push(Vec::new());
        } else if let Some(line) = lines.last_mut() {
            line.push(point);
        }
    }
    lines.retain(|line| !line.is_empty());
    lines
}

/// A colour between evenly spaced stops; `place` 0 is the first, 1 the last.
pub(super) fn between(stops: &[[u8; 3]], place: f64) -> RGBColor {
    let place = place.clamp(0.0, 1.0) * (stops.len() - 1) as f64;
    let from = (place as usize).min(stops.len().saturating_sub(2));
    let (a, b) = (stops[from], stops[(from + 1).min(stops.len() - 1)]);
    let mix = |c: usize| {
        (f64::from(a[c]) + (f64::from(b[c]) - f64::from(a[c])) * (place - from as f64)).round() as u8
    };
    RGBColor(mix(0), mix(1), mix(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|tick| tick.1.as_str()).collect()
    }

    #[test]
    fn ticks_stand_at_round_numbers() {
        assert_eq!(numbers(&Axis::linear("x", -2.2..2.2, 5)), ["-2", "-1", "0", "1", "2"]);
        assert_eq!(numbers(&Axis::linear("x", 1.0..0.0, 6)), ["0", "0.2", "0.4", "0.6", "0.8", "1"]);
        assert_eq!(numbers(&Axis::linear("x", -1600.0..-100.0, 4)), ["-1500", "-1000", "-500"]);
        for range in [0.0..0.0, 5e-324..1e-320, -3e38..3e38, 1e15..1e15 + 0.5] {
            assert!(Axis::linear("extreme", range, 6).ticks.len() <= 7);
        }
    }

    #[test]
    fn an_axis_of_ratios_has_its_ticks_at_the_values() {
        let axis = Axis::of_ratios("n", [8.0, 1.0, 2.0, 1.0].into_iter());
        assert_eq!(axis.ticks, [(0.0, "1".to_owned()), (1.0, "2".to_owned()), (3.0, "8".to_owned())]);
        assert_eq!(numbers(&Axis::of_ratios("n", [1.0, 64.0, 65.0].into_iter())), ["1", "64", ""]);
    }

    #[test]
    fn lines_have_gaps_where_points_are_missing() {
        let points = [(0.0, 1.0), (1.0, 2.0), (2.0, f64::NAN), (3.0, 4.0)];
        let lines = stretches(points.into_iter(), |p| p.1.is_finite());
        assert_eq!(lines, [vec![(0.0, 1.0), (1.0, 2.0)], vec![(3.0, 4.0)]]);
    }
}
