//! Which episodes train and which validate, and which frames a training step sees: pure functions of a seed.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{
    Error, Result,
    rng::{Rng, Stream},
};

/// Epochs count from 0; the last number shuffles episodes instead of frames.
const SPLIT_EPOCH: u64 = u64::MAX;

/// Episodes to train on and to validate on, each ascending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Episodes to train on; never empty.
    pub train: Vec<usize>,
    /// Episodes held out.
    pub validation: Vec<usize>,
}

/// Holds out a share of the episodes, rounded up, chosen by the seed.
///
/// # Errors
/// If the share is not in [0, 1), or no episode would be left to train on.
pub fn split_episodes(episodes: usize, validation: f64, seed: u64) -> Result<Split> {
    if !(0.0..1.0).contains(&validation) {
        return Err(Error::input(format!(
            "the validation share {validation} must be at least 0 and below 1"
        )));
    }
    // A share like 0.1 of 10 is not to become 2 by rounding.
    let held_out = (episodes as f64 * validation - 1e-9).ceil() as usize;
    if held_out >= episodes {
        return Err(Error::input(format!(
            "a dataset of {episodes} episodes is too small to hold out {validation} of them; record more, or \
             validate on nothing"
        )));
    }
    let order = Rng::new(seed, Stream::Shuffle, SPLIT_EPOCH, 0).permutation(episodes);
    let pick = |places: &[u32]| {
        let mut picked: Vec<usize> = places.iter().map(|&e| e as usize).collect();
        picked.sort_unstable();
        picked
    };
    let (validation, train) = order.split_at(held_out);
    Ok(Split { train: pick(train), validation: pick(validation) })
}

/// The frames of every training step: each epoch a new shuffle, its last partial batch dropped.
///
/// A batch depends on nothing but the frames, the batch size, the seed and the step, so that a resumed run sees
/// what an unbroken one would have seen. Fewer frames than a batch are repeated in a batch.
#[derive(Debug)]
pub struct Sampler {
    frames: Vec<u32>,
    batch_size: usize,
    seed: u64,
    /// The epoch last shuffled, and its order; a memory, not a state.
    shuffled: Mutex<Option<(u64, Arc<[u32]>)>>,
}

impl Sampler {
    /// Batches of `batch_size` out of `frames`.
    ///
    /// # Errors
    /// If there is no frame or the batch size is 0.
    pub fn new(frames: Vec<u32>, batch_size: usize, seed: u64) -> Result<Self> {
        if frames.is_empty() || batch_size == 0 {
            return Err(Error::input(format!(
                "no batches of {batch_size} can be made of {} frames; both must be above 0",
                frames.len()
            )));
        }
        Ok(Self { frames, batch_size, seed, shuffled: Mutex::default() })
    }

    /// Steps in an epoch, at least one.
    pub fn steps_per_epoch(&self) -> u64 {
        (self.frames.len() / self.batch_size).max(1) as u64
    }

    /// The frames of a step, counted from 0.
    pub fn batch(&self, step: u64) -> Vec<u32> {
        let epoch = step / self.steps_per_epoch();
        let place = (step % self.steps_per_epoch()) as usize * self.batch_size;
        let order = self.order(epoch);
        let frame = |i: usize| self.frames[order[(place + i) % order.len()] as usize];
        (0..self.batch_size).map(frame).collect()
    }

    fn order(&self, epoch: u64) -> Arc<[u32]> {
        let mut shuffled = self.shuffled.lock().unwrap_or_else(PoisonError::into_inner);
        match &*shuffled {
            Some((known, order)) if *known == epoch => Arc::clone(order),
            _ => {
                let order = Rng::new(self.seed, Stream::Shuffle, epoch, 0).permutation(self.frames.len());
                let order: Arc<[u32]> = order.into();
                *shuffled = Some((epoch, Arc::clone(&order)));
                order
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_episode_is_on_one_side_and_the_seed_decides() {
        let split = split_episodes(10, 0.25, 7).expect("large enough");
        assert_eq!((split.train.len(), split.validation.len()), (7, 3));
        let mut all = [split.train.clone(), split.validation.clone()].concat();
        all.sort_unstable();
        assert_eq!(all, (0..10).collect::<Vec<_>>());
        assert_eq!(split_episodes(10, 0.25, 7).expect("large enough"), split);
        assert!((0..20).any(|seed| split_episodes(10, 0.25, seed).expect("large enough") != split));
        assert_eq!(split_episodes(10, 0.1, 0).expect("large enough").validation.len(), 1);
        assert_eq!(split_episodes(1, 0.0, 0).expect("large enough").train, [0]);
    }

    #[test]
    fn a_share_that_leaves_nothing_to_train_on_is_an_error() {
        for (episodes, share) in [(1, 0.1), (0, 0.0), (10, 1.0), (10, -0.1), (10, f64::NAN)] {
            assert!(split_episodes(episodes, share, 0).is_err(), "{share} of {episodes}");
        }
    }

    #[test]
    fn an_epoch_holds_every_frame_at_most_once_and_epochs_differ() {
        let sampler = Sampler::new((100..110).collect(), 3, 1).expect("frames");
        assert_eq!(sampler.steps_per_epoch(), 3);
        let epoch = |n: u64| (n * 3..n * 3 + 3).flat_map(|step| sampler.batch(step)).collect::<Vec<_>>();
        let (first, second) = (epoch(0), epoch(1));
        let mut seen = first.clone();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 9);
        assert_ne!(first, second);
    }

    #[test]
    fn a_resumed_run_sees_the_same_batches() {
        let sampler = || Sampler::new((0..50).collect(), 8, 3).expect("frames");
        let unbroken = sampler();
        let batches: Vec<_> = (0..40).map(|step| unbroken.batch(step)).collect();
        for step in [39, 0, 17, 18] {
            assert_eq!(sampler().batch(step), batches[step as usize], "step {step}");
            assert_eq!(unbroken.batch(step), batches[step as usize], "step {step}, asked for again");
        }
    }

    #[test]
    fn a_dataset_smaller_than_a_batch_wraps_around() {
        let sampler = Sampler::new(vec![4, 5, 6], 8, 0).expect("frames");
        let batch = sampler.batch(0);
        assert_eq!((batch.len(), &batch[..3]), (8, &batch[3..6]));
        assert!(Sampler::new(vec![], 8, 0).is_err() && Sampler::new(vec![1], 0, 0).is_err());
    }
}
