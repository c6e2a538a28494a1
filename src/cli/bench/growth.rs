//! How the time grows with each size that a user can choose, everything else fixed.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::dataset::Growing;
use super::subject::Subject;
use super::{Network, Setting};
use crate::cli::common::{note, table, write_file};
use crate::measure::{Times, Until, exponent};
use crate::policy::{self, Config, Family, Objective};
use crate::report::plot::{Series, log_curves};
use crate::{Error, Result, memory};

/// Runs of a size go on for as long as this, and are as many as this.
const COUNTED: Until = Until::Time { at_least: Duration::from_millis(150), runs: 3 };
/// A ladder ends behind a run that takes longer, in milliseconds.
const SLOW: f64 = 1000.0;
/// What a linear algorithm's exponent may be: measured, it is not exactly one.
const LINEAR: f64 = 1.1;

/// Sizes of one thing, ascending.
struct Ladder {
    what: &'static str,
    /// Whether the work is proportional to it.
    linear: bool,
    rungs: Vec<Rung>,
}

/// One size.
struct Rung {
    size: usize,
    batch: usize,
    config: Config,
}

/// What was measured of a ladder.
pub struct Grown {
    what: &'static str,
    linear: bool,
    /// Sizes and milliseconds.
    points: Vec<(f64, f64)>,
    exponent: Option<f64>,
}

/// Climbs every ladder, those of a data set as well if there is one, draws, and prints or fills in the JSON object.
pub fn run(
    network: &Network,
    setting: &Setting,
    repeat: Option<usize>,
    dataset_root: Option<&Path>,
    file: &Path,
    json: Option<&mut Value>,
) -> Result<()> {
    if file.extension().is_none_or(|extension| extension != "png") {
        return Err(Error::input(format!("--growth {}: use .png", file.display())));
    }
    let until = repeat.map_or(COUNTED, Until::Runs);
    let data = dataset_root.map(|root| Growing::open(root, &network.config)).transpose()?;
    let mut all = Vec::new();
    for ladder in ladders(&network.config, setting) {
        all.push(ladder.climb(setting, until)?);
    }
    if let Some(data) = data {
        all.extend(data.climb(&network.config, setting.batch, until)?);
    }
    let title = format!("{}, {}", network.name, if setting.train { "a training step" } else { "a chunk" });
    let series: Vec<Series> = all.iter().map(Grown::series).collect();
    let image = log_curves(&title, "times its smallest size", "ms", &series)?;
    write_file(file, &image.to_png()?)?;
    all.iter().filter_map(Grown::warning).for_each(note);
    match json {
        Some(json) => {
            json["growth"] = all.iter().map(Grown::to_json).collect();
            json["plot"] = json!(file.display().to_string());
        }
        None => {
            println!("{}", setting.title(network));
            let head = ["what", "sizes", "ms", "exponent"].map(str::to_owned);
            let rows: Vec<_> = std::iter::once(head).chain(all.iter().map(Grown::row)).collect();
            print!("{}", table(&rows));
        }
    }
    Ok(())
}

impl Ladder {
    /// Measures one size after the other, until one is slow or too large for the memory.
    fn climb(self, setting: &Setting, until: Until) -> Result<Grown> {
        let mut points = Vec::new();
        for Rung { size, batch, config } in self.rungs {
            if !fits(&config) {
                break;
            }
            let mut subject = Subject::new(&config, None, &Setting { batch, ..setting.clone() })?;
            subject.once()?;
            subject.once()?;
            // The least: whatever else the machine does only adds to it.
            let best = Times::measure(until, || subject.once())?.at(0.0);
            points.push((size as f64, best));
            if best > SLOW {
                break;
            }
        }
        Ok(Grown::new(self.what, self.linear, points))
    }
}

impl Grown {
    /// Sizes with their milliseconds.
    pub fn new(what: &'static str, linear: bool, points: Vec<(f64, f64)>) -> Self {
        let exponent = exponent(&points);
        Self { what, linear, points, exponent }
    }

    fn series(&self) -> Series {
        let first = self.points.first().map_or(1.0, |(size, _)| *size);
        let power = self.exponent.map_or(String::new(), |power| format!(": exponent {power:.2}"));
        Series {
            name: format!("{}{power}", self.what),
            points: self.points.iter().map(|(size, ms)| (size / first, *ms)).collect(),
        }
    }

    fn row(&self) -> [String; 4] {
        let join = |texts: Vec<String>| texts.join(" ");
        [
            self.what.to_owned(),
            join(self.points.iter().map(|(size, _)| size.to_string()).collect()),
            join(self.points.iter().map(|(_, ms)| format!("{ms:.3}")).collect()),
            self.exponent.map_or("-".to_owned(), |power| format!("{power:.2}")),
        ]
    }

    /// A linear algorithm that is not.
    fn warning(&self) -> Option<String> {
        let power = self.exponent.filter(|power| self.linear && *power > LINEAR)?;
        Some(format!(
            "warning: the time should grow in proportion to the {}, but grows with its power {power:.2}: measure again \
             on an idle machine, or look at the kernels of a large one with --json",
            self.what
        ))
    }

    fn to_json(&self) -> Value {
        json!({
            "what": self.what,
            "linear": self.linear,
            "sizes": self.points.iter().map(|(size, _)| *size as usize).collect::<Vec<_>>(),
            "ms": self.points.iter().map(|(_, ms)| *ms).collect::<Vec<_>>(),
            "exponent": self.exponent,
            "warning": self.warning(),
        })
    }
}

/// Half of what is free holds the weights and all that is shaped like them.
fn fits(config: &Config) -> bool {
    let (_, params) = policy::Network::new(config);
    memory::available().is_none_or(|free| 5 * 4 * params.count() as u64 <= free / 2)
}

/// The ladders of a configuration.
fn ladders(config: &Config, setting: &Setting) -> Vec<Ladder> {
    let ladder = |what, linear, rungs: Vec<Rung>| Ladder { what, linear, rungs };
    let rung = |(size, config)| Rung { size, batch: setting.batch, config };
    let batches = [1, 2, 4, 8, 16, 32, 64].map(|batch| Rung { size: batch, batch, config: config.clone() });
    let mut all = vec![ladder("batch", true, batches.into())];
    all.push(ladder("image tokens", false, scaled(config, tokens).map(rung).collect()));
    all.push(ladder("chunk", false, scaled(config, chunk).map(rung).collect()));
    all.push(ladder("width", false, scaled(config, width).map(rung).collect()));
    let fixed = config.objective == Objective::Flow && config.flow.solver != crate::flow::Solver::Dopri5;
    if fixed && !setting.train {
        let steps = [1, 2, 4, 8, 16, 32].map(|steps| {
            let mut config = config.clone();
            config.flow.num_steps = steps;
            rung((steps, config))
        });
        all.push(ladder("solver steps", true, steps.into()));
    }
    all.retain(|ladder| ladder.rungs.len() > 1);
    all
}

/// Shares of a configuration's own size, in quarters.
const QUARTERS: [usize; 4] = [2, 4, 6, 8];

/// A configuration's relatives with one size changed, ascending, each size once; those that no network has are left out.
fn scaled(
    config: &Config,
    change: impl Fn(&mut Config, usize) -> Option<usize>,
) -> impl Iterator<Item = (usize, Config)> {
    let mut last = 0;
    QUARTERS.into_iter().filter_map(move |quarters| {
        let mut config = config.clone();
        let size = change(&mut config, quarters)?;
        let valid = Config::parse(&config.to_json().to_string()).is_ok();
        let next = valid && size > last;
        last = if next { size } else { last };
        next.then_some((size, config))
    })
}

/// Scales what every camera shows; the patches of a picture.
fn tokens(config: &mut Config, quarters: usize) -> Option<usize> {
    let patch = match &config.family {
        Family::PatchDecoder(sizes) => sizes.patch_size,
        Family::FlowMatching(sizes) => sizes.vit_patch_size,
        Family::VelocityMlp(_) => return None,
    };
    let (_, first) = config.images().next()?;
    let [height, width] = config.seen_size(first).map(|side| side / patch * quarters / 4 * patch);
    if let Family::FlowMatching(sizes) = &mut config.family {
        sizes.image_size = [height, width];
    }
    for (_, feature) in config.input_features.iter_mut().filter(|(_, feature)| feature.shape.len() == 3) {
        feature.shape = vec![3, height, width];
    }
    Some(height / patch * (width / patch))
}

/// Scales a chunk; its actions.
fn chunk(config: &mut Config, quarters: usize) -> Option<usize> {
    config.chunk_size = (config.chunk_size * quarters / 4).max(1);
    config.n_action_steps = config.n_action_steps.min(config.chunk_size);
    Some(config.chunk_size)
}

/// Scales the width of all that follows the encoder, heads keeping theirs; the width.
fn width(config: &mut Config, quarters: usize) -> Option<usize> {
    let scale = |size: &mut usize| *size = *size * quarters / 4;
    match &mut config.family {
        Family::PatchDecoder(sizes) => {
            let both = [&mut sizes.encoder_heads, &mut sizes.decoder_heads, &mut sizes.dim_feedforward];
            both.into_iter().for_each(scale);
            scale(&mut sizes.d_model);
            Some(sizes.d_model)
        }
        Family::FlowMatching(sizes) => {
            scale(&mut sizes.denoiser_heads);
            scale(&mut sizes.hidden_dim);
            Some(sizes.hidden_dim)
        }
        Family::VelocityMlp(sizes) => {
            if sizes.time_dim == sizes.hidden_dim {
                scale(&mut sizes.time_dim);
            }
            scale(&mut sizes.hidden_dim);
            Some(sizes.hidden_dim)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::presets::preset;

    fn sizes(name: &str, change: fn(&mut Config, usize) -> Option<usize>) -> Vec<usize> {
        let config = preset(name).expect("known");
        scaled(&config, change).map(|(size, _)| size).collect()
    }

    #[test]
    fn ladders_follow_the_configuration() {
        assert_eq!(sizes("pursuit-seed", tokens), [16, 64, 144, 256]);
        assert_eq!(sizes("pursuit-seed", chunk), [4, 8, 12, 16]);
        assert_eq!(sizes("pursuit-seed", width), [32, 64, 96, 128]);
        assert_eq!(sizes("flowmatching", tokens), [49, 196, 441, 784]);
        assert_eq!(sizes("flowmatching", width), [512, 1024, 1536, 2048]);
        assert!(sizes("pendulum", tokens).is_empty());
        assert_eq!(sizes("pendulum", chunk), [1, 2]);
    }

    #[test]
    fn only_what_should_be_linear_and_is_not_is_warned_of() {
        let grown = |linear, exponent| Grown { what: "batch", linear, points: Vec::new(), exponent };
        assert!(grown(true, Some(1.3)).warning().is_some_and(|text| text.contains("power 1.30")));
        for fine in [grown(true, Some(1.05)), grown(false, Some(2.0)), grown(true, None)] {
            assert_eq!(fine.warning(), None);
        }
    }
}
