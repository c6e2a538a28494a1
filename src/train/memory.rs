//! What memory a run needs, said before any of it is taken.

use std::sync::Arc;

use super::{Purpose, StepShape, Update, step_graph, update_graph};
use crate::graph::{Device, Params};
use crate::memory::{available, in_words};
use crate::policy::{Config, Network};
use crate::{Error, Result};

/// The device memory of a training run, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// Weights, gradients, moments, and the average where there is one.
    pub sets: u64,
    /// The buffers of the step's programs, validation's included.
    pub programs: u64,
    /// Batches that wait in the host's memory.
    pub batches: u64,
}

impl Needs {
    /// What a run with steps of `shape` needs. `batches` of them are on the host at once, `validates` says whether the
    /// loss alone is a second program.
    ///
    /// The programs' bytes are exact ([`crate::graph::Graph::compile_plan`]); a driver adds its own.
    pub fn of(
        device: &Device,
        config: &Config,
        network: &Network,
        params: &Arc<Params>,
        shape: &StepShape,
        update: Update,
        validates: bool,
        batches: usize,
    ) -> Self {
        let float = if matches!(device, Device::Oracle) { 8 } else { 4 };
        let all: usize = params.shards().iter().map(|shard| shard.len).sum();
        let learning: usize = params.learning_shards().map(|(_, shard)| shard.len).sum();
        let kept = 1 + usize::from(update.average);
        let mut programs = step_graph(config, network, params, shape).compile_plan().bytes();
        if shape.purpose == Purpose::Accumulate {
            programs += update_graph(params, update).compile_plan().bytes();
        }
        if validates {
            let shape = StepShape { purpose: Purpose::Loss, dropout: 0.0, ..shape.clone() };
            programs += step_graph(config, network, params, &shape).compile_plan().bytes();
        }
        let pixels: usize = config
            .images()
            .zip(&shape.cameras)
            .filter(|(_, dtype)| dtype.is_some())
            .map(|((_, feature), _)| config.seen_len(feature))
            .sum();
        let chunk = 2 * config.noise_len() + config.n_obs_steps * config.state_dim();
        let sample = config.n_obs_steps * pixels + 4 * chunk;
        Self {
            sets: ((kept * all + 3 * learning) * float) as u64,
            programs: (programs * float / 4) as u64,
            batches: (batches * shape.batch * sample) as u64,
        }
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        self.sets + self.programs + self.batches
    }
}

/// Whether the memory of a device is the host's, so that the host can say how much is left.
pub(super) fn on_host(device: &Device) -> bool {
    match device {
        Device::Cpu | Device::Oracle => true,
        Device::Gpu(gpu) => gpu.summary.software || gpu.summary.kind == "integrated",
    }
}

/// Checks that a run with batches of `batch` fits; `needs` says what another batch size needs. `free` is what there is,
/// [`available`] where it is not given.
///
/// # Errors
/// Says what is needed, what there is, and which batch size would fit.
pub(super) fn check(
    batch: usize,
    accumulated: usize,
    free: Option<u64>,
    needs: impl Fn(usize) -> Needs,
) -> Result<()> {
    let Some(free) = free.or_else(available) else { return Ok(()) };
    let asked = needs(batch);
    if asked.total() <= free {
        return Ok(());
    }
    let halves =
        std::iter::successors(Some(batch / 2), |batch| Some(batch / 2)).take_while(|&batch| batch > 0);
    let advice = match halves.map(|batch| (batch, needs(batch))).find(|(_, needs)| needs.total() <= free) {
        Some((fits, needs)) => format!(
            "--batch-size {fits} fits ({}); with --grad-accum-steps {} as many samples make a step",
            in_words(needs.total()),
            accumulated * batch.div_ceil(fits)
        ),
        None => format!(
            "not even --batch-size 1 fits ({}): use a smaller network, or --ema-decay 0, which keeps no average",
            in_words(needs(1).total())
        ),
    };
    Err(Error::input(format!(
        "--batch-size {batch} needs {} of memory (weights, gradients and moments {}, the step {}, batches that wait {}), \
         but {} are free: {advice}",
        in_words(asked.total()),
        in_words(asked.sets),
        in_words(asked.programs),
        in_words(asked.batches),
        in_words(free)
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Bank, Program};
    use crate::kernels::{Dtype, Set};
    use crate::policy::presets::preset;

    const UPDATE: Update = Update { decoupled: true, average: true };

    #[test]
    fn what_is_said_is_what_is_taken() -> Result<()> {
        let config = preset("pursuit")?;
        let (network, params) = Network::new(&config);
        let params = Arc::new(params);
        let needs = |batch| {
            let cameras = vec![Some(Dtype::U8)];
            let purpose = Purpose::Update(UPDATE);
            let shape = StepShape { batch, cameras, t_per_slot: false, purpose, dropout: 0.1 };
            let needs = Needs::of(&Device::Cpu, &config, &network, &params, &shape, UPDATE, false, 4);
            (needs, shape)
        };
        let (eight, shape) = needs(8);
        let sets = [Set::Weights, Set::Gradients, Set::Moment1, Set::Moment2, Set::Average];
        let bank = Bank::new(&Device::Cpu, &params, &sets)?;
        let program = Program::new(&step_graph(&config, &network, &params, &shape), &bank)?;
        assert_eq!(eight.programs, program.bytes() as u64);
        assert!(eight.sets >= 5 * 4 * params.count() as u64 && eight.sets < 6 * 4 * params.count() as u64);
        let of = |batch| needs(batch).0;
        assert!(check(8, 1, Some(eight.total()), of).is_ok());
        let error = check(8, 1, Some(of(3).total()), of).expect_err("too little").to_string();
        assert!(error.contains("--batch-size 2 fits") && error.contains("--grad-accum-steps 4"), "{error}");
        let error = check(8, 1, Some(1000), of).expect_err("far too little").to_string();
        assert!(error.contains("not even --batch-size 1"), "{error}");
        Ok(())
    }
}
