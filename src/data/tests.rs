//! A dataset's whole way: written, opened, cut into windows, gathered into batches; and what happens to bad ones.

use std::{fs, path::Path};

use super::*;
use crate::{ErrorKind, Result, image::Image};

const EPISODES: [usize; 3] = [5, 3, 4];

fn features() -> Features {
    Features::new()
        .with("observation.image", Feature::image(4, 2))
        .with("observation.state", Feature::vector(&["x", "y"]))
        .with("action", Feature::vector(&["dx", "dy"]))
        .with("next.done", Feature::scalar(Dtype::Bool))
        .with("stage", Feature::scalar(Dtype::Int64))
}

/// The colour, state and action of a frame, all different from any other's.
fn frame(index: usize) -> (Image, [f32; 2], [f32; 2]) {
    let value = index as f32;
    let colour = [index as u8, 100 + index as u8, 200];
    (Image::filled(4, 2, colour), [value, -value], [value * 0.5, 1.0])
}

fn record(root: &Path, first: usize) -> Result<Info> {
    let mut writer = DatasetWriter::create(root, 10, Some("test"), &features())?;
    let mut index = first;
    for (episode, length) in EPISODES.into_iter().enumerate() {
        for i in 0..length {
            let (image, state, action) = frame(index);
            let done = [f32::from(u8::from(i + 1 == length))];
            let vectors: [(&str, &[f32]); 4] = [
                ("observation.state", &state),
                ("action", &action),
                ("next.done", &done),
                ("stage", &[episode as f32]),
            ];
            let task = if episode == 1 { "push" } else { "reach" };
            writer.add_frame(&[("observation.image", &image)], &vectors, task)?;
            index += 1;
        }
        writer.end_episode()?;
    }
    writer.finish()
}

fn policy_features() -> Vec<PolicyFeature> {
    let keys = ["observation.image", "observation.state", "action"];
    features().for_policy().into_iter().filter(|f| keys.contains(&f.key.as_str())).collect()
}

#[test]
fn what_is_written_is_opened_and_gathered_into_batches() -> Result<()> {
    let root = tempfile::tempdir().expect("a folder");
    let info = record(root.path(), 0)?;
    let dataset = Dataset::open(root.path())?;
    assert_eq!((dataset.len(), info.total_episodes, info.total_tasks), (12, 3, 2));
    assert_eq!(dataset.info, info);
    assert_eq!(dataset.warnings.len(), 1, "the second action is always 1: {:?}", dataset.warnings);
    assert_eq!(
        (&dataset.episodes[1].frames, &dataset.episodes[1].tasks),
        (&(5..8), &vec!["push".to_string()])
    );
    assert_eq!(dataset.vectors("next.done")?.1, [0., 0., 0., 0., 1., 0., 0., 1., 0., 0., 0., 1.]);
    assert_eq!(dataset.vectors("stage")?.1[5..9], [1., 1., 1., 2.]);
    assert_eq!(dataset.vectors("task_index")?.1[4..9], [0., 1., 1., 1., 0.]);
    assert_eq!(dataset.vectors("timestamp")?.1[5..7], [0.0, 0.1]);
    assert_eq!(dataset.stats.get("observation.state", "mean")?.values, [5.5, -5.5]);
    assert_eq!(dataset.stats.get("observation.image", "max")?.shape, [3, 1, 1]);

    let loader = Loader::new(
        dataset,
        &policy_features(),
        Windows::new(2, 3),
        Padding::Hold,
        &CacheOptions::default(),
    )?;
    let batch = loader.batch(&[5, 7], None)?;
    assert_eq!(batch.states, [[5., -5., 5., -5., 6., -6., 7., -7.]]);
    assert_eq!(batch.actions, [2.5, 1., 3., 1., 3.5, 1., 3.5, 1., 3.5, 1., 3.5, 1.]);
    assert_eq!(batch.is_pad, [false, false, false, false, true, true]);
    assert_eq!((batch.images.len(), batch.images[0].len()), (1, 2 * 2 * 3 * 2 * 4));
    let pictures: Vec<u8> = [5, 5, 6, 7].iter().flat_map(|&i| frame(i).0.planar()).collect();
    assert_eq!(batch.images[0], pictures);
    assert_eq!(loader.frames_of(&[2, 0]), [8, 9, 10, 11, 0, 1, 2, 3, 4]);
    assert!(loader.batch(&[12], None).is_err());
    Ok(())
}

#[test]
fn pictures_are_the_same_from_memory_from_files_and_decoded_one_by_one() -> Result<()> {
    let root = tempfile::tempdir().expect("a folder");
    record(root.path(), 0)?;
    let folder = tempfile::tempdir().expect("a folder");
    let varied = Varied {
        by: Augmentation { random_crop: 0.5, color_jitter: [0.3, 0.3, 0.3, 0.1] },
        seed: 1,
        step: 2,
    };
    let frames = [5, 0, 11, 7];
    let batches = |memory, files: Option<u64>, [height, width]: [usize; 2]| -> Result<_> {
        let options = CacheOptions { memory, files: files.map(|limit| (folder.path().to_path_buf(), limit)) };
        let mut features = policy_features();
        features[0].shape = vec![3, height, width];
        let dataset = Dataset::open(root.path())?;
        let loader = Loader::new(dataset, &features, Windows::new(2, 3), Padding::Hold, &options)?;
        let both = (loader.batch(&frames, None)?, loader.batch(&frames, Some(&varied))?);
        assert_eq!(loader.image_bytes() > 0, memory > 0);
        assert_eq!(loader.take_notes(), [""; 0]);
        Ok(both)
    };
    for size in [[2, 4], [5, 3]] {
        let kept = batches(1 << 20, None, size)?;
        assert!(kept.0.images != kept.1.images && kept.0.actions == kept.1.actions);
        assert_eq!(kept, batches(0, None, size)?);
        // Once to write them, once to read them; then without room.
        for limit in [1 << 20, 1 << 20, 10] {
            assert_eq!(kept, batches(0, Some(limit), size)?);
        }
    }
    let constant = batches(0, None, [5, 3])?.0;
    assert_eq!(constant.images[0][..15], [5; 15], "a picture of one colour stays so");
    Ok(())
}

#[test]
fn what_is_decoded_later_fails_later_and_names_the_frame() -> Result<()> {
    let root = tempfile::tempdir().expect("a folder");
    record(root.path(), 0)?;
    let data = root.path().join("data/chunk-000/file-000.parquet");
    let mut bytes = fs::read(&data).expect("reads");
    let png = frame(8).0.to_png()?;
    // The checksum of its pixels, which no other picture shares, in front of the 12 bytes that end every PNG.
    let checksum = &png[png.len() - 16..png.len() - 12];
    let at = bytes.windows(4).position(|part| part == checksum).expect("stored as it is");
    bytes[at] ^= 1;
    fs::write(&data, bytes).expect("writes");
    let dataset = Dataset::open(root.path())?;
    let load = |memory| {
        let options = CacheOptions { memory, files: None };
        Loader::new(dataset.clone(), &policy_features(), Windows::new(1, 1), Padding::Hold, &options)
    };
    assert!(load(1 << 20).is_err_and(|e| e.to_string().contains("frame 8")));
    let loader = load(0)?;
    assert!(loader.batch(&[7, 9], None).is_ok());
    assert!(loader.batch(&[7, 8], None).is_err_and(|e| e.to_string().contains("frame 8")));
    Ok(())
}

#[test]
fn several_folders_are_one_dataset() -> Result<()> {
    let roots = [tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder")];
    record(roots[0].path(), 0)?;
    record(roots[1].path(), 12)?;
    let dataset = Dataset::open_all(&[roots[0].path(), roots[1].path()])?;
    assert_eq!((dataset.len(), dataset.episodes.len(), dataset.info.total_frames), (24, 6, 24));
    assert_eq!((dataset.episode_range(11), dataset.episode_range(12)), (8..12, 12..17));
    assert_eq!(dataset.vectors("observation.state")?.1[46..48], [23., -23.]);
    assert_eq!(dataset.image("observation.image", 20)?, frame(20).0);
    assert_eq!(dataset.stats.get("observation.state", "mean")?.values, [11.5, -11.5]);
    assert_eq!(dataset.tasks, ["reach", "push"]);

    let other = tempfile::tempdir().expect("a folder");
    let mut writer = DatasetWriter::create(
        other.path(),
        10,
        None,
        &Features::new().with("action", Feature::vector(&["dx"])),
    )?;
    writer.add_frame(&[], &[("action", &[1.0])], "reach")?;
    writer.end_episode()?;
    writer.finish()?;
    let error = Dataset::open_all(&[roots[0].path(), other.path()]).expect_err("features differ");
    assert!(error.to_string().contains("`observation.image`"), "{error}");
    Ok(())
}

#[test]
fn large_recordings_fill_several_files() -> Result<()> {
    let root = tempfile::tempdir().expect("a folder");
    let mut writer = DatasetWriter::create(
        root.path(),
        10,
        None,
        &Features::new().with("action", Feature::vector(&["dx"])),
    )?;
    writer.limit_files(0, 2);
    for episode in 0..5 {
        writer.add_frame(&[], &[("action", &[episode as f32])], "reach")?;
        writer.end_episode()?;
    }
    writer.finish()?;
    assert!(root.path().join("data/chunk-002/file-000.parquet").exists());
    assert_eq!(Dataset::open(root.path())?.vectors("action")?.1, [0., 1., 2., 3., 4.]);
    Ok(())
}

#[test]
fn bad_datasets_name_the_file_and_what_is_wrong() {
    type Damage = fn(&Path);
    let cases: [(&str, Damage, &[&str]); 10] = [
        ("no info", |r| fs::remove_file(r.join("meta/info.json")).expect("there"), &["info.json"]),
        ("no tasks", |r| fs::remove_file(r.join("meta/tasks.parquet")).expect("there"), &["tasks.parquet"]),
        ("no episodes", |r| fs::remove_dir_all(r.join("meta/episodes")).expect("there"), &["meta/episodes"]),
        ("no data", |r| fs::remove_dir_all(r.join("data")).expect("there"), &["file-000.parquet", "copy"]),
        (
            "truncated",
            |r| truncate(&r.join("data/chunk-000/file-000.parquet")),
            &["file-000.parquet", "copy"],
        ),
        (
            "a statistic is NaN",
            |r| replace(&r.join("meta/stats.json"), "-5.5", "NaN"),
            &["stats.json", "`observation.state`", "`mean`"],
        ),
        (
            "a column is missing",
            |r| replace(&r.join("meta/info.json"), "\"stage\"", "\"phase\""),
            &["file-000.parquet", "`phase`"],
        ),
        (
            "a shape is wrong",
            |r| edit_feature(r, "action", |f| f["shape"] = serde_json::json!([3])),
            &["`action`", "2 values", "says 3"],
        ),
        (
            "a camera is a video",
            |r| edit_feature(r, "observation.image", |f| f["dtype"] = "video".into()),
            &["file-000.parquet", "`videos/observation.image/"],
        ),
        (
            "frames are missing",
            |r| replace(&r.join("meta/info.json"), "\"total_frames\": 12", "\"total_frames\": 13"),
            &["12", "13", "incomplete"],
        ),
    ];
    for (name, damage, expected) in cases {
        let root = tempfile::tempdir().expect("a folder");
        record(root.path(), 0).expect("records");
        damage(root.path());
        let error = Dataset::open(root.path()).expect_err(name);
        assert_eq!(error.kind(), ErrorKind::Input, "{name}: {error}");
        for part in expected {
            assert!(error.to_string().contains(part), "{name}: `{part}` is not in: {error}");
        }
    }
}

#[test]
fn statistics_that_are_missing_are_what_was_written() -> Result<()> {
    let root = tempfile::tempdir().expect("a folder");
    record(root.path(), 0)?;
    let written = Dataset::open(root.path())?.stats;
    let path = root.path().join("meta/stats.json");
    let text = fs::read_to_string(&path).expect("reads");
    let mut json: serde_json::Value = serde_json::from_str(&text).expect("parses");
    for name in ["q01", "q10", "q50", "q90", "q99"] {
        json["action"].as_object_mut().expect("a map").remove(name);
    }
    fs::write(&path, json.to_string()).expect("writes");
    let older = Dataset::open(root.path())?;
    fs::remove_file(&path).expect("there");
    let mut bare = Dataset::open(root.path())?;
    assert!(bare.stats.get("observation.image", "mean").is_err(), "pictures are decoded only when asked");
    bare.complete_stats("observation.image", &["mean", "std"])?;
    for key in ["observation.image", "observation.state", "action", "stage", "next.done", "task_index"] {
        for name in describe::NAMES {
            let expected = written.get(key, name)?;
            assert_eq!(bare.stats.get(key, name)?, expected, "{key}, {name}");
            assert_eq!(older.stats.get(key, name)?, expected, "{key}, {name}");
        }
    }
    Ok(())
}

#[test]
fn a_dimension_that_never_changes_is_named_and_has_no_spread() -> Result<()> {
    let root = tempfile::tempdir().expect("a folder");
    record(root.path(), 0)?;
    let path = root.path().join("meta/stats.json");
    let text = fs::read_to_string(&path).expect("reads");
    let mut json: serde_json::Value = serde_json::from_str(&text).expect("parses");
    // What a sum of squares in single precision leaves of a spread of 0 and a mean of 1.
    json["action"]["std"][1] = 3e-4.into();
    json["action"]["mean"][1] = 0.9999.into();
    fs::write(&path, json.to_string()).expect("writes");
    let dataset = Dataset::open(root.path())?;
    assert_eq!(
        (dataset.stats.get("action", "std")?.values[1], dataset.stats.get("action", "mean")?.values[1]),
        (0.0, 1.0)
    );
    assert!(
        dataset.warnings[0].contains("`action` never changes in dimension 1 (1)"),
        "{:?}",
        dataset.warnings
    );
    Ok(())
}

#[test]
fn pictures_left_in_their_files_are_the_same() -> Result<()> {
    let root = tempfile::tempdir().expect("a folder");
    record(root.path(), 0)?;
    let left = Dataset::read(Overview::read(root.path())?, 0)?;
    let mut twice = Dataset::read(Overview::read(root.path())?, u64::MAX)?;
    twice.append(left)?;
    for index in (0..24).rev() {
        assert_eq!(twice.image("observation.image", index)?, frame(index % 12).0, "frame {index}");
    }
    fs::remove_dir_all(root.path().join("data")).expect("there");
    twice.image("observation.image", 11)?;
    let error = twice.image("observation.image", 12).expect_err("gone").to_string();
    assert!(error.contains("file-000.parquet") && error.contains("frame 12"), "{error}");
    Ok(())
}

#[test]
fn bytes_changed_anywhere_in_a_data_file_never_panic() {
    let root = tempfile::tempdir().expect("a folder");
    record(root.path(), 0).expect("records");
    let path = root.path().join("data/chunk-000/file-000.parquet");
    let bytes = fs::read(&path).expect("reads");
    for place in (0..bytes.len()).step_by(97) {
        let mut changed = bytes.clone();
        changed[place] ^= 0x55;
        fs::write(&path, &changed).expect("writes");
        if let Err(error) = Dataset::open(root.path()) {
            assert_eq!(error.kind(), ErrorKind::Input, "byte {place}: {error}");
        }
    }
}

#[test]
fn an_unfinished_or_empty_recording_is_no_dataset() -> Result<()> {
    let root = tempfile::tempdir().expect("a folder");
    let mut writer = DatasetWriter::create(root.path(), 10, None, &features())?;
    assert!(writer.end_episode().is_err(), "an episode without frames");
    assert!(writer.finish().is_err(), "a dataset without episodes");
    let error = Dataset::open(root.path()).expect_err("unfinished");
    assert!(error.to_string().contains("info.json"), "{error}");
    let error = DatasetWriter::create(root.path(), 10, None, &features()).err().expect("not empty");
    assert!(error.to_string().contains("not empty"), "{error}");

    let empty = tempfile::tempdir().expect("a folder");
    fs::create_dir_all(empty.path().join("meta/episodes")).expect("a folder");
    Info::new(10, None, &features()).write(empty.path())?;
    let error = Dataset::open(empty.path()).expect_err("no frames");
    assert!(error.to_string().contains("no frames"), "{error}");
    Ok(())
}

#[test]
fn a_bad_frame_is_named_and_leaves_the_episode_as_it_was() -> Result<()> {
    let root = tempfile::tempdir().expect("a folder");
    let only = Features::new()
        .with("observation.image", Feature::image(4, 2))
        .with("action", Feature::vector(&["x", "y"]));
    let mut writer = DatasetWriter::create(root.path(), 10, None, &only)?;
    let (good, large) = (Image::filled(4, 2, [0; 3]), Image::filled(4, 4, [0; 3]));
    let action: &[f32] = &[1.0, 2.0];
    for (images, vectors, part) in [
        (vec![("observation.image", &large)], vec![("action", action)], "[3, 4, 4]"),
        (vec![("observation.image", &good)], vec![("action", &action[..1])], "1 values"),
        (vec![("observation.image", &good)], vec![("action", &[f32::NAN, 0.0][..])], "NaN"),
        (vec![("observation.image", &good)], vec![], "lacks feature `action`"),
        (vec![("observation.image", &good)], vec![("action", action), ("speed", action)], "`speed`"),
        (vec![("observation.image", &good)], vec![("action", action), ("action", action)], "twice"),
    ] {
        let error = writer.add_frame(&images, &vectors, "reach").expect_err(part).to_string();
        assert!(error.contains(part), "{error}");
        assert_eq!(writer.frames_in_episode(), 0);
    }
    for (key, feature) in [
        ("a/b", Feature::vector(&["x"])),
        ("index", Feature::scalar(Dtype::Int64)),
        ("cam", Feature::scalar(Dtype::Video)),
        ("empty", Feature::vector(&[])),
    ] {
        let root = tempfile::tempdir().expect("a folder");
        let error = DatasetWriter::create(root.path(), 10, None, &Features::new().with(key, feature));
        assert!(error.is_err_and(|e| e.to_string().contains(key)), "{key}");
    }
    Ok(())
}

#[test]
fn a_policy_of_another_shape_hears_both_shapes() -> Result<()> {
    let root = tempfile::tempdir().expect("a folder");
    record(root.path(), 0)?;
    let dataset = Dataset::open(root.path())?;
    let load = |feature: PolicyFeature| {
        Loader::new(dataset.clone(), &[feature], Windows::new(1, 2), Padding::Zero, &CacheOptions::default())
            .map(|_| ())
            .expect_err("does not fit")
            .to_string()
    };
    let state = PolicyFeature { key: "observation.state".into(), role: Role::State, shape: vec![7] };
    let error = load(state);
    assert!(error.contains("2 values") && error.contains('7'), "{error}");
    let unknown = PolicyFeature { key: "observation.speed".into(), role: Role::State, shape: vec![1] };
    let error = load(unknown);
    assert!(error.contains("`observation.speed`") && error.contains("observation.state"), "{error}");
    Ok(())
}

fn truncate(path: &Path) {
    let bytes = fs::read(path).expect("reads");
    fs::write(path, &bytes[..bytes.len() * 2 / 3]).expect("writes");
}

fn replace(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).expect("reads");
    assert!(text.contains(from), "{from} is not in {text}");
    fs::write(path, text.replace(from, to)).expect("writes");
}

fn edit_feature(root: &Path, key: &str, edit: fn(&mut serde_json::Value)) {
    let path = root.join("meta/info.json");
    let mut info: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&path).expect("reads")).expect("parses");
    edit(&mut info["features"][key]);
    fs::write(path, info.to_string()).expect("writes");
}
