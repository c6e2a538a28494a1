//! The memory plan: which temporaries share a buffer.
//!
//! A temporary lives from the launch that first writes it to the last that touches it. Walking the launches in
//! order, outputs take the smallest free buffer that holds them (never one of this launch's inputs), and buffers
//! are freed behind their last reader. Buffers stay separate, never runs of one arena: GPUs track hazards by
//! whole buffer, and may not bind one buffer for reading and writing in the same launch.

use super::{Graph, Home, Value};
use crate::kernels::{Binding, Dtype, Place, Plan, Slot, Step};

/// A plan, and which slot each kept value got.
pub(super) struct Planned {
    pub(super) plan: Plan,
    pub(super) places: Vec<Option<Place>>,
}

impl Graph {
    /// The plan that a [`super::Program`] of this graph runs.
    pub fn compile_plan(&self) -> Plan {
        self.plan(true).plan
    }

    /// The same launches where every value has a buffer of its own: what the plan is checked against, and what
    /// sharing saves.
    pub fn plan_without_sharing(&self) -> Plan {
        self.plan(false).plan
    }

    /// Makes the plan; temporaries share buffers if they may.
    ///
    /// # Panics
    /// If a launch has two outputs, or an output and an input, in one buffer.
    pub(super) fn plan(&self, share: bool) -> Planned {
        let mut last_use = vec![None; self.values.len()];
        for (i, launch) in self.launches.iter().enumerate() {
            for value in launch.inputs.iter().flatten().chain(&launch.outputs) {
                last_use[value.0] = Some(i);
            }
        }
        let mut planned = Planned { plan: Plan::default(), places: vec![None; self.values.len()] };
        for (i, info) in self.values.iter().enumerate() {
            planned.places[i] = match &info.home {
                Home::Temporary | Home::View { .. } => None,
                Home::Kept | Home::Constant(_) => {
                    planned.plan.slots.push(Slot { dtype: info.dtype, len: info.shape.iter().product() });
                    Some(Place::Slot(planned.plan.slots.len() - 1))
                }
                Home::Shard { set, shard, .. } => Some(Place::Shard { set: *set, shard: *shard }),
            };
        }
        for (i, info) in self.values.iter().enumerate() {
            if let Home::View { of, .. } = info.home {
                planned.places[i] = planned.places[of.0];
            }
        }
        let mut free: Vec<usize> = Vec::new();
        for (i, launch) in self.launches.iter().enumerate() {
            for output in &launch.outputs {
                if planned.places[output.0].is_none() {
                    let slot = take(&mut free, &mut planned.plan.slots, self.len(*output));
                    planned.places[output.0] = Some(Place::Slot(slot));
                }
            }
            planned.plan.steps.push(Step {
                kernel: launch.kernel.clone(),
                inputs: launch
                    .inputs
                    .iter()
                    .map(|value| value.map_or(Binding::NOTHING, |value| self.binding(&planned, value)))
                    .collect(),
                outputs: launch.outputs.iter().map(|value| self.binding(&planned, *value)).collect(),
            });
            check(&planned.plan.steps[i]);
            let mut touched: Vec<Value> =
                launch.inputs.iter().flatten().chain(&launch.outputs).copied().collect();
            touched.sort_unstable_by_key(|value| value.0);
            touched.dedup();
            for value in touched {
                let temporary = self.values[value.0].home == Home::Temporary;
                if let (true, Some(Place::Slot(slot)), Some(last)) =
                    (temporary, planned.places[value.0], last_use[value.0])
                    && last == i
                    && share
                {
                    free.push(slot);
                }
            }
        }
        planned
    }

    fn binding(&self, planned: &Planned, value: Value) -> Binding {
        let offset = match self.values[value.0].home {
            Home::Shard { offset, .. } | Home::View { offset, .. } => offset,
            _ => 0,
        };
        let place = planned.places[value.0].expect("a value is written before it is read");
        Binding { place, offset, len: self.len(value) }
    }
}

/// No device can run a launch that writes a buffer which it binds twice.
fn check(step: &Step) {
    for (i, output) in step.outputs.iter().enumerate() {
        let others = step.inputs.iter().chain(&step.outputs[..i]);
        let shared = others.into_iter().any(|other| other.place == output.place);
        assert!(!shared, "{} writes {:?}, which it binds twice", step.kernel, output.place);
    }
}

/// The smallest free slot that holds `len` floats; else the largest free one, grown; else a new one.
fn take(free: &mut Vec<usize>, slots: &mut Vec<Slot>, len: usize) -> usize {
    let fits = free.iter().enumerate().filter(|(_, slot)| slots[**slot].len >= len);
    let best = fits.min_by_key(|(_, slot)| slots[**slot].len).map(|(at, _)| at);
    let largest = || free.iter().enumerate().max_by_key(|(_, slot)| slots[**slot].len).map(|(at, _)| at);
    match best.or_else(largest) {
        Some(at) => {
            let slot = free.swap_remove(at);
            slots[slot].len = slots[slot].len.max(len);
            slot
        }
        None => {
            slots.push(Slot { dtype: Dtype::F32, len });
            slots.len() - 1
        }
    }
}
