//! Flags of everything that samples: what the adaptive solver keeps to, and guidance.

use super::common::note;
use crate::flow::Solver;
use crate::policy::{Guidance, Policy, Unconditional};
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
    /// Sets a policy to what the flags say.
    ///
    /// # Errors
    /// If a tolerance, the scale, or what stands for no observation is of no use to it.
    pub fn apply(&self, policy: &mut Policy) -> Result<()> {
        let mut tolerances = policy.config().flow.tolerances;
        self.rtol.into_iter().for_each(|rtol| tolerances.rtol = rtol);
        self.atol.into_iter().for_each(|atol| tolerances.atol = atol);
        self.max_evaluations.into_iter().for_each(|most| tolerances.max_evaluations = most);
        policy.set_tolerances(tolerances)?;
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

    /// Says so on stderr where steps or tolerances are given that no solver keeps to.
    pub fn note_idle(&self, solvers: &[Solver], steps_given: bool) {
        let tolerances = self.rtol.is_some() || self.atol.is_some() || self.max_evaluations.is_some();
        if tolerances && !solvers.contains(&Solver::Dopri5) {
            note("note: tolerances are for --solver dopri5; other solvers take fixed steps");
        }
        if steps_given && !solvers.is_empty() && solvers.iter().all(|solver| *solver == Solver::Dopri5) {
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
