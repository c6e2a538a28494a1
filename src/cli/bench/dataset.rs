//! What the size of a data set costs: to open it for training, and to make a batch of it.

use std::path::Path;
use std::time::Instant;

use super::growth::Grown;
use super::milliseconds;
use crate::Result;
use crate::data::Dataset;
use crate::measure::{Times, Until};
use crate::policy::{Config, Normalizer};
use crate::train::TrainConfig;
use crate::train::data::{TrainingData, statistics};

/// Its first episodes, by what share of them: each opening decodes its pictures anew.
const SHARES: [usize; 5] = [16, 8, 4, 2, 1];

/// Opens more and more of a data set as training does.
///
/// # Errors
/// If it lacks what the policy is configured for.
pub fn climb(config: &Config, root: &Path, batch: usize, until: Until) -> Result<[Grown; 2]> {
    let whole = Dataset::open(root)?;
    let normalizer = Normalizer::new(config, &statistics(&whole)?)?;
    let settings = TrainConfig { batch_size: batch, eval_split: 0.0, ..TrainConfig::default() };
    let (mut opened, mut batches) = (Vec::new(), Vec::new());
    let mut last = 0;
    for share in SHARES {
        let episodes = whole.episodes.len() / share;
        if episodes == last {
            continue;
        }
        last = episodes;
        let mut part = whole.clone();
        part.episodes.truncate(episodes);
        let start = Instant::now();
        let data = TrainingData::new(part, config, normalizer.clone(), &settings)?;
        let open_ms = milliseconds(start);
        let mut step = 0;
        let once = || {
            let start = Instant::now();
            data.batch(step)?;
            step += 1;
            Ok(milliseconds(start))
        };
        let frames = data.frames() as f64;
        opened.push((frames, open_ms));
        batches.push((frames, Times::measure(until, once)?.at(0.0)));
    }
    Ok([Grown::new("frames, to open", true, opened), Grown::new("frames, a batch", true, batches)])
}
