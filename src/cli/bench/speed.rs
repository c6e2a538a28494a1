//! How long it takes, and where the time goes.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::subject::Subject;
use super::{Network, Setting, mib, milliseconds};
use crate::cli::common::{note, table};
use crate::graph::Program;
use crate::measure::{KernelCost, Times, Until, multiply_add_rate, quickest_profile};
use crate::policy::program_batch;
use crate::{Result, memory};

/// Runs that are counted go on for as long as this, and are as many as this.
const COUNTED: Until = Until::Time { at_least: Duration::from_secs(3), runs: 5 };
/// Runs that warm up caches, clocks and threads take as long as this, once everything is compiled.
const WARM_UP: Until = Until::Time { at_least: Duration::from_millis(200), runs: 1 };
/// How far a median lies above the least time on a machine that has nothing else to do, generously.
const BUSY: f64 = 1.5;
/// Profiles; the quickest is shown.
const PROFILES: usize = 5;

/// Loads, compiles, warms up, measures, profiles and prints, or fills in the JSON object.
pub fn run(
    network: Network,
    setting: &Setting,
    repeat: Option<usize>,
    read_ms: f64,
    json: Option<&mut Value>,
) -> Result<()> {
    let title = setting.title(&network);
    let (slots, executed) = (network.config.chunk_size, network.config.n_action_steps);
    let start = Instant::now();
    let mut subject = Subject::new(&network.config, network.pretrained, setting)?;
    let load_ms = read_ms + milliseconds(start);
    let first_ms = subject.once()?;
    Times::measure(WARM_UP, || subject.once())?;
    let times = Times::measure(repeat.map_or(COUNTED, Until::Runs), || subject.once())?;
    // Of the work itself: what profiling and the ceiling take comes later.
    let peak = memory::peak();
    let per_second = setting.batch as f64 * 1e3 / times.at(0.5);
    let control_rate = executed as f64 * 1e3 / times.at(0.99);
    let kernels = subject.program().map_or_else(
        || Err("an adaptive solver has no single program to profile: name another --solver".to_owned()),
        profile,
    );
    let ceiling = multiply_add_rate(&setting.device)?;
    let program = subject.program().map(Program::bytes);
    if let Some(json) = json {
        json["load_ms"] = json!(load_ms);
        json["first_ms"] = json!(first_ms);
        json["latency_ms"] = times.to_json();
        if setting.train {
            json["samples_per_second"] = json!(per_second);
        } else {
            json["chunks_per_second"] = json!(per_second);
            json["actions_per_second"] = json!(per_second * slots as f64);
            json["control_rate_hz"] = json!(control_rate);
        }
        json["bytes"] = json!({"program": program, "peak_resident": peak});
        json["bytes"][if setting.train { "sets" } else { "weights" }] = json!(subject.set_bytes());
        json["multiply_add_gflops"] = json!(ceiling);
        json["kernels"] = kernels.as_ref().map_or(Value::Null, |costs| rows_json(costs, ceiling));
        json["note"] = json!(kernels.err());
        return Ok(());
    }
    println!("{title}");
    println!("time       {}, {} runs", times.line(), times.runs());
    if setting.train {
        println!("rate       {per_second:.1} samples/s");
    } else {
        println!("rate       {per_second:.1} chunks/s, {:.0} actions/s", per_second * slots as f64);
        println!(
            "control    {control_rate:.0} actions/s and robot, {executed} of every chunk, 99 of 100 in time"
        );
    }
    println!("start      loaded in {load_ms:.1} ms; the first run, with compiling, {first_ms:.1} ms");
    let sets = if setting.train { "weights, gradients, moments and average" } else { "weights" };
    let words = |bytes: Option<f64>| bytes.map_or("unknown".to_owned(), |mib| format!("{mib:.1} MiB"));
    println!(
        "memory     {sets} {:.1} MiB, program {}, this process at most {}",
        mib(subject.set_bytes()),
        words(program.map(mib)),
        words(peak.map(|bytes| mib(bytes as usize)))
    );
    match kernels {
        Ok(costs) => print(&costs, ceiling),
        Err(why) => note(format!("note: no times by kernel: {why}")),
    }
    if times.at(0.5) > BUSY * times.at(0.0) {
        note(format!(
            "note: half of the runs took more than {BUSY} times the least: something else keeps this machine busy"
        ));
    }
    let samples = program_batch(&setting.device, setting.batch);
    if !setting.train && samples < setting.batch {
        note(format!(
            "note: a program makes {samples} chunks at most: its bytes and kernels are of the last one"
        ));
    }
    Ok(())
}

/// Where a run's time goes, or why nobody knows.
fn profile(program: &Program) -> std::result::Result<Vec<KernelCost>, String> {
    quickest_profile(program, PROFILES).map_err(|e| e.to_string())
}

/// The table of kernels for people.
fn print(costs: &[KernelCost], ceiling: Option<f64>) {
    let total = total_ms(costs);
    let head = ["kernel", "launches", "ms", "share", "GFLOP/s", "of the most", "GB/s"].map(str::to_owned);
    let row = |cost: &KernelCost| {
        let ms = cost.time.as_secs_f64() * 1e3;
        [
            cost.kernel.to_owned(),
            cost.launches.to_string(),
            format!("{ms:.3}"),
            percent(ms / total),
            format!("{:.1}", cost.gflops()),
            ceiling.map_or("-".to_owned(), |most| percent(cost.gflops() / most)),
            format!("{:.1}", cost.gigabytes()),
        ]
    };
    let rows: Vec<[String; 7]> = std::iter::once(head).chain(costs.iter().map(row)).collect();
    print!("\n{}", table(&rows));
    let launches: usize = costs.iter().map(|cost| cost.launches).sum();
    println!("{launches} launches, {total:.3} ms one by one, which is slower than a run");
    if let Some(most) = ceiling {
        println!("the most: {most:.1} GFLOP/s, multiply-adds on registers alone");
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn total_ms(costs: &[KernelCost]) -> f64 {
    costs.iter().map(|cost| cost.time.as_secs_f64() * 1e3).sum()
}

fn rows_json(costs: &[KernelCost], ceiling: Option<f64>) -> Value {
    let total = total_ms(costs);
    let row = |cost: &KernelCost| {
        let ms = cost.time.as_secs_f64() * 1e3;
        json!({
            "kernel": cost.kernel,
            "launches": cost.launches,
            "ms": ms,
            "share": ms / total,
            "gflops": cost.gflops(),
            "share_of_multiply_adds": ceiling.map(|most| cost.gflops() / most),
            "gigabytes_per_second": cost.gigabytes(),
        })
    };
    costs.iter().map(row).collect()
}
