//! NumPy's files: `.npy` holds an array, `.npz` is a zip archive of them.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use zip::ZipArchive;

use crate::data::Dtype;
use crate::{Error, Result};

/// Whole numbers up to this are exact in f32, which a dataset's writer takes.
const MAX_WHOLE: i64 = 1 << 24;

/// What opens a `.npy` file.
const MAGIC: &[u8] = b"\x93NUMPY";

/// Longest header that is believed.
const MAX_HEADER: usize = 1 << 16;

/// An array, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Its shape.
    pub shape: Vec<usize>,
    /// As many values as the shape says.
    pub values: Values,
}

/// An array's values.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// u8, which pictures are made of.
    Bytes(Vec<u8>),
    /// Anything else, with the type of column that can hold it: float32, int64 or bool.
    Numbers(Dtype, Vec<f32>),
}

/// The arrays of a `.npz` file by name, or the one of a `.npy` file by the file's name.
///
/// # Errors
/// If the file cannot be read or is damaged, or names the array of a type that means nothing here.
pub fn read(path: &Path) -> Result<Vec<(String, Array)>> {
    let file =
        File::open(path).map_err(|e| Error::input(format!("{} cannot be read: {e}", path.display())))?;
    let size = file.metadata().map_or(0, |data| data.len());
    let mut reader = BufReader::new(file);
    if path.extension().is_some_and(|extension| extension == "npy") {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let array = parse(&mut reader, size).map_err(|e| e.at(path.display()))?;
        return Ok(vec![(name, array)]);
    }
    let broken =
        |e: zip::result::ZipError| Error::input(format!("{} is damaged or no NPZ file: {e}", path.display()));
    let mut archive = ZipArchive::new(reader).map_err(broken)?;
    let mut arrays = Vec::new();
    for i in 0..archive.len() {
        let mut entry = archive.by_index(i).map_err(broken)?;
        let name = entry.name().map_err(broken)?.into_owned();
        let name = name.strip_suffix(".npy").unwrap_or(&name).to_owned();
        let size = entry.size();
        let array =
            parse(&mut entry, size).map_err(|e| e.at(format!("{}, array `{name}`", path.display())))?;
        arrays.push((name, array));
    }
    Ok(arrays)
}

/// An array from a stream of `size` bytes.
fn parse(from: &mut impl Read, size: u64) -> Result<Array> {
    let broken = |what: &str| Error::input(format!("damaged or no NumPy array: {what}"));
    let cut = |e: std::io::Error| Error::input(format!("damaged or no NumPy array: {e}"));
    let mut opening = [0; 10];
    from.read_exact(&mut opening).map_err(cut)?;
    if !opening.starts_with(MAGIC) {
        return Err(broken("it does not begin as one"));
    }
    let mut length = usize::from(u16::from_le_bytes([opening[8], opening[9]]));
    let mut before = 10 + length;
    if opening[6] >= 2 {
        let mut rest = [0; 2];
        from.read_exact(&mut rest).map_err(cut)?;
        length += usize::from(u16::from_le_bytes(rest)) << 16;
        before = 12 + length;
    }
    if length > MAX_HEADER {
        return Err(broken("its header is too long"));
    }
    let mut header = vec![0; length];
    from.read_exact(&mut header).map_err(cut)?;
    let header = String::from_utf8_lossy(&header);
    let (descr, fortran, shape) =
        described(&header).ok_or_else(|| broken(&format!("its header is {:?}", header.trim())))?;
    let element = Element::of(descr)?;
    let bytes = shape.iter().try_fold(element.bytes(), |product, &side| product.checked_mul(side));
    // The file's size is known, so that a damaged shape costs no memory.
    let bytes = bytes.filter(|&bytes| size == (before as u64).saturating_add(bytes as u64));
    let bytes = bytes.ok_or_else(|| broken(&format!("it has not the bytes of its shape, {shape:?}")))?;
    let mut data = Vec::new();
    data.try_reserve_exact(bytes).map_err(|_| Error::failure(format!("no memory for {bytes} bytes")))?;
    from.take(bytes as u64).read_to_end(&mut data).map_err(cut)?;
    if data.len() != bytes {
        return Err(broken("it is cut short"));
    }
    let mut values = element.values(data)?;
    if fortran {
        match &mut values {
            Values::Bytes(values) => *values = row_major(values, &shape),
            Values::Numbers(_, values) => *values = row_major(values, &shape),
        }
    }
    Ok(Array { shape, values })
}

/// Type, order and shape out of a header, a Python dictionary such as
/// `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }`.
fn described(header: &str) -> Option<(&str, bool, Vec<usize>)> {
    let after = |key: &str| Some(header.split_once(key)?.1.trim_start());
    let quoted = after("'descr':")?;
    // A record's type is a list; it is told as it stands.
    let descr = match quoted.strip_prefix('\'') {
        Some(rest) => rest.split_once('\'')?.0,
        None => quoted.split_once('\'').map_or(quoted, |(list, _)| list),
    };
    let fortran = after("'fortran_order':")?.starts_with("True");
    let sides = after("'shape':")?.strip_prefix('(')?.split_once(')')?.0;
    let sides = sides.split(',').map(str::trim).filter(|side| !side.is_empty());
    Some((descr, fortran, sides.map(str::parse).collect::<Result<_, _>>().ok()?))
}

/// An element's type.
#[derive(Debug, Clone, Copy)]
enum Element {
    Half,
    Single,
    Double,
    /// So many bytes, and whether there is a sign.
    Whole(usize, bool),
    Flag,
}

impl Element {
    fn of(descr: &str) -> Result<Self> {
        Ok(match descr.strip_prefix(['<', '|', '=']).unwrap_or(descr) {
            "f2" => Self::Half,
            "f4" => Self::Single,
            "f8" => Self::Double,
            "b1" => Self::Flag,
            "u1" => Self::Whole(1, false),
            "u2" => Self::Whole(2, false),
            "u4" => Self::Whole(4, false),
            "i1" => Self::Whole(1, true),
            "i2" => Self::Whole(2, true),
            "i4" => Self::Whole(4, true),
            "i8" => Self::Whole(8, true),
            _ => {
                return Err(Error::input(format!(
                    "its dtype is {descr:?}: save it as a float, integer or bool array, little-endian \
                     (numpy: array.astype(\"float32\"))"
                )));
            }
        })
    }

    fn bytes(self) -> usize {
        match self {
            Self::Flag => 1,
            Self::Half => 2,
            Self::Single => 4,
            Self::Double => 8,
            Self::Whole(bytes, _) => bytes,
        }
    }

    fn values(self, data: Vec<u8>) -> Result<Values> {
        let numbers = |values| Ok(Values::Numbers(Dtype::Float32, values));
        match self {
            Self::Whole(1, false) => Ok(Values::Bytes(data)),
            Self::Half => numbers(each(&data, |raw| half::f16::from_le_bytes(raw).to_f32())),
            Self::Single => numbers(each(&data, f32::from_le_bytes)),
            Self::Double => numbers(each(&data, |raw| f64::from_le_bytes(raw) as f32)),
            Self::Flag => {
                let values = data.iter().map(|&flag| f32::from(u8::from(flag != 0))).collect();
                Ok(Values::Numbers(Dtype::Bool, values))
            }
            Self::Whole(bytes, signed) => {
                let whole = |raw: &[u8]| {
                    let negative = signed && raw[bytes - 1] >= 0x80;
                    let mut all = if negative { [0xff; 8] } else { [0; 8] };
                    all[..bytes].copy_from_slice(raw);
                    i64::from_le_bytes(all)
                };
                let values: Vec<i64> = data.chunks_exact(bytes).map(whole).collect();
                match values.iter().find(|value| value.unsigned_abs() > MAX_WHOLE as u64) {
                    Some(bad) => Err(Error::input(format!(
                        "it holds {bad}: whole numbers are kept exactly up to {MAX_WHOLE}; save it as float32"
                    ))),
                    None => Ok(Values::Numbers(Dtype::Int64, values.iter().map(|&v| v as f32).collect())),
                }
            }
        }
    }
}

fn each<const N: usize>(data: &[u8], value: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    data.as_chunks().0.iter().map(|&raw| value(raw)).collect()
}

/// Values that were stored with the first index running fastest, the last one running fastest.
fn row_major<T: Copy>(values: &[T], shape: &[usize]) -> Vec<T> {
    let place = |mut at: usize| {
        // Indices come off the row-major place from the last side on; their strides in the file begin at the first.
        let mut stride = values.len();
        let mut place = 0;
        for &side in shape.iter().rev() {
            stride /= side;
            place += (at % side) * stride;
            at /= side;
        }
        place
    };
    (0..values.len()).map(|at| values[place(at)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn npy(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([1, 0]);
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    fn parsed(bytes: &[u8]) -> Result<Array> {
        parse(&mut &bytes[..], bytes.len() as u64)
    }

    #[test]
    fn both_orders_and_all_types_are_read() {
        let header = |descr: &str, fortran: &str, shape: &str| {
            format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}   \n")
        };
        // What np.asfortranarray([[1, 2, 3], [4, 5, 6]]) is on disk.
        let data: Vec<u8> = [1i16, 4, 2, 5, 3, -6].iter().flat_map(|v| v.to_le_bytes()).collect();
        let array = parsed(&npy(&header("<i2", "True", "(2, 3)"), &data)).expect("an array");
        assert_eq!(array.shape, [2, 3]);
        assert_eq!(array.values, Values::Numbers(Dtype::Int64, vec![1.0, 2.0, 3.0, 4.0, 5.0, -6.0]));
        let array = parsed(&npy(&header("|u1", "False", "(2,)"), &[7, 255])).expect("an array");
        assert_eq!(array.values, Values::Bytes(vec![7, 255]));
        let array = parsed(&npy(&header("|b1", "False", "(2,)"), &[0, 1])).expect("an array");
        assert_eq!(array.values, Values::Numbers(Dtype::Bool, vec![0.0, 1.0]));
        let array = parsed(&npy(&header("<f8", "False", "()"), &0.5f64.to_le_bytes())).expect("a scalar");
        assert_eq!((array.shape, array.values), (vec![], Values::Numbers(Dtype::Float32, vec![0.5])));
        let array = parsed(&npy(&header("<f2", "False", "(1,)"), &[0, 0x3c])).expect("an array");
        assert_eq!(array.values, Values::Numbers(Dtype::Float32, vec![1.0]));
        let error = parsed(&npy(&header(">f4", "False", "(1,)"), &[0; 4])).expect_err("big-endian");
        assert!(error.to_string().contains(">f4"), "{error}");
        let error =
            parsed(&npy(&header("<i8", "False", "(1,)"), &i64::MIN.to_le_bytes())).expect_err("large");
        assert!(error.to_string().contains("-9223372036854775808"), "{error}");
    }

    #[test]
    fn no_damaged_array_panics_or_asks_for_memory() {
        let good = npy("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }", &[0; 24]);
        for end in 0..good.len() {
            assert!(parsed(&good[..end]).is_err(), "cut at {end}");
        }
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let _ = parsed(&bad);
        }
        let huge = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 9999999), }", &[]);
        assert!(parsed(&huge).is_err_and(|e| e.to_string().contains("99999999999")));
    }
}
