//! `flowgpu report`: finished evaluations as one page.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::common::{note, write_file};
use crate::eval::artifact::{Artifact, relabel};
use crate::eval::labels::Label;
use crate::eval::page::page;
use crate::{Error, Result};

/// Flags of the subcommand.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folders that `flowgpu eval --output-dir` wrote; each is compared with the first
    #[arg(required = true, value_name = "DIR")]
    folders: Vec<PathBuf>,
    /// The page: one file, with everything in it [default: report.html in DIR, or beside the first of several]
    #[arg(long, value_name = "FILE.html")]
    output_file: Option<PathBuf>,
    /// Corrects why an episode failed, in the folder's labels.json; without a label takes the correction back
    #[arg(long, value_name = "EPISODE=LABEL")]
    relabel: Vec<String>,
}

/// Corrects labels and writes the page.
///
/// # Errors
/// If a folder is no finished evaluation, a correction does not fit it, or the disk refuses.
pub fn run(args: Args) -> Result<()> {
    let mut artifacts = args.folders.iter().map(Artifact::read).collect::<Result<Vec<_>>>()?;
    let corrections = args.relabel.iter().map(|text| correction(text)).collect::<Result<BTreeMap<_, _>>>()?;
    match artifacts.as_mut_slice() {
        [artifact] => correct(artifact, &corrections)?,
        _ if !corrections.is_empty() => {
            return Err(Error::input("--relabel is for one folder: give that one alone"));
        }
        _ => {}
    }
    let output = args.output_file.unwrap_or_else(|| match args.folders.as_slice() {
        [one] => one.join("report.html"),
        // There is at least one.
        several => several[0].with_file_name("report.html"),
    });
    write_file(&output, page(&artifacts)?.as_bytes())
}

/// Keeps corrections and says what they changed.
fn correct(artifact: &mut Artifact, corrections: &BTreeMap<usize, Option<Label>>) -> Result<()> {
    let labels = |artifact: &Artifact| -> Vec<Option<Label>> {
        artifact.episodes.iter().map(|episode| artifact.label(episode)).collect()
    };
    let before = labels(artifact);
    relabel(artifact, corrections)?;
    let after = labels(artifact);
    for (&episode, correction) in corrections {
        let by = if correction.is_some() { "a person" } else { "the rules" };
        if let (Some(before), Some(after)) = (before[episode], after[episode]) {
            note(match before == after {
                true => format!("episode {episode} stays {after}, by {by}"),
                false => format!("episode {episode} was {before}, is {after} by {by}"),
            });
        }
    }
    Ok(())
}

/// Reads `17=control`, or `17=` for taking a correction back.
fn correction(text: &str) -> Result<(usize, Option<Label>)> {
    let parts =
        text.split_once('=').and_then(|(episode, label)| Some((episode.trim().parse().ok()?, label.trim())));
    let Some((episode, label)) = parts else {
        return Err(Error::input(format!(
            "--relabel {text}: use EPISODE=LABEL, as in 17=control, or 17= to take it back"
        )));
    };
    let label = (!label.is_empty()).then(|| Label::named(label)).transpose();
    Ok((episode, label.map_err(|e| e.at(format!("--relabel {text}")))?))
}
