//! Plots of curves over steps, and what every plot shares: colours, font, canvas.

use std::ops::Range;
use std::sync::OnceLock;

use plotters::coord::Shift;
use plotters::coord::ranged1d::ValueFormatter;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

use crate::image::Image;
use crate::{Error, Result};

pub(super) const PAPER: RGBColor = RGBColor(250, 250, 248);
pub(super) const INK: RGBColor = RGBColor(40, 40, 40);
pub(super) const FAINT: RGBColor = RGBColor(225, 225, 222);
/// Nothing a training in f32 produces lies beyond; an axis finds its ticks up to here.
const LARGEST: f64 = 1e38;
/// Okabe and Ito's colours, told apart by colour-blind readers.
pub(super) const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(110, 110, 110),
];

/// A named curve.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its line in the legend.
    pub name: String,
    /// (x, y) from left to right; points that are not finite, or beyond 1e38, are left out.
    pub points: Vec<(f64, f64)>,
}

/// Scale of the vertical axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Equal differences, equal lengths.
    Linear,
    /// Equal ratios, equal lengths, where values differ by a factor of five; points below 1e-38 are left out.
    Log,
}

/// Curves over a common axis, 900 x 540 pixels: a training's losses, say.
///
/// # Errors
/// If no series has a point that can be shown.
pub fn curves(title: &str, x_label: &str, y_label: &str, scale: Scale, series: &[Series]) -> Result<Image> {
    let least = if scale == Scale::Log { 1.0 / LARGEST } else { -LARGEST };
    let fits = |&(x, y): &(f64, f64)| shown(x) && (least..=LARGEST).contains(&y);
    let kept: Vec<(&str, Vec<(f64, f64)>)> = series
        .iter()
        .map(|s| (s.name.as_str(), s.points.iter().copied().filter(fits).collect()))
        .filter(|(_, points): &(_, Vec<_>)| !points.is_empty())
        .collect();
    let points = || kept.iter().flat_map(|(_, points)| points);
    let (Some(xs), Some(ys)) = (extent(points().map(|p| p.0)), extent(points().map(|p| p.1))) else {
        return Err(refusal(title, "no point can be shown"));
    };
    // Below a ratio of five a logarithmic axis finds hardly a tick, and looks like a linear one anyway.
    let scale = if ys.end < 5.0 * ys.start { Scale::Linear } else { scale };
    // A margin in the scale's own measure keeps curves off the frame.
    let ys = match scale {
        Scale::Linear => padded(ys),
        Scale::Log => {
            let exponents = padded(ys.start.log10()..ys.end.log10());
            10_f64.powf(exponents.start)..10_f64.powf(exponents.end)
        }
    };
    let xs = if xs.end - xs.start > xs.start.abs() * 1e-6 { xs } else { padded(xs) };
    canvas(900, 540, |root| {
        let mut builder = ChartBuilder::on(root);
        builder.caption(title, text(22)).margin(16).margin_right(28);
        builder.x_label_area_size(48).y_label_area_size(76);
        let corner = SeriesLabelPosition::UpperRight;
        match scale {
            Scale::Linear => {
                draw_curves(&mut builder.build_cartesian_2d(xs, ys)?, x_label, y_label, &short, &kept, corner)
            }
            Scale::Log => {
                let ys = ys.log_scale();
                draw_curves(&mut builder.build_cartesian_2d(xs, ys)?, x_label, y_label, &short, &kept, corner)
            }
        }
    })
}

/// Curves over a common axis, both axes of equal ratios, 900 x 540 pixels: power laws are straight lines. Points are
/// circles, so that one sees what was measured.
///
/// # Errors
/// If no series has a point that can be shown.
pub fn log_curves(title: &str, x_label: &str, y_label: &str, series: &[Series]) -> Result<Image> {
    let range = 1.0 / LARGEST..=LARGEST;
    let fits = |(x, y): &(f64, f64)| range.contains(x) && range.contains(y);
    let kept: Vec<(&str, Vec<(f64, f64)>)> = series
        .iter()
        .map(|s| (s.name.as_str(), s.points.iter().copied().filter(fits).collect()))
        .filter(|(_, points): &(_, Vec<_>)| !points.is_empty())
        .collect();
    let points = || kept.iter().flat_map(|(_, points)| points);
    let (Some(xs), Some(ys)) = (extent(points().map(|p| p.0)), extent(points().map(|p| p.1))) else {
        return Err(refusal(title, "no point can be shown"));
    };
    // From one power of ten to another: between them an axis may find no tick.
    let [xs, ys] = [xs, ys].map(|range| {
        let (start, end) = (range.start.log10().floor(), range.end.log10().ceil());
        10_f64.powf(start)..10_f64.powf(end.max(start + 1.0))
    });
    canvas(900, 540, |root| {
        let mut builder = ChartBuilder::on(root);
        builder.caption(title, text(22)).margin(16).margin_right(28);
        builder.x_label_area_size(48).y_label_area_size(76);
        let mut chart = builder.build_cartesian_2d(xs.log_scale(), ys.log_scale())?;
        let corner = SeriesLabelPosition::UpperLeft;
        draw_curves(&mut chart, x_label, y_label, &short, &kept, corner)?;
        for (index, (_, points)) in kept.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            chart.draw_series(points.iter().map(|&point| Circle::new(point, 4, colour.filled())))?;
        }
        Ok(())
    })
}

fn draw_curves<'a, X, Y>(
    chart: &mut ChartContext<'a, Backend<'a>, Cartesian2d<X, Y>>,
    x_label: &str,
    y_label: &str,
    format: &dyn Fn(&f64) -> String,
    series: &[(&str, Vec<(f64, f64)>)],
    corner: SeriesLabelPosition,
) -> Drawn
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let mut mesh = chart.configure_mesh();
    mesh.x_desc(x_label).y_desc(y_label).axis_desc_style(text(17)).label_style(text(15));
    mesh.x_label_formatter(format).y_label_formatter(format);
    mesh.axis_style(INK).bold_line_style(FAINT).light_line_style(TRANSPARENT).draw()?;
    for (index, (name, points)) in series.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        // Many points are a noisy curve: a thin line keeps the others visible.
        let style = colour.stroke_width(if points.len() > 300 { 1 } else { 2 });
        let drawn = if let [only] = points[..] {
            chart.draw_series([Circle::new(only, 4, colour.filled())])?
        } else {
            chart.draw_series(LineSeries::new(points.iter().copied(), style))?
        };
        let sample = colour.stroke_width(3);
        drawn.label(*name).legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], sample));
    }
    chart
        .configure_series_labels()
        .position(corner)
        .margin(12)
        .legend_area_size(30)
        .background_style(PAPER.mix(0.9))
        .border_style(FAINT)
        .label_font(text(16))
        .draw()?;
    Ok(())
}

pub(super) type Backend<'a> = BitMapBackend<'a>;
pub(super) type Raised<T> = std::result::Result<T, Box<dyn std::error::Error>>;
pub(super) type Drawn = Raised<()>;

/// Whether an axis can hold the number.
pub(super) fn shown(value: f64) -> bool {
    value.abs() <= LARGEST
}

/// The user's sentence for what has no picture.
pub(super) fn refusal(title: &str, what: &str) -> Error {
    Error::input(format!("cannot plot `{title}`: {what}"))
}

/// A picture on which `draw` has drawn.
pub(super) fn canvas(
    width: u32,
    height: u32,
    draw: impl FnOnce(&DrawingArea<Backend<'_>, Shift>) -> Drawn,
) -> Result<Image> {
    static FONT: OnceLock<bool> = OnceLock::new();
    let register =
        || register_font("sans-serif", FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT).is_ok();
    if !FONT.get_or_init(register) {
        return Err(Error::failure("cannot plot: the built-in font does not load"));
    }
    let mut image = Image::filled(width as usize, height as usize, [PAPER.0, PAPER.1, PAPER.2]);
    let root = BitMapBackend::with_buffer(&mut image.pixels, (width, height)).into_drawing_area();
    let result = draw(&root).and_then(|()| Ok(root.present()?));
    drop(root);
    result.map_err(|e| Error::failure(format!("cannot plot: {e}")))?;
    Ok(image)
}

pub(super) fn text(size: u32) -> TextStyle<'static> {
    TextStyle::from(("sans-serif", size).into_font()).color(&INK)
}

/// Least and greatest value.
pub(super) fn extent(values: impl Iterator<Item = f64>) -> Option<Range<f64>> {
    values.fold(None, |range: Option<Range<f64>>, v| {
        Some(range.map_or(v..v, |range| range.start.min(v)..range.end.max(v)))
    })
}

/// The range with a margin of a twentieth, or of something visible around what is nearly one value.
pub(super) fn padded(range: Range<f64>) -> Range<f64> {
    let (length, size) = (range.end - range.start, range.start.abs().max(range.end.abs()));
    let margin = match (length > size * 1e-6, size > 0.0) {
        (true, _) => (length / 20.0).max(1e-9),
        (false, true) => size / 10.0,
        (false, false) => 0.5,
    };
    range.start - margin..range.end + margin
}

/// A number as an axis shows it: `0.05`, `1500`, `20k`, `1e-5`.
pub(super) fn short(value: &f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-3..1e7).contains(&size) {
        format!("{value:.0e}")
    } else if size >= 10_000.0 && *value % 1000.0 == 0.0 {
        format!("{}k", value / 1000.0)
    } else {
        // Rounded to nine digits: 0.30000000000000004 is 0.3.
        format!("{}", (value * 1e9).round() / 1e9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{coloured, show};

    fn losses() -> Vec<Series> {
        let curve = |name: &str, floor: f64, wobble: f64| Series {
            name: name.to_owned(),
            points: (0..400)
                .map(|i| {
                    let x = f64::from(i) * 50.0;
                    (x, floor + 2.0 * (-x / 2500.0).exp() + wobble * (f64::from(i) * 1.7).sin().abs())
                })
                .collect(),
        };
        vec![curve("training loss", 0.05, 0.05), curve("validation loss", 0.08, 0.0)]
    }

    #[test]
    fn curves_appear_in_their_colours_on_either_scale() {
        for (scale, name) in [(Scale::Linear, "linear.png"), (Scale::Log, "log.png")] {
            let image = curves("pursuit", "step", "flow loss", scale, &losses()).expect("draws");
            show(name, &image);
            assert!(coloured(&image, COLOURS[0]) > 300 && coloured(&image, COLOURS[1]) > 300);
            assert_eq!(image.pixels[..3], [PAPER.0, PAPER.1, PAPER.2]);
        }
    }

    #[test]
    fn power_laws_are_drawn_on_two_logarithmic_axes() {
        let law = |name: &str, power: f64| Series {
            name: name.to_owned(),
            points: [1.0, 2.0, 4.0, 8.0_f64].map(|x| (x, 0.2 * x.powf(power))).to_vec(),
        };
        let image =
            log_curves("growth", "size", "ms", &[law("linear", 1.0), law("square", 2.0)]).expect("draws");
        show("growth.png", &image);
        assert!(coloured(&image, COLOURS[0]) > 300 && coloured(&image, COLOURS[1]) > 300);
        assert!(log_curves("one", "size", "ms", &[law("flat", 0.0)]).is_ok());
        let nothing = Series { name: "none".to_owned(), points: vec![(0.0, 1.0), (1.0, f64::NAN)] };
        assert!(log_curves("none", "size", "ms", &[nothing]).is_err());
    }

    #[test]
    fn points_that_cannot_be_shown_are_left_out() {
        let with = |points: Vec<(f64, f64)>| vec![Series { name: "loss".to_owned(), points }];
        let odd = with(vec![(0.0, f64::NAN), (1.0, 0.0), (2.0, 3.0), (f64::INFINITY, 1.0)]);
        let image = curves("one point", "step", "loss", Scale::Log, &odd).expect("draws the one");
        show("one.png", &image);
        assert!(curves("flat", "step", "loss", Scale::Linear, &with(vec![(0.0, 0.0), (9.0, 0.0)])).is_ok());
        assert!(curves("none", "step", "loss", Scale::Log, &with(vec![(1.0, -1.0)])).is_err());
        assert!(curves("none", "step", "loss", Scale::Linear, &[]).is_err());
    }

    #[test]
    fn extreme_values_are_drawn_or_refused_but_never_panic() {
        for ys in [
            [-1e308, 1e308],
            [1e-320, 1e-310],
            [1e15, 1e15 + 0.5],
            [1e-300, 1e300],
            [5e-324, 5e-324],
            [1e-38, 1e38],
            [-1e38, 1e38],
            [0.0, 1e-38],
        ] {
            for scale in [Scale::Linear, Scale::Log] {
                let points = vec![(0.0, ys[0]), (1e18, ys[1])];
                let _ =
                    curves("extreme", "step", "loss", scale, &[Series { name: "loss".to_owned(), points }]);
            }
        }
    }

    #[test]
    fn axis_numbers_are_short() {
        let numbers = [0.0, 0.1 + 0.2, 1500.0, 20_000.0, 1e-5, -2.5];
        assert_eq!(numbers.map(|v| short(&v)), ["0", "0.3", "1500", "20k", "1e-5", "-2.5"]);
    }
}
