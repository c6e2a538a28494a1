//! Smooth lines in panels.
//!
//! plotters rounds the ends of every segment to whole pixels, which shows where a curve has many of them. Here a
//! pixel takes as much of the colour as the line covers of it, whatever the number of segments.

use std::collections::BTreeMap;

use plotters::prelude::*;

use super::axes::Panel;
use super::plot::Drawn;

/// A point in pixels, from a panel's upper left corner.
type Place = (f64, f64);

/// Draws a line, or a dot if it is one point; what lies outside the panel is cut off.
pub(super) fn stroke(panel: &mut Panel<'_>, line: &[(f64, f64)], style: ShapeStyle) -> Drawn {
    let area = panel.plotting_area();
    let (xs, ys) = (area.get_x_range(), area.get_y_range());
    let (wide, high) = (area.get_x_axis_pixel_range(), area.get_y_axis_pixel_range());
    let (width, height) = (wide.end.abs_diff(wide.start), high.end.abs_diff(high.start));
    let place = |&(x, y): &(f64, f64)| {
        let (across, up) = ((x - xs.start) / (xs.end - xs.start), (y - ys.start) / (ys.end - ys.start));
        (f64::from(width) * across, f64::from(height) * (1.0 - up))
    };
    let places: Vec<Place> = line.iter().map(place).collect();
    let radius = f64::from(style.stroke_width) / 2.0;
    // A pixel that two segments touch is painted once, by the nearer one.
    let mut covered = BTreeMap::new();
    match places[..] {
        [only] => cover(only, only, radius + 2.0, (width, height), &mut covered),
        _ => {
            for pair in places.windows(2) {
                cover(pair[0], pair[1], radius, (width, height), &mut covered);
            }
        }
    }
    let pixels = area.strip_coord_spec();
    for (pixel, share) in covered {
        pixels.draw_pixel(pixel, &style.color.mix(share))?;
    }
    Ok(())
}

/// How much of each pixel a segment with round ends covers, from 0 to 1.
fn cover(
    from: Place,
    to: Place,
    radius: f64,
    (width, height): (u32, u32),
    covered: &mut BTreeMap<(i32, i32), f64>,
) {
    // Along the longer way a line rises by at most one pixel a pixel.
    let steep = (to.1 - from.1).abs() > (to.0 - from.0).abs();
    let turned = |(x, y): Place| if steep { (y, x) } else { (x, y) };
    let (mut a, mut b, (along_end, across_end)) =
        (turned(from), turned(to), if steep { (height, width) } else { (width, height) });
    if a.0 > b.0 {
        (a, b) = (b, a);
    }
    let (run, rise) = (b.0 - a.0, b.1 - a.1);
    let slope = if run > 0.0 { rise / run } else { 0.0 };
    let reach = 1.5 * radius + 2.0;
    let whole = |low: f64, high: f64, end: u32| {
        (low.max(0.0).floor() as i32)..=(high.min(f64::from(end)).ceil().min(f64::from(end)) as i32)
    };
    for along in whole(a.0 - reach, b.0 + reach, along_end) {
        let centre = a.1 + (f64::from(along) - a.0) * slope;
        for across in whole(centre - reach, centre + reach, across_end) {
            let (x, y) = (f64::from(along) - a.0, f64::from(across) - a.1);
            // The nearest point of the segment, as a share of its length.
            let square = run * run + rise * rise;
            let share = if square > 0.0 { ((x * run + y * rise) / square).clamp(0.0, 1.0) } else { 0.0 };
            let distance = (x - share * run).hypot(y - share * rise);
            let part = (radius + 0.5 - distance).clamp(0.0, 1.0);
            if part > 0.0 {
                let pixel = if steep { (across, along) } else { (along, across) };
                let most = covered.entry(pixel).or_insert(0.0_f64);
                *most = most.max(part);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(from: Place, to: Place, radius: f64) -> BTreeMap<(i32, i32), f64> {
        let mut covered = BTreeMap::new();
        cover(from, to, radius, (20, 10), &mut covered);
        covered
    }

    #[test]
    fn a_line_covers_its_own_area() {
        for (from, to) in [((3.0, 5.0), (13.0, 5.0)), ((4.0, 2.0), (12.0, 8.0)), ((9.0, 8.0), (9.0, 2.0))] {
            let length = f64::hypot(to.0 - from.0, to.1 - from.1);
            let area: f64 = of(from, to, 1.0).values().sum();
            // A rectangle and two half discs.
            let wanted = 2.0 * length + std::f64::consts::PI;
            assert!((area - wanted).abs() < 0.05 * wanted, "{area} for {wanted}");
        }
        assert_eq!(of((3.0, 5.0), (13.0, 5.0), 1.0)[&(8, 5)], 1.0);
        assert_eq!(of((9.0, 8.0), (9.0, 2.0), 1.0)[&(9, 5)], 1.0);
    }

    #[test]
    fn what_lies_outside_is_cut_off() {
        let far = of((-1e30, 5.0), (1e30, 5.0), 1.0);
        assert!(far.keys().all(|(x, y)| (0..=20).contains(x) && (0..=10).contains(y)));
        assert_eq!(far[&(0, 5)], 1.0);
        assert!(of((-50.0, -9.0), (70.0, -9.0), 1.0).is_empty());
        assert!(of((f64::NAN, 5.0), (3.0, 5.0), 1.0).is_empty());
    }
}
