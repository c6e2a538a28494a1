//! From noise to actions on the host, with any solver.

use super::path::{Velocity, ask, row_length};
use super::{Field, FlowConfig, Solver, dopri5};
use crate::{Error, Result};

/// A batch of samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The actions [B, n].
    pub actions: Vec<f64>,
    /// Passes of a network over the batch.
    pub evaluations: usize,
}

/// A velocity of host slices, all samples of the batch at one time.
struct Host<'a, 'f> {
    velocity: &'a mut Velocity<'f>,
    batch: usize,
}

impl Field for Host<'_, '_> {
    type Point = Vec<f64>;

    fn velocity(&mut self, x: &Vec<f64>, t: f64) -> Result<Vec<f64>> {
        let v = ask(self.velocity, x, &vec![t; self.batch])?;
        if v.iter().any(|v| !v.is_finite()) {
            return Err(Error::failure(format!(
                "the velocity at t = {t} is not finite: check the weights and the observation"
            )));
        }
        Ok(v)
    }

    fn combine(&mut self, base: &Vec<f64>, terms: &[(f64, Vec<f64>)]) -> Result<Vec<f64>> {
        let sum = |i: usize| terms.iter().map(|(c, k)| c * k[i]).sum::<f64>();
        Ok(base.iter().enumerate().map(|(i, x)| x + sum(i)).collect())
    }
}

/// Integrates dx/dt = v(x, t) from noise [B, n] to actions [B, n]: `num_steps` steps of the configuration's solver, or
/// [`dopri5`] within its tolerances.
///
/// # Errors
/// If lengths do not fit, there are no steps, or a velocity is not finite; the solver's and the field's own.
pub fn sample(velocity: &mut Velocity<'_>, noise: &[f64], batch: usize, flow: &FlowConfig) -> Result<Sample> {
    row_length(noise, batch)?;
    if flow.solver == Solver::Dopri5 {
        let solved = dopri5(velocity, noise, batch, flow.noise_at, &flow.tolerances)?;
        return Ok(Sample { actions: solved.points, evaluations: solved.evaluations });
    }
    let mut field = Host { velocity, batch };
    let mut path = flow.integrate(&mut field, noise.to_vec(), flow.num_steps)?;
    Ok(Sample { actions: path.pop().unwrap_or_default(), evaluations: flow.evaluations(flow.num_steps) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{NoiseAt, random, target_velocity};

    fn flow(solver: Solver, noise_at: NoiseAt, num_steps: usize) -> FlowConfig {
        FlowConfig { solver, noise_at, num_steps, ..FlowConfig::default() }
    }

    #[test]
    fn every_solver_follows_a_straight_field_exactly_in_both_conventions() {
        for dim in [16, 32, 64] {
            for horizon in [2, 4, 8] {
                let [noise, actions] = [random(1, 2 * horizon * dim), random(2, 2 * horizon * dim)];
                for noise_at in [NoiseAt::Zero, NoiseAt::One] {
                    let v = match noise_at {
                        NoiseAt::Zero => target_velocity(&noise, &actions),
                        NoiseAt::One => target_velocity(&actions, &noise),
                    };
                    for solver in Solver::ALL {
                        let sampled = sample(&mut |_, _| v.clone(), &noise, 2, &flow(solver, noise_at, 3));
                        let sampled = sampled.expect("shapes fit");
                        assert_eq!(sampled.actions.len(), noise.len());
                        let pairs = sampled.actions.iter().zip(&actions);
                        assert!(pairs.into_iter().all(|(x, a)| (x - a).abs() < 1e-12), "{}", solver.name());
                    }
                }
            }
        }
    }

    #[test]
    fn evaluations_are_those_made() {
        for solver in Solver::ALL {
            let flow = flow(solver, NoiseAt::One, 7);
            let mut calls = 0;
            let mut field = |x: &[f64], t: &[f64]| {
                calls += 1;
                Ok(x.iter().map(|x| (x * t[0]).sin()).collect())
            };
            let sampled = sample(&mut field, &random(3, 6), 1, &flow).expect("a smooth field");
            assert!(sampled.actions.iter().all(|x| x.is_finite()));
            assert_eq!(sampled.evaluations, calls);
            if solver != Solver::Dopri5 {
                assert_eq!(calls, flow.evaluations(7));
            }
        }
    }

    #[test]
    fn solvers_agree_where_the_field_is_smooth() {
        let noise = random(4, 8);
        let mut field = |x: &[f64], t: &[f64]| Ok(x.iter().map(|x| (2.0 * x + t[0]).cos()).collect());
        let exact = sample(&mut field, &noise, 1, &flow(Solver::Rk4, NoiseAt::Zero, 1000)).expect("smooth");
        for (solver, error) in Solver::ALL.into_iter().zip([0.02, 1e-3, 1e-3, 1e-6, 1e-3]) {
            let sampled = sample(&mut field, &noise, 1, &flow(solver, NoiseAt::Zero, 50)).expect("smooth");
            let worst =
                (sampled.actions.iter().zip(&exact.actions)).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(worst < error, "{}: {worst:e}", solver.name());
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut still = |x: &[f64], _: &[f64]| Ok(vec![0.0; x.len()]);
        let euler = flow(Solver::Euler, NoiseAt::Zero, 4);
        assert!(sample(&mut still, &[0.0; 3], 2, &euler).is_err());
        assert!(sample(&mut still, &[], 0, &euler).is_err());
        let none = FlowConfig { num_steps: 0, ..euler };
        let message = sample(&mut still, &[0.0; 2], 2, &none).expect_err("no steps").to_string();
        assert!(message.contains("use at least 1"), "{message}");
        let short = sample(&mut |_, _| Ok(vec![0.0]), &[0.0; 2], 2, &euler).expect_err("one value");
        assert!(short.to_string().contains("the velocity has 1 values"));
        let nan = sample(&mut |_, _| Ok(vec![f64::NAN; 2]), &[0.0; 2], 2, &euler).expect_err("NaN");
        assert!(nan.to_string().contains("t = 0 is not finite"));
    }
}
