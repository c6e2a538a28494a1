//! Policies, solvers and steps compared on equal resets: the same episodes, the same noise.

use serde_json::{Map, Value, json};

use super::evaluate::{BOOTSTRAP_SEED, add_perturbations};
use super::intervals::paired;
use super::{Estimate, Options, Report, Timing};
use crate::flow::Solver;
use crate::policy::{Config, Objective, Policy};
use crate::sim::Perturbations;
use crate::{Error, Result};

/// How a chunk is solved for, and executed in time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Setting {
    /// The solver; none where there is nothing to integrate: a rule, a regression, MIP.
    pub solver: Option<Solver>,
    /// Its steps; none where it chooses them itself, or there are none.
    pub steps: Option<usize>,
    /// How long chunks take, and what the robot does meanwhile.
    pub timing: Timing,
}

impl Setting {
    /// What has no solver, and takes no time.
    pub const NONE: Self = Self { solver: None, steps: None, timing: Timing::NONE };

    /// All that a policy is to be evaluated with, each once, solver by solver. Its own solver and steps stand where none
    /// are asked for. The adaptive solver has one row, an objective without a flow has one in all.
    pub fn all(config: &Config, solvers: &[Solver], steps: &[usize]) -> Vec<Self> {
        if config.objective != Objective::Flow {
            return vec![Self::NONE];
        }
        let (own_solver, own_steps) = ([config.flow.solver], [config.flow.num_steps]);
        let solvers = if solvers.is_empty() { &own_solver } else { solvers };
        let steps = if steps.is_empty() { &own_steps } else { steps };
        let mut all = Vec::new();
        for &solver in solvers {
            let counts = steps.iter().map(|&steps| (solver != Solver::Dopri5).then_some(steps));
            for setting in counts.map(|steps| Self { solver: Some(solver), steps, ..Self::NONE }) {
                if !all.contains(&setting) {
                    all.push(setting);
                }
            }
        }
        all
    }

    /// Sets a policy to it.
    ///
    /// # Errors
    /// If there are no steps, or too many.
    pub fn apply(self, policy: &mut Policy) -> Result<()> {
        self.solver.into_iter().for_each(|solver| policy.set_solver(solver));
        self.steps.map_or(Ok(()), |steps| policy.set_solver_steps(steps))
    }

    /// The solver's name.
    pub fn solver_name(self) -> Option<&'static str> {
        self.solver.map(Solver::name)
    }
}

/// The metrics that tell most of an environment's episodes: the first one is plotted.
pub fn headline(environment: &str) -> [&'static str; 2] {
    match environment {
        "pursuit" | "pursuit-two" | "pursuit-cameras" => ["steps_to_capture", "completed"],
        "pendulum" => ["return", "upright"],
        "pendulum-goal" => ["return", "on_target"],
        "command" => ["return", "tracking_error"],
        _ => ["return", "completed"],
    }
}

/// A policy with one setting, evaluated.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The policy's name.
    pub policy: String,
    /// How its chunks were solved for.
    pub setting: Setting,
    /// What was found.
    pub report: Report,
}

/// Rows over the same episodes.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// The environment's name.
    pub environment: &'static str,
    /// Which episodes, the same for all rows.
    pub options: Options,
    /// The disturbed conditions, the same for all rows.
    pub perturbations: Perturbations,
    /// Policy by policy, in the order in which they were named.
    pub rows: Vec<Row>,
}

impl Table {
    /// A table of rows.
    ///
    /// # Errors
    /// If there is none, or they are not of the same episodes.
    pub fn new(rows: Vec<Row>) -> Result<Self> {
        let Some(first) = rows.first() else { return Err(Error::input("there is nothing to compare")) };
        let of = |row: &Row| (row.report.environment, row.report.options, row.report.perturbations.clone());
        let (environment, options, perturbations) = of(first);
        if rows.iter().any(|row| of(row) != of(first)) {
            return Err(Error::input("rows of different episodes cannot be compared"));
        }
        Ok(Self { environment, options, perturbations, rows })
    }

    /// The row of the first policy that a row is compared with: the one with its setting, or with its solver and steps,
    /// else the last. The first policy's own rows are compared with its first timing.
    pub fn counterpart(&self, row: &Row) -> Option<&Row> {
        let first = self.rows.first()?;
        let mut candidates = self.rows.iter().filter(|other| other.policy == first.policy);
        let solved = |setting: Setting| (setting.solver, setting.steps);
        let alike = |other: &&Row| solved(other.setting) == solved(row.setting);
        if row.policy == first.policy {
            let timed = |other: &&Row| alike(other) && other.setting.timing == first.setting.timing;
            return candidates.find(timed).filter(|other| other.setting != row.setting);
        }
        let same = candidates.clone().find(|other| other.setting == row.setting);
        same.or_else(|| candidates.clone().find(alike)).or_else(|| candidates.next_back())
    }

    /// By how much a row's metric is larger than its counterpart's, over pairs of episodes.
    pub fn difference(&self, row: &Row, metric: &str) -> Option<Estimate> {
        let (ours, theirs) = (row.report.values(metric), self.counterpart(row)?.report.values(metric));
        if ours.is_empty() {
            return None;
        }
        paired(&ours, &theirs, BOOTSTRAP_SEED).ok()
    }

    /// As `eval --json` prints it: `{"env", "episodes", "seed", "horizon", "confidence", "rows": [..]}`, a row being
    /// `{"policy", "solver", "steps", "n_action_steps", "metrics": {name: {"mean", "low", "high", "std"}},
    /// "success_rate", "chunks", "batch", "evaluations_per_chunk", "ms_per_chunk", "seconds"}`; rows of other policies than
    /// the first also `"difference": {"policy", "solver", "steps", "metrics": {name: {"mean", "low", "high"}}}`.
    pub fn to_json(&self) -> Value {
        let mut json = json!({
            "env": self.environment,
            "episodes": self.options.episodes,
            "seed": self.options.seed,
            "horizon": self.options.horizon,
            "confidence": 0.95,
            "rows": self.rows.iter().map(|row| self.row_json(row)).collect::<Value>(),
        });
        add_perturbations(&mut json, &self.perturbations);
        json
    }

    fn row_json(&self, row: &Row) -> Value {
        let report = &row.report;
        let metrics: Map<String, Value> = (report.metrics.iter())
            .map(|(name, summary)| {
                let mut metric = json!(report.estimate(name));
                metric["std"] = json!(summary.std);
                ((*name).to_owned(), metric)
            })
            .collect();
        let mut json = row.named();
        json["n_action_steps"] = json!(report.n_action_steps);
        json["metrics"] = Value::Object(metrics);
        json["success_rate"] = json!(report.success_rate);
        json["chunks"] = json!(report.usage.map(|usage| usage.chunks));
        json["batch"] = json!(report.mean_batch());
        json["evaluations_per_chunk"] = json!(report.evaluations_per_chunk());
        json["ms_per_chunk"] = json!(report.ms_per_chunk());
        json["seconds"] = json!(report.seconds);
        if let Some(other) = self.counterpart(row) {
            let difference =
                |(name, _): &(&str, _)| Some(((*name).to_owned(), json!(self.difference(row, name)?)));
            let metrics = report.metrics.iter().filter_map(difference).collect();
            json["difference"] = other.named();
            json["difference"]["metrics"] = Value::Object(metrics);
        }
        json
    }
}

impl Row {
    fn named(&self) -> Value {
        let Setting { steps, timing, .. } = self.setting;
        let mut json = json!({ "policy": self.policy, "solver": self.setting.solver_name(), "steps": steps });
        if timing != Timing::NONE {
            json["timing"] = Value::Object(timing.to_json());
        }
        json
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::evaluate_driver;
    use crate::policy::presets::preset;
    use crate::sim::{Pendulum, Scripted};

    fn setting(solver: Solver, steps: usize) -> Setting {
        Setting { solver: Some(solver), steps: Some(steps), ..Setting::NONE }
    }

    #[test]
    fn every_solver_meets_every_number_of_steps_once() {
        let config = preset("pendulum").expect("known");
        let (euler, dopri5) = (Solver::Euler, Solver::Dopri5);
        assert_eq!(
            Setting::all(&config, &[euler, dopri5, Solver::Rk4], &[1, 4, 1]),
            [
                setting(euler, 1),
                setting(euler, 4),
                Setting { solver: Some(dopri5), ..Setting::NONE },
                setting(Solver::Rk4, 1),
                setting(Solver::Rk4, 4),
            ]
        );
        assert_eq!(
            Setting::all(&config, &[], &[]),
            [setting(config.flow.solver, config.flow.num_steps)],
            "its own"
        );
        for objective in [Objective::Regression, Objective::Mip] {
            let config = Config { objective, ..config.clone() };
            assert_eq!(Setting::all(&config, &[euler, Solver::Heun], &[1, 2]), [Setting::NONE]);
        }
    }

    fn row(policy: &str, setting: Setting, rule: Scripted, episodes: usize) -> Row {
        let options = Options { episodes, seed: 200, ..Options::default() };
        let report = evaluate_driver(&Pendulum::new(0), &mut *rule.driver(), options).expect("runs");
        Row { policy: policy.to_owned(), setting, report }
    }

    #[test]
    fn rows_are_compared_with_the_first_policys_of_the_same_setting() {
        let (one, two) = (setting(Solver::Euler, 1), setting(Solver::Euler, 2));
        let table = Table::new(vec![
            row("a", one, Scripted::SeedExpert, 9),
            row("a", two, Scripted::Noop, 9),
            row("b", one, Scripted::Expert, 9),
            row("b", two, Scripted::Noop, 9),
            row("c", Setting::NONE, Scripted::Expert, 9),
        ]);
        let table = table.expect("the same episodes");
        let against: Vec<_> = table.rows.iter().map(|row| Some(table.counterpart(row)?.setting)).collect();
        assert_eq!(against, [None, None, Some(one), Some(two), Some(two)]);
        let difference = |i: usize| table.difference(&table.rows[i], "return").expect("paired");
        let gain = table.rows[2].report.mean("return").expect("there")
            - table.rows[0].report.mean("return").expect("there");
        assert!((difference(2).value - gain).abs() < 1e-9 && difference(2).low < gain);
        assert_eq!(difference(3), Estimate { value: 0.0, low: 0.0, high: 0.0 });
        assert_eq!(table.difference(&table.rows[2], "charm"), None);

        let json = table.to_json();
        assert_eq!(
            (&json["env"], &json["episodes"], &json["seed"]),
            (&"pendulum".into(), &9.into(), &200.into())
        );
        let (first, other) = (&json["rows"][0], &json["rows"][2]);
        assert!(first["difference"].is_null() && first["solver"] == "euler" && first["steps"] == 1);
        assert_eq!(other["difference"]["policy"], "a");
        assert_eq!(json["rows"][4]["difference"]["steps"], 2);
        assert!(json["rows"][4]["solver"].is_null());
        let value = |value: &Value| value.as_f64().expect("a number");
        let upright = &other["metrics"]["solved"];
        assert!(value(&upright["low"]) < value(&upright["mean"]), "{upright}");
        assert!(value(&other["difference"]["metrics"]["return"]["mean"]) > 0.0);
    }

    #[test]
    fn other_episodes_are_no_rows_of_one_table() {
        assert!(Table::new(Vec::new()).is_err());
        let rows =
            vec![row("a", Setting::NONE, Scripted::Noop, 2), row("b", Setting::NONE, Scripted::Noop, 3)];
        assert!(Table::new(rows).expect_err("others").to_string().contains("different episodes"));
    }
}
