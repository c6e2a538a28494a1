//! A picture of what was recorded: the first episode.

use std::path::Path;

use crate::Result;
use crate::data::Dataset;
use crate::image::Image;
use crate::report::trace::{Row, traces};
use crate::sim::pendulum::{MAX_SPEED, MAX_TORQUE};
use crate::sim::{STATE, Spec};

/// Components of an action that are drawn at most.
const MOST: usize = 6;

/// A quantity over an episode.
struct Quantity {
    label: &'static str,
    values: Vec<f64>,
    limit: Option<f64>,
    angle: bool,
}

/// Draws the first episode of a data set that was recorded in an environment: angle, speed and the torque that the
/// expert says of a pendulum, the expert's actions of others.
///
/// # Errors
/// If the data set cannot be read.
pub fn first_episode(spec: &Spec, root: &Path) -> Result<Image> {
    let dataset = Dataset::open(root)?;
    let frames = dataset.episode_range(0);
    let column = |key: &str, component: usize| -> Result<Vec<f64>> {
        let (width, values) = dataset.vectors(key)?;
        Ok(frames.clone().map(|frame| f64::from(values[frame * width + component])).collect())
    };
    let quantities = if spec.name.starts_with("pendulum") {
        let (cos, sin) = (column(STATE, 0)?, column(STATE, 1)?);
        let angle = cos.iter().zip(&sin).map(|(cos, sin)| sin.atan2(*cos)).collect();
        let (speed, torque) = (column(STATE, 2)?, column(spec.action.key, 0)?);
        let of = |label, values, limit, angle| Quantity { label, values, limit, angle };
        vec![
            of("angle (rad)", angle, None, true),
            of("speed (rad/s)", speed, Some(MAX_SPEED), false),
            of("torque (N m)", torque, Some(MAX_TORQUE), false),
        ]
    } else {
        let names = spec.action.names.iter().enumerate().take(MOST);
        let of = |(i, &label): (usize, &&'static str)| {
            let limit = Some(spec.high[i]).filter(|high| *high == -spec.low[i]);
            Ok(Quantity { label, values: column(spec.action.key, i)?, limit, angle: false })
        };
        names.map(of).collect::<Result<_>>()?
    };
    let series: Vec<[(&str, &[f64]); 1]> =
        quantities.iter().map(|quantity| [("recorded", &quantity.values[..])]).collect();
    let each = quantities.iter().zip(&series);
    let rows: Vec<Row<'_>> = each
        .map(|(&Quantity { label, limit, angle, .. }, series)| Row { label, series, limit, angle })
        .collect();
    traces(&format!("{}: the first recorded episode", spec.name), &rows, 1.0 / f64::from(spec.fps))
}
