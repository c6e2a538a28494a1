//! A kernel's case on a device: what `flowgpu doctor` and the kernel tests run.

use std::sync::Arc;

use super::Device;
use crate::kernels::check::{Case, Data};
use crate::kernels::{AdapterClass, Float};
use crate::{Result, cpu, gpu};

/// The outputs of a case as this device computes them: by its shader on a GPU, by the CPU device's own bodies,
/// or by the f64 twin on the oracle.
///
/// # Errors
/// If the device lacks memory, refuses the shader, or is lost.
pub fn run(case: &Case, device: &Device) -> Result<Vec<Vec<f64>>> {
    match device {
        Device::Cpu => on_cpu(case),
        Device::Oracle => Ok(case.reference()),
        Device::Gpu(gpu) => on_gpu(case, gpu),
    }
}

/// The same adapter with the kernel variants of each other class it can run; none where the device has no variants.
///
/// # Errors
/// If the adapter cannot be opened again.
pub fn other_classes(device: &Device) -> Result<Vec<Device>> {
    let Device::Gpu(gpu) = device else { return Ok(Vec::new()) };
    let others: &[AdapterClass] = match gpu.class() {
        AdapterClass::Gpu => &[AdapterClass::Software],
        AdapterClass::Software => &[AdapterClass::Gpu],
        AdapterClass::SoftwareSubgroup => &[AdapterClass::Gpu, AdapterClass::Software],
    };
    others.iter().map(|&other| as_class(gpu, other)).collect()
}

/// A device's adapter opened again, with the kernel variants of a class.
fn as_class(gpu: &gpu::Gpu, class: AdapterClass) -> Result<Device> {
    let again = gpu::Gpu::open(&gpu::Choice::Named(gpu.summary.name.clone()), gpu::Checks::Off)?;
    Ok(Device::Gpu(again.with_class(class)))
}

/// The same device opened anew, with the variants it had.
///
/// # Errors
/// If the adapter cannot be opened again.
pub fn reopen(device: &Device) -> Result<Device> {
    match device {
        Device::Gpu(gpu) => as_class(gpu, gpu.class()),
        other => Ok(other.clone()),
    }
}

/// The shader variant that a case runs by, `-` where the device has no shaders.
pub fn variant(case: &Case, device: &Device) -> &'static str {
    match device {
        Device::Gpu(gpu) => case.kernel.dispatch(gpu.class()).shader.name,
        _ => "-",
    }
}

fn on_gpu(case: &Case, gpu: &Arc<gpu::Gpu>) -> Result<Vec<Vec<f64>>> {
    let program = gpu::Program::new(gpu, &case.plan(), &gpu::Bank::new())?;
    let mut slot = 0;
    let mut write = |bytes: &[u8]| {
        gpu.write(program.slot(slot), 0, bytes);
        slot += 1;
    };
    for data in &case.inputs {
        match data {
            Data::F(values) => write(bytemuck::cast_slice(values)),
            Data::H(values) => write(bytemuck::cast_slice(values)),
            Data::U8(bytes) => write(bytes),
            Data::U32(words) => write(bytemuck::cast_slice(words)),
            Data::Nothing => {}
        }
    }
    case.outputs.iter().for_each(|values| write(bytemuck::cast_slice(values)));
    let first_output = slot - case.outputs.len();
    program.run_part(0..program.launches())?;
    let read = |i: usize| gpu.read(program.slot(first_output + i), 0, case.outputs[i].len());
    (0..case.outputs.len()).map(|i| Ok(read(i)?.into_iter().map(f64::from).collect())).collect()
}

fn on_cpu(case: &Case) -> Result<Vec<Vec<f64>>> {
    let program = cpu::Program::<f32>::new(&case.plan(), &cpu::Bank::new())?;
    let mut slot = 0;
    for data in &case.inputs {
        let data = match data {
            Data::F(values) => cpu::Data::F(values.clone()),
            Data::H(values) => cpu::Data::H(values.clone()),
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
    program.run_part(0..program.launches());
    let read = |i: usize| program.slot(slot + i).floats(0, case.outputs[i].len());
    Ok((0..case.outputs.len()).map(|i| read(i).into_iter().map(Float::f64).collect()).collect())
}
