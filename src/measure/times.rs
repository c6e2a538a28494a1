//! How long one run takes, again and again.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Result;
use crate::eval::intervals::quantile;

/// When there are enough runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Until {
    /// After so many.
    Runs(usize),
    /// After this time, but not before there are so many.
    Time {
        /// How long.
        at_least: Duration,
        /// How many.
        runs: usize,
    },
}

/// More runs tell nothing new.
const MOST_RUNS: usize = 100_000;

/// Times of runs, milliseconds in ascending order.
#[derive(Debug, Clone, PartialEq)]
pub struct Times(Vec<f64>);

impl Times {
    /// Takes measured times, in milliseconds.
    pub fn of(mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        Self(times)
    }

    /// Measures `once`, which says how many milliseconds it took, until there are enough runs.
    ///
    /// # Errors
    /// Its own.
    pub fn measure(until: Until, mut once: impl FnMut() -> Result<f64>) -> Result<Self> {
        let start = Instant::now();
        let mut times = Vec::new();
        loop {
            let enough = match until {
                Until::Runs(runs) => times.len() >= runs,
                Until::Time { at_least, runs } => {
                    times.len() >= runs && (start.elapsed() >= at_least || times.len() >= MOST_RUNS)
                }
            };
            if enough {
                return Ok(Self::of(times));
            }
            times.push(once()?);
        }
    }

    /// How many runs there were.
    pub fn runs(&self) -> usize {
        self.0.len()
    }

    /// The time that this share of the runs kept within, milliseconds: 0 is the least, 1 the greatest.
    pub fn at(&self, share: f64) -> f64 {
        quantile(&self.0, share)
    }

    /// For people.
    pub fn line(&self) -> String {
        let figures: Vec<String> =
            NAMED.iter().map(|(name, share)| format!("{name} {:.3}", self.at(*share))).collect();
        format!("{} ms", figures.join(", "))
    }

    /// `{"runs", "min", "p50", "p90", "p99", "max"}`.
    pub fn to_json(&self) -> Value {
        let mut json = json!({"runs": self.runs()});
        for (name, share) in NAMED {
            json[name] = json!(self.at(share));
        }
        json
    }
}

const NAMED: [(&str, f64); 5] = [("min", 0.0), ("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_come_from_the_runs_in_any_order() {
        let mut next = 101.0;
        let times = Times::measure(Until::Runs(101), || {
            next -= 1.0;
            Ok(next)
        });
        let times = times.expect("runs");
        assert_eq!(times.line(), "min 0.000, p50 50.000, p90 90.000, p99 99.000, max 100.000 ms");
        assert_eq!(
            times.to_json(),
            json!({"runs": 101, "min": 0.0, "p50": 50.0, "p90": 90.0, "p99": 99.0, "max": 100.0})
        );
    }

    #[test]
    fn there_are_as_many_runs_as_asked_for_however_long_they_take() {
        let until = |milliseconds, runs| Until::Time { at_least: Duration::from_millis(milliseconds), runs };
        let slow = || {
            std::thread::sleep(Duration::from_millis(4));
            Ok(4.0)
        };
        assert_eq!(Times::measure(until(0, 5), slow).expect("runs").runs(), 5);
        let runs = Times::measure(until(20, 2), slow).expect("runs").runs();
        assert!((2..=6).contains(&runs), "{runs}");
        assert!(Times::measure(Until::Runs(1), || Err(crate::Error::failure("no"))).is_err());
    }
}
