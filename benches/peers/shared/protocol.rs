//! What the speed harness says to a peer: a line on stdin asks, a line of JSON on stdout answers.
//!
//! `check`, `train BATCH REPEAT` or `sample BATCH REPEAT`; README.md has the fields of the answers. Both peers include
//! this file by its path.

use std::any::Any;
use std::io::BufRead;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};

use crate::golden::Golden;

/// Runs that are not timed, before those that are: kernels are compiled and tuned in them.
const WARM_UP: usize = 3;

pub type Result<T> = std::result::Result<T, String>;

/// A framework with the seed-000 network on a device.
pub trait Peer {
    /// The framework and its version.
    const NAME: [&str; 2];

    /// What a training step lacks.
    const TRAINING_NOTE: Option<&str> = None;

    /// The network with the golden's weights, on the device of this name.
    fn open(device: &str, golden: &Golden) -> Result<Self>
    where
        Self: Sized;

    /// The golden's images [B, 3, 128, 128] and noise [B, 8, 2] -> actions [B, 8, 2].
    fn sample_of(&mut self, images: &[f32], noise: &[f32]) -> Result<Vec<f32>>;

    /// One chunk of actions for each of as many images from host memory, read back.
    fn sample(&mut self, batch: usize) -> Result<()>;

    /// One training step on images from host memory: the parameters are updated and the loss is read back.
    fn train(&mut self, batch: usize) -> Result<()>;
}

/// `PROGRAM serve DEVICE GOLDEN`, until end of input.
pub fn serve<P: Peer>() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [command, device, path] = &arguments[..] else { return Err("want: serve DEVICE GOLDEN".into()) };
    if command != "serve" {
        return Err(format!("unknown command `{command}`: want serve DEVICE GOLDEN"));
    }
    let golden = Golden::read(Path::new(path))?;
    let mut peer = P::open(device, &golden)?;
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|error| error.to_string())?;
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.is_empty() {
            continue;
        }
        let mut row = json!({"what": words[0], "peer": P::NAME[0], "version": P::NAME[1], "device": device});
        // A framework panics where it lacks something: the harness is told, and may ask for something else.
        let answer = catch_unwind(AssertUnwindSafe(|| answer(&mut peer, &golden, &words)))
            .unwrap_or_else(|panic| Err(message(panic.as_ref())));
        let fields = answer.unwrap_or_else(|reason| json!({"skipped": reason}));
        if let (Some(row), Value::Object(fields)) = (row.as_object_mut(), fields) {
            row.extend(fields);
        }
        println!("{row}");
    }
    Ok(())
}

fn answer<P: Peer>(peer: &mut P, golden: &Golden, words: &[&str]) -> Result<Value> {
    if let ["check"] = words {
        let sample =
            peer.sample_of(&golden.values("obs/observation.image")?, &golden.values("sample_noise")?)?;
        return Ok(json!({"nmse": nmse(&sample, &golden.values("expect/sample")?)?}));
    }
    let [what, batch, repeat] = words else { return Err("want: check, or train|sample BATCH REPEAT".into()) };
    let number = |text: &str| match text.parse::<usize>() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("`{text}` is no count")),
    };
    let (batch, repeat) = (number(batch)?, number(repeat)?);
    let run = match *what {
        "train" => P::train,
        "sample" => P::sample,
        other => return Err(format!("`{other}` is unknown")),
    };
    for _ in 0..WARM_UP {
        run(peer, batch)?;
    }
    let mut times = Vec::with_capacity(repeat);
    for _ in 0..repeat {
        let start = Instant::now();
        run(peer, batch)?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((repeat - 1) as f64 * share).round() as usize];
    let mut fields = json!({"batch": batch, "median_ms": at(0.5), "q1_ms": at(0.25), "q3_ms": at(0.75)});
    if let ("train", Some(note)) = (*what, P::TRAINING_NOTE) {
        fields["note"] = note.into();
    }
    Ok(fields)
}

/// Squared error over the reference's square.
fn nmse(values: &[f32], reference: &[f32]) -> Result<f64> {
    if values.len() != reference.len() {
        return Err(format!("{} values, not {}", values.len(), reference.len()));
    }
    let square = |x: f32| f64::from(x) * f64::from(x);
    let error: f64 = values.iter().zip(reference).map(|(x, r)| square(x - r)).sum();
    Ok(error / reference.iter().copied().map(square).sum::<f64>())
}

/// The first line of what a panic said.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words");
    text.lines().next().unwrap_or_default().to_owned()
}
