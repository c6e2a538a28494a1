//! A dataset, looked through.

use serde_json::{Value, json};

use super::{Shown, Statistic, statistics_json, statistics_text};
use crate::cli::common::table;
use crate::cli::contract::{in_words, read};
use crate::cli::recording::license_of;
use crate::data::{Feature, Survey};

/// What is in it, as declared and as found.
pub fn shown(survey: &Survey) -> Shown {
    let (overview, info) = (&survey.overview, &survey.overview.info);
    let (shortest, longest) = overview.episode_lengths().unwrap_or((0, 0));
    let mut text = format!(
        "dataset {}\n{} frames in {} episodes of {shortest} to {longest}, {} frames per second, robot {}, format {}\n",
        overview.root.display(),
        info.total_frames,
        info.total_episodes,
        info.fps,
        info.robot_type.as_deref().unwrap_or("unknown"),
        info.codebase_version,
    );
    let license = license_of(&overview.root);
    text.extend(license.iter().map(|license| format!("licence {license}, by its card README.md\n")));
    let mut problems = survey.problems.clone();
    let contract = read(&overview.root).unwrap_or_else(|e| {
        problems.push(e.to_string());
        None
    });
    let features = info.features.iter().map(|(key, feature)| {
        let names = if feature.names.is_null() { String::new() } else { feature.names.to_string() };
        let (declared, kind) = (format!("{:?}", feature.shape), feature.dtype.to_string());
        [format!("  {key}"), kind, declared, found(survey, key, feature), names]
    });
    text += "features\n";
    text += &table(&features.collect::<Vec<_>>());
    text += "tasks\n";
    text.extend(overview.tasks.iter().enumerate().map(|(i, task)| format!("  {i}  {task}\n")));
    text += "splits\n";
    text.extend(info.splits.iter().map(|(name, episodes)| format!("  {name}  {episodes}\n")));
    let stats = survey.dataset.as_ref().map_or(&overview.stats, |dataset| &dataset.stats);
    let statistics: Vec<Statistic> = (stats.iter())
        .flat_map(|(key, stats)| {
            stats.iter().map(move |(name, stat)| (key.to_owned(), name.clone(), stat.values.clone()))
        })
        .collect();
    text += &statistics_text(&statistics);
    text.extend(contract.iter().map(|contract| format!("recorded in {}", in_words(contract))));
    text += if problems.is_empty() { "no problems found\n" } else { "problems\n" };
    text.extend(problems.iter().map(|problem| format!("  {problem}\n")));
    let cameras = survey
        .cameras
        .iter()
        .map(|(key, camera)| (key.clone(), json!({"shape": camera.shape, "storage": camera.storage})));
    // The rate as info.json has it: whole numbers without a point.
    let fps = serde_json::to_value(info).map_or(Value::Null, |info| info["fps"].clone());
    let json = json!({
        "kind": "dataset", "path": overview.root.display().to_string(), "format": info.codebase_version,
        "robot_type": info.robot_type, "fps": fps, "frames": info.total_frames,
        "episodes": info.total_episodes, "shortest_episode": shortest, "longest_episode": longest,
        "features": info.features, "cameras": Value::Object(cameras.collect()), "tasks": overview.tasks,
        "splits": info.splits, "statistics": statistics_json(&statistics), "problems": problems,
        "license": license, "contract": contract,
    });
    Shown { text, json, notes: Vec::new() }
}

/// What a feature is when it is read.
fn found(survey: &Survey, key: &str, feature: &Feature) -> String {
    if let Some(camera) = survey.cameras.get(key) {
        return format!("{:?} {}", camera.shape, camera.storage);
    }
    let dataset = survey.dataset.as_ref();
    match dataset.and_then(|dataset| dataset.vectors(key).ok()) {
        Some((width, _)) => format!("[{width}]"),
        None if feature.is_visual() => "cannot be read".into(),
        None => "not read".into(),
    }
}
