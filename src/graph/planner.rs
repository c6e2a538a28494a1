//! The memory plan: which temporaries share a buffer.
//!
//! A temporary lives from the launch that first writes it to the last that touches it, both included. The largest choose
//! first: each takes the smallest buffer whose other values it does not meet, or a new one (greedy by size: Pisarchyk and
//! Lee, arXiv 2001.03288). Buffers stay separate, never runs of one arena: GPUs track hazards by whole buffer, and may not
//! bind one buffer for reading and writing in the same launch.

use std::cmp::Reverse;

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
        self.place_temporaries(share, &mut planned);
        for launch in &self.launches {
            let input =
                |value: &Option<Value>| value.map_or(Binding::NOTHING, |value| self.binding(&planned, value));
            let step = Step {
                kernel: launch.kernel.clone(),
                inputs: launch.inputs.iter().map(input).collect(),
                outputs: launch.outputs.iter().map(|value| self.binding(&planned, *value)).collect(),
            };
            check(&step);
            planned.plan.steps.push(step);
        }
        planned
    }

    fn place_temporaries(&self, share: bool, planned: &mut Planned) {
        let mut lives: Vec<Option<(usize, usize)>> = vec![None; self.values.len()];
        for (i, launch) in self.launches.iter().enumerate() {
            for value in launch.inputs.iter().flatten().chain(&launch.outputs) {
                let first = lives[value.0].map_or(i, |(first, _)| first);
                lives[value.0] = Some((first, i));
            }
        }
        let temporary = |(i, life): (usize, Option<(usize, usize)>)| {
            life.filter(|_| self.values[i].home == Home::Temporary).map(|life| (Value(i), life))
        };
        let mut temporaries: Vec<_> = lives.into_iter().enumerate().filter_map(temporary).collect();
        temporaries.sort_by_key(|(value, life)| (Reverse(self.len(*value)), *life));
        // Slots with the lives of their values. Every one holds what comes now, the latest with the least to spare.
        let mut taken: Vec<(usize, Vec<(usize, usize)>)> = Vec::new();
        for (value, life) in temporaries {
            let meets = |other: &(usize, usize)| life.0 <= other.1 && other.0 <= life.1;
            let place = taken.iter_mut().rev().find(|(_, lives)| share && !lives.iter().any(meets));
            let slot = match place {
                Some((slot, lives)) => {
                    lives.push(life);
                    *slot
                }
                None => {
                    let slot = planned.plan.slots.len();
                    planned.plan.slots.push(Slot { dtype: Dtype::F32, len: self.len(value) });
                    taken.push((slot, vec![life]));
                    slot
                }
            };
            planned.places[value.0] = Some(Place::Slot(slot));
        }
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
