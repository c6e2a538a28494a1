//! The `splits` of `meta/info.json`: which episodes train, and which are kept for other ends.

use std::ops::Range;

use super::{Dataset, Info, Split, info::INFO_PATH, split_episodes};
use crate::{Error, Result};

/// The split that is trained on.
pub const TRAIN: &str = "train";
/// The split that the validation loss is of.
pub const VALIDATION: &str = "validation";
/// The split of episodes that are harder than what a policy is made for.
pub const STRESS: &str = "stress";

/// A range of episodes with a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedSplit {
    /// What it is called.
    pub name: String,
    /// Its episodes.
    pub episodes: Range<usize>,
}

impl NamedSplit {
    /// The same after so many other episodes.
    pub(super) fn after(self, episodes: usize) -> Self {
        let Range { start, end } = self.episodes;
        Self { name: self.name, episodes: start + episodes..end + episodes }
    }
}

impl Info {
    /// The splits in the file's order. Where the file has none, all episodes are [`TRAIN`].
    ///
    /// # Errors
    /// Names the file and the split that is no range of the data set's episodes, or shares some with another.
    pub fn named_splits(&self) -> Result<Vec<NamedSplit>> {
        if self.splits.is_empty() {
            return Ok(vec![NamedSplit { name: TRAIN.into(), episodes: 0..self.total_episodes }]);
        }
        let mut splits: Vec<NamedSplit> = Vec::with_capacity(self.splits.len());
        for (name, value) in &self.splits {
            let wrong = |what: String| Error::input(format!("{INFO_PATH}: split `{name}` {what}"));
            let range = value.as_str().and_then(|text| text.split_once(':'));
            let number = |text: &str| text.trim().parse::<usize>().ok();
            let range = range.and_then(|(from, to)| Some(number(from)?..number(to)?));
            let Some(episodes @ Range { start, end }) = range else {
                return Err(wrong(format!("is {value}; write it as \"0:{}\"", self.total_episodes)));
            };
            if start > end || end > self.total_episodes {
                return Err(wrong(format!(
                    "is {value}, but the data set has the episodes 0:{}",
                    self.total_episodes
                )));
            }
            let shares = |other: &&NamedSplit| start.max(other.episodes.start) < end.min(other.episodes.end);
            if let Some(other) = splits.iter().find(shares) {
                return Err(wrong(format!(
                    "is {value}, which shares episodes with split `{}`, {}:{}; an episode is in one split at most",
                    other.name, other.episodes.start, other.episodes.end
                )));
            }
            splits.push(NamedSplit { name: name.clone(), episodes });
        }
        Ok(splits)
    }
}

impl Dataset {
    /// The episodes of a split, ascending.
    pub fn split(&self, name: &str) -> Vec<usize> {
        let ranges = self.splits.iter().filter(|split| split.name == name);
        let all = ranges.flat_map(|split| split.episodes.clone());
        all.filter(|&episode| episode < self.episodes.len()).collect()
    }

    /// Leaves a split its first episodes only.
    pub fn keep_first(&mut self, name: &str, episodes: usize) {
        let mut left = episodes;
        for split in self.splits.iter_mut().filter(|split| split.name == name) {
            let kept = split.episodes.len().min(left);
            split.episodes.end = split.episodes.start + kept;
            left -= kept;
        }
    }

    /// The episodes of the split `name` to train on; those of [`VALIDATION`] to validate on, or, where there are none or
    /// these are trained on, the share that [`split_episodes`] holds out.
    ///
    /// # Errors
    /// If no episode is in that split; as [`split_episodes`].
    pub fn split_for_training(&self, name: &str, share: f64, seed: u64) -> Result<Split> {
        let train = self.split(name);
        if train.is_empty() {
            let known: Vec<_> = self.splits.iter().map(|split| format!("`{}`", split.name)).collect();
            return Err(Error::input(format!(
                "{}: no episode is in split `{name}`; there are {}: choose one with --dataset-split",
                self.roots[0].join(INFO_PATH).display(),
                known.join(", ")
            )));
        }
        let validation = if name == VALIDATION { Vec::new() } else { self.split(VALIDATION) };
        if !validation.is_empty() {
            return Ok(Split { train, validation });
        }
        let chosen = split_episodes(train.len(), share, seed)?;
        let of = |places: Vec<usize>| places.into_iter().map(|i| train[i]).collect();
        Ok(Split { train: of(chosen.train), validation: of(chosen.validation) })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{DatasetWriter, Feature, Features};
    use super::*;

    /// Ten episodes of one frame.
    fn recorded(splits: &[(&str, usize)]) -> (tempfile::TempDir, Info) {
        let root = tempfile::tempdir().expect("a folder");
        let features = Features::new().with("action", Feature::vector(&["x"]));
        let mut writer = DatasetWriter::create(root.path(), 10, None, &features).expect("creates");
        for episode in 0..10 {
            if let Some((name, _)) = splits.iter().find(|split| split.1 == episode) {
                writer.begin_split(name).expect("begins");
            }
            writer.add_frame(&[], &[("action", &[episode as f32])], "count").expect("adds");
            writer.end_episode().expect("ends");
        }
        let info = writer.finish().expect("finishes");
        (root, info)
    }

    fn rewritten(root: &tempfile::TempDir, info: &Info, splits: serde_json::Value) -> Result<Dataset> {
        let splits = splits.as_object().expect("a map").clone();
        Info { splits, ..info.clone() }.write(root.path()).expect("writes");
        Dataset::open(root.path())
    }

    #[test]
    fn what_is_written_in_splits_is_read_and_trained_on_in_splits() {
        let (root, info) = recorded(&[("validation", 6), ("stress", 9)]);
        assert_eq!(json!(info.splits), json!({"train": "0:6", "validation": "6:9", "stress": "9:10"}));
        let mut dataset = Dataset::open(root.path()).expect("reads");
        assert_eq!(dataset.split("stress"), [9]);
        let split = dataset.split_for_training(TRAIN, 0.5, 0).expect("splits");
        assert_eq!((split.train, split.validation), ((0..6).collect(), vec![6, 7, 8]));
        let split = dataset.split_for_training(VALIDATION, 0.3, 0).expect("splits");
        assert_eq!((split.train.len(), split.validation.len()), (2, 1));
        assert!([split.train, split.validation].concat().iter().all(|episode| (6..9).contains(episode)));
        dataset.keep_first(TRAIN, 2);
        assert_eq!(dataset.split_for_training(TRAIN, 0.5, 0).expect("splits").train, [0, 1]);
        let error = dataset.split_for_training("test", 0.0, 0).expect_err("no such split");
        assert!(error.to_string().contains("no episode is in split `test`; there are `train`"), "{error}");
    }

    #[test]
    fn without_splits_every_episode_trains_and_the_seed_holds_some_out() {
        let (root, info) = recorded(&[]);
        assert_eq!(json!(info.splits), json!({"train": "0:10"}));
        let dataset = Dataset::open(root.path()).expect("reads");
        assert_eq!(
            dataset.split_for_training(TRAIN, 0.2, 3).expect("splits"),
            split_episodes(10, 0.2, 3).expect("splits")
        );
        let bare = rewritten(&root, &info, json!({})).expect("reads");
        assert_eq!(bare.splits, dataset.splits);
    }

    #[test]
    fn splits_of_several_folders_follow_one_another() {
        let (one, _) = recorded(&[("validation", 8)]);
        let (two, _) = recorded(&[("validation", 9)]);
        let mut both = Dataset::open_all(&[one.path(), two.path()]).expect("reads");
        assert_eq!(both.split(VALIDATION), [8, 9, 19]);
        both.keep_first(TRAIN, 10);
        assert_eq!(both.split(TRAIN), [0, 1, 2, 3, 4, 5, 6, 7, 10, 11]);
    }

    #[test]
    fn ranges_that_contradict_each_other_are_refused_with_file_and_split() {
        let (root, info) = recorded(&[]);
        for (splits, expected) in [
            (json!({"train": "0:6", "test": "5:10"}), "split `test` is \"5:10\", which shares episodes with"),
            (json!({"train": "0:11"}), "split `train` is \"0:11\", but the data set has the episodes 0:10"),
            (json!({"train": "3:2"}), "split `train` is \"3:2\""),
            (json!({"train": "all"}), "split `train` is \"all\"; write it as \"0:10\""),
            (json!({"train": [0, 1]}), "split `train` is [0,1]"),
        ] {
            let error = rewritten(&root, &info, splits).expect_err(expected);
            assert!(error.to_string().contains(expected), "{error}");
            assert!(error.to_string().contains("meta/info.json"), "{error}");
            assert_eq!(error.exit_code(), 2);
        }
        rewritten(&root, &info, json!({"train": "0:6", "none": "6:6", "test": "6:10"})).expect("reads");
    }

    #[test]
    fn a_split_is_one_range() {
        let root = tempfile::tempdir().expect("a folder");
        let features = Features::new().with("action", Feature::vector(&["x"]));
        let mut writer = DatasetWriter::create(root.path(), 10, None, &features).expect("creates");
        writer.begin_split(TRAIN).expect("it has begun");
        writer.begin_split(STRESS).expect("begins");
        assert!(writer.begin_split(TRAIN).is_err());
    }
}
