//! A kernel's case on a device: what `flowgpu doctor` and the kernel tests run.

use std::time::{Duration, Instant};

use super::Device;
use crate::kernels::check::{Case, Data};
use crate::kernels::{Abilities, AdapterClass, Float};
use crate::{Error, Result, cpu, gpu};

/// The outputs of a case as this device computes them: by its shader on a GPU, by the CPU device's own bodies,
/// or by the f64 twin on the oracle.
///
/// # Errors
/// If the device lacks memory, refuses the shader, or is lost.
pub fn run(case: &Case, device: &Device) -> Result<Vec<Vec<f64>>> {
    if matches!(device, Device::Oracle) {
        return Ok(case.reference());
    }
    let ready = Ready::new(case, device)?;
    ready.run()?;
    ready.outputs()
}

/// The same adapter with the kernel variants of each other class it can run; none where the device has no variants.
///
/// # Errors
/// If the adapter cannot be opened again.
pub fn other_classes(device: &Device) -> Result<Vec<Device>> {
    let Device::Gpu(gpu) = device else { return Ok(Vec::new()) };
    let (real, plain) = (gpu.summary.class_of_a_gpu(), AdapterClass::Gpu(Abilities::default()));
    let others: &[AdapterClass] = match gpu.class() {
        AdapterClass::Gpu(abilities) if abilities.subgroup.is_some() => &[plain, AdapterClass::Software],
        AdapterClass::Gpu(_) => &[AdapterClass::Software],
        AdapterClass::Software => &[real],
        AdapterClass::SoftwareSubgroup => &[real, plain, AdapterClass::Software],
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

/// A case on a device, its inputs in place: to be run again and again.
pub struct Ready {
    body: Body,
    /// Elements of each output.
    outputs: Vec<usize>,
    /// The first output's slot; the others follow.
    first: usize,
}

enum Body {
    Cpu(cpu::Program<f32>),
    Gpu(gpu::Program),
}

impl Ready {
    /// Puts a case on the CPU device or on a GPU.
    ///
    /// # Errors
    /// If the device lacks memory, refuses the shader, or is the oracle.
    pub fn new(case: &Case, device: &Device) -> Result<Self> {
        let body = match device {
            Device::Cpu => Body::Cpu(cpu::Program::new(&case.plan(), &cpu::Bank::new())?),
            Device::Gpu(gpu) => Body::Gpu(gpu::Program::new(gpu, &case.plan(), &gpu::Bank::new())?),
            Device::Oracle => {
                return Err(Error::input("the oracle is for checking: use --device cpu or gpu"));
            }
        };
        let there = case.inputs.iter().filter(|data| !matches!(data, Data::Nothing));
        for (slot, data) in there.clone().enumerate() {
            match &body {
                Body::Cpu(program) => write_cpu(program, slot, data),
                Body::Gpu(program) => write_gpu(program, slot, data),
            }
        }
        let first = there.count();
        for (i, values) in case.outputs.iter().enumerate() {
            match &body {
                Body::Cpu(program) => program.slot(first + i).write_floats(0, values),
                Body::Gpu(program) => {
                    program.gpu().write(program.slot(first + i), 0, bytemuck::cast_slice(values));
                }
            }
        }
        Ok(Self { body, outputs: case.outputs.iter().map(Vec::len).collect(), first })
    }

    /// Runs it once; on a GPU it is submitted, not awaited.
    ///
    /// # Errors
    /// If the device was lost.
    pub fn run(&self) -> Result<()> {
        match &self.body {
            Body::Cpu(program) => program.run_part(0..program.launches()),
            Body::Gpu(program) => program.run_part(0..program.launches())?,
        }
        Ok(())
    }

    /// Runs it once and says how long it took: by the device's own clock where it has one, else from submitting to
    /// its end.
    ///
    /// # Errors
    /// If the device was lost.
    pub fn time(&self) -> Result<Duration> {
        match &self.body {
            Body::Gpu(program) if program.gpu().has_clock() => {
                Ok(program.profile()?.into_iter().map(|(_, time)| time).sum())
            }
            body => {
                let start = Instant::now();
                self.run()?;
                if let Body::Gpu(program) = body {
                    program.gpu().wait()?;
                }
                Ok(start.elapsed())
            }
        }
    }

    /// What its outputs hold.
    ///
    /// # Errors
    /// If the device was lost.
    pub fn outputs(&self) -> Result<Vec<Vec<f64>>> {
        let read = |(i, &len): (usize, &usize)| {
            let values = match &self.body {
                Body::Cpu(program) => program.slot(self.first + i).floats(0, len),
                Body::Gpu(program) => program.gpu().read(program.slot(self.first + i), 0, len)?,
            };
            Ok(values.into_iter().map(Float::f64).collect())
        };
        self.outputs.iter().enumerate().map(read).collect()
    }
}

fn write_cpu(program: &cpu::Program<f32>, slot: usize, data: &Data) {
    *program.slot(slot).write() = match data {
        Data::F(values) => cpu::Data::F(values.clone()),
        Data::H(values) => cpu::Data::H(values.clone()),
        Data::U8(bytes) => cpu::Data::U8(bytes.clone()),
        Data::U32(words) => cpu::Data::U32(words.clone()),
        Data::Nothing => return,
    };
}

fn write_gpu(program: &gpu::Program, slot: usize, data: &Data) {
    let bytes = match data {
        Data::F(values) => bytemuck::cast_slice(values),
        Data::H(values) => bytemuck::cast_slice(values),
        Data::U8(bytes) => bytes,
        Data::U32(words) => bytemuck::cast_slice(words),
        Data::Nothing => return,
    };
    program.gpu().write(program.slot(slot), 0, bytes);
}
