//! Closed-loop evaluation: rollouts, metrics, intervals, the report, and tables of many settings on equal resets.
//!
//! Episode i of seed s starts from `default_rng(s + i)`. All episodes run in lockstep, each with a queue of its own;
//! chunks are made in one batch for the episodes that need one, and finished episodes ask for nothing.

#[cfg(feature = "report")]
mod clips;
mod contract;
mod evaluate;
mod explore;
pub mod intervals;
pub mod metrics;
mod sweep;

#[cfg(feature = "report")]
pub use clips::clips;
pub use contract::check_contract;
pub use evaluate::{Options, Report, check_fit, driver, evaluate, evaluate_driver, evaluate_watched};
pub use explore::Exploration;
pub use intervals::Estimate;
pub use sweep::{Row, Setting, Table, headline};
