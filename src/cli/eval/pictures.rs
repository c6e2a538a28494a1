//! What an evaluation leaves for the eye: an animation, an episode over time, a metric over the solver's work.

use std::fs;
use std::path::Path;

use crate::cli::common::note;
use crate::eval::metrics::measure;
use crate::eval::{self, Options, Report, Row, Table, headline};
use crate::image::Image;
use crate::report::gif::animate;
use crate::report::sweep::{SweepSeries, sweep};
use crate::report::trace::{Row as Panel, traces};
use crate::sim::{Environment, Episode, Scripted};
use crate::{Error, Result};

/// Panels of action components at most.
const COMPONENTS: usize = 4;
/// Characters of a policy's name in a picture at most: the end of a path tells more than its beginning.
const NAME: usize = 36;

/// The first episodes, animated.
///
/// # Errors
/// If the file cannot be written.
pub fn write_gif(file: &Path, environment: &dyn Environment, report: &Report) -> Result<()> {
    let clips = eval::clips(environment, report.options.seed, &report.episodes)?;
    write(file, &animate(&clips, environment.spec().fps)?)?;
    note(format!("{} episodes: {}", clips.len(), file.display()));
    Ok(())
}

/// The first episode over time, the expert's from the same reset beside it.
///
/// # Errors
/// If the expert fails, the picture cannot be drawn, or the file not be written.
pub fn write_traces(file: &Path, environment: &dyn Environment, name: &str, report: &Report) -> Result<()> {
    let options = Options { episodes: 1, exploration: None, ..report.options };
    let expert = eval::evaluate_driver(environment, &mut *Scripted::Expert.driver(), options)?;
    let mut played = vec![(short(name), &report.episodes[0])];
    if name != "expert" {
        played.push(("expert".to_owned(), &expert.episodes[0]));
    }
    write(file, &episode_over_time(environment, report.options.seed, &played)?.to_png()?)?;
    note(format!("episode {}: {}", report.options.seed, file.display()));
    Ok(())
}

/// A metric over function evaluations, a line a solver or policy, the expert on the same resets as a dashed one.
///
/// # Errors
/// If the expert fails, no row has a network, or the file cannot be written.
pub fn write_sweep(file: &Path, environment: &dyn Environment, table: &Table) -> Result<()> {
    let expert = match table.rows.iter().find(|row| row.policy == "expert") {
        Some(row) => row.report.clone(),
        None => {
            let options = Options { exploration: None, ..table.options };
            eval::evaluate_driver(environment, &mut *Scripted::Expert.driver(), options)?
        }
    };
    let metric = headline(table.environment)[0];
    let reference = expert.mean(metric).map(|level| ("expert", level));
    let Options { episodes, seed, .. } = table.options;
    let title = format!("{}, {episodes} episodes from seed {seed}", table.environment);
    let label = format!("{}, 95 % interval", metric.replace('_', " "));
    write(file, &sweep(&title, &label, &series(table, metric), reference)?.to_png()?)?;
    note(format!("wrote {}", file.display()));
    Ok(())
}

/// Rows that have evaluations, a series for every policy with every solver.
fn series(table: &Table, metric: &str) -> Vec<SweepSeries> {
    let rows = || table.rows.iter().filter(|row| row.report.usage.is_some());
    let one_policy = rows().all(|row| rows().next().is_some_and(|first| first.policy == row.policy));
    let mut solvers = rows().filter_map(|row| row.setting.solver);
    let first = solvers.next();
    let one_solver = solvers.all(|solver| Some(solver) == first);
    let title = |row: &Row| match row.setting.solver_name() {
        Some(solver) if one_policy => solver.to_owned(),
        Some(solver) if !one_solver => format!("{}, {solver}", short(&row.policy)),
        _ => short(&row.policy),
    };
    let mut series: Vec<SweepSeries> = Vec::new();
    for row in rows() {
        let evaluations = row.report.evaluations_per_chunk().map(|n| (n * 10.0).round() / 10.0);
        let (Some(evaluations), Some(estimate)) = (evaluations, row.report.estimate(metric)) else {
            continue;
        };
        let name = title(row);
        match series.iter_mut().find(|series| series.name == name) {
            Some(series) => series.points.push((evaluations, estimate)),
            None => series.push(SweepSeries { name, points: vec![(evaluations, estimate)] }),
        }
    }
    series.iter_mut().for_each(|series| series.points.sort_by(|a, b| a.0.total_cmp(&b.0)));
    series
}

/// A quantity of [`Environment::position`].
struct Quantity {
    /// Quantity and unit.
    label: String,
    /// Its component.
    at: usize,
    /// The component it should come to, where there is one.
    target: Option<usize>,
    /// Whether it goes around.
    angle: bool,
}

/// What an environment's positions are.
fn quantities(environment: &str, len: usize) -> Vec<Quantity> {
    let of = |label: &str, at, target| Quantity {
        label: label.to_owned(),
        at,
        target,
        angle: label.starts_with("angle"),
    };
    match environment {
        "pendulum" => vec![of("angle (rad)", 0, None), of("speed (rad/s)", 1, None)],
        "pendulum-goal" => vec![of("angle (rad)", 0, Some(2)), of("speed (rad/s)", 1, None)],
        "pursuit" | "pursuit-two" => vec![of("x (px)", 0, None), of("y (px)", 1, None)],
        "command" => vec![
            of("forward (m/s)", 0, Some(3)),
            of("left (m/s)", 1, Some(4)),
            of("turning (rad/s)", 2, Some(5)),
        ],
        _ => (0..len).map(|at| of(&format!("position {at}"), at, None)).collect(),
    }
}

/// A panel for every quantity and every component of the action, `played` over one another.
fn episode_over_time(
    environment: &dyn Environment,
    seed: u64,
    played: &[(String, &Episode)],
) -> Result<Image> {
    let spec = environment.spec();
    let component = |rows: &[Vec<f64>], at: usize| -> Vec<f64> { rows.iter().map(|row| row[at]).collect() };
    let mut panels: Vec<(String, Vec<(&str, Vec<f64>)>, Option<f64>, bool)> = Vec::new();
    let len = played.first().and_then(|(_, episode)| episode.positions.first()).map_or(0, Vec::len);
    for quantity in quantities(spec.name, len) {
        let mut lines: Vec<_> = (played.iter())
            .map(|(name, episode)| (name.as_str(), component(&episode.positions, quantity.at)))
            .collect();
        if let (Some(target), Some((_, first))) = (quantity.target, played.first()) {
            lines.push(("target", component(&first.positions, target)));
        }
        panels.push((quantity.label, lines, None, quantity.angle));
    }
    for (at, name) in spec.action.names.iter().enumerate().take(COMPONENTS) {
        let lines = (played.iter()).map(|(name, episode)| (name.as_str(), component(&episode.actions, at)));
        let label = if *name == "torque" { "torque (N m)".to_owned() } else { format!("action {name}") };
        let limit = (spec.low[at] == -spec.high[at]).then_some(spec.high[at]);
        panels.push((label, lines.collect(), limit, false));
    }
    let metric = headline(spec.name)[0];
    let results: Vec<String> = (played.iter())
        .filter_map(|(name, episode)| {
            let metrics = measure(spec.name, episode);
            let (_, value) = metrics.iter().find(|(known, _)| *known == metric)?;
            Some(format!("{name} {}", format!("{value:.1}").trim_end_matches(".0")))
        })
        .collect();
    let title =
        format!("{}, reset {seed}: {} of {}", spec.name, metric.replace('_', " "), results.join(", "));
    let series: Vec<Vec<(&str, &[f64])>> = (panels.iter())
        .map(|(_, lines, ..)| lines.iter().map(|(name, values)| (*name, values.as_slice())).collect())
        .collect();
    let rows: Vec<Panel<'_>> = (panels.iter().zip(&series))
        .map(|((label, _, limit, angle), series)| Panel { label, series, limit: *limit, angle: *angle })
        .collect();
    traces(&title, &rows, 1.0 / f64::from(spec.fps))
}

/// The end of a long name.
fn short(name: &str) -> String {
    let len = name.chars().count();
    if len <= NAME {
        name.to_owned()
    } else {
        format!("…{}", name.chars().skip(len - NAME + 1).collect::<String>())
    }
}

fn write(file: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(file, bytes).map_err(|e| Error::failure(format!("cannot write {}: {e}", file.display())))
}
