//! The path a solver takes from noise to action.

use std::ops::Range;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::axes::{Area, Axis, Mark, between, edge, header, panel};
use super::plot::{Drawn, INK, PAPER, canvas, extent, padded, text};
use super::stroke::stroke;
use crate::image::Image;
use crate::{Error, Result};

/// One chunk on its way from noise to action.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SolverPath<'a> {
    /// `[solver steps + 1, slots, dim]`: the noise first, the action last, in action units.
    pub values: &'a [f32],
    /// Actions in the chunk.
    pub slots: usize,
    /// Components of an action.
    pub dim: usize,
    /// A name per component; missing ones are numbered.
    pub names: &'a [&'a str],
    /// Least values per component, or nothing.
    pub low: &'a [f64],
    /// Greatest values per component, or nothing.
    pub high: &'a [f64],
}

impl SolverPath<'_> {
    fn at(&self, step: usize, slot: usize, component: usize) -> f64 {
        f64::from(self.values[(step * self.slots + slot) * self.dim + component])
    }

    /// The number of stored steps, the noise included.
    fn steps(&self) -> Result<usize> {
        let row = self.slots * self.dim;
        if row == 0 || self.values.len() < row || !self.values.len().is_multiple_of(row) {
            return Err(Error::input(format!(
                "cannot plot a solver's path: {} values are not whole steps of {} slots of {} components",
                self.values.len(),
                self.slots,
                self.dim
            )));
        }
        if let Some(index) = self.values.iter().position(|v| !v.is_finite()) {
            return Err(Error::failure(format!(
                "cannot plot a solver's path: step {} is not finite",
                index / row
            )));
        }
        Ok(self.values.len() / row)
    }

    fn name(&self, component: usize) -> String {
        self.names.get(component).map_or_else(|| format!("action {component}"), |name| (*name).to_owned())
    }

    fn bounds(&self, component: usize) -> Option<Range<f64>> {
        let (low, high) = (*self.low.get(component)?, *self.high.get(component)?);
        (low.is_finite() && high.is_finite()).then_some(low..high)
    }

    /// What an axis must hold: the values and the bounds, with a margin.
    fn axis(&self, steps: usize, component: usize) -> Range<f64> {
        let values =
            (0..steps).flat_map(|step| (0..self.slots).map(move |slot| self.at(step, slot, component)));
        let bounds = self.bounds(component).into_iter().flat_map(|b| [b.start, b.end]);
        padded(extent(values.chain(bounds)).unwrap_or(0.0..0.0))
    }
}

/// The paths of every slot from noise (rings) to action (discs), 760 x 640 pixels: in the plane of the
/// first two components with the bounds as a box, or for one component over the solver's steps.
///
/// # Errors
/// Values that are not whole steps, or not finite.
pub fn noise_to_action(title: &str, path: &SolverPath<'_>) -> Result<Image> {
    let steps = path.steps()?;
    let plane = path.dim > 1;
    // The point of a slot at a step, and the axes that hold all of them.
    let point = |step, slot| match plane {
        true => (path.at(step, slot, 0), path.at(step, slot, 1)),
        false => (step as f64, path.at(step, slot, 0)),
    };
    let (xs, ys) = match plane {
        true => (path.axis(steps, 0), path.axis(steps, 1)),
        false => (padded(0.0..(steps - 1) as f64), path.axis(steps, 0)),
    };
    // Components with equal bounds have one unit: the same scale on both axes.
    let (xs, ys) = if plane && path.bounds(0).is_some() && path.bounds(0) == path.bounds(1) {
        let both = xs.start.min(ys.start)..xs.end.max(ys.end);
        (both.clone(), both)
    } else {
        (xs, ys)
    };
    let (x_label, y_label) = match plane {
        true => (path.name(0), path.name(1)),
        false => ("solver step".to_owned(), path.name(0)),
    };
    canvas(760, 640, |root| {
        let (plot, margin) = header(root, title, &[])?.split_horizontally(650);
        let (x, y) = (Axis::linear(&x_label, xs.clone(), 8), Axis::linear(&y_label, ys, 8));
        let mut chart = panel(&plot, 68, &x, &y)?;
        match (path.bounds(0), path.bounds(1)) {
            (Some(x), Some(y)) if plane => {
                chart.draw_series([Rectangle::new([(x.start, y.start), (x.end, y.end)], edge())])?;
            }
            (Some(y), _) if !plane => {
                let line = |level| PathElement::new([(xs.start, level), (xs.end, level)], edge());
                chart.draw_series([line(y.start), line(y.end)])?;
            }
            _ => {}
        }
        for slot in 0..path.slots {
            let colour = slot_colour(slot, path.slots);
            let line: Vec<_> = (0..steps).map(|step| point(step, slot)).collect();
            stroke(&mut chart, &line, colour.mix(0.75).stroke_width(2))?;
            chart.draw_series(line[1..].iter().map(|at| Circle::new(*at, 2, colour.filled())))?;
            let noise = point(0, slot);
            chart.draw_series([
                Circle::new(noise, 6, colour.filled()),
                Circle::new(noise, 4, PAPER.filled()),
            ])?;
        }
        // The actions last: they lie on top.
        chart
            .draw_series((0..path.slots).map(|slot| {
                Circle::new(point(steps - 1, slot), 6, slot_colour(slot, path.slots).filled())
            }))?;
        draw_slot_legend(&margin, path.slots, path.bounds(0).is_some())
    })
}

/// The legend beside the plot: marks, then the slots, at most eight of them.
fn draw_slot_legend(area: &Area<'_>, slots: usize, bounded: bool) -> Drawn {
    let line = |row: usize| 42 + 26 * row as i32;
    let write = |row: usize, words: &str, mark: Mark| -> Drawn {
        let style = text(16).pos(Pos::new(HPos::Left, VPos::Center));
        area.draw(&Text::new(words.to_owned(), (28, line(row)), style))?;
        mark.draw(area, (12, line(row) - 2))
    };
    write(0, "noise", Mark::Ring(INK))?;
    write(1, "action", Mark::Disc(INK))?;
    if bounded {
        write(2, "bounds", Mark::Line(edge()))?;
    }
    let listed = slots.min(8);
    for entry in 0..listed {
        let slot = if listed < 2 { 0 } else { entry * (slots - 1) / (listed - 1) };
        let colour = slot_colour(slot, slots);
        write(entry + 4, &format!("slot {slot}"), Mark::Line(colour.stroke_width(4)))?;
    }
    Ok(())
}

/// From violet (the first slot) over teal to orange (the last), all dark enough for a light ground.
pub(super) fn slot_colour(slot: usize, slots: usize) -> RGBColor {
    const STOPS: [[u8; 3]; 4] = [[82, 36, 130], [30, 110, 170], [20, 150, 110], [225, 130, 0]];
    between(&STOPS, slot as f64 / (slots - 1).max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{coloured, show};

    /// A chunk that bends from pseudo-random noise to a fan of actions.
    fn bent(steps: usize, slots: usize, dim: usize) -> Vec<f32> {
        let mut values = Vec::new();
        for step in 0..=steps {
            let t = step as f32 / steps as f32;
            for slot in 0..slots {
                for component in 0..dim {
                    let noise = ((slot * 7 + component * 3) as f32 * 1.3).sin() * 6.0;
                    let action = 4.0 - (slot + component * 2) as f32 * 4.0 / slots as f32;
                    values.push(noise * (1.0 - t) + action * t + (t * 3.0).sin() * 0.8);
                }
            }
        }
        values
    }

    #[test]
    fn every_slot_has_its_path() {
        let box_ = |dim| (vec![-5.0; dim], vec![5.0; dim]);
        for (slots, dim, name) in [(8, 2, "plane.png"), (8, 1, "single.png"), (50, 14, "large.png")] {
            let (low, high) = box_(dim);
            let values = bent(20, slots, dim);
            let path = SolverPath {
                values: &values,
                slots,
                dim,
                names: &["dx (px)", "dy (px)"],
                low: &low,
                high: &high,
            };
            let image = noise_to_action("From noise to action, 20 Euler steps", &path).expect("draws");
            show(name, &image);
            assert!((0..slots).all(|slot| coloured(&image, slot_colour(slot, slots)) > 20), "{name}");
        }
        let values = bent(10, 1, 3);
        let free = SolverPath { values: &values, slots: 1, dim: 3, names: &[], low: &[], high: &[] };
        let image = noise_to_action("No bounds, no names", &free).expect("draws");
        show("free.png", &image);
    }

    #[test]
    fn a_path_that_is_not_whole_or_not_finite_is_refused() {
        let path = |values| SolverPath { values, slots: 2, dim: 2, names: &[], low: &[], high: &[] };
        assert!(noise_to_action("cut", &path(&[0.0; 6])).is_err());
        assert!(noise_to_action("empty", &path(&[])).is_err());
        assert!(noise_to_action("nan", &path(&[f32::NAN; 8])).is_err());
        assert!(noise_to_action("only noise", &path(&[0.5; 4])).is_ok());
        assert!(noise_to_action("huge", &path(&[f32::MAX, f32::MIN, 0.0, 1.0])).is_ok());
        assert!(noise_to_action("tiny", &path(&[1e-45, 2e-45, 0.0, 0.0])).is_ok());
    }
}
