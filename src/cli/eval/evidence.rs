//! One policy with one setting, evaluated into a folder.

use std::path::Path;
use std::time::SystemTime;

use serde_json::{Map, Value, json};

use super::actor::Actor;
use super::{Args, NoiseKind, now_and_then};
use crate::Result;
use crate::cli::common::note;
use crate::eval::artifact::{Artifact, Conditions, PolicyRecord, Program, RunRecord, SCHEMA};
use crate::eval::evidence::{Order, Progress, evaluate_into, object};
use crate::eval::{Options, Setting, Trial};
use crate::sim::{Environment, make};

/// Evaluates into `--output-dir` and says where it is.
///
/// # Errors
/// As [`evaluate_into`].
pub fn run(
    args: &Args,
    folder: &Path,
    environment: &dyn Environment,
    options: Options,
    actor: &mut Actor,
) -> Result<()> {
    let setting = actor.settings(args)?[0];
    let artifact = evaluate(args, folder, environment, options, actor, setting)?;
    if args.json {
        let info = crate::eval::artifact::eval_info(&artifact.run, &artifact.episodes, &[]);
        println!("{info}");
    } else {
        summarise(&artifact);
    }
    Ok(())
}

fn evaluate(
    args: &Args,
    folder: &Path,
    environment: &dyn Environment,
    options: Options,
    actor: &mut Actor,
    setting: Setting,
) -> Result<Artifact> {
    let plain = make(&args.env)?;
    let spec = environment.spec();
    let horizon = options.horizon.unwrap_or(spec.horizon);
    let perturbations = environment.perturbations();
    let started = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let run = RunRecord {
        schema: SCHEMA,
        program: Program::this(),
        command: std::env::args().collect::<Vec<_>>().join(" "),
        started_unix_s: started.map_or(0, |since| since.as_secs()),
        seconds: 0.0,
        device: actor.policy().map_or_else(|| "none".to_owned(), |policy| policy.device().described()),
        policy: policy_record(args, actor, setting)?,
        contract: spec.contract(),
        episodes: options.episodes,
        seed: options.seed,
        batch_size: options.batch_size,
        horizon,
        conditions: Conditions {
            perturbations: object(perturbations.to_json()),
            perturbation_seed: perturbations.seed,
            timing: setting.timing.to_json(),
        },
        complete: false,
    };
    let training = actor.training_range();
    let order = Order {
        trial: Trial { environment, timing: setting.timing, seed: options.seed, horizon },
        plain: plain.as_ref(),
        perturbations: &perturbations,
        run,
        noise_seed: args.noise_seed,
        training: training.as_ref(),
        videos: args.videos,
    };
    let mut tell = told();
    actor.with_subject(setting, |subject| evaluate_into(folder, &order, subject, &mut tell))
}

/// Who acts, and how.
fn policy_record(args: &Args, actor: &Actor, setting: Setting) -> Result<PolicyRecord> {
    let mut sampling = Map::new();
    if let Some(policy) = actor.policy() {
        let mut put = |key: &str, value: Value| drop(sampling.insert(key.to_owned(), value));
        put("solver", json!(setting.solver_name()));
        put("steps", json!(setting.steps));
        put("noise", json!(if args.noise == NoiseKind::Zero { "zero" } else { "seeded" }));
        put("weights", json!(args.weights.to_string()));
        if let Some(guidance) = policy.guidance() {
            put("guidance_scale", json!(guidance.scale));
        }
    }
    Ok(PolicyRecord {
        name: args.name.clone().unwrap_or_else(|| actor.name.clone()),
        kind: actor.kind().to_owned(),
        sha256: actor.weights_sha256()?,
        config: actor.policy().map(|policy| policy.config().to_json()),
        n_action_steps: actor.n_action_steps(),
        sampling,
    })
}

/// Says how far it is.
fn told() -> impl FnMut(Progress) {
    let mut tell = now_and_then();
    move |progress| match progress {
        Progress::Resumed { done } => note(format!("going on after {done} episodes")),
        Progress::Step { first, step, running } => {
            tell(&|| format!("episodes from {first}, step {step}: {running} running"));
        }
    }
}

/// What was found, for people.
fn summarise(artifact: &Artifact) {
    let run = &artifact.run;
    let solved = artifact.episodes.iter().filter(|episode| episode.succeeded()).count();
    println!(
        "{}, policy {}, {} episodes from seed {}: {} succeeded ({})",
        run.contract.environment,
        run.policy.name,
        run.episodes,
        run.seed,
        solved,
        crate::eval::intervals::wilson(solved, run.episodes)
    );
    for (label, count) in artifact.failures() {
        println!("  {count} failed: {label}");
    }
    println!("{}", artifact.folder.display());
}
