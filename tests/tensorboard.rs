//! What TensorBoard shows of a run is what metrics.jsonl says, also of one that was killed and went on. The files are read
//! here by a reader of their own.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// (tag, step) and the value.
type Scalars = BTreeMap<(String, u64), f32>;

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

fn flowgpu(arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flowgpu"));
    command.args(arguments).stderr(Stdio::piped()).spawn().expect("the program starts")
}

fn finished(child: Child) {
    let output = child.wait_with_output().expect("the program ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// CRC-32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| (crc >> 1) ^ (0x82f6_3b78 * (crc & 1));
    !bytes.iter().fold(!0_u32, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
}

/// The events of a file. Its last record may be cut off, all others must have their checksums.
fn events(bytes: &[u8]) -> Vec<&[u8]> {
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four"));
    let masked = |bytes: &[u8]| crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8);
    let (mut at, mut found) = (0, Vec::new());
    while at + 12 <= bytes.len() {
        let length = u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight")) as usize;
        assert_eq!(number(at + 8), masked(&bytes[at..at + 8]), "of the length at {at}");
        let Some(event) = bytes.get(at + 12..at + 12 + length) else { break };
        if at + 16 + length > bytes.len() {
            break;
        }
        assert_eq!(number(at + 12 + length), masked(event), "of the event at {at}");
        found.push(event);
        at += 16 + length;
    }
    found
}

/// The fields of a protocol buffer: numbers, and the bytes of numbers, strings and messages.
fn fields(mut message: &[u8]) -> Vec<(u64, Vec<u8>)> {
    fn varint(message: &mut &[u8]) -> u64 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = message[0];
            *message = &message[1..];
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return value;
            }
        }
    }
    let mut found = Vec::new();
    while !message.is_empty() {
        let key = varint(&mut message);
        let length = match key & 7 {
            0 => {
                found.push((key >> 3, varint(&mut message).to_le_bytes().to_vec()));
                continue;
            }
            1 => 8,
            2 => varint(&mut message) as usize,
            5 => 4,
            other => panic!("wire type {other}"),
        };
        let (content, rest) = message.split_at(length);
        found.push((key >> 3, content.to_vec()));
        message = rest;
    }
    found
}

/// All files of a folder, one after the other, as TensorBoard merges them: a START forgets its step and later ones.
fn shown(folder: &Path) -> (usize, Scalars) {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("reads").path());
    let mut files: Vec<_> = entries.collect();
    files.sort();
    let mut scalars = Scalars::new();
    for file in &files {
        let name = file.file_name().and_then(|name| name.to_str()).expect("a name");
        assert!(name.starts_with("events.out.tfevents."), "{name}");
        let bytes = std::fs::read(file).expect("reads");
        for (number, event) in events(&bytes).into_iter().enumerate() {
            let event: BTreeMap<u64, Vec<u8>> = fields(event).into_iter().collect();
            let seconds = f64::from_le_bytes(event[&1][..].try_into().expect("eight"));
            assert!((1.7e9..1e10).contains(&seconds), "{seconds}");
            let step = u64::from_le_bytes(event[&2][..].try_into().expect("eight"));
            assert_eq!(event.get(&3).map(Vec::as_slice), (number == 0).then_some(&b"brain.Event:2"[..]));
            if let Some(session) = event.get(&7) {
                assert_eq!(fields(session), [(1, 1_u64.to_le_bytes().to_vec())]);
                scalars.retain(|(_, known), _| *known < step);
            }
            for (_, value) in event.get(&5).into_iter().flat_map(|summary| fields(summary)) {
                let value: BTreeMap<u64, Vec<u8>> = fields(&value).into_iter().collect();
                let tag = String::from_utf8(value[&1].clone()).expect("UTF-8");
                scalars.insert((tag, step), f32::from_le_bytes(value[&2][..].try_into().expect("four")));
            }
        }
    }
    (files.len(), scalars)
}

/// What metrics.jsonl says under these names, as (tag, key).
fn written(run: &Path, names: &[(&str, &str)]) -> Scalars {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).expect("metrics");
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    let value = |line: &serde_json::Value, key: &str| line.pointer(key).and_then(serde_json::Value::as_f64);
    lines
        .flat_map(|line| {
            let step = line["step"].as_u64().expect("a step");
            let found = names
                .iter()
                .filter_map(|(tag, key)| Some((((*tag).to_owned(), step), value(&line, key)? as f32)));
            found.collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn tensorboard_shows_what_the_metrics_say_also_of_a_run_that_was_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let [data, run] = ["data", "run"].map(|name| folder.path().join(name));
    finished(flowgpu(&["collect", "--env", "pendulum", "--max-frames", "600", "--output-dir", text(&data)]));
    let steps = ["--steps", "400", "--log-freq", "10", "--save-freq", "75", "--eval-freq", "100"];
    let closed = ["--env-eval-freq", "200", "--env-eval-episodes", "2"];
    let train = ["train", "--preset", "pendulum", "--device", "cpu", "--eval-split", "0.34"];
    let places = ["--dataset-root", text(&data), "--output-dir", text(&run)];
    let mut killed = flowgpu(&[&train[..], &places, &steps, &closed].concat());
    let metrics = || std::fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
    while !metrics().contains("\"step\":230,") {
        let ended = killed.try_wait().expect("asked");
        assert!(ended.is_none(), "it ended before it could be killed: {}", metrics());
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    killed.kill().expect("killed");
    killed.wait().expect("reaped");
    let (files, before) = shown(&run.join("tensorboard"));
    assert_eq!(files, 1);
    assert!(before.contains_key(&("train/loss".to_owned(), 220)), "{before:?}");
    // As if the last record had been cut off.
    let [file] = &std::fs::read_dir(run.join("tensorboard")).expect("a folder").collect::<Vec<_>>()[..]
    else {
        panic!("one file");
    };
    let file = file.as_ref().expect("reads").path();
    let bytes = std::fs::read(&file).expect("reads");
    std::fs::write(&file, &bytes[..bytes.len() - 5]).expect("written");

    finished(flowgpu(&["train", "--device", "cpu", "--resume", "--output-dir", text(&run)]));
    let (files, shown) = shown(&run.join("tensorboard"));
    assert_eq!(files, 2);
    let expected = written(
        &run,
        &[
            ("train/epoch", "/epoch"),
            ("train/loss", "/loss"),
            ("train/grad_norm", "/grad_norm"),
            ("train/lr", "/lr"),
            ("train/samples_per_second", "/samples_per_s"),
            ("train/data_share", "/data_share"),
            ("validation/loss", "/val_loss"),
            ("eval/score", "/score"),
            ("eval/success_rate", "/eval/success_rate"),
            ("eval/return", "/eval/return"),
            ("eval/upright", "/eval/upright"),
            ("eval/solved", "/eval/solved"),
            ("eval/smoothness", "/eval/smoothness"),
        ],
    );
    let steps = |tag: &str| shown.keys().filter(|(known, _)| known == tag).count();
    assert_eq!((steps("train/loss"), steps("validation/loss"), steps("eval/return")), (40, 4, 2));
    assert_eq!(shown, expected);
}
