//! See ARCHITECTURE.md.

pub mod metrics;
