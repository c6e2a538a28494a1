//! A data set's card: `README.md` at its root, with the front matter that the Hub reads.
//!
//! What stands there follows from the recording alone, so that equal recordings have equal cards: no date, no machine.

use std::fmt::Write;
use std::path::Path;

use super::{Part, Plan, total};
use crate::cli::contract::{CONTRACT_PATH, rows, sentences};
use crate::data::{Dtype, STRESS, TRAIN, VALIDATION};
use crate::sim::record::{Labels, Options, Recorded, Start};
use crate::sim::{Spec, TaskContract};
use crate::{Error, Result};

/// The licence where none is asked for: a program's states and pictures are nobody's work.
pub const LICENSE: &str = "cc0-1.0";

const CARD_PATH: &str = "README.md";

/// Checks that a licence is spelled as the Hub spells them.
///
/// # Errors
/// If it is not.
pub fn check_license(name: &str) -> Result<()> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.+".contains(c);
    match !name.is_empty() && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(fits)
    {
        true => Ok(()),
        false => Err(Error::input(format!(
            "--license {name:?}: write it as Hugging Face does, in small letters, as cc0-1.0, apache-2.0, mit or other"
        ))),
    }
}

/// The licence that a data set's card names, if it has a card that does.
pub fn license_of(root: &Path) -> Option<String> {
    let card = std::fs::read_to_string(root.join(CARD_PATH)).ok()?;
    let mut lines = card.lines();
    lines.next().filter(|line| line.trim_end() == "---")?;
    let mut front = lines.take_while(|line| line.trim_end() != "---");
    let license = front.find_map(|line| line.strip_prefix("license:"))?.trim();
    let license = license.trim_matches(['"', '\'']);
    (!license.is_empty()).then(|| license.to_owned())
}

/// Writes the card of what was recorded, a count for each part.
///
/// # Errors
/// If the disk refuses.
pub(super) fn write(root: &Path, spec: &Spec, plan: &Plan<'_>, recorded: &[Recorded]) -> Result<()> {
    let path = root.join(CARD_PATH);
    let failed = |e: String| Error::failure(format!("cannot write {}: {e}", path.display()));
    let mut text = String::new();
    write_card(&mut text, spec, plan, recorded).map_err(|e| failed(e.to_string()))?;
    std::fs::write(&path, text).map_err(|e| failed(e.to_string()))
}

fn write_card(card: &mut String, spec: &Spec, plan: &Plan<'_>, recorded: &[Recorded]) -> std::fmt::Result {
    let contract = spec.contract();
    let TaskContract { environment, version, task, rate_hz, horizon, .. } = &contract;
    write!(
        card,
        "---\nlicense: {}\ntask_categories:\n- robotics\ntags:\n- LeRobot\n- flowgpu\n- {environment}\nconfigs:\n\
         - config_name: default\n  data_files: data/*/*.parquet\n---\n\n# {environment}: {task}\n\n\
         Simulated demonstrations as a [LeRobotDataset](https://github.com/huggingface/lerobot) v3.0, recorded by flowgpu \
         {}.\n\n## Task\n\nThe same for programs: `{CONTRACT_PATH}`.\n\n",
        plan.license,
        env!("CARGO_PKG_VERSION")
    )?;
    for (name, what) in sentences(&contract) {
        writeln!(card, "- **{name}**: {what}")?;
    }
    writeln!(card, "- **horizon**: {} steps, {} s", horizon.steps, horizon.seconds)?;
    writeln!(card, "\n| feature | components | unit | range |\n|---|---|---|---|")?;
    for cells in contract.observations.iter().chain([&contract.action]).flat_map(rows) {
        writeln!(card, "| {} |", cells.join(" | "))?;
    }
    writeln!(
        card,
        "\n## Robot\n\nNone: the environment `{environment}` of flowgpu, version {version}, which is `robot_type` in \
         `meta/info.json`."
    )?;
    write_cameras(card, spec, plan)?;
    writeln!(
        card,
        "\n## Timing\n\n{rate_hz} frames per second of simulated time. A frame's `timestamp` is its number in the episode \
         divided by {rate_hz}, in s; no clock was read."
    )?;
    write_operators(card, spec, plan, recorded)?;
    write_splits(card, plan, recorded)?;
    writeln!(
        card,
        "\n## Licence\n\n{}. Everything here was computed by a program; it holds nobody's pictures and no personal data.",
        plan.license
    )?;
    writeln!(card, "\n## Record it again\n\n```sh\n{}\n```", plan.command)
}

fn write_cameras(card: &mut String, spec: &Spec, plan: &Plan<'_>) -> std::fmt::Result {
    writeln!(card, "\n## Cameras\n")?;
    let mut cameras = spec.observations.iter().filter(|feature| feature.is_image()).peekable();
    if cameras.peek().is_none() {
        return writeln!(card, "None: what is seen are numbers.");
    }
    writeln!(card, "| key | width x height | per second | kept as |\n|---|---|---|---|")?;
    for camera in cameras {
        let (height, width) = (camera.shape[1], camera.shape[2]);
        let kept = match (plan.picture)(width, height).dtype {
            Dtype::Video => "H.264 in MP4, not exact",
            _ => "PNG, exact",
        };
        writeln!(card, "| `{}` | {width} x {height} | {} | {kept} |", camera.key, spec.fps)?;
    }
    Ok(())
}

/// Who did what in which part.
fn write_operators(
    card: &mut String,
    spec: &Spec,
    plan: &Plan<'_>,
    recorded: &[Recorded],
) -> std::fmt::Result {
    writeln!(
        card,
        "\n## Operators\n\nThe driver's action was executed, with noise where there is some, brought back inside the \
         bounds. `action` is what the labelling expert does in the state that the frame shows. Programs all of them: no \
         person operated.\n\n\
         | part | split | driver | labels | starts | noise on executed actions | longest episode |\n\
         |---|---|---|---|---|---|---|"
    )?;
    for (number, Part { split, options }) in plan.parts.iter().enumerate() {
        let labels = match options.labels {
            Labels::Expert => "expert",
            Labels::SeedExpert => "expert-seed",
        };
        let start = match options.start {
            Start::Reset => "resets",
            Start::Wide => "anywhere",
        };
        let (noise, steps) = (noise(spec, options), options.max_steps);
        let driver = &plan.operator;
        writeln!(
            card,
            "| {} | {split} | `{driver}` | {labels} | {start} | {noise} | {steps} steps |",
            number + 1
        )?;
    }
    writeln!(card, "\n| part | episodes | frames | solved |\n|---|---|---|---|")?;
    for (number, part) in recorded.iter().enumerate() {
        writeln!(card, "| {} | {} |", number + 1, counts(part))?;
    }
    Ok(())
}

fn noise(spec: &Spec, options: &Options) -> String {
    let Options { noise, noise_varies, noisy_share, .. } = options;
    if *noise == 0.0 {
        return "none".to_owned();
    }
    let unit = match spec.action.units.first() {
        Some(&unit) if unit != "1" => format!(" {unit}"),
        _ => String::new(),
    };
    let deviation = match noise_varies {
        true => format!("its deviation drawn for each episode from U(0, {noise}){unit}"),
        false => format!("deviation {noise}{unit}"),
    };
    match *noisy_share == 1.0 {
        true => format!("Gaussian, {deviation}"),
        false => format!("Gaussian on a share of {noisy_share} of the steps, {deviation}"),
    }
}

fn write_splits(card: &mut String, plan: &Plan<'_>, recorded: &[Recorded]) -> std::fmt::Result {
    writeln!(
        card,
        "\n## Splits\n\n| split | what for | episodes | frames | solved |\n|---|---|---|---|---|"
    )?;
    for (split, end) in [
        (TRAIN, "training"),
        (VALIDATION, "the validation loss: ordinary resets, no noise"),
        (
            STRESS,
            "a harder test: starts from anywhere an episode may lead, under noise up to the greatest action",
        ),
    ] {
        if plan.parts.iter().any(|part| part.split == split) {
            writeln!(card, "| {split} | {end} | {} |", counts(&total(&plan.parts, recorded, Some(split))))?;
        }
    }
    writeln!(card, "| all | | {} |", counts(&total(&plan.parts, recorded, None)))?;
    writeln!(
        card,
        "\nAn episode is solved if its last frame solved the task (`next.success`). Statistics in `meta/stats.json` are of \
         all splits."
    )
}

fn counts(Recorded { episodes, frames, successes }: &Recorded) -> String {
    let share = 100.0 * *successes as f64 / (*episodes).max(1) as f64;
    format!("{episodes} | {frames} | {successes} ({share:.1} %)")
}
