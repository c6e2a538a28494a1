//! Classifier-free guidance: away from what the policy does without its observation.
//!
//! v = v_u + g (v_c − v_u) (Ho, Salimans, arXiv 2207.12598; Zheng et al., arXiv 2311.13443, for flows). Both fields are
//! the caller's: what v_u is conditioned on, zeros or a learned observation, is what it closes over. It makes sense
//! for a policy trained with observations dropped now and then.

use super::path::{Velocity, ask};
use super::{FlowConfig, Sample, sample};
use crate::{Error, Result};

/// v_u + g (v_c − v_u) of two velocities of one shape.
///
/// # Errors
/// If lengths do not fit, or the scale is not finite.
pub fn guide(conditional: &[f64], unconditional: &[f64], scale: f64) -> Result<Vec<f64>> {
    check(scale)?;
    if conditional.len() != unconditional.len() {
        let (c, u) = (conditional.len(), unconditional.len());
        return Err(Error::input(format!(
            "the conditional velocity has {c} values, the unconditional {u}: pass two of the same shape"
        )));
    }
    Ok(conditional.iter().zip(unconditional).map(|(c, u)| u + scale * (c - u)).collect())
}

/// [`sample`] along the guided velocity, with any solver. At g = 1 only the conditional field is asked and the actions
/// are those of [`sample`] to the last bit; at g = 0 only the unconditional one. Otherwise an evaluation is two passes.
///
/// # Errors
/// If the scale is not finite; those of [`sample`].
pub fn sample_guided(
    conditional: &mut Velocity<'_>,
    unconditional: &mut Velocity<'_>,
    scale: f64,
    noise: &[f64],
    batch: usize,
    flow: &FlowConfig,
) -> Result<Sample> {
    check(scale)?;
    if scale == 1.0 {
        return sample(conditional, noise, batch, flow);
    }
    if scale == 0.0 {
        return sample(unconditional, noise, batch, flow);
    }
    let mut guided =
        |x: &[f64], t: &[f64]| guide(&ask(conditional, x, t)?, &ask(unconditional, x, t)?, scale);
    let sampled = sample(&mut guided, noise, batch, flow)?;
    Ok(Sample { evaluations: 2 * sampled.evaluations, ..sampled })
}

fn check(scale: f64) -> Result<()> {
    if scale.is_finite() {
        return Ok(());
    }
    Err(Error::input(format!("the guidance scale is {scale}: use a finite number, 1 for no guidance")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{NoiseAt, Solver, random};

    /// x' = goal − x, counted.
    fn towards(goal: f64, calls: &mut usize) -> impl FnMut(&[f64], &[f64]) -> Result<Vec<f64>> {
        move |x, t| {
            *calls += 1;
            Ok(x.iter().map(|x| (goal - x) * (0.3 + t[0])).collect())
        }
    }

    fn flows() -> impl Iterator<Item = FlowConfig> {
        Solver::ALL.into_iter().flat_map(|solver| {
            [NoiseAt::Zero, NoiseAt::One].map(|noise_at| FlowConfig {
                solver,
                noise_at,
                num_steps: 5,
                ..FlowConfig::default()
            })
        })
    }

    #[test]
    fn one_is_plain_sampling_to_the_last_bit_in_one_pass() {
        let noise = random(1, 6);
        for flow in flows() {
            let (mut c, mut u, mut plain) = (0, 0, 0);
            let expected = sample(&mut towards(1.0, &mut plain), &noise, 2, &flow);
            let guided =
                sample_guided(&mut towards(1.0, &mut c), &mut towards(-1.0, &mut u), 1.0, &noise, 2, &flow);
            assert_eq!(guided, expected);
            assert_eq!((c, u), (plain, 0));
        }
    }

    #[test]
    fn zero_asks_the_unconditional_field_alone() {
        let noise = random(2, 6);
        for flow in flows() {
            let (mut c, mut u, mut plain) = (0, 0, 0);
            let expected = sample(&mut towards(-1.0, &mut plain), &noise, 2, &flow);
            let guided =
                sample_guided(&mut towards(1.0, &mut c), &mut towards(-1.0, &mut u), 0.0, &noise, 2, &flow);
            assert_eq!(guided, expected);
            assert_eq!((c, u), (0, plain));
        }
    }

    #[test]
    fn other_scales_go_through_every_solver_in_two_passes() {
        let noise = random(3, 6);
        for flow in flows() {
            // u + g (c − u) of two fields that differ in their goal is the field of the guided goal.
            let (mut c, mut u, mut goal) = (0, 0, 0);
            let expected =
                sample(&mut towards(-0.5 + 2.5 * 1.5, &mut goal), &noise, 2, &flow).expect("smooth");
            let guided =
                sample_guided(&mut towards(1.0, &mut c), &mut towards(-0.5, &mut u), 2.5, &noise, 2, &flow);
            let guided = guided.expect("smooth");
            assert_eq!((guided.evaluations, c), (2 * goal, u));
            // An adaptive step follows its error estimate, rounding included.
            let close = if flow.solver == Solver::Dopri5 { 1e-8 } else { 1e-12 };
            let mut pairs = guided.actions.iter().zip(&expected.actions);
            assert!(pairs.all(|(a, b)| (a - b).abs() < close), "{}", flow.solver.name());
        }
    }

    #[test]
    fn scales_that_are_no_numbers_are_refused() {
        for scale in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let (mut c, mut u) = (0, 0);
            let flow = FlowConfig::default();
            let guided =
                sample_guided(&mut towards(1.0, &mut c), &mut towards(0.0, &mut u), scale, &[0.0], 1, &flow);
            assert!(guided.expect_err("no number").to_string().contains("guidance scale"));
            assert_eq!((c, u), (0, 0));
            assert!(guide(&[0.0], &[0.0], scale).is_err());
        }
        assert!(guide(&[0.0], &[], 2.0).is_err());
        assert_eq!(guide(&[1.0], &[0.5], 3.0), Ok(vec![2.0]));
    }
}
