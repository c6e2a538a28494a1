//! The columns of a dataset, filled from its data files row by row.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use arrow_array::RecordBatch;

use super::{Dtype, Feature, Overview, footage::Footage, pictures::Pictures, table};
use crate::{Error, Result};

/// The values of one feature over all frames.
#[derive(Debug, Clone)]
pub(super) enum Column {
    /// `values[frame * width + component]`
    Vectors { width: usize, values: Vec<f32> },
    /// Encoded pictures, a frame each.
    Pictures(Pictures),
    /// Pictures in video files.
    Footage(Footage),
}

impl Column {
    /// A column to fill, for the features that can be read.
    fn empty(key: &str, feature: &Feature, overview: &Overview) -> Option<Self> {
        match &feature.dtype {
            Dtype::Image => Some(Self::Pictures(Pictures::default())),
            Dtype::Video => {
                let clips = overview.clips.get(key)?;
                Some(Self::Footage(Footage::new(clips, &overview.episodes, overview.info.fps)))
            }
            dtype if dtype.is_number() && (1..1 << 24).contains(&feature.len()) => {
                Some(Self::Vectors { width: feature.len(), values: Vec::new() })
            }
            _ => None,
        }
    }

    /// Adds the frames of another dataset's column of the same kind after the `frames` of this one.
    pub fn append(&mut self, other: Self, frames: usize) {
        match (self, other) {
            (Self::Vectors { values, .. }, Self::Vectors { values: more, .. }) => values.extend(more),
            (Self::Pictures(pictures), Self::Pictures(more)) => pictures.append(more),
            (Self::Footage(footage), Self::Footage(more)) => footage.append(more, frames),
            // Features were compared before: columns of one name are of one kind.
            _ => {}
        }
    }
}

/// The columns by feature.
pub(super) type Columns = BTreeMap<String, Column>;

/// Reads all data files. What was passed over is said in `warnings`. Files beyond the first `max_bytes` leave their
/// pictures where they are.
///
/// # Errors
/// If a file is missing or broken, or the rows are not the frames that the episodes name.
pub(super) fn read(overview: &Overview, max_bytes: u64, warnings: &mut Vec<String>) -> Result<Columns> {
    let here = overview.root.display();
    let mut columns = Columns::new();
    // The counters say nothing that the episodes do not.
    let counters = ["frame_index", "episode_index", "index"];
    for (key, feature) in overview.info.features.iter().filter(|(key, _)| !counters.contains(key)) {
        match Column::empty(key, feature, overview) {
            Some(column) => _ = columns.insert(key.to_string(), column),
            // Sentences are in every other dataset; a policy does not read them.
            None if ["string", "language"].contains(&feature.dtype.to_string().as_str()) => {}
            None => warnings.push(format!(
                "{here}: feature `{key}` ({}, shape {:?}) is ignored: only vectors and pictures are read",
                feature.dtype, feature.shape
            )),
        }
    }
    let frames = overview.frames()?;
    let mut rows = Rows {
        columns,
        episodes: Vec::with_capacity(frames),
        row: 0,
        misnumbered: None,
        leave_pictures: false,
    };
    for (i, episode) in overview.episodes.iter().enumerate() {
        rows.episodes.resize(episode.frames.end, i as i64);
    }
    let stored = rows.columns.iter().filter(|(_, column)| !matches!(column, Column::Footage(_)));
    let mut wanted: BTreeSet<String> = stored.map(|(key, _)| key.clone()).collect();
    wanted.extend(["index".into(), "episode_index".into()]);
    let pictures: Vec<String> = (rows.columns.iter())
        .filter(|(_, column)| matches!(column, Column::Pictures(_)))
        .map(|(key, _)| key.clone())
        .collect();
    let batch_rows = if pictures.is_empty() { table::MANY_ROWS } else { table::FEW_ROWS };
    let mut extra = BTreeSet::new();
    let mut kept = 0;
    for path in &overview.files {
        // Pictures hardly pack: what they take in memory is what they take in the file.
        kept += std::fs::metadata(path).map_or(0, |file| file.len());
        rows.leave_pictures = kept > max_bytes;
        let leave: Vec<&String> = match rows.leave_pictures {
            true => pictures.iter().collect(),
            false => Vec::new(),
        };
        let mut unseen = leave.clone();
        let keep = |name: &str| {
            if overview.info.features.get(name).is_none() {
                extra.insert(name.to_owned());
            }
            unseen.retain(|key| *key != name);
            wanted.contains(name) && !leave.iter().any(|key| *key == name)
        };
        let first = rows.row;
        table::scan(path, keep, batch_rows, |batch| rows.append(batch, &overview.root))?;
        if let Some(key) = unseen.first() {
            return Err(Error::input(format!("{}: no column `{key}`", path.display())));
        }
        let count = rows.row - first;
        for key in leave {
            if let Some(Column::Pictures(column)) = rows.columns.get_mut(key) {
                column.leave(path, key, &overview.root, count);
            }
        }
    }
    if rows.row != frames {
        return Err(Error::input(format!(
            "{here}: the data files hold {} frames, meta/episodes and meta/info.json {frames}; the dataset is \
             incomplete: copy or record it again",
            rows.row
        )));
    }
    warnings.extend(extra.iter().filter(|name| !name.starts_with("__index_level")).map(|name| {
        format!("{here}: column `{name}` of the data files is no feature of meta/info.json and is ignored")
    }));
    warnings.extend(rows.misnumbered.map(|(row, index)| {
        format!("{here}: row {row} has index {index}; rows count as they stand in the files, as in LeRobot")
    }));
    Ok(rows.columns)
}

/// Columns amid being filled.
struct Rows {
    columns: Columns,
    /// The episode of each frame.
    episodes: Vec<i64>,
    /// Rows so far.
    row: usize,
    /// The first row whose index is another than its place.
    misnumbered: Option<(usize, i64)>,
    /// Whether the pictures of the file are not to be kept in memory.
    leave_pictures: bool,
}

impl Rows {
    /// Appends a batch of rows, which must be the next frames.
    fn append(&mut self, batch: &RecordBatch, root: &Path) -> Result<()> {
        let episodes = table::integers(batch, "episode_index")?;
        for (row, episode) in (self.row..).zip(&episodes) {
            let expected = self.episodes.get(row);
            if expected != Some(episode) {
                return Err(Error::input(format!(
                    "row {row} of the dataset is of episode {episode}, expected {}; the dataset is incomplete or out of \
                     order: copy it again",
                    expected.map_or("no such row".into(), |e| e.to_string())
                )));
            }
        }
        if batch.column_by_name("index").is_some() {
            let indices = table::integers(batch, "index")?;
            let mut odd = (self.row..).zip(indices).filter(|&(row, index)| index != row as i64);
            self.misnumbered = self.misnumbered.or_else(|| odd.next());
        }
        for (key, column) in &mut self.columns {
            let array = || table::column(batch, key);
            match column {
                Column::Vectors { width, values } => array().and_then(|a| table::numbers(a, *width, values)),
                Column::Pictures(_) if self.leave_pictures => Ok(()),
                Column::Pictures(pictures) => {
                    pictures.begin_block();
                    array().and_then(|a| table::pictures(a, |row| pictures.push(row, root)))
                }
                Column::Footage(_) => Ok(()),
            }
            .map_err(|e| e.at(format!("column `{key}`")))?;
        }
        self.row += episodes.len();
        Ok(())
    }
}
