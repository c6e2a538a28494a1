//! Training: the step's program, the loop, schedules, resuming, metrics.

pub mod golden;
mod step;

pub use step::{Images, StepInputs, StepReport, StepShape, TrainStep, Update, loss_weights};
