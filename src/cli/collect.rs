//! `flowgpu collect`.

mod plot;

use std::path::PathBuf;

use clap::ValueEnum;

use super::common::{DeviceArgs, note, write_file};
use super::recording::{
    LICENSE, Part, Plan, check_license, check_unused, default_mixture, held_out, record_dataset,
};
use crate::data::Feature;
use crate::policy::{Noise, Policy, resolve_policy};
use crate::sim::record::{self, Labels, Options};
use crate::sim::rollout::Driver;
use crate::sim::{self, Environment, Scripted, Spec};
use crate::{Result, eval};

/// Frames recorded where nothing else is said.
const FRAMES: usize = 20_000;

/// Flags of the subcommand. With none but the environment's, its default mixture is recorded.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The environment
    #[arg(long, default_value = "pursuit")]
    env: String,
    /// A new or empty folder for the dataset [default: outputs/data/<ENV>]
    #[arg(long)]
    output_dir: Option<PathBuf>,
    /// Stop after so many episodes
    #[arg(long)]
    episodes: Option<usize>,
    /// Stop after so many frames; the last episode may be cut [default: 20000, unless --episodes is given]
    #[arg(long)]
    max_frames: Option<usize>,
    /// Another seed, other episodes; none is ever one of an evaluation's
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Who acts: expert, expert-seed (as the task's seed published it), random, noop, or a learner, by a
    /// built-in name or its folder (DAgger). The expert labels, unless expert-seed acts: it labels itself
    #[arg(long, alias = "policy-path")]
    policy: Option<String>,
    /// Standard deviation of the noise on executed actions, in action units; labels stay clean
    #[arg(long, value_name = "SIGMA")]
    execution_noise: Option<f64>,
    /// Draw each episode's standard deviation evenly between 0 and SIGMA
    #[arg(long, requires = "execution_noise")]
    vary_noise: bool,
    /// Share of the steps that are noisy
    #[arg(long, value_name = "SHARE", requires = "execution_noise")]
    noisy_share: Option<f64>,
    /// Where episodes begin: as the environment resets, or anywhere
    #[arg(long, value_enum)]
    start: Option<Start>,
    /// Longest episode, in steps [default: 1000 for the expert without noise in a task that ends once it is
    /// solved, else the environment's horizon]
    #[arg(long)]
    max_steps: Option<usize>,
    /// Record the environment's mixture instead, which is what no flag but --env, --max-frames, --seed and
    /// --output-dir gives. Pursuit: a quarter plain, a quarter noisy, half noisy from wide starts. Pendulum: noisy,
    /// with a deviation of 1
    #[arg(
        long,
        value_enum,
        conflicts_with_all = ["episodes", "policy", "execution_noise", "start", "max_steps"]
    )]
    mixture: Option<Mixture>,
    /// Keep pictures as H.264 video instead of a PNG a frame: smaller, and not exact
    #[arg(long)]
    video: bool,
    /// Then records so many episodes for the validation loss, the split `validation`: ordinary resets, the same driver
    /// without noise
    #[arg(long, value_name = "N", default_value_t = 0)]
    validation_episodes: usize,
    /// Then records so many episodes that are harder, the split `stress`: starts from anywhere, the same driver under
    /// noise with a deviation drawn for each episode, up to the greatest action
    #[arg(long, value_name = "N", default_value_t = 0)]
    stress_episodes: usize,
    /// The licence that the data set's card names, as Hugging Face spells it
    #[arg(long, value_name = "NAME", default_value = LICENSE)]
    license: String,
    /// Draws the first episode as a PNG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Start {
    Reset,
    Wide,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mixture {
    Default,
}

/// Records a dataset.
///
/// # Errors
/// If a flag makes no sense, the folder is in use, a policy cannot be loaded, or the disk refuses.
pub fn run(args: Args) -> Result<()> {
    let environment = sim::make(&args.env)?;
    let root = args.output_dir.clone().unwrap_or_else(|| ["outputs", "data", &args.env].iter().collect());
    check_license(&args.license)?;
    check_unused(&root)?;
    let spec = environment.spec();
    let mut parts = match args.is_mixture() {
        true => default_mixture(spec, args.max_frames.unwrap_or(FRAMES)),
        false => vec![Part::train(args.options(spec))],
    };
    if let Some(first) = parts.first() {
        parts.extend(held_out(spec, &first.options, args.validation_episodes, args.stress_episodes));
    }
    let mut actor = args.actor()?;
    let plan = Plan {
        parts,
        driver: actor.driver(environment.as_ref())?,
        operator: args.policy().to_owned(),
        seed: args.seed,
        picture: if args.video { Feature::video } else { Feature::image },
        license: args.license.clone(),
        command: args.command(),
    };
    let summary = record_dataset(&root, environment.as_ref(), plan)?;
    println!(
        "{} frames in {} episodes, {} solved, {:.1} MB: {}",
        summary.recorded.frames,
        summary.recorded.episodes,
        summary.recorded.successes,
        summary.bytes as f64 / 1e6,
        root.display()
    );
    match &args.plot {
        Some(file) => write_file(file, &plot::first_episode(spec, &root)?.to_png()?),
        None => Ok(()),
    }
}

impl Args {
    fn is_mixture(&self) -> bool {
        let single = self.episodes.is_some()
            || self.policy.is_some()
            || self.execution_noise.is_some()
            || self.start.is_some()
            || self.max_steps.is_some();
        self.mixture.is_some() || !single
    }

    /// How the one part that the flags describe is recorded.
    fn options(&self, spec: &Spec) -> Options {
        let defaults = Options::default();
        let noise = self.execution_noise.unwrap_or(0.0);
        // The expert alone always arrives; with others an episode may never end.
        let seed_expert = self.policy() == "expert-seed";
        let arrives = spec.ends && noise == 0.0 && (seed_expert || self.policy() == "expert");
        Options {
            episodes: self.episodes,
            max_frames: if self.episodes.is_none() {
                self.max_frames.or(Some(FRAMES))
            } else {
                self.max_frames
            },
            max_steps: self.max_steps.unwrap_or(if arrives { defaults.max_steps } else { spec.horizon }),
            noise,
            noise_varies: self.vary_noise,
            noisy_share: self.noisy_share.unwrap_or(1.0),
            start: match self.start {
                Some(Start::Wide) => record::Start::Wide,
                _ => record::Start::Reset,
            },
            labels: if seed_expert { Labels::SeedExpert } else { Labels::Expert },
            ..defaults
        }
    }

    /// What records the same again, in another folder.
    fn command(&self) -> String {
        let frames = self.max_frames.or_else(|| self.episodes.is_none().then_some(FRAMES));
        let learner = Scripted::named(self.policy(), 0).is_none();
        let start = self.start.map(|start| match start {
            Start::Reset => "reset",
            Start::Wide => "wide",
        });
        let some = |number: usize| (number > 0).then(|| number.to_string());
        let number = |number: Option<f64>| number.map(|number| number.to_string());
        let flags = [
            ("env", Some(self.env.clone())),
            ("episodes", self.episodes.map(|n| n.to_string())),
            ("max-frames", frames.map(|n| n.to_string())),
            ("seed", Some(self.seed.to_string())),
            ("policy", self.policy.clone()),
            ("device", learner.then(|| self.device.device.clone())),
            ("execution-noise", number(self.execution_noise)),
            ("noisy-share", number(self.noisy_share)),
            ("start", start.map(str::to_owned)),
            ("max-steps", self.max_steps.map(|n| n.to_string())),
            ("validation-episodes", some(self.validation_episodes)),
            ("stress-episodes", some(self.stress_episodes)),
            ("license", (self.license != LICENSE).then(|| self.license.clone())),
        ];
        let mut command = "flowgpu collect".to_owned();
        for (flag, value) in flags.into_iter().filter_map(|(flag, value)| Some((flag, value?))) {
            command += &format!(" --{flag} {}", quoted(&value));
        }
        command += if self.vary_noise { " --vary-noise" } else { "" };
        command + if self.video { " --video" } else { "" }
    }

    fn policy(&self) -> &str {
        self.policy.as_deref().unwrap_or("expert")
    }

    fn actor(&self) -> Result<Actor> {
        if let Some(rule) = Scripted::named(self.policy(), self.seed) {
            return Ok(Actor::Rule(rule));
        }
        let pretrained = resolve_policy(self.policy())?;
        pretrained.notes.iter().for_each(note);
        let mut policy = Policy::from_parts(pretrained, &self.device.open()?)?;
        policy.set_noise(Noise::Seeded(self.seed));
        Ok(Actor::Learner(Box::new(policy)))
    }
}

/// A word of a shell's command line.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./+:=,".contains(c);
    match word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

/// Who acts.
enum Actor {
    Rule(Scripted),
    Learner(Box<Policy>),
}

impl Actor {
    fn driver(&mut self, environment: &dyn Environment) -> Result<Box<Driver<'_>>> {
        match self {
            Self::Rule(rule) => Ok(rule.driver()),
            Self::Learner(policy) => eval::driver(environment, policy),
        }
    }
}
