//! Many settings on equal resets: one table.

use super::actor::Actor;
use super::{Args, described, pictures, progress};
use crate::Result;
use crate::cli::common::{note, table};
use crate::eval::{Estimate, Latency, Options, Row, Setting, Table, Timing, headline};
use crate::sim::Environment;

/// Evaluates every policy with every setting and prints what was found.
///
/// # Errors
/// As [`crate::eval::evaluate`]; if the plot cannot be drawn or written.
pub fn run(
    args: &Args,
    environment: &dyn Environment,
    options: Options,
    mut actors: Vec<Actor>,
) -> Result<()> {
    let device = actors.iter().find_map(|actor| Some(actor.policy()?.device().to_string()));
    let mut rows = Vec::new();
    for actor in &mut actors {
        for setting in actor.settings(args)? {
            let name = format!("{}{}", actor.name, solved(setting));
            let report = actor
                .evaluate(environment, setting, options, &mut progress(format!("{name}: ")))
                .map_err(|e| e.at(&name))?;
            note(format!("{name}: {:.1} s", report.seconds));
            rows.push(Row { policy: actor.name.clone(), setting, report });
        }
    }
    let table = Table::new(rows)?;
    if args.json {
        let mut json = table.to_json();
        json["device"] = device.into();
        println!("{json}");
    } else {
        print(&table);
    }
    args.plot.as_ref().map_or(Ok(()), |file| pictures::write_sweep(file, &table))
}

/// `, heun, 10 steps` behind a policy's name.
fn solved(setting: Setting) -> String {
    let solver = setting.solver_name().map_or(String::new(), |solver| format!(", {solver}"));
    let steps = setting.steps.map_or(String::new(), |steps| match steps {
        1 => ", 1 step".to_owned(),
        _ => format!(", {steps} steps"),
    });
    solver + &steps + &timed(setting.timing)
}

/// `, guided, 2 steps late` behind a policy's name; nothing where chunks take no time.
fn timed(timing: Timing) -> String {
    if timing == Timing::NONE {
        return String::new();
    }
    let late = match timing.latency {
        Latency::Steps(steps) => format!("{steps} steps late"),
        Latency::Milliseconds(ms) => format!("{ms} ms late"),
        Latency::Measured => "as late as measured".to_owned(),
        Latency::RealTime => "in real time".to_owned(),
    };
    format!(", {}, {late}", timing.execution.name())
}

/// The table for people: the metrics that say most; `--json` has all.
fn print(found: &Table) {
    println!("{}, {}, 95 % intervals", found.environment, described(&found.options, &found.perturbations));
    let [first, second] = headline(found.environment);
    let compared = found.rows.iter().any(|row| found.counterpart(row).is_some());
    let versus = found.rows.first().map(|row| &row.policy).filter(|_| compared);
    let spaced = |name: &str| name.replace('_', " ");
    let mut cells = vec![[
        "policy".to_owned(),
        "solver".to_owned(),
        "steps".to_owned(),
        spaced(first),
        spaced(second),
        "smoothness".to_owned(),
        "evaluations".to_owned(),
        "ms a chunk".to_owned(),
        versus.map_or(String::new(), |versus| format!("{} less {versus}'s", spaced(first))),
    ]];
    for row in &found.rows {
        let report = &row.report;
        let dash = || "-".to_owned();
        let estimate = |estimate: Option<Estimate>| estimate.map_or_else(dash, |e| e.to_string());
        let difference = found.counterpart(row).map(|_| estimate(found.difference(row, first)));
        cells.push([
            format!("{}{}", row.policy, timed(row.setting.timing)),
            row.setting.solver_name().map_or_else(dash, str::to_owned),
            row.setting.steps.map_or_else(dash, |steps| steps.to_string()),
            estimate(report.estimate(first)),
            estimate(report.estimate(second)),
            estimate(report.estimate("smoothness")),
            report.evaluations_per_chunk().map_or_else(dash, |n| format!("{}", (n * 10.0).round() / 10.0)),
            report.ms_per_chunk().map_or_else(dash, |ms| format!("{ms:.3}")),
            difference.unwrap_or_default(),
        ]);
    }
    print!("{}", table(&cells));
    let batches = found.rows.iter().filter_map(|row| row.report.mean_batch());
    if let Some((low, high)) = batches.fold(None, |range: Option<(f64, f64)>, batch| {
        Some(range.map_or((batch, batch), |(low, high)| (low.min(batch), high.max(batch))))
    }) {
        let range = if high - low < 1.0 { format!("{high:.0}") } else { format!("{low:.0} to {high:.0}") };
        println!("chunks were made in batches of {range}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Solver;

    #[test]
    fn a_setting_is_told_as_far_as_there_is_one() {
        let of = |solver, steps| solved(Setting { solver, steps, ..Setting::NONE });
        assert_eq!(of(Some(Solver::Heun), Some(10)), ", heun, 10 steps");
        assert_eq!(of(Some(Solver::Euler), Some(1)), ", euler, 1 step");
        assert_eq!(of(Some(Solver::Dopri5), None), ", dopri5");
        assert_eq!(solved(Setting::NONE), "");
    }
}
