//! Methods compared on several tasks: a dot and its interval each.

use std::ops::Range;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::axes::{Axis, Mark, below, dashed, header, name_above, panel, pixel};
use super::plot::{COLOURS, canvas, extent, padded, refusal, shown, text};
use super::sweep::{Estimate, whisker};
use crate::Result;
use crate::image::Image;

/// One task's panel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Task<'a> {
    /// Above its panel: `pendulum`.
    pub name: &'a str,
    /// Metric and unit: `return`. Neighbours with the same one share an axis.
    pub metric: &'a str,
    /// One a method; numbers that are not finite, or beyond 1e38, leave their row empty.
    pub estimates: &'a [Estimate],
    /// A dashed line at the expert's number.
    pub expert: Option<f64>,
}

impl Task<'_> {
    fn expert(&self) -> Option<f64> {
        self.expert.filter(|level| shown(*level))
    }

    /// What the axis must hold.
    fn extent(&self) -> Option<Range<f64>> {
        let estimates = self.estimates.iter().filter(|e| e.is_shown());
        estimates.clone().next()?;
        extent(estimates.flat_map(|e| e.numbers()).chain(self.expert()))
    }
}

/// A row for every method in a panel for every task, 900 pixels wide, the numbers written on the right.
///
/// # Errors
/// No method or task, estimates that are not one a method, or a task without one that can be shown.
pub fn whiskers(title: &str, methods: &[&str], tasks: &[Task<'_>]) -> Result<Image> {
    const ROW: u32 = 30;
    /// Above a panel for its name, and a panel's margins.
    const HEAD: u32 = 46;
    if methods.is_empty() || tasks.is_empty() {
        return Err(refusal(title, "no methods or no tasks"));
    }
    let mut extents = Vec::new();
    for task in tasks {
        let (name, count, wanted) = (task.name, task.estimates.len(), methods.len());
        if count != wanted {
            return Err(refusal(title, &format!("`{name}` has {count} estimates for {wanted} methods")));
        }
        let unseen = || refusal(title, &format!("`{name}` has no estimate that can be shown"));
        extents.push(task.extent().ok_or_else(unseen)?);
    }
    // Tasks of one metric share one range, and the last of neighbours shows its numbers.
    let axis = |index: usize| {
        let metric = tasks[index].metric;
        let same = tasks.iter().zip(&extents).filter(|(task, _)| task.metric == metric);
        let range = extent(same.flat_map(|(_, range)| [range.start, range.end])).unwrap_or(0.0..0.0);
        let axis = Axis::linear(metric, padded(range), 7);
        if tasks.get(index + 1).is_some_and(|next| next.metric == metric) { axis.bare() } else { axis }
    };
    let axes: Vec<Axis> = (0..tasks.len()).map(axis).collect();
    let rows = methods.len() as u32 * ROW;
    let height = |axis: &Axis| HEAD + rows + below(axis);
    // From the top downwards.
    let names = methods.iter().enumerate().map(|(i, name)| (i as f64, (*name).to_owned())).collect();
    let y = Axis { label: String::new(), range: methods.len() as f64 - 0.5..-0.5, ticks: names };

    let expert = tasks.iter().any(|task| task.expert().is_some());
    let legend: Vec<_> = expert.then(|| ("expert".to_owned(), Mark::Dashed)).into_iter().collect();
    let top = if expert { 72 } else { 48 };
    canvas(900, top + axes.iter().map(height).sum::<u32>() + 8, |root| {
        let mut rest = header(root, title, &legend)?;
        let wide = methods.iter().map(|name| root.estimate_text_size(name, &text(15)).map(|size| size.0));
        let left = 24 + wide.collect::<std::result::Result<Vec<_>, _>>()?.into_iter().max().unwrap_or(0);
        for (task, x) in tasks.iter().zip(&axes) {
            let (area, under) = rest.split_vertically(height(x));
            rest = under;
            let (area, _) = area.margin(HEAD - 16, 0, 0, 0).split_horizontally(730);
            let mut chart = panel(&area, left, x, &y)?;
            name_above(root, &chart, task.name)?;
            if let Some(level) = task.expert() {
                dashed(&mut chart, (level, y.range.start), (level, y.range.end))?;
            }
            let (_, across) = pixel(&chart);
            for (row, estimate) in task.estimates.iter().enumerate().filter(|(_, e)| e.is_shown()) {
                let (place, colour) = (row as f64, COLOURS[row % COLOURS.len()]);
                whisker(&mut chart, estimate, colour, |value, aside| (value, place + aside), across)?;
                let beside = chart.backend_coord(&(x.range.end, place));
                let style = text(15).pos(Pos::new(HPos::Left, VPos::Center));
                root.draw(&Text::new(written(estimate), (beside.0 + 14, beside.1), style))?;
            }
        }
        Ok(())
    })
}

/// The number and its interval, to the digits that the interval's width makes worth reading.
fn written(estimate: &Estimate) -> String {
    let width = (estimate.high - estimate.low).abs().max(estimate.value.abs() * 1e-3);
    let digits = if width > 0.0 { (1.0 - width.log10().floor()).clamp(0.0, 4.0) as usize } else { 0 };
    let [value, low, high] = estimate.numbers().map(|v| {
        let number = format!("{v:.digits$}");
        if v.abs() < 1e7 { number } else { format!("{v:.1e}") }
    });
    format!("{value} ({low} to {high})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{coloured, show};

    const METHODS: [&str; 3] = ["flow", "mip", "regression"];

    fn of(numbers: [(f64, f64, f64); 3]) -> [Estimate; 3] {
        numbers.map(|(low, value, high)| Estimate { value, low, high })
    }

    #[test]
    fn every_method_has_its_dot_in_every_task() {
        let pendulum = of([(-190.0, -160.0, -138.0), (-201.0, -170.0, -150.0), (-900.0, -700.0, -420.0)]);
        let pursuit = of([(0.93, 0.97, 0.99), (0.91, 0.95, 0.98), (0.9, 0.95, 0.97)]);
        let arm = of([(0.4, 0.5, 0.6), (0.62, 0.7, 0.78), (0.2, 0.3, 0.4)]);
        let tasks = [
            Task { name: "pendulum", metric: "return", estimates: &pendulum, expert: Some(-140.0) },
            Task { name: "pursuit", metric: "success (share)", estimates: &pursuit, expert: Some(1.0) },
            Task { name: "reaching", metric: "success (share)", estimates: &arm, expert: None },
        ];
        let image = whiskers("Three objectives, mean and 95 % interval", &METHODS, &tasks).expect("draws");
        show("whiskers.png", &image);
        assert_eq!(image.width, 900);
        assert!((0..3).all(|method| coloured(&image, COLOURS[method]) > 3 * 80));
        let one = whiskers("One task", &METHODS, &tasks[2..]).expect("draws");
        show("whiskers1.png", &one);
        assert!(one.height < image.height && coloured(&one, COLOURS[0]) > 80);
    }

    #[test]
    fn numbers_are_written_as_precisely_as_they_are_known() {
        let text = |low, value, high| written(&Estimate { value, low, high });
        assert_eq!(text(-190.4, -160.2, -138.9), "-160 (-190 to -139)");
        assert_eq!(text(0.931, 0.968, 0.99), "0.968 (0.931 to 0.990)");
        assert_eq!(text(0.0, 0.0, 0.0), "0 (0 to 0)");
        assert_eq!(text(1e30, 1e30, 1e30), "1.0e30 (1.0e30 to 1.0e30)");
    }

    #[test]
    fn what_does_not_fit_is_refused_and_what_is_not_finite_left_out() {
        let two = of([(0.0, 0.5, 1.0), (f64::NAN, 0.5, 1.0), (0.2, 0.3, 0.4)]);
        let task = |estimates| Task { name: "pursuit", metric: "success", estimates, expert: Some(f64::NAN) };
        let image = whiskers("two", &METHODS, &[task(&two)]).expect("draws two");
        assert!(coloured(&image, COLOURS[0]) > 80 && coloured(&image, COLOURS[1]) == 0);
        let message = |methods: &[&str], tasks: &[Task<'_>]| {
            whiskers("t", methods, tasks).expect_err("refused").to_string()
        };
        assert!(message(&[], &[task(&[])]).contains("no methods"));
        assert!(message(&METHODS, &[]).contains("no tasks"));
        assert!(message(&METHODS, &[task(&two[..2])]).contains("2 estimates for 3 methods"));
        assert!(message(&METHODS[..1], &[task(&two[1..2])]).contains("no estimate"));
    }
}
