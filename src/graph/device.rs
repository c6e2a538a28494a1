//! One face for the devices: open one, compile graphs for it, run them.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::bank::{Bank, Sets};
use super::{Graph, Home};
use crate::gpu::{self, Checks, Choice, Gpu};
use crate::kernels::{Dtype, Place};
use crate::{Error, Result, cpu};

/// What runs a program.
#[derive(Clone)]
pub enum Device {
    /// The twins and their fast bodies, f32.
    Cpu,
    /// The twins in f64: the reference that everything else is checked against.
    Oracle,
    /// A GPU.
    Gpu(Arc<Gpu>),
}

impl Device {
    /// The device a `--device` flag means: `auto` (a real GPU, else the CPU), `cpu`, `gpu` (any adapter, real
    /// ones first), `oracle` (f64 on the CPU, slow), or a part of an adapter's name.
    ///
    /// # Errors
    /// If there is no such adapter, or it cannot be opened.
    pub fn open(name: &str) -> Result<Self> {
        let gpu = |choice| Gpu::open(&choice, Checks::Off).map(Device::Gpu);
        match name {
            "cpu" => Ok(Self::Cpu),
            "oracle" => Ok(Self::Oracle),
            "auto" => Ok(gpu(Choice::Real).unwrap_or(Self::Cpu)),
            "gpu" => gpu(Choice::Any),
            part => gpu(Choice::Named(part.to_owned())),
        }
    }

    /// Whether this is an adapter whose work a processor does, which is slower than `cpu`.
    pub fn is_software_gpu(&self) -> bool {
        matches!(self, Self::Gpu(gpu) if gpu.summary.software)
    }
}

impl Device {
    /// What a result depends on: a GPU's name, backend and driver, or the kind of processor.
    pub fn described(&self) -> String {
        match self {
            Self::Gpu(gpu) => {
                let summary = &gpu.summary;
                format!("{} ({}, driver {})", summary.name, summary.backend, summary.driver)
            }
            host => format!("{host} ({} {})", std::env::consts::ARCH, std::env::consts::OS),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Oracle => f.write_str("oracle"),
            Self::Gpu(gpu) => write!(f, "{} ({})", gpu.summary.name, gpu.summary.backend),
        }
    }
}

/// A compiled graph: write its inputs, run it, read its outputs.
pub struct Program {
    body: Body,
    names: HashMap<String, Named>,
    bytes: usize,
    barriers: usize,
}

enum Body {
    Cpu(cpu::Program<f32>),
    Oracle(cpu::Program<f64>),
    Gpu(gpu::Program),
}

#[derive(Clone, Copy)]
struct Named {
    slot: usize,
    offset: usize,
    dtype: Dtype,
    len: usize,
}

impl Program {
    /// Compiles a graph for the device its bank is on.
    ///
    /// # Errors
    /// If the device lacks memory or refuses a shader.
    pub fn new(graph: &Graph, bank: &Bank) -> Result<Self> {
        let planned = graph.plan(true);
        let body = match &bank.sets {
            Sets::Cpu(sets) => Body::Cpu(cpu::Program::new(&planned.plan, sets)?),
            Sets::Oracle(sets) => Body::Oracle(cpu::Program::new(&planned.plan, sets)?),
            Sets::Gpu(sets) => match &bank.device {
                Device::Gpu(gpu) => Body::Gpu(gpu::Program::new(gpu, &planned.plan, sets)?),
                _ => return Err(Error::failure("a bank of GPU buffers without its GPU")),
            },
        };
        let mut names = HashMap::new();
        for (name, &value) in &graph.names {
            if let Some(Place::Slot(slot)) = planned.places[value.0] {
                let info = &graph.values[value.0];
                let offset = if let Home::View { offset, .. } = info.home { offset } else { 0 };
                let named = Named { slot, offset, dtype: info.dtype, len: graph.len(value) };
                names.insert(name.clone(), named);
            }
        }
        let program = Self { body, names, bytes: planned.plan.bytes(), barriers: planned.plan.barriers() };
        for (i, info) in graph.values.iter().enumerate() {
            if let (Home::Constant(values), Some(Place::Slot(slot))) = (&info.home, planned.places[i]) {
                let named = Named { slot, offset: 0, dtype: Dtype::F32, len: values.len() };
                program.write_floats(named, values);
            }
        }
        Ok(program)
    }

    /// Bytes of this program's own buffers, the shared sets not counted.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Launches that must wait for an earlier one, as a GPU's driver sees it.
    pub fn barriers(&self) -> usize {
        self.barriers
    }

    /// Writes a float input.
    ///
    /// # Errors
    /// If there is no such input, or the length differs.
    pub fn write(&self, name: &str, values: &[f32]) -> Result<()> {
        let named = self.named(name, Dtype::F32, values.len())?;
        self.write_floats(named, values);
        Ok(())
    }

    /// Writes a byte input.
    ///
    /// # Errors
    /// If there is no such input, or the length differs.
    pub fn write_bytes(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let named = self.named(name, Dtype::U8, bytes.len())?;
        match &self.body {
            Body::Cpu(program) => *program.slot(named.slot).write() = cpu::Data::U8(bytes.to_vec()),
            Body::Oracle(program) => *program.slot(named.slot).write() = cpu::Data::U8(bytes.to_vec()),
            Body::Gpu(program) => program.gpu().write(program.slot(named.slot), 0, bytes),
        }
        Ok(())
    }

    /// Writes an input of words.
    ///
    /// # Errors
    /// If there is no such input, or the length differs.
    pub fn write_words(&self, name: &str, words: &[u32]) -> Result<()> {
        let named = self.named(name, Dtype::U32, words.len())?;
        match &self.body {
            Body::Cpu(program) => *program.slot(named.slot).write() = cpu::Data::U32(words.to_vec()),
            Body::Oracle(program) => *program.slot(named.slot).write() = cpu::Data::U32(words.to_vec()),
            Body::Gpu(program) => {
                program.gpu().write(program.slot(named.slot), 0, bytemuck::cast_slice(words))
            }
        }
        Ok(())
    }

    /// Whether the program has an input or output of that name.
    pub fn has(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// Runs it. On a GPU the work is submitted, not awaited: reading waits.
    ///
    /// # Errors
    /// If the GPU was lost.
    pub fn run(&self) -> Result<()> {
        self.run_part(0..self.launches())
    }

    /// Runs some of its launches: what earlier ones left in kept values ([`Graph::keep`]) is still there.
    ///
    /// # Errors
    /// If the GPU was lost.
    pub fn run_part(&self, part: Range<usize>) -> Result<()> {
        match &self.body {
            Body::Cpu(program) => program.run_part(part),
            Body::Oracle(program) => program.run_part(part),
            Body::Gpu(program) => program.run_part(part)?,
        }
        Ok(())
    }

    /// How many launches it has.
    pub fn launches(&self) -> usize {
        match &self.body {
            Body::Cpu(program) => program.launches(),
            Body::Oracle(program) => program.launches(),
            Body::Gpu(program) => program.launches(),
        }
    }

    /// Runs it launch by launch and says how long each took.
    ///
    /// # Errors
    /// If the GPU was lost or has no timestamps.
    pub fn profile(&self) -> Result<Vec<(&'static str, Duration)>> {
        match &self.body {
            Body::Cpu(program) => Ok(program.profile()),
            Body::Oracle(program) => Ok(program.profile()),
            Body::Gpu(program) => program.profile(),
        }
    }

    /// The same, kernel by kernel: the time of all its launches and their number, the largest time first.
    ///
    /// # Errors
    /// As [`Self::profile`].
    pub fn profile_by_kernel(&self) -> Result<Vec<(&'static str, Duration, usize)>> {
        let mut sums: Vec<(&str, Duration, usize)> = Vec::new();
        for (name, time) in self.profile()? {
            match sums.iter_mut().find(|(known, ..)| *known == name) {
                Some((_, sum, count)) => (*sum, *count) = (*sum + time, *count + 1),
                None => sums.push((name, time, 1)),
            }
        }
        sums.sort_by_key(|(_, sum, _)| std::cmp::Reverse(*sum));
        Ok(sums)
    }

    /// Reads a named value.
    ///
    /// # Errors
    /// If there is no such value, or the GPU was lost.
    pub fn read(&self, name: &str) -> Result<Vec<f32>> {
        let named = self.find(name)?;
        match &self.body {
            Body::Cpu(program) => Ok(program.slot(named.slot).floats(named.offset, named.len)),
            Body::Oracle(_) => Ok(self.read_wide(name)?.into_iter().map(|v| v as f32).collect()),
            Body::Gpu(program) => program.gpu().read(program.slot(named.slot), named.offset, named.len),
        }
    }

    /// Reads a named value in the device's own precision.
    ///
    /// # Errors
    /// If there is no such value, or the GPU was lost.
    pub fn read_wide(&self, name: &str) -> Result<Vec<f64>> {
        let named = self.find(name)?;
        match &self.body {
            Body::Oracle(program) => Ok(program.slot(named.slot).floats(named.offset, named.len)),
            _ => Ok(self.read(name)?.into_iter().map(f64::from).collect()),
        }
    }

    fn write_floats(&self, named: Named, values: &[f32]) {
        match &self.body {
            Body::Cpu(program) => program.slot(named.slot).write_floats(named.offset, values),
            Body::Oracle(program) => program.slot(named.slot).write_floats(named.offset, values),
            Body::Gpu(program) => {
                let bytes = bytemuck::cast_slice(values);
                program.gpu().write(program.slot(named.slot), named.offset, bytes);
            }
        }
    }

    fn find(&self, name: &str) -> Result<Named> {
        let known = self.names.get(name).copied();
        known.ok_or_else(|| Error::failure(format!("the program has no value `{name}`")))
    }

    fn named(&self, name: &str, dtype: Dtype, len: usize) -> Result<Named> {
        let named = self.find(name)?;
        if named.dtype != dtype || named.len != len {
            return Err(Error::input(format!(
                "`{name}` takes {} elements of {:?}, not {len} of {dtype:?}",
                named.len, named.dtype
            )));
        }
        Ok(named)
    }
}
