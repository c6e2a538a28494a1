//! Dormand and Prince's 5(4) with step control: every sample of a batch chooses its own steps.
//!
//! All samples are asked about together, each at its own time; a sample at its end waits for the others. So no sample
//! depends on its batch, as long as the field's rows do not. Coefficients: Dormand, Prince (1980), "A family of
//! embedded Runge-Kutta formulae", table 2. First step and step control: Hairer, Nørsett, Wanner, Solving Ordinary
//! Differential Equations I, section II.4, and the PI control of their DOPRI5, section IV.2 of volume II.

use super::path::{Velocity, ask, row_length};
use super::{NoiseAt, Solver, Tolerances};
use crate::{Error, Result};

/// What an adaptive solve came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Adaptive {
    /// The actions [B, n].
    pub points: Vec<f64>,
    /// Calls of the velocity: 2 + 6 times the steps tried by the slowest sample.
    pub evaluations: usize,
    /// Steps taken, of all samples together.
    pub accepted: usize,
    /// Steps tried in vain, of all samples together.
    pub rejected: usize,
}

/// Weights of the seven slopes in the error estimate: order 5 less order 4.
const ERROR: [f64; 7] =
    [71.0 / 57600.0, 0.0, -71.0 / 16695.0, 71.0 / 1920.0, -17253.0 / 339_200.0, 22.0 / 525.0, -1.0 / 40.0];
/// Velocities of a step: the first slope is the last one of the step before.
const STEP: usize = 6;
/// A step this short resolves nothing: rounding of time is as large.
const SHORTEST: f64 = 1e-12;
const SAFETY: f64 = 0.9;
const SHRINK: f64 = 0.2;
const GROW: f64 = 10.0;
/// The share of the last error in the choice of the next step.
const MEMORY: f64 = 0.04;

/// Where a sample is on its way from noise (share 0) to action (share 1).
struct Walker {
    share: f64,
    step: f64,
    last_error: f64,
    was_rejected: bool,
}

impl Walker {
    fn walks(&self) -> bool {
        self.share < 1.0
    }

    /// The share where the step ends; a step that nearly reaches 1 does.
    fn target(&self) -> f64 {
        if self.share + 1.01 * self.step >= 1.0 { 1.0 } else { self.share + self.step }
    }

    /// Whether a step with this error, as a share of what is allowed, is taken. Chooses the next step.
    fn judge(&mut self, error: f64) -> bool {
        let used = self.target() - self.share;
        let plain = SAFETY * error.max(1e-10).powf(-(0.2 - 0.75 * MEMORY));
        // Not a number is not good either.
        let good = error <= 1.0;
        if good {
            self.share = self.target();
            let most = if self.was_rejected { 1.0 } else { GROW };
            self.step = used * (plain * self.last_error.powf(MEMORY)).clamp(SHRINK, most);
            self.last_error = error.max(1e-4);
        } else {
            self.step = used * if error.is_finite() { plain.clamp(SHRINK, SAFETY) } else { SHRINK };
        }
        self.was_rejected = !good;
        good
    }
}

/// The field along the share of the way, dx/ds: +v where noise is at 0, −v where it is at 1.
struct Asked<'a, 'f> {
    velocity: &'a mut Velocity<'f>,
    noise_at: NoiseAt,
    calls: usize,
}

impl Asked<'_, '_> {
    fn slopes(&mut self, x: &[f64], shares: &[f64], walkers: &[Walker]) -> Result<Vec<f64>> {
        self.calls += 1;
        let (times, sign): (Vec<f64>, f64) = match self.noise_at {
            NoiseAt::Zero => (shares.to_vec(), 1.0),
            NoiseAt::One => (shares.iter().map(|s| 1.0 - s).collect(), -1.0),
        };
        let mut slopes = ask(self.velocity, x, &times)?;
        let n = x.len() / times.len();
        for (b, row) in slopes.chunks_mut(n).enumerate() {
            if walkers[b].walks() && row.iter().any(|v| !v.is_finite()) {
                return Err(Error::failure(format!(
                    "the velocity of sample {b} at t = {} is not finite: check the weights and the observation",
                    times[b]
                )));
            }
            row.iter_mut().for_each(|v| *v *= sign);
        }
        Ok(slopes)
    }
}

/// From noise to action: x [B, n] along the field, each sample with steps of its own whose error, as the root of the
/// mean square over its values of e / (atol + rtol max(|x|, |x'|)), is at most 1.
///
/// A field computed in f32 is itself known to about 1e-7 of its size: a tolerance below that follows its rounding in
/// ever shorter steps, until `max_evaluations` ends it.
///
/// # Errors
/// If lengths do not fit, a tolerance is of no use, a velocity is not finite, or the evaluations do not suffice; the
/// field's own.
pub fn dopri5(
    velocity: &mut Velocity<'_>,
    x: &[f64],
    batch: usize,
    noise_at: NoiseAt,
    tolerances: &Tolerances,
) -> Result<Adaptive> {
    tolerances.check()?;
    let n = row_length(x, batch)?;
    let tableau = Solver::Dopri5.tableau();
    let mut asked = Asked { velocity, noise_at, calls: 0 };
    let mut x = x.to_vec();
    let (mut walkers, first) = start(&mut asked, &x, batch, tolerances)?;
    let mut slopes = vec![vec![0.0; x.len()]; STEP + 1];
    slopes[0] = first;
    let (mut accepted, mut rejected) = (0, 0);
    while let Some(slowest) = walkers.iter().filter(|w| w.walks()).min_by(|a, b| a.step.total_cmp(&b.step)) {
        if asked.calls + STEP > tolerances.max_evaluations || slowest.step < SHORTEST {
            return Err(too_many(slowest, noise_at, asked.calls, tolerances));
        }
        let mut points = x.clone();
        for i in 1..=STEP {
            // The seventh slope is at the step's end.
            let (weights, c) = if i == STEP { (tableau.b, 1.0) } else { (tableau.a[i], tableau.c[i]) };
            let mut shares = Vec::with_capacity(batch);
            for (b, walker) in walkers.iter().enumerate() {
                let target = walker.target();
                let step = target - walker.share;
                shares.push(if c == 1.0 || !walker.walks() { target } else { walker.share + c * step });
                if walker.walks() {
                    for at in b * n..(b + 1) * n {
                        let sum: f64 = weights.iter().zip(&slopes).map(|(w, k)| w * k[at]).sum();
                        points[at] = x[at] + step * sum;
                    }
                }
            }
            slopes[i] = asked.slopes(&points, &shares, &walkers)?;
        }
        for (b, walker) in walkers.iter_mut().enumerate().filter(|(_, w)| w.walks()) {
            let step = walker.target() - walker.share;
            let square = |at: usize| {
                let error: f64 = ERROR.iter().zip(&slopes).map(|(e, k)| e * k[at]).sum();
                (step * error / allowed(x[at].abs().max(points[at].abs()), tolerances)).powi(2)
            };
            let row = b * n..(b + 1) * n;
            let mean = row.clone().map(square).sum::<f64>() / n as f64;
            if walker.judge(mean.sqrt()) {
                accepted += 1;
                x[row.clone()].copy_from_slice(&points[row.clone()]);
                let (first, last) = slopes.split_at_mut(STEP);
                first[0][row.clone()].copy_from_slice(&last[0][row]);
            } else {
                rejected += 1;
            }
        }
    }
    Ok(Adaptive { points: x, evaluations: asked.calls, accepted, rejected })
}

/// All samples at the noise, with their first slopes and Hairer's guess of a first step from two velocities.
fn start(
    asked: &mut Asked<'_, '_>,
    x: &[f64],
    batch: usize,
    tolerances: &Tolerances,
) -> Result<(Vec<Walker>, Vec<f64>)> {
    let n = x.len() / batch;
    let walker = || Walker { share: 0.0, step: 1.0, last_error: 1e-4, was_rejected: false };
    let mut walkers: Vec<Walker> = (0..batch).map(|_| walker()).collect();
    let slopes = asked.slopes(x, &vec![0.0; batch], &walkers)?;
    let norm = |b: usize, value: &dyn Fn(usize) -> f64| {
        let square = |at: usize| (value(at) / allowed(x[at].abs(), tolerances)).powi(2);
        ((b * n..(b + 1) * n).map(square).sum::<f64>() / n as f64).sqrt()
    };
    let sizes: Vec<[f64; 2]> =
        (0..batch).map(|b| [norm(b, &|at| x[at]), norm(b, &|at| slopes[at])]).collect();
    // A step that changes x by a hundredth.
    let small: Vec<f64> = (sizes.iter())
        .map(|[d0, d1]| {
            let known = *d0 >= 1e-5 && *d1 >= 1e-5 && (d0 / d1).is_finite();
            if known { (0.01 * d0 / d1).clamp(1e-9, 1.0) } else { 1e-6 }
        })
        .collect();
    let moved: Vec<f64> = x.iter().zip(&slopes).enumerate().map(|(i, (x, k))| x + small[i / n] * k).collect();
    let ahead = asked.slopes(&moved, &small, &walkers)?;
    for (b, walker) in walkers.iter_mut().enumerate() {
        let bend = norm(b, &|at| ahead[at] - slopes[at]) / small[b];
        let most = sizes[b][1].max(bend);
        let step = if most <= 1e-15 { (1e-3 * small[b]).max(1e-6) } else { (0.01 / most).powf(0.2) };
        walker.step = step.min(100.0 * small[b]).clamp(1e-9, 1.0);
    }
    Ok((walkers, slopes))
}

/// The error that a value of this size may have.
fn allowed(size: f64, tolerances: &Tolerances) -> f64 {
    tolerances.atol + tolerances.rtol * size
}

fn too_many(walker: &Walker, noise_at: NoiseAt, calls: usize, tolerances: &Tolerances) -> Error {
    let t = match noise_at {
        NoiseAt::Zero => walker.share,
        NoiseAt::One => 1.0 - walker.share,
    };
    let Tolerances { rtol, atol, max_evaluations } = tolerances;
    let step = walker.step;
    Error::failure(format!(
        "dopri5 is at t = {t:.6} after {calls} evaluations (`max_evaluations` is {max_evaluations}), with steps of \
         {step:.1e}: raise `max_evaluations`, loosen `rtol` ({rtol:e}) and `atol` ({atol:e}), which a network in f32 \
         cannot meet below about 1e-7, or use a solver of fixed steps"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::NoiseAt::{One, Zero};

    /// x' = r (cos t − x) per sample with r = `rates[b]`, 2 values a sample.
    fn bend(rates: &[f64], x: &[f64], t: &[f64]) -> Vec<f64> {
        x.iter().enumerate().map(|(i, x)| rates[i / 2] * (t[i / 2].cos() - x)).collect()
    }

    /// x(t) of [`bend`] that is c + (r²cos 0)/(1 + r²) at 0.
    fn bent(rate: f64, c: f64, t: f64) -> f64 {
        c * (-rate * t).exp() + rate * (rate * t.cos() + t.sin()) / (1.0 + rate * rate)
    }

    fn tolerance(tol: f64) -> Tolerances {
        Tolerances { rtol: tol, atol: tol, max_evaluations: 10_000 }
    }

    fn solve(rates: &[f64], noise_at: NoiseAt, tol: f64) -> (Adaptive, f64) {
        let [start, end] = if noise_at == Zero { [0.0, 1.0] } else { [1.0, 0.0] };
        let all =
            |t: f64| rates.iter().flat_map(|&r| [bent(r, 1.0, t), bent(r, -2.0, t)]).collect::<Vec<_>>();
        let mut calls = 0;
        let mut field = |x: &[f64], t: &[f64]| {
            calls += 1;
            Ok(bend(rates, x, t))
        };
        let solved = dopri5(&mut field, &all(start), rates.len(), noise_at, &tolerance(tol));
        let solved = solved.expect("a smooth field");
        assert_eq!(solved.evaluations, calls);
        let errors = solved.points.iter().zip(all(end)).map(|(x, exact)| (x - exact).abs());
        let worst = errors.fold(0.0, f64::max);
        (solved, worst)
    }

    #[test]
    fn errors_keep_to_the_tolerance_and_evaluations_grow_slowly() {
        for (noise_at, rates) in [(Zero, [1.0, 8.0]), (One, [0.5, 2.0])] {
            let mut evaluations = Vec::new();
            for tol in [1e-3, 1e-5, 1e-7, 1e-9, 1e-11] {
                let (solved, worst) = solve(&rates, noise_at, tol);
                assert!(worst < 10.0 * tol, "{noise_at:?} {tol:e}: {worst:e}");
                evaluations.push(solved.evaluations as f64);
            }
            // Order 5: a hundredth of the error costs 100^(1/5) = 2.5 times as much.
            assert!(evaluations.windows(2).all(|e| e[1] < 3.0 * e[0]), "{evaluations:?}");
            assert!(evaluations[4] > 3.0 * evaluations[0], "{evaluations:?}");
        }
    }

    #[test]
    fn no_sample_depends_on_its_batch() {
        let rates = [1.0, 40.0, 6.0];
        for noise_at in [Zero, One] {
            let start: Vec<f64> = (0..6).map(|i| f64::from(i) - 2.5).collect();
            let run = |rates: &[f64], x: &[f64]| {
                let mut field = |x: &[f64], t: &[f64]| Ok(bend(rates, x, t));
                dopri5(&mut field, x, rates.len(), noise_at, &tolerance(1e-6)).expect("a smooth field")
            };
            let together = run(&rates, &start);
            let alone: Vec<_> = (0..3).map(|b| run(&rates[b..=b], &start[2 * b..2 * b + 2])).collect();
            assert_eq!(together.points, alone.iter().flat_map(|a| a.points.clone()).collect::<Vec<_>>());
            let accepted: usize = alone.iter().map(|a| a.accepted).sum();
            let rejected: usize = alone.iter().map(|a| a.rejected).sum();
            assert_eq!([together.accepted, together.rejected], [accepted, rejected]);
            let most = alone.iter().map(|a| a.evaluations).max();
            assert_eq!(Some(together.evaluations), most);
        }
    }

    #[test]
    fn a_sample_at_its_end_is_asked_there_and_not_listened_to() {
        let mut field = |x: &[f64], t: &[f64]| {
            assert!(t.iter().all(|t| (0.0..=1.0).contains(t)));
            let quick = if t[0] == 1.0 { f64::NAN } else { 1.0 };
            Ok(vec![quick, 60.0 * (1.0 - x[1])])
        };
        // The first sample's field is not finite at its end: refused while it counts.
        let error = dopri5(&mut field, &[0.0, 0.0], 2, Zero, &tolerance(1e-6)).expect_err("it counts");
        assert!(error.to_string().contains("sample 0 at t = 1 is not finite"), "{error}");
        let mut ended = 0;
        let mut field = |x: &[f64], t: &[f64]| {
            ended += usize::from(t[0] == 1.0);
            // The step's two stages at t = 1 count; later ones do not.
            Ok(vec![if ended > 2 { f64::NAN } else { 1.0 }, 60.0 * (1.0 - x[1])])
        };
        let solved = dopri5(&mut field, &[0.0, 0.0], 2, Zero, &tolerance(1e-6)).expect("it waits");
        assert!((solved.points[0] - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_turn_in_the_field_rejects_steps() {
        let mut field = |_: &[f64], t: &[f64]| Ok(vec![if t[0] < 0.7 { 1.0 } else { -20.0 }]);
        let solved = dopri5(&mut field, &[0.0], 1, Zero, &tolerance(1e-6)).expect("two straight parts");
        assert!(solved.rejected > 0);
        assert!((solved.points[0] - (0.7 - 6.0)).abs() < 1e-3, "{}", solved.points[0]);
    }

    #[test]
    fn straight_fields_take_few_steps() {
        for noise_at in [Zero, One] {
            let mut field = |x: &[f64], _: &[f64]| Ok(vec![0.5; x.len()]);
            let solved = dopri5(&mut field, &[1.0; 4], 2, noise_at, &Tolerances::default());
            let solved = solved.expect("a straight field");
            let end = if noise_at == Zero { 1.5 } else { 0.5 };
            assert!(solved.points.iter().all(|x| (x - end).abs() < 1e-12));
            assert!(solved.evaluations <= 20, "{}", solved.evaluations);
        }
    }

    #[test]
    fn what_f32_cannot_meet_ends_in_advice() {
        let mut field = |x: &[f64], t: &[f64]| {
            Ok(x.iter().map(|x| f64::from((3.0 * x + 10.0 * t[0]).sin() as f32 + 1e-7)).collect())
        };
        // The cap ends the first two, the shortest step the last.
        for (tol, max_evaluations) in [(1e-12, 1000), (1e-300, 1000), (1e-300, usize::MAX / 2)] {
            let tolerances = Tolerances { rtol: tol, atol: tol, max_evaluations };
            let error = dopri5(&mut field, &[0.3], 1, Zero, &tolerances).expect_err("noise of f32");
            assert!(error.to_string().contains("raise `max_evaluations`"), "{error}");
        }
    }

    #[test]
    fn what_is_of_no_use_is_refused() {
        let mut nan = |x: &[f64], _: &[f64]| Ok(vec![f64::NAN; x.len()]);
        let default = Tolerances::default();
        assert!(dopri5(&mut nan, &[0.0], 1, Zero, &default).is_err());
        let mut still = |x: &[f64], _: &[f64]| Ok(vec![0.0; x.len()]);
        assert_eq!(dopri5(&mut still, &[7.0], 1, One, &default).map(|a| a.points), Ok(vec![7.0]));
        assert!(dopri5(&mut still, &[0.0; 3], 2, Zero, &default).is_err());
        assert!(dopri5(&mut still, &[], 0, Zero, &default).is_err());
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let tolerances = Tolerances { rtol: bad, ..default };
            assert!(dopri5(&mut still, &[0.0], 1, Zero, &tolerances).is_err());
        }
        let few = Tolerances { max_evaluations: 7, ..default };
        assert!(dopri5(&mut still, &[0.0], 1, Zero, &few).is_err());
    }
}
