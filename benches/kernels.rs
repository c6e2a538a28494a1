//! How fast single kernels are, beside the most that a device can do.
//!
//! ```text
//! cargo bench --bench kernels                       # the CPU device
//! cargo bench --bench kernels -- matmul             # kernels with that in their name
//! FLOWGPU_BENCH_DEVICE=gpu cargo bench --bench kernels
//! FLOWGPU_BENCH_LARGE=1 cargo bench --bench kernels -- 4096x4096x4096
//! ```
//! Criterion measures first. Then every kernel runs 20 times more, and a table shows its median beside two ceilings
//! measured on the same device: multiply-adds on registers alone, and copying in memory. Bytes are those of all
//! bindings, each once: what is updated in place moves twice as many, and what fits into a cache moves faster than
//! memory copies.

mod kernels {
    pub mod launches;
}

use std::time::Duration;

use criterion::{Criterion, Throughput};
use flowgpu::graph::Device;
use flowgpu::graph::trial::Ready;
use flowgpu::measure::{Times, Until, copy_rate, multiply_add_rate};
use flowgpu::{Error, Result};
use kernels::launches::{Bound, Launch, launches};

/// Runs behind the table's medians.
const RUNS: usize = 20;

fn main() -> Result<()> {
    let device = Device::open(&std::env::var("FLOWGPU_BENCH_DEVICE").unwrap_or_else(|_| "cpu".to_owned()))?;
    let large = std::env::var_os("FLOWGPU_BENCH_LARGE").is_some();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Without --bench, which `cargo bench` gives, criterion tries everything once: there is nothing to tell then.
    let tries = !arguments.iter().any(|argument| argument == "--bench");
    let filter = arguments.iter().find(|argument| !argument.starts_with('-'));
    let launches: Vec<Launch> = launches(large)
        .into_iter()
        .filter(|launch| filter.is_none_or(|part| launch.id().contains(part.as_str())))
        .collect();
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    for launch in &launches {
        // A trial must not take long: the largest launches are for measuring.
        if !tries || launch.work().flops < 1_000_000_000 {
            with_criterion(&mut criterion, launch, &device)?;
        }
    }
    criterion.final_summary();
    if !tries { table(&launches, &device) } else { Ok(()) }
}

/// Criterion's part: its estimates, and how they changed since the last time.
fn with_criterion(criterion: &mut Criterion, launch: &Launch, device: &Device) -> Result<()> {
    let mut trouble = Ok(());
    let mut group = criterion.benchmark_group(launch.kernel());
    group.throughput(match launch.bound {
        Bound::Arithmetic => Throughput::Elements(launch.work().flops),
        Bound::Memory => Throughput::Bytes(launch.work().bytes),
    });
    let ready = Ready::new(&launch.case(), device)?;
    group.bench_function(&launch.shape, |bencher| {
        bencher.iter_custom(|runs| {
            let time = (0..runs).map(|_| ready.time()).sum::<Result<Duration>>();
            time.unwrap_or_else(|error| {
                trouble = Err(error);
                Duration::from_secs(1)
            })
        });
    });
    group.finish();
    trouble
}

/// Ours: medians, rates, and their shares of what the device can do.
fn table(launches: &[Launch], device: &Device) -> Result<()> {
    let oracle =
        || Error::input("the oracle is for checking: FLOWGPU_BENCH_DEVICE is cpu, gpu or an adapter");
    let most = multiply_add_rate(device)?.ok_or_else(oracle)?;
    let copied = copy_rate(device)?.ok_or_else(oracle)?;
    println!(
        "\n{device}: {most:.1} GFLOP/s of multiply-adds on registers, {copied:.1} GB/s copied in memory\n"
    );
    println!(
        "{:<30} {:<36} {:>10} {:>9} {:>9} {:>7} {:>8} {:>7}",
        "kernel", "shape", "median ms", "least", "GFLOP/s", "share", "GB/s", "share"
    );
    for launch in launches {
        let ready = Ready::new(&launch.case(), device)?;
        ready.time()?;
        let once = || Ok(ready.time()?.as_secs_f64() * 1e3);
        let times = Times::measure(Until::Runs(RUNS), once)?;
        let [ms, least] = [0.5, 0.0].map(|share| times.at(share));
        let work = launch.work();
        let [gflops, gigabytes] = [work.flops, work.bytes].map(|amount| amount as f64 / ms / 1e6);
        println!(
            "{:<30} {:<36} {ms:>10.4} {least:>9.4} {gflops:>9.1} {:>5.1} % {gigabytes:>8.1} {:>5.1} %",
            launch.kernel(),
            launch.shape,
            100.0 * gflops / most,
            100.0 * gigabytes / copied,
        );
    }
    Ok(())
}
