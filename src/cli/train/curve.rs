//! `flowgpu train --learning-curve`: how many demonstrations a policy needs.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::recipe::{Recipe, fresh};
use super::{Args, train};
use crate::cli::common::{note, table, write_file};
use crate::data::Info;
use crate::eval::intervals::paired;
use crate::eval::{Estimate, Options, Report, evaluate, evaluate_driver, headline};
use crate::graph::Device;
use crate::policy::{Policy, RunDir};
use crate::report::sweep::{SweepSeries, learning_curve};
use crate::sim::{self, Scripted};
use crate::{Error, Result};

/// Episodes of an evaluation.
const EPISODES: usize = 100;
/// First seed of an evaluation: no recording's, nor one that checkpoints are chosen by.
const SEED: u64 = 200;
/// Seed of the intervals of differences.
const RESAMPLING: u64 = 0;

/// Trains a policy on each number of episodes, each in a folder of its own and with the same settings, evaluates all on
/// the same resets, and draws the environment's first metric beside the expert's. Episodes held out for validation
/// count: they had to be recorded too.
///
/// # Errors
/// If a number is 0 or given twice, there are not so many episodes, the environment is unknown, or the work fails.
pub fn run(args: &Args, numbers: &[usize]) -> Result<()> {
    let ascending = numbers.windows(2).all(|pair| pair[0] < pair[1]);
    if !ascending || numbers.first().is_none_or(|&first| first == 0) {
        return Err(Error::input("--learning-curve takes numbers of episodes that rise, as 10,50,100,200"));
    }
    let (recipe, run_dir) = fresh(args)?;
    check_enough(&recipe, numbers)?;
    let environment = sim::make(&environment_of(&recipe)?)?;
    let device = args.device.open()?;
    let options = Options { episodes: EPISODES, seed: SEED, ..Options::default() };
    let expert = evaluate_driver(environment.as_ref(), &mut *Scripted::Expert.driver(), options)?;
    let mut reports = Vec::new();
    for &episodes in numbers {
        note(format!("learning from {episodes} episodes"));
        let checkpoint = learn(args, &recipe, run_dir.root(), episodes, &device)?;
        let mut policy = Policy::from_pretrained(&checkpoint, &device)?;
        reports.push((episodes, evaluate(environment.as_ref(), &mut policy, options)?));
    }
    let objective = json!(recipe.config.objective);
    show(run_dir.root(), objective.as_str().unwrap_or_default(), &reports, &expert)
}

/// Checks that there are as many episodes as the last number says, before the first training.
fn check_enough(recipe: &Recipe, numbers: &[usize]) -> Result<()> {
    let of_split = |info: Info| -> Result<usize> {
        let splits = info.named_splits()?.into_iter();
        Ok(splits.filter(|split| split.name == recipe.settings.dataset_split).map(|s| s.episodes.len()).sum())
    };
    let count = |root: &PathBuf| Info::read(root).and_then(of_split).map_err(|e| e.at(root.display()));
    let counts = recipe.roots.iter().map(count);
    let (all, most) = (counts.sum::<Result<usize>>()?, numbers.last().copied().unwrap_or(0));
    if most > all {
        return Err(Error::input(format!(
            "--learning-curve {most}: the data set has {all} episodes to train on"
        )));
    }
    Ok(())
}

/// The environment that the data is of.
fn environment_of(recipe: &Recipe) -> Result<String> {
    let root = recipe.roots.first().ok_or_else(|| Error::input("no dataset folder was given"))?;
    let name = match &recipe.env {
        Some(name) => Some(name.clone()),
        None => Info::read(root)?.robot_type,
    };
    name.ok_or_else(|| {
        Error::input("--learning-curve needs an environment, and the data set names none: give --env")
    })
}

/// Trains on the first so many episodes; the checkpoint.
fn learn(args: &Args, recipe: &Recipe, root: &Path, episodes: usize, device: &Device) -> Result<PathBuf> {
    let run_dir = RunDir::create(root.join(format!("episodes-{episodes}")))?;
    let recipe = Recipe { episodes: Some(episodes), ..recipe.clone() };
    train(args, recipe, &run_dir, device)?.ok_or_else(|| Error::failure("the training left no checkpoint"))
}

/// Prints the table, and writes `learning_curve.png` and `learning_curve.json` into the run's folder.
fn show(root: &Path, method: &str, reports: &[(usize, Report)], expert: &Report) -> Result<()> {
    let metric = headline(expert.environment)[0];
    let missing = || Error::failure(format!("{} has no metric {metric}", expert.environment));
    let reference = expert.mean(metric).ok_or_else(missing)?;
    let measured = reports.iter().map(|(episodes, report)| {
        let difference = paired(&report.values(metric), &expert.values(metric), RESAMPLING)?;
        Ok((*episodes, report.estimate(metric).ok_or_else(missing)?, difference))
    });
    let measured: Vec<(usize, Estimate, Estimate)> = measured.collect::<Result<_>>()?;
    let name = metric.replace('_', " ");
    let interval = |Estimate { value, low, high }: &Estimate| format!("{value:.1} ({low:.1} to {high:.1})");
    let mut rows = vec![["demonstrations", &name, "less the expert's"].map(str::to_owned)];
    rows.extend(measured.iter().map(|(n, mean, less)| [n.to_string(), interval(mean), interval(less)]));
    rows.push(["expert".to_owned(), format!("{reference:.1}"), String::new()]);
    print!("{}", table(&rows));
    println!("with 95 % intervals, {EPISODES} episodes from seed {SEED}");

    let points = measured.iter().map(|&(episodes, mean, _)| (episodes as f64, mean)).collect();
    let series = [SweepSeries { name: method.to_owned(), points }];
    let title = format!("{}: {name} over demonstrations", expert.environment);
    let image = learning_curve(&title, &name, &series, Some(("expert", reference)))?;
    write_file(&root.join("learning_curve.png"), &image.to_png()?)?;
    let points = measured.iter().map(
        |(episodes, mean, less)| json!({"demonstrations": episodes, metric: mean, "less_the_experts": less}),
    );
    let json = json!({
        "env": expert.environment,
        "method": method,
        "episodes": EPISODES,
        "seed": SEED,
        "points": points.collect::<Vec<_>>(),
        "expert": reference,
    });
    write_file(&root.join("learning_curve.json"), format!("{json:#}\n").as_bytes())
}
