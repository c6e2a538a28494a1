//! The batches of a run's steps, made ahead of the device.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::data::{Prepared, TrainingData};
use crate::data::Prefetch;
use crate::{Error, Result};

/// Batches that may wait for the device.
const AHEAD: usize = 3;

/// Batches by step, each a function of the seed and the step alone.
pub(super) struct Batches {
    data: Arc<TrainingData>,
    workers: usize,
    ahead: Option<Prefetch<Prepared>>,
    waited: Duration,
}

impl Batches {
    /// Batches in memory at the same time: those that wait, one being made, one that waits for room, one in use.
    pub const AT_ONCE: usize = AHEAD + 3;

    /// Batches of `data`, made ahead by so many workers; by the caller where there is none.
    pub fn new(data: Arc<TrainingData>, workers: usize) -> Self {
        Self { data, workers, ahead: None, waited: Duration::ZERO }
    }

    /// The batch of a step, counted from 1.
    ///
    /// # Errors
    /// If a picture of it is broken, or a value not finite.
    pub fn of(&mut self, step: u64) -> Result<Prepared> {
        let asked = Instant::now();
        let batch = self.made(step);
        self.waited += asked.elapsed();
        batch.map_err(|e| e.at(format!("the batch of step {step}")))
    }

    fn made(&mut self, step: u64) -> Result<Prepared> {
        if self.workers == 0 {
            return self.data.batch(step);
        }
        if let Some(made) = self.ahead.as_mut().and_then(|ahead| ahead.take(step)) {
            return made;
        }
        // A run that begins, goes on from a checkpoint, or does a step again.
        self.ahead = None;
        let data = Arc::clone(&self.data);
        let mut ahead = Prefetch::start(step, self.workers, AHEAD, move |step| data.batch(step))?;
        let first = ahead.take(step);
        self.ahead = Some(ahead);
        first.unwrap_or_else(|| Err(Error::failure("a thread that loads data broke off")))
    }

    /// How long was waited for batches so far.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Stops working ahead.
    pub fn rest(&mut self) {
        self.ahead = None;
    }
}
