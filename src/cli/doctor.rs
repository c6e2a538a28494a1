//! `flowgpu doctor`: every kernel on a device against the f64 twins.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::common::{note, table};
use crate::graph::{Device, trial};
use crate::kernels::all_cases;
use crate::kernels::check::{Case, Distance};
use crate::{Error, Result};

/// Flags of the subcommand.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// gpu (any adapter, real ones first), cpu, or a part of an adapter's name
    #[arg(long, default_value = "gpu")]
    device: String,
    /// Only kernels with this in their name
    #[arg(long, value_name = "PART")]
    kernel: Option<String>,
    /// Prints one JSON array
    #[arg(long)]
    json: bool,
}

/// The cases of one kernel in one variant.
struct Verdict {
    kernel: &'static str,
    variant: &'static str,
    cases: usize,
    worst_nmse: f64,
    /// In units of the largest magnitude of the reference.
    worst_error: f64,
    failures: Vec<String>,
}

/// Runs the case table of every kernel, in the variants of both classes of adapters.
///
/// # Errors
/// If there is no such device, or a kernel is wrong on it.
pub fn run(args: Args) -> Result<()> {
    let device = Device::open(&args.device)?;
    note(format!("device: {device}"));
    let wanted = |case: &Case| args.kernel.as_deref().is_none_or(|part| case.kernel.name().contains(part));
    let cases: Vec<Case> = all_cases().into_iter().filter(wanted).collect();
    if cases.is_empty() {
        let names: BTreeSet<_> = all_cases().iter().map(|case| case.kernel.name()).collect();
        let names: Vec<_> = names.into_iter().collect();
        let part = args.kernel.unwrap_or_default();
        return Err(Error::input(format!("--kernel {part}: no such kernel: known are {}", names.join(", "))));
    }
    let mut verdicts = Vec::new();
    try_all(&mut verdicts, &cases, device.clone(), &|| Device::open(&args.device))?;
    for other in trial::other_classes(&device)? {
        // What another class shares was tried with that.
        let tried = |case: &Case| {
            let (kernel, variant) = (case.kernel.name(), trial::variant(case, &other));
            verdicts.iter().any(|known| known.kernel == kernel && known.variant == variant)
        };
        let untried: Vec<Case> = cases.iter().filter(|case| !tried(case)).cloned().collect();
        try_all(&mut verdicts, &untried, other.clone(), &|| trial::reopen(&other))?;
    }
    print(&verdicts, &device, args.json);
    let wrong = verdicts.iter().filter(|verdict| !verdict.failures.is_empty()).count();
    match wrong {
        0 => Ok(()),
        _ => Err(Error::failure(format!(
            "{wrong} of {} kernels are wrong on {device}: update its driver, or use --device cpu",
            verdicts.len()
        ))),
    }
}

/// Runs the cases on a device; one that a case broke is opened anew for the next.
fn try_all(
    verdicts: &mut Vec<Verdict>,
    cases: &[Case],
    mut device: Device,
    reopen: &dyn Fn() -> Result<Device>,
) -> Result<()> {
    for case in cases {
        let (kernel, variant) = (case.kernel.name(), trial::variant(case, &device));
        let known = verdicts.iter().position(|known| known.kernel == kernel && known.variant == variant);
        let place = known.unwrap_or_else(|| {
            note(format!("trying {kernel} ({variant})"));
            verdicts.push(Verdict::new(kernel, variant));
            verdicts.len() - 1
        });
        match trial::run(case, &device) {
            Ok(answers) => verdicts[place].add(case, &answers),
            Err(e) => {
                verdicts[place].failures.push(format!("{}: {e}", case.name));
                device = reopen()?;
            }
        }
    }
    Ok(())
}

impl Verdict {
    fn new(kernel: &'static str, variant: &'static str) -> Self {
        Self { kernel, variant, cases: 0, worst_nmse: 0.0, worst_error: 0.0, failures: Vec::new() }
    }

    fn add(&mut self, case: &Case, answers: &[Vec<f64>]) {
        let (distance, accepted) = case.judge(answers);
        self.cases += 1;
        self.worst_nmse = self.worst_nmse.max(distance.nmse);
        self.worst_error = self.worst_error.max(distance.max_abs / distance.scale.max(f64::MIN_POSITIVE));
        if !accepted {
            self.failures.push(describe(case, &distance));
        }
    }
}

fn describe(case: &Case, distance: &Distance) -> String {
    format!(
        "{}: NMSE {:.1e} (at most {:.0e}), largest error {:.1e} where values reach {:.1e}",
        case.name, distance.nmse, case.nmse, distance.max_abs, distance.scale
    )
}

fn print(verdicts: &[Verdict], device: &Device, as_json: bool) {
    let passes = |verdict: &Verdict| verdict.failures.is_empty();
    if as_json {
        let verdict = |verdict: &Verdict| {
            json!({
                "kernel": verdict.kernel, "variant": verdict.variant, "device": device.to_string(),
                "cases": verdict.cases, "pass": passes(verdict), "nmse": verdict.worst_nmse,
                "max_error": verdict.worst_error, "failures": verdict.failures,
            })
        };
        println!("{:#}", Value::Array(verdicts.iter().map(verdict).collect()));
        return;
    }
    let header = ["kernel", "variant", "cases", "worst NMSE", "largest error", ""].map(String::from);
    let row = |verdict: &Verdict| {
        [
            verdict.kernel.to_owned(),
            verdict.variant.to_owned(),
            verdict.cases.to_string(),
            format!("{:.1e}", verdict.worst_nmse),
            format!("{:.1e}", verdict.worst_error),
            if passes(verdict) { "pass" } else { "FAIL" }.to_owned(),
        ]
    };
    let rows: Vec<_> = std::iter::once(header).chain(verdicts.iter().map(row)).collect();
    print!("{}", table(&rows));
    for verdict in verdicts.iter().filter(|verdict| !passes(verdict)) {
        for failure in &verdict.failures {
            println!("FAIL {} ({}) {failure}", verdict.kernel, verdict.variant);
        }
    }
}
