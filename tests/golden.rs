//! PyTorch's goldens on every device, and that spoiled ones fail.

use std::path::PathBuf;

use flowgpu::graph::Device;
use flowgpu::train::golden::{Golden, Quantity};

const CASES: &[&str] = &[
    "seed",
    "default",
    "masked",
    "zeroed",
    "slot_time",
    "noise_at_1",
    "adam_clip",
    "two_frames",
    "head_width_20",
    "regression",
];

fn load(case: &str) -> Golden {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{case}.safetensors"));
    Golden::parse(&std::fs::read(path).expect("a committed golden")).expect("a golden")
}

fn failures(quantities: &[Quantity]) -> Vec<&Quantity> {
    quantities.iter().filter(|quantity| !quantity.pass).collect()
}

fn all_pass_on(device: &str) {
    let device = Device::open(device).expect("this machine has it");
    let mut report = String::new();
    for case in CASES {
        let quantities = load(case).verify(&device).expect("runs");
        let worst = quantities.iter().map(|quantity| quantity.nmse).fold(0.0, f64::max);
        println!("{case} on {device}: {} quantities, worst NMSE {worst:.1e}", quantities.len());
        for quantity in failures(&quantities) {
            report += &format!("{case}: {quantity:?}\n");
        }
    }
    assert!(report.is_empty(), "{device}:\n{report}");
}

#[test]
fn goldens_hold_on_the_oracle() {
    all_pass_on("oracle");
}

#[test]
fn goldens_hold_on_the_cpu_device() {
    all_pass_on("cpu");
}

#[test]
fn goldens_hold_on_a_gpu() {
    all_pass_on("gpu");
}
