//! Closed-loop evaluation: rollouts, metrics, intervals, the report, and tables of many settings on equal resets.
//!
//! Episode i of seed s starts from `default_rng(s + i)`. All episodes run in lockstep, each with a queue of its own;
//! chunks are made in one batch for the episodes that need one, and finished episodes ask for nothing.

#[cfg(feature = "report")]
pub mod artifact;
#[cfg(feature = "report")]
mod clips;
#[cfg(feature = "report")]
pub mod compare;
mod contract;
mod evaluate;
#[cfg(feature = "report")]
pub mod evidence;
#[cfg(feature = "report")]
mod exec;
pub mod executor;
mod general;
pub mod intervals;
#[cfg(feature = "report")]
pub mod labels;
pub mod metrics;
mod network_planner;
#[cfg(feature = "report")]
pub mod page;
pub mod panel;
pub mod planner;
mod real_time;
mod running;
pub mod significance;
mod sweep;
pub mod timing;
pub mod trial;
pub mod verdict;

#[cfg(feature = "report")]
pub use clips::clips;
pub use contract::check_contract;
pub use evaluate::{
    Options, Report, check_fit, driver, evaluate, evaluate_driver, evaluate_subject, evaluate_timed,
    evaluate_watched,
};
#[cfg(feature = "report")]
pub use exec::ExecPlanner;
pub use executor::Executor;
pub use general::{recovery_steps, smoothness};
pub use intervals::Estimate;
pub use network_planner::NetworkPlanner;
pub use planner::Planner;
pub use running::{ChunkLog, EpisodeLog};
pub use sweep::{Row, Setting, Table, headline};
pub use timing::{Execution, Latency, Timing};
pub use trial::{Played, Subject, Trial};
pub use verdict::{Comparison, Verdict};
