//! The loop: steps, metrics, validation, closed-loop evaluation, checkpoints, the reasons to stop.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use serde_json::{Value, json};

use super::Trainer;
use super::tensorboard::{EventFile, scalars};
use crate::policy::RunDir;
use crate::{Error, Result};

/// What a closed-loop evaluation says.
#[derive(Debug, Clone)]
pub struct EvalOutcome {
    /// Larger is better; what `best` goes by.
    pub score: f64,
    /// For the metrics file.
    pub metrics: Value,
}

/// A closed-loop evaluation of a policy in training.
pub type Evaluate<'a> = dyn FnMut(&Trainer) -> Result<EvalOutcome> + 'a;

/// What a run is given beside its trainer.
pub struct Run<'a> {
    /// Where checkpoints and metrics go.
    pub dir: &'a RunDir,
    /// What train_config.json will hold.
    pub train_config: Value,
    /// Evaluates the run in closed loop, where that is wanted.
    pub evaluate: Option<&'a mut Evaluate<'a>>,
    /// Receives a line now and then.
    pub progress: &'a mut dyn FnMut(&str),
}

/// How a run ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Why it stopped, as a sentence's end.
    pub reason: String,
    /// The last checkpoint.
    pub checkpoint: PathBuf,
    /// The smoothed training loss at the end.
    pub loss: f64,
    /// (step, loss) of every line of metrics.
    pub losses: Vec<(u64, f64)>,
    /// (step, loss) of every validation.
    pub validations: Vec<(u64, f64)>,
    /// The best evaluation's step and score.
    pub best: Option<(u64, f64)>,
}

/// Metrics as JSON lines, `metrics.jsonl` in the run's folder, and as TensorBoard shows them, in `tensorboard/`.
struct Metrics {
    path: PathBuf,
    file: File,
    events: Option<EventFile>,
}

impl Metrics {
    /// Opens the file; lines of steps after `done`, left by a run that was cut off, are dropped.
    fn open(dir: &RunDir, done: u64) -> Result<(Self, Vec<Value>)> {
        let path = dir.root().join("metrics.jsonl");
        let failed = |e: std::io::Error| Error::failure(format!("{}: {e}", path.display()));
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(failed(e)),
        };
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let kept: Vec<Value> =
            lines.filter(|line| line["step"].as_u64().is_some_and(|step| step <= done)).collect();
        let text: String = kept.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(&path, text).map_err(failed)?;
        let file = OpenOptions::new().append(true).open(&path).map_err(failed)?;
        Ok((Self { path, file, events: None }, kept))
    }

    fn write(&mut self, line: &Value) -> Result<()> {
        let written = writeln!(self.file, "{line}");
        written.map_err(|e| Error::failure(format!("{}: {e}", self.path.display())))?;
        match (&mut self.events, line["step"].as_u64()) {
            (Some(events), Some(step)) => events.write(step, &scalars(line)),
            _ => Ok(()),
        }
    }
}

/// Adds a line to a run's metrics; without a `step` a resumed run drops it.
///
/// # Errors
/// If the disk refuses.
pub fn append_metrics(dir: &RunDir, line: &Value) -> Result<()> {
    Metrics::open(dir, u64::MAX)?.0.write(line)
}

/// How fast the loss shown follows the loss measured.
const SMOOTHING: f64 = 0.2;

/// Runs a trainer to its end.
///
/// # Errors
/// If a step fails, or the disk refuses; the last good checkpoint stays whole.
pub fn run(trainer: &mut Trainer, mut with: Run<'_>) -> Result<Outcome> {
    let settings = trainer.settings.clone();
    let (mut metrics, earlier) = Metrics::open(with.dir, trainer.done())?;
    metrics.events = Some(EventFile::create(&with.dir.root().join("tensorboard"), trainer.done())?);
    let curve = |key: &str| -> Vec<(u64, f64)> {
        let point = |line: &Value| Some((line["step"].as_u64()?, line[key].as_f64()?));
        earlier.iter().filter_map(point).collect()
    };
    let mut outcome = Outcome {
        reason: "all steps done".to_owned(),
        checkpoint: PathBuf::new(),
        loss: f64::NAN,
        losses: curve("loss"),
        validations: curve("val_loss"),
        best: curve("score").into_iter().fold(None, better),
    };
    outcome.loss = outcome.losses.iter().fold(f64::NAN, |mean, &(_, loss)| smooth(mean, loss));
    let start = Instant::now();
    let (first, mut logged, mut logged_at) = (trainer.done(), trainer.done(), Instant::now());
    let mut waited = trainer.waited();
    while trainer.done() < settings.steps {
        let minutes = start.elapsed().as_secs_f64() / 60.0;
        let mut progress = trainer.done() as f64 / settings.steps as f64;
        if settings.max_minutes > 0.0 {
            progress = progress.max(minutes / settings.max_minutes);
        }
        trainer.advance(progress)?;
        let step = trainer.done();
        let out_of_time =
            settings.max_minutes > 0.0 && start.elapsed().as_secs_f64() / 60.0 >= settings.max_minutes;
        let last = step == settings.steps || out_of_time;
        let due = |every: u64| every > 0 && step.is_multiple_of(every);
        let mut reached = false;
        if due(settings.log_freq) || last {
            let report = trainer.report()?;
            outcome.loss = smooth(outcome.loss, f64::from(report.loss));
            outcome.losses.push((step, f64::from(report.loss)));
            reached = settings.target_loss > 0.0 && outcome.loss <= settings.target_loss;
            let took = logged_at.elapsed().as_secs_f64().max(1e-9);
            let rate = (step - logged) as f64 / took;
            let data_share = (trainer.waited() - waited).as_secs_f64() / took;
            (logged, logged_at, waited) = (step, Instant::now(), trainer.waited());
            trainer.take_notes().iter().for_each(|note| (with.progress)(note));
            let samples_per_s = rate * settings.samples_per_step() as f64;
            metrics.write(&json!({
                "step": step,
                "epoch": step as f64 / trainer.steps_per_epoch().max(1) as f64,
                "samples": step * settings.samples_per_step() as u64,
                "loss": report.loss,
                "grad_norm": report.grad_norm,
                "lr": settings.learning_rate(step, progress),
                "samples_per_s": samples_per_s,
                "data_share": data_share,
                "elapsed_s": start.elapsed().as_secs_f64(),
            }))?;
            let mut left =
                (settings.steps - step) as f64 / ((step - first) as f64 / start.elapsed().as_secs_f64());
            if settings.max_minutes > 0.0 {
                left = left.min(60.0 * settings.max_minutes - start.elapsed().as_secs_f64()).max(0.0);
            }
            (with.progress)(&format!(
                "step {step}/{} loss {:.4} grad {:.3} {samples_per_s:.0} samples/s data {:.0} % ETA {}",
                settings.steps,
                outcome.loss,
                report.grad_norm,
                100.0 * data_share,
                duration(left)
            ));
        }
        let stopping = last || reached;
        if due(settings.eval_freq) || stopping {
            if let Some(loss) = trainer.validate()? {
                outcome.validations.push((step, loss));
                metrics.write(&json!({"step": step, "val_loss": loss}))?;
                (with.progress)(&format!("step {step} validation loss {loss:.4}"));
            }
            logged_at = Instant::now();
            logged = step;
        }
        let evaluated = match with.evaluate.as_mut() {
            Some(evaluate) if due(settings.env_eval_freq) || (settings.env_eval_freq > 0 && stopping) => {
                Some(evaluate(trainer)?)
            }
            _ => None,
        };
        let best = evaluated.as_ref().is_some_and(|e| outcome.best.is_none_or(|(_, score)| e.score > score));
        if due(settings.save_freq) || stopping || best {
            outcome.checkpoint = trainer.save(with.dir, &with.train_config)?;
        }
        if let Some(evaluation) = evaluated {
            metrics.write(&json!({"step": step, "score": evaluation.score, "eval": evaluation.metrics}))?;
            (with.progress)(&format!("step {step} evaluation {}", evaluation.metrics));
            if best {
                outcome.best = Some((step, evaluation.score));
                with.dir.mark_best(step)?;
            }
            logged_at = Instant::now();
            logged = step;
        }
        if stopping {
            if reached {
                outcome.reason = format!("the loss reached {}", settings.target_loss);
            } else if step < settings.steps {
                outcome.reason = format!("{} minutes are over", settings.max_minutes);
            }
            return Ok(outcome);
        }
    }
    Err(Error::input(format!(
        "the run has done its {} steps already: give --steps a larger number to go on",
        settings.steps
    )))
}

fn better(best: Option<(u64, f64)>, point: (u64, f64)) -> Option<(u64, f64)> {
    match best {
        Some(known) if known.1 >= point.1 => Some(known),
        _ => Some(point),
    }
}

fn smooth(mean: f64, loss: f64) -> f64 {
    if mean.is_nan() { loss } else { mean + SMOOTHING * (loss - mean) }
}

/// Seconds as `1h02m`, `3m05s` or `7s`.
fn duration(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s:02}s"),
        (h, m, _) => format!("{h}h{m:02}m"),
    }
}
