//! Whether two methods that played the same episodes differ, and how many episodes it takes to tell.
//!
//! Of outcomes, only the episodes that one method solved and the other did not say anything about the difference: McNemar's
//! test asks whether they are split evenly. Of numbers, the mean of the differences is judged
//! ([`paired`](super::intervals::paired)).

use std::f64::consts::LN_2;

use super::Estimate;
use super::intervals::Z;
use crate::{Error, Result};

/// What a p-value has to be below: as unlikely as what a 95 % interval leaves out.
pub const ALPHA: f64 = 0.05;
/// The share of a normal distribution below z is 80 %: the power that sample sizes are for.
const Z_POWER: f64 = 0.841_621_233_572_914_3;

/// The outcomes of two methods on the same episodes.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct McNemar {
    /// How many episodes.
    pub episodes: usize,
    /// Our share of successes.
    pub ours: f64,
    /// Their share of successes.
    pub theirs: f64,
    /// Episodes that we solved and they did not.
    pub ours_only: usize,
    /// Episodes that they solved and we did not.
    pub theirs_only: usize,
    /// How likely a split of those episodes is that is as uneven or more, if each is anybody's: the exact test.
    pub p: f64,
    /// Our share less theirs, with Tango's 95 % interval.
    pub difference: Estimate,
}

/// Compares outcomes `[n]` on the same episodes: the exact two-sided test of McNemar (Psychometrika 12, 1947), and the score
/// interval of Tango (Equivalence test and confidence interval for the difference in proportions for the paired-sample
/// design, Statistics in Medicine 17, 1998), which is as good where nothing or everything succeeds.
///
/// # Errors
/// If the lists are not of the same episodes, their lengths differ, or there is none.
pub fn mcnemar(ours: &[bool], theirs: &[bool]) -> Result<McNemar> {
    let (n, m) = (ours.len(), theirs.len());
    if n != m || n == 0 {
        return Err(Error::input(format!("{n} episodes cannot be paired with {m}: use the same for both")));
    }
    let pairs = || ours.iter().zip(theirs);
    let ours_only = pairs().filter(|(ours, theirs)| **ours && !**theirs).count();
    let theirs_only = pairs().filter(|(ours, theirs)| !**ours && **theirs).count();
    let share = |outcomes: &[bool]| outcomes.iter().filter(|success| **success).count() as f64 / n as f64;
    Ok(McNemar {
        episodes: n,
        ours: share(ours),
        theirs: share(theirs),
        ours_only,
        theirs_only,
        p: even_split(ours_only, theirs_only),
        difference: tango(ours_only as f64, theirs_only as f64, n as f64),
    })
}

/// The probability that fair coins fall as unevenly as this, or more, to either side.
fn even_split(b: usize, c: usize) -> f64 {
    let (fewer, all) = (b.min(c), (b + c) as f64);
    let (k, rest) = (fewer as f64, b.max(c) as f64);
    let mut term =
        libm::exp(libm::lgamma(all + 1.0) - libm::lgamma(k + 1.0) - libm::lgamma(rest + 1.0) - all * LN_2);
    let mut tail = 0.0;
    for count in (0..=fewer).rev() {
        tail += term;
        term *= count as f64 / (all - count as f64 + 1.0);
    }
    (2.0 * tail).min(1.0)
}

/// (b − c) / n with the differences δ that a score test at 5 % does not reject: those with
/// (b − c − nδ)² ≤ z² n (2q + δ (1 − δ)), where q is the likeliest share of c's cell under δ, the larger root of
/// 2n q² + ((2n − b + c) δ − b − c) q − c δ (1 − δ).
fn tango(b: f64, c: f64, n: f64) -> Estimate {
    let kept = |delta: f64| {
        let linear = (2.0 * n - b + c) * delta - b - c;
        let root = (linear * linear + 8.0 * n * c * delta * (1.0 - delta)).max(0.0).sqrt();
        let q = (root - linear) / (4.0 * n);
        (b - c - n * delta).powi(2) <= Z * Z * n * (2.0 * q + delta * (1.0 - delta))
    };
    let value = (b - c) / n;
    Estimate { value, low: boundary(value, -1.0, kept), high: boundary(value, 1.0, kept) }
}

/// Where what holds at `inside`, and not at `outside`, stops to hold, to 2^-64 of their distance.
fn boundary(mut inside: f64, mut outside: f64, holds: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..64 {
        let middle = 0.5 * (inside + outside);
        *(if holds(middle) { &mut inside } else { &mut outside }) = middle;
    }
    0.5 * (inside + outside)
}

/// Episodes after which two methods whose outcomes disagree in the share `discordant` of episodes, and whose shares of
/// successes differ by `difference`, are told apart in four of five attempts (α 0.05, two-sided): Connor, Sample size for
/// testing differences in proportions for the paired-sample design, Biometrics 43, 1987. None where there is no difference.
pub fn episodes_for_outcomes(discordant: f64, difference: f64) -> Option<u64> {
    let spread = (discordant - difference * difference).max(0.0).sqrt();
    episodes((Z * discordant.sqrt() + Z_POWER * spread) / difference)
}

/// The same for numbers whose differences, episode by episode, have that mean and that standard deviation, by the normal
/// approximation.
pub fn episodes_for_numbers(difference: f64, deviation: f64) -> Option<u64> {
    episodes((Z + Z_POWER) * deviation / difference)
}

/// The next number of episodes from a root on; none where that is not finite, as nothing over nothing.
fn episodes(root: f64) -> Option<u64> {
    root.is_finite().then(|| ((root * root).ceil() as u64).max(1))
}

/// p-values of several questions `[m]` as if each were the only one: held against the same 0.05, one of them or more is
/// wrong in 5 % of all tables at most, however they hang together (Holm, Scandinavian Journal of Statistics 6, 1979).
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let mut adjusted = vec![0.0; p.len()];
    let mut largest = 0.0_f64;
    for (rank, &at) in order.iter().enumerate() {
        largest = largest.max((p.len() - rank) as f64 * p[at]).min(1.0);
        adjusted[at] = largest;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    #[cfg(feature = "report")]
    use crate::eval::intervals;
    use crate::rng::{Rng, Stream};

    /// What SciPy and statsmodels say, by tests/golden/statistics.py.
    #[derive(Deserialize)]
    struct Golden {
        #[cfg(feature = "report")]
        shares: Vec<Share>,
        pairs: Vec<Pair>,
        numbers: Vec<Numbers>,
        holm: Vec<Holm>,
    }

    #[cfg(feature = "report")]
    #[derive(Deserialize)]
    struct Share {
        successes: usize,
        trials: usize,
        wilson: [f64; 2],
        jeffreys: [f64; 2],
    }

    #[derive(Deserialize)]
    struct Pair {
        both: usize,
        ours_only: usize,
        theirs_only: usize,
        neither: usize,
        p: f64,
        low: f64,
        high: f64,
        episodes: Option<u64>,
    }

    #[derive(Deserialize)]
    struct Numbers {
        difference: f64,
        deviation: f64,
        episodes: u64,
    }

    #[derive(Deserialize)]
    struct Holm {
        p: Vec<f64>,
        adjusted: Vec<f64>,
    }

    fn golden() -> Golden {
        serde_json::from_str(include_str!("../../tests/golden/statistics.json")).expect("a golden file")
    }

    /// Outcomes of two methods, as many of each kind.
    fn outcomes(both: usize, ours_only: usize, theirs_only: usize, neither: usize) -> (Vec<bool>, Vec<bool>) {
        let kinds = [
            (both, (true, true)),
            (ours_only, (true, false)),
            (theirs_only, (false, true)),
            (neither, (false, false)),
        ];
        kinds.into_iter().flat_map(|(count, kind)| std::iter::repeat_n(kind, count)).unzip()
    }

    fn near(found: f64, expected: f64, bound: f64) -> bool {
        (found - expected).abs() <= bound
    }

    #[test]
    #[cfg(feature = "report")]
    fn shares_have_scipys_intervals_of_wilson_and_jeffreys() {
        for Share { successes, trials, wilson, jeffreys } in golden().shares {
            let found = intervals::wilson(successes, trials);
            assert!(near(found.low, wilson[0], 1e-12) && near(found.high, wilson[1], 1e-12), "{found:?}");
            let found = intervals::jeffreys(successes, trials);
            assert_eq!(found.value, successes as f64 / trials as f64);
            let close = near(found.low, jeffreys[0], 1e-10) && near(found.high, jeffreys[1], 1e-10);
            assert!(close, "{successes} of {trials}: {found:?}, not {jeffreys:?}");
        }
    }

    #[test]
    fn paired_outcomes_have_scipys_p_and_tangos_interval() {
        for pair in golden().pairs {
            let Pair { both, ours_only, theirs_only, neither, .. } = pair;
            let (ours, theirs) = outcomes(both, ours_only, theirs_only, neither);
            let found = mcnemar(&ours, &theirs).expect("as many");
            let n = ours.len() as f64;
            let case = format!("{both} {ours_only} {theirs_only} {neither}: {found:?}");
            assert_eq!((found.ours_only, found.theirs_only), (ours_only, theirs_only));
            assert_eq!(
                (found.ours, found.theirs),
                ((both + ours_only) as f64 / n, (both + theirs_only) as f64 / n)
            );
            assert!(near(found.p, pair.p, 1e-10 * pair.p), "{case}, not {}", pair.p);
            let Estimate { value, low, high } = found.difference;
            assert!(near(value, found.ours - found.theirs, 1e-15), "{case}");
            assert!(
                near(low, pair.low, 1e-9) && near(high, pair.high, 1e-9),
                "{case}, not {} to {}",
                pair.low,
                pair.high
            );
            let needed = episodes_for_outcomes((ours_only + theirs_only) as f64 / n, value);
            assert_eq!(needed, pair.episodes, "{case}");
        }
    }

    #[test]
    fn sides_may_be_swapped_and_an_interval_leaves_zero_out_where_the_score_test_rejects() {
        for n in 1..=14 {
            for (b, c) in (0..=n).flat_map(|b| (0..=n - b).map(move |c| (b, c))) {
                let of = |b, c| {
                    let (ours, theirs) = outcomes(0, b, c, n - b - c);
                    mcnemar(&ours, &theirs).expect("as many")
                };
                let (found, swapped) = (of(b, c), of(c, b));
                assert_eq!(found.p, swapped.p);
                let (Estimate { value, low, high }, mirror) = (found.difference, swapped.difference);
                assert!(near(low, -mirror.high, 1e-9) && near(high, -mirror.low, 1e-9), "{b} {c} of {n}");
                assert!(-1.0 <= low && low <= value && value <= high && high <= 1.0, "{b} {c} of {n}");
                let score = (b as f64 - c as f64) / ((b + c).max(1) as f64).sqrt();
                assert_eq!(low > 0.0 || high < 0.0, score.abs() > Z, "{b} {c} of {n}: {low} to {high}");
            }
        }
    }

    #[test]
    fn episodes_of_other_numbers_and_none_are_refused() {
        let told = mcnemar(&[true; 3], &[false]).expect_err("unequal").to_string();
        assert!(told.contains("3 episodes cannot be paired with 1"), "{told}");
        assert!(mcnemar(&[], &[]).is_err());
    }

    #[test]
    fn sample_sizes_are_those_of_the_power_function_and_a_difference_of_nothing_has_none() {
        for Numbers { difference, deviation, episodes } in golden().numbers {
            assert_eq!(
                episodes_for_numbers(difference, deviation),
                Some(episodes),
                "{difference} {deviation}"
            );
            assert_eq!(episodes_for_numbers(-difference, deviation), Some(episodes));
        }
        assert_eq!((episodes_for_outcomes(0.2, 0.0), episodes_for_outcomes(0.0, 0.0)), (None, None));
        assert_eq!((episodes_for_numbers(0.0, 1.0), episodes_for_numbers(0.0, 0.0)), (None, None));
        assert_eq!(episodes_for_numbers(f64::NAN, 1.0), None);
    }

    #[test]
    fn as_many_episodes_as_are_said_decide_in_about_four_of_five_attempts() {
        let (b, c) = (0.20, 0.10);
        let needed = episodes_for_outcomes(b + c, b - c).expect("there is a difference") as usize;
        let attempts = 2000;
        let decided = (0..attempts).filter(|&attempt| {
            let mut rng = Rng::new(7, Stream::Bootstrap, attempt, 0);
            let draw = |_| match rng.uniform() {
                x if x < b => (true, false),
                x if x < b + c => (false, true),
                _ => (true, true),
            };
            let (ours, theirs): (Vec<bool>, Vec<bool>) = (0..needed).map(draw).unzip();
            mcnemar(&ours, &theirs).expect("as many").p < ALPHA
        });
        // The exact test is a little careful: it decides less often than the formula says.
        let share = decided.count() as f64 / attempts as f64;
        assert!((0.72..0.83).contains(&share), "{needed} episodes decide in {share} of all attempts");
    }

    #[test]
    fn several_p_values_are_adjusted_as_statsmodels_does() {
        for Holm { p, adjusted } in golden().holm {
            let found = holm(&p);
            assert!(found.len() == adjusted.len(), "{found:?}");
            assert!(
                found.iter().zip(&adjusted).all(|(a, b)| near(*a, *b, 1e-15)),
                "{found:?}, not {adjusted:?}"
            );
        }
        assert!(holm(&[]).is_empty());
    }
}
