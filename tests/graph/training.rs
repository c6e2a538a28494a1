//! Training steps: parts of a batch, the same bits, nothing bad applied.

use flowgpu::Result;
use flowgpu::graph::Device;
use flowgpu::kernels::optimizer::Hyper;
use flowgpu::kernels::{Dtype, Set};
use flowgpu::policy::Config;
use flowgpu::train::{Purpose, StepReport, StepShape, TrainStep, Update, UpdateStep};

use super::{ALL, Batch, GPU, HYPER, Policy, UPDATE, devices, pursuit, small};

#[test]
fn parts_of_a_batch_add_up_to_its_step() -> Result<()> {
    let (config, update) = (small(), Update { decoupled: true, average: true });
    // Adam makes steps of lr out of gradients that are nothing but rounding, unless ε is larger than those.
    let hyper = Hyper { eps: 1e-5, ..HYPER };
    for device in devices() {
        let [whole, parts] = [Policy::new(&config, &device)?, Policy::new(&config, &device)?];
        let shape = |batch, purpose| StepShape {
            batch,
            cameras: vec![Some(Dtype::F32)],
            t_per_slot: false,
            purpose,
            dropout: 0.0,
        };
        let step = |policy: &Policy, batch, purpose| {
            TrainStep::new(&policy.config, &policy.network, &policy.bank, shape(batch, purpose))
        };
        let in_one = step(&whole, 3, Purpose::Update(update))?;
        let (in_three, apply) =
            (step(&parts, 1, Purpose::Accumulate)?, UpdateStep::new(&parts.bank, update)?);
        let batch = Batch::new(&config, 3);
        for number in 1..=3 {
            in_one.run(&batch.inputs(), &hyper, 9, number)?;
            in_three.begin()?;
            for at in 0..3 {
                in_three.run(&batch.sample(at).inputs(), &hyper, 9, 3 * number + at as u64)?;
            }
            apply.run(&hyper, number)?;
            let (once, thrice) = (in_one.report()?, in_three.report()?);
            let (norm, bad) = apply.report()?;
            assert!((once.loss - thrice.loss).abs() <= 1e-6 * once.loss, "{device}: {once:?} {thrice:?}");
            assert!(
                (once.grad_norm - norm).abs() <= 1e-5 * norm && bad.is_none(),
                "{device}: {once:?} {norm}"
            );
        }
        for set in [Set::Weights, Set::Average] {
            let [whole, parts] = [whole.bank.read_wide(set)?.concat(), parts.bank.read_wide(set)?.concat()];
            let apart = whole.iter().zip(&parts).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(apart < 1e-5, "{device}: {set:?} differ by {apart}");
        }
        let left = parts.bank.read_wide(Set::Gradients)?.concat();
        assert!(left.iter().all(|&g| g == 0.0), "{device}: the next step begins with gradients");
    }
    Ok(())
}

/// Losses and all sets after some steps with dropout, bit for bit.
type Trained = (Vec<u64>, Vec<Vec<Vec<u64>>>);

fn train(config: &Config, device: &Device, batch: usize) -> Result<Trained> {
    let policy = Policy::new(config, device)?;
    let step = policy.step(batch, UPDATE, 0.1)?;
    let batch = Batch::new(config, batch);
    let mut losses = Vec::new();
    for k in 1..=3 {
        step.run(&batch.inputs(), &HYPER, 9, k)?;
        losses.push(step.loss()?.to_bits());
    }
    assert!(losses[0] != losses[2], "nothing was learnt");
    Ok((losses, policy.bits(&ALL)?))
}

#[test]
fn training_twice_gives_the_same_bits() -> Result<()> {
    assert!(train(&pursuit(), &Device::Cpu, 4)? == train(&pursuit(), &Device::Cpu, 4)?, "on the CPU");
    assert!(train(&small(), &GPU, 4)? == train(&small(), &GPU, 4)?, "on {}", *GPU);
    Ok(())
}

#[test]
fn training_does_not_depend_on_the_number_of_threads() -> Result<()> {
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| train(&pursuit(), &Device::Cpu, 4))
    };
    let one = with(1)?;
    for threads in [2, 3] {
        assert!(one == with(threads)?, "with {threads} threads");
    }
    Ok(())
}

#[test]
fn a_gradient_that_is_not_finite_changes_nothing_and_is_remembered() -> Result<()> {
    const CHANGED: [Set; 4] = [Set::Weights, Set::Moment1, Set::Moment2, Set::Average];
    for device in devices() {
        let policy = Policy::new(&small(), &device)?;
        let step = policy.step(2, UPDATE, 0.0)?;
        let good = Batch::new(&small(), 2);
        let mut bad = good.clone();
        bad.images[1234] = f32::NAN;
        let run = |batch: &Batch, k| -> Result<StepReport> {
            step.run(&batch.inputs(), &HYPER, 0, k)?;
            step.report()
        };
        let report = run(&good, 1)?;
        assert!(report.bad_step.is_none() && report.grad_norm > 0.0 && report.loss > 0.0, "{device}");
        let before = policy.bits(&CHANGED)?;
        for k in [2, 3] {
            let report = run(&bad, k)?;
            assert!(report.loss.is_nan(), "{device}: the loss is {}", report.loss);
            assert_eq!(report.bad_step, Some(2), "{device}");
            assert!(policy.bits(&CHANGED)? == before, "{device}: step {k} changed something");
        }
        let report = run(&good, 4)?;
        assert_eq!(report.bad_step, Some(2), "{device}");
        assert!(report.loss.is_finite() && report.grad_norm > 0.0, "{device}");
        for (set, (after, before)) in CHANGED.iter().zip(policy.bits(&CHANGED)?.iter().zip(&before)) {
            assert!(after.iter().zip(before).all(|(a, b)| a != b), "{device}: {set:?} stands still");
        }
    }
    Ok(())
}
