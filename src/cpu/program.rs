//! A plan made ready for the CPU: the twins, in order, on plain vectors.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use half::f16;
use half::slice::HalfFloatSliceExt;

use super::fast;
use super::panels::{Kept, Layout, Operand, Operands};
use crate::kernels::{Binding, Dtype, Float, Io, Kernel, MAX_BINDINGS, Place, Plan, Set, Slice, Step};
use crate::{Error, Result};

/// A buffer's elements.
#[derive(Debug, Clone)]
pub enum Data<T> {
    /// Floats.
    F(Vec<T>),
    /// 16-bit floats.
    H(Vec<f16>),
    /// Bytes.
    U8(Vec<u8>),
    /// Words.
    U32(Vec<u32>),
}

/// A buffer that several programs may share.
#[derive(Debug, Clone)]
pub struct Buffer<T>(Arc<Shared<T>>);

#[derive(Debug)]
struct Shared<T> {
    data: RwLock<Data<T>>,
    /// How often somebody came to write.
    writes: AtomicU64,
    /// What of it is laid out once more, for products.
    panels: Kept,
}

/// The flat buffers that programs share: weights, gradients, moments.
pub type Bank<T> = BTreeMap<Set, Vec<Buffer<T>>>;

impl<T: Float> Buffer<T> {
    /// A buffer of zeros.
    pub fn zeros(dtype: Dtype, len: usize) -> Self {
        let data = match dtype {
            Dtype::F32 => Data::F(vec![T::ZERO; len]),
            Dtype::F16 => Data::H(vec![f16::ZERO; len]),
            Dtype::U8 => Data::U8(vec![0; len]),
            Dtype::U32 => Data::U32(vec![0; len]),
        };
        let (data, writes, panels) = (RwLock::new(data), AtomicU64::new(0), Kept::default());
        Self(Arc::new(Shared { data, writes, panels }))
    }

    /// The elements, to read. A poisoned lock is entered: the panic that poisoned it is already on its way up.
    pub fn read(&self) -> RwLockReadGuard<'_, Data<T>> {
        self.0.data.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The elements, to write.
    pub fn write(&self) -> RwLockWriteGuard<'_, Data<T>> {
        let guard = self.0.data.write().unwrap_or_else(PoisonError::into_inner);
        self.0.writes.fetch_add(1, Ordering::Relaxed);
        guard
    }

    fn writes(&self) -> u64 {
        self.0.writes.load(Ordering::Relaxed)
    }

    /// Writes floats from an element offset on.
    pub fn write_floats(&self, offset: usize, values: &[f32]) {
        match &mut *self.write() {
            Data::F(data) => {
                for (to, &from) in data[offset..].iter_mut().zip(values) {
                    *to = T::of(f64::from(from));
                }
            }
            Data::H(data) => data[offset..offset + values.len()].convert_from_f32_slice(values),
            Data::U8(_) | Data::U32(_) => {}
        }
    }

    /// Writes a whole buffer of bytes.
    pub fn write_bytes(&self, bytes: &[u8]) {
        if let Data::U8(data) = &mut *self.write() {
            data.copy_from_slice(bytes);
        }
    }

    /// Writes a whole buffer of words.
    pub fn write_words(&self, words: &[u32]) {
        if let Data::U32(data) = &mut *self.write() {
            data.copy_from_slice(words);
        }
    }

    /// `len` floats from an element offset on.
    pub fn floats(&self, offset: usize, len: usize) -> Vec<T> {
        match &*self.read() {
            Data::F(data) => data[offset..offset + len].to_vec(),
            Data::H(data) => Slice::H(&data[offset..offset + len]).widened().into_owned(),
            _ => Vec::new(),
        }
    }
}

/// A plan ready to run.
pub struct Program<T> {
    slots: Vec<Buffer<T>>,
    nothing: Buffer<T>,
    steps: Vec<Launch<T>>,
    /// Whether fast bodies may stand in for twins.
    fast: bool,
}

struct Launch<T> {
    step: Step,
    inputs: Vec<Buffer<T>>,
    outputs: Vec<Buffer<T>>,
    kept: Vec<Operand>,
}

impl<T: Float> Program<T> {
    /// Makes a plan ready.
    ///
    /// # Errors
    /// If the plan works on a set that the bank lacks.
    pub fn new(plan: &Plan, bank: &Bank<T>) -> Result<Self> {
        let slots: Vec<Buffer<T>> =
            plan.slots.iter().map(|slot| Buffer::zeros(slot.dtype, slot.len)).collect();
        let nothing = Buffer::zeros(Dtype::F32, 0);
        let find = |binding: &Binding| match binding.place {
            Place::Slot(slot) => Ok(slots[slot].clone()),
            Place::Nothing => Ok(nothing.clone()),
            Place::Shard { set, shard } => bank
                .get(&set)
                .and_then(|shards| shards.get(shard))
                .cloned()
                .ok_or_else(|| Error::failure(format!("the program has no {set:?} to work on"))),
        };
        let written: HashSet<Place> =
            plan.steps.iter().flat_map(|step| &step.outputs).map(|binding| binding.place).collect();
        let steps = plan
            .steps
            .iter()
            .map(|step| {
                let inputs: Vec<Buffer<T>> = step.inputs.iter().map(find).collect::<Result<_>>()?;
                let outputs = step.outputs.iter().map(find).collect::<Result<_>>()?;
                // Weights, and what attention looks at again and again, outlive a launch.
                let outlives = match &step.kernel {
                    Kernel::Attention(_) => step.inputs[0].place != step.inputs[1].place,
                    _ => step.inputs.get(1).is_some_and(|binding| !written.contains(&binding.place)),
                };
                let keep = |(input, layout): (usize, Layout)| {
                    let buffer: &Buffer<T> = &inputs[input];
                    let offset = layout.offset + step.inputs[input].offset;
                    (input, buffer.0.panels.of(Layout { offset, ..layout }))
                };
                let kept = match outlives {
                    true => fast::wants_panels(&step.kernel).into_iter().map(keep).collect(),
                    false => Vec::new(),
                };
                Ok(Launch { step: step.clone(), inputs, outputs, kept })
            })
            .collect::<Result<_>>()?;
        Ok(Self { slots, nothing, steps, fast: true })
    }

    /// The same program by the readable twins alone.
    #[must_use]
    pub fn by_twins(mut self) -> Self {
        self.fast = false;
        self
    }

    /// Runs some of its launches, in order.
    pub fn run_part(&self, part: Range<usize>) {
        for launch in &self.steps[part] {
            launch.run(self.fast);
        }
    }

    /// Runs the program and says how long each launch took.
    pub fn profile(&self) -> Vec<(&'static str, Duration)> {
        self.steps
            .iter()
            .map(|launch| {
                let start = Instant::now();
                launch.run(self.fast);
                (launch.step.kernel.name(), start.elapsed())
            })
            .collect()
    }

    /// How many launches it has.
    pub fn launches(&self) -> usize {
        self.steps.len()
    }

    /// A slot's buffer.
    pub fn slot(&self, slot: usize) -> &Buffer<T> {
        self.slots.get(slot).unwrap_or(&self.nothing)
    }
}

impl<T: Float> Launch<T> {
    fn run(&self, fast: bool) {
        // Filled where they stay: collected they would be moved, which a short launch would notice.
        let mut guards: ArrayVec<_, MAX_BINDINGS> = ArrayVec::new();
        self.inputs.iter().for_each(|input| guards.push(input.read()));
        let mut inputs: ArrayVec<Slice<'_, T>, MAX_BINDINGS> = ArrayVec::new();
        for (guard, binding) in guards.iter().zip(&self.step.inputs) {
            let range = binding.offset..binding.offset + binding.len;
            inputs.push(match (&**guard, binding.place) {
                (_, Place::Nothing) => Slice::Nothing,
                (Data::F(data), _) => Slice::F(&data[range]),
                (Data::H(data), _) => Slice::H(&data[range]),
                (Data::U8(data), _) => Slice::U8(&data[range]),
                (Data::U32(data), _) => Slice::U32(&data[range]),
            });
        }
        let mut written: ArrayVec<_, MAX_BINDINGS> = ArrayVec::new();
        self.outputs.iter().for_each(|output| written.push(output.write()));
        let mut outputs: ArrayVec<&mut [T], MAX_BINDINGS> = ArrayVec::new();
        for (guard, binding) in written.iter_mut().zip(&self.step.outputs) {
            outputs.push(match &mut **guard {
                Data::F(data) => &mut data[binding.offset..binding.offset + binding.len],
                _ => &mut [],
            });
        }
        let mut io = Io { inputs: &inputs, outputs: &mut outputs };
        let buffer = |input: usize| match guards.get(input).map(|guard| &**guard) {
            Some(Data::F(data)) => (T::as_f32(data).unwrap_or_default(), self.inputs[input].writes()),
            _ => (&[][..], 0),
        };
        let kept = (!self.kept.is_empty())
            .then(|| Operands { kept: &self.kept, buffers: [buffer(0), buffer(1), buffer(2)] });
        if !(fast && fast::run(&self.step.kernel, kept, &mut io)) {
            self.step.kernel.twin(&mut io);
        }
    }
}
