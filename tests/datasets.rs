//! Datasets that LeRobot wrote, and others as they are met in the wild (tests/fixtures), against what LeRobot and PyAV
//! read of them; and what becomes of damaged ones.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use flowgpu::{
    Result,
    data::{Dataset, Padding, Survey, Windows},
    rng::{Rng, Stream},
};
use safetensors::{Dtype, SafeTensors};

const ALL: [&str; 8] = [
    "v21_images",
    "v21_video",
    "v30_av1",
    "v30_h264",
    "v30_h264_b_frames",
    "v30_h264_full_range",
    "v30_images",
    "v30_rewritten",
];

/// The columns of which the reader makes episodes and frames.
const COUNTERS: [&str; 3] = ["frame_index", "episode_index", "index"];

fn root(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/lerobot").join(name)
}

/// A tensor of what is expected: its shape, and its values in double precision.
type Expected = BTreeMap<String, (Vec<usize>, Vec<f64>)>;

fn expected(root: &Path) -> Expected {
    let bytes = fs::read(root.join("expect.safetensors")).expect("reads");
    let file = SafeTensors::deserialize(&bytes).expect("parses");
    let mut tensors = Expected::new();
    for (name, tensor) in file.iter() {
        let data = tensor.data();
        let values: Vec<f64> = match tensor.dtype() {
            Dtype::F32 => data.as_chunks().0.iter().map(|&b| f64::from(f32::from_le_bytes(b))).collect(),
            Dtype::F64 => data.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b)).collect(),
            Dtype::I64 => data.as_chunks().0.iter().map(|&b| i64::from_le_bytes(b) as f64).collect(),
            Dtype::U8 | Dtype::BOOL => data.iter().map(|&b| f64::from(b)).collect(),
            other => panic!("{name} is {other:?}"),
        };
        tensors.insert(name.to_owned(), (tensor.shape().to_vec(), values));
    }
    tensors
}

#[test]
fn every_value_of_every_column_is_the_one_that_was_stored() -> Result<()> {
    for name in ALL {
        let dataset = Dataset::open(root(name))?;
        let mut compared = 0;
        for (key, (_, values)) in expected(&root(name)) {
            let Some(key) = key.strip_prefix("column/").filter(|key| !COUNTERS.contains(key)) else {
                continue;
            };
            let found = dataset.vectors(key)?.1;
            let exact: Vec<f32> = values.iter().map(|&v| v as f32).collect();
            assert_eq!(found, exact, "{name}: {key}");
            compared += values.len();
        }
        assert!(compared > 28 * 8, "{name}: {compared} values");
    }
    Ok(())
}

#[test]
fn episodes_and_tasks_are_those_of_the_rows() -> Result<()> {
    for name in ALL {
        let dataset = Dataset::open(root(name))?;
        let expected = expected(&root(name));
        let (episodes, frames) = (&expected["column/episode_index"].1, &expected["column/frame_index"].1);
        assert_eq!((dataset.len(), dataset.episodes.len()), (28, 3), "{name}");
        for frame in 0..dataset.len() {
            let range = dataset.episode_range(frame);
            assert_eq!(frame - range.start, frames[frame] as usize, "{name}");
            assert_eq!(range, dataset.episodes[episodes[frame] as usize].frames, "{name}");
        }
        let tasks: Vec<&str> =
            dataset.vectors("task_index")?.1.iter().map(|&t| dataset.tasks[t as usize].as_str()).collect();
        for episode in &dataset.episodes {
            assert!(
                episode.frames.clone().all(|frame| episode.tasks == [tasks[frame]]),
                "{name}: {episode:?}"
            );
        }
    }
    Ok(())
}

#[test]
fn every_pixel_of_a_png_is_exact_and_of_a_video_within_two() -> Result<()> {
    for name in ALL {
        let dataset = Dataset::open(root(name))?;
        let expected = expected(&root(name));
        for key in dataset.cameras() {
            let (shape, pixels) = &expected[&format!("frames/{key}")];
            let [count, 3, height, width] = shape[..] else { panic!("{name}: {shape:?}") };
            assert_eq!(dataset.image_shape(key)?, [3, height, width], "{name}: {key}");
            let frames = &expected[&format!("frame_index/{key}")].1;
            assert_eq!(frames.len(), count);
            // Backwards, and then forwards: decoders go on where they are, or begin again.
            for place in (0..count).rev().chain(0..count) {
                let image = dataset.image(key, frames[place] as usize)?.planar();
                let wanted = &pixels[place * image.len()..][..image.len()];
                let apart =
                    image.iter().zip(wanted).map(|(&a, &b)| (f64::from(a) - b).abs()).fold(0.0, f64::max);
                // JPEG decoders spread colours of half the resolution with roundings of their own: 3 here.
                let jpeg = name == "v21_images" && frames[place] < 12.0;
                let bound = if jpeg {
                    4.0
                } else if name.ends_with("images") || name == "v30_rewritten" {
                    0.0
                } else {
                    2.0
                };
                assert!(apart <= bound, "{name}: {key}, frame {}: {apart} of 255", frames[place]);
            }
        }
    }
    Ok(())
}

#[test]
fn threads_that_ask_side_by_side_get_the_same_pictures() -> Result<()> {
    for name in ["v30_av1", "v30_h264_b_frames", "v21_images"] {
        let dataset = Dataset::open(root(name))?;
        let key = dataset.cameras().next().expect("a camera").to_owned();
        let alone: Vec<_> = (0..dataset.len()).map(|i| dataset.image(&key, i)).collect::<Result<_>>()?;
        let again = Dataset::open(root(name))?;
        std::thread::scope(|scope| {
            let (again, alone, key) = (&again, &alone, &key);
            for thread in 0..4 {
                scope.spawn(move || {
                    for i in 0..again.len() {
                        let frame = (i * 5 + thread * 7) % again.len();
                        assert!(
                            again.image(key, frame).as_ref() == Ok(&alone[frame]),
                            "{name}: frame {frame}"
                        );
                    }
                });
            }
        });
    }
    Ok(())
}

#[test]
fn windows_are_those_that_training_sees_in_lerobot() -> Result<()> {
    for name in ALL {
        let dataset = Dataset::open(root(name))?;
        let (width, actions) = dataset.vectors("action")?;
        let mut windows = 0;
        for (key, (shape, values)) in expected(&root(name)) {
            let Some(frame) = key.strip_prefix("window/").and_then(|k| k.strip_suffix("/action")) else {
                continue;
            };
            let frame: usize = frame.parse().expect("a frame");
            let (mut chunk, mut is_pad) = (vec![0.0; shape[0] * width], vec![false; shape[0]]);
            let episode = dataset.episode_range(frame);
            Windows::new(1, shape[0]).fill_chunk(
                actions,
                &episode,
                frame,
                Padding::Hold,
                &mut chunk,
                &mut is_pad,
            );
            assert_eq!(
                chunk.iter().map(|&v| f64::from(v)).collect::<Vec<_>>(),
                *values,
                "{name}: frame {frame}"
            );
            let pads = &expected(&root(name))[&format!("window/{frame}/action_is_pad")].1;
            assert_eq!(
                is_pad.iter().map(|&p| f64::from(u8::from(p))).collect::<Vec<_>>(),
                *pads,
                "{name}: frame {frame}"
            );
            windows += 1;
        }
        assert!(windows > 0, "{name}");
    }
    Ok(())
}

#[test]
fn an_inspection_says_how_pictures_are_kept_and_what_is_odd() -> Result<()> {
    let problems = |name: &str| Survey::of(&root(name), Some(8)).map(|survey| survey.problems.join("\n"));
    for (name, storage) in
        [("v30_images", "PNG"), ("v30_av1", "av1"), ("v30_h264", "h264"), ("v21_images", "JPEG")]
    {
        let survey = Survey::of(&root(name), None)?;
        assert!(survey.fault.is_none(), "{name}: {:?}", survey.fault);
        assert!(
            survey.cameras.values().all(|camera| camera.storage == storage),
            "{name}: {:?}",
            survey.cameras
        );
    }
    assert!(
        problems("v30_rewritten")?.contains("declared as [3, 128, 128], but its pictures are [3, 48, 64]")
    );
    assert!(problems("v21_images")?.contains("has no statistics"));
    assert!(problems("v30_av1")?.contains("1 of 3 episodes are shorter than a chunk of 8"));
    Ok(())
}

#[test]
fn a_missing_video_is_named_by_those_who_need_it() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    copy(&root("v21_video"), folder.path());
    let mut videos = files(folder.path());
    videos.retain(|path| path.extension().is_some_and(|e| e == "mp4"));
    fs::remove_file(&videos[1]).expect("there");
    let dataset = Dataset::open(folder.path())?;
    let key = dataset.cameras().next().expect("a camera");
    dataset.image(key, 0)?;
    let error = dataset.image(key, 12).expect_err("missing").to_string();
    for part in ["episode_000001.mp4", key, "frame 12"] {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
    let survey = Survey::of(folder.path(), None)?;
    assert!(survey.problems.iter().any(|p| p.contains("episode_000001.mp4")), "{:?}", survey.problems);
    Ok(())
}

#[test]
fn a_frame_is_written_as_training_sees_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("frame.safetensors");
    let run = |frame: &str| {
        Command::new(env!("CARGO_BIN_EXE_flowgpu"))
            .arg("inspect")
            .arg(root("v30_images"))
            .args(["--frame", frame, "--chunk-size", "5", "--out"])
            .arg(&out)
            .output()
            .expect("the program starts")
    };
    assert!(run("10").status.success());
    let bytes = fs::read(&out).expect("written");
    let file = SafeTensors::deserialize(&bytes).expect("parses");
    let dataset = Dataset::open(root("v30_images")).expect("opens");
    for key in dataset.cameras() {
        let tensor = file.tensor(key).expect("a camera");
        assert_eq!(
            (tensor.dtype(), tensor.shape()),
            (Dtype::U8, &dataset.image_shape(key).expect("decodes")[..])
        );
        assert_eq!(tensor.data(), dataset.image(key, 10).expect("decodes").planar());
    }
    // Frames 10 and 11 are the last of the first episode.
    assert_eq!(file.tensor("action_is_pad").expect("there").data(), [0, 0, 1, 1, 1]);
    assert_eq!(file.tensor("action").expect("there").shape(), [5, 3]);
    assert_eq!(file.tensor("observation.state").expect("there").shape(), [5]);
    assert_eq!(file.tensor("task_index").expect("there").dtype(), Dtype::I64);
    let missing = run("28");
    assert_eq!(missing.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("frames 0 to 27"));
}

/// All files of a folder, sorted.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        match entry.path() {
            path if path.is_dir() => found.extend(files(&path)),
            path => found.push(path),
        }
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    for file in files(from).iter().filter(|file| !file.ends_with("expect.safetensors")) {
        let target = to.join(file.strip_prefix(from).expect("below"));
        fs::create_dir_all(target.parent().expect("a folder")).expect("a folder");
        fs::copy(file, target).expect("copies");
    }
}

/// Opens a dataset and looks at everything: whether that goes well, and what the first error says.
fn read_all(root: &Path) -> Result<()> {
    let dataset = Dataset::open(root)?;
    for key in dataset.cameras() {
        for frame in [0, dataset.len() / 2, dataset.len() - 1] {
            dataset.image(key, frame)?;
        }
    }
    Ok(())
}

/// Bytes of this process that have been in memory at once, on Linux.
fn peak_memory() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<usize>().ok()).unwrap_or(0) << 10
}

#[test]
fn damaged_files_are_errors_that_name_them_or_still_a_dataset() {
    let mut rng = Rng::new(7, Stream::Shuffle, 0, 0);
    let mut below = |n: usize| ((rng.uniform() * n as f64) as usize).min(n - 1);
    let before = peak_memory();
    for name in ALL {
        let folder = tempfile::tempdir().expect("a folder");
        copy(&root(name), folder.path());
        read_all(folder.path()).expect("whole");
        let all = files(folder.path());
        for round in 0..100 {
            let file = &all[if round < all.len() { round } else { below(all.len()) }];
            let whole = fs::read(file).expect("reads");
            let mut bytes = whole.clone();
            match below(4) {
                0 => bytes.truncate(below(whole.len())),
                1 => (0..16).for_each(|_| bytes[below(whole.len())] ^= 1 << below(8)),
                2 => {
                    let (from, len) = (below(whole.len()), 1 + below(64));
                    bytes.drain(from..(from + len).min(whole.len()));
                }
                _ => bytes[below(whole.len())] ^= 1 << below(8),
            }
            fs::write(file, &bytes).expect("writes");
            if let Err(error) = read_all(folder.path()) {
                let said = error.to_string();
                assert_eq!(error.exit_code(), 2, "{}: {said}", file.display());
                assert!(said.contains(&*folder.path().to_string_lossy()), "{}: {said}", file.display());
            }
            fs::write(file, &whole).expect("writes");
        }
    }
    let taken = peak_memory().saturating_sub(before);
    assert!(taken < 400 << 20, "{} MiB for files of less than 1 MiB", taken >> 20);
}

#[test]
fn a_path_template_may_not_lead_out_of_the_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let info = fs::read_to_string(root("v30_images").join("meta/info.json")).expect("reads");
    copy(&root("v30_images"), folder.path());
    for template in
        ["../{chunk_index:03d}/{file_index:03d}.parquet", "/tmp/{chunk_index}/{file_index}.parquet"]
    {
        let mut json: serde_json::Value = serde_json::from_str(&info).expect("JSON");
        json["data_path"] = template.into();
        fs::write(folder.path().join("meta/info.json"), json.to_string()).expect("writes");
        let told = Dataset::open(folder.path()).expect_err("outside").to_string();
        assert!(told.contains("outside the data set's folder"), "{told}");
    }
}
