//! `flowgpu train --reflow-from`: a teacher's pairs, and what the student gains by them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::EVAL_SEED;
use crate::cli::common::{note, table};
use crate::eval::{Options, evaluate};
use crate::flow::Solver;
use crate::graph::Device;
use crate::policy::{BUILT_IN, Config, FeatureType, Objective, Policy, Pretrained, resolve, resolve_policy};
use crate::sim::{self, Environment};
use crate::train::data::TrainingData;
use crate::train::{FramePairs, Probe};
use crate::{Error, Result};

/// Solver steps of a teacher's sample, unless the user says otherwise.
const STEPS: usize = 50;
/// Between two lines of progress.
const PAUSE: Duration = Duration::from_secs(5);
/// Frames that straightness is measured on at most.
const PROBE: usize = 256;
/// Episodes of a closed-loop evaluation.
const EPISODES: usize = 50;
/// Euler steps that straight paths should make do with.
const FEW: [usize; 2] = [1, 2];
/// The metrics shown, where an evaluation has them.
const SHOWN: [&str; 4] = ["return", "upright", "completed", "steps_to_capture"];

/// Whose paths a run straightens.
#[derive(Debug, Clone)]
pub struct Reflow {
    /// A built-in name, or the pretrained_model folder.
    pub from: String,
    /// Solver steps of its samples, where its solver takes fixed ones.
    steps: usize,
    /// The policy.
    pub teacher: Pretrained,
}

impl Reflow {
    /// Loads the teacher.
    ///
    /// # Errors
    /// If there is no such policy, or its objective has no paths.
    pub fn new(name_or_path: &str, steps: Option<usize>) -> Result<Self> {
        let teacher = resolve_policy(name_or_path)?;
        teacher.notes.iter().for_each(note);
        if teacher.config.objective != Objective::Flow {
            return Err(Error::input(format!(
                "--reflow-from {name_or_path}: its objective is {}, which has no paths to straighten; name a policy of \
                 objective flow",
                json!(teacher.config.objective).as_str().unwrap_or_default()
            )));
        }
        if steps.is_some() && teacher.config.flow.solver == Solver::Dopri5 {
            note(
                "note: the teacher's solver, dopri5, chooses its own steps; --reflow-steps is for other solvers",
            );
        }
        // A run's last checkpoint moves on: a resumed run needs the one it began with.
        let from = match BUILT_IN.contains(&name_or_path) {
            true => name_or_path.to_owned(),
            false => resolve(name_or_path)?.folder.display().to_string(),
        };
        Ok(Self { from, steps: steps.unwrap_or(STEPS), teacher })
    }

    /// Checks that a student's chunks are of the teacher's units and shape, which its pairs are of.
    ///
    /// # Errors
    /// Names the first key that differs.
    pub fn check_student(&self, student: &Config) -> Result<()> {
        let mode = |config: &Config| json!(config.normalization_of(FeatureType::Action));
        let teacher = &self.teacher.config;
        let mut keys = vec![("normalization_mapping.ACTION", mode(teacher), mode(student))];
        let (was, is) = (teacher.to_json(), student.to_json());
        for key in ["chunk_size", "output_features", "n_obs_steps", "input_features"] {
            keys.push((key, was[key].clone(), is[key].clone()));
        }
        match keys.into_iter().find(|(_, was, is)| was != is) {
            None => Ok(()),
            Some((key, was, is)) => Err(Error::input(format!(
                "--set {key}: --reflow-from learns on its teacher's samples, whose `{key}` is {was}, not {is}: leave it \
                 out"
            ))),
        }
    }

    /// Solver steps of the teacher's samples; none of an adaptive solver.
    pub fn fixed_steps(&self) -> Option<usize> {
        (self.teacher.config.flow.solver != Solver::Dopri5).then_some(self.steps)
    }

    /// How the teacher makes a sample.
    fn solved(&self) -> String {
        let solver = self.teacher.config.flow.solver.name();
        match self.fixed_steps() {
            None => solver.to_owned(),
            Some(steps) => format!("{steps} solver steps each ({solver})"),
        }
    }

    /// Makes the pairs that `data` will give from now on, and measures the teacher on some of them.
    ///
    /// # Errors
    /// If the teacher does not fit the data, or the device fails.
    pub fn couple(
        &self,
        data: &mut TrainingData,
        device: &Device,
        seed: u64,
        env: Option<&str>,
    ) -> Result<Comparison> {
        let mut teacher = Policy::from_parts(self.teacher.clone(), device)?;
        teacher.set_solver_steps(self.steps)?;
        let mut told = Instant::now();
        let mut progress = |done: usize, all: usize| {
            if told.elapsed() >= PAUSE {
                told = Instant::now();
                note(format!("pairs of {done} of {all} frames"));
            }
        };
        let pairs = FramePairs::new(data, &mut teacher, seed, &mut progress)?;
        note(format!(
            "rectified pairs of {}: {} frames, {}, {:.1} MB in memory",
            self.from,
            data.frames(),
            self.solved(),
            pairs.bytes() as f64 / 1e6
        ));
        let probe = Probe::new(data, &pairs, PROBE)?;
        data.couple(pairs);
        let environment = env.and_then(|name| sim::make(name).ok());
        let before = Quality::of(&probe, &mut teacher, environment.as_deref())?;
        note(rows(probe.count(), &before, None));
        Ok(Comparison { probe, environment, before })
    }
}

/// The teacher measured, and what is needed to measure the student alike.
pub struct Comparison {
    probe: Probe,
    environment: Option<Box<dyn Environment>>,
    before: Quality,
}

impl Comparison {
    /// Measures the student and prints both; the answer is what metrics.jsonl holds.
    ///
    /// # Errors
    /// If the device fails.
    pub fn finish(&self, student: &mut Policy) -> Result<Value> {
        let after = Quality::of(&self.probe, student, self.environment.as_deref())?;
        note(rows(self.probe.count(), &self.before, Some(&after)));
        Ok(json!({"before": self.before.to_json(), "after": after.to_json()}))
    }
}

/// How straight a policy's paths are, and what few Euler steps are worth.
struct Quality {
    straightness: f64,
    /// For each of [`FEW`]: the mean square from the teacher's fine samples, and the closed-loop means.
    few: Vec<(f64, Option<Value>)>,
}

impl Quality {
    fn of(probe: &Probe, policy: &mut Policy, environment: Option<&dyn Environment>) -> Result<Self> {
        let straightness = probe.straightness(policy)?;
        let few = FEW.map(|steps| {
            let error = probe.error(policy, steps)?;
            let options = Options { episodes: EPISODES, seed: EVAL_SEED, ..Options::default() };
            let report = environment.map(|environment| evaluate(environment, policy, options)).transpose()?;
            Ok((error, report.map(|report| report.means())))
        });
        Ok(Self { straightness, few: few.into_iter().collect::<Result<_>>()? })
    }

    fn to_json(&self) -> Value {
        let few = FEW.iter().zip(&self.few);
        let few =
            few.map(|(steps, (error, eval))| (steps.to_string(), json!({"error": error, "eval": eval})));
        json!({"straightness": self.straightness, "steps": few.collect::<serde_json::Map<_, _>>()})
    }

    /// Names and values, as a table shows them.
    fn named(&self) -> Vec<(String, f64)> {
        let mut named = vec![("straightness".to_owned(), self.straightness)];
        let steps = |n: usize| if n == 1 { "1 step".to_owned() } else { format!("{n} steps") };
        named.extend(FEW.iter().zip(&self.few).map(|(&n, few)| (format!("error, {}", steps(n)), few.0)));
        for (&n, (_, means)) in FEW.iter().zip(&self.few) {
            let value = |name: &str| Some((format!("{name}, {}", steps(n)), means.as_ref()?[name].as_f64()?));
            named.extend(SHOWN.into_iter().filter_map(value).map(|(name, v)| (name.replace('_', " "), v)));
        }
        named
    }
}

/// A row a quantity, a column a policy.
fn rows(frames: usize, before: &Quality, after: Option<&Quality>) -> String {
    let number = |value: f64| match value.abs() {
        size if size >= 10.0 => format!("{value:9.1}"),
        _ => format!("{value:9.5}"),
    };
    let heading = |name: &str| format!("{name:>9}");
    let after_or_nothing = after.map_or(String::new(), |_| heading("after"));
    let mut rows = vec![[format!("on {frames} frames"), heading("before"), after_or_nothing]];
    let after = after.map_or(Vec::new(), Quality::named);
    rows.extend(before.named().into_iter().enumerate().map(|(row, (name, value))| {
        let after = after.get(row).map_or(String::new(), |(_, value)| number(*value));
        [name, number(value), after]
    }));
    table(&rows).trim_end().to_owned()
}
