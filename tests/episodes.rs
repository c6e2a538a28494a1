//! `flowgpu import episodes`: `tests/interop/make_episodes.py` made the fixture with NumPy and Pillow.

use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use flowgpu::data::{Dataset, ImportOptions, import_episodes};
use flowgpu::image::Image;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

const OPTIONS: ImportOptions = ImportOptions { fps: 10, task: "push", robot_type: Some("arm") };

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/episodes")
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn import(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flowgpu"));
    command.args(["import", "episodes"]).args(arguments).output().expect("the program starts")
}

/// The formula of the fixture's pictures.
fn picture(episode: usize, frame: usize, width: usize, height: usize) -> Image {
    let pixel = |i: usize| [10 * (i % width), 20 * (i / width), 30 * frame + episode];
    Image { width, height, pixels: (0..width * height).flat_map(pixel).map(|v| v as u8).collect() }
}

#[test]
fn what_numpy_and_pillow_wrote_becomes_a_dataset_value_for_value() {
    let here = folder();
    let out = here.path().join("data");
    let path = |path: &Path| path.to_str().expect("text").to_owned();
    let said = import(&[&path(&fixture()), "--out", &path(&out), "--fps", "10", "--task", "push"]);
    let errors = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.status.success(), "{errors}");
    assert!(String::from_utf8_lossy(&said.stdout).starts_with("7 frames in 2 episodes"));
    assert!(errors.contains("`timestamp` is left out"), "{errors}");
    let data = Dataset::open(&out).expect("a dataset");
    assert_eq!((data.info.fps, data.tasks.clone()), (10.0, vec!["push".to_owned()]));
    let of = |key: &str| data.vectors(key).expect("a column");
    let mut frame = 0;
    for (episode, frames) in [(2usize, 4usize), (10, 3)] {
        for t in 0..frames {
            let (x, e) = (t as f32, episode as f32);
            let row = |key: &str| {
                let (width, values) = of(key);
                values[frame * width..(frame + 1) * width].to_vec()
            };
            assert_eq!(row("observation.state"), [x + 0.5, -x, e]);
            assert_eq!(row("action"), [x * 0.25, 1.0 - x]);
            assert_eq!(row("next.reward"), [x * 2.0]);
            assert_eq!(row("next.done"), [f32::from(u8::from(t + 1 == frames))]);
            assert_eq!(row("timestamp"), [(t as f64 / 10.0) as f32]);
            let image = |key: &str| data.image(key, frame).expect("a picture");
            assert_eq!(image("observation.images.top"), picture(episode, t, 8, 6));
            assert_eq!(image("observation.images.wrist"), picture(episode, t, 5, 4));
            frame += 1;
        }
    }
    let again = import(&[&path(&fixture()), "--out", &path(&out), "--fps", "10", "--task", "push"]);
    assert_eq!(again.status.code(), Some(2), "a folder with something in it is kept");
}

/// One array of a `.npz` file: name, dtype, shape as Python writes it, bytes.
type Entry<'a> = (&'a str, &'a str, &'a str, Vec<u8>);

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn npz(entries: &[Entry]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, descr, shape, data) in entries {
        archive.start_file(format!("{name}.npy"), SimpleFileOptions::default()).expect("an entry");
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        archive.write_all(&bytes).expect("written");
    }
    archive.finish().expect("an archive").into_inner()
}

/// What is said of a folder with these files.
fn refused(files: &[(&str, Vec<u8>)]) -> String {
    let here = folder();
    for (name, bytes) in files {
        let path = here.path().join("in").join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, bytes).expect("written");
    }
    let out = here.path().join("out");
    let error = import_episodes(&here.path().join("in"), &out, &OPTIONS, &mut |_| {}).expect_err("bad input");
    assert_eq!(error.exit_code(), 2, "{error}");
    let left = std::fs::read_dir(&out).map_or(0, Iterator::count);
    assert_eq!(left, 0, "nothing is left in the way: {error}");
    error.to_string()
}

#[test]
fn bad_episodes_are_named_by_file_and_array() {
    let action = || ("action", "<f4", "(2, 1)", floats(&[0.0, 1.0]));
    let says = |files: &[(&str, Vec<u8>)], parts: &[&str]| {
        let said = refused(files);
        parts.iter().for_each(|part| assert!(said.contains(part), "{part:?} in {said}"));
    };
    let one = |entries: &[Entry], parts: &[&str]| says(&[("a.npz", npz(entries))], parts);
    let state = |shape, values: &[f32]| ("observation.state", "<f4", shape, floats(values));
    one(
        &[action(), state("(3, 1)", &[0.0; 3])],
        &["a.npz: `action` has 2 frames, but `observation.state` has 3"],
    );
    one(&[state("(3, 1)", &[0.0; 3])], &["a.npz", "no array `action`"]);
    one(
        &[action(), state("(2, 1)", &[0.0, f32::NAN])],
        &["a.npz, array `observation.state`: frame 1 holds NaN"],
    );
    one(
        &[action(), ("observation.state", "|O", "(2,)", vec![0; 16])],
        &["array `observation.state`", "\"|O\""],
    );
    one(&[action(), ("x", "<f4", "(2, 2, 2)", vec![0; 32])], &["a.npz, array `x`", "[2, 2, 2]"]);
    one(&[action(), ("x", "<f4", "()", vec![0; 4])], &["`x` has 0"]);
    one(&[action(), ("x", "<f4", "(9, 9)", vec![0; 4])], &["array `x`", "not the bytes of its shape"]);
    let other = npz(&[("action", "<f4", "(1, 2)", floats(&[0.0, 1.0]))]);
    says(&[("a.npz", npz(&[action()])), ("b.npz", other)], &["b.npz", "a.npz", "`action`"]);
    let png = |width| Image::filled(width, 2, [7; 3]).to_png().expect("a PNG");
    let arrays = || ("a.npz", npz(&[action()]));
    says(&[arrays(), ("a/cam/0.png", png(2))], &["`action` has 2 frames, but `cam` has 1"]);
    says(&[arrays(), ("a/cam/0.png", png(2)), ("a/cam/1.png", png(3))], &["1.png is 3 x 2 pixels"]);
    says(
        &[arrays(), ("a/cam/0.png", png(2)), ("a/cam/1.png", vec![1, 2])],
        &["1.png", "only PNG and JPEG pictures can be read"],
    );
    says(&[arrays(), ("a/cam/0.jpg", png(2))], &["0.jpg is no PNG file"]);
    says(&[arrays(), ("a/action.npy", vec![0; 20])], &["action.npy", "no NumPy array"]);
    says(&[("a.npz", vec![0; 40])], &["a.npz is damaged or no NPZ file"]);
    says(&[("readme.txt", vec![0; 40])], &["holds no episodes"]);
}

#[test]
fn no_truncated_or_flipped_archive_panics() {
    let good = npz(&[("action", "<f4", "(2, 1)", floats(&[0.0, 1.0]))]);
    for end in 0..good.len() {
        refused(&[("a.npz", good[..end].to_vec())]);
    }
    let here = folder();
    for bit in (0..good.len() * 8).step_by(5) {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let from = here.path().join("in");
        std::fs::create_dir_all(&from).expect("a folder");
        std::fs::write(from.join("a.npz"), bad).expect("written");
        // A flip may be in a time stamp, or in a digit.
        let out = here.path().join(format!("out{bit}"));
        let _ = import_episodes(&from, &out, &OPTIONS, &mut |_| {});
    }
}
