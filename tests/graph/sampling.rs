//! Samplers: how many launches they have, and that merged ones give what single ones give.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use flowgpu::Result;
use flowgpu::flow::Solver;
use flowgpu::graph::{Device, Graph, Params, Program, Value, trial};
use flowgpu::kernels::check::Distance;
use flowgpu::kernels::{AdapterClass, Dtype, Set};
use flowgpu::nn::{Norm, Projection};
use flowgpu::policy::{Config, Evaluator, Guidance, SamplerShape, Unconditional};
use flowgpu::train::golden::Golden;

use super::{Batch, GPU, HYPER, Policy, devices, graph_of, pursuit, small};

/// Launches of a sampler.
///
/// | once | |
/// |---|---|
/// | patches, and their product with GELU and position | 2 |
/// | an encoder layer: qkv, attention, output, norm; two products, norm | 7, fewer where some are merged |
/// | a decoder layer: keys and values | 1 |
/// | the steps' times, added to the action projection's bias | 1 |
///
/// | each step, or 1 for all of them | |
/// |---|---|
/// | action projection | 1 |
/// | a decoder layer: qkv, attention, output, norm; q, attention, output, norm; two products, norm | 11, or fewer |
/// | velocity head, which also moves x | 1 |
fn launches_of_a_sampler(
    merged: Merged,
    encoder_layers: usize,
    decoder_layers: usize,
    steps: usize,
) -> usize {
    let (of_encoder, of_decoder) = match merged {
        Merged::Nothing => (7, 11),
        Merged::Norms | Merged::NormsAndSteps => (5, 8),
        Merged::AttentionsAndSteps => (4, 6),
    };
    let steps = match merged {
        Merged::NormsAndSteps | Merged::AttentionsAndSteps => 1,
        _ => steps * (1 + of_decoder * decoder_layers + 1),
    };
    2 + of_encoder * encoder_layers + decoder_layers + 1 + steps
}

/// What is one launch.
#[derive(Clone, Copy)]
enum Merged {
    /// Every product, attention and norm by itself.
    Nothing,
    /// A product and the norm behind it.
    Norms,
    /// The same, and all solver steps.
    NormsAndSteps,
    /// An attention, the product and the norm behind it, and all solver steps.
    AttentionsAndSteps,
}

#[test]
fn a_sample_is_one_program_that_encodes_once() -> Result<()> {
    let policy = Policy::new(&pursuit(), &Device::Cpu)?;
    assert_eq!(policy.sampler(1, 20)?.launches(), launches_of_a_sampler(Merged::NormsAndSteps, 2, 2, 20));
    assert_eq!(launches_of_a_sampler(Merged::NormsAndSteps, 2, 2, 20), 16);
    assert_eq!(policy.sampler(5, 1)?.launches(), launches_of_a_sampler(Merged::NormsAndSteps, 2, 2, 1));
    // The oracle, which the others are checked against, has every launch by itself.
    let oracle = Policy::new(&pursuit(), &Device::Oracle)?;
    assert_eq!(oracle.sampler(1, 20)?.launches(), launches_of_a_sampler(Merged::Nothing, 2, 2, 20));
    // A regression has one step whatever is asked for.
    let mut json = pursuit().to_json();
    json["objective"] = "regression".into();
    let regression = Policy::new(&Config::parse(&json.to_string())?, &Device::Cpu)?;
    assert_eq!(regression.sampler(1, 20)?.launches(), launches_of_a_sampler(Merged::Norms, 2, 2, 1));
    Ok(())
}

/// The adapter of the other tests, with the kernels and programs of a real GPU.
static REAL_GPU: LazyLock<Device> = LazyLock::new(|| {
    let others = trial::other_classes(&GPU).expect("opens again");
    std::iter::once(GPU.clone())
        .chain(others)
        .find(|device| matches!(device, Device::Gpu(gpu) if gpu.class().is_gpu()))
        .expect("there is a class for it")
});

#[test]
fn a_decoder_in_one_launch_samples_as_launch_by_launch() -> Result<()> {
    let mut json = small().to_json();
    json["flow"]["noise_at"] = 1.into();
    let backwards = Config::parse(&json.to_string())?;
    for (config, len, steps) in [(small(), 3, 7), (backwards, 2, 5), (pursuit(), 1, 20)] {
        let (shape, batch) =
            (SamplerShape { steps, ..SamplerShape::of(&config, len) }, Batch::new(&config, len));
        let on_the_adapter = match &*GPU {
            Device::Gpu(gpu) if gpu.class().is_gpu() => Merged::AttentionsAndSteps,
            Device::Gpu(gpu) if gpu.class() == AdapterClass::Software => Merged::Nothing,
            _ => Merged::NormsAndSteps,
        };
        for (device, made_for, largest, merged) in [
            (Device::Oracle, &*REAL_GPU, 1e-24, Merged::AttentionsAndSteps),
            (REAL_GPU.clone(), &*REAL_GPU, 1e-11, Merged::AttentionsAndSteps),
            (GPU.clone(), &*GPU, 1e-11, on_the_adapter),
            (Device::Cpu, &Device::Cpu, 1e-11, Merged::NormsAndSteps),
        ] {
            let policy = Policy::new(&config, &device)?;
            let sample = |made_for| -> Result<(Vec<f64>, usize)> {
                let program = Program::new(&graph_of(&config, &shape, made_for), &policy.bank)?;
                Ok((batch.sampled_by(&program)?, program.launches()))
            };
            let ((many, launches), (one, fewer)) = (sample(&Device::Oracle)?, sample(made_for)?);
            let distance = Distance::between(&one, &many);
            println!("{device}: {launches} launches, {fewer} launches: NMSE {:.1e}", distance.nmse);
            assert!(distance.nmse <= largest, "{device}: {distance:?}");
            assert_eq!(
                [fewer, launches],
                [merged, Merged::Nothing].map(|merged| launches_of_a_sampler(merged, 2, 2, steps)),
            );
            let chosen = policy.sampler(len, steps)?.launches();
            assert_eq!(chosen, if device.favours_few_launches() { fewer } else { launches }, "{device}");
        }
    }
    Ok(())
}

/// A golden file of which nothing but the sample is expected.
fn golden_sample(case: &str) -> Result<Golden> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{case}.safetensors"));
    let mut golden = Golden::parse(&std::fs::read(path).expect("a committed golden"))?;
    golden.tensors.retain(|name, _| !name.starts_with("expect/") || name == "expect/sample");
    Ok(golden)
}

#[test]
fn goldens_hold_where_a_decoder_is_one_launch() -> Result<()> {
    for case in ["seed", "default", "noise_at_1", "two_frames", "slot_time"] {
        let golden = golden_sample(case)?;
        let shape = SamplerShape::of(&golden.config, 1);
        let graph = graph_of(&golden.config, &shape, &REAL_GPU);
        let (plan, quantities) = (graph.compile_plan(), golden.verify(&REAL_GPU)?);
        println!("{case} on {}: {} launches, {quantities:?}", *REAL_GPU, plan.steps.len());
        assert_eq!(plan.steps.last().expect("a launch").kernel.name(), "decoder_steps");
        assert!(quantities.len() == 1 && quantities[0].pass, "{case}: {quantities:?}");
    }
    Ok(())
}

#[test]
fn what_has_no_decoder_in_one_launch_keeps_its_launches() -> Result<()> {
    let mut json = small().to_json();
    json["chunk_size"] = 9.into();
    json["n_action_steps"] = 9.into();
    let long = Config::parse(&json.to_string())?;
    let plain = SamplerShape { steps: 3, ..SamplerShape::of(&small(), 1) };
    let unconditional = Unconditional::Zeros;
    let guided = Guidance { scale: 2.0, unconditional };
    for (config, shape) in [
        (&long, plain.clone()),
        (&small(), SamplerShape { solver: Solver::Heun, ..plain.clone() }),
        (&small(), SamplerShape { path: true, ..plain.clone() }),
        (&small(), SamplerShape { guidance: Some(guided), ..plain.clone() }),
        (&small(), SamplerShape { steps: 129, ..plain }),
    ] {
        let plan = graph_of(config, &shape, &REAL_GPU).compile_plan();
        let count = |name| plan.steps.iter().filter(|step| step.kernel.name() == name).count();
        assert_eq!(count("decoder_steps"), 0, "{shape:?}");
        // All launches but those that are merged.
        let apart = graph_of(config, &shape, &Device::Oracle).launches();
        let merged = count("matmul_norm") + 2 * count("attention_norm");
        assert_eq!(plan.steps.len() + merged, apart, "{shape:?}");
    }
    Ok(())
}

/// Kernels of a sampler's launches, and its sample.
fn sampled(
    config: &Config,
    shape: &SamplerShape,
    device: &Device,
    batch: &Batch,
) -> Result<(Vec<&'static str>, Vec<f64>)> {
    let policy = Policy::new(config, device)?;
    let graph = graph_of(config, shape, device);
    let program = Program::new(&graph, &policy.bank)?;
    let kernels = graph.compile_plan().steps.iter().map(|step| step.kernel.name()).collect();
    Ok((kernels, batch.sampled_by(&program)?))
}

#[test]
fn layers_too_wide_for_a_workgroup_have_their_norms_in_the_products_behind_them() -> Result<()> {
    let mut json = small().to_json();
    json["d_model"] = 160.into();
    json["dim_feedforward"] = 200.into();
    let config = Config::parse(&json.to_string())?;
    let steps = 3;
    let (shape, batch) = (SamplerShape { steps, ..SamplerShape::of(&config, 2) }, Batch::new(&config, 2));
    let (apart, expected) = sampled(&config, &shape, &Device::Oracle, &batch)?;
    let (merged, sample) = sampled(&config, &shape, &REAL_GPU, &batch)?;
    let distance = Distance::between(&sample, &expected);
    println!("{} launches, {} launches: NMSE {:.1e}", apart.len(), merged.len(), distance.nmse);
    assert!(distance.nmse <= 1e-11, "{distance:?}");
    // 5 launches a layer of the encoder, 8 of the decoder, whose last norm is followed by a product too narrow to store it.
    assert_eq!(apart.len(), launches_of_a_sampler(Merged::Nothing, 2, 2, steps));
    assert_eq!(merged.len(), 2 + 5 * 2 + 2 + 1 + steps * (1 + 8 * 2 + 1 + 1));
    let norms = |name| merged.iter().filter(|kernel| **kernel == name).count();
    assert_eq!([norms("norm_matmul"), norms("layer_norm")], [2 * 2 + steps * 5, steps]);
    // Of one sample there are four rows here, too few for tiles.
    let one = SamplerShape { steps, ..SamplerShape::of(&config, 1) };
    assert!(!sampled(&config, &one, &REAL_GPU, &Batch::new(&config, 1))?.0.contains(&"norm_matmul"));
    Ok(())
}

#[test]
fn a_norm_joins_the_product_behind_it_only_where_nothing_is_lost_by_it() {
    let kernels = |build: fn(&mut Graph, Value, [Projection; 3])| {
        let mut params = Params::default();
        let norm = Norm::new(&mut params, "norm", 8, 1e-5);
        let projections =
            [12, 4, 8].map(|outputs| Projection::new(&mut params, &format!("to{outputs}"), 8, outputs));
        let mut graph = Graph::new(Arc::new(params), None).on(&REAL_GPU);
        let x = graph.input("x", Dtype::F32, &[16, 8]);
        let normed = norm.apply(&mut graph, x);
        build(&mut graph, normed, projections);
        let steps = graph.compile_plan().steps;
        steps.iter().map(|step| step.kernel.name()).collect::<Vec<_>>()
    };
    // Others may read the rows as well: they are stored.
    let read_twice = kernels(|graph, x, [wide, ..]| {
        let y = graph.linear(wide.of(x));
        graph.output("y", y);
        graph.output("x again", x);
    });
    assert_eq!(read_twice, ["norm_matmul"]);
    // Tiles of four columns would not store eight.
    let narrow = kernels(|graph, x, [_, narrow, _]| {
        graph.linear(narrow.of(x));
    });
    assert_eq!(narrow, ["layer_norm", "matmul"]);
    // Who runs the first part alone wants its norm.
    let parted = kernels(|graph, x, [wide, ..]| {
        graph.keep(x);
        assert_eq!(graph.end_part(), 1);
        graph.linear(wide.of(x));
    });
    assert_eq!(parted, ["layer_norm", "matmul"]);
    // What is added is read in the launch that would write it.
    let added = kernels(|graph, x, [_, _, square]| {
        graph.linear(square.of(x).plus(x, 16));
    });
    assert_eq!(added, ["layer_norm", "matmul"]);
}

#[test]
fn goldens_hold_where_norms_are_in_the_products_behind_them() -> Result<()> {
    for case in ["fm_cameras", "fm_zeroed", "fm_slot_time"] {
        let golden = golden_sample(case)?;
        let shape = SamplerShape::of(&golden.config, 1);
        let plan = graph_of(&golden.config, &shape, &REAL_GPU).compile_plan();
        let joined = plan.steps.iter().filter(|step| step.kernel.name() == "norm_matmul").count();
        let quantities = golden.verify(&REAL_GPU)?;
        println!("{case} on {}: {joined} of {} launches, {quantities:?}", *REAL_GPU, plan.steps.len());
        assert!(joined > 0 && quantities.len() == 1 && quantities[0].pass, "{case}: {quantities:?}");
    }
    Ok(())
}

/// A sample by as many programs as there are steps, each asked for the velocity, and Euler's method on the host.
fn sample_by_velocities(policy: &Policy, batch: &Batch, steps: usize) -> Result<Vec<f64>> {
    let Policy { config, network, bank } = policy;
    let evaluator = Evaluator::new(config, network, bank, SamplerShape::of(config, batch.len), false)?;
    let program = evaluator.program();
    program.write("images.0", &batch.images)?;
    let mut point: Vec<f64> = batch.noise.iter().map(|&x| f64::from(x)).collect();
    for time in config.flow.evaluation_times(steps) {
        program.write("x", &point.iter().map(|&x| x as f32).collect::<Vec<_>>())?;
        program.write("t", &vec![time as f32; batch.len])?;
        program.run()?;
        for (x, v) in point.iter_mut().zip(program.read_wide("velocity")?) {
            *x += config.flow.step_size(steps) * v;
        }
    }
    Ok(point)
}

#[test]
fn sampling_is_eulers_method_on_the_velocity() -> Result<()> {
    let mut json = small().to_json();
    json["flow"]["noise_at"] = 1.into();
    for config in [small(), Config::parse(&json.to_string())?] {
        for device in devices() {
            let policy = Policy::new(&config, &device)?;
            let batch = Batch::new(&config, 2);
            let reference = sample_by_velocities(&policy, &batch, 20)?;
            let distance = Distance::between(&policy.sample(&batch, 20)?, &reference);
            println!("{device}: the largest error is {:.1e} of {:.1}", distance.max_abs, distance.scale);
            assert!(distance.max_abs <= 1e-5 * distance.scale, "{device}: {distance:?}");
        }
    }
    Ok(())
}

#[test]
fn a_batch_of_three_is_three_batches_of_one() -> Result<()> {
    for (device, config) in [(Device::Oracle, small()), (Device::Cpu, pursuit()), (GPU.clone(), small())] {
        let policy = Policy::new(&config, &device)?;
        let batch = Batch::new(&config, 3);
        let ones: Vec<Batch> = (0..3).map(|i| batch.sample(i)).collect();
        let mut samples = Vec::new();
        for one in &ones {
            samples.extend(policy.sample(one, 4)?);
        }
        let distance = Distance::between(&policy.sample(&batch, 4)?, &samples);
        println!("{device}: samples: NMSE {:.1e}", distance.nmse);
        assert!(distance.nmse <= 1e-11, "{device}: {distance:?}");

        // Without dropout, whose mask knows an element's place, gradients add up.
        let gradients = |batch: &Batch| -> Result<Vec<f64>> {
            policy.step(batch.len, None, 0.0)?.run(&batch.inputs(), &HYPER, 0, 1)?;
            Ok(policy.bank.read_wide(Set::Gradients)?.concat())
        };
        let whole = gradients(&batch)?;
        let mut sum = vec![0.0; whole.len()];
        for one in &ones {
            gradients(one)?.iter().zip(&mut sum).for_each(|(g, sum)| *sum += g);
        }
        let distance = Distance::between(&whole, &sum);
        println!("{device}: gradients: NMSE {:.1e}", distance.nmse);
        assert!(distance.nmse <= 1e-11, "{device}: {distance:?}");
    }
    Ok(())
}
