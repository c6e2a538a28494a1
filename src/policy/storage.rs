//! What a policy's weights are stored as while it samples.

use std::fmt;

use crate::graph::{Device, Params};
use crate::{Error, Result};

/// What the weights of products are stored as. Biases, norms and embeddings are f32 always, and so are sums.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WeightStorage {
    /// 32 bits: what was trained, and the reference.
    #[default]
    F32,
    /// 16 bits, rounded to the nearest: half the memory.
    F16,
    /// The same, and what they are multiplied with is rounded too, so that a GPU's units for products of matrices can
    /// multiply. Experimental, as these are in wgpu.
    F16Products,
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
            "f16-products" => Ok(Self::F16Products),
            _ => Err(Error::input(format!("weights as `{name}`: use f32, f16 or f16-products"))),
        }
    }

    /// Whether a device has what this asks for.
    ///
    /// # Errors
    /// If it multiplies no f16 matrices that are to be multiplied.
    pub fn check(self, device: &Device) -> Result<()> {
        let has = matches!(device, Device::Gpu(gpu) if gpu.class().abilities().matrices.is_some());
        match self {
            Self::F16Products if !has => Err(Error::input(format!(
                "{device} has no cooperative matrices of f16 with sums of f32 and subgroups of one size: use --weights \
                 f16, which halves the memory all the same"
            ))),
            _ => Ok(()),
        }
    }

    /// The same parameters, stored like this.
    pub fn of(self, params: Params) -> Params {
        match self {
            Self::F32 => params,
            Self::F16 => params.with_half_weights(),
            Self::F16Products => params.with_half_products(),
        }
    }
}

impl fmt::Display for WeightStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::F16Products => "f16-products",
        })
    }
}
