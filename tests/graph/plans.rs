//! The memory of programs, and their barriers.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use flowgpu::Result;
use flowgpu::graph::{Bank, Device, Graph, Program};
use flowgpu::kernels::activation::{Activate, Activation};
use flowgpu::kernels::{Dtype, Place, Plan};
use flowgpu::policy::SamplerShape;

use super::{Policy, UPDATE, devices, graph_of, pursuit, sampling_graph, small, training_graph};

/// Replays a plan next to the one in which every value has a buffer of its own, and checks that a buffer holds
/// what is read from it. Gives the values that buffers hold in the end.
fn replay(plan: &Plan, apart: &Plan) -> HashMap<Place, Place> {
    // By buffer of the plan, which value it holds: that value's own buffer.
    let mut holds: HashMap<Place, Place> = HashMap::new();
    // What the host writes before the first run, and never again.
    let mut given = HashSet::new();
    let mut written = HashSet::new();
    assert_eq!(plan.steps.len(), apart.steps.len());
    for (i, (step, own)) in plan.steps.iter().zip(&apart.steps).enumerate() {
        assert_eq!(step.kernel, own.kernel);
        for (input, value) in step.inputs.iter().zip(&own.inputs) {
            if value.place == Place::Nothing {
                continue;
            }
            assert_eq!((input.offset, input.len), (value.offset, value.len));
            if !written.contains(&value.place) {
                given.insert((input.place, value.place));
            }
            let held = *holds.entry(input.place).or_insert(value.place);
            assert_eq!(held, value.place, "launch {i}, {}, reads what was overwritten", step.kernel);
        }
        for (at, (output, value)) in step.outputs.iter().zip(&own.outputs).enumerate() {
            let others = step.inputs.iter().chain(&step.outputs[..at]);
            let shared = others.into_iter().any(|other| other.place == output.place);
            assert!(!shared, "launch {i}, {}, binds {:?} twice", step.kernel, output.place);
            let held = holds.insert(output.place, value.place);
            if !written.insert(value.place) {
                assert_eq!(
                    held,
                    Some(value.place),
                    "launch {i}, {}, writes more of what is gone",
                    step.kernel
                );
            }
        }
    }
    for (place, value) in given {
        assert_eq!(holds[&place], value, "an input is gone for the next run");
    }
    holds
}

#[test]
fn no_buffer_is_written_while_what_it_holds_is_needed() -> Result<()> {
    for config in [small(), pursuit()] {
        for dropout in [0.0, 0.1] {
            let graph = training_graph(&config, 3, dropout);
            let (plan, apart) = (graph.compile_plan(), graph.plan_without_sharing());
            let holds = replay(&plan, &apart);
            // The loss is still there for the host.
            let loss = |plan: &Plan| {
                let mse = plan.steps.iter().find(|step| step.kernel.name() == "weighted_mse");
                mse.expect("a loss").outputs[0].place
            };
            assert_eq!(holds[&loss(&plan)], loss(&apart));
        }
        let graph = sampling_graph(&config, 2, 5);
        let (plan, apart) = (graph.compile_plan(), graph.plan_without_sharing());
        let holds = replay(&plan, &apart);
        let sample = |plan: &Plan| plan.steps.last().expect("a launch").outputs[0].place;
        assert_eq!(holds[&sample(&plan)], sample(&apart));
    }
    // The graphs above are those of the real programs.
    let policy = Policy::new(&small(), &Device::Cpu)?;
    let (step, graph) = (policy.step(3, None, 0.1)?, training_graph(&small(), 3, 0.1));
    assert_eq!((step.launches(), step.program().bytes()), (graph.launches(), graph.compile_plan().bytes()));
    // Larger batches of so small a network are sampled in parts.
    let (sampler, graph) = (policy.sampler(1, 5)?, sampling_graph(&small(), 1, 5));
    let plan = graph.compile_plan();
    assert_eq!((sampler.launches(), sampler.program().bytes()), (graph.launches(), plan.bytes()));
    Ok(())
}

/// Bytes of temporaries in a plan that shares none, and the most that are in use at once: the least any plan needs.
fn temporaries(apart: &Plan) -> [usize; 2] {
    let mut lives: HashMap<usize, (usize, usize)> = HashMap::new();
    // What is read before it is written comes from the host.
    let mut given = HashSet::new();
    for (i, step) in apart.steps.iter().enumerate() {
        for (binding, read) in step
            .inputs
            .iter()
            .map(|input| (input, true))
            .chain(step.outputs.iter().map(|output| (output, false)))
        {
            let Place::Slot(slot) = binding.place else { continue };
            if read && !lives.contains_key(&slot) {
                given.insert(slot);
            }
            lives.entry(slot).or_insert((i, i)).1 = i;
        }
    }
    lives.retain(|slot, _| !given.contains(slot));
    let bytes = |i: Option<usize>| {
        let in_use = |life: &(usize, usize)| i.is_none_or(|i| life.0 <= i && i <= life.1);
        lives
            .iter()
            .filter(|(_, life)| in_use(life))
            .map(|(slot, _)| 4 * apart.slots[*slot].len)
            .sum::<usize>()
    };
    [bytes(None), (0..apart.steps.len()).map(|i| bytes(Some(i))).max().unwrap_or_default()]
}

#[test]
fn temporaries_share_little_more_memory_than_is_in_use_at_once() {
    let sample = SamplerShape { steps: 20, ..SamplerShape::of(&pursuit(), 1) };
    // Of a training step's temporaries 58 % are in use where the forward pass ends; less is not to be had.
    for (what, graph, share) in [
        ("a training step of 64", training_graph(&pursuit(), 64, 0.0), 0.62),
        ("a training step of 64 with dropout", training_graph(&pursuit(), 64, 0.1), 0.55),
        ("a sample, each launch by itself", graph_of(&pursuit(), &sample, &Device::Oracle), 0.15),
    ] {
        let apart = graph.plan_without_sharing();
        let [sum, peak] = temporaries(&apart);
        let planned = sum - (apart.bytes() - graph.compile_plan().bytes());
        let [planned, sum, peak] = [planned, sum, peak].map(|bytes| bytes as f64 / f64::from(1 << 20));
        println!("{what}: {planned:.2} MiB instead of {sum:.2}, of which {peak:.2} are in use at once");
        assert!(planned >= peak && planned <= 1.2 * peak && planned < share * sum);
    }
}

#[test]
fn some_launches_need_not_wait_for_others() -> Result<()> {
    let policy = Policy::new(&pursuit(), &Device::Cpu)?;
    let (step, sampler) = (policy.step(2, UPDATE, 0.1)?, policy.sampler(1, 20)?);
    for (what, program, launches) in [
        ("a training step", step.program(), step.launches()),
        ("a sample", sampler.program(), sampler.launches()),
    ] {
        println!("{what}: {launches} launches, {} barriers", program.barriers());
        assert!(program.barriers() > 0 && program.barriers() < launches);
    }
    Ok(())
}

#[test]
fn an_output_may_be_a_part_of_a_kept_value() -> Result<()> {
    let mut graph = Graph::new(Arc::default(), None);
    let x = graph.input("x", Dtype::F32, &[128]);
    let half = graph.view(x, 64, 64);
    let y = graph.temporary(&[64]);
    graph.launch(Activate { kind: Activation::Relu, len: 64 }, &[Some(half)], &[y]);
    graph.output("half", half);
    graph.output("y", y);
    let values: Vec<f32> = (0..128).map(|i| i as f32).collect();
    for device in devices() {
        let program = Program::new(&graph, &Bank::new(&device, graph.params(), &[])?)?;
        program.write("x", &values)?;
        program.run()?;
        assert_eq!(program.read("half")?, values[64..], "{device}");
        assert_eq!(program.read("y")?, values[64..], "{device}");
        // Written by its own name, too.
        program.write("half", &values[..64])?;
        assert_eq!(program.read("x")?, [&values[..64], &values[..64]].concat(), "{device}");
    }
    Ok(())
}
