//! What there is to run on.

use std::fmt;
use std::sync::Arc;

use crate::Result;
use crate::gpu::{Checks, Choice, Gpu};
use crate::kernels::{AdapterClass, Merged};

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

    /// Whether all steps of a small decoder are better one launch: on a real GPU, where a launch costs more than the little
    /// work of a small one, even if it leaves most of the GPU idle, and on lavapipe; on the CPU, where nothing is looked up
    /// between products.
    pub fn favours_few_launches(&self) -> bool {
        match self {
            Self::Cpu => true,
            Self::Oracle => false,
            Self::Gpu(gpu) => gpu.class() != AdapterClass::Software,
        }
    }

    /// Whether several launches are better this one here. The oracle has each by itself.
    pub fn merges(&self, kernel: &impl Merged) -> bool {
        match self {
            Self::Cpu => kernel.suits_cpu(),
            Self::Oracle => false,
            Self::Gpu(gpu) => kernel.suits(gpu.class()),
        }
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
