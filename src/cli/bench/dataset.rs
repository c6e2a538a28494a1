//! What the size of a data set costs: to open it for training, and to make a batch of it.

use std::path::Path;
use std::time::Instant;

use super::growth::Grown;
use super::milliseconds;
use crate::Result;
use crate::data::{Dataset, TRAIN};
use crate::measure::{Times, Until};
use crate::policy::{Config, Normalizer};
use crate::train::TrainConfig;
use crate::train::data::{TrainingData, statistics};

/// What part of the training episodes, the first ones, is opened: one over each of these.
const SHARES: [usize; 5] = [16, 8, 4, 2, 1];

/// A data set whose first episodes a policy can train on.
pub struct Growing {
    whole: Dataset,
    normalizer: Normalizer,
}

impl Growing {
    /// Reads its tables.
    ///
    /// # Errors
    /// If there is no such data set, or it lacks what the policy is configured for.
    pub fn open(root: &Path, config: &Config) -> Result<Self> {
        let whole = Dataset::open(root)?;
        let normalizer = Normalizer::new(config, &statistics(&whole)?)?;
        Ok(Self { whole, normalizer })
    }

    /// Opens more and more of it for training, pictures decoded anew each time, and makes batches of that.
    ///
    /// # Errors
    /// If a picture cannot be read.
    pub fn climb(&self, config: &Config, batch: usize, until: Until) -> Result<[Grown; 2]> {
        let settings = TrainConfig { batch_size: batch, eval_split: 0.0, ..TrainConfig::default() };
        let episodes = self.whole.split(TRAIN).len();
        let mut sizes: Vec<usize> = SHARES.into_iter().map(|share| episodes.div_ceil(share)).collect();
        sizes.dedup();
        let (mut opened, mut batches) = (Vec::new(), Vec::new());
        for size in sizes {
            let mut part = self.whole.clone();
            part.keep_first(TRAIN, size);
            let start = Instant::now();
            let data = TrainingData::new(part, config, self.normalizer.clone(), &settings)?;
            let open_ms = milliseconds(start);
            // Steps count from one.
            let mut step = 0;
            let once = || {
                step += 1;
                let start = Instant::now();
                data.batch(step)?;
                Ok(milliseconds(start))
            };
            let frames = data.frames() as f64;
            opened.push((frames, open_ms));
            batches.push((frames, Times::measure(until, once)?.at(0.0)));
        }
        Ok([Grown::new("frames opened", true, opened), Grown::new("frames, a batch", false, batches)])
    }
}
