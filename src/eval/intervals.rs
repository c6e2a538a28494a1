//! How far measured numbers can be trusted: 95 % intervals of shares, of means and of paired differences.
//!
//! A share of yes and no has Wilson's score interval (JASA 22, 1927), which does not collapse where all episodes agree,
//! or the interval of a Bayesian who knew nothing, Jeffreys'.
//! A mean has the percentile bootstrap (Efron, Tibshirani: An Introduction to the Bootstrap, chapter 13). Two methods on
//! the same episodes are compared by the mean of their differences, episode by episode: what an easy or a hard reset
//! does to both drops out.

use std::fmt;

use crate::rng::{Rng, Stream};
use crate::{Error, Result};

/// Means of resampled episodes that an interval is read off.
pub const RESAMPLES: usize = 10_000;
/// The share of a normal distribution within ±z is 95 %.
pub(super) const Z: f64 = 1.959_963_984_540_054;
/// What lies below a 95 % interval.
const TAIL: f64 = 0.025;

/// A measured number and an interval around it: of 95 % confidence, where this module makes it.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Estimate {
    /// The number itself.
    #[serde(rename = "mean")]
    pub value: f64,
    /// The interval's lower end.
    pub low: f64,
    /// The interval's upper end.
    pub high: f64,
}

impl Estimate {
    /// The decimals that the interval's width makes worth reading: one to four.
    pub fn digits(&self) -> usize {
        let width = (self.high - self.low).abs();
        if width > 0.0 { (1.0 - width.log10().floor()).clamp(1.0, 4.0) as usize } else { 3 }
    }
}

impl fmt::Display for Estimate {
    /// As `-143.2 (-161.0 to -126.1)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { value, low, high } = self;
        let digits = self.digits();
        write!(f, "{value:.digits$} ({low:.digits$} to {high:.digits$})")
    }
}

/// The share of successes with Wilson's interval; of no trials, nothing is known.
pub fn wilson(successes: usize, trials: usize) -> Estimate {
    if trials == 0 {
        return Estimate { value: f64::NAN, low: 0.0, high: 1.0 };
    }
    let n = trials as f64;
    let share = successes as f64 / n;
    let shrink = 1.0 / (1.0 + Z * Z / n);
    let centre = shrink * (share + Z * Z / (2.0 * n));
    let half = shrink * Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    Estimate { value: share, low: (centre - half).max(0.0), high: (centre + half).min(1.0) }
}

/// The share of successes with Jeffreys' interval, which holds 95 % of what may be believed after as many trials: equal tails
/// of Beta(successes + 1/2, failures + 1/2), but from 0 where nothing succeeded and to 1 where everything did (Brown, Cai,
/// DasGupta: Interval Estimation for a Binomial Proportion, Statistical Science 16, 2001, section 3.1.3).
#[cfg(feature = "report")]
pub fn jeffreys(successes: usize, trials: usize) -> Estimate {
    if trials == 0 {
        return Estimate { value: f64::NAN, low: 0.0, high: 1.0 };
    }
    let successes = successes.min(trials);
    let failures = trials - successes;
    let below = |count: usize, others: usize| match count {
        0 => 0.0,
        _ => statrs::function::beta::inv_beta_reg(count as f64 + 0.5, others as f64 + 0.5, TAIL),
    };
    let value = successes as f64 / trials as f64;
    Estimate { value, low: below(successes, failures), high: 1.0 - below(failures, successes) }
}

/// The mean of values `[n]` with its bootstrap interval. Resample r takes the same places of every list of that length,
/// and they depend on the seed alone.
pub fn bootstrap(values: &[f64], seed: u64) -> Estimate {
    let n = values.len();
    let mut means: Vec<f64> = (0..RESAMPLES as u64)
        .map(|resample| {
            let mut rng = Rng::new(seed, Stream::Bootstrap, resample, 0);
            (0..n).map(|_| values[rng.below(n as u32) as usize]).sum::<f64>() / n as f64
        })
        .collect();
    means.sort_by(f64::total_cmp);
    let value = values.iter().sum::<f64>() / n as f64;
    Estimate { value, low: quantile(&means, TAIL), high: quantile(&means, 1.0 - TAIL) }
}

/// The mean of `ours[i] - theirs[i]` over the same episodes `[n]`, with its bootstrap interval.
///
/// # Errors
/// If the lists are not of the same episodes: their lengths differ.
pub fn paired(ours: &[f64], theirs: &[f64], seed: u64) -> Result<Estimate> {
    let (n, m) = (ours.len(), theirs.len());
    if n != m {
        return Err(Error::input(format!("{n} episodes cannot be paired with {m}: use the same for both")));
    }
    let differences: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| ours - theirs).collect();
    Ok(bootstrap(&differences, seed))
}

/// The value below which a share of ascending values `[n]` lies, between neighbours on a straight line, as
/// `numpy.quantile` computes it; not a number for no values.
pub fn quantile(ascending: &[f64], share: f64) -> f64 {
    let Some(last) = ascending.len().checked_sub(1) else { return f64::NAN };
    let place = share.clamp(0.0, 1.0) * last as f64;
    let (below, above) = (ascending[place.floor() as usize], ascending[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `[((i * 7919) % 101) / 101 * ((i * 31) % 7 + 1) - 2 for i in range(100)]`
    fn ours() -> Vec<f64> {
        (0..100).map(|i| f64::from((i * 7919) % 101) / 101.0 * f64::from((i * 31) % 7 + 1) - 2.0).collect()
    }

    /// `[((i * 104729) % 97) / 97 * ((i * 17) % 5 + 1) - 1 for i in range(100)]`
    fn theirs() -> Vec<f64> {
        (0..100).map(|i| f64::from((i * 104_729) % 97) / 97.0 * f64::from((i * 17) % 5 + 1) - 1.0).collect()
    }

    #[test]
    fn shares_have_scipys_wilson_interval() {
        // scipy.stats.binomtest(k, n).proportion_ci(method="wilson"), SciPy 1.17
        for (successes, trials, low, high) in [
            (0, 10, 0.0, 0.277_532_799_862_889_26),
            (7, 10, 0.396_778_147_461_145_26, 0.892_208_732_593_699),
            (98, 100, 0.929_988_209_271_455_7, 0.994_498_032_449_837_7),
            (100, 100, 0.963_006_501_793_014_3, 1.0),
            (15, 300, 0.030_531_640_629_347_285, 0.080_847_033_472_744_16),
        ] {
            let estimate = wilson(successes, trials);
            assert_eq!(estimate.value, successes as f64 / trials as f64);
            assert!((estimate.low - low).abs() < 1e-12, "{successes} of {trials}: {estimate:?}");
            assert!((estimate.high - high).abs() < 1e-12, "{successes} of {trials}: {estimate:?}");
        }
        assert_eq!((wilson(0, 0).low, wilson(0, 0).high), (0.0, 1.0));
    }

    #[test]
    fn numbers_have_the_digits_that_their_interval_gives_them() {
        let text = |low, value, high| Estimate { value, low, high }.to_string();
        assert_eq!(text(-161.04, -143.22, -126.13), "-143.2 (-161.0 to -126.1)");
        assert_eq!(text(0.963, 1.0, 1.0), "1.000 (0.963 to 1.000)");
        assert_eq!(text(1.0, 1.0, 1.0), "1.000 (1.000 to 1.000)");
    }

    #[test]
    fn means_and_paired_differences_have_scipys_percentile_interval() {
        // scipy.stats.bootstrap((x,), numpy.mean, n_resamples=1_000_000, method="percentile") with x the list, and the
        // difference of both lists. Ends from 10,000 resamples have a standard error of about 0.004.
        let near = |ours: f64, scipy: f64| (ours - scipy).abs() < 0.02;
        for seed in 0..3 {
            let mean = bootstrap(&ours(), seed);
            assert!((mean.value - -0.029_405_940_594_059_383).abs() < 1e-12);
            assert!(near(mean.low, -0.3395) && near(mean.high, 0.2940), "{mean:?}");
            let difference = paired(&ours(), &theirs(), seed).expect("as many");
            assert!(
                (difference.value - (-0.029_405_940_594_059_383 - 0.531_649_484_536_082_5)).abs() < 1e-12
            );
            assert!(near(difference.low, -0.9473) && near(difference.high, -0.1772), "{difference:?}");
        }
    }

    #[test]
    fn an_interval_depends_on_its_seed_alone() {
        assert_eq!(bootstrap(&ours(), 3), bootstrap(&ours(), 3));
        assert_ne!(bootstrap(&ours(), 3), bootstrap(&ours(), 4));
        let shifted: Vec<f64> = ours().iter().map(|v| v + 8.0).collect();
        let (plain, moved) = (bootstrap(&ours(), 3), bootstrap(&shifted, 3));
        assert!((moved.low - plain.low - 8.0).abs() < 1e-9 && (moved.high - plain.high - 8.0).abs() < 1e-9);
    }

    #[test]
    fn episodes_that_agree_leave_no_doubt_and_unequal_lists_are_refused() {
        assert_eq!(bootstrap(&[0.5; 7], 0), Estimate { value: 0.5, low: 0.5, high: 0.5 });
        assert_eq!(bootstrap(&[-3.0], 0).low, -3.0);
        assert!(bootstrap(&[], 0).value.is_nan());
        let same = paired(&ours(), &ours(), 0).expect("as many");
        assert_eq!((same.value, same.low, same.high), (0.0, 0.0, 0.0));
        assert!(paired(&ours(), &[1.0], 0).expect_err("one").to_string().contains("100 episodes"));
    }

    #[test]
    fn quantiles_are_numpys() {
        // numpy.percentile([1, 2, 4, 8, 16], [0, 2.5, 50, 90, 97.5, 100])
        let found =
            [0.0, 0.025, 0.5, 0.9, 0.975, 1.0].map(|share| quantile(&[1.0, 2.0, 4.0, 8.0, 16.0], share));
        for (ours, numpy) in found.into_iter().zip([1.0, 1.1, 4.0, 12.8, 15.2, 16.0]) {
            assert!((ours - numpy).abs() < 1e-12, "{ours} is not {numpy}");
        }
        assert!(quantile(&[], 0.5).is_nan());
    }
}
