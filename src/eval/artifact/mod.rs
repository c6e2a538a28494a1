//! What an evaluation leaves: one folder that says what was measured, on what, how sure it is, and why episodes failed.
//!
//! | file | holds |
//! |---|---|
//! | `run.json` | what was run: program, command, device, policy with its checksum, task contract, episodes, conditions |
//! | `episodes.jsonl` | a line an episode: seeds, start, outcome, metrics, failure label, timing |
//! | `eval_info.json` | LeRobot's summary with its keys, and intervals under `flowgpu` |
//! | `trace.mcap` | observations, chunks, executed actions over time |
//! | `videos/` | the worst episodes |
//! | `labels.json` | failure labels that a person corrected |
//!
//! Everything but times is a function of policy, device, episodes and conditions: two runs differ in keys that
//! [`TIMES`] names, and nowhere else.

mod decisions;
mod episode;
mod folder;
mod info;
mod labels_file;
mod run;
mod trace;

pub use decisions::Decisions;
pub use episode::{EpisodeRecord, FailureRecord, LatencyRecord, Outcome, Termination};
pub use folder::{Artifact, ArtifactWriter};
pub use info::eval_info;
pub use labels_file::{read_labels, relabel};
pub use run::{Conditions, PolicyRecord, Program, RunRecord};
pub use trace::{worst_first, write_trace, write_videos};

/// The version of what these files hold; another one is not read.
pub const SCHEMA: u32 = 1;

/// File names.
pub(crate) mod files {
    pub const RUN: &str = "run.json";
    pub const EPISODES: &str = "episodes.jsonl";
    pub const DECISIONS: &str = "decisions.jsonl.part";
    pub const INFO: &str = "eval_info.json";
    pub const TRACE: &str = "trace.mcap";
    pub const LABELS: &str = "labels.json";
    pub const VIDEOS: &str = "videos";
}

/// Keys whose values are times of this run: two equal evaluations differ in them alone.
pub const TIMES: [&str; 5] = ["started_unix_s", "seconds", "eval_s", "eval_ep_s", "latency_ms"];
