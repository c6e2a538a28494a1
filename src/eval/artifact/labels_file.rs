//! `labels.json`: failure labels that a person corrected. They outlive the rules' own.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::folder::write_json;
use super::{Artifact, files};
use crate::eval::labels::Label;
use crate::{Error, Result};

/// The corrected labels of a folder, by episode; none where there is no such file.
///
/// # Errors
/// If the file is damaged, or names an episode or a label that there is not.
pub fn read_labels(folder: &Path, episodes: usize) -> Result<BTreeMap<usize, Label>> {
    let path = folder.join(files::LABELS);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(e) => return Err(Error::input(format!("{}: cannot be read: {e}", path.display()))),
    };
    let labels: BTreeMap<usize, Label> = serde_json::from_str(&text)
        .map_err(|e| Error::input(format!("{}: is no list of labels: {e}", path.display())))?;
    match labels.keys().find(|&&episode| episode >= episodes) {
        Some(episode) => Err(Error::input(format!("{}: there is no episode {episode}", path.display()))),
        None => Ok(labels),
    }
}

/// Keeps a person's labels of failed episodes, all or none; no label takes a correction back.
///
/// # Errors
/// If there is no such episode, or it did not fail.
pub fn relabel(artifact: &mut Artifact, corrections: &BTreeMap<usize, Option<Label>>) -> Result<()> {
    if corrections.is_empty() {
        return Ok(());
    }
    let place = artifact.folder.display().to_string();
    for &episode in corrections.keys() {
        let Some(record) = artifact.episodes.get(episode) else {
            let last = artifact.episodes.len().saturating_sub(1);
            return Err(Error::input(format!("{place}: there is no episode {episode}: use 0 to {last}")));
        };
        if record.succeeded() {
            return Err(Error::input(format!("{place}: episode {episode} did not fail: it has no label")));
        }
    }
    for (&episode, label) in corrections {
        match label {
            Some(label) => artifact.corrected.insert(episode, *label),
            None => artifact.corrected.remove(&episode),
        };
    }
    write_json(&artifact.folder.join(files::LABELS), &artifact.corrected)
}
