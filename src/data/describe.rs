//! Statistics from an episode's frames, computed as LeRobot's `compute_episode_stats` does, in double precision.

use super::{Stat, Stats};
use crate::{Result, image::Image};

/// The statistics LeRobot writes, in its order.
pub(super) const NAMES: [&str; 10] =
    ["min", "max", "mean", "std", "count", "q01", "q10", "q50", "q90", "q99"];

const QUANTILES: [f64; 5] = [0.01, 0.10, 0.50, 0.90, 0.99];
const BINS: usize = 5000;

/// The statistics of `samples` (value, how often), in the order of [`NAMES`] without `count`.
fn describe(samples: &[(f64, u64)]) -> [f64; 9] {
    let count: u64 = samples.iter().map(|s| s.1).sum();
    let weigh = |f: &dyn Fn(f64) -> f64| {
        samples.iter().map(|&(value, times)| f(value) * times as f64).sum::<f64>() / count as f64
    };
    let mean = weigh(&|value| value);
    let std = weigh(&|value| (value - mean) * (value - mean)).sqrt();
    let min = samples.iter().fold(f64::INFINITY, |m, s| m.min(s.0));
    let max = samples.iter().fold(f64::NEG_INFINITY, |m, s| m.max(s.0));
    let [q01, q10, q50, q90, q99] =
        if count < 2 { [mean; 5] } else { quantiles(samples, count as f64, min, max) };
    [min, max, mean, std, q01, q10, q50, q90, q99]
}

/// Quantiles from a histogram of 5000 equal bins over the range, linear within a bin.
fn quantiles(samples: &[(f64, u64)], count: f64, min: f64, max: f64) -> [f64; 5] {
    let (low, high) = (min - 1e-10, max + 1e-10);
    let width = (high - low) / BINS as f64;
    let edge = |i: usize| if i == BINS { high } else { low + i as f64 * width };
    let mut bins = vec![0u64; BINS];
    for &(value, times) in samples {
        // Rounding may put a value beside its bin: the edges decide, as in numpy's histogram.
        let mut bin = if width > 0.0 { ((value - low) / width) as usize } else { BINS - 1 }.min(BINS - 1);
        while bin > 0 && value < edge(bin) {
            bin -= 1;
        }
        while bin + 1 < BINS && value >= edge(bin + 1) {
            bin += 1;
        }
        bins[bin] += times;
    }
    QUANTILES.map(|quantile| {
        let target = quantile * count;
        let mut before = 0.0;
        for (i, &in_bin) in bins.iter().enumerate() {
            let after = before + in_bin as f64;
            if after >= target {
                let fraction = (target - before) / in_bin as f64;
                return if i == 0 || in_bin == 0 { edge(i) } else { edge(i) + fraction * width };
            }
            before = after;
        }
        edge(BINS)
    })
}

/// Sets a feature's statistics from those of each of its components.
fn set(stats: &mut Stats, key: &str, shape: &[usize], parts: &[[f64; 9]], count: usize) -> Result<()> {
    for (i, name) in NAMES.iter().filter(|name| **name != "count").enumerate() {
        let values = parts.iter().map(|part| part[i]).collect();
        stats.set(key, name, Stat { shape: shape.to_vec(), values })?;
    }
    stats.set(key, "count", Stat::vector(vec![count as f64]))
}

/// Adds the statistics of an episode's vectors, `values[frame * width + component]`.
///
/// # Errors
/// If a value is not finite.
pub(super) fn vectors(stats: &mut Stats, key: &str, width: usize, values: &[f64]) -> Result<()> {
    let component = |c: usize| -> Vec<(f64, u64)> {
        values.iter().skip(c).step_by(width).map(|&value| (value, 1)).collect()
    };
    let parts: Vec<_> = (0..width).map(|c| describe(&component(c))).collect();
    set(stats, key, &[width], &parts, values.len() / width)
}

/// Adds the statistics of the pictures of an episode of `len` frames, in [0, 1]: a sample of the frames, large ones
/// thinned to about 150 pixels.
///
/// # Errors
/// If a picture cannot be had.
pub(super) fn pictures(
    stats: &mut Stats,
    key: &str,
    len: usize,
    picture: impl Fn(usize) -> Result<Image>,
) -> Result<()> {
    let mut histograms = [[0u64; 256]; 3];
    let frames = sampled(len);
    for &frame in &frames {
        let image = picture(frame)?;
        let stride = stride(image.width, image.height);
        for y in (0..image.height).step_by(stride) {
            for x in (0..image.width).step_by(stride) {
                let pixel = &image.pixels[(y * image.width + x) * 3..][..3];
                for (histogram, &value) in histograms.iter_mut().zip(pixel) {
                    histogram[usize::from(value)] += 1;
                }
            }
        }
    }
    let parts = histograms.map(|histogram| {
        let samples: Vec<_> =
            (0..256u32).map(f64::from).zip(histogram).filter(|&(_, times)| times > 0).collect();
        describe(&samples).map(|stat| stat / 255.0)
    });
    set(stats, key, &[3, 1, 1], &parts, frames.len())
}

/// The frames whose pictures count: `len^0.75` of them, at least 100, at most 10,000, evenly spread.
fn sampled(len: usize) -> Vec<usize> {
    let wanted = ((len as f64).powf(0.75) as usize).min(10_000).max(len.min(100));
    let step = if wanted > 1 { (len - 1) as f64 / (wanted - 1) as f64 } else { 0.0 };
    (0..wanted).map(|i| (i as f64 * step).round_ties_even() as usize).collect()
}

/// Large pictures are read at every n-th pixel.
fn stride(width: usize, height: usize) -> usize {
    let longer = width.max(height);
    if longer < 300 { 1 } else { longer / 150 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    #[test]
    fn an_episode_has_the_statistics_computed_by_hand() {
        let mut stats = Stats::new("here");
        vectors(&mut stats, "action", 2, &[1.0, 7.0, 2.0, 7.0, 3.0, 7.0, 6.0, 7.0]).expect("finite");
        let get = |name| stats.get("action", name).expect("there").values.clone();
        assert_eq!((get("min"), get("max"), get("mean")), (vec![1.0, 7.0], vec![6.0, 7.0], vec![3.0, 7.0]));
        assert_relative_eq!(get("std")[0], 3.5f64.sqrt(), max_relative = 1e-12);
        assert_eq!((get("std")[1], get("count")), (0.0, vec![4.0]));
        // q50: two of four values are reached at the end of the bin that holds 2.
        assert_relative_eq!(get("q50")[0], 2.0, epsilon = 5.0 / 5000.0);
        // q01 lies in the first bin, whose lower edge it is.
        assert_relative_eq!(get("q01")[0], 1.0, epsilon = 1e-9);
        // q99: the last bin is full at 4, and 3.96 is reached 96 % through it.
        assert_relative_eq!(get("q99")[0], 6.0 - 0.04 * 5.0 / 5000.0, epsilon = 1e-9);
        assert_relative_eq!(get("q90")[1], 7.0, epsilon = 1e-9);
    }

    #[test]
    fn one_frame_has_its_value_as_every_quantile() {
        let mut stats = Stats::new("here");
        vectors(&mut stats, "action", 1, &[4.0]).expect("finite");
        for name in NAMES.iter().filter(|n| !["std", "count"].contains(n)) {
            assert_eq!(stats.get("action", name).expect("there").values, [4.0], "{name}");
        }
    }

    #[test]
    fn pictures_have_statistics_per_channel_between_0_and_1() {
        let black = Image::filled(4, 4, [0, 51, 255]);
        let white = Image::filled(4, 4, [255, 51, 255]);
        let mut stats = Stats::new("here");
        let picture = |frame: usize| Ok([&black, &white][frame].clone());
        pictures(&mut stats, "observation.image", 2, picture).expect("there");
        let mean = stats.get("observation.image", "mean").expect("there");
        assert_eq!((mean.shape.as_slice(), mean.values.as_slice()), (&[3, 1, 1][..], &[0.5, 0.2, 1.0][..]));
        let std = stats.get("observation.image", "std").expect("there");
        assert_eq!(std.values, [0.5, 0.0, 0.0]);
        assert_eq!(stats.get("observation.image", "count").expect("there").values, [2.0]);
    }

    #[test]
    fn long_episodes_and_large_pictures_are_sampled() {
        assert_eq!(sampled(5), [0, 1, 2, 3, 4]);
        assert_eq!(sampled(1), [0]);
        let frames = sampled(1000);
        assert_eq!((frames.len(), frames[0], frames[176]), (177, 0, 999));
        assert_eq!((stride(96, 96), stride(640, 480), stride(299, 299)), (1, 4, 1));
    }
}
