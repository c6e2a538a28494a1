//! A graph compiled for one device.

use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;

use super::bank::{Bank, Sets};
use super::{Device, Graph, Home};
use crate::kernels::{Dtype, Place, Work};
use crate::{Error, Result, cpu, gpu};

/// A graph compiled for one device.
pub(super) struct Compiled {
    body: Body,
    names: HashMap<String, Named>,
    bytes: usize,
    barriers: usize,
    work: Vec<Work>,
}

enum Body {
    Cpu(cpu::Program<f32>),
    Oracle(cpu::Program<f64>),
    Gpu(gpu::Program),
}

/// Where a named value lies.
#[derive(Clone, Copy)]
pub(super) struct Named {
    slot: usize,
    offset: usize,
    pub(super) dtype: Dtype,
    pub(super) len: usize,
}

impl Compiled {
    /// Compiles a graph for the device its bank is on.
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
        let plan = &planned.plan;
        let work = plan.work(|shard| graph.params().shards()[shard].dtype);
        let compiled = Self { body, names, bytes: plan.bytes(), barriers: plan.barriers(), work };
        for (i, info) in graph.values.iter().enumerate() {
            if let (Home::Constant(values), Some(Place::Slot(slot))) = (&info.home, planned.places[i]) {
                let named = Named { slot, offset: 0, dtype: Dtype::F32, len: values.len() };
                compiled.write_floats(named, values);
            }
        }
        Ok(compiled)
    }

    /// Bytes of this program's own buffers, the shared sets not counted.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Launches that must wait for an earlier one, as a GPU's driver sees it.
    pub fn barriers(&self) -> usize {
        self.barriers
    }

    /// What each launch has to do.
    pub fn work(&self) -> &[Work] {
        &self.work
    }

    /// Writes floats.
    pub fn write_floats(&self, named: Named, values: &[f32]) {
        match &self.body {
            Body::Cpu(program) => program.slot(named.slot).write_floats(named.offset, values),
            Body::Oracle(program) => program.slot(named.slot).write_floats(named.offset, values),
            Body::Gpu(program) => {
                let bytes = bytemuck::cast_slice(values);
                program.gpu().write(program.slot(named.slot), named.offset, bytes);
            }
        }
    }

    /// Writes bytes.
    pub fn write_bytes(&self, named: Named, bytes: &[u8]) {
        match &self.body {
            Body::Cpu(program) => program.slot(named.slot).write_bytes(bytes),
            Body::Oracle(program) => program.slot(named.slot).write_bytes(bytes),
            Body::Gpu(program) => program.gpu().write(program.slot(named.slot), 0, bytes),
        }
    }

    /// Writes words.
    pub fn write_words(&self, named: Named, words: &[u32]) {
        match &self.body {
            Body::Cpu(program) => program.slot(named.slot).write_words(words),
            Body::Oracle(program) => program.slot(named.slot).write_words(words),
            Body::Gpu(program) => {
                program.gpu().write(program.slot(named.slot), 0, bytemuck::cast_slice(words));
            }
        }
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

    /// Reads floats.
    pub fn read(&self, named: Named) -> Result<Vec<f32>> {
        match &self.body {
            Body::Cpu(program) => Ok(program.slot(named.slot).floats(named.offset, named.len)),
            Body::Oracle(_) => Ok(self.read_wide(named)?.into_iter().map(|v| v as f32).collect()),
            Body::Gpu(program) => program.gpu().read(program.slot(named.slot), named.offset, named.len),
        }
    }

    /// Reads floats in the device's own precision.
    pub fn read_wide(&self, named: Named) -> Result<Vec<f64>> {
        match &self.body {
            Body::Oracle(program) => Ok(program.slot(named.slot).floats(named.offset, named.len)),
            _ => Ok(self.read(named)?.into_iter().map(f64::from).collect()),
        }
    }

    /// Where a named value lies.
    pub fn find(&self, name: &str) -> Option<Named> {
        self.names.get(name).copied()
    }
}
