//! The program, and a folder of evaluations.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

pub fn flowgpu(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_flowgpu")).args(arguments).output().expect("the program starts")
}

/// What a command prints on stdout.
pub fn told(arguments: &[&str]) -> String {
    let output = flowgpu(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The sentence with which it stops, which is about the input.
pub fn refusal(arguments: &[&str]) -> String {
    let output = flowgpu(arguments);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {told}");
    assert!(!told.contains("panicked"), "{told}");
    told
}

/// A folder of evaluations.
pub struct Lab {
    folder: tempfile::TempDir,
}

impl Lab {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }

    /// Evaluates into a folder of that name.
    pub fn eval(&self, name: &str, flags: &[&str]) -> PathBuf {
        let output = self.text(name);
        told(&[&["eval", "--device", "cpu", "--videos", "1", "--output-dir", &output], flags].concat());
        self.path(name)
    }
}

pub fn read(path: impl AsRef<Path>) -> Value {
    serde_json::from_str(&fs::read_to_string(path).expect("is there")).expect("is JSON")
}

pub fn episodes(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("episodes.jsonl")).expect("is there");
    text.lines().map(|line| serde_json::from_str(line).expect("is JSON")).collect()
}
