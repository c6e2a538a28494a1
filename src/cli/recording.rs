//! Recordings as dataset folders: what `collect` writes, and `train` where there is no dataset yet.

mod card;
mod parts;

use std::fs;
use std::path::{Path, PathBuf};

use super::common::note;
use super::contract;
use crate::data::{DatasetWriter, Dtype, Feature, Features, TRAIN};
use crate::image::Image;
use crate::sim::record::{Options, Recorded, record};
use crate::sim::rollout::Driver;
use crate::sim::{self, Environment, Scripted, Spec};
use crate::{Error, Result};
pub use card::{LICENSE, check_license, license_of};
pub use parts::{Part, default_mixture, held_out};
use parts::{first_seed, numbers};

/// All that a recording is made from.
pub struct Plan<'a> {
    /// Recorded one after the other, those that are trained on first.
    pub parts: Vec<Part>,
    /// Who acts in all of them.
    pub driver: Box<Driver<'a>>,
    /// The same in a word: what `--policy` takes.
    pub operator: String,
    /// Another seed, other episodes.
    pub seed: u64,
    /// How pictures of a width and a height are kept: [`Feature::image`] or [`Feature::video`].
    pub picture: fn(usize, usize) -> Feature,
    /// The licence that the card names.
    pub license: String,
    /// What records the same again.
    pub command: String,
}

impl Plan<'static> {
    /// One of the experts drives, pictures are exact, and the licence is the default one.
    pub fn of_expert(parts: Vec<Part>, expert: Scripted, operator: &str, command: String) -> Self {
        Self {
            parts,
            driver: expert.driver(),
            operator: operator.to_owned(),
            seed: 0,
            picture: Feature::image,
            license: LICENSE.to_owned(),
            command,
        }
    }
}

/// What a recording left on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Episodes and frames.
    pub recorded: Recorded,
    /// Bytes of the folder's files.
    pub bytes: u64,
}

/// Refuses a folder that holds anything.
///
/// # Errors
/// If it does, or something else has its name.
pub fn check_unused(root: &Path) -> Result<()> {
    let in_use = |what: &str| {
        Err(Error::input(format!(
            "{} {what}; choose another --output-dir, or remove this one",
            root.display()
        )))
    };
    match fs::read_dir(root).map(|mut entries| entries.next().is_some()) {
        Ok(true) => in_use("is not empty"),
        Err(_) if root.exists() => in_use("is no folder"),
        _ => Ok(()),
    }
}

/// Records the parts one after the other into one new LeRobotDataset, with the task's contract and a card. The folder
/// appears when it is whole.
///
/// # Errors
/// If the folder is in use, a part asks for what makes no sense, a driver fails, a video cannot be of a picture's size, or
/// the disk refuses.
pub fn record_dataset(root: &Path, environment: &dyn Environment, mut plan: Plan<'_>) -> Result<Summary> {
    check_unused(root)?;
    let spec = environment.spec();
    let unfinished = Unfinished::beside(root)?;
    let features = features(spec, plan.picture);
    let mut writer = DatasetWriter::create(&unfinished.0, spec.fps, Some(spec.name), &features)?;
    let mut recorded = Vec::new();
    let count = plan.parts.len();
    let numbers = numbers(&plan.parts);
    for (i, (part, number)) in plan.parts.iter_mut().zip(numbers).enumerate() {
        part.options.seed = first_seed(plan.seed, number);
        writer.begin_split(part.split)?;
        let added = add_part(&mut writer, environment, &part.options, plan.driver.as_mut())?;
        note(format!("part {} of {count}: {} frames, {} episodes", i + 1, added.frames, added.episodes));
        recorded.push(added);
    }
    let all = |split: Option<&str>| total(&plan.parts, &recorded, split);
    if all(Some(TRAIN)).frames == 0 {
        return Err(Error::input("nothing was recorded: ask for at least one frame and one episode"));
    }
    writer.finish()?;
    contract::write(&unfinished.0, &spec.contract())?;
    card::write(&unfinished.0, spec, &plan, &recorded)?;
    let bytes = bytes_below(&unfinished.0);
    unfinished.becomes(root)?;
    Ok(Summary { recorded: all(None), bytes })
}

/// How much the parts of a split came to, or all parts.
fn total(parts: &[Part], recorded: &[Recorded], split: Option<&str>) -> Recorded {
    let each = parts.iter().zip(recorded).filter(|(part, _)| split.is_none_or(|split| part.split == split));
    each.fold(Recorded::default(), |sum, (_, part)| Recorded {
        episodes: sum.episodes + part.episodes,
        frames: sum.frames + part.frames,
        successes: sum.successes + part.successes,
    })
}

fn add_part(
    writer: &mut DatasetWriter,
    environment: &dyn Environment,
    options: &Options,
    driver: &mut Driver<'_>,
) -> Result<Recorded> {
    let spec = environment.spec();
    let (cameras, measured): (Vec<&sim::Feature>, Vec<&sim::Feature>) =
        spec.observations.iter().partition(|feature| feature.is_image());
    record(environment, options, driver, &mut |frame| {
        let shown = cameras.iter().map(|camera| {
            (
                camera.key,
                Image::of_planes([camera.shape[1], camera.shape[2]], frame.observation.picture(camera.key)),
            )
        });
        let shown: Vec<(&str, Image)> = shown.collect();
        let pictures: Vec<(&str, &Image)> = shown.iter().map(|(key, image)| (*key, image)).collect();
        let success = [f32::from(frame.success)];
        let mut vectors = vec![(spec.action.key, frame.action), (SUCCESS, success.as_slice())];
        vectors.extend(measured.iter().map(|feature| (feature.key, frame.observation.vector(feature.key))));
        writer.add_frame(&pictures, &vectors, spec.task)?;
        if frame.last { writer.end_episode() } else { Ok(()) }
    })
}

/// LeRobot's name for "this action solved the task".
const SUCCESS: &str = "next.success";

fn features(spec: &Spec, picture: fn(usize, usize) -> Feature) -> Features {
    let observations = spec.observations.iter().map(|feature| {
        let column = match *feature.shape {
            [3, height, width] => picture(width, height),
            _ => Feature::vector(feature.names),
        };
        (feature.key, column)
    });
    let rest =
        [(spec.action.key, Feature::vector(spec.action.names)), (SUCCESS, Feature::scalar(Dtype::Bool))];
    observations.chain(rest).fold(Features::new(), |all, (key, column)| all.with(key, column))
}

/// The folder a dataset is written in before it gets its name; removed if it never does.
struct Unfinished(PathBuf);

impl Unfinished {
    fn beside(root: &Path) -> Result<Self> {
        let Some(name) = root.file_name() else {
            return Err(Error::input(format!("{} is no name for a new folder", root.display())));
        };
        let mut name = name.to_owned();
        name.push(format!(".tmp-{}", std::process::id()));
        let folder = root.with_file_name(name);
        // What a killed process of the same number left.
        let _ = fs::remove_dir_all(&folder);
        Ok(Self(folder))
    }

    fn becomes(self, root: &Path) -> Result<()> {
        // An empty folder of that name may be there, and renaming onto it works on some systems only.
        let _ = fs::remove_dir(root);
        fs::rename(&self.0, root)
            .map_err(|e| Error::failure(format!("cannot name the dataset {}: {e}", root.display())))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn bytes_below(folder: &Path) -> u64 {
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() => bytes_below(&entry.path()),
        Ok(data) => data.len(),
        Err(_) => 0,
    };
    fs::read_dir(folder).into_iter().flatten().flatten().map(size).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Dataset;
    use crate::sim::{Command, Pendulum, Pursuit, record};

    fn expert(parts: Vec<Part>) -> Plan<'static> {
        Plan::of_expert(parts, Scripted::Expert, "expert", "flowgpu collect".into())
    }

    fn one(options: Options, rule: Scripted) -> Plan<'static> {
        Plan::of_expert(vec![Part::train(options)], rule, "a rule", "flowgpu collect".into())
    }

    #[test]
    fn the_default_mixture_becomes_one_dataset_that_training_can_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().join("data/pursuit");
        let arena = Pursuit::new(0);
        let summary =
            record_dataset(&root, &arena, expert(default_mixture(arena.spec(), 402))).expect("records");
        assert_eq!(summary.recorded.frames, 402);
        assert_eq!(summary.bytes, bytes_below(&root));
        let dataset = Dataset::open(&root).expect("reads");
        assert_eq!((dataset.len(), dataset.episodes.len()), (402, summary.recorded.episodes));
        assert_eq!((dataset.info.fps, dataset.info.robot_type.as_deref()), (20.0, Some("pursuit")));
        assert_eq!(dataset.tasks, ["catch the ball"]);
        let seen: Vec<_> = dataset.info.features.for_policy().into_iter().map(|f| (f.key, f.shape)).collect();
        let expected = [("observation.image", vec![3, 128, 128]), ("action", vec![2])];
        assert_eq!(seen, expected.map(|(key, shape)| (key.to_owned(), shape)));
        // Seed 000 scales actions by 5: that is MIN_MAX with these statistics.
        assert_eq!(dataset.stats.get("action", "min").expect("there").to_f32(), [-5.0, -5.0]);
        assert_eq!(dataset.stats.get("action", "max").expect("there").to_f32(), [5.0, 5.0]);
        let left: Vec<_> = fs::read_dir(folder.path().join("data")).expect("reads").flatten().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn a_pendulums_mixture_is_whole_episodes_under_noise_with_clean_labels() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().join("pendulum");
        let arena = Pendulum::new(0);
        let summary =
            record_dataset(&root, &arena, expert(default_mixture(arena.spec(), 1000))).expect("records");
        assert_eq!(
            (summary.recorded.frames, summary.recorded.episodes, summary.recorded.successes),
            (1000, 5, 5)
        );
        let dataset = Dataset::open(&root).expect("reads");
        let seen: Vec<_> = dataset.info.features.for_policy().into_iter().map(|f| (f.key, f.shape)).collect();
        let expected = [("observation.state", vec![3]), ("action", vec![1])];
        assert_eq!(seen, expected.map(|(key, shape)| (key.to_owned(), shape)));
        let (states, actions) = (dataset.vectors("observation.state"), dataset.vectors("action"));
        let (states, actions) = (states.expect("there").1, actions.expect("there").1);
        let mut pushed = 0;
        for (state, action) in states.chunks_exact(6).zip(actions.chunks_exact(2)) {
            let [cos, sin, speed] = [state[0], state[1], state[2]].map(f64::from);
            let pendulum = Pendulum::at(sin.atan2(cos), speed);
            assert!((pendulum.expert() - f64::from(action[0])).abs() < 1e-3, "{pendulum:?}: {action:?}");
            let gained = (f64::from(state[5]) - speed) / 0.05 - 15.0 * sin;
            pushed += usize::from((gained / 3.0 - f64::from(action[0])).abs() > 0.05);
        }
        assert!(pushed > 200, "noise in {pushed} of 500 steps");
    }

    #[test]
    fn a_command_is_a_column_of_its_own_and_half_of_its_mixture_is_plain() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().join("command");
        let arena = Command::new(0);
        let mixture = default_mixture(arena.spec(), 800);
        assert_eq!(mixture.iter().map(|part| part.options.noise).collect::<Vec<_>>(), [0.0, 1.0]);
        let summary = record_dataset(&root, &arena, expert(mixture)).expect("records");
        assert_eq!((summary.recorded.frames, summary.recorded.episodes), (800, 4));
        let dataset = Dataset::open(&root).expect("reads");
        let seen: Vec<_> = dataset.info.features.for_policy().into_iter().map(|f| (f.key, f.shape)).collect();
        let expected = [("observation.state", 200), ("observation.environment_state", 3), ("action", 30)];
        assert_eq!(seen, expected.map(|(key, width)| (key.to_owned(), vec![width])));
        let (width, commands) = dataset.vectors("observation.environment_state").expect("there");
        for (episode, rows) in commands.chunks_exact(200 * width).enumerate() {
            let seed = first_seed(0, episode / 2) + episode as u64 % 2;
            let walker = Command::new(seed);
            for (step, row) in rows.chunks_exact(width).enumerate() {
                assert_eq!(
                    *row,
                    walker.commands[step / 100].map(|v| v as f32),
                    "episode {episode}, step {step}"
                );
            }
        }
    }

    #[test]
    fn the_pictures_and_labels_are_those_of_the_recording() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().join("pursuit");
        let options = Options { max_frames: Some(50), ..Options::default() };
        let plan = Plan { seed: 3, ..one(options.clone(), Scripted::Noop) };
        record_dataset(&root, &Pursuit::new(0), plan).expect("records");
        let dataset = Dataset::open(&root).expect("reads");
        let mut frames = 0;
        let options = Options { seed: first_seed(3, 0), ..options };
        record::record(&Pursuit::new(0), &options, &mut Scripted::Noop.driver(), &mut |frame| {
            let image = dataset.image("observation.image", frames).expect("a picture");
            assert_eq!(image.planar(), frame.observation.picture("observation.image"));
            assert_eq!(dataset.vectors("action").expect("there").1[2 * frames..][..2], *frame.action);
            frames += 1;
            Ok(())
        })
        .expect("records");
        assert_eq!(frames, 50);
    }

    #[cfg(feature = "video")]
    #[test]
    fn as_video_a_recording_is_the_same_but_for_what_compression_loses() {
        let folder = tempfile::tempdir().expect("a folder");
        let arena = Pursuit::new(0);
        let options = Options { max_frames: Some(24), max_steps: 10, ..Options::default() };
        let random = |picture| Plan { picture, ..one(options.clone(), Scripted::Random { seed: 0 }) };
        let (images, video) = (folder.path().join("images"), folder.path().join("video"));
        record_dataset(&images, &arena, random(Feature::image)).expect("records");
        record_dataset(&video, &arena, random(Feature::video)).expect("records");
        let (images, video) = (Dataset::open(&images).expect("reads"), Dataset::open(&video).expect("reads"));
        assert_eq!((images.len(), video.len(), video.episodes.len()), (24, 24, 3));
        assert_eq!(images.vectors("action"), video.vectors("action"));
        for frame in 0..24 {
            let shown =
                |dataset: &Dataset| dataset.image("observation.image", frame).expect("a picture").pixels;
            let (exact, kept) = (shown(&images), shown(&video));
            let lost: u64 = exact.iter().zip(&kept).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
            assert!((lost as f64) < 2.0 * exact.len() as f64, "frame {frame}: {lost}");
        }
    }

    #[test]
    fn recordings_of_other_seeds_and_other_parts_share_no_episode() {
        let firsts: Vec<u64> =
            (0..4).flat_map(|seed| [0, 1, 2, 14, 15].map(|part| first_seed(seed, part))).collect();
        assert!(firsts.windows(2).all(|pair| pair[1] >= pair[0] + (1 << 32)), "{firsts:?}");
    }

    #[test]
    fn a_folder_in_use_is_refused_and_a_failure_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("mine.txt"), "mine").expect("writes");
        let arena = Pursuit::new(0);
        let error = record_dataset(folder.path(), &arena, expert(default_mixture(arena.spec(), 8)));
        let error = error.expect_err("in use");
        assert!(error.to_string().contains("is not empty") && error.exit_code() == 2, "{error}");
        let root = folder.path().join("new");
        assert!(record_dataset(&root, &arena, one(Options::default(), Scripted::Noop)).is_err());
        assert_eq!(fs::read_dir(folder.path()).expect("reads").count(), 1);
    }
}
