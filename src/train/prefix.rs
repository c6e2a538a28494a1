//! Chunks that go on from actions which are given: training-time real-time chunking (Black et al., arXiv 2512.05964).
//!
//! Each sample draws how many of its first actions are given. Their flow time is the action's own, so that x_t holds
//! them clean; the others have the time that was drawn for the sample. Only the others count in the loss.

use crate::policy::Config;
use crate::rng::{Rng, Stream};

/// How many of a training sample's first actions are given: uniform in 0..=`rtc_training_max_delay`.
pub(super) fn draw(config: &Config, seed: u64, step: u64, sample: u32) -> usize {
    match config.rtc_training_max_delay as u32 {
        0 => 0,
        most => Rng::new(seed, Stream::Prefix, step, sample).below(most + 1) as usize,
    }
}

/// The flow times of a chunk with `given` actions at its start: one for each action where a policy is trained so, else
/// one.
pub(super) fn times(config: &Config, time: f32, given: usize) -> Vec<f32> {
    if config.rtc_training_max_delay == 0 {
        return vec![time];
    }
    let mut times = vec![time; config.chunk_size];
    times[..given].fill(config.flow.action_time() as f32);
    times
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::NoiseAt;
    use crate::policy::presets::preset;

    fn config(most: usize) -> Config {
        Config { rtc_training_max_delay: most, ..preset("pursuit").expect("known") }
    }

    #[test]
    fn every_length_is_drawn_about_as_often_and_always_the_same() {
        let mut counts = [0; 5];
        for sample in 0..5000 {
            let given = draw(&config(4), 3, 7, sample);
            assert_eq!(given, draw(&config(4), 3, 7, sample));
            counts[given] += 1;
        }
        assert!(counts.iter().all(|&count| (900..1100).contains(&count)), "{counts:?}");
        assert_eq!(draw(&config(0), 3, 7, 0), 0);
    }

    #[test]
    fn given_actions_have_the_actions_time_in_both_conventions() {
        let mut config = config(4);
        assert_eq!(times(&config, 0.25, 3), [1.0, 1.0, 1.0, 0.25, 0.25, 0.25, 0.25, 0.25]);
        config.flow.noise_at = NoiseAt::One;
        assert_eq!(times(&config, 0.25, 2), [0.0, 0.0, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25]);
        config.rtc_training_max_delay = 0;
        assert_eq!(times(&config, 0.25, 0), [0.25]);
    }
}
