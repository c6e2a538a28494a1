//! What a device executes: buffers, and kernels bound to them, in order.

use std::collections::HashMap;

use super::{Dtype, Kernel};

/// The flat, parameter-shaped sets of buffers that outlive a program and may be shared by several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Set {
    /// Parameters.
    Weights,
    /// Gradients.
    Gradients,
    /// Adam's first moments.
    Moment1,
    /// Adam's second moments.
    Moment2,
    /// Exponential moving average of the parameters.
    Average,
}

/// Where a binding's elements live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// A buffer of this program.
    Slot(usize),
    /// One shard of a flat set.
    Shard {
        /// Which set.
        set: Set,
        /// Which of its buffers.
        shard: usize,
    },
    /// An optional binding that is not there.
    Nothing,
}

/// A run of elements in a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding {
    /// The buffer.
    pub place: Place,
    /// First element, 256 bytes apart from another, so that any GPU can bind there.
    pub offset: usize,
    /// Elements.
    pub len: usize,
}

impl Binding {
    /// The absent binding.
    pub const NOTHING: Self = Self { place: Place::Nothing, offset: 0, len: 0 };
}

/// A buffer of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// What it holds.
    pub dtype: Dtype,
    /// Elements.
    pub len: usize,
}

/// One launch. No output shares a buffer with an input or with another output.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// What to run.
    pub kernel: Kernel,
    /// Inputs in binding order.
    pub inputs: Vec<Binding>,
    /// Outputs in binding order.
    pub outputs: Vec<Binding>,
}

/// A whole program.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// The program's own buffers.
    pub slots: Vec<Slot>,
    /// The launches, in order.
    pub steps: Vec<Step>,
}

/// What a launch has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// The kernel's name.
    pub kernel: &'static str,
    /// Floating-point operations.
    pub flops: u64,
    /// Bytes of what is bound, each binding once.
    pub bytes: u64,
}

impl Plan {
    /// What each launch has to do; `shard` says what the elements of a flat set's shard are.
    pub fn work(&self, shard: impl Fn(usize) -> Dtype) -> Vec<Work> {
        let bytes = |binding: &Binding| {
            let dtype = match binding.place {
                Place::Slot(slot) => self.slots[slot].dtype,
                Place::Shard { shard: number, .. } => shard(number),
                Place::Nothing => return 0,
            };
            (binding.len * dtype.bytes()) as u64
        };
        let work = |step: &Step| Work {
            kernel: step.kernel.name(),
            flops: step.kernel.flops(),
            bytes: step.inputs.iter().chain(&step.outputs).map(bytes).sum(),
        };
        self.steps.iter().map(work).collect()
    }

    /// Bytes of the program's own buffers.
    pub fn bytes(&self) -> usize {
        self.slots.iter().map(|slot| slot.len * slot.dtype.bytes()).sum()
    }

    /// How many launches touch a buffer in another way than the launch before them left it: each is a barrier
    /// where hazards are tracked by whole buffer. Writing what was just written counts; reading again does not.
    pub fn barriers(&self) -> usize {
        let mut written: HashMap<Place, bool> = HashMap::new();
        let mut waits = |binding: &Binding, write: bool| {
            let before = written.insert(binding.place, write);
            binding.place != Place::Nothing && before.is_some_and(|before| before || write)
        };
        let mut count = 0;
        for step in &self.steps {
            let reads = step.inputs.iter().filter(|binding| waits(binding, false)).count();
            let writes = step.outputs.iter().filter(|binding| waits(binding, true)).count();
            count += usize::from(reads + writes > 0);
        }
        count
    }
}
