//! What a policy's weights are stored as while it samples.

use std::fmt;

use crate::graph::Params;
use crate::{Error, Result};

/// What the weights of products are stored as. Biases, norms and embeddings are f32 always, and so are sums.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WeightStorage {
    /// 32 bits: what was trained, and the reference.
    #[default]
    F32,
    /// 16 bits, rounded to the nearest: half the memory.
    F16,
}

impl WeightStorage {
    /// By its name.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn named(name: &str) -> Result<Self> {
        match name {
            "f32" => Ok(Self::F32),
            "f16" => Ok(Self::F16),
            _ => Err(Error::input(format!("weights as `{name}`: use f32 or f16"))),
        }
    }

    /// The same parameters, stored like this.
    pub(super) fn of(self, params: Params) -> Params {
        match self {
            Self::F32 => params,
            Self::F16 => params.with_half_weights(),
        }
    }
}

impl fmt::Display for WeightStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
        })
    }
}
