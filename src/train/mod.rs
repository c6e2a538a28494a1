//! Training: the step's program, the run, schedules, resuming, metrics.

#[cfg(feature = "data")]
mod batches;
mod config;
#[cfg(feature = "data")]
pub mod data;
pub mod golden;
mod golden_shapes;
#[cfg(feature = "data")]
mod memory;
#[cfg(feature = "data")]
mod reflow;
#[cfg(feature = "data")]
mod run;
mod step;
#[cfg(feature = "data")]
pub mod tensorboard;
#[cfg(feature = "data")]
mod trainer;
mod update;

pub use config::{OptimizerKind, Schedule, TrainConfig};
#[cfg(feature = "data")]
pub use memory::Needs;
#[cfg(feature = "data")]
pub use reflow::{FramePairs, Probe};
#[cfg(feature = "data")]
pub use run::{EvalOutcome, Outcome, Run, append_metrics, run};
pub use step::{Purpose, StepInputs, StepReport, StepShape, TrainStep, Update, loss_weights, step_graph};
#[cfg(feature = "data")]
pub use trainer::Trainer;
pub use update::{UpdateStep, update_graph};
