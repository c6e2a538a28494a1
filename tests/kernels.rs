//! Every kernel against its f64 twin: the WGSL of each variant, the f32 twin, and the fast bodies.

use std::sync::LazyLock;

use flowgpu::gpu::{Checks, Choice, Gpu};
use flowgpu::graph::{Device, trial};
use flowgpu::kernels::all_cases;
use flowgpu::kernels::check::Case;

/// One device for each way to build shaders: pipelines are dear on software adapters.
static TRUSTED: LazyLock<Device> = LazyLock::new(|| open(Checks::Off));

fn open(checks: Checks) -> Device {
    let gpu = Gpu::open(&Choice::Any, checks);
    Device::Gpu(gpu.expect(
        "the WGSL tests need an adapter; `cargo xtask test` installs a software one on Debian and Ubuntu",
    ))
}

/// Runs the cases one way and reports all that fail, not only the first.
fn check(way: &str, cases: Vec<Case>, run: impl Fn(&Case) -> Vec<Vec<f64>>) {
    let mut failures = Vec::new();
    for case in cases {
        let (distance, accepted) = case.judge(&run(&case));
        if !accepted {
            failures.push(format!(
                "{} [{}]: NMSE {:.1e}, largest error {:.1e} of {:.1e}",
                case.kernel, case.name, distance.nmse, distance.max_abs, distance.scale
            ));
        }
    }
    assert!(failures.is_empty(), "{way}: {} cases fail:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn wgsl_agrees_with_twins() {
    println!("adapter: {}", *TRUSTED);
    check("WGSL", all_cases(), |case| trial::run(case, &TRUSTED).expect("runs"));
}

#[test]
fn wgsl_for_other_classes_of_adapters_agrees_with_twins() {
    let others = trial::other_classes(&TRUSTED).expect("opens again");
    assert!(!others.is_empty(), "an adapter has variants");
    for other in others {
        // What the classes share is tried above.
        let differs = |case: &Case| trial::variant(case, &other) != trial::variant(case, &TRUSTED);
        let cases: Vec<Case> = all_cases().into_iter().filter(differs).collect();
        assert!(!cases.is_empty(), "a class of adapters has no variant of its own");
        check("WGSL, other variants", cases, |case| trial::run(case, &other).expect("runs"));
    }
}

#[test]
fn wgsl_with_checks_on_agrees_with_twins() {
    let checked = open(Checks::On);
    check("checked WGSL", all_cases(), |case| trial::run(case, &checked).expect("runs"));
}

#[test]
fn f32_twins_agree_with_f64_twins() {
    check("f32 twins", all_cases(), Case::on_twin::<f32>);
}

#[test]
fn the_cpu_device_agrees_with_twins() {
    check("CPU device", all_cases(), |case| trial::run(case, &Device::Cpu).expect("runs"));
}
