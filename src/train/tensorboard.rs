//! TensorBoard's event files: what `metrics.jsonl` says, for `tensorboard --logdir outputs/train`.
//!
//! A file is a row of TFRecords (tensorflow/core/lib/io/record_writer.h):
//!
//! ```text
//! u64 length | u32 masked CRC-32C of the length | the event | u32 masked CRC-32C of the event      little-endian
//! ```
//!
//! and an event is a protocol buffer (tensorflow/core/util/event.proto, tensorflow/core/framework/summary.proto):
//!
//! ```text
//! Event      { double wall_time = 1; int64 step = 2; string file_version = 3; Summary summary = 5; SessionLog session_log = 7; }
//! Summary    { repeated Value value = 1; }      Value { string tag = 1; float simple_value = 2; }
//! SessionLog { SessionStatus status = 1; }      START = 1
//! ```
//!
//! A run that goes on opens a file of its own, which begins with a START at the step after its checkpoint: TensorBoard
//! then forgets what earlier files say of that step and later ones.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crc::{CRC_32_ISCSI, Crc};
use serde_json::Value;

use crate::{Error, Result};

/// What an event file's first event says it is.
const VERSION: &[u8] = b"brain.Event:2";
/// Names of event files, before and after the second in which they were begun.
const NAME: (&str, &str) = ("events.out.tfevents.", ".flowgpu");
/// CRC-32C, Castagnoli's polynomial.
static CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// A file of scalars over steps.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Begins a file in a folder, which is made if it is not there, for a run that has done so many steps.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn create(folder: &Path, done: u64) -> Result<Self> {
        let refused = |e: io::Error| Error::failure(format!("{}: {e}", folder.display()));
        fs::create_dir_all(folder).map_err(refused)?;
        // TensorBoard reads files in the order of their names: later than all others, even in the same second.
        let second = next_second(folder, now() as u64).map_err(refused)?;
        let path = folder.join(format!("{}{second:010}{}", NAME.0, NAME.1));
        let file = OpenOptions::new().append(true).create_new(true).open(&path);
        let file = file.map_err(|e| Error::failure(format!("{}: {e}", path.display())))?;
        let mut events = Self { path, file };
        events.append(&event(0, 3, VERSION))?;
        // SessionLog { status: START }
        events.append(&event(done + 1, 7, &[0x08, 1]))?;
        Ok(events)
    }

    /// Writes scalars of a step, at once; nothing for none.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn write(&mut self, step: u64, scalars: &[(String, f64)]) -> Result<()> {
        if scalars.is_empty() {
            return Ok(());
        }
        let mut summary = Vec::new();
        for (tag, value) in scalars {
            let mut scalar = Vec::new();
            field(&mut scalar, 1, tag.as_bytes());
            scalar.push(2 << 3 | FOUR_BYTES);
            scalar.extend((*value as f32).to_le_bytes());
            field(&mut summary, 1, &scalar);
        }
        self.append(&event(step, 5, &summary))
    }

    /// One write a record: a run that is killed leaves whole ones, but for the last at most.
    fn append(&mut self, event: &[u8]) -> Result<()> {
        let written = self.file.write_all(&record(event));
        written.map_err(|e| Error::failure(format!("{}: {e}", self.path.display())))
    }
}

/// The scalars in a line of `metrics.jsonl`, under the names that TensorBoard groups by: `train/loss`,
/// `train/samples_per_second`, `validation/loss`, `eval/return`.
pub fn scalars(line: &Value) -> Vec<(String, f64)> {
    let mut found = Vec::new();
    for (key, value) in line.as_object().into_iter().flatten() {
        let tag = match key.as_str() {
            "step" | "samples" | "elapsed_s" => continue,
            "val_loss" => "validation/loss".to_owned(),
            "samples_per_s" => "train/samples_per_second".to_owned(),
            "score" => "eval/score".to_owned(),
            "eval" => {
                let metrics = value.as_object().into_iter().flatten();
                found.extend(
                    metrics.filter_map(|(name, value)| Some((format!("eval/{name}"), value.as_f64()?))),
                );
                continue;
            }
            other => format!("train/{other}"),
        };
        found.extend(value.as_f64().map(|value| (tag, value)));
    }
    found
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// The first second from `now` on that is later than those of all event files in a folder.
fn next_second(folder: &Path, now: u64) -> io::Result<u64> {
    let mut second = now;
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let begun = name.to_str().and_then(|name| name.strip_prefix(NAME.0)?.split('.').next()?.parse().ok());
        second = second.max(begun.map_or(0, |begun: u64| begun.saturating_add(1)));
    }
    Ok(second)
}

/// Wire types of protocol buffers.
const VARINT: u8 = 0;
const EIGHT_BYTES: u8 = 1;
const BYTES: u8 = 2;
const FOUR_BYTES: u8 = 5;

/// An event that happens now and holds one message or string, its field `number`.
fn event(step: u64, number: u8, content: &[u8]) -> Vec<u8> {
    let mut event = vec![1 << 3 | EIGHT_BYTES];
    event.extend(now().to_le_bytes());
    event.push(2 << 3 | VARINT);
    varint(&mut event, step);
    field(&mut event, number, content);
    event
}

/// Adds a string or a message.
fn field(message: &mut Vec<u8>, number: u8, content: &[u8]) {
    message.push(number << 3 | BYTES);
    varint(message, content.len() as u64);
    message.extend(content);
}

/// Adds a number, seven bits a byte, the lowest first.
fn varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}

/// A TFRecord.
fn record(event: &[u8]) -> Vec<u8> {
    let length = (event.len() as u64).to_le_bytes();
    [&length[..], &masked_crc(&length), event, &masked_crc(event)].concat()
}

/// A checksum that may stand in what is itself checksummed (tensorflow/core/lib/hash/crc32c.h).
fn masked_crc(bytes: &[u8]) -> [u8; 4] {
    CRC.checksum(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn records_are_framed_as_tensorflow_frames_them() {
        // CRC-32C's check value, and the header of every event file that TensorFlow writes: 24 bytes follow.
        assert_eq!(CRC.checksum(b"123456789"), 0xe306_9283);
        let framed = record(&[0; 24]);
        assert_eq!(framed[..12], [0x18, 0, 0, 0, 0, 0, 0, 0, 0xa3, 0x7f, 0x4b, 0x22]);
        assert_eq!(framed.len(), 12 + 24 + 4);
    }

    #[test]
    fn numbers_take_seven_bits_a_byte() {
        let of = |value| {
            let mut bytes = Vec::new();
            varint(&mut bytes, value);
            bytes
        };
        assert_eq!((of(0), of(127), of(128), of(300)), (vec![0], vec![127], vec![128, 1], vec![0xac, 2]));
        assert_eq!(of(u64::MAX).len(), 10);
    }

    #[test]
    fn lines_of_metrics_become_named_scalars() {
        let of = |line| scalars(&line);
        let named = |names: &[(&str, f64)]| -> Vec<(String, f64)> {
            names.iter().map(|&(name, value)| (name.to_owned(), value)).collect()
        };
        let line = json!({"step": 10, "epoch": 0.5, "samples": 80, "loss": 1.5, "grad_norm": 2.0, "lr": 1e-3,
            "samples_per_s": 400.0, "data_share": 0.1, "elapsed_s": 3.0});
        let expected = [
            ("train/epoch", 0.5),
            ("train/loss", 1.5),
            ("train/grad_norm", 2.0),
            ("train/lr", 1e-3),
            ("train/samples_per_second", 400.0),
            ("train/data_share", 0.1),
        ];
        assert_eq!(of(line), named(&expected));
        assert_eq!(of(json!({"step": 10, "val_loss": 0.25})), named(&[("validation/loss", 0.25)]));
        let line = json!({"step": 10, "score": 0.9, "eval": {"success_rate": 1.0, "steps": 17.5}});
        assert_eq!(of(line), named(&[("eval/score", 0.9), ("eval/success_rate", 1.0), ("eval/steps", 17.5)]));
        // A loss that is no number is null in JSON, and left out.
        assert_eq!(of(json!({"step": 10, "loss": null})), []);
    }

    #[test]
    fn files_of_one_second_are_named_one_after_the_other() {
        let folder = tempfile::tempdir().expect("a folder");
        let future = folder.path().join("events.out.tfevents.4000000000.elsewhere");
        fs::write(&future, "").expect("written");
        for _ in 0..2 {
            EventFile::create(folder.path(), 0).expect("created");
        }
        let entries =
            fs::read_dir(folder.path()).expect("reads").map(|entry| entry.expect("reads").file_name());
        let mut names: Vec<String> = entries.map(|name| name.into_string().expect("plain")).collect();
        names.sort();
        assert_eq!(
            names[1..],
            ["events.out.tfevents.4000000001.flowgpu", "events.out.tfevents.4000000002.flowgpu"]
        );
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let taken = folder.path().join("tensorboard");
        fs::write(&taken, "a file").expect("written");
        let told = EventFile::create(&taken, 0).expect_err("refused");
        assert!(told.exit_code() == 1 && told.to_string().contains("tensorboard"), "{told}");
    }
}
