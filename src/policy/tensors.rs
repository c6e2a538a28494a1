//! Named tensors in safetensors files: written as f32, read from f32, f16 or bf16, one at a time: a file as large as the
//! memory can be loaded.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use half::{bf16, f16};
use safetensors::tensor::Metadata;
use safetensors::{Dtype, SafeTensors, View};

use crate::graph::{Param, Params};
use crate::{Error, Result};

/// A tensor, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Its shape.
    pub shape: Vec<usize>,
    /// As many values as the shape says.
    pub values: Vec<f32>,
}

/// The tensors of one file, by name; their values are read when they are asked for.
#[derive(Debug, Clone)]
pub struct Tensors {
    place: String,
    source: Arc<Source>,
    map: BTreeMap<String, Entry>,
}

/// A tensor in a file.
#[derive(Debug, Clone)]
struct Entry {
    dtype: Dtype,
    shape: Vec<usize>,
    /// Its first byte in the file, and how many it has.
    start: u64,
    len: usize,
}

/// Where bytes are.
#[derive(Debug)]
enum Source {
    Memory(Vec<u8>),
    File(Mutex<File>),
}

/// A header is no larger: the format's own limit.
const MAX_HEADER: u64 = 100_000_000;

/// A tensor to be written: name, shape, values.
pub type NamedView<'a> = (String, &'a [usize], &'a [f32]);

/// The bytes of a safetensors file that holds `tensors` as f32, sorted by name, with metadata
/// `{"format": "pt"}` as PyTorch's loaders want it. The same tensors give the same bytes.
///
/// # Errors
/// If a tensor has another number of values than its shape says.
pub fn to_safetensors<'a>(tensors: impl IntoIterator<Item = NamedView<'a>>) -> Result<Vec<u8>> {
    struct Le<'a>(&'a [usize], &'a [f32]);
    impl View for Le<'_> {
        fn dtype(&self) -> Dtype {
            Dtype::F32
        }
        fn shape(&self) -> &[usize] {
            self.0
        }
        fn data(&self) -> Cow<'_, [u8]> {
            if cfg!(target_endian = "little") {
                return Cow::Borrowed(bytemuck::cast_slice(self.1));
            }
            self.1.iter().flat_map(|value| value.to_le_bytes()).collect()
        }
        fn data_len(&self) -> usize {
            size_of_val(self.1)
        }
    }
    let mut views = Vec::new();
    for (name, shape, values) in tensors {
        if shape.iter().product::<usize>() != values.len() {
            return Err(Error::failure(format!(
                "tensor `{name}` of shape {shape:?} has {} values",
                values.len()
            )));
        }
        views.push((name, Le(shape, values)));
    }
    // One entry only: a map of several has no order, and the bytes would differ from run to run.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize(views, Some(metadata))
        .map_err(|e| Error::failure(format!("cannot write safetensors: {e}")))
}

/// The values of all parameters, named `<prefix><parameter>`, for [`to_safetensors`].
///
/// # Errors
/// If values are missing, of the wrong number, or not finite: nothing bad is saved.
pub fn param_views<'a>(
    params: &'a Params,
    values: &'a [Vec<f32>],
    prefix: &str,
) -> Result<Vec<NamedView<'a>>> {
    let given = params.iter().count();
    if given != values.len() {
        return Err(Error::failure(format!("{} tensors for {given} parameters", values.len())));
    }
    let view = |((_, param), values): ((_, &'a Param), &'a Vec<f32>)| {
        let name = format!("{prefix}{}", param.name);
        match values.iter().find(|value| !value.is_finite()) {
            Some(bad) => Err(Error::failure(format!("tensor `{name}` holds {bad}: it is not saved"))),
            None => Ok((name, param.shape.as_slice(), values.as_slice())),
        }
    };
    params.iter().zip(values).map(view).collect()
}

impl Tensors {
    /// Takes a safetensors file's bytes; `place` (its path) opens every error.
    ///
    /// # Errors
    /// If the bytes are no whole safetensors file.
    pub fn parse(bytes: &[u8], place: impl Into<String>) -> Result<Self> {
        let place = place.into();
        let (header, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| damaged(&place, &e))?;
        Ok(Self::new(&metadata, header, Source::Memory(bytes.to_vec()), place))
    }

    /// Takes an open safetensors file; `place` (its path) opens every error.
    ///
    /// # Errors
    /// As [`Self::parse`], and if the file cannot be read.
    pub fn of_file(mut file: File, place: impl Into<String>) -> Result<Self> {
        let place = place.into();
        let unreadable = |e: std::io::Error| damaged(&place, &e);
        let size = file.metadata().map_err(unreadable)?.len();
        let mut length = [0; 8];
        file.seek(SeekFrom::Start(0)).and_then(|_| file.read_exact(&mut length)).map_err(unreadable)?;
        let header = u64::from_le_bytes(length);
        if header > MAX_HEADER || header > size {
            return Err(damaged(&place, &format!("its header would have {header} bytes")));
        }
        let mut text = vec![0; header as usize];
        file.read_exact(&mut text).map_err(unreadable)?;
        let metadata: Metadata = serde_json::from_slice(&text).map_err(|e| damaged(&place, &e))?;
        if metadata.data_len() as u128 + u128::from(header) + 8 != u128::from(size) {
            return Err(damaged(&place, &"it is longer or shorter than its header says"));
        }
        Ok(Self::new(&metadata, header as usize, Source::File(Mutex::new(file)), place))
    }

    fn new(metadata: &Metadata, header: usize, source: Source, place: String) -> Self {
        let mut map = BTreeMap::new();
        for (name, info) in metadata.tensors() {
            let (start, end) = info.data_offsets;
            let (start, len) = ((8 + header + start) as u64, end - start);
            map.insert(name, Entry { dtype: info.dtype, shape: info.shape.clone(), start, len });
        }
        Self { place, source: Arc::new(source), map }
    }

    /// Opens a safetensors file.
    ///
    /// # Errors
    /// As [`Self::of_file`]; PyTorch's pickles are told how to become one.
    pub fn open(path: &Path) -> Result<Self> {
        let place = path.display().to_string();
        let unreadable = |e: std::io::Error| Error::input(format!("{place} cannot be read: {e}"));
        let mut file = File::open(path).map_err(unreadable)?;
        let mut opening = Vec::new();
        file.by_ref().take(4).read_to_end(&mut opening).map_err(unreadable)?;
        if opening.starts_with(b"PK\x03\x04") || opening.starts_with(b"\x80\x02") {
            return Err(Error::input(pickled(&place)));
        }
        Self::of_file(file, place)
    }

    /// The file, for errors.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// All tensors' names and shapes, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.map.iter().map(|(name, entry)| (name.as_str(), entry.shape.as_slice()))
    }

    /// A tensor's shape.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.map.get(name).map(|entry| entry.shape.as_slice())
    }

    /// A tensor's values.
    ///
    /// # Errors
    /// If it is missing, of another shape or type, holds a value that is not finite, or cannot be read.
    pub fn read(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let values = self.read_any(name, shape)?;
        match values.iter().position(|value| !value.is_finite()) {
            Some(at) => Err(self.wrong(format!("tensor `{name}` holds {} at element {at}", values[at]))),
            None => Ok(values),
        }
    }

    /// A tensor's values, finite or not.
    pub(super) fn read_any(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        self.check(name, shape)?;
        let entry = &self.map[name];
        let mut raw = Vec::new();
        let bytes: &[u8] = match &*self.source {
            Source::Memory(bytes) => &bytes[entry.start as usize..][..entry.len],
            Source::File(file) => {
                raw.resize(entry.len, 0);
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.seek(SeekFrom::Start(entry.start))
                    .and_then(|_| file.read_exact(&mut raw))
                    .map_err(|e| damaged(&self.place, &e))?;
                &raw
            }
        };
        Ok(match entry.dtype {
            Dtype::F16 => widen(bytes, |raw| f16::from_le_bytes(raw).to_f32()),
            Dtype::BF16 => widen(bytes, |raw| bf16::from_le_bytes(raw).to_f32()),
            _ => widen(bytes, f32::from_le_bytes),
        })
    }

    /// Takes a tensor's values out, as [`Self::read`].
    ///
    /// # Errors
    /// As there.
    pub fn take(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let values = self.read(name, shape)?;
        self.map.remove(name);
        Ok(values)
    }

    /// Takes `<prefix><parameter>` of every parameter out, in the order of `params`.
    ///
    /// # Errors
    /// Names the first that is missing, of another shape, or not finite.
    pub fn take_params(&mut self, params: &Params, prefix: &str) -> Result<Vec<Vec<f32>>> {
        params.iter().map(|(_, param)| self.take(&format!("{prefix}{}", param.name), &param.shape)).collect()
    }

    /// Ends the reading of a file of which everything must be known.
    ///
    /// # Errors
    /// Names the first tensor nobody took.
    pub fn finish(self) -> Result<()> {
        self.map.keys().next().map_or(Ok(()), |name| Err(self.extra(name)))
    }

    /// Checks that the file holds these parameters and no others.
    ///
    /// # Errors
    /// Names the first tensor that is missing, of another shape, or not a parameter.
    pub fn check_params(&self, params: &Params) -> Result<()> {
        params.iter().try_for_each(|(_, param)| self.check(&param.name, &param.shape))?;
        let extra = self.map.keys().find(|name| params.find(name).is_none());
        extra.map_or(Ok(()), |name| Err(self.extra(name)))
    }

    /// Checks a tensor's shape and type without reading it.
    ///
    /// # Errors
    /// If it is missing, of another shape, or neither f32, f16 nor bf16.
    pub fn check(&self, name: &str, shape: &[usize]) -> Result<()> {
        let entry = self.map.get(name);
        let entry =
            entry.ok_or_else(|| self.wrong(format!("tensor `{name}` of shape {shape:?} is missing")))?;
        if entry.shape != shape {
            let found = &entry.shape;
            return Err(self.wrong(format!("tensor `{name}` has shape {found:?}, expected {shape:?}")));
        }
        match entry.dtype {
            Dtype::F32 | Dtype::F16 | Dtype::BF16 => Ok(()),
            other => Err(self.wrong(format!("tensor `{name}` is {other:?}: save it as F32, F16 or BF16"))),
        }
    }

    fn extra(&self, name: &str) -> Error {
        self.wrong(format!("tensor `{name}` is in the file, but not in the configuration"))
    }

    fn wrong(&self, what: String) -> Error {
        Error::input(what).at(&self.place)
    }
}

fn damaged(place: &str, cause: &dyn std::fmt::Display) -> Error {
    Error::input(format!("{place} is damaged or no safetensors file ({cause}): fetch or save it again"))
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

fn widen<const N: usize>(data: &[u8], value: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    data.as_chunks().0.iter().map(|&raw| value(raw)).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::graph::Init;

    fn params() -> Params {
        let mut params = Params::default();
        params.declare("b.weight", &[2, 3], Init::Zeros);
        params.declare("a.bias", &[], Init::Zeros);
        params
    }

    fn file() -> Vec<u8> {
        let values = [vec![1.0, -2.0, 3.5, 0.0, -0.0, f32::MIN_POSITIVE], vec![7.0]];
        to_safetensors(param_views(&params(), &values, "").expect("finite")).expect("whole")
    }

    #[test]
    fn tensors_are_sorted_and_written_to_the_same_bytes_every_time() {
        assert_eq!(file(), file());
        let text = String::from_utf8_lossy(&file()).into_owned();
        assert!(text.contains(r#"{"format":"pt"}"#), "{text}");
        assert!(text.find("a.bias") < text.find("b.weight"), "{text}");
    }

    #[test]
    fn parameters_come_back_bit_for_bit_in_their_own_order() {
        let mut tensors = Tensors::parse(&file(), "model.safetensors").expect("whole");
        tensors.check_params(&params()).expect("the same");
        let values = tensors.take_params(&params(), "").expect("all there");
        assert_eq!(values[0].iter().map(|v| v.to_bits()).nth(4), Some((-0.0f32).to_bits()));
        assert_eq!(values[1], [7.0]);
        tensors.finish().expect("nothing left");
    }

    #[test]
    fn half_precision_is_widened_and_other_types_are_named() {
        let write = |dtype, data: &[u8]| {
            let view = safetensors::tensor::TensorView::new(dtype, vec![1], data).expect("sizes agree");
            safetensors::serialize([("w", view)], None).expect("serialises")
        };
        for (dtype, data) in
            [(Dtype::F16, f16::from_f32(1.5).to_le_bytes()), (Dtype::BF16, bf16::from_f32(1.5).to_le_bytes())]
        {
            let tensors = Tensors::parse(&write(dtype, &data), "x").expect("whole");
            assert_eq!(tensors.read("w", &[1]).expect("widened"), [1.5]);
        }
        let tensors = Tensors::parse(&write(Dtype::F64, &[0; 8]), "m.safetensors").expect("whole");
        let error = tensors.read("w", &[1]).expect_err("f64");
        assert_eq!(error.to_string(), "m.safetensors: tensor `w` is F64: save it as F32, F16 or BF16");
    }

    #[test]
    fn what_is_not_finite_is_neither_saved_nor_loaded() {
        let bad = [vec![0.0; 6], vec![f32::NAN]];
        let error = param_views(&params(), &bad, "exp_avg/").expect_err("NaN");
        assert_eq!(error.to_string(), "tensor `exp_avg/a.bias` holds NaN: it is not saved");
        let bytes = to_safetensors([("w".to_owned(), &[2][..], &[0.0, f32::INFINITY][..])]).expect("whole");
        let error = Tensors::parse(&bytes, "m").expect("whole").take("w", &[2]).expect_err("infinite");
        assert_eq!(error.to_string(), "m: tensor `w` holds inf at element 1");
    }

    #[test]
    fn no_truncated_or_flipped_file_panics() {
        let good = file();
        let on_disk = |bytes: &[u8]| {
            let mut file = tempfile::tempfile().expect("a file");
            file.write_all(bytes).expect("written");
            Tensors::of_file(file, "x")
        };
        let mut whole = on_disk(&good).expect("whole");
        assert_eq!(whole.take_params(&params(), "").expect("all there")[1], [7.0]);
        for end in 0..good.len() {
            assert!(Tensors::parse(&good[..end], "x").is_err(), "cut at {end}");
            assert!(on_disk(&good[..end]).is_err(), "cut at {end}");
        }
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let _ = Tensors::parse(&bad, "x").map(|mut tensors| tensors.take_params(&params(), ""));
            let _ = on_disk(&bad).map(|mut tensors| tensors.take_params(&params(), ""));
        }
    }
}
