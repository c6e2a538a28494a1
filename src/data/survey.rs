//! What is found in a dataset when everything is looked at, and what is odd about it.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use super::{
    Dataset, Overview,
    dataset::{MAX_KEPT_BYTES, matters},
    rows::Column,
};
use crate::{Error, Result};

/// A camera as it is found, whatever is declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Camera {
    /// `[3, H, W]` of the first frame.
    pub shape: [usize; 3],
    /// How its pictures are kept: PNG, JPEG, av1 or h264.
    pub storage: String,
}

/// A dataset that was looked through.
#[derive(Debug)]
pub struct Survey {
    /// Its `meta` folder.
    pub overview: Overview,
    /// Its frames, if they can be read at all; not finite values are left in.
    pub dataset: Option<Dataset>,
    /// The cameras whose first picture can be read.
    pub cameras: BTreeMap<String, Camera>,
    /// What is odd, a sentence each.
    pub problems: Vec<String>,
    /// Why training would refuse it.
    pub fault: Option<Error>,
}

impl Survey {
    /// Looks through a folder. Episodes shorter than `chunk_size` are a problem, if it is given.
    ///
    /// # Errors
    /// If the `meta` folder cannot be read.
    pub fn of(root: &Path, chunk_size: Option<usize>) -> Result<Self> {
        let overview = Overview::read(root)?;
        let mut survey =
            Self { overview, dataset: None, cameras: BTreeMap::new(), problems: Vec::new(), fault: None };
        survey.count(chunk_size);
        match Dataset::read(survey.overview.clone(), MAX_KEPT_BYTES) {
            Ok(mut dataset) => {
                let faults = dataset.faults();
                survey.fault = faults.first().map(Error::input);
                survey.problems.extend(faults);
                survey.look_at_statistics(&mut dataset);
                survey.problems.append(&mut dataset.warnings);
                survey.look_at_cameras(&dataset);
                survey.look_at_time(&dataset);
                survey.dataset = Some(dataset);
            }
            Err(fault) => {
                survey.problems.push(fault.to_string());
                survey.fault = Some(fault);
            }
        }
        Ok(survey)
    }

    /// What `meta/info.json` says against what the other files of the folder say.
    fn count(&mut self, chunk_size: Option<usize>) {
        let (info, episodes) = (&self.overview.info, &self.overview.episodes);
        for (name, said, found) in [
            ("total_episodes", info.total_episodes, episodes.len()),
            ("total_tasks", info.total_tasks, self.overview.tasks.len()),
        ] {
            if said != found {
                self.problems.push(format!("meta/info.json says {name} {said}, but there are {found}"));
            }
        }
        let Some(chunk) = chunk_size else { return };
        let short: Vec<_> = (0..episodes.len()).filter(|&i| episodes[i].frames.len() < chunk).collect();
        if let Some(first) = short.first() {
            self.problems.push(format!(
                "{} of {} episodes are shorter than a chunk of {chunk} (the first is episode {first} with {} frames): \
                 every chunk of theirs is padded",
                short.len(),
                episodes.len(),
                episodes[*first].frames.len()
            ));
        }
    }

    /// Statistics that are not there, or that the data exceed.
    fn look_at_statistics(&mut self, dataset: &mut Dataset) {
        let features = &self.overview.info.features;
        for (key, _) in features
            .iter()
            .filter(|(key, feature)| matters(key) && (feature.is_visual() || feature.dtype.is_number()))
        {
            let kept = &self.overview.stats;
            let lacks = |names: &[&str]| names.iter().any(|name| kept.get(key, name).is_err());
            if lacks(&["min", "max", "mean", "std"]) {
                self.problems
                    .push(format!("`{key}` has no statistics; they are computed where they are needed"));
            } else if lacks(&["q01", "q99"]) {
                self.problems
                    .push(format!("`{key}` has no quantiles; they are computed where they are needed"));
            }
        }
        // A dataset with a fault has no whole statistics.
        if let Err(error) = dataset.complete_vectors() {
            self.problems.push(error.to_string());
        }
        for (key, width, values) in dataset.all_vectors().filter(|(key, ..)| matters(key)) {
            let (Ok(low), Ok(high)) = (dataset.stats.get(key, "min"), dataset.stats.get(key, "max")) else {
                continue;
            };
            let beyond = |(i, value): &(usize, &f32)| {
                let (Some(low), Some(high)) = (low.values.get(i % width), high.values.get(i % width)) else {
                    return true;
                };
                let slack = 1e-6 * low.abs().max(high.abs());
                f64::from(**value) < low - slack || f64::from(**value) > high + slack
            };
            if let Some((i, value)) = values.iter().enumerate().find(beyond) {
                self.problems.push(format!(
                    "`{key}` of frame {} holds {value} in dimension {}, beyond its statistics: they are of other data",
                    i / width,
                    i % width
                ));
            }
        }
    }

    /// Declared shapes that lie, pictures and videos that are missing or too short.
    fn look_at_cameras(&mut self, dataset: &Dataset) {
        for (key, column) in dataset.columns() {
            let storage = match column {
                Column::Vectors { .. } => continue,
                Column::Pictures(pictures) => pictures.storage(),
                Column::Footage(footage) => footage.storage(),
            };
            match dataset.image_shape(key).and_then(|shape| Ok((shape, storage?))) {
                Ok((shape, storage)) => {
                    let declared = self.overview.info.features.get(key).map(|feature| feature.policy_shape());
                    if declared.as_deref() != Some(&shape) {
                        self.problems.push(format!(
                            "`{key}` is declared as {:?}, but its pictures are {shape:?}; they count",
                            declared.unwrap_or_default()
                        ));
                    }
                    self.cameras.insert(key.to_owned(), Camera { shape, storage });
                }
                Err(error) => self.problems.push(error.to_string()),
            }
            let Column::Footage(footage) = column else { continue };
            let mut told: Option<Arc<Path>> = None;
            for (i, episode) in dataset.episodes.iter().enumerate() {
                let checked = footage.check(i, episode.frames.end - 1);
                let Err(error) = checked else { continue };
                let file = footage.file(i);
                // One sentence a file: what is missing is missing for all its episodes.
                if told != file {
                    self.problems.push(format!("`{key}`, episode {i}: {error}"));
                    told = file;
                }
            }
        }
    }

    /// Times that are not those of the frame rate.
    fn look_at_time(&mut self, dataset: &Dataset) {
        let Ok((1, times)) = dataset.vectors("timestamp") else { return };
        let fps = dataset.info.fps;
        let odd = |frame: &usize| {
            let start = dataset.episode_range(*frame).start;
            let expected = (frame - start) as f64 / fps;
            // A tenth of a frame, or what single precision leaves of hours.
            let slack = (0.1 / fps).max(expected * 1e-6);
            (f64::from(times[*frame]) - expected).abs() > slack || !times[*frame].is_finite()
        };
        let odd: Vec<usize> = (0..times.len()).filter(odd).collect();
        if let Some(&first) = odd.first() {
            self.problems.push(format!(
                "{} timestamps are not those of {fps} frames per second (the first is {} at frame {first}); frames are \
                 counted, timestamps are not used",
                odd.len(),
                times[first]
            ));
        }
    }
}
