//! The folder: written group by group, taken up where it stopped, read with every doubt.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Decisions, EpisodeRecord, RunRecord, SCHEMA, TIMES, eval_info, files, read_labels};
use crate::eval::labels::Label;
use crate::{Error, Result};

/// A finished evaluation.
#[derive(Debug, Clone, PartialEq)]
pub struct Artifact {
    /// Where it is.
    pub folder: PathBuf,
    /// What was run.
    pub run: RunRecord,
    /// Every episode, in order.
    pub episodes: Vec<EpisodeRecord>,
    /// Labels that a person corrected, by episode.
    pub corrected: BTreeMap<usize, Label>,
}

impl Artifact {
    /// Reads a folder.
    ///
    /// # Errors
    /// If a file is missing, torn or of another schema, or episodes are missing: the sentence says what to do.
    pub fn read(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let run: RunRecord = read_run(folder)?;
        let episodes = read_episodes(folder)?;
        if !run.complete || episodes.len() != run.episodes {
            return Err(Error::input(format!(
                "{}: holds {} of {} episodes: run its command again to go on with it: {}",
                folder.join(files::EPISODES).display(),
                episodes.len(),
                run.episodes,
                run.command
            )));
        }
        let corrected = read_labels(folder, episodes.len())?;
        Ok(Self { folder: folder.to_owned(), run, episodes, corrected })
    }

    /// Why an episode failed: what a person said, else what rules found; none for one that did not fail.
    pub fn label(&self, episode: &EpisodeRecord) -> Option<Label> {
        let found = episode.failure.as_ref()?.label;
        Some(self.corrected.get(&episode.episode).copied().unwrap_or(found))
    }

    /// How often each failure label stands, the most frequent first.
    pub fn failures(&self) -> Vec<(Label, usize)> {
        let mut counts: BTreeMap<Label, usize> = BTreeMap::new();
        for label in self.episodes.iter().filter_map(|episode| self.label(episode)) {
            *counts.entry(label).or_default() += 1;
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        counts
    }

    /// A metric of every episode, in their order; none if an episode lacks it.
    pub fn values(&self, metric: &str) -> Option<Vec<f64>> {
        self.episodes.iter().map(|episode| episode.metric(metric)).collect()
    }
}

fn read_run(folder: &Path) -> Result<RunRecord> {
    let path = folder.join(files::RUN);
    let text = fs::read_to_string(&path).map_err(|e| {
        Error::input(format!(
            "{}: cannot be read: {e}; give a folder that `flowgpu eval --output-dir` wrote",
            path.display()
        ))
    })?;
    let value: Value = parse(&text).map_err(|e| e.at(path.display()))?;
    match value["schema"].as_u64() {
        Some(schema) if schema == u64::from(SCHEMA) => {}
        Some(schema) => {
            let advice = if schema < u64::from(SCHEMA) { "evaluate again" } else { "use a newer flowgpu" };
            return Err(Error::input(format!(
                "{}: is of schema {schema}, this program reads schema {SCHEMA}: {advice}",
                path.display()
            )));
        }
        None => return Err(Error::input(format!("{}: has no number `schema`", path.display()))),
    }
    parse(&text).map_err(|e| e.at(path.display()))
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|e| {
        let torn = if e.is_eof() { "it is cut off" } else { "it is damaged or of another program" };
        Error::input(format!("{torn}: {e}"))
    })
}

/// All lines, which must be the episodes from 0 on.
fn read_episodes(folder: &Path) -> Result<Vec<EpisodeRecord>> {
    let path = folder.join(files::EPISODES);
    let text = fs::read_to_string(&path)
        .map_err(|e| Error::input(format!("{}: cannot be read: {e}", path.display())))?;
    let mut episodes = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let place = || format!("{}, line {}", path.display(), i + 1);
        let record: EpisodeRecord = parse(line).map_err(|e| e.at(place()))?;
        if record.episode != i {
            let found = record.episode;
            return Err(Error::input(format!(
                "{}: is episode {found}, not {i}: episodes are missing",
                place()
            )));
        }
        episodes.push(record);
    }
    Ok(episodes)
}

/// A folder being written.
pub struct ArtifactWriter {
    folder: PathBuf,
    run: RunRecord,
    episodes: Vec<EpisodeRecord>,
    decisions: Vec<Decisions>,
    lines: [File; 2],
}

impl ArtifactWriter {
    /// Begins a folder, or goes on with one that stopped: whole groups of `batch_size` episodes that are there are kept.
    ///
    /// # Errors
    /// If the folder holds a finished evaluation, one of something else, or anything that is none; if the disk refuses.
    pub fn open(folder: &Path, run: RunRecord) -> Result<Self> {
        let found = folder.join(files::RUN);
        let (mut episodes, mut decisions) = (Vec::new(), Vec::new());
        if found.exists() {
            let before = read_run(folder)?;
            if before.complete {
                return Err(Error::input(format!(
                    "{} holds a finished evaluation: choose another --output-dir, or remove it",
                    folder.display()
                )));
            }
            if let Some(field) = first_difference(&before, &run) {
                return Err(Error::input(format!(
                    "{} holds a part of another evaluation: `{field}` differs; choose another --output-dir, or remove it",
                    folder.display()
                )));
            }
            episodes = whole_lines(&folder.join(files::EPISODES), |record: &EpisodeRecord| record.episode)?;
            decisions =
                whole_lines(&folder.join(files::DECISIONS), |decisions: &Decisions| decisions.episode)?;
            let whole = episodes.len().min(decisions.len()) / run.batch_size * run.batch_size;
            episodes.truncate(whole);
            decisions.truncate(whole);
        } else if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(Error::input(format!(
                "{} is not empty and holds no evaluation: choose another --output-dir",
                folder.display()
            )));
        }
        fs::create_dir_all(folder).map_err(|e| refused(folder, &e))?;
        write_json(&found, &run)?;
        let lines = [
            lines_of(&folder.join(files::EPISODES), &episodes)?,
            lines_of(&folder.join(files::DECISIONS), &decisions)?,
        ];
        Ok(Self { folder: folder.to_owned(), run, episodes, decisions, lines })
    }

    /// Episodes that are there already.
    pub fn done(&self) -> usize {
        self.episodes.len()
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What is there.
    pub fn episodes(&self) -> &[EpisodeRecord] {
        &self.episodes
    }

    /// What was decided in them.
    pub fn decisions(&self) -> &[Decisions] {
        &self.decisions
    }

    /// Where a file of the folder goes.
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// Adds a group of episodes; they are on disk when this returns.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn add(&mut self, group: Vec<EpisodeRecord>, decisions: Vec<Decisions>) -> Result<()> {
        let texts = [text_of(&group)?, text_of(&decisions)?];
        for ((lines, text), name) in self.lines.iter_mut().zip(texts).zip([files::EPISODES, files::DECISIONS])
        {
            let written = lines.write_all(text.as_bytes()).and_then(|()| lines.sync_data());
            written.map_err(|e| refused(&self.folder.join(name), &e))?;
        }
        self.episodes.extend(group);
        self.decisions.extend(decisions);
        Ok(())
    }

    /// Writes the summary and says that all is there.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn finish(mut self, seconds: f64, videos: &[String]) -> Result<PathBuf> {
        self.run.seconds = seconds;
        self.run.complete = true;
        write_json(&self.folder.join(files::INFO), &eval_info(&self.run, &self.episodes, videos))?;
        write_json(&self.folder.join(files::RUN), &self.run)?;
        let decisions = self.folder.join(files::DECISIONS);
        fs::remove_file(&decisions).map_err(|e| refused(&decisions, &e))?;
        Ok(self.folder)
    }
}

/// The lines before the first that is torn or out of order.
fn whole_lines<T: DeserializeOwned>(path: &Path, number: fn(&T) -> usize) -> Result<Vec<T>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(Error::input(format!("{}: cannot be read: {e}", path.display()))),
    };
    let records = text.lines().map(|line| serde_json::from_str::<T>(line).ok());
    Ok(records.enumerate().map_while(|(i, record)| record.filter(|record| number(record) == i)).collect())
}

/// A file of these lines, to be added to.
fn lines_of<T: Serialize>(path: &Path, lines: &[T]) -> Result<File> {
    write_whole(path, text_of(lines)?.as_bytes())?;
    OpenOptions::new().append(true).open(path).map_err(|e| refused(path, &e))
}

/// The first field in which a run that goes on differs from what it went on from; times and the spelling of the command
/// may.
fn first_difference(before: &RunRecord, now: &RunRecord) -> Option<String> {
    let fields = |run: &RunRecord| match serde_json::to_value(run) {
        Ok(Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    let (before, now) = (fields(before), fields(now));
    let may = |key: &str| TIMES.contains(&key) || ["command", "complete"].contains(&key);
    now.iter().find(|(key, value)| !may(key) && before.get(*key) != Some(value)).map(|(key, _)| key.clone())
}

/// A line of JSON each.
fn text_of<T: Serialize>(lines: &[T]) -> Result<String> {
    let line = |line: &T| Ok(serde_json::to_string(line)? + "\n");
    let text: Result<String, serde_json::Error> = lines.iter().map(line).collect();
    text.map_err(|e| Error::failure(format!("an episode cannot be written: {e}")))
}

/// Writes a JSON file beside its name and renames it.
pub(super) fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| Error::failure(format!("{}: cannot be written: {e}", path.display())))?;
    write_whole(path, (text + "\n").as_bytes())
}

fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".tmp");
    let beside = PathBuf::from(beside);
    let written = File::create(&beside)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&beside, path));
    written.map_err(|e| refused(path, &e))
}

fn refused(path: &Path, error: &std::io::Error) -> Error {
    Error::failure(format!("cannot write {}: {error}", path.display()))
}
