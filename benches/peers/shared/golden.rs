//! The file with the network's weights and the reference's results, and random inputs of its shapes for timing.

use std::path::Path;

use safetensors::{Dtype, SafeTensors};

use crate::protocol::Result;

/// Values of an image, [3, 128, 128], and of a chunk of actions, [8, 2].
pub const IMAGE: usize = 3 * 128 * 128;
pub const CHUNK: usize = 8 * 2;

/// A tensor of the file.
pub struct Tensor {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

/// tests/golden/seed.safetensors, in memory.
#[derive(Clone)]
pub struct Golden(Vec<u8>);

impl Golden {
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self(bytes))
    }

    pub fn values(&self, name: &str) -> Result<Vec<f32>> {
        self.tensor(name).map(|tensor| tensor.values)
    }

    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        let file = SafeTensors::deserialize(&self.0).map_err(|error| error.to_string())?;
        let view = file.tensor(name).map_err(|error| error.to_string())?;
        if view.dtype() != Dtype::F32 {
            return Err(format!("{name} is {:?}, not F32", view.dtype()));
        }
        let value = |bytes: &[u8]| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        Ok(Tensor { shape: view.shape().to_vec(), values: view.data().chunks_exact(4).map(value).collect() })
    }

    /// PyTorch's names of the parameters, without `param/`.
    pub fn parameters(&self) -> Result<Vec<String>> {
        let file = SafeTensors::deserialize(&self.0).map_err(|error| error.to_string())?;
        Ok(file.names().iter().filter_map(|name| name.strip_prefix("param/")).map(str::to_owned).collect())
    }
}

/// `count` random bytes.
pub fn random_bytes(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..count).map(|_| next()).collect()
}

/// `count` random numbers from -1 to 1.
pub fn random_numbers(count: usize) -> Vec<f32> {
    random_bytes(count).iter().map(|&byte| f32::from(byte) / 127.5 - 1.0).collect()
}
