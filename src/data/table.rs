//! Reading parquet files: columns by name, flat, whatever list or number type the file chose.

use std::{
    fs::File,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use arrow_array::{
    Array, FixedSizeListArray, RecordBatch, StructArray,
    cast::AsArray,
    types::{Float32Type, Float64Type, Int32Type, Int64Type, UInt8Type},
};
use parquet::arrow::{ProjectionMask, arrow_reader::ParquetRecordBatchReaderBuilder};

use super::pictures::Row;
use crate::{Error, Result};

/// Reads a file's columns that `keep` wants, batch by batch. Errors of `each` get the file's name in front.
///
/// # Errors
/// If the file is missing or broken, or if `each` fails.
pub(super) fn scan(
    path: &Path,
    keep: impl Fn(&str) -> bool,
    mut each: impl FnMut(&RecordBatch) -> Result<()>,
) -> Result<()> {
    let file = File::open(path).map_err(|e| {
        Error::input(format!(
            "cannot read {} ({e}); the dataset is incomplete: copy it again",
            path.display()
        ))
    })?;
    let broken = |e: &str| {
        Error::input(format!("{} is not a whole parquet file ({e}); copy the dataset again", path.display()))
    };
    let read = || -> Result<()> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| broken(&e.to_string()))?;
        let wanted: Vec<usize> = (builder.schema().fields().iter().enumerate())
            .filter(|(_, field)| keep(field.name()))
            .map(|(root, _)| root)
            .collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), wanted);
        let reader = builder.with_projection(mask).build().map_err(|e| broken(&e.to_string()))?;
        for batch in reader {
            let batch = batch.map_err(|e| broken(&e.to_string()))?;
            each(&batch).map_err(|e| e.at(path.display()))?;
        }
        Ok(())
    };
    // The decoder promises errors, not panics, on broken bytes; a broken promise is still a broken file.
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| Err(broken("its content makes no sense")))
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

/// Appends a column's numbers, `width` in a row: scalars, lists of any kind, f32, f64, integers or truth values.
///
/// # Errors
/// If a row is empty or of another size, or the type is none of these.
pub(super) fn numbers(array: &dyn Array, width: usize, out: &mut Vec<f32>) -> Result<()> {
    no_empty_rows(array)?;
    if let Some(list) = array.as_any().downcast_ref::<FixedSizeListArray>() {
        right_size(list.value_length() as usize, width)?;
        return numbers(list.values().as_ref(), 1, out);
    }
    if let Some(list) = array.as_list_opt::<i32>() {
        let offsets: Vec<usize> = list.value_offsets().iter().map(|&o| o as usize).collect();
        return ragged(list.values().as_ref(), &offsets, width, out);
    }
    if let Some(list) = array.as_list_opt::<i64>() {
        let offsets: Vec<usize> = list.value_offsets().iter().map(|&o| o as usize).collect();
        return ragged(list.values().as_ref(), &offsets, width, out);
    }
    right_size(1, width)?;
    if let Some(array) = array.as_primitive_opt::<Float32Type>() {
        out.extend_from_slice(array.values());
    } else if let Some(array) = array.as_primitive_opt::<Float64Type>() {
        out.extend(array.values().iter().map(|&v| v as f32));
    } else if let Some(array) = array.as_primitive_opt::<Int64Type>() {
        out.extend(array.values().iter().map(|&v| v as f32));
    } else if let Some(array) = array.as_primitive_opt::<Int32Type>() {
        out.extend(array.values().iter().map(|&v| v as f32));
    } else if let Some(array) = array.as_primitive_opt::<UInt8Type>() {
        out.extend(array.values().iter().map(|&v| f32::from(v)));
    } else if let Some(array) = array.as_boolean_opt() {
        out.extend(array.values().iter().map(|v| f32::from(u8::from(v))));
    } else {
        return Err(Error::input(format!("the type {} is not supported", array.data_type())));
    }
    Ok(())
}

fn ragged(values: &dyn Array, offsets: &[usize], width: usize, out: &mut Vec<f32>) -> Result<()> {
    for row in offsets.windows(2) {
        right_size(row[1] - row[0], width)?;
    }
    let (first, last) = (offsets[0], offsets[offsets.len() - 1]);
    numbers(values.slice(first, last - first).as_ref(), 1, out)
}

fn right_size(found: usize, expected: usize) -> Result<()> {
    if found == expected {
        return Ok(());
    }
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
    match (array.is_null(row), array.as_binary_opt::<i32>(), array.as_binary_opt::<i64>()) {
        (true, ..) => Ok(None),
        (_, Some(array), _) => Ok(Some(array.value(row))),
        (_, _, Some(array)) => Ok(Some(array.value(row))),
        _ => Err(Error::input(format!("pictures of type {}, expected bytes", array.data_type()))),
    }
}

fn text(array: &dyn Array, row: usize) -> Option<&str> {
    match (array.is_null(row), array.as_string_opt::<i32>(), array.as_string_opt::<i64>()) {
        (false, Some(array), _) => Some(array.value(row)),
        (false, _, Some(array)) => Some(array.value(row)),
        _ => None,
    }
}

/// A column of sentences.
///
/// # Errors
/// If it is of another type.
pub(super) fn strings(array: &dyn Array) -> Result<Vec<String>> {
    let own = |text: Option<&str>| text.unwrap_or_default().to_string();
    if let Some(array) = array.as_string_opt::<i32>() {
        Ok(array.iter().map(own).collect())
    } else if let Some(array) = array.as_string_opt::<i64>() {
        Ok(array.iter().map(own).collect())
    } else {
        Err(Error::input(format!("sentences of type {}, expected strings", array.data_type())))
    }
}

/// A column of lists of sentences.
///
/// # Errors
/// If it is of another type.
pub(super) fn string_lists(array: &dyn Array) -> Result<Vec<Vec<String>>> {
    let row = |i: usize| match (array.as_list_opt::<i32>(), array.as_list_opt::<i64>()) {
        (Some(list), _) => strings(list.value(i).as_ref()),
        (_, Some(list)) => strings(list.value(i).as_ref()),
        _ => Err(Error::input(format!("sentences of type {}, expected lists of strings", array.data_type()))),
    };
    (0..array.len()).map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{
        ArrayRef, BooleanArray, Float64Array, Int64Array, LargeListArray, ListArray, types::Float32Type,
    };
    use std::sync::Arc;

    #[test]
    fn every_kind_of_list_and_number_becomes_flat_f32() {
        let rows = || [vec![1.0, 2.0], vec![3.0, 4.0]].map(|row| Some(row.into_iter().map(Some)));
        let list = ListArray::from_iter_primitive::<Float32Type, _, _>(rows());
        let large = LargeListArray::from_iter_primitive::<Float64Type, _, _>(
            rows().map(|r| r.map(|v| v.map(|x: Option<f32>| x.map(f64::from)))),
        );
        let fixed = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(rows(), 2);
        let arrays: [ArrayRef; 3] = [Arc::new(list), Arc::new(large), Arc::new(fixed)];
        for array in arrays {
            let mut out = Vec::new();
            numbers(&array, 2, &mut out).expect("reads");
            assert_eq!(out, [1., 2., 3., 4.], "{}", array.data_type());
            // A slice must not read its neighbours.
            out.clear();
            numbers(&array.slice(1, 1), 2, &mut out).expect("reads");
            assert_eq!(out, [3., 4.], "{}", array.data_type());
            assert!(numbers(&array, 3, &mut out).is_err());
        }
        let scalars: [(ArrayRef, [f32; 2]); 3] = [
            (Arc::new(Float64Array::from(vec![0.5, 2.0])), [0.5, 2.0]),
            (Arc::new(Int64Array::from(vec![7, -1])), [7.0, -1.0]),
            (Arc::new(BooleanArray::from(vec![true, false])), [1.0, 0.0]),
        ];
        for (array, expected) in scalars {
            let mut out = Vec::new();
            numbers(&array, 1, &mut out).expect("reads");
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn rows_that_are_empty_or_uneven_are_errors() {
        let uneven = ListArray::from_iter_primitive::<Float32Type, _, _>([
            Some(vec![Some(1.0)]),
            Some(vec![Some(1.0), Some(2.0)]),
        ]);
        assert!(numbers(&uneven, 1, &mut Vec::new()).is_err());
        let empty = Float64Array::from(vec![Some(1.0), None]);
        assert!(numbers(&empty, 1, &mut Vec::new()).is_err_and(|e| e.to_string().contains("empty")));
    }
}
