//! A policy under every disturbance that fits its environment, one at a time, on equal resets.

use serde_json::{Map, Value, json};

use super::evaluate::BOOTSTRAP_SEED;
use super::intervals::paired;
use super::metrics::Summary;
use super::{Estimate, Options, Report, headline};
use crate::sim::{Axis, Environment, Perturbation, Perturbations};
use crate::{Error, Result};

/// A metric of one row.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// The metric.
    pub name: &'static str,
    /// Its mean with its 95 % interval.
    pub estimate: Estimate,
    /// Its spread over episodes.
    pub std: f64,
    /// By how much it is larger than without the disturbance, over pairs of episodes; none without a disturbance, or where
    /// not every episode has both.
    pub difference: Option<Estimate>,
}

/// What was found under one disturbance.
#[derive(Debug, Clone, PartialEq)]
pub struct PanelRow {
    /// None of the first row.
    pub perturbation: Option<Perturbation>,
    /// What the level is measured in; empty in the first row.
    pub unit: &'static str,
    /// Share of the episodes that solved the task.
    pub success_rate: f64,
    /// All metrics.
    pub metrics: Vec<Measured>,
}

/// Rows over the same episodes: first without a disturbance, then axis by axis, level by level.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    /// The environment's name.
    pub environment: &'static str,
    /// Which episodes.
    pub options: Options,
    /// The seed of all disturbances.
    pub seed: u64,
    /// What was found.
    pub rows: Vec<PanelRow>,
}

impl Panel {
    /// Evaluates under each disturbance by `evaluate`, which is given the environment and what to call the row. `seed` is the
    /// disturbances' own.
    ///
    /// # Errors
    /// Those of `evaluate`; if the environment is disturbed already.
    pub fn of(
        environment: &dyn Environment,
        options: Options,
        seed: u64,
        evaluate: &mut dyn FnMut(&dyn Environment, &str) -> Result<Report>,
    ) -> Result<Self> {
        if !environment.perturbations().is_none() {
            return Err(Error::input("a panel tries every perturbation by itself: give no other"));
        }
        let base = evaluate(environment, "undisturbed")?;
        let mut rows = vec![PanelRow::of(None, "", &base, None)];
        for axis in Axis::ALL.into_iter().filter(|axis| axis.fits(environment).is_ok()) {
            for level in axis.levels(environment).into_iter().filter(|level| *level != 0.0) {
                let perturbation = Perturbation { axis, level };
                let conditions = Perturbations { all: vec![perturbation], seed, first: options.seed };
                let disturbed = conditions.apply(environment.fresh())?;
                let report = evaluate(disturbed.as_ref(), &perturbation.to_string())?;
                let unit = axis.unit(environment);
                rows.push(PanelRow::of(Some(perturbation), unit, &report, Some(&base)));
            }
        }
        Ok(Self { environment: base.environment, options: base.options, seed, rows })
    }

    /// As `eval --perturbation-panel --json` prints it: `{"env", "policy", "episodes", "seed", "horizon",
    /// "perturbation_seed", "confidence", "headline", "rows": [..]}`, a row being `{"axis", "level", "unit",
    /// "success_rate", "metrics": {name: {"mean", "low", "high", "std", "difference": {"mean", "low", "high"}}}}`. The first
    /// row's axis is null.
    pub fn to_json(&self, policy: &str) -> Value {
        json!({
            "env": self.environment,
            "policy": policy,
            "episodes": self.options.episodes,
            "seed": self.options.seed,
            "horizon": self.options.horizon,
            "perturbation_seed": self.seed,
            "confidence": 0.95,
            "headline": headline(self.environment),
            "rows": self.rows.iter().map(PanelRow::to_json).collect::<Value>(),
        })
    }
}

impl PanelRow {
    fn of(
        perturbation: Option<Perturbation>,
        unit: &'static str,
        report: &Report,
        base: Option<&Report>,
    ) -> Self {
        let measured = |(name, summary): &(&'static str, Summary)| {
            let ours = report.values(name);
            let difference = base.and_then(|base| paired(&ours, &base.values(name), BOOTSTRAP_SEED).ok());
            Some(Measured { name, estimate: report.estimate(name)?, std: summary.std, difference })
        };
        let metrics = report.metrics.iter().filter_map(measured).collect();
        Self { perturbation, unit, success_rate: report.success_rate, metrics }
    }

    /// A metric by name.
    pub fn metric(&self, name: &str) -> Option<&Measured> {
        self.metrics.iter().find(|metric| metric.name == name)
    }

    fn to_json(&self) -> Value {
        let metrics: Map<String, Value> = (self.metrics.iter())
            .map(|metric| {
                let mut json = json!(metric.estimate);
                json["std"] = json!(metric.std);
                json["difference"] = json!(metric.difference);
                (metric.name.to_owned(), json)
            })
            .collect();
        json!({
            "axis": self.perturbation.map(|perturbation| perturbation.axis.name()),
            "level": self.perturbation.map_or(0.0, |perturbation| perturbation.level),
            "unit": self.unit,
            "success_rate": self.success_rate,
            "metrics": metrics,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::evaluate_driver;
    use crate::sim::{Pendulum, Scripted};

    #[test]
    fn a_panel_has_every_level_of_every_axis_that_fits_once() {
        let options = Options { episodes: 6, horizon: Some(60), ..Options::default() };
        let mut names = Vec::new();
        let mut evaluate = |environment: &dyn Environment, name: &str| {
            names.push(name.to_owned());
            evaluate_driver(environment, &mut *Scripted::Expert.driver(), options)
        };
        let panel = Panel::of(&Pendulum::new(0), options, 3, &mut evaluate).expect("runs");
        // Thirteen axes: nothing is followed, so nothing can be faster.
        assert_eq!((panel.rows.len(), names.len()), (1 + 13 * 3, 1 + 13 * 3));
        assert_eq!(names[..3], ["undisturbed", "observation noise 0.05", "observation noise 0.1"]);
        let first = panel.rows[0].metric("return").expect("measured");
        assert_eq!(first.difference, None);
        let late = &panel.rows[names.iter().position(|name| name == "action delay 4").expect("there")];
        let late = late.metric("return").expect("measured");
        let gap = late.estimate.value - first.estimate.value;
        assert!(late.difference.is_some_and(|difference| (difference.value - gap).abs() < 1e-9));
        let json = panel.to_json("expert");
        assert!(json["rows"][0]["axis"].is_null());
        assert_eq!(
            (&json["rows"][1]["axis"], &json["rows"][1]["level"]),
            (&"observation-noise".into(), &0.05.into())
        );
    }

    #[test]
    fn a_disturbed_environment_has_no_panel() {
        let all = vec![Perturbation { axis: Axis::Mass, level: 0.5 }];
        let disturbed = Perturbations { all, ..Perturbations::default() }.apply(Box::new(Pendulum::new(0)));
        let mut never = |_: &dyn Environment, _: &str| unreachable!("nothing is evaluated");
        let refused = Panel::of(disturbed.expect("fits").as_ref(), Options::default(), 0, &mut never);
        assert!(refused.expect_err("disturbed").to_string().contains("by itself"));
    }
}
