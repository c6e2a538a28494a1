//! The settings of a run as flags.

use serde_json::json;

use crate::policy::Objective;
use crate::train::{OptimizerKind, Schedule, TrainConfig};

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
    /// Share of the episodes kept for the validation loss
    #[arg(long)]
    eval_split: Option<f64>,
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
            eval_split: self.eval_split.unwrap_or(base.eval_split),
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
