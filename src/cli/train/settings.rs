//! The settings of a run as flags.

use std::path::PathBuf;

use serde_json::json;

use crate::policy::Objective;
use crate::train::{OptimizerKind, Schedule, TrainConfig};
use crate::{Error, Result};

/// Settings that are given; the others keep their values.
#[derive(Debug, Clone, clap::Args)]
pub struct Settings {
    /// Samples that go through the network together [default: the preset's]
    #[arg(long)]
    batch_size: Option<usize>,
    /// Batches whose mean gradient makes an optimizer step
    #[arg(long, value_name = "K")]
    grad_accum_steps: Option<usize>,
    /// Optimizer steps in all [default: the preset's]
    #[arg(long, conflicts_with = "epochs")]
    steps: Option<u64>,
    /// Passes over the training episodes, instead of --steps
    #[arg(long)]
    pub epochs: Option<u64>,
    /// adam or adamw
    #[arg(long, value_parser = optimizer)]
    optimizer: Option<OptimizerKind>,
    /// Highest learning rate
    #[arg(long)]
    lr: Option<f64>,
    /// Lowest learning rate of a cosine schedule
    #[arg(long)]
    min_lr: Option<f64>,
    /// Steps over which the learning rate rises
    #[arg(long)]
    warmup_steps: Option<u64>,
    /// constant or cosine
    #[arg(long, value_parser = schedule)]
    schedule: Option<Schedule>,
    /// Adam's beta 1
    #[arg(long)]
    beta1: Option<f64>,
    /// Adam's beta 2
    #[arg(long)]
    beta2: Option<f64>,
    /// Adam's epsilon
    #[arg(long)]
    eps: Option<f64>,
    /// Weight decay
    #[arg(long)]
    weight_decay: Option<f64>,
    /// Largest norm of the gradient; 0 for none
    #[arg(long)]
    grad_clip_norm: Option<f64>,
    /// What the average of the weights keeps at each step; 0 keeps no average
    #[arg(long)]
    ema_decay: Option<f64>,
    /// Probability that an activation is dropped
    #[arg(long)]
    pub dropout: Option<f64>,
    /// What the network is taught: flow, regression or mip
    #[arg(long, value_parser = objective)]
    pub objective: Option<Objective>,
    /// Keys all randomness
    #[arg(long)]
    seed: Option<u64>,
    /// The data set's split to train on [default: train]
    #[arg(long, value_name = "NAME")]
    dataset_split: Option<String>,
    /// Share of the episodes kept for the validation loss, where the data set has no split `validation`
    #[arg(long)]
    eval_split: Option<f64>,
    /// Crops training pictures at random, to this share of each side at least; 1 for none
    #[arg(long, value_name = "SHARE")]
    random_crop: Option<f64>,
    /// Changes brightness, contrast, saturation and hue of training pictures at random, as torchvision's ColorJitter:
    /// 0.2,0.2,0.2,0.05, say; what is left out is 0, for none
    #[arg(long, value_name = "B,C,S,H", value_delimiter = ',')]
    color_jitter: Option<Vec<f64>>,
    /// Threads that load data ahead of the device [default: the cores, on the CPU half of them, at most 8]
    #[arg(long, value_name = "N")]
    num_workers: Option<usize>,
    /// Memory for decoded pictures, in GiB: if all fit, they are decoded once, else whenever they are needed
    #[arg(long, value_name = "GIB")]
    image_cache_gib: Option<f64>,
    /// Keeps decoded pictures in this folder, for the next epoch and the next run
    #[arg(long, value_name = "DIR")]
    decoded_cache: Option<PathBuf>,
    /// What that folder may hold, in GiB; the oldest files of other data sets go first
    #[arg(long, value_name = "GIB")]
    decoded_cache_gib: Option<f64>,
    /// Steps between two lines of metrics
    #[arg(long)]
    log_freq: Option<u64>,
    /// Steps between two checkpoints
    #[arg(long)]
    save_freq: Option<u64>,
    /// Steps between two validation losses; 0 for none
    #[arg(long)]
    eval_freq: Option<u64>,
    /// Steps between two closed-loop evaluations, which decide what is best; 0 for none
    #[arg(long)]
    env_eval_freq: Option<u64>,
    /// Episodes of such an evaluation
    #[arg(long)]
    env_eval_episodes: Option<usize>,
    /// Stops once the smoothed training loss is at most this
    #[arg(long)]
    target_loss: Option<f64>,
    /// Stops after so many minutes, with the schedule fitted to them
    #[arg(long)]
    max_minutes: Option<f64>,
}

fn optimizer(name: &str) -> Result<OptimizerKind, String> {
    serde_json::from_value(json!(name)).map_err(|_| "use adam or adamw".to_owned())
}

fn objective(name: &str) -> Result<Objective, String> {
    serde_json::from_value(json!(name)).map_err(|_| "use flow, regression or mip".to_owned())
}

fn schedule(name: &str) -> Result<Schedule, String> {
    serde_json::from_value(json!(name)).map_err(|_| "use constant or cosine".to_owned())
}

impl Settings {
    /// Checks what flags can hold and a configuration cannot.
    ///
    /// # Errors
    /// If more ranges of colours are given than there are.
    pub fn check(&self) -> Result<()> {
        match self.color_jitter.as_ref().map_or(0, Vec::len) {
            0..=4 => Ok(()),
            more => {
                Err(Error::input(format!("--color-jitter has {more} ranges: give at most four, B,C,S,H")))
            }
        }
    }

    /// Puts what is given over `base`.
    pub fn over(&self, base: TrainConfig) -> TrainConfig {
        TrainConfig {
            batch_size: self.batch_size.unwrap_or(base.batch_size),
            grad_accum_steps: self.grad_accum_steps.unwrap_or(base.grad_accum_steps),
            steps: self.steps.unwrap_or(base.steps),
            optimizer: self.optimizer.unwrap_or(base.optimizer),
            lr: self.lr.unwrap_or(base.lr),
            min_lr: self.min_lr.unwrap_or(base.min_lr),
            warmup_steps: self.warmup_steps.unwrap_or(base.warmup_steps),
            schedule: self.schedule.unwrap_or(base.schedule),
            betas: [self.beta1.unwrap_or(base.betas[0]), self.beta2.unwrap_or(base.betas[1])],
            eps: self.eps.unwrap_or(base.eps),
            weight_decay: self.weight_decay.unwrap_or(base.weight_decay),
            grad_clip_norm: self.grad_clip_norm.unwrap_or(base.grad_clip_norm),
            ema_decay: self.ema_decay.unwrap_or(base.ema_decay),
            seed: self.seed.unwrap_or(base.seed),
            dataset_split: self.dataset_split.clone().unwrap_or(base.dataset_split),
            eval_split: self.eval_split.unwrap_or(base.eval_split),
            random_crop: self.random_crop.unwrap_or(base.random_crop),
            color_jitter: match &self.color_jitter {
                Some(ranges) => std::array::from_fn(|i| ranges.get(i).copied().unwrap_or(0.0)),
                None => base.color_jitter,
            },
            num_workers: self.num_workers.or(base.num_workers),
            image_cache_gib: self.image_cache_gib.unwrap_or(base.image_cache_gib),
            decoded_cache: self.decoded_cache.clone().or(base.decoded_cache),
            decoded_cache_gib: self.decoded_cache_gib.unwrap_or(base.decoded_cache_gib),
            log_freq: self.log_freq.unwrap_or(base.log_freq),
            save_freq: self.save_freq.unwrap_or(base.save_freq),
            eval_freq: self.eval_freq.unwrap_or(base.eval_freq),
            env_eval_freq: self.env_eval_freq.unwrap_or(base.env_eval_freq),
            env_eval_episodes: self.env_eval_episodes.unwrap_or(base.env_eval_episodes),
            target_loss: self.target_loss.unwrap_or(base.target_loss),
            max_minutes: self.max_minutes.unwrap_or(base.max_minutes),
        }
    }
}
