//! A flow's velocity over flow time and action, as heat maps.

use std::ops::Range;

use plotters::prelude::*;

use super::axes::{Area, Axis, Panel, between, header, name_above, panel, stretches};
use super::plot::{Drawn, INK, canvas, refusal, shown};
use super::stroke::stroke;
use crate::Result;
use crate::image::Image;

/// The velocity field at one observation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FieldPanel<'a> {
    /// What the policy sees: `upright`.
    pub name: &'a str,
    /// `[rows, columns]` velocities dx/dt: rows at even flow times from 0 to 1, columns at even actions over
    /// the axis, ends included.
    pub values: &'a [f32],
    /// At least two, as there are rows.
    pub columns: usize,
    /// (action x_t, flow time) along integrated paths; what lies outside the panel is cut off.
    pub paths: &'a [Vec<(f64, f64)>],
}

impl FieldPanel<'_> {
    fn rows(&self) -> usize {
        self.values.len() / self.columns.max(1)
    }

    /// The velocity between its four neighbours, at shares of the axes from 0 to 1.
    fn at(&self, across: f64, up: f64) -> f64 {
        let place = |share: f64, count: usize| {
            let place = share.clamp(0.0, 1.0) * (count - 1) as f64;
            let index = (place as usize).min(count - 2);
            (index, place - index as f64)
        };
        let ((column, x), (row, y)) = (place(across, self.columns), place(up, self.rows()));
        let value = |row: usize, column: usize| f64::from(self.values[row * self.columns + column]);
        let mixed = |row: usize| value(row, column) * (1.0 - x) + value(row, column + 1) * x;
        mixed(row) * (1.0 - y) + mixed(row + 1) * y
    }

    /// What is wrong with the values, if anything.
    fn check(&self) -> std::result::Result<(), String> {
        let (count, columns) = (self.values.len(), self.columns);
        if columns < 2 || !count.is_multiple_of(columns) || count / columns < 2 {
            let name = self.name;
            return Err(format!("`{name}` has {count} values, not two or more rows of {columns} columns"));
        }
        match self.values.iter().position(|v| !shown(f64::from(*v))) {
            Some(place) => {
                let (row, column) = (place / columns, place % columns);
                Err(format!("`{}` has no finite value in row {row}, column {column}", self.name))
            }
            None => Ok(()),
        }
    }
}

/// Blue for negative velocities over white for none to red for positive ones (ColorBrewer's RdBu).
const STOPS: [[u8; 3]; 7] = [
    [33, 102, 172],
    [103, 169, 207],
    [209, 229, 240],
    [247, 247, 247],
    [253, 219, 199],
    [239, 138, 98],
    [178, 24, 43],
];

/// How fast the colours' scale goes, and whether some velocity lies beyond: a fiftieth of them may, so that
/// a corner no path visits does not bleach the rest.
fn scale(panels: &[FieldPanel<'_>]) -> (f64, bool) {
    let mut speeds: Vec<f32> = panels.iter().flat_map(|panel| panel.values).map(|v| v.abs()).collect();
    speeds.sort_by(f32::total_cmp);
    let Some(greatest) = speeds.last().copied() else { return (1.0, false) };
    let common = speeds[(speeds.len() - 1) * 49 / 50];
    match (common > 0.0, greatest > 0.0) {
        (true, _) => (common.into(), greatest > common),
        (false, true) => (greatest.into(), false),
        // A field of zeros is white on any scale.
        (false, false) => (1.0, false),
    }
}

/// Heat maps side by side, actions across, flow time upwards, with one symmetric colour scale for all and the
/// paths as thin dark lines. 440 pixels high, as wide as the panels need.
///
/// # Errors
/// No panel, values that are not whole rows or not finite, or an empty range of actions.
pub fn flow_field(title: &str, actions: Range<f64>, panels: &[FieldPanel<'_>]) -> Result<Image> {
    const LEFT: u32 = 68;
    const GAP: u32 = 12;
    const BAR: u32 = 130;
    if panels.is_empty() {
        return Err(refusal(title, "no panels"));
    }
    if !(shown(actions.start) && shown(actions.end) && actions.start < actions.end) {
        let (low, high) = (actions.start, actions.end);
        return Err(refusal(title, &format!("actions from {low} to {high} are no range")));
    }
    for field in panels {
        field.check().map_err(|what| refusal(title, &what))?;
    }
    let (most, clipped) = scale(panels);
    let label = if clipped { "velocity (clipped)" } else { "velocity" };
    let speeds = Axis::linear(label, -most..most, 6);
    let across = Axis::linear("action x_t", actions, 5);
    let upwards = Axis::linear("flow time t", 0.0..1.0, 5);

    let inner = (780 / panels.len() as u32).clamp(200, 340);
    // A panel's margin on the right is 24.
    let cell = |first: bool| inner + 24 + if first { LEFT } else { GAP };
    let width = panels.iter().enumerate().map(|(i, _)| cell(i == 0)).sum::<u32>() + BAR;
    canvas(width, 440, |root| {
        let mut rest = header(root, title, &[])?.margin(24, 0, 0, 0);
        for (index, field) in panels.iter().enumerate() {
            let (area, right) = rest.split_horizontally(cell(index == 0));
            rest = right;
            let (left, y) = if index == 0 { (LEFT, upwards.clone()) } else { (GAP, upwards.bare()) };
            let mut chart = panel(&area, left, &across, &y)?;
            heat(&chart, |across, up| between(&STOPS, 0.5 + 0.5 * field.at(across, up) / most))?;
            for path in field.paths {
                for line in stretches(path.iter().copied(), |p| shown(p.0) && shown(p.1)) {
                    stroke(&mut chart, &line, INK.stroke_width(1))?;
                }
            }
            name_above(root, &chart, field.name)?;
        }
        draw_scale(&rest, &speeds)
    })
}

/// Fills a panel with a colour for every pixel, by its shares of the axes.
fn heat(panel: &Panel<'_>, colour: impl Fn(f64, f64) -> RGBColor) -> Drawn {
    let area = panel.plotting_area().strip_coord_spec();
    let (width, height) = area.dim_in_pixel();
    let share = |i: u32, of: u32| f64::from(i) / f64::from((of - 1).max(1));
    for y in 0..height {
        for x in 0..width {
            let colour = colour(share(x, width), 1.0 - share(y, height));
            area.draw_pixel((x as i32, y as i32), &colour)?;
        }
    }
    Ok(())
}

/// The colours' scale: a bar as high as the panels.
fn draw_scale(area: &Area<'_>, speeds: &Axis) -> Drawn {
    // A blank label leaves as much room below as the panels' labels take.
    let blank = Axis { label: " ".to_owned(), range: 0.0..1.0, ticks: Vec::new() };
    heat(&panel(area, 70, &blank, speeds)?, |_, up| between(&STOPS, up))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::show;

    const COLUMNS: usize = 41;
    /// Velocities and paths.
    type Data = (Vec<f32>, Vec<Vec<(f64, f64)>>);

    /// Towards a goal: v = (goal − x) / (1.2 − t).
    fn towards(goal: f64) -> Data {
        let v = |x: f64, t: f64| (goal - x) / (1.2 - t);
        let grid = (0..21).flat_map(|row| (0..COLUMNS).map(move |column| (row, column)));
        let values = grid.map(|(r, c)| v(-3.0 + 6.0 * c as f64 / 40.0, f64::from(r) / 20.0) as f32);
        let path = |start: i32| {
            let mut x = f64::from(start);
            let step = |i: i32| {
                let t = f64::from(i) / 50.0;
                let at = (x, t);
                x += v(x, t) / 50.0;
                at
            };
            (0..=50).map(step).collect()
        };
        (values.collect(), (-4..=4).map(path).collect())
    }

    fn field<'a>(name: &'a str, (values, paths): &'a Data) -> FieldPanel<'a> {
        FieldPanel { name, values, columns: COLUMNS, paths }
    }

    #[test]
    fn colours_tell_directions_apart_and_paths_lie_on_top() {
        let data = [towards(0.0), towards(2.0), towards(-1.0)];
        let panels = [field("upright", &data[0]), field("hanging", &data[1]), field("halfway", &data[2])];
        for count in 1..=3 {
            let title = "Velocity over flow time and action";
            let image = flow_field(title, -3.0..3.0, &panels[..count]).expect("draws");
            show(&format!("field{count}.png"), &image);
            assert_eq!(image.height, 440);
            let count_of =
                |test: &dyn Fn(&[u8]) -> bool| image.pixels.chunks_exact(3).filter(|p| test(p)).count();
            assert!(count_of(&|p| p[0] > p[2].saturating_add(30)) > 3000, "red left of the goal");
            assert!(count_of(&|p| p[2] > p[0].saturating_add(30)) > 3000, "blue right of it");
            assert!(count_of(&|p| p.iter().all(|c| *c < 100)) > 1000, "paths");
        }
    }

    #[test]
    fn a_field_is_mixed_from_its_neighbours() {
        let panel = FieldPanel { name: "", values: &[0.0, 2.0, 4.0, 6.0], columns: 2, paths: &[] };
        assert_eq!([panel.at(0.0, 0.0), panel.at(1.0, 0.0), panel.at(0.0, 1.0)], [0.0, 2.0, 4.0]);
        assert_eq!(panel.at(0.5, 0.5), 3.0);
    }

    #[test]
    fn what_is_no_field_is_refused() {
        let of = |values, columns| FieldPanel { name: "upright", values, columns, paths: &[] };
        let message = |range, panels: &[FieldPanel<'_>]| {
            flow_field("t", range, panels).expect_err("refused").to_string()
        };
        assert!(message(-1.0..1.0, &[]).contains("no panels"));
        assert!(message(-1.0..1.0, &[of(&[0.0; 5], 2)]).contains("5 values"));
        assert!(message(-1.0..1.0, &[of(&[0.0; 2], 2)]).contains("two or more rows"));
        assert!(message(-1.0..1.0, &[of(&[0.0; 4], 0)]).contains("0 columns"));
        assert!(message(-1.0..1.0, &[of(&[0.0, 0.0, f32::NAN, 0.0], 2)]).contains("row 1, column 0"));
        assert!(message(1.0..1.0, &[of(&[0.0; 4], 2)]).contains("no range"));
        assert!(flow_field("still", -1.0..1.0, &[of(&[0.0; 4], 2)]).is_ok());
        let away = vec![vec![(f64::NAN, 0.5), (9.0, 0.5), (0.0, 0.5), (0.0, 2.0)]];
        assert!(flow_field("p", -1.0..1.0, &[FieldPanel { paths: &away, ..of(&[1.0; 4], 2) }]).is_ok());
    }
}
