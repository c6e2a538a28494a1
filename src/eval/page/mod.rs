//! An evaluation as one page for people: what was measured, how sure that is, why episodes failed, the worst of them as
//! videos, and how to do it again.
//!
//! The page is a single file that asks no network for anything: styles, charts, videos and a few lines of script are in
//! it. Its own content security policy allows nothing else, so that not even a policy's name could bring in a script.
//! Equal evaluations make equal pages, byte for byte.

mod charts;
mod comparison;
mod date;
mod episodes;
mod failures;
mod html;
mod measured;
mod run;
mod sure;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest, Sha256};

use super::artifact::Artifact;
use super::compare::Summarised;
use crate::{Error, Result};
use html::{Markup, tag, tag_with};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page of one evaluation, or of several beside one another: the others are compared with the first.
///
/// # Errors
/// If there is none, or a video cannot be read.
pub fn page(artifacts: &[Artifact]) -> Result<String> {
    let Some(first) = artifacts.first() else {
        return Err(Error::input("there is no evaluation to report: give a folder"));
    };
    let names = names(artifacts);
    let title = match artifacts {
        [one] => format!("{} on {}", one.run.policy.name, one.run.contract.environment),
        several => format!("{} evaluations on {}", several.len(), environments(several)),
    };
    let mut body = Markup::none();
    let rows: Vec<Summarised> = artifacts.iter().map(Summarised::of).collect();
    if artifacts.len() > 1 {
        body.push(comparison::section(artifacts, &names, &rows)?);
    }
    for (i, (artifact, name)) in artifacts.iter().zip(&names).enumerate() {
        let mut sections = Vec::new();
        if artifacts.len() > 1 {
            sections.push(tag("h2", name.as_str()));
            sections.push(run::origin(artifact));
        }
        sections.push(sure::section(artifact, &rows[i]));
        sections.push(failures::section(artifact));
        sections.push(episodes::section(artifact)?);
        sections.push(run::time(artifact));
        sections.push(run::conditions(artifact));
        if i == 0 || !first.run.contract.differences(&artifact.run.contract).is_empty() {
            sections.push(measured::section(&artifact.run));
        }
        sections.push(run::again(artifact));
        body.push(tag_with("article", &[("id", &format!("evaluation-{}", i + 1))], sections));
    }
    Ok(document(&title, [header(&title, artifacts), tag("main", body)].into()))
}

/// What stands above all.
fn header(title: &str, artifacts: &[Artifact]) -> Markup {
    let mut content = vec![tag_with("p", &[("class", "eyebrow")], "flowgpu evaluation"), tag("h1", title)];
    if let [one] = artifacts {
        content.push(run::origin(one));
    }
    tag("header", content)
}

/// The whole file.
fn document(title: &str, body: Markup) -> String {
    let hash = |text: &str| format!("'sha256-{}'", BASE64.encode(Sha256::digest(text.as_bytes())));
    let policy = format!(
        "default-src 'none'; style-src {}; script-src {}; media-src data:; img-src data:",
        hash(STYLE),
        hash(SCRIPT)
    );
    let title = tag("title", title);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<link rel=\"icon\" href=\"data:,\">\n\
         {title}\n<style>{STYLE}</style>\n</head>\n<body>\n{body}<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )
}

/// What evaluations are called: by policy, where that is not enough by folder too, and where that is not by number.
fn names(artifacts: &[Artifact]) -> Vec<String> {
    let twice = |names: &[String], wanted: &str| names.iter().filter(|name| *name == wanted).count() > 1;
    let policies: Vec<String> = artifacts.iter().map(|artifact| artifact.run.policy.name.clone()).collect();
    let foldered =
        artifacts.iter().zip(&policies).map(|(artifact, name)| match artifact.folder.file_name() {
            Some(folder) if twice(&policies, name) => format!("{name} ({})", folder.to_string_lossy()),
            _ => name.clone(),
        });
    let foldered: Vec<String> = foldered.collect();
    let numbered = foldered.iter().enumerate().map(|(i, name)| match twice(&foldered, name) {
        true => format!("{name} #{}", i + 1),
        false => name.clone(),
    });
    numbered.collect()
}

/// `pursuit`, or `pursuit, pendulum`.
fn environments(artifacts: &[Artifact]) -> String {
    let mut all: Vec<&str> = Vec::new();
    for artifact in artifacts {
        let name = artifact.run.contract.environment.as_str();
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all.join(", ")
}
