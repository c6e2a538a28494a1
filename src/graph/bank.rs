//! Flat sets of buffers on a device: weights, gradients, moments, averages.

use std::collections::BTreeMap;
use std::sync::Arc;

use half::f16;
use half::vec::HalfFloatVecExt;

use super::{Device, Param, ParamId, Params, Shard};
use crate::kernels::{Dtype, Float, Set};
use crate::{Error, Result, cpu, gpu};

/// Flat sets of buffers, laid out as a policy's parameters, on one device. Programs share them.
#[derive(Clone)]
pub struct Bank {
    params: Arc<Params>,
    pub(super) device: Device,
    pub(super) sets: Sets,
}

#[derive(Clone)]
pub(super) enum Sets {
    Cpu(cpu::Bank<f32>),
    Oracle(cpu::Bank<f64>),
    Gpu(gpu::Bank),
}

impl Bank {
    /// Sets of zeros. Parameters that stay as they are have a place in the sets of weights alone.
    ///
    /// # Errors
    /// If a GPU has not the memory.
    pub fn new(device: &Device, params: &Arc<Params>, sets: &[Set]) -> Result<Self> {
        let sets = match device {
            Device::Cpu => Sets::Cpu(zeros(sets, params)),
            Device::Oracle => Sets::Oracle(zeros(sets, params)),
            Device::Gpu(gpu) => {
                let set = |set: &Set| {
                    let shards = shards_of(params, *set);
                    let buffer = |shard: Shard| gpu.buffer(shard.dtype, shard.len);
                    Ok((*set, shards.map(buffer).collect::<Result<_>>()?))
                };
                Sets::Gpu(sets.iter().map(set).collect::<Result<BTreeMap<_, _>>>()?)
            }
        };
        Ok(Self { params: Arc::clone(params), device: device.clone(), sets })
    }

    /// The parameters these sets are laid out for.
    pub fn params(&self) -> &Arc<Params> {
        &self.params
    }

    /// The device the buffers are on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The same buffers with `set` standing in for the weights: to sample from averaged weights, say.
    #[must_use]
    pub fn with_weights_from(&self, set: Set) -> Self {
        fn swap<B: Clone>(bank: &BTreeMap<Set, Vec<B>>, set: Set) -> BTreeMap<Set, Vec<B>> {
            bank.get(&set).map(|buffers| (Set::Weights, buffers.clone())).into_iter().collect()
        }
        let sets = match &self.sets {
            Sets::Cpu(bank) => Sets::Cpu(swap(bank, set)),
            Sets::Oracle(bank) => Sets::Oracle(swap(bank, set)),
            Sets::Gpu(bank) => Sets::Gpu(swap(bank, set)),
        };
        Self { params: Arc::clone(&self.params), device: self.device.clone(), sets }
    }

    /// Bytes of all sets, as a device that computes in f32 stores them.
    pub fn bytes(&self) -> usize {
        let sets: Vec<Set> = match &self.sets {
            Sets::Cpu(bank) => bank.keys().copied().collect(),
            Sets::Oracle(bank) => bank.keys().copied().collect(),
            Sets::Gpu(bank) => bank.keys().copied().collect(),
        };
        let shards = sets.into_iter().flat_map(|set| shards_of(&self.params, set));
        shards.map(|shard| shard.len * shard.dtype.bytes()).sum()
    }

    /// Writes one parameter-shaped run of a set; what is stored as f16 is rounded to it.
    pub fn write(&self, set: Set, name: &str, values: &[f32]) {
        let Some(id) = self.params.find(name).filter(|id| self.holds(set, *id)) else { return };
        let param = self.params.get(id);
        match &self.sets {
            Sets::Cpu(bank) => bank[&set][param.shard].write_floats(param.offset, values),
            Sets::Oracle(bank) => bank[&set][param.shard].write_floats(param.offset, values),
            Sets::Gpu(bank) => {
                if let Device::Gpu(gpu) = &self.device {
                    let halves: Vec<f16>;
                    let bytes = match param.dtype {
                        Dtype::F16 => {
                            halves = Vec::from_f32_slice(values);
                            bytemuck::cast_slice(&halves)
                        }
                        _ => bytemuck::cast_slice(values),
                    };
                    gpu.write(&bank[&set][param.shard], param.offset, bytes);
                }
            }
        }
    }

    /// Reads a whole set, parameter by parameter, in order of declaration.
    ///
    /// # Errors
    /// If the GPU was lost.
    pub fn read(&self, set: Set) -> Result<Vec<Vec<f32>>> {
        let shards: Vec<Vec<f32>> = match (&self.sets, &self.device) {
            (Sets::Gpu(bank), Device::Gpu(gpu)) => {
                bank[&set].iter().map(|buffer| gpu.read(buffer, 0, buffer.len)).collect::<Result<_>>()?
            }
            (Sets::Cpu(bank), _) => self.floats_of(set, &bank[&set]),
            (Sets::Oracle(_), _) => {
                let narrow = |wide: Vec<f64>| wide.into_iter().map(|v| v as f32).collect();
                return Ok(self.read_wide(set)?.into_iter().map(narrow).collect());
            }
            (Sets::Gpu(_), _) => return Err(Error::failure("a bank of GPU buffers without its GPU")),
        };
        Ok(self.by_parameter(set, &shards))
    }

    /// Reads a whole set in the device's own precision.
    ///
    /// # Errors
    /// If the GPU was lost.
    pub fn read_wide(&self, set: Set) -> Result<Vec<Vec<f64>>> {
        match &self.sets {
            Sets::Oracle(bank) => Ok(self.by_parameter(set, &self.floats_of(set, &bank[&set]))),
            _ => {
                let widen = |narrow: Vec<f32>| narrow.into_iter().map(f64::from).collect();
                Ok(self.read(set)?.into_iter().map(widen).collect())
            }
        }
    }

    fn floats_of<T: Float>(&self, set: Set, buffers: &[cpu::Buffer<T>]) -> Vec<Vec<T>> {
        let shards = shards_of(&self.params, set);
        buffers.iter().zip(shards).map(|(buffer, shard)| buffer.floats(0, shard.len)).collect()
    }

    /// Zeros for a parameter that has no place in the set.
    fn by_parameter<T: Float>(&self, set: Set, shards: &[Vec<T>]) -> Vec<Vec<T>> {
        let run = |(id, param): (ParamId, &Param)| match self.holds(set, id) {
            true => shards[param.shard][param.offset..param.offset + param.len].to_vec(),
            false => vec![T::ZERO; param.len],
        };
        self.params.iter().map(run).collect()
    }

    /// Whether a parameter has a place in a set.
    fn holds(&self, set: Set, id: ParamId) -> bool {
        holds(set, self.params.rate(id))
    }
}

/// Whether parameters with that factor of the learning rate have a place in a set: those that stay as they are need no
/// gradients and no moments.
fn holds(set: Set, rate: f32) -> bool {
    rate > 0.0 || matches!(set, Set::Weights | Set::Average)
}

/// The shards of a set; those it has no place for are empty.
fn shards_of(params: &Params, set: Set) -> impl Iterator<Item = Shard> {
    params.shards().iter().map(move |&shard| match holds(set, shard.rate) {
        true => shard,
        false => Shard { len: 0, ..shard },
    })
}

fn zeros<T: Float>(sets: &[Set], params: &Params) -> cpu::Bank<T> {
    let buffers =
        |set| shards_of(params, set).map(|shard| cpu::Buffer::zeros(shard.dtype, shard.len)).collect();
    sets.iter().map(|&set| (set, buffers(set))).collect()
}
