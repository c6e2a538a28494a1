//! `trace.mcap` and `videos/`: episodes played again from what was decided.
//!
//! All episodes share their topics and follow one another in time, a second apart:
//!
//! | topic | holds |
//! |---|---|
//! | `/episode` | episode, step, distance from solved, reset seed |
//! | `/<observation key>` | what the policy was shown: numbers, or a picture |
//! | `/position` | the controlled body |
//! | `/action/decided`, `/action/executed` | before and after disturbances |
//! | `/chunk` | a chunk when it arrived: actions [H, A] |
//! | `/log` | where episodes begin and how they end |

use std::path::Path;

use super::decisions::Decisions;
use super::{EpisodeRecord, Outcome};
use crate::Result;
use crate::image::Image;
use crate::report::trace_file::{ChunksChannel, NumbersChannel, PicturesChannel, TextChannel, TraceWriter};
use crate::sim::rollout::play_again;
use crate::sim::{Environment, Observation, Spec};
use crate::video::VideoWriter;

/// Seconds between two episodes of a trace.
const PAUSE: f64 = 1.0;

/// The topics of a trace.
struct Topics {
    episode: NumbersChannel,
    numbers: Vec<(&'static str, NumbersChannel)>,
    pictures: Vec<(&'static str, [usize; 2], PicturesChannel)>,
    position: NumbersChannel,
    decided: NumbersChannel,
    executed: NumbersChannel,
    chunk: ChunksChannel,
    log: TextChannel,
}

impl Topics {
    fn of(writer: &mut TraceWriter, spec: &'static Spec, positions: usize) -> Result<Self> {
        let (mut numbers, mut pictures) = (Vec::new(), Vec::new());
        for feature in spec.observations {
            let topic = format!("/{}", feature.key.replace('.', "/"));
            match *feature.shape {
                [3, height, width] => {
                    pictures.push((feature.key, [height, width], writer.pictures(&topic)?));
                }
                _ => numbers.push((feature.key, writer.numbers(&topic, feature.names)?)),
            }
        }
        let places: Vec<String> = (0..positions).map(|i| format!("p{i}")).collect();
        let places: Vec<&str> = places.iter().map(String::as_str).collect();
        Ok(Self {
            episode: writer.numbers("/episode", &["episode", "step", "distance", "seed"])?,
            numbers,
            pictures,
            position: writer.numbers("/position", &places)?,
            decided: writer.numbers("/action/decided", spec.action.names)?,
            executed: writer.numbers("/action/executed", spec.action.names)?,
            chunk: writer.chunks("/chunk", spec.action.names)?,
            log: writer.text("/log")?,
        })
    }
}

/// Writes the trace of all episodes. `metadata` goes in front.
///
/// # Errors
/// If the environment refuses a decision, or the disk.
pub fn write_trace(
    path: &Path,
    environment: &dyn Environment,
    episodes: &[EpisodeRecord],
    decisions: &[Decisions],
    metadata: &[(&str, &str)],
) -> Result<()> {
    let spec = environment.spec();
    let mut writer = TraceWriter::create(path)?;
    writer.metadata("flowgpu", metadata)?;
    let topics = Topics::of(&mut writer, spec, environment.position().len())?;
    let mut seen = Observation::default();
    let period = 1.0 / f64::from(spec.fps);
    let mut start = 0.0;
    for (record, decisions) in episodes.iter().zip(decisions) {
        let begins = format!("episode {} from seed {}", record.episode, record.seed);
        writer.write_text(topics.log, start, &begins)?;
        // Chunks come and go by decisions, of which there may be fewer than steps.
        let mut decision = 0;
        play_again(environment, record.seed, &decisions.actions, &mut |environment, step| {
            let now = start + step as f64 * period;
            let at = [record.episode as f64, step as f64, environment.distance(), record.seed as f64];
            writer.write_numbers(topics.episode, now, &at)?;
            writer.write_numbers(topics.position, now, &environment.position())?;
            environment.observe(&mut seen);
            for (key, channel) in &topics.numbers {
                let values: Vec<f64> = seen.vector(key).iter().map(|&v| f64::from(v)).collect();
                writer.write_numbers(*channel, now, &values)?;
            }
            for (key, size, channel) in &topics.pictures {
                writer.write_picture(*channel, now, &Image::of_planes(*size, seen.picture(key)))?;
            }
            if environment.takes_decision() {
                for chunk in decisions.chunks.iter().filter(|chunk| chunk.arrived == decision) {
                    let rows = chunk.actions.len() / spec.low.len();
                    writer.write_chunk(topics.chunk, now, rows, &chunk.actions)?;
                }
                decision += 1;
            }
            if let (Some(decided), Some(executed)) =
                (decisions.actions.get(step), decisions.executed.get(step))
            {
                writer.write_numbers(topics.decided, now, decided)?;
                writer.write_numbers(topics.executed, now, executed)?;
            }
            Ok(())
        })?;
        start += record.steps as f64 * period;
        let how = match (record.outcome, &record.failure) {
            (Outcome::Success, _) => "success".to_owned(),
            (Outcome::Failure, Some(failure)) => format!("failure: {}, {}", failure.label, failure.rule),
            (Outcome::Failure, None) => "failure".to_owned(),
        };
        writer.write_text(topics.log, start, &format!("episode {} ends: {how}", record.episode))?;
        start += PAUSE;
    }
    writer.finish()
}

/// The worst episodes, the worst first: those that failed, then by return.
pub fn worst_first(episodes: &[EpisodeRecord]) -> Vec<&EpisodeRecord> {
    let mut all: Vec<&EpisodeRecord> = episodes.iter().collect();
    all.sort_by(|a, b| {
        (a.succeeded(), a.sum_reward)
            .partial_cmp(&(b.succeeded(), b.sum_reward))
            .unwrap_or(std::cmp::Ordering::Equal)
    });
    all
}

/// Writes videos of these episodes into a folder; their paths below `root`.
///
/// # Errors
/// If the environment refuses a decision, or the disk.
pub fn write_videos(
    root: &Path,
    environment: &dyn Environment,
    episodes: &[&EpisodeRecord],
    decisions: &[Decisions],
) -> Result<Vec<String>> {
    let folder = super::files::VIDEOS;
    if !episodes.is_empty() {
        let path = root.join(folder);
        std::fs::create_dir_all(&path)
            .map_err(|e| crate::Error::failure(format!("cannot write {}: {e}", path.display())))?;
    }
    let mut paths = Vec::new();
    for record in episodes {
        let Some(decisions) = decisions.get(record.episode) else { continue };
        let name = format!("{folder}/eval_episode_{}.mp4", record.episode);
        let mut video: Option<VideoWriter> = None;
        play_again(environment, record.seed, &decisions.actions, &mut |environment, _| {
            let picture = environment.render();
            let video = match &mut video {
                Some(video) => video,
                None => {
                    let (width, height) = (picture.width, picture.height);
                    let fps = environment.spec().fps;
                    video.insert(VideoWriter::create(root.join(&name), width, height, fps)?)
                }
            };
            video.push(&picture)
        })?;
        if let Some(video) = video {
            video.finish()?;
            paths.push(name);
        }
    }
    Ok(paths)
}
