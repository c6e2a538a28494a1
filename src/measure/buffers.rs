//! What a program's buffers hold, and for how long.

use std::collections::HashSet;

use crate::graph::Graph;
use crate::kernels::{Binding, Dtype, Place};

/// One of a program's buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BufferUse {
    /// Its place in the plan.
    pub slot: usize,
    /// What it holds.
    pub dtype: Dtype,
    /// Its bytes.
    pub bytes: usize,
    /// How many values share it, one after the other.
    pub values: usize,
    /// The first and the last launch that bind it; none where no launch does.
    pub launches: Option<(usize, usize)>,
}

/// The buffers of the program that a graph compiles to, with the bytes that it would have if every value had a buffer of
/// its own.
pub fn buffer_uses(graph: &Graph) -> (Vec<BufferUse>, usize) {
    let (shared, own) = (graph.compile_plan(), graph.plan_without_sharing());
    let mut uses: Vec<BufferUse> = shared
        .slots
        .iter()
        .enumerate()
        .map(|(slot, it)| {
            let bytes = it.len * it.dtype.bytes();
            BufferUse { slot, dtype: it.dtype, bytes, values: 0, launches: None }
        })
        .collect();
    // Both plans have the same launches, and in the other one a slot is a value.
    let mut known = HashSet::new();
    for (launch, (one, other)) in shared.steps.iter().zip(&own.steps).enumerate() {
        let bindings = one.inputs.iter().chain(&one.outputs).zip(other.inputs.iter().chain(&other.outputs));
        for pair in bindings {
            let (Binding { place: Place::Slot(slot), .. }, Binding { place: Place::Slot(value), .. }) = pair
            else {
                continue;
            };
            let buffer = &mut uses[*slot];
            buffer.values += usize::from(known.insert(*value));
            buffer.launches = Some((buffer.launches.map_or(launch, |(first, _)| first), launch));
        }
    }
    (uses, own.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Device;
    use crate::policy::presets::preset;
    use crate::policy::{Network, SamplerShape, sampling_graph};
    use std::sync::Arc;

    #[test]
    fn every_value_lies_in_one_buffer() {
        let config = preset("pursuit").expect("known");
        let (network, params) = Network::new(&config);
        let shape = SamplerShape::of(&config, 2);
        let (graph, _) =
            sampling_graph(&config, &network, &Arc::new(params), &shape, &Device::Cpu).expect("builds");
        let (uses, unshared) = buffer_uses(&graph);
        let bytes: usize = uses.iter().map(|buffer| buffer.bytes).sum();
        assert_eq!(bytes, graph.compile_plan().bytes());
        assert!(bytes < unshared, "{bytes} of {unshared}");
        let values: usize = uses.iter().map(|buffer| buffer.values).sum();
        let touched = graph.plan_without_sharing().slots.len();
        let idle = uses.iter().filter(|buffer| buffer.launches.is_none()).count();
        assert_eq!(values + idle, touched);
        assert!(uses.iter().all(|buffer| buffer.launches.is_none_or(|(first, last)| first <= last)));
    }
}
