//! `meta/episodes` and `meta/tasks.parquet`: which frames belong together, and what they are about.

use std::{
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

/// An episode, and the files that hold it, each as (chunk, file).
pub(super) struct Row {
    pub episode: Episode,
    pub data: (usize, usize),
    /// A camera each, in the order asked for, with the second at which the episode begins in its file.
    pub videos: Vec<(usize, usize, f64)>,
}

/// The episodes in order, with their clips of some cameras.
///
/// # Errors
/// If a file is missing or broken, or episodes do not follow one another.
pub(super) fn read_episodes(root: &Path, cameras: &[String]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for path in parquet_files(&root.join("meta/episodes"))? {
        let keep = |name: &str| !name.starts_with("stats/");
        table::scan(&path, keep, table::MANY_ROWS, |batch| {
            let column = |name| table::integers(batch, name);
            let index = column("episode_index")?;
            let (from, to) = (column("dataset_from_index")?, column("dataset_to_index")?);
            let places = table::places(batch, "data")?;
            let mut tasks = match batch.column_by_name("tasks") {
                Some(tasks) => table::string_lists(tasks.as_ref())?,
                None => vec![Vec::new(); index.len()],
            };
            let mut videos = Vec::new();
            for key in cameras {
                let starts = table::seconds(batch, &format!("videos/{key}/from_timestamp"))?;
                videos.push((table::places(batch, &format!("videos/{key}"))?, starts));
            }
            for (i, tasks) in tasks.drain(..).enumerate() {
                let clip = |(places, starts): &(Vec<(usize, usize)>, Vec<f64>)| {
                    (places[i].0, places[i].1, starts[i])
                };
                rows.push((index[i], from[i], to[i], places[i], videos.iter().map(clip).collect(), tasks));
            }
            Ok(())
        })?;
    }
    rows.sort_by_key(|row| row.0);
    let mut episodes: Vec<Row> = Vec::with_capacity(rows.len());
    for (i, (index, from, to, data, videos, tasks)) in rows.into_iter().enumerate() {
        let start = episodes.last().map_or(0, |row| row.episode.frames.end) as i64;
        if index != i as i64 || from != start || to <= from {
            return Err(Error::input(format!(
                "{}/meta/episodes: episode {index} with frames {from}..{to} does not follow episode {} up to frame \
                 {start}; the dataset is incomplete: copy it again",
                root.display(),
                i as i64 - 1
            )));
        }
        let episode = Episode { frames: start as usize..to as usize, tasks };
        episodes.push(Row { episode, data, videos });
    }
    Ok(episodes)
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
    table::scan(path, name, table::MANY_ROWS, |batch| {
        let array = batch.columns().first().ok_or_else(|| Error::input("no column `task`"))?;
        tasks.extend(table::strings(array.as_ref())?);
        Ok(())
    })?;
    Ok(tasks)
}
