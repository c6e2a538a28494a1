//! Where a program's time goes, kernel by kernel, beside what there was to do.

use std::cmp::Reverse;
use std::time::Duration;

use crate::Result;
use crate::graph::Program;
use crate::kernels::Work;

/// All launches of one kernel in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelCost {
    /// The kernel's name.
    pub kernel: &'static str,
    /// How many launches.
    pub launches: usize,
    /// How long they took.
    pub time: Duration,
    /// Their floating-point operations.
    pub flops: u64,
    /// Bytes that they bind.
    pub bytes: u64,
}

impl KernelCost {
    /// Operations a second, in thousand millions.
    pub fn gflops(&self) -> f64 {
        self.flops as f64 / self.time.as_secs_f64().max(1e-9) / 1e9
    }

    /// Bytes a second, in thousand millions.
    pub fn gigabytes(&self) -> f64 {
        self.bytes as f64 / self.time.as_secs_f64().max(1e-9) / 1e9
    }
}

/// Sums of launches that took these times and had this to do, kernel by kernel, the largest time first.
pub fn by_kernel(times: &[(&'static str, Duration)], work: &[Work]) -> Vec<KernelCost> {
    let mut costs: Vec<KernelCost> = Vec::new();
    for (&(kernel, time), work) in times.iter().zip(work) {
        let at = costs.iter().position(|cost| cost.kernel == kernel).unwrap_or_else(|| {
            costs.push(KernelCost { kernel, launches: 0, time: Duration::ZERO, flops: 0, bytes: 0 });
            costs.len() - 1
        });
        let cost = &mut costs[at];
        cost.launches += 1;
        cost.time += time;
        cost.flops += work.flops;
        cost.bytes += work.bytes;
    }
    costs.sort_by_key(|cost| Reverse(cost.time));
    costs
}

/// The quickest of some profiles of a program.
///
/// # Errors
/// If the GPU was lost or has no timestamps.
pub fn quickest_profile(program: &Program, runs: usize) -> Result<Vec<KernelCost>> {
    let total = |times: &[(&str, Duration)]| times.iter().map(|(_, time)| *time).sum::<Duration>();
    let mut quickest = program.profile()?;
    for _ in 1..runs {
        let times = program.profile()?;
        if total(&times) < total(&quickest) {
            quickest = times;
        }
    }
    Ok(by_kernel(&quickest, &program.work()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn launches_are_summed_by_their_kernel() {
        let milliseconds = Duration::from_millis;
        let times = [("a", milliseconds(1)), ("b", milliseconds(5)), ("a", milliseconds(3))];
        let work = |kernel, flops| Work { kernel, flops, bytes: 2 * flops };
        let costs = by_kernel(&times, &[work("a", 1_000_000), work("b", 10), work("a", 3_000_000)]);
        let [b, a] = costs[..] else { panic!("two kernels, not {costs:?}") };
        assert_eq!((b.kernel, b.launches, b.time, b.flops), ("b", 1, milliseconds(5), 10));
        assert_eq!((a.kernel, a.launches, a.time, a.bytes), ("a", 2, milliseconds(4), 8_000_000));
        approx::assert_relative_eq!(a.gflops(), 1.0);
        approx::assert_relative_eq!(a.gigabytes(), 2.0);
    }
}
