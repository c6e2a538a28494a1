//! `meta/episodes` and `meta/tasks.parquet`: which frames belong together, and what they are about.

use std::{
    collections::BTreeSet,
    ops::Range,
    path::{Path, PathBuf},
};

use super::table;
use crate::{Error, Result};

/// A run of frames recorded in one go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Episode {
    /// Its frames.
    pub frames: Range<usize>,
    /// The task sentences that occur in it.
    pub tasks: Vec<String>,
}

/// Data files as (chunk, file).
pub(super) type DataFiles = BTreeSet<(usize, usize)>;

/// The episodes in order, and the data files that hold them, in order.
///
/// # Errors
/// If a file is missing or broken, or episodes do not follow one another.
pub(super) fn read_episodes(root: &Path) -> Result<(Vec<Episode>, DataFiles)> {
    let mut rows = Vec::new();
    for path in parquet_files(&root.join("meta/episodes"))? {
        table::scan(
            &path,
            |name| !name.starts_with("stats/"),
            |batch| {
                let column = |name| table::integers(batch, name);
                let (index, length) = (column("episode_index")?, column("length")?);
                let (from, to) = (column("dataset_from_index")?, column("dataset_to_index")?);
                let (chunk, file) = (column("data/chunk_index")?, column("data/file_index")?);
                let tasks = table::string_lists(table::column(batch, "tasks")?)?;
                for (i, tasks) in tasks.into_iter().enumerate() {
                    rows.push((index[i], length[i], from[i]..to[i], (chunk[i], file[i]), tasks));
                }
                Ok(())
            },
        )?;
    }
    rows.sort_by_key(|row| row.0);
    let mut files = BTreeSet::new();
    let mut episodes: Vec<Episode> = Vec::with_capacity(rows.len());
    for (i, (index, length, frames, (chunk, file), tasks)) in rows.into_iter().enumerate() {
        let start = episodes.last().map_or(0, |e| e.frames.end) as i64;
        let whole = index == i as i64 && frames.start == start && frames.end - frames.start == length;
        if !whole || length <= 0 || chunk < 0 || file < 0 {
            return Err(Error::input(format!(
                "{}/meta/episodes: episode {index} with frames {frames:?} and length {length} does not follow episode \
                 {} up to frame {start}; the dataset is incomplete: copy it again",
                root.display(),
                i as i64 - 1
            )));
        }
        files.insert((chunk as usize, file as usize));
        episodes.push(Episode { frames: start as usize..frames.end as usize, tasks });
    }
    Ok((episodes, files))
}

/// All `chunk-*/file-*.parquet` below a folder, sorted.
fn parquet_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let list = |folder: &Path| -> std::io::Result<Vec<PathBuf>> {
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
    };
    let failed = |e| Error::input(format!("cannot read {} ({e}); copy the dataset again", folder.display()));
    let mut files = Vec::new();
    for chunk in list(folder).map_err(failed)?.into_iter().filter(|path| path.is_dir()) {
        files.extend(list(&chunk).map_err(failed)?);
    }
    files.retain(|path| path.extension().is_some_and(|e| e == "parquet"));
    files.sort();
    Ok(files)
}

/// The task sentences, by row.
///
/// # Errors
/// If the file is missing or broken.
pub(super) fn read_tasks(path: &Path) -> Result<Vec<String>> {
    let mut tasks = Vec::new();
    let name = |name: &str| ["task", "__index_level_0__"].contains(&name);
    table::scan(path, name, |batch| {
        let array = batch.columns().first().ok_or_else(|| Error::input("no column `task`"))?;
        tasks.extend(table::strings(array.as_ref())?);
        Ok(())
    })?;
    Ok(tasks)
}
