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
use super::threads::may_share;
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
        let guard = self.lock();
        self.count_write();
        guard
    }

    fn lock(&self) -> RwLockWriteGuard<'_, Data<T>> {
        self.0.data.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn writes(&self) -> u64 {
        self.0.writes.load(Ordering::Relaxed)
    }

    /// Counts a write of whoever holds the elements to write, so that nobody else counts meanwhile.
    fn count_write(&self) {
        self.0.writes.store(self.writes() + 1, Ordering::Relaxed);
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
    /// All that launches are bound to, each once, in an order that is the same for all programs, and whether any launch
    /// writes to it.
    bound: Vec<(Buffer<T>, bool)>,
    steps: Vec<Launch>,
    /// Whether fast bodies may stand in for twins.
    fast: bool,
}

struct Launch {
    step: Step,
    /// Which of what is bound.
    inputs: Vec<usize>,
    outputs: Vec<usize>,
    /// All of these in order, each once, and whether it is an output.
    bound: Vec<(usize, bool)>,
    kept: Vec<Operand>,
}

/// A buffer that somebody holds on to. Locking for each launch costs a short one a tenth of its time.
enum Held<'a, T> {
    ToRead(RwLockReadGuard<'a, Data<T>>),
    ToWrite(RwLockWriteGuard<'a, Data<T>>),
}

impl<T> Held<'_, T> {
    fn data(&self) -> &Data<T> {
        match self {
            Self::ToRead(data) => data,
            Self::ToWrite(data) => data,
        }
    }
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
        let mut bound = BTreeMap::new();
        let mut bind = |binding: &Binding, writes: bool| {
            let buffer = find(binding)?;
            let at = Arc::as_ptr(&buffer.0).addr();
            bound.entry(at).or_insert((buffer, false)).1 |= writes;
            Ok(at)
        };
        let mut launches = Vec::new();
        for step in &plan.steps {
            let inputs: Vec<usize> = step.inputs.iter().map(|b| bind(b, false)).collect::<Result<_>>()?;
            let outputs: Vec<usize> = step.outputs.iter().map(|b| bind(b, true)).collect::<Result<_>>()?;
            let twice = |i: usize| inputs.contains(&outputs[i]) || outputs[..i].contains(&outputs[i]);
            if (0..outputs.len()).any(|i| step.outputs[i].place != Place::Nothing && twice(i)) {
                return Err(Error::failure(format!("{} writes what it binds twice", step.kernel)));
            }
            launches.push((step, inputs, outputs));
        }
        // Addresses become numbers in their order.
        let order: Vec<usize> = bound.keys().copied().collect();
        let bound: Vec<(Buffer<T>, bool)> = bound.into_values().collect();
        let numbers =
            |at: Vec<usize>| at.iter().map(|at| order.partition_point(|other| other < at)).collect();
        let launch = |(step, inputs, outputs): (&Step, Vec<usize>, Vec<usize>)| {
            let inputs: Vec<usize> = numbers(inputs);
            // Weights, and what attention looks at again and again, outlive a launch.
            let outlives = |input: usize| match &step.kernel {
                Kernel::Attention(_) => step.inputs[0].place != step.inputs[input].place,
                _ => !written.contains(&step.inputs[input].place),
            };
            let keep = |(input, layout): (usize, Layout)| {
                let offset = layout.offset + step.inputs[input].offset;
                (input, bound[inputs[input]].0.0.panels.of(Layout { offset, ..layout }))
            };
            let wanted = fast::wants_panels(&step.kernel);
            let kept = match wanted.iter().all(|(input, _)| outlives(*input)) {
                true => wanted.into_iter().map(keep).collect(),
                false => Vec::new(),
            };
            let outputs: Vec<usize> = numbers(outputs);
            let reads = inputs.iter().filter(|at| !outputs.contains(at)).map(|&at| (at, false));
            let mut bound: Vec<(usize, bool)> = reads.chain(outputs.iter().map(|&at| (at, true))).collect();
            bound.sort_unstable();
            bound.dedup();
            Launch { step: step.clone(), inputs, outputs, bound, kept }
        };
        let steps = launches.into_iter().map(launch).collect();
        Ok(Self { slots, nothing, bound, steps, fast: true })
    }

    /// The same program by the readable twins alone.
    #[must_use]
    pub fn by_twins(mut self) -> Self {
        self.fast = false;
        self
    }

    /// Runs some of its launches, in order.
    pub fn run_part(&self, part: Range<usize>) {
        let mut held = self.hold_for_a_run();
        for launch in &self.steps[part] {
            self.launch(launch, held.as_mut());
        }
    }

    /// Runs the program and says how long each launch took.
    pub fn profile(&self) -> Vec<(&'static str, Duration)> {
        let mut held = self.hold_for_a_run();
        let time = |launch: &Launch| {
            let start = Instant::now();
            self.launch(launch, held.as_mut());
            (launch.step.kernel.name(), start.elapsed())
        };
        self.steps.iter().map(time).collect()
    }

    /// Who works alone holds everything from the first launch to the last. Who shares work with the pool does not: a thread of
    /// the pool might be waiting for just that, and never come to the work.
    fn hold_for_a_run(&self) -> Option<Vec<Option<Held<'_, T>>>> {
        let all = self.bound.iter().map(|(_, written)| *written).enumerate();
        (!may_share()).then(|| self.hold(all))
    }

    /// Runs a launch on what is held for the run, or for it alone.
    fn launch(&self, launch: &Launch, held: Option<&mut Vec<Option<Held<'_, T>>>>) {
        match held {
            Some(held) => self.run(launch, held),
            None => self.run(launch, &mut self.hold(launch.bound.iter().copied())),
        }
    }

    /// Some of what is bound, to write or to read. Programs that share buffers wait for one another in the order of these,
    /// never in a ring.
    fn hold(&self, some: impl Iterator<Item = (usize, bool)>) -> Vec<Option<Held<'_, T>>> {
        let mut held: Vec<Option<Held<'_, T>>> = self.bound.iter().map(|_| None).collect();
        for (at, written) in some {
            let buffer = &self.bound[at].0;
            held[at] = Some(match written {
                true => Held::ToWrite(buffer.lock()),
                false => Held::ToRead(buffer.read()),
            });
        }
        held
    }

    /// How many launches it has.
    pub fn launches(&self) -> usize {
        self.steps.len()
    }

    /// A slot's buffer.
    pub fn slot(&self, slot: usize) -> &Buffer<T> {
        self.slots.get(slot).unwrap_or(&self.nothing)
    }

    fn run(&self, launch: &Launch, held: &mut [Option<Held<'_, T>>]) {
        // No output is an input as well.
        let mut written: ArrayVec<_, MAX_BINDINGS> = ArrayVec::new();
        launch.outputs.iter().for_each(|&at| written.push(held[at].take()));
        self.run_on(launch, held, &mut written);
        for (&at, data) in launch.outputs.iter().zip(written) {
            held[at] = data;
        }
    }

    /// Runs a launch on its inputs, which are among what is held, and what it writes to.
    #[inline]
    fn run_on(&self, launch: &Launch, held: &[Option<Held<'_, T>>], written: &mut [Option<Held<'_, T>>]) {
        let step = &launch.step;
        // Filled where they stay: collected they would be moved, which a short launch would notice.
        let mut outputs: ArrayVec<&mut [T], MAX_BINDINGS> = ArrayVec::new();
        for ((data, binding), &at) in written.iter_mut().zip(&step.outputs).zip(&launch.outputs) {
            self.bound[at].0.count_write();
            outputs.push(match data {
                Some(Held::ToWrite(data)) => match &mut **data {
                    Data::F(data) => &mut data[binding.offset..binding.offset + binding.len],
                    _ => &mut [],
                },
                _ => &mut [],
            });
        }
        let data = |input: usize| held[launch.inputs[input]].as_ref().map(Held::data);
        let mut inputs: ArrayVec<Slice<'_, T>, MAX_BINDINGS> = ArrayVec::new();
        for (input, binding) in step.inputs.iter().enumerate() {
            let range = binding.offset..binding.offset + binding.len;
            inputs.push(match (data(input), binding.place) {
                (_, Place::Nothing) | (None, _) => Slice::Nothing,
                (Some(Data::F(data)), _) => Slice::F(&data[range]),
                (Some(Data::H(data)), _) => Slice::H(&data[range]),
                (Some(Data::U8(data)), _) => Slice::U8(&data[range]),
                (Some(Data::U32(data)), _) => Slice::U32(&data[range]),
            });
        }
        let mut io = Io { inputs: &inputs, outputs: &mut outputs };
        let buffer = |input: usize| match launch.inputs.get(input).and_then(|_| data(input)) {
            Some(Data::F(data)) => {
                (T::as_f32(data).unwrap_or_default(), self.bound[launch.inputs[input]].0.writes())
            }
            _ => (&[][..], 0),
        };
        let mut buffers: ArrayVec<_, MAX_BINDINGS> = ArrayVec::new();
        if !launch.kept.is_empty() {
            (0..launch.inputs.len()).for_each(|input| buffers.push(buffer(input)));
        }
        let kept = (!launch.kept.is_empty()).then(|| Operands { kept: &launch.kept, buffers: &buffers });
        if !(self.fast && fast::run(&step.kernel, kept, &mut io)) {
            step.kernel.twin(&mut io);
        }
    }
}
