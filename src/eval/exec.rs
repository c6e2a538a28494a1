//! A policy in any language: a program that reads observations and writes chunks, a line of JSON each.
//!
//! ```text
//! → {"type": "hello", "protocol": 1, "contract": {..}}
//! ← {"chunk_size": 8, "n_action_steps": 4}
//! → {"type": "observation", "episode": 0, "step": 0, "observation": {"observation.state": [..]}}
//! ← {"chunk": [[..], ..]}
//! ```
//!
//! A vector is a list of numbers, a picture `{"shape": [3, H, W], "data": BASE64}` of bytes. A chunk has `chunk_size` rows
//! of the action's components, in the contract's units. Only episodes that need a chunk are asked for, one at a time; step 0
//! begins an episode anew. The program ends when its input does. What it writes to its standard error reaches the user.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::planner::{Planned, Planner, Request};
use crate::policy::Chunking;
use crate::sim::{Observation, Spec};
use crate::{Error, Result};

/// The version of the protocol.
pub const PROTOCOL: u32 = 1;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Actions of a chunk at most.
const LONGEST: usize = 10_000;

/// A program that plans.
pub struct ExecPlanner {
    command: String,
    spec: &'static Spec,
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<std::io::Result<String>>,
    hello: Hello,
    /// What each episode sees now, and how many steps it has seen before.
    seen: BTreeMap<usize, (usize, Value)>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hello {
    chunk_size: usize,
    n_action_steps: usize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    chunk: Vec<Vec<f32>>,
}

impl ExecPlanner {
    /// Starts a program by the system's shell and greets it.
    ///
    /// # Errors
    /// If it does not start, or does not answer as the protocol says.
    pub fn start(command: &str, spec: &'static Spec) -> Result<Self> {
        let (shell, flag) = if cfg!(windows) { ("cmd", "/C") } else { ("sh", "-c") };
        let mut child = Command::new(shell)
            .args([flag, command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| Error::input(format!("exec:{command}: does not start: {e}")))?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (send, lines) = channel();
        if let Some(output) = output {
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines() {
                    if send.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        let hello = Hello { chunk_size: 0, n_action_steps: 0 };
        let mut started =
            Self { command: command.to_owned(), spec, child, input, lines, hello, seen: BTreeMap::new() };
        started.hello =
            started.ask(&json!({"type": "hello", "protocol": PROTOCOL, "contract": spec.contract()}))?;
        let Hello { chunk_size, n_action_steps } = started.hello;
        if !(1..=LONGEST).contains(&chunk_size) || !(1..=chunk_size).contains(&n_action_steps) {
            return Err(started.wrong(format!(
                "chunk_size {chunk_size} and n_action_steps {n_action_steps}: use 1 to {LONGEST} actions, and no more of \
                 them executed than there are"
            )));
        }
        Ok(started)
    }

    /// Executes another number of each chunk's actions.
    ///
    /// # Errors
    /// If there are none, or more than a chunk has.
    pub fn set_action_steps(&mut self, steps: usize) -> Result<()> {
        if !(1..=self.hello.chunk_size).contains(&steps) {
            let chunk = self.hello.chunk_size;
            return Err(self.wrong(format!("{steps} action steps of chunks of {chunk}: use 1 to {chunk}")));
        }
        self.hello.n_action_steps = steps;
        Ok(())
    }

    fn wrong(&self, what: impl std::fmt::Display) -> Error {
        Error::input(format!("exec:{}: {what}", self.command))
    }

    /// Sends a line and reads the answer.
    fn ask<T: for<'de> Deserialize<'de>>(&mut self, message: &Value) -> Result<T> {
        let sent = self.input.as_mut().map(|input| writeln!(input, "{message}").and_then(|()| input.flush()));
        if !matches!(sent, Some(Ok(()))) {
            return Err(self.gone());
        }
        let line = match self.lines.recv_timeout(PATIENCE) {
            Ok(Ok(line)) => line,
            Ok(Err(e)) => return Err(self.wrong(format!("its answer cannot be read: {e}"))),
            Err(RecvTimeoutError::Timeout) => {
                let seconds = PATIENCE.as_secs();
                return Err(Error::failure(format!(
                    "exec:{}: no answer within {seconds} s; it has to flush after every line",
                    self.command
                )));
            }
            Err(RecvTimeoutError::Disconnected) => return Err(self.gone()),
        };
        serde_json::from_str(&line).map_err(|e| {
            let line: String = line.chars().take(80).collect();
            self.wrong(format!("its answer `{line}` is not what the protocol says: {e}"))
        })
    }

    fn gone(&mut self) -> Error {
        self.input = None;
        let status = self.child.wait().map_or_else(|e| e.to_string(), |status| status.to_string());
        self.wrong(format!("the program ended before it answered ({status})"))
    }

    /// A chunk from what an episode sees.
    fn chunk(&mut self, episode: usize) -> Result<Vec<f32>> {
        let Some((step, observation)) = self.seen.get(&episode) else {
            return Err(Error::failure(format!("episode {episode} has seen nothing yet")));
        };
        let message =
            json!({"type": "observation", "episode": episode, "step": step, "observation": observation});
        // JSON has no NaN, and what an f32 cannot hold is refused: all are finite.
        let Answer { chunk } = self.ask(&message)?;
        let (rows, columns) = (self.hello.chunk_size, self.spec.low.len());
        if chunk.len() != rows || chunk.iter().any(|action| action.len() != columns) {
            let columns_given = chunk.iter().map(Vec::len).find(|&n| n != columns).unwrap_or(columns);
            return Err(self.wrong(format!(
                "episode {episode}: its chunk is {} x {columns_given}, not {rows} x {columns}",
                chunk.len()
            )));
        }
        let bounds = self.spec.low.iter().zip(self.spec.high);
        let bounds: Vec<(f32, f32)> = bounds.map(|(low, high)| (*low as f32, *high as f32)).collect();
        let clamped = chunk.iter().flat_map(|action| action.iter().zip(&bounds));
        Ok(clamped.map(|(value, (low, high))| value.clamp(*low, *high)).collect())
    }
}

impl Planner for ExecPlanner {
    fn chunk_size(&self) -> usize {
        self.hello.chunk_size
    }

    fn n_action_steps(&self) -> usize {
        self.hello.n_action_steps
    }

    fn reset(&mut self) -> Result<()> {
        self.seen.clear();
        Ok(())
    }

    fn see(&mut self, episodes: &[usize], seen: &[Observation]) -> Result<()> {
        for (&episode, observation) in episodes.iter().zip(seen) {
            let shown = written(self.spec, observation);
            let step = self.seen.get(&episode).map_or(0, |(step, _)| step + 1);
            self.seen.insert(episode, (step, shown));
        }
        Ok(())
    }

    fn plan(&mut self, requests: &[Request], chunking: Chunking) -> Result<Vec<Planned>> {
        if chunking != Chunking::Naive {
            return Err(self.wrong("a program makes its chunks by itself: use --chunking naive or wait"));
        }
        let mut all = Vec::with_capacity(requests.len());
        for request in requests {
            let actions = self.chunk(request.episode)?;
            all.push(Planned { actions, normalized: Vec::new(), evaluations: 0 });
        }
        Ok(all)
    }
}

impl Drop for ExecPlanner {
    /// Closes its input, which ends a program that keeps to the protocol; one that goes on is ended.
    fn drop(&mut self) {
        self.input = None;
        for _ in 0..20 {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An observation as the protocol writes it.
fn written(spec: &Spec, observation: &Observation) -> Value {
    let fields = spec.observations.iter().map(|feature| {
        let value = if feature.is_image() {
            json!({"shape": feature.shape, "data": STANDARD.encode(observation.picture(feature.key))})
        } else {
            json!(observation.vector(feature.key))
        };
        (feature.key.to_owned(), value)
    });
    Value::Object(fields.collect::<Map<_, _>>())
}
