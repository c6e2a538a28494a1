//! Reading parquet files: columns by name, flat, whatever list or number type the file chose.

use std::{
    fs::File,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use arrow_array::{
    Array, RecordBatch, StructArray,
    cast::AsArray,
    types::{
        Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type,
        UInt16Type, UInt32Type, UInt64Type,
    },
};
use arrow_schema::{ArrowError, DataType};
use parquet::{
    arrow::{
        ProjectionMask,
        arrow_reader::{
            ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelector,
        },
    },
    errors::ParquetError,
};

use super::pictures::Row;
use crate::{Error, Result};

/// Rows in a batch of numbers.
pub(super) const MANY_ROWS: usize = 1024;

/// Rows in a batch that holds pictures: they are in memory twice for so long.
pub(super) const FEW_ROWS: usize = 64;

/// Reads a file's columns that `keep` wants, batch by batch. Errors of `each` get the file's name in front.
///
/// # Errors
/// If the file is missing or broken, or if `each` fails.
pub(super) fn scan(
    path: &Path,
    mut keep: impl FnMut(&str) -> bool,
    rows: usize,
    mut each: impl FnMut(&RecordBatch) -> Result<()>,
) -> Result<()> {
    guarded(path, |file| {
        let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(file, options())?;
        let mask = roots(&builder, &mut keep);
        for batch in builder.with_projection(mask).with_batch_size(rows).build()? {
            each(&batch?).map_err(Broken::Content)?;
        }
        Ok(())
    })
}

/// A file of which single rows are read; its footer is read once.
#[derive(Debug)]
pub(super) struct Rows {
    path: PathBuf,
    footer: OnceLock<ArrowReaderMetadata>,
}

impl Rows {
    /// Of a file.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_path_buf(), footer: OnceLock::new() }
    }

    /// Calls `each` with a column's row of that number.
    ///
    /// # Errors
    /// If the file is missing or broken, has no such row, or `each` fails.
    pub fn read(
        &self,
        name: &str,
        mut row: usize,
        mut each: impl FnMut(&dyn Array) -> Result<()>,
    ) -> Result<()> {
        guarded(&self.path, |file| {
            let footer = match self.footer.get() {
                Some(footer) => footer.clone(),
                None => {
                    let footer = ArrowReaderMetadata::load(&file, options())?;
                    self.footer.get_or_init(|| footer).clone()
                }
            };
            // Other row groups are not touched, and other pages of this one passed over unread.
            let sizes = footer.metadata().row_groups().iter().map(|group| group.num_rows().max(0) as usize);
            let mut found = None;
            for (group, rows) in sizes.enumerate() {
                if row < rows {
                    found = Some(group);
                    break;
                }
                row -= rows;
            }
            let no_row = || Broken::Content(Error::input("a row is missing; copy the dataset again"));
            let group = found.ok_or_else(no_row)?;
            let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, footer);
            let mask = roots(&builder, &mut |root| root == name);
            let selection = vec![RowSelector::skip(row), RowSelector::select(1)];
            let builder = builder.with_row_groups(vec![group]).with_projection(mask);
            let mut reader = builder.with_row_selection(selection.into()).build()?;
            let batch = reader.next().ok_or_else(no_row)??;
            column(&batch, name).and_then(&mut each).map_err(Broken::Content)
        })
    }
}

/// Why a file could not be read: its bytes are none of a parquet file, or hold something else than they should.
enum Broken {
    Bytes(String),
    Content(Error),
}

impl From<ParquetError> for Broken {
    fn from(error: ParquetError) -> Self {
        Self::Bytes(error.to_string())
    }
}

impl From<ArrowError> for Broken {
    fn from(error: ArrowError) -> Self {
        Self::Bytes(error.to_string())
    }
}

/// Does something with a file, and names the file in whatever goes wrong.
fn guarded(path: &Path, read: impl FnOnce(File) -> std::result::Result<(), Broken>) -> Result<()> {
    let file = File::open(path).map_err(|e| {
        Error::input(format!(
            "cannot read {} ({e}); the dataset is incomplete: copy it again",
            path.display()
        ))
    })?;
    // The decoder promises errors, not panics, on broken bytes; a broken promise is still a broken file.
    let read = catch_unwind(AssertUnwindSafe(|| read(file)));
    read.unwrap_or_else(|_| Err(Broken::Bytes("its content makes no sense".into()))).map_err(|e| match e {
        Broken::Content(error) => error.at(path.display()),
        Broken::Bytes(what) => Error::input(format!(
            "{} is not a whole parquet file ({what}); copy the dataset again",
            path.display()
        )),
    })
}

/// The types of the file's own schema are fewer than those that writers keep beside it (large, fixed and view types,
/// extensions), and hold the same values.
fn options() -> ArrowReaderOptions {
    ArrowReaderOptions::new().with_skip_arrow_metadata(true)
}

/// The columns that `keep` wants.
fn roots(
    builder: &ParquetRecordBatchReaderBuilder<File>,
    keep: &mut impl FnMut(&str) -> bool,
) -> ProjectionMask {
    let fields = builder.schema().fields().iter().enumerate();
    let wanted: Vec<usize> = fields.filter(|(_, field)| keep(field.name())).map(|(root, _)| root).collect();
    ProjectionMask::roots(builder.parquet_schema(), wanted)
}

/// A column that must be there.
///
/// # Errors
/// If it is not.
pub(super) fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a dyn Array> {
    match batch.column_by_name(name) {
        Some(array) => Ok(array.as_ref()),
        None => Err(Error::input(format!("no column `{name}`"))),
    }
}

/// A column of whole numbers.
///
/// # Errors
/// If it is missing, has empty rows, or is of another type.
pub(super) fn integers(batch: &RecordBatch, name: &str) -> Result<Vec<i64>> {
    let array = column(batch, name)?;
    no_empty_rows(array).map_err(|e| e.at(format!("column `{name}`")))?;
    match (array.as_primitive_opt::<Int64Type>(), array.as_primitive_opt::<Int32Type>()) {
        (Some(array), _) => Ok(array.values().to_vec()),
        (_, Some(array)) => Ok(array.values().iter().map(|&v| i64::from(v)).collect()),
        _ => Err(Error::input(format!("column `{name}` is {}, expected int64", array.data_type()))),
    }
}

/// A column of times in seconds, finite and not before 0.
///
/// # Errors
/// If it is missing or holds something else.
pub(super) fn seconds(batch: &RecordBatch, name: &str) -> Result<Vec<f64>> {
    let array = column(batch, name)?;
    no_empty_rows(array).map_err(|e| e.at(format!("column `{name}`")))?;
    let values: Vec<f64> =
        match (array.as_primitive_opt::<Float64Type>(), array.as_primitive_opt::<Float32Type>()) {
            (Some(array), _) => array.values().to_vec(),
            (_, Some(array)) => array.values().iter().map(|&v| f64::from(v)).collect(),
            _ => {
                return Err(Error::input(format!(
                    "column `{name}` is {}, expected float64",
                    array.data_type()
                )));
            }
        };
    match values.iter().find(|v| !(0.0..1e9).contains(*v)) {
        Some(bad) => Err(Error::input(format!("column `{name}` holds {bad}, which is no time in a file"))),
        None => Ok(values),
    }
}

/// The columns `<prefix>/chunk_index` and `<prefix>/file_index`, in pairs.
///
/// # Errors
/// If one is missing or holds what is no number of a file.
pub(super) fn places(batch: &RecordBatch, prefix: &str) -> Result<Vec<(usize, usize)>> {
    let numbers = |name: &str| -> Result<Vec<usize>> {
        let name = format!("{prefix}/{name}");
        let number = |value: i64| match usize::try_from(value) {
            Ok(value) if value < 1 << 32 => Ok(value),
            _ => Err(Error::input(format!("column `{name}` holds {value}, which is no file's number"))),
        };
        integers(batch, &name)?.into_iter().map(number).collect()
    };
    Ok(numbers("chunk_index")?.into_iter().zip(numbers("file_index")?).collect())
}

/// Appends a column's numbers, `width` in a row: scalars, lists, lists of lists, of floats, integers or truth values.
///
/// # Errors
/// If a row is empty or of another size, or the type is none of these.
pub(super) fn numbers(array: &dyn Array, width: usize, out: &mut Vec<f32>) -> Result<()> {
    no_empty_rows(array)?;
    if let Some(list) = array.as_list_opt::<i32>() {
        let offsets = list.value_offsets();
        let (first, last) = (offsets[0] as usize, offsets[offsets.len() - 1] as usize);
        let inner = list.values().slice(first, last - first);
        // Of a list of lists every row has as many lists as the first; `width` is shared out among them.
        let nested = matches!(inner.data_type(), DataType::List(_));
        let lists = if nested { offsets.get(1).map_or(1, |&o| o as usize - first) } else { width };
        for row in offsets.windows(2) {
            let found = (row[1] - row[0]) as usize;
            if found != lists || lists == 0 || !width.is_multiple_of(lists) {
                return wrong_size(found, width);
            }
        }
        return numbers(inner.as_ref(), width / lists.max(1), out);
    }
    if width != 1 {
        return wrong_size(1, width);
    }
    macro_rules! widen {
        ($($kind:ty => $as:expr),*) => {
            $(if let Some(array) = array.as_primitive_opt::<$kind>() {
                out.extend(array.values().iter().map($as));
                return Ok(());
            })*
        };
    }
    widen!(
        Float32Type => |&v| v, Float64Type => |&v| v as f32, Float16Type => |v| v.to_f32(),
        Int64Type => |&v| v as f32, Int32Type => |&v| v as f32, Int16Type => |&v| f32::from(v),
        Int8Type => |&v| f32::from(v), UInt64Type => |&v| v as f32, UInt32Type => |&v| v as f32,
        UInt16Type => |&v| f32::from(v), UInt8Type => |&v| f32::from(v)
    );
    match array.as_boolean_opt() {
        Some(array) => out.extend(array.values().iter().map(|v| f32::from(u8::from(v)))),
        None => return Err(Error::input(format!("the type {} is not supported", array.data_type()))),
    }
    Ok(())
}

fn wrong_size(found: usize, expected: usize) -> Result<()> {
    Err(Error::input(format!("a row has {found} values, but meta/info.json says {expected}")))
}

fn no_empty_rows(array: &dyn Array) -> Result<()> {
    if array.null_count() == 0 {
        return Ok(());
    }
    Err(Error::input(format!("{} rows are empty", array.null_count())))
}

/// Calls `each` with every row's picture: a struct `{bytes, path}` of which either may be null, or the bytes alone.
///
/// # Errors
/// If the column is of another type, or `each` fails.
pub(super) fn pictures(array: &dyn Array, mut each: impl FnMut(&Row<'_>) -> Result<()>) -> Result<()> {
    no_empty_rows(array)?;
    let (bytes, paths) = match array.as_any().downcast_ref::<StructArray>() {
        Some(parts) => (parts.column_by_name("bytes").map(AsRef::as_ref), parts.column_by_name("path")),
        None => (Some(array), None),
    };
    for row in 0..array.len() {
        let bytes = bytes.map_or(Ok(None), |bytes| binary(bytes, row))?;
        let path = paths.and_then(|paths| text(paths.as_ref(), row));
        each(&Row { bytes, path })?;
    }
    Ok(())
}

fn binary(array: &dyn Array, row: usize) -> Result<Option<&[u8]>> {
    match (array.is_null(row), array.as_binary_opt::<i32>()) {
        (true, _) => Ok(None),
        (_, Some(array)) => Ok(Some(array.value(row))),
        _ => Err(Error::input(format!("pictures of type {}, expected bytes", array.data_type()))),
    }
}

fn text(array: &dyn Array, row: usize) -> Option<&str> {
    array.as_string_opt::<i32>().filter(|array| array.is_valid(row)).map(|array| array.value(row))
}

/// A column of sentences.
///
/// # Errors
/// If it is of another type.
pub(super) fn strings(array: &dyn Array) -> Result<Vec<String>> {
    match array.as_string_opt::<i32>() {
        Some(array) => Ok(array.iter().map(|text| text.unwrap_or_default().to_string()).collect()),
        None => Err(Error::input(format!("sentences of type {}, expected strings", array.data_type()))),
    }
}

/// A column of lists of sentences.
///
/// # Errors
/// If it is of another type.
pub(super) fn string_lists(array: &dyn Array) -> Result<Vec<Vec<String>>> {
    match array.as_list_opt::<i32>() {
        Some(list) => (0..list.len()).map(|i| strings(list.value(i).as_ref())).collect(),
        None => {
            Err(Error::input(format!("sentences of type {}, expected lists of strings", array.data_type())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{
        ArrayRef, BooleanArray, FixedSizeListArray, Float64Array, Int16Array, Int64Array, LargeListArray,
        ListArray,
        builder::{FixedSizeListBuilder, Float32Builder, LargeListBuilder, ListBuilder},
    };
    use std::sync::Arc;

    /// A column written to a file, with its Arrow type beside it, and read as numbers.
    fn read(array: ArrayRef, width: usize) -> Result<Vec<f32>> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file.parquet");
        let batch = RecordBatch::try_from_iter_with_nullable([("c", array, true)]).expect("a column");
        let file = File::create(&path).expect("a file");
        let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).expect("a writer");
        writer.write(&batch).expect("writes");
        writer.close().expect("writes");
        let mut out = Vec::new();
        scan(&path, |_| true, 2, |batch| numbers(column(batch, "c")?, width, &mut out))?;
        Ok(out)
    }

    #[test]
    fn every_kind_of_list_and_number_becomes_flat_f32() {
        let rows = || [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]].map(|row| Some(row.map(Some)));
        let wide = || rows().map(|row| row.map(|row| row.map(|value: Option<f32>| value.map(f64::from))));
        let lists: [ArrayRef; 4] = [
            Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(rows())),
            Arc::new(LargeListArray::from_iter_primitive::<Float64Type, _, _>(wide())),
            Arc::new(FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(rows(), 2)),
            Arc::new(FixedSizeListArray::from_iter_primitive::<Float64Type, _, _>(wide(), 2)),
        ];
        for array in lists {
            let kind = array.data_type().clone();
            // Slices of two batches, of which none may read its neighbours.
            assert_eq!(read(array.clone(), 2).expect("reads"), [1., 2., 3., 4., 5., 6.], "{kind}");
            assert!(read(array.clone(), 3).is_err() && read(array, 1).is_err(), "{kind}");
        }
        let scalars: [(ArrayRef, [f32; 2]); 4] = [
            (Arc::new(Float64Array::from(vec![0.5, 2.0])), [0.5, 2.0]),
            (Arc::new(Int64Array::from(vec![7, -1])), [7.0, -1.0]),
            (Arc::new(Int16Array::from(vec![7, -1])), [7.0, -1.0]),
            (Arc::new(BooleanArray::from(vec![true, false])), [1.0, 0.0]),
        ];
        for (array, expected) in scalars {
            assert_eq!(read(array, 1).expect("reads"), expected);
        }
    }

    #[test]
    fn lists_of_lists_are_flat_too() {
        let mut list = ListBuilder::new(ListBuilder::new(Float32Builder::new()));
        let mut large = LargeListBuilder::new(FixedSizeListBuilder::new(Float32Builder::new(), 3));
        for row in [0.0f32, 10.0, 20.0] {
            for line in [row, row + 3.0] {
                list.values().append_value([0.0, 1.0, 2.0].map(|column| Some(line + column)));
                for column in [0.0, 1.0, 2.0] {
                    large.values().values().append_value(line + column);
                }
                large.values().append(true);
            }
            list.append(true);
            large.append(true);
        }
        let expected: Vec<f32> = [0u8, 10, 20].iter().flat_map(|&r| r..r + 6).map(f32::from).collect();
        assert_eq!(read(Arc::new(list.finish()), 6).expect("reads"), expected);
        assert_eq!(read(Arc::new(large.finish()), 6).expect("reads"), expected);
    }

    #[test]
    fn rows_that_are_empty_or_uneven_are_errors() {
        let uneven = [Some(vec![Some(1.0)]), Some(vec![Some(1.0), Some(2.0)])];
        assert!(read(Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(uneven)), 1).is_err());
        let hollow = [Some(vec![]), Some(vec![])];
        assert!(read(Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(hollow)), 1).is_err());
        let empty = Float64Array::from(vec![Some(1.0), None]);
        assert!(read(Arc::new(empty), 1).is_err_and(|e| e.to_string().contains("empty")));
    }
}
