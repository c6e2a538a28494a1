//! What an evaluation leaves for the eye: an animation, an episode over time, a metric over the solver's work.

use std::path::Path;

use super::described;
use crate::Result;
use crate::cli::common::write_file;
use crate::eval::metrics::measure;
use crate::eval::{self, Options, Report, Row, Table, headline};
use crate::image::Image;
use crate::report::gif::animate;
use crate::report::sweep::{SweepSeries, sweep};
use crate::report::trace::{Row as Panel, traces};
use crate::sim::{Environment, Episode, Scripted, Spec, make};

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
    write_file(file, &animate(&clips, environment.spec().fps)?)
}

/// The first episode over time, the expert's from the same reset beside it.
///
/// # Errors
/// If the expert fails, the picture cannot be drawn, or the file not be written.
pub fn write_traces(file: &Path, environment: &dyn Environment, name: &str, report: &Report) -> Result<()> {
    let options = Options { episodes: 1, ..report.options };
    let expert = undisturbed_expert(report.environment, options)?;
    let mut played: Vec<Played> = report.episodes.iter().take(1).map(|e| (short(name), e.clone())).collect();
    if name != "expert" {
        played.extend(expert.episodes.into_iter().map(|episode| ("expert".to_owned(), episode)));
    }
    write_file(file, &episode_over_time(environment, report.options.seed, &played)?.to_png()?)
}

/// A metric over function evaluations, a line a solver or policy, the expert on the same resets as a dashed one.
///
/// # Errors
/// If the expert fails, no row has a network, or the file cannot be written.
pub fn write_sweep(file: &Path, table: &Table) -> Result<()> {
    let expert = match table.rows.iter().find(|row| row.policy == "expert") {
        Some(row) => row.report.clone(),
        None => undisturbed_expert(table.environment, table.options)?,
    };
    let metric = headline(table.environment)[0];
    let reference = expert.mean(metric).map(|level| ("expert", level));
    let title = format!("{}, {}", table.environment, described(&table.options, &table.perturbations));
    let label = format!("{}, 95 % interval", metric.replace('_', " "));
    write_file(file, &sweep(&title, &label, &series(table, metric), reference)?.to_png()?)
}

/// What the expert does where nothing is disturbed.
fn undisturbed_expert(environment: &str, options: Options) -> Result<Report> {
    eval::evaluate_driver(make(environment)?.as_ref(), &mut *Scripted::Expert.driver(), options)
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
        "pursuit" | "pursuit-two" | "pursuit-cameras" => vec![of("x (px)", 0, None), of("y (px)", 1, None)],
        "command" => vec![
            of("forward (m/s)", 0, Some(3)),
            of("left (m/s)", 1, Some(4)),
            of("turning (rad/s)", 2, Some(5)),
        ],
        _ => (0..len).map(|at| of(&format!("position {at}"), at, None)).collect(),
    }
}

/// One component of positions or actions over time, by whose it is.
struct Lines<'a> {
    label: String,
    named: Vec<(&'a str, Vec<f64>)>,
    limit: Option<f64>,
    angle: bool,
}

/// An episode by who played it.
type Played = (String, Episode);

/// A line for each of those who played.
fn lines(played: &[Played], values: impl Fn(&Episode) -> Vec<f64>) -> Vec<(&str, Vec<f64>)> {
    played.iter().map(|(name, episode)| (name.as_str(), values(episode))).collect()
}

/// What positions say over time.
fn positions<'a>(environment: &str, played: &'a [Played]) -> Vec<Lines<'a>> {
    let Some((_, first)) = played.first() else { return Vec::new() };
    let all = quantities(environment, first.positions.first().map_or(0, Vec::len));
    let drawn = all.into_iter().map(|Quantity { label, at, target, angle }| {
        let mut named = lines(played, |episode| component(&episode.positions, at));
        named.extend(target.map(|target| ("target", component(&first.positions, target))));
        Lines { label, named, limit: None, angle }
    });
    drawn.collect()
}

/// The first components of actions over time.
fn actions<'a>(spec: &Spec, played: &'a [Played]) -> Vec<Lines<'a>> {
    let drawn = spec.action.names.iter().enumerate().take(COMPONENTS).map(|(at, name)| Lines {
        label: if *name == "torque" { "torque (N m)".to_owned() } else { format!("action {name}") },
        named: lines(played, |episode| component(&episode.executed, at)),
        limit: (spec.low[at] == -spec.high[at]).then_some(spec.high[at]),
        angle: false,
    });
    drawn.collect()
}

fn component(rows: &[Vec<f64>], at: usize) -> Vec<f64> {
    rows.iter().map(|row| row[at]).collect()
}

/// A panel for every quantity and every component of the action, episodes over one another.
fn episode_over_time(environment: &dyn Environment, seed: u64, played: &[Played]) -> Result<Image> {
    let spec = environment.spec();
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
    let mut all = positions(spec.name, played);
    all.extend(actions(spec, played));
    let series: Vec<Vec<(&str, &[f64])>> = (all.iter())
        .map(|lines| lines.named.iter().map(|(name, values)| (*name, values.as_slice())).collect())
        .collect();
    let panels: Vec<Panel<'_>> = (all.iter().zip(&series))
        .map(|(Lines { label, limit, angle, .. }, series)| Panel {
            label,
            series,
            limit: *limit,
            angle: *angle,
        })
        .collect();
    traces(&title, &panels, 1.0 / f64::from(spec.fps))
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
