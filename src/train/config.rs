//! How a policy is trained: everything but the policy and the data.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::kernels::optimizer::Hyper;
use crate::{Error, Result};

/// Which optimiser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Adam, weight decay as an L2 term.
    Adam,
    /// Adam with decoupled weight decay.
    Adamw,
}

/// How the learning rate goes on after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// It stays.
    Constant,
    /// Half a cosine down to `min_lr` at the last step.
    Cosine,
}

/// The settings of a training run. Saved with every checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Samples that go through the network together.
    pub batch_size: usize,
    /// Batches whose mean gradient makes an optimiser step.
    pub grad_accum_steps: usize,
    /// Optimiser steps in all; the schedule ends there.
    pub steps: u64,
    /// Which optimiser.
    pub optimizer: OptimizerKind,
    /// Highest learning rate.
    pub lr: f64,
    /// Lowest learning rate of a cosine schedule.
    pub min_lr: f64,
    /// Steps over which the learning rate rises from 0.
    pub warmup_steps: u64,
    /// How it goes on then.
    pub schedule: Schedule,
    /// Adam's β1 and β2.
    pub betas: [f64; 2],
    /// Adam's ε.
    pub eps: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Largest norm of the gradient; 0 for none.
    pub grad_clip_norm: f64,
    /// What the average of the weights keeps at each step, once it has seen some; 0 keeps no average.
    pub ema_decay: f64,
    /// Keys all randomness of the run.
    pub seed: u64,
    /// The split of the data set whose episodes are trained on.
    pub dataset_split: String,
    /// Share of the episodes kept for the validation loss, where the data set has no split for it.
    pub eval_split: f64,
    /// Smallest side of random crops as a share of the picture's; 1 crops nothing.
    pub random_crop: f64,
    /// Random changes of brightness, contrast, saturation and hue, as [`crate::data::Augmentation`] has them.
    pub color_jitter: [f64; 4],
    /// Threads that make batches ahead; 0 for none, nothing given for what suits the machine.
    pub num_workers: Option<usize>,
    /// GiB of memory that decoded pictures may take: if all fit, they are decoded up front.
    pub image_cache_gib: f64,
    /// Where decoded pictures are kept on disk.
    pub decoded_cache: Option<PathBuf>,
    /// GiB that they may take there.
    pub decoded_cache_gib: f64,
    /// Steps between two lines of metrics.
    pub log_freq: u64,
    /// Steps between two checkpoints; the last step always has one.
    pub save_freq: u64,
    /// Steps between two validation losses; 0 for none.
    pub eval_freq: u64,
    /// Steps between two closed-loop evaluations; 0 for none.
    pub env_eval_freq: u64,
    /// Episodes of such an evaluation.
    pub env_eval_episodes: usize,
    /// Stop once the smoothed training loss is at most this; 0 for never.
    pub target_loss: f64,
    /// Stop after so many minutes, with the schedule fitted to them; 0 for never.
    pub max_minutes: f64,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            batch_size: 64,
            grad_accum_steps: 1,
            steps: 18_000,
            optimizer: OptimizerKind::Adamw,
            lr: 1e-3,
            min_lr: 0.0,
            warmup_steps: 500,
            schedule: Schedule::Cosine,
            betas: [0.9, 0.999],
            eps: 1e-8,
            weight_decay: 0.01,
            grad_clip_norm: 1.0,
            ema_decay: 0.999,
            seed: 0,
            dataset_split: "train".into(),
            eval_split: 0.05,
            random_crop: 1.0,
            color_jitter: [0.0; 4],
            num_workers: None,
            image_cache_gib: 2.0,
            decoded_cache: None,
            decoded_cache_gib: 20.0,
            log_freq: 100,
            save_freq: 2000,
            eval_freq: 1000,
            env_eval_freq: 0,
            env_eval_episodes: 50,
            target_loss: 0.0,
            max_minutes: 0.0,
        }
    }
}

/// Samples of a step: what no machine holds is refused before anything is estimated.
const MOST_SAMPLES: usize = 1 << 20;

impl TrainConfig {
    /// The settings that a preset is trained with.
    ///
    /// Those of `flowmatching` are the published ones, with LeRobot's batch of 8, clipping and an average of the weights.
    /// Those of seeds are as published: Adam at 1e-4 (pursuit) or, for 50 epochs of 78 batches of 256, at 3e-4 (pendulum),
    /// nothing else.
    pub fn of_preset(name: &str) -> Self {
        let plain = Self {
            optimizer: OptimizerKind::Adam,
            lr: 1e-4,
            warmup_steps: 0,
            schedule: Schedule::Constant,
            weight_decay: 0.0,
            grad_clip_norm: 0.0,
            ema_decay: 0.0,
            ..Self::default()
        };
        match name {
            "pursuit-seed" => plain,
            "pendulum-seed" => Self { batch_size: 256, steps: 3900, lr: 3e-4, eval_split: 0.0, ..plain },
            _ if name.starts_with("flowmatching") => Self {
                batch_size: 8,
                steps: 30_000,
                lr: 1e-4,
                min_lr: 1e-5,
                warmup_steps: 1000,
                betas: [0.9, 0.95],
                weight_decay: 1e-6,
                ..Self::default()
            },
            "pursuit-cameras" => Self { steps: 12_000, warmup_steps: 100, ..Self::default() },
            _ if name.starts_with("pursuit") => Self::default(),
            _ => Self { batch_size: 256, steps: 12_000, warmup_steps: 200, log_freq: 500, ..Self::default() },
        }
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// Names the flag that is of no use.
    pub fn check(&self) -> Result<()> {
        let wrong = |flag: &str, value: &dyn std::fmt::Display, use_: &str| {
            Err(Error::input(format!("--{flag} is {value}: use {use_}")))
        };
        if self.steps == 0 {
            return wrong("steps", &self.steps, "at least 1");
        }
        if self.batch_size == 0 {
            return wrong("batch-size", &self.batch_size, "at least 1");
        }
        if self.batch_size.saturating_mul(self.grad_accum_steps) > MOST_SAMPLES {
            let samples = format!("{} x {}", self.batch_size, self.grad_accum_steps);
            return wrong("batch-size times --grad-accum-steps", &samples, "at most 1048576 samples a step");
        }
        if self.grad_accum_steps == 0 {
            return wrong("grad-accum-steps", &self.grad_accum_steps, "at least 1");
        }
        if !(self.lr.is_finite() && self.lr > 0.0) {
            return wrong("lr", &self.lr, "a positive number");
        }
        for (flag, beta) in
            [("beta1", self.betas[0]), ("beta2", self.betas[1]), ("ema-decay", self.ema_decay)]
        {
            if !(0.0..1.0).contains(&beta) {
                return wrong(flag, &beta, "a number from 0 up to, not including, 1");
            }
        }
        if !(0.0..1.0).contains(&self.eval_split) {
            return wrong("eval-split", &self.eval_split, "a share from 0 up to, not including, 1");
        }
        for (flag, value) in [
            ("min-lr", self.min_lr),
            ("eps", self.eps),
            ("weight-decay", self.weight_decay),
            ("grad-clip-norm", self.grad_clip_norm),
            ("target-loss", self.target_loss),
            ("max-minutes", self.max_minutes),
            ("image-cache-gib", self.image_cache_gib),
            ("decoded-cache-gib", self.decoded_cache_gib),
        ] {
            if !(value.is_finite() && value >= 0.0) {
                return wrong(flag, &value, "a number that is not negative");
            }
        }
        // No machine has more cores, and a thread costs memory.
        if let Some(workers) = self.num_workers.filter(|&workers| workers > 1024) {
            return wrong("num-workers", &workers, "at most 1024");
        }
        #[cfg(feature = "data")]
        self.augmentation().check()?;
        if self.log_freq == 0 || self.save_freq == 0 {
            return wrong("log-freq or --save-freq", &0, "at least 1");
        }
        Ok(())
    }

    /// Samples of an optimiser step.
    pub fn samples_per_step(&self) -> usize {
        self.batch_size * self.grad_accum_steps
    }

    /// What is done to training pictures.
    #[cfg(feature = "data")]
    pub fn augmentation(&self) -> crate::data::Augmentation {
        crate::data::Augmentation { random_crop: self.random_crop, color_jitter: self.color_jitter }
    }

    /// The learning rate of a step, counted from 1, when `progress` of the run, from 0 to 1, is over.
    pub fn learning_rate(&self, step: u64, progress: f64) -> f64 {
        let warm =
            if self.warmup_steps > 0 { (step as f64 / self.warmup_steps as f64).min(1.0) } else { 1.0 };
        let shape = match self.schedule {
            Schedule::Constant => 1.0,
            Schedule::Cosine => {
                let floor = self.min_lr / self.lr;
                floor + (1.0 - floor) * 0.5 * (1.0 + (std::f64::consts::PI * progress.clamp(0.0, 1.0)).cos())
            }
        };
        self.lr * warm * shape
    }

    /// The optimiser's numbers for a step, counted from 1. The average starts quickly: it keeps
    /// min(decay, step / (9 + step)) of itself (Polyak averaging with warm-up, as TensorFlow's).
    pub fn hyper(&self, step: u64, progress: f64) -> Hyper {
        let k = step as f64;
        Hyper {
            lr: self.learning_rate(step, progress),
            betas: self.betas,
            eps: self.eps,
            weight_decay: self.weight_decay,
            ema_decay: self.ema_decay.min(k / (9.0 + k)),
            max_norm: self.grad_clip_norm,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_learning_rate_rises_then_falls_to_its_floor() {
        let config =
            TrainConfig { lr: 1e-3, min_lr: 1e-5, warmup_steps: 10, steps: 100, ..TrainConfig::default() };
        approx::assert_relative_eq!(config.learning_rate(5, 0.0), 5e-4);
        approx::assert_relative_eq!(config.learning_rate(10, 0.0), 1e-3);
        approx::assert_relative_eq!(config.learning_rate(55, 0.5), 0.5 * (1e-3 + 1e-5), max_relative = 1e-12);
        approx::assert_relative_eq!(config.learning_rate(100, 1.0), 1e-5, max_relative = 1e-9);
    }

    #[test]
    fn settings_of_no_use_are_named() {
        let default = TrainConfig::default();
        for (config, flag) in [
            (TrainConfig { steps: 0, ..default.clone() }, "--steps"),
            (TrainConfig { batch_size: 0, ..default.clone() }, "--batch-size"),
            (TrainConfig { batch_size: usize::MAX, grad_accum_steps: 2, ..default.clone() }, "--batch-size"),
            (TrainConfig { grad_accum_steps: 0, ..default.clone() }, "--grad-accum-steps"),
            (TrainConfig { lr: f64::NAN, ..default.clone() }, "--lr"),
            (TrainConfig { ema_decay: 1.0, ..default.clone() }, "--ema-decay"),
            (TrainConfig { grad_clip_norm: -1.0, ..default.clone() }, "--grad-clip-norm"),
            #[cfg(feature = "data")]
            (TrainConfig { random_crop: 0.0, ..default.clone() }, "--random-crop"),
            #[cfg(feature = "data")]
            (TrainConfig { color_jitter: [0.0, 0.0, 0.0, 2.0], ..default.clone() }, "--color-jitter"),
            (TrainConfig { num_workers: Some(5000), ..default.clone() }, "--num-workers"),
            (TrainConfig { image_cache_gib: -1.0, ..default.clone() }, "--image-cache-gib"),
            (TrainConfig { eval_split: 1.0, ..default }, "--eval-split"),
        ] {
            let error = config.check().expect_err(flag);
            assert!(error.to_string().contains(flag), "{error}");
        }
    }
}
