//! A safetensors file that is read a tensor at a time, so that large weights are never in memory twice.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use super::Tensor;
use crate::{Error, Result};

/// Bytes of the number that opens a file: how long the header is.
const LENGTH: u64 = 8;

/// Longest header that is believed, as in the safetensors crate.
const MAX_HEADER: u64 = 100_000_000;

/// An open file: what it holds is known, values are read when asked for.
#[derive(Debug)]
pub struct TensorFile {
    place: String,
    file: File,
    /// Where the values begin.
    start: u64,
    infos: BTreeMap<String, TensorInfo>,
}

impl TensorFile {
    /// Reads the header.
    ///
    /// # Errors
    /// If there is no such file, or it is not a whole safetensors file. PyTorch's pickles are told how to become one.
    pub fn open(path: &Path) -> Result<Self> {
        let place = path.display().to_string();
        let unreadable = |e: std::io::Error| Error::input(format!("{place} cannot be read: {e}"));
        let broken = |what: String| {
            Error::input(format!(
                "{place} is damaged or no safetensors file ({what}): fetch or save it again"
            ))
        };
        let mut file = File::open(path).map_err(unreadable)?;
        let size = file.metadata().map_err(unreadable)?.len();
        let mut opening = [0; LENGTH as usize];
        file.read_exact(&mut opening).map_err(|_| broken(format!("it has {size} bytes")))?;
        let header = u64::from_le_bytes(opening);
        if header > MAX_HEADER.min(size - LENGTH) {
            let pickle = opening.starts_with(b"PK\x03\x04") || opening[0] == 0x80;
            let longer = || broken("its header is longer than the file".to_owned());
            return Err(if pickle { Error::input(pickled(&place)) } else { longer() });
        }
        let mut text = vec![0; header as usize];
        file.read_exact(&mut text).map_err(unreadable)?;
        let metadata: Metadata = serde_json::from_slice(&text).map_err(|e| broken(e.to_string()))?;
        let start = LENGTH + header;
        let mut infos = BTreeMap::new();
        for (name, info) in metadata.tensors() {
            let (from, to) = info.data_offsets;
            let bytes = bytes(info).ok_or_else(|| broken(format!("tensor `{name}` is too large")))?;
            if to.checked_sub(from) != Some(bytes) || to as u64 > size - start {
                return Err(broken(format!("tensor `{name}` is not where the header says")));
            }
            infos.insert(name, info.clone());
        }
        Ok(Self { place, file, start, infos })
    }

    /// The path, for errors.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The names of its tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.infos.keys().map(String::as_str)
    }

    /// A tensor's shape.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.infos.get(name).map(|info| info.shape.as_slice())
    }

    /// Checks a tensor's shape and type without reading it.
    ///
    /// # Errors
    /// If it is missing, of another shape, or neither f32, f16 nor bf16.
    pub fn check(&self, name: &str, shape: &[usize]) -> Result<()> {
        let wrong = |what: String| Error::input(format!("tensor `{name}` {what}")).at(&self.place);
        let info = self.infos.get(name).ok_or_else(|| wrong(format!("of shape {shape:?} is missing")))?;
        if info.shape != shape {
            return Err(wrong(format!("has shape {:?}, expected {shape:?}", info.shape)));
        }
        match info.dtype {
            Dtype::F32 | Dtype::F16 | Dtype::BF16 => Ok(()),
            other => Err(wrong(format!("is {other:?}: save it as F32, F16 or BF16"))),
        }
    }

    /// Reads a tensor, as f32.
    ///
    /// # Errors
    /// If it is missing, of another shape or type, holds a value that is not finite, or the disk refuses.
    pub fn read(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.check(name, shape)?;
        let wrong = |what: String| Error::input(format!("tensor `{name}` {what}")).at(&self.place);
        let info = &self.infos[name];
        let (from, to) = info.data_offsets;
        let mut data = vec![0; to - from];
        let read = self.file.seek(SeekFrom::Start(self.start + from as u64));
        read.and_then(|_| self.file.read_exact(&mut data))
            .map_err(|e| wrong(format!("cannot be read: {e}")))?;
        let values = match info.dtype {
            Dtype::F16 => widened(&data, |raw| f16::from_le_bytes(raw).to_f32()),
            Dtype::BF16 => widened(&data, |raw| bf16::from_le_bytes(raw).to_f32()),
            _ => widened(&data, f32::from_le_bytes),
        };
        match values.iter().position(|value| !value.is_finite()) {
            Some(at) => Err(wrong(format!("holds {} at element {at}", values[at]))),
            None => Ok(Tensor { shape: shape.to_vec(), values }),
        }
    }
}

fn widened<const N: usize>(data: &[u8], value: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    data.as_chunks().0.iter().map(|&raw| value(raw)).collect()
}

/// Bytes of a tensor's values, unless they are more than can be counted.
fn bytes(info: &TensorInfo) -> Option<usize> {
    let count = info.shape.iter().try_fold(1usize, |product, &side| product.checked_mul(side))?;
    Some(count.checked_mul(info.dtype.bitsize())?.div_ceil(8))
}

/// What to do with a pickle, which only Python can read, and only by running what is in it.
fn pickled(place: &str) -> String {
    let stem = Path::new(place).with_extension("safetensors");
    format!(
        "{place} is a PyTorch pickle; save its tensors as safetensors first, with three lines of Python:\n  \
         import torch, safetensors.torch\n  \
         weights = torch.load({place:?}, map_location=\"cpu\", weights_only=True)\n  \
         safetensors.torch.save_file({{k: v.contiguous() for k, v in weights.items()}}, {:?})",
        stem.display().to_string()
    )
}
