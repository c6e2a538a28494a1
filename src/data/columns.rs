//! Arrow columns for the writer: types and footers as the Python `datasets` and `pandas` write them.

use std::{fs::File, path::Path, sync::Arc};

use arrow_array::{
    ArrayRef, BooleanArray, FixedSizeListArray, Float32Array, Int64Array, RecordBatch, StringArray,
    StructArray,
    builder::{BinaryBuilder, Float64Builder, Int64Builder, ListBuilder},
};
use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef};
use parquet::{
    arrow::ArrowWriter,
    basic::Compression,
    file::{metadata::KeyValue, properties::WriterProperties},
};
use serde_json::json;

use super::{Dtype, Feature, Features, Stat};
use crate::{Error, Result};

/// The values of one feature over an episode.
#[derive(Debug, Clone)]
pub(super) enum Column {
    /// `values[frame * width + component]`, whole for int64, 0 or 1 for bool.
    Values(Vec<f64>),
    /// A PNG file a frame.
    Pictures(Vec<Vec<u8>>),
}

/// The Arrow type of a feature's column: a scalar, a list of fixed size, or a picture `{bytes, path}`.
fn data_type(feature: &Feature) -> DataType {
    let element = match feature.dtype {
        Dtype::Int64 => DataType::Int64,
        Dtype::Bool => DataType::Boolean,
        Dtype::Image => return DataType::Struct(picture_fields()),
        _ => DataType::Float32,
    };
    if feature.len() == 1 {
        return element;
    }
    DataType::FixedSizeList(Arc::new(Field::new("item", element, true)), feature.len() as i32)
}

fn picture_fields() -> Fields {
    [("bytes", DataType::Binary), ("path", DataType::Utf8)]
        .map(|(name, data_type)| Field::new(name, data_type, true))
        .into_iter()
        .collect()
}

/// The features that have a column; those of videos have none.
fn stored(features: &Features) -> impl Iterator<Item = (&str, &Feature)> {
    features.iter().filter(|(_, feature)| feature.dtype != Dtype::Video)
}

/// The schema of a data file.
pub(super) fn schema(features: &Features) -> SchemaRef {
    let field = |(key, feature): (&str, &Feature)| Field::new(key, data_type(feature), true);
    Arc::new(Schema::new(stored(features).map(field).collect::<Vec<_>>()))
}

/// The footer entry from which Python's `datasets` knows the features.
pub(super) fn huggingface_footer(features: &Features) -> KeyValue {
    let describe = |feature: &Feature| {
        let value = json!({"dtype": feature.dtype.to_string(), "_type": "Value"});
        match feature.dtype {
            Dtype::Image => json!({"_type": "Image"}),
            _ if feature.len() == 1 => value,
            _ => json!({"feature": value, "length": feature.len(), "_type": "List"}),
        }
    };
    let features: serde_json::Map<_, _> =
        stored(features).map(|(key, feature)| (key.to_string(), describe(feature))).collect();
    KeyValue::new("huggingface".into(), json!({"info": {"features": features}}).to_string())
}

/// The footer entry from which pandas knows that `task` is the index.
pub(super) fn pandas_footer() -> KeyValue {
    let column = |name: &str, pandas: &str, numpy: &str| json!({"name": name, "field_name": name, "pandas_type": pandas, "numpy_type": numpy, "metadata": null});
    let labels = json!({"name": null, "field_name": null, "pandas_type": "unicode", "numpy_type": "object",
        "metadata": {"encoding": "UTF-8"}});
    let pandas = json!({
        "index_columns": ["task"],
        "column_indexes": [labels],
        "columns": [column("task_index", "int64", "int64"), column("task", "unicode", "object")],
        "attributes": {},
        "creator": {"library": "flowgpu", "version": env!("CARGO_PKG_VERSION")},
        "pandas_version": "2.2.0",
    });
    KeyValue::new("pandas".into(), pandas.to_string())
}

/// A feature's column over an episode as an Arrow array.
pub(super) fn array(feature: &Feature, column: &Column) -> std::result::Result<ArrayRef, String> {
    let values = match column {
        Column::Pictures(pngs) => return pictures(pngs),
        Column::Values(values) => values.iter(),
    };
    let flat: ArrayRef = match feature.dtype {
        Dtype::Int64 => Arc::new(values.map(|&v| Some(v as i64)).collect::<Int64Array>()),
        Dtype::Bool => Arc::new(values.map(|&v| Some(v != 0.0)).collect::<BooleanArray>()),
        _ => Arc::new(values.map(|&v| Some(v as f32)).collect::<Float32Array>()),
    };
    match data_type(feature) {
        DataType::FixedSizeList(item, size) => {
            let list = FixedSizeListArray::try_new(item, size, flat, None).map_err(|e| e.to_string())?;
            Ok(Arc::new(list))
        }
        _ => Ok(flat),
    }
}

fn pictures(pngs: &[Vec<u8>]) -> std::result::Result<ArrayRef, String> {
    let mut bytes = BinaryBuilder::new();
    pngs.iter().for_each(|png| bytes.append_value(png));
    let paths = (0..pngs.len()).map(|frame| Some(format!("frame-{frame:06}.png")));
    let columns: Vec<ArrayRef> = vec![Arc::new(bytes.finish()), Arc::new(paths.collect::<StringArray>())];
    let array = StructArray::try_new(picture_fields(), columns, None).map_err(|e| e.to_string())?;
    Ok(Arc::new(array))
}

/// One statistic, a row an episode: lists as deep as its shape.
pub(super) fn stat_array(name: &str, rows: &[&Stat]) -> ArrayRef {
    if name == "count" {
        let mut list = ListBuilder::new(Int64Builder::new());
        for row in rows {
            list.append_value(row.values.iter().map(|&v| Some(v as i64)));
        }
        return Arc::new(list.finish());
    }
    if rows.iter().all(|row| row.shape.len() == 3) {
        let mut list = ListBuilder::new(ListBuilder::new(ListBuilder::new(Float64Builder::new())));
        for row in rows {
            for plane in row.values.chunks((row.shape[1] * row.shape[2]).max(1)) {
                for line in plane.chunks(row.shape[2].max(1)) {
                    list.values().values().append_value(line.iter().copied().map(Some));
                }
                list.values().append(true);
            }
            list.append(true);
        }
        return Arc::new(list.finish());
    }
    let mut list = ListBuilder::new(Float64Builder::new());
    for row in rows {
        list.append_value(row.values.iter().copied().map(Some));
    }
    Arc::new(list.finish())
}

/// A new parquet file: snappy, dictionaries, list elements named as the format asks, and a footer entry.
/// The entry stands in the Arrow schema as well: where there is one, pyarrow looks nowhere else.
pub(super) fn create(path: &Path, schema: SchemaRef, footer: Option<KeyValue>) -> Result<ArrowWriter<File>> {
    let failed = |e: String| Error::failure(format!("cannot write {}: {e}", path.display()));
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|e| failed(e.to_string()))?;
    }
    let entry: std::collections::HashMap<_, _> =
        footer.iter().filter_map(|entry| Some((entry.key.clone(), entry.value.clone()?))).collect();
    let schema = Arc::new(schema.as_ref().clone().with_metadata(entry));
    let file = File::create(path).map_err(|e| failed(e.to_string()))?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_coerce_types(true)
        .set_key_value_metadata(footer.map(|entry| vec![entry]))
        .build();
    ArrowWriter::try_new(file, schema, Some(properties)).map_err(|e| failed(e.to_string()))
}

/// Writes a whole table as one parquet file.
pub(super) fn write_table(
    path: &Path,
    columns: Vec<(String, ArrayRef)>,
    footer: Option<KeyValue>,
) -> Result<()> {
    let failed = |e: String| Error::failure(format!("cannot write {}: {e}", path.display()));
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, array)| (name, array, true)),
    )
    .map_err(|e| failed(e.to_string()))?;
    let mut writer = create(path, batch.schema(), footer)?;
    writer.write(&batch).map_err(|e| failed(e.to_string()))?;
    writer.close().map_err(|e| failed(e.to_string()))?;
    Ok(())
}
