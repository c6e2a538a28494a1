//! How long one answer takes, again and again.

use serde_json::{Value, json};

use crate::Result;
use crate::measure::{Times, Until};

/// Times of runs.
pub struct Latency(Times);

impl Latency {
    /// Measures what `once` takes, `runs` times.
    ///
    /// # Errors
    /// Its own.
    pub fn measure(runs: u32, once: &mut dyn FnMut() -> Result<f64>) -> Result<Self> {
        Times::measure(Until::Runs(runs as usize), once).map(Self)
    }

    /// For people.
    pub fn line(&self, batch: usize) -> String {
        let [p50, p95, p99, max] = [0.5, 0.95, 0.99, 1.0].map(|share| self.0.at(share));
        format!(
            "{} runs at batch {batch}: p50 {p50:.3}, p95 {p95:.3}, p99 {p99:.3}, max {max:.3} ms",
            self.0.runs()
        )
    }

    /// `{"runs", "batch", "p50", "p95", "p99", "max"}`.
    pub fn to_json(&self, batch: usize) -> Value {
        json!({
            "runs": self.0.runs(),
            "batch": batch,
            "p50": self.0.at(0.5),
            "p95": self.0.at(0.95),
            "p99": self.0.at(0.99),
            "max": self.0.at(1.0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_come_from_the_runs_in_any_order() {
        let mut next = 101.0;
        let latency = Latency::measure(101, &mut || {
            next -= 1.0;
            Ok(next)
        });
        let latency = latency.expect("runs");
        assert_eq!(
            latency.line(1),
            "101 runs at batch 1: p50 50.000, p95 95.000, p99 99.000, max 100.000 ms"
        );
        assert_eq!(latency.to_json(1)["p99"], 99.0);
    }
}
