//! `flowgpu collect`.

mod plot;

use std::path::PathBuf;

use clap::ValueEnum;

use super::common::{DeviceArgs, note, write_file};
use super::recording::{Part, check_unused, default_mixture, record_pictures};
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
    check_unused(&root)?;
    let mut actor;
    let parts = if args.is_mixture() {
        default_mixture(environment.spec(), args.max_frames.unwrap_or(FRAMES))
    } else {
        actor = args.actor()?;
        vec![Part { options: args.options(environment.spec()), driver: actor.driver(environment.as_ref())? }]
    };
    let picture = if args.video { Feature::video } else { Feature::image };
    let summary = record_pictures(&root, environment.as_ref(), parts, args.seed, picture)?;
    println!(
        "{} frames in {} episodes, {} solved, {:.1} MB: {}",
        summary.recorded.frames,
        summary.recorded.episodes,
        summary.recorded.successes,
        summary.bytes as f64 / 1e6,
        root.display()
    );
    match &args.plot {
        Some(file) => write_file(file, &plot::first_episode(environment.spec(), &root)?.to_png()?),
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
