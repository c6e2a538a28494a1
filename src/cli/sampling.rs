//! Flags of everything that samples: what the adaptive solver keeps to, and guidance.

use super::common::note;
use crate::flow::{Solver, Tolerances};
use crate::policy::{Config, Guidance, Objective, Policy, Unconditional};
use crate::{Error, Result};

/// How a policy's chunks are sampled, besides solver and steps.
#[derive(Debug, Clone, clap::Args)]
pub struct SamplingArgs {
    /// dopri5: allowed error of a step as a share of the value [default: the policy's]
    #[arg(long, value_name = "R", allow_negative_numbers = true)]
    rtol: Option<f64>,
    /// dopri5: allowed error of a step besides [default: the policy's]
    #[arg(long, value_name = "A", allow_negative_numbers = true)]
    atol: Option<f64>,
    /// dopri5: evaluations of a batch at most [default: the policy's]
    #[arg(long, value_name = "N")]
    max_evaluations: Option<usize>,
    /// Classifier-free guidance: 1 is none, 0 ignores the observation, more exaggerates what it says. Twice the work
    #[arg(long, value_name = "G", allow_hyphen_values = true)]
    guidance_scale: Option<f64>,
    /// What guidance takes for no observation: numbers are normalised [default: the policy's]
    #[arg(
        long,
        value_name = "zeros|learned|V1,V2,..",
        requires = "guidance_scale",
        allow_hyphen_values = true,
        value_parser = unconditional
    )]
    unconditional: Option<Unconditional>,
}

impl SamplingArgs {
    /// Checks what is of no use to any policy, before one is loaded.
    ///
    /// # Errors
    /// If a tolerance is not a positive number, the cap is 0, or the scale is not finite.
    pub fn check(&self) -> Result<()> {
        self.over(Tolerances::default()).check()?;
        match self.guidance_scale {
            Some(scale) if !scale.is_finite() => {
                Err(Error::input(format!("--guidance-scale is {scale}: use a finite number")))
            }
            _ => Ok(()),
        }
    }

    /// Puts what is given over these tolerances.
    fn over(&self, base: Tolerances) -> Tolerances {
        Tolerances {
            rtol: self.rtol.unwrap_or(base.rtol),
            atol: self.atol.unwrap_or(base.atol),
            max_evaluations: self.max_evaluations.unwrap_or(base.max_evaluations),
        }
    }

    /// Sets a policy to what the flags say.
    ///
    /// # Errors
    /// If a tolerance, the scale, or what stands for no observation is of no use to it.
    pub fn apply(&self, policy: &mut Policy) -> Result<()> {
        policy.set_tolerances(self.over(policy.config().flow.tolerances))?;
        let Some(scale) = self.guidance_scale else { return Ok(()) };
        let config = policy.config();
        if scale != 1.0 && config.observation_dropout == 0.0 {
            note(
                "note: this policy was trained without observation dropout: what it does without an observation, and \
                 so guidance, means nothing; train with --set observation_dropout=0.1",
            );
        }
        let unconditional = self.unconditional.clone().unwrap_or_else(|| config.unconditional.clone());
        policy.set_guidance(Some(Guidance { scale, unconditional }))
    }

    /// Says so on stderr where solvers, steps or tolerances are given that none of these policies keeps to. `solvers` are
    /// those that were asked for.
    pub fn note_idle(&self, configs: &[&Config], solvers: &[Solver], steps_given: bool) {
        let tolerances = self.rtol.is_some() || self.atol.is_some() || self.max_evaluations.is_some();
        let flows = configs.iter().filter(|config| config.objective == Objective::Flow);
        let own: Vec<Solver> = flows.map(|config| config.flow.solver).collect();
        if own.is_empty() {
            let idle = tolerances || steps_given || !solvers.is_empty();
            if idle && !configs.is_empty() {
                note(
                    "note: only policies of objective flow have a solver: --solver, --steps and tolerances do nothing \
                     here",
                );
            }
            return;
        }
        let solvers = if solvers.is_empty() { &own } else { solvers };
        if tolerances && !solvers.contains(&Solver::Dopri5) {
            note("note: tolerances are for --solver dopri5; other solvers take fixed steps");
        }
        if steps_given && solvers.iter().all(|solver| *solver == Solver::Dopri5) {
            note("note: dopri5 chooses its own steps; --steps is for other solvers");
        }
    }
}

/// zeros, learned, or numbers with commas between them.
fn unconditional(text: &str) -> Result<Unconditional> {
    match text {
        "zeros" => Ok(Unconditional::Zeros),
        "learned" => Ok(Unconditional::Learned),
        list => {
            let values = list.split(',').map(|value| value.trim().parse()).collect::<Result<_, _>>();
            values.map(Unconditional::Given).map_err(|_| {
                Error::input(format!("`{list}`: use zeros, learned, or numbers with commas between them"))
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_for_no_observation_is_a_word_or_a_list() {
        assert_eq!(unconditional("zeros"), Ok(Unconditional::Zeros));
        assert_eq!(unconditional("learned"), Ok(Unconditional::Learned));
        assert_eq!(unconditional("-0.5, 1,2e-1"), Ok(Unconditional::Given(vec![-0.5, 1.0, 0.2])));
        for wrong in ["", "none", "1,,2", "1;2"] {
            assert!(unconditional(wrong).is_err(), "{wrong}");
        }
    }
}
