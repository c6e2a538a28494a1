//! One training run in progress: weights and moments on a device, the next batch, checkpoints.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::batches::Batches;
use super::data::TrainingData;
use super::memory::{self, Needs};
use super::{OptimizerKind, Purpose, StepReport, StepShape, TrainConfig, TrainStep, Update, UpdateStep};
use crate::graph::{Bank, Device, Params};
use crate::kernels::{Dtype, Set};
use crate::policy::tensors::param_views;
use crate::policy::{
    Backbone, Config, Family, Folder, Network, Parts, Pretrained, RunDir, Stats, run_dir, write_pretrained,
};
use crate::{Error, Result};

/// Validation batches: enough for two digits.
const VALIDATION_BATCHES: usize = 8;

/// A run in progress.
pub struct Trainer {
    /// The policy's configuration.
    pub config: Config,
    /// The settings.
    pub settings: TrainConfig,
    /// The policy's statistics.
    pub stats: Stats,
    network: Network,
    params: Arc<Params>,
    bank: Bank,
    data: Arc<TrainingData>,
    batches: Batches,
    step: TrainStep,
    /// What follows the step's last part, where a step has several.
    update: Option<UpdateStep>,
    validation: Option<TrainStep>,
    done: u64,
}

impl Trainer {
    /// Puts initial weights, those of `from` or keyed random ones, on a device and compiles the step.
    ///
    /// # Errors
    /// If `from` does not fit, or the device lacks memory.
    pub fn new(
        device: &Device,
        config: &Config,
        settings: &TrainConfig,
        data: TrainingData,
        stats: Stats,
        from: Option<&mut Pretrained>,
    ) -> Result<Self> {
        settings.check()?;
        let (network, params) = Network::new(config);
        let params = Arc::new(params);
        let mut sets = vec![Set::Weights, Set::Gradients, Set::Moment1, Set::Moment2];
        sets.extend((settings.ema_decay > 0.0).then_some(Set::Average));
        let update = Update {
            decoupled: settings.optimizer == OptimizerKind::Adamw,
            average: settings.ema_decay > 0.0,
        };
        let parts = settings.grad_accum_steps > 1;
        let purpose = if parts { Purpose::Accumulate } else { Purpose::Update(update) };
        let shape = shape_of(settings, config, &data, purpose, config.dropout);
        let validates = settings.eval_freq > 0 && data.held_out() > 0;
        let needs = |batch| {
            let shape = StepShape { batch, ..shape.clone() };
            let waiting = Batches::AT_ONCE * settings.grad_accum_steps;
            Needs::of(device, config, &network, &params, &shape, update, validates, waiting)
        };
        if memory::on_host(device) {
            memory::check(settings.batch_size, settings.grad_accum_steps, None, needs)?;
        }
        let bank = Bank::new(device, &params, &sets)?;
        let initial = match from {
            Some(pretrained) => pretrained.weights(&params)?,
            None => params.iter().map(|(id, _)| params.initial(id, settings.seed)).collect(),
        };
        write_set(&bank, Set::Weights, &initial);
        if settings.ema_decay > 0.0 {
            write_set(&bank, Set::Average, &initial);
        }
        let step = TrainStep::new(config, &network, &bank, shape)?;
        let update = parts.then(|| UpdateStep::new(&bank, update)).transpose()?;
        let data = Arc::new(data);
        let workers = settings.num_workers.unwrap_or_else(|| workers(device));
        Ok(Self {
            config: config.clone(),
            settings: settings.clone(),
            stats,
            network,
            params,
            bank,
            batches: Batches::new(Arc::clone(&data), workers),
            data,
            step,
            update,
            validation: None,
            done: 0,
        })
    }

    /// Starts the vision transformer from pretrained weights.
    ///
    /// # Errors
    /// If the policy has none, or one of other sizes.
    pub fn start_vision(&self, backbone: &mut Backbone) -> Result<()> {
        let sizes = match &self.config.family {
            Family::FlowMatching(sizes) if self.config.images().next().is_some() => sizes.vit(),
            _ => {
                return Err(Error::input(
                    "this policy has no vision transformer to start from other weights",
                ));
            }
        };
        for (name, tensor) in backbone.for_encoder(&sizes)? {
            self.bank.write(Set::Weights, &name, &tensor.values);
            if self.averages() {
                self.bank.write(Set::Average, &name, &tensor.values);
            }
        }
        Ok(())
    }

    /// Steps done so far.
    pub fn done(&self) -> u64 {
        self.done
    }

    /// Steps that show every training sample once.
    pub fn steps_per_epoch(&self) -> u64 {
        self.data.steps_per_epoch()
    }

    /// How long steps have waited for their data so far.
    pub fn waited(&self) -> Duration {
        self.batches.waited()
    }

    /// Bytes of decoded pictures in memory; 0 where they are decoded as they are needed.
    pub fn image_bytes(&self) -> usize {
        self.data.loader().image_bytes()
    }

    /// What the user should hear of since last asked.
    pub fn take_notes(&self) -> Vec<String> {
        self.data.loader().take_notes()
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The weights that are best to act with: the average where one is kept.
    pub fn acting_weights(&self) -> Bank {
        self.bank.with_weights_from(if self.averages() { Set::Average } else { Set::Weights })
    }

    /// The compiled step, to be profiled.
    pub fn program(&self) -> &TrainStep {
        &self.step
    }

    fn averages(&self) -> bool {
        self.settings.ema_decay > 0.0
    }

    /// Runs the next step; `progress` of the run, from 0 to 1, is over. On a GPU it is submitted, not awaited.
    ///
    /// # Errors
    /// If the batch cannot be made, or the device was lost.
    pub fn advance(&mut self, progress: f64) -> Result<()> {
        let number = self.done + 1;
        let batch = self.batches.of(number)?;
        let hyper = self.settings.hyper(number, progress);
        let parts = self.settings.grad_accum_steps;
        self.step.begin()?;
        for part in 0..parts {
            self.step.run(&batch.part(part, parts), &hyper, self.settings.seed, self.number(number, part))?;
        }
        if let Some(update) = &self.update {
            update.run(&hyper, number)?;
        }
        self.done = number;
        Ok(())
    }

    /// What keys the randomness of a step's part, counted from 1: that of a step where it has one part.
    fn number(&self, step: u64, part: usize) -> u64 {
        (step - 1) * self.settings.grad_accum_steps as u64 + part as u64 + 1
    }

    /// Waits for the last step and reads its loss.
    ///
    /// # Errors
    /// If the loss or a gradient was not finite; the sentence names the step and the tensor.
    pub fn report(&mut self) -> Result<StepReport> {
        let mut report = self.step.report()?;
        if let Some(update) = &self.update {
            (report.grad_norm, report.bad_step) = update.report()?;
        }
        if let Some(bad) = report.bad_step {
            return Err(self.explain(bad)?);
        }
        if !report.loss.is_finite() {
            return Err(self.explain(self.done)?);
        }
        Ok(report)
    }

    /// Runs a step whose gradient was not finite again, without its update, and names what is not finite.
    fn explain(&mut self, bad: u64) -> Result<Error> {
        self.batches.rest();
        let batch = self.data.batch(bad)?;
        let (settings, config) = (&self.settings, &self.config);
        let shape = shape_of(settings, config, &self.data, Purpose::Gradients, config.dropout);
        let step = TrainStep::new(&self.config, &self.network, &self.bank, shape)?;
        let first = |set| -> Result<Option<String>> {
            let values = self.bank.read(set)?;
            let mut named = self.params.iter().zip(&values);
            let found = named.find(|(_, values)| values.iter().any(|v| !v.is_finite()));
            Ok(found.map(|((_, param), _)| param.name.clone()))
        };
        let (mut loss, mut bad_gradient) = (f32::NAN, None);
        for part in 0..self.settings.grad_accum_steps {
            let inputs = batch.part(part, self.settings.grad_accum_steps);
            let hyper = self.settings.hyper(bad, 0.0);
            step.run(&inputs, &hyper, self.settings.seed, self.number(bad, part))?;
            (loss, bad_gradient) = (step.report()?.loss, first(Set::Gradients)?);
            if bad_gradient.is_some() {
                break;
            }
        }
        let what = match (first(Set::Weights)?, bad_gradient) {
            (Some(name), _) => format!("weight `{name}` is not finite"),
            (None, Some(name)) => format!("the gradient of `{name}` is not finite (loss {loss})"),
            (None, None) => format!("the gradient's norm is not finite (loss {loss})"),
        };
        Ok(Error::failure(format!(
            "step {bad}: {what}; the update was not applied and the last checkpoint is whole: resume with a lower \
             --lr, or with --grad-clip-norm 1"
        )))
    }

    /// The loss over validation episodes, with fixed noise, by the weights that act; `None` without such episodes.
    ///
    /// # Errors
    /// If the device was lost.
    pub fn validate(&mut self) -> Result<Option<f64>> {
        // A few frames are a small batch, not none.
        let batch = self.settings.batch_size.min(self.data.held_out());
        if batch == 0 {
            return Ok(None);
        }
        let shape = shape_of(&self.settings, &self.config, &self.data, Purpose::Loss, 0.0);
        let shape = StepShape { batch, ..shape };
        if self.validation.is_none() {
            let bank = self.acting_weights();
            self.validation = Some(TrainStep::new(&self.config, &self.network, &bank, shape)?);
        }
        let Some(step) = &self.validation else { return Ok(None) };
        let (mut sum, mut count) = (0.0, 0);
        for batch in self.data.validation(batch, VALIDATION_BATCHES) {
            step.run(&batch?.part(0, 1), &self.settings.hyper(1, 0.0), 0, 1)?;
            sum += step.loss()?;
            count += 1;
        }
        Ok((count > 0).then(|| sum / f64::from(count)))
    }

    /// Saves a checkpoint of the run as it stands; `train_config` is what train_config.json will hold.
    ///
    /// # Errors
    /// If a weight is not finite, or the disk refuses; earlier checkpoints stay whole.
    pub fn save(&self, run: &RunDir, train_config: &Value) -> Result<PathBuf> {
        let parts = |values| Parts {
            config: &self.config,
            params: &self.params,
            values,
            stats: &self.stats,
            train_config: Some(train_config),
        };
        let weights = self.bank.read(Set::Weights)?;
        let average = self.averages().then(|| self.bank.read(Set::Average)).transpose()?;
        let [m, v] = [self.bank.read(Set::Moment1)?, self.bank.read(Set::Moment2)?];
        run.save(self.done, |writer| {
            write_pretrained(writer, run_dir::PRETRAINED, &parts(&weights))?;
            if let Some(average) = &average {
                write_pretrained(writer, run_dir::PRETRAINED_EMA, &parts(average))?;
            }
            let mut moments = param_views(&self.params, &m, "exp_avg/")?;
            moments.extend(param_views(&self.params, &v, "exp_avg_sq/")?);
            let state = run_dir::TRAINING_STATE;
            writer.write_tensors(&format!("{state}/optimizer_state.safetensors"), moments)?;
            let step = json!({"step": self.done, "batch_size": self.settings.batch_size});
            writer.write_json(&format!("{state}/training_step.json"), &step)
        })
    }

    /// Takes up a run where a checkpoint of it left off.
    ///
    /// # Errors
    /// If a file is missing, damaged, or of another policy.
    pub fn restore(&mut self, checkpoint: &std::path::Path) -> Result<()> {
        write_set(&self.bank, Set::Weights, &self.stored(checkpoint, run_dir::PRETRAINED)?);
        if self.averages() {
            write_set(&self.bank, Set::Average, &self.stored(checkpoint, run_dir::PRETRAINED_EMA)?);
        }
        let state = Folder::open(checkpoint.join(run_dir::TRAINING_STATE))?;
        let mut moments = state.tensors("optimizer_state.safetensors")?;
        write_set(&self.bank, Set::Moment1, &moments.take_params(&self.params, "exp_avg/")?);
        write_set(&self.bank, Set::Moment2, &moments.take_params(&self.params, "exp_avg_sq/")?);
        let step = state.json("training_step.json")?;
        self.done = step["step"].as_u64().ok_or_else(|| {
            Error::input(format!("{}: `step` is no whole number", state.place("training_step.json")))
        })?;
        Ok(())
    }

    fn stored(&self, checkpoint: &std::path::Path, folder: &str) -> Result<Vec<Vec<f32>>> {
        Pretrained::load(checkpoint.join(folder))?.weights(&self.params)
    }
}

/// A program over this run's batches: images as bytes, one time a sample unless some of its actions are given.
fn shape_of(
    settings: &TrainConfig,
    config: &Config,
    data: &TrainingData,
    purpose: Purpose,
    dropout: f32,
) -> StepShape {
    let cameras = data.cameras().iter().map(|&present| present.then_some(Dtype::U8)).collect();
    let t_per_slot = config.rtc_training_max_delay > 0;
    StepShape { batch: settings.batch_size, cameras, t_per_slot, purpose, dropout }
}

/// Threads that load data unless the user says otherwise: a CPU device needs cores for itself.
fn workers(device: &Device) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let idle = if matches!(device, Device::Gpu(_)) { cores } else { cores / 2 };
    idle.clamp(1, 8)
}

fn write_set(bank: &Bank, set: Set, values: &[Vec<f32>]) {
    for ((_, param), values) in bank.params().iter().zip(values) {
        bank.write(set, &param.name, values);
    }
}
