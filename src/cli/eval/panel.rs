//! One policy under every disturbance that fits: one table.

use super::actor::Actor;
use super::{Args, described, progress};
use crate::Result;
use crate::cli::common::{note, table};
use crate::eval::panel::{Measured, Panel};
use crate::eval::{Options, headline};
use crate::sim::{Environment, Perturbations};

/// Evaluates and prints what was found.
///
/// # Errors
/// As [`crate::eval::evaluate`].
pub fn run(args: &Args, environment: &dyn Environment, options: Options, actor: &mut Actor) -> Result<()> {
    let setting = actor.settings(args)?[0];
    let device = actor.policy().map(|policy| policy.device().to_string());
    let seed = args.perturbing.seed(args.noise_seed);
    let panel = Panel::of(environment, options, seed, &mut |disturbed, name| {
        let report = actor
            .evaluate(disturbed, setting, options, &mut progress(format!("{name}: ")))
            .map_err(|e| e.at(name))?;
        note(format!("{name}: {:.1} s", report.seconds));
        Ok(report)
    })?;
    if args.json {
        let mut json = panel.to_json(&actor.name);
        json["solver_steps"] = setting.steps.into();
        json["solver"] = setting.solver_name().into();
        json["device"] = device.into();
        println!("{json}");
    } else {
        print(&actor.name, &panel);
    }
    Ok(())
}

/// The table for people: the metrics that say most; `--json` has all.
fn print(policy: &str, panel: &Panel) {
    println!(
        "{}, policy {policy}, {}, 95 % intervals",
        panel.environment,
        described(&panel.options, &Perturbations::default())
    );
    let [first, second] = headline(panel.environment);
    let spaced = |name: &str| name.replace('_', " ");
    let mut cells = vec![[
        "perturbation".to_owned(),
        "level".to_owned(),
        spaced(first),
        spaced(second),
        format!("{} less undisturbed", spaced(first)),
    ]];
    for row in &panel.rows {
        let value = |name: &str| row.metric(name).map_or_else(|| "-".to_owned(), |m| m.estimate.to_string());
        let difference = |metric: &Measured| metric.difference.map(|difference| difference.to_string());
        let named = row.perturbation.map(|p| (p.axis.name().to_owned(), format!("{} {}", p.level, row.unit)));
        let (name, level) = named.unwrap_or_else(|| ("undisturbed".to_owned(), "-".to_owned()));
        let less = row.metric(first).and_then(difference).unwrap_or_default();
        cells.push([name, level, value(first), value(second), less]);
    }
    print!("{}", table(&cells));
}
