//! Stand-in until real-time chunking lands.

/// How a new chunk goes on from the one before it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Chunking {
    /// Not at all.
    Naive,
    /// Prefix.
    Prefix,
    /// Guided.
    Guided {
        /// Greatest weight.
        max_weight: f64,
    },
}

/// What is left of the chunk before.
#[derive(Debug, Clone, PartialEq)]
pub struct Continuation {
    /// Normalised actions [k, N] from now on.
    pub planned: Vec<f32>,
    /// So many of them will have been executed when the new chunk arrives.
    pub delay: usize,
}
