//! Which of two methods is better, in words, or that their episodes do not say.

use super::Estimate;
use super::intervals::paired;
use super::significance::{ALPHA, episodes_for_numbers, episodes_for_outcomes, mcnemar};
use crate::{Error, Result};

/// The fewest episodes whose numbers can decide: five that all lie on one side do so by chance in more than 5 % of all
/// attempts (2 / 2^5), and their bootstrap would not notice.
const LEAST: usize = 6;

/// What a comparison comes to, as seen from the first method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Ours is better.
    Better,
    /// Ours is worse.
    Worse,
    /// The episodes do not say.
    Undecided,
}

/// Which numbers are the good ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// As of a return.
    LargerIsBetter,
    /// As of an error.
    SmallerIsBetter,
}

/// Two methods compared by one metric on the same episodes.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Comparison {
    /// Better or worse only where the interval leaves zero out, and p is below 0.05 or, of numbers, six episodes are there.
    pub verdict: Verdict,
    /// Our mean, or our share of successes.
    pub ours: f64,
    /// Theirs.
    pub theirs: f64,
    /// Ours less theirs, with its 95 % interval: Tango's of outcomes, the bootstrap's of numbers.
    pub difference: Estimate,
    /// Which way is better.
    pub direction: Direction,
    /// How many episodes were compared.
    pub episodes: usize,
    /// McNemar's p of outcomes, or what it was corrected to.
    pub p: Option<f64>,
    /// Outcomes: how many episodes only we solved, and how many only they did.
    pub discordant: Option<[usize; 2]>,
    /// Episodes that would decide a difference of this size in four of five attempts; none where there is no difference.
    pub episodes_to_decide: Option<u64>,
}

impl Comparison {
    /// Compares outcomes `[n]`, of which true is the better one.
    ///
    /// # Errors
    /// If the lists are not of the same episodes: their lengths differ, or there is none.
    pub fn of_outcomes(ours: &[bool], theirs: &[bool]) -> Result<Self> {
        let found = mcnemar(ours, theirs)?;
        let discordant = [found.ours_only, found.theirs_only];
        let share = (found.ours_only + found.theirs_only) as f64 / found.episodes as f64;
        let comparison = Self {
            verdict: Verdict::Undecided,
            ours: found.ours,
            theirs: found.theirs,
            difference: found.difference,
            direction: Direction::LargerIsBetter,
            episodes: found.episodes,
            p: Some(found.p),
            discordant: Some(discordant),
            episodes_to_decide: episodes_for_outcomes(share, found.difference.value),
        };
        Ok(comparison.judged())
    }

    /// Compares numbers `[n]`. The interval's resamples depend on the seed.
    ///
    /// # Errors
    /// If the lists are not of the same episodes, their lengths differ, there is none, or one of them holds no number.
    pub fn of_numbers(ours: &[f64], theirs: &[f64], direction: Direction, seed: u64) -> Result<Self> {
        let difference = paired(ours, theirs, seed)?;
        let n = ours.len() as f64;
        let apart = || ours.iter().zip(theirs).map(|(ours, theirs)| ours - theirs);
        if let Some(episode) = apart().position(|apart| !apart.is_finite()) {
            return Err(Error::input(format!(
                "episode {episode} has no number to compare: {} and {}",
                ours[episode], theirs[episode]
            )));
        }
        if ours.is_empty() {
            return Err(Error::input("there are no episodes to compare"));
        }
        let squares: f64 = apart().map(|apart| (apart - difference.value).powi(2)).sum();
        let comparison = Self {
            verdict: Verdict::Undecided,
            ours: ours.iter().sum::<f64>() / n,
            theirs: theirs.iter().sum::<f64>() / n,
            difference,
            direction,
            episodes: ours.len(),
            p: None,
            discordant: None,
            // One episode alone has no spread: nothing over zero is no number.
            episodes_to_decide: episodes_for_numbers(difference.value, (squares / (n - 1.0)).sqrt())
                .map(|needed| needed.max(LEAST as u64)),
        };
        Ok(comparison.judged())
    }

    /// The same, judged by this p: that of several comparisons, corrected by [`holm`](super::significance::holm).
    #[must_use]
    pub fn corrected(self, p: f64) -> Self {
        Self { p: Some(p), ..self }.judged()
    }

    fn judged(self) -> Self {
        let significant = self.p.map_or(self.episodes >= LEAST, |p| p < ALPHA);
        let (larger, smaller) = (self.difference.low > 0.0, self.difference.high < 0.0);
        let verdict = match (significant, larger, smaller) {
            (true, true, false) if self.direction == Direction::LargerIsBetter => Verdict::Better,
            (true, false, true) if self.direction == Direction::SmallerIsBetter => Verdict::Better,
            (true, true, false) | (true, false, true) => Verdict::Worse,
            _ => Verdict::Undecided,
        };
        Self { verdict, ..self }
    }

    /// The verdict as a sentence without its stop, for two names and that of a metric: `A completes more often than B: 0.997
    /// against 0.893 (difference 0.103, 0.071 to 0.143; McNemar p = 1e-9)`, or `undecided between ..`, and how many episodes
    /// it would take.
    pub fn in_words(&self, ours: &str, theirs: &str, metric: &str) -> String {
        let Estimate { value, low, high } = self.difference;
        let digits = self.difference.digits();
        let (metric, better) = (metric.replace('_', " "), self.verdict == Verdict::Better);
        let said = match (self.verdict, self.discordant) {
            (Verdict::Undecided, _) => format!("undecided between {ours} and {theirs}: {metric}"),
            (_, Some(_)) => {
                let does = match metric.as_str() {
                    "completed" => "completes".to_owned(),
                    "solved" => "solves its task".to_owned(),
                    "success" => "succeeds".to_owned(),
                    other => format!("has `{other}`"),
                };
                format!("{ours} {does} {} often than {theirs}:", if better { "more" } else { "less" })
            }
            _ => format!("{ours} is {} than {theirs}: {metric}", if better { "better" } else { "worse" }),
        };
        let p = self.p.map_or(String::new(), |p| format!("; McNemar p {}", written(p)));
        let mut words = format!(
            "{said} {:.digits$} against {:.digits$} (difference {value:.digits$}, {low:.digits$} to {high:.digits$}{p})",
            self.ours, self.theirs
        );
        match self.episodes_to_decide {
            _ if self.verdict != Verdict::Undecided => {}
            None if value == 0.0 => words += "; there is no difference to decide",
            // What was corrected for several comparisons needs more than the formula says.
            Some(needed) if needed > self.episodes as u64 => {
                words += &format!("; about {needed} episodes would decide a difference of this size")
            }
            _ => {}
        }
        words
    }
}

/// `= 0.031`, `= 4e-7`.
fn written(p: f64) -> String {
    match p {
        p if p < 1e-300 => "< 1e-300".to_owned(),
        p if p < 1e-3 => format!("= {p:.0e}"),
        p => format!("= {p:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first `count` of `n` episodes.
    fn first(count: usize, n: usize) -> Vec<bool> {
        (0..n).map(|episode| episode < count).collect()
    }

    #[test]
    fn a_policy_that_solves_more_of_the_same_episodes_is_named() {
        let found = Comparison::of_outcomes(&first(299, 300), &first(268, 300)).expect("as many");
        assert_eq!((found.verdict, found.discordant), (Verdict::Better, Some([31, 0])));
        assert_eq!(
            found.in_words("A", "B", "completed"),
            "A completes more often than B: 0.997 against 0.893 (difference 0.103, 0.074 to 0.143; McNemar p = 9e-10)"
        );
        let found = Comparison::of_outcomes(&first(268, 300), &first(299, 300)).expect("as many");
        assert_eq!(found.verdict, Verdict::Worse);
        assert!(
            found
                .in_words("B", "A", "solved")
                .starts_with("B solves its task less often than A: 0.893 against 0.997")
        );
    }

    #[test]
    fn what_the_episodes_do_not_say_is_undecided_and_how_many_would() {
        let found = Comparison::of_outcomes(&first(95, 100), &first(93, 100)).expect("as many");
        assert_eq!(found.verdict, Verdict::Undecided);
        let words = found.in_words("A", "B", "completed");
        assert!(words.starts_with("undecided between A and B: completed 0.95"), "{words}");
        let needed = found.episodes_to_decide.expect("there is a difference");
        assert!(needed > 100 && words.contains(&format!("about {needed} episodes would decide")), "{words}");
        let same = Comparison::of_outcomes(&first(9, 10), &first(9, 10)).expect("as many");
        assert!(same.in_words("A", "B", "completed").ends_with("; there is no difference to decide"));
    }

    #[test]
    fn an_interval_without_zero_does_not_decide_where_mcnemars_test_does_not() {
        // Five of twenty episodes, all one way: the interval is 0.061 to 0.583, the exact p 0.0625.
        let found = Comparison::of_outcomes(&first(15, 20), &first(10, 20)).expect("as many");
        assert!(found.difference.low > 0.0 && found.p.is_some_and(|p| p > ALPHA));
        assert_eq!(found.verdict, Verdict::Undecided);
        let found = Comparison::of_outcomes(&first(16, 20), &first(10, 20)).expect("as many");
        assert!(found.verdict == Verdict::Better && found.p.is_some_and(|p| (p - 0.031_25).abs() < 1e-12));
        // Asked beside another question, it would have to be half as unlikely.
        let corrected = found.corrected(0.0625);
        assert_eq!((corrected.verdict, corrected.p), (Verdict::Undecided, Some(0.0625)));
    }

    #[test]
    fn numbers_are_better_in_their_own_direction() {
        let theirs: Vec<f64> = (0..60).map(|i| f64::from((i * 37) % 53)).collect();
        let ours: Vec<f64> = theirs.iter().zip(0..).map(|(v, i)| v + 1.0 + f64::from(i % 3)).collect();
        let of = |direction| Comparison::of_numbers(&ours, &theirs, direction, 0).expect("numbers");
        let (gained, missed) = (of(Direction::LargerIsBetter), of(Direction::SmallerIsBetter));
        assert_eq!((gained.verdict, missed.verdict), (Verdict::Better, Verdict::Worse));
        assert_eq!(gained.difference, missed.difference);
        let words = missed.in_words("A", "B", "tracking_error");
        assert!(words.starts_with("A is worse than B: tracking error 2"), "{words}");
        assert!(words.contains("(difference 2.00, 1.") && !words.contains("McNemar"), "{words}");
    }

    #[test]
    fn noisy_numbers_are_undecided_and_more_episodes_decide_them() {
        let noise = |i: i32| f64::from((i * 7919) % 101) / 101.0 - 0.5;
        let of = |n: i32| {
            let ours: Vec<f64> = (0..n).map(|i| noise(i) + 0.05).collect();
            Comparison::of_numbers(&ours, &vec![0.0; n as usize], Direction::LargerIsBetter, 0)
                .expect("numbers")
        };
        let few = of(30);
        let needed = few.episodes_to_decide.expect("there is a difference");
        assert!(few.verdict == Verdict::Undecided && needed > 30, "{few:?}");
        assert_eq!(of(2 * needed as i32).verdict, Verdict::Better, "{needed}");
    }

    #[test]
    fn what_has_no_number_cannot_be_compared() {
        let refused = |ours: &[f64], theirs: &[f64]| {
            let found = Comparison::of_numbers(ours, theirs, Direction::LargerIsBetter, 0);
            found.expect_err("refused").to_string()
        };
        assert!(refused(&[1.0, f64::NAN], &[1.0, 2.0]).contains("episode 1 has no number"));
        assert!(refused(&[1.0], &[]).contains("1 episodes cannot be paired"));
        assert!(refused(&[], &[]).contains("no episodes"));
    }

    #[test]
    fn a_handful_of_numbers_that_agree_by_chance_decide_nothing() {
        let of = |n| {
            Comparison::of_numbers(&vec![1.5; n], &vec![0.0; n], Direction::LargerIsBetter, 0)
                .expect("numbers")
        };
        assert_eq!((of(1).verdict, of(1).episodes_to_decide), (Verdict::Undecided, None));
        assert_eq!((of(5).verdict, of(5).episodes_to_decide), (Verdict::Undecided, Some(6)));
        assert!(
            of(5)
                .in_words("A", "B", "return")
                .ends_with("about 6 episodes would decide a difference of this size")
        );
        assert_eq!(of(6).verdict, Verdict::Better);
    }
}
