//! What a recording is made of: parts, each of one split and recorded in one way.

use crate::data::{STRESS, TRAIN, VALIDATION};
use crate::sim::Spec;
use crate::sim::record::{Options, Start};

/// A part of a recording: so many frames or episodes, recorded in one way.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// The data set's split that its episodes belong to.
    pub split: &'static str,
    /// How. The seed is the recording's.
    pub options: Options,
}

impl Part {
    /// A part of the split that is trained on.
    pub fn train(options: Options) -> Self {
        Self { split: TRAIN, options }
    }
}

/// The mixture that policies of an environment are trained on by default, `frames` in all. Labels are clean.
///
/// - A pendulum: the expert under noise of deviation 1 (half the greatest torque). Alone it shows one path from each start, and a policy that
///   strays finds nothing to return by.
/// - A task that ends once it is solved: a quarter plain demonstrations, a quarter under noise, and half under noise
///   from wide starts. Plain demonstrations visit neither the walls nor what a learner's mistakes lead to.
/// - Any other: half plain, half under noise.
pub fn default_mixture(spec: &Spec, frames: usize) -> Vec<Part> {
    let whole = Options { max_steps: spec.horizon, ..Options::default() };
    let plain = if spec.ends { Options::default() } else { whole.clone() };
    let noisy = Options { noise: strongest(spec), noise_varies: true, ..whole.clone() };
    let parts = if spec.name.starts_with("pendulum") {
        vec![(Options { noise: 1.0, ..whole }, 4)]
    } else if spec.ends {
        let wide = Options { start: Start::Wide, ..noisy.clone() };
        vec![(plain, 1), (noisy, 1), (wide, 2)]
    } else {
        vec![(plain, 2), (noisy, 2)]
    };
    let mut left = frames;
    let last = parts.len() - 1;
    let shares = parts.into_iter().enumerate().map(|(i, (options, quarters))| {
        let share = if i == last { left } else { frames / 4 * quarters };
        left -= share;
        (options, share)
    });
    shares
        .filter(|(_, frames)| *frames > 0)
        .map(|(options, frames)| Part::train(Options { max_frames: Some(frames), ..options }))
        .collect()
}

/// The parts that are not trained on, after a first part that is: `validation` episodes from ordinary resets without
/// noise, and `stress` episodes from wide starts under noise whose deviation is drawn for each episode, up to the greatest
/// action. Driver and labels are the same.
pub fn held_out(spec: &Spec, first: &Options, validation: usize, stress: usize) -> Vec<Part> {
    let whole = Options { max_frames: None, noisy_share: 1.0, ..first.clone() };
    let ordinary = Options {
        episodes: Some(validation),
        noise: 0.0,
        noise_varies: false,
        start: Start::Reset,
        ..whole.clone()
    };
    let hard = Options {
        episodes: Some(stress),
        noise: strongest(spec),
        noise_varies: true,
        start: Start::Wide,
        max_steps: first.max_steps.min(spec.horizon),
        ..whole
    };
    let parts = [Part { split: VALIDATION, options: ordinary }, Part { split: STRESS, options: hard }];
    parts.into_iter().filter(|part| part.options.episodes != Some(0)).collect()
}

/// As much as an action: the strongest push still leaves the expert its say.
fn strongest(spec: &Spec) -> f64 {
    spec.high.iter().copied().fold(0.0, f64::max)
}

/// The numbers of the parts, of 16 in all: those that are trained on count from 0, and the others have theirs whatever
/// is trained on.
pub fn numbers(parts: &[Part]) -> Vec<usize> {
    let number = |(i, part): (usize, &Part)| match part.split {
        VALIDATION => 14,
        STRESS => 15,
        _ => i,
    };
    parts.iter().enumerate().map(number).collect()
}

/// The seed of a part's first episode: 2^36 episodes for every seed and 2^32 for every part of it, far from
/// the seeds of evaluations. No two recordings share an episode.
pub fn first_seed(seed: u64, part: usize) -> u64 {
    (1_u64 << 40).wrapping_add(seed << 36).wrapping_add((part as u64) << 32)
}
