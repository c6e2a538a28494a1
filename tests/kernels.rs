//! Every kernel against its f64 twin: the WGSL of each variant, the f32 twin, and the fast bodies.

use std::sync::{Arc, LazyLock};

use flowgpu::gpu::{Bank, Checks, Choice, Gpu, Program};
use flowgpu::kernels::check::{Case, Data};
use flowgpu::kernels::{AdapterClass, Float, all_cases};
use flowgpu::{Result, cpu};

/// One device for each way to build shaders: pipelines are dear on software adapters.
static TRUSTED: LazyLock<Arc<Gpu>> = LazyLock::new(|| open(Checks::Off));

fn open(checks: Checks) -> Arc<Gpu> {
    let gpu = Gpu::open(&Choice::Any, checks);
    gpu.expect(
        "the WGSL tests need an adapter; `cargo xtask test` installs a software one on Debian and Ubuntu",
    )
}

/// The case's outputs by its shader.
fn on_gpu(gpu: &Arc<Gpu>, case: &Case) -> Result<Vec<Vec<f64>>> {
    let program = Program::new(gpu, &case.plan(), &Bank::new())?;
    let mut slot = 0;
    let mut write = |bytes: &[u8]| {
        gpu.write(program.slot(slot), 0, bytes);
        slot += 1;
    };
    for data in &case.inputs {
        match data {
            Data::F(values) => write(bytemuck::cast_slice(values)),
            Data::U8(bytes) => write(bytes),
            Data::U32(words) => write(bytemuck::cast_slice(words)),
            Data::Nothing => {}
        }
    }
    let first_output = slot;
    case.outputs.iter().for_each(|values| {
        gpu.write(program.slot(slot), 0, bytemuck::cast_slice(values));
        slot += 1;
    });
    program.run()?;
    let read = |i: usize| gpu.read(program.slot(first_output + i), 0, case.outputs[i].len());
    (0..case.outputs.len()).map(|i| Ok(read(i)?.into_iter().map(f64::from).collect())).collect()
}

/// The case's outputs by the CPU device, fast bodies included.
fn on_cpu(case: &Case) -> Vec<Vec<f64>> {
    let program = cpu::Program::<f32>::new(&case.plan(), &cpu::Bank::new()).expect("a case needs no bank");
    let mut slot = 0;
    for data in &case.inputs {
        let data = match data {
            Data::F(values) => cpu::Data::F(values.clone()),
            Data::U8(bytes) => cpu::Data::U8(bytes.clone()),
            Data::U32(words) => cpu::Data::U32(words.clone()),
            Data::Nothing => continue,
        };
        *program.slot(slot).write() = data;
        slot += 1;
    }
    for (i, values) in case.outputs.iter().enumerate() {
        program.slot(slot + i).write_floats(0, values);
    }
    program.run();
    let read = |i: usize| program.slot(slot + i).floats(0, case.outputs[i].len());
    (0..case.outputs.len()).map(|i| read(i).into_iter().map(Float::f64).collect()).collect()
}

/// Runs every case one way and reports all that fail, not only the first.
fn check_all(way: &str, mut run: impl FnMut(&Case) -> Vec<Vec<f64>>) {
    let mut failures = Vec::new();
    for case in all_cases() {
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
    println!("adapter: {}", TRUSTED.summary.name);
    check_all("WGSL", |case| on_gpu(&TRUSTED, case).expect("runs"));
}

#[test]
fn wgsl_for_the_other_class_of_adapters_agrees_with_twins() {
    let other = match TRUSTED.class() {
        AdapterClass::Gpu => AdapterClass::Software,
        AdapterClass::Software => AdapterClass::Gpu,
    };
    let gpu = open(Checks::Off).with_class(other);
    check_all("WGSL, other variants", |case| {
        // What both classes share was tried above.
        if case.kernel.dispatch(other).shader == case.kernel.dispatch(TRUSTED.class()).shader {
            return case.reference();
        }
        on_gpu(&gpu, case).expect("runs")
    });
}

#[test]
fn wgsl_with_checks_on_agrees_with_twins() {
    let gpu = open(Checks::On);
    check_all("checked WGSL", |case| on_gpu(&gpu, case).expect("runs"));
}

#[test]
fn f32_twins_agree_with_f64_twins() {
    check_all("f32 twins", Case::on_twin::<f32>);
}

#[test]
fn the_cpu_device_agrees_with_twins() {
    check_all("CPU device", on_cpu);
}
