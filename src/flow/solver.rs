//! Fixed-step solvers: Butcher tableaus, and one loop for host slices and graphs alike.
//!
//! A step of length h from x at time t has stages k_i = v(x + h Σ_j a_ij k_j, t + c_i h) and ends at x + h Σ b_i k_i
//! (Hairer, Nørsett, Wanner: Solving Ordinary Differential Equations I, section II.1). With noise at t = 1 the same
//! step runs with −h.

use super::{FlowConfig, NoiseAt};
use crate::{Error, Result};

/// How the flow is integrated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Solver {
    /// x += h v(x, t): order 1.
    Euler,
    /// The mean of both ends' velocities: order 2.
    Heun,
    /// The velocity half a step ahead: order 2.
    Midpoint,
    /// The classical Runge–Kutta method: order 4.
    Rk4,
    /// Dormand and Prince's 5(4): order 5 at fixed steps; [`dopri5`](super::dopri5) chooses its own.
    Dopri5,
}

/// A solver's coefficients: row i of `a` has the i weights of the stages before it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tableau {
    /// The solver's name.
    pub name: &'static str,
    /// p: the error after a fixed time falls as h^p.
    pub order: u32,
    /// Where in the step each stage is, as a share of it `[S]`.
    pub c: &'static [f64],
    /// Weights of earlier stages in a stage's x, `[S]` rows.
    pub a: &'static [&'static [f64]],
    /// Weights of the stages in the step `[S]`.
    pub b: &'static [f64],
}

const EULER: Tableau = Tableau { name: "euler", order: 1, c: &[0.0], a: &[&[]], b: &[1.0] };

const HEUN: Tableau =
    Tableau { name: "heun", order: 2, c: &[0.0, 1.0], a: &[&[], &[1.0]], b: &[1.0 / 2.0, 1.0 / 2.0] };

const MIDPOINT: Tableau =
    Tableau { name: "midpoint", order: 2, c: &[0.0, 1.0 / 2.0], a: &[&[], &[1.0 / 2.0]], b: &[0.0, 1.0] };

const RK4: Tableau = Tableau {
    name: "rk4",
    order: 4,
    c: &[0.0, 1.0 / 2.0, 1.0 / 2.0, 1.0],
    a: &[&[], &[1.0 / 2.0], &[0.0, 1.0 / 2.0], &[0.0, 0.0, 1.0]],
    b: &[1.0 / 6.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 6.0],
};

/// Dormand, Prince (1980), "A family of embedded Runge-Kutta formulae", table 2: weights of order 5. The seventh stage
/// has weight 0 and serves the error estimate alone.
const DOPRI5: Tableau = Tableau {
    name: "dopri5",
    order: 5,
    c: &[0.0, 1.0 / 5.0, 3.0 / 10.0, 4.0 / 5.0, 8.0 / 9.0, 1.0],
    a: &[
        &[],
        &[1.0 / 5.0],
        &[3.0 / 40.0, 9.0 / 40.0],
        &[44.0 / 45.0, -56.0 / 15.0, 32.0 / 9.0],
        &[19372.0 / 6561.0, -25360.0 / 2187.0, 64448.0 / 6561.0, -212.0 / 729.0],
        &[9017.0 / 3168.0, -355.0 / 33.0, 46732.0 / 5247.0, 49.0 / 176.0, -5103.0 / 18656.0],
    ],
    b: &[35.0 / 384.0, 0.0, 500.0 / 1113.0, 125.0 / 192.0, -2187.0 / 6784.0, 11.0 / 84.0],
};

impl Solver {
    /// All solvers.
    pub const ALL: [Self; 5] = [Self::Euler, Self::Heun, Self::Midpoint, Self::Rk4, Self::Dopri5];

    /// The solver of that name.
    ///
    /// # Errors
    /// If there is none.
    pub fn named(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|solver| solver.name() == name).ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            Error::input(format!("unknown solver `{name}`: known are {known}"))
        })
    }

    /// The solver's name.
    pub fn name(self) -> &'static str {
        self.tableau().name
    }

    /// The solver's coefficients.
    pub fn tableau(self) -> &'static Tableau {
        match self {
            Self::Euler => &EULER,
            Self::Heun => &HEUN,
            Self::Midpoint => &MIDPOINT,
            Self::Rk4 => &RK4,
            Self::Dopri5 => &DOPRI5,
        }
    }
}

/// A velocity field and the arithmetic of the space it lives in: host slices, or values of a graph.
pub trait Field {
    /// A point of the path, or a velocity.
    type Point: Clone;

    /// v(x, t).
    ///
    /// # Errors
    /// The field's own.
    fn velocity(&mut self, x: &Self::Point, t: f64) -> Result<Self::Point>;

    /// base + Σ c_i k_i over the terms (c_i, k_i); none has c_i = 0.
    ///
    /// # Errors
    /// The field's own.
    fn combine(&mut self, base: &Self::Point, terms: &[(f64, Self::Point)]) -> Result<Self::Point>;

    /// base + h v(x, t): one launch where a field can fuse it.
    ///
    /// # Errors
    /// The field's own.
    fn advance(&mut self, base: &Self::Point, h: f64, x: &Self::Point, t: f64) -> Result<Self::Point> {
        let slope = self.velocity(x, t)?;
        self.combine(base, &[(h, slope)])
    }
}

impl Tableau {
    /// S: velocities a step asks for.
    pub fn stages(&self) -> usize {
        self.b.len()
    }

    /// Weight of stage `j` in point `i` of a step; point S is the step's end.
    fn weight(&self, i: usize, j: usize) -> f64 {
        let row = if i == self.stages() { self.b } else { self.a[i] };
        row.get(j).copied().unwrap_or(0.0)
    }

    /// The point that is x + h w k_j and nothing else, if no other point needs k_j.
    fn only_user(&self, j: usize) -> Option<usize> {
        let mut users = (j + 1..=self.stages()).filter(|&i| self.weight(i, j) != 0.0);
        let user = users.next().filter(|_| users.next().is_none())?;
        (0..self.stages()).all(|other| other == j || self.weight(user, other) == 0.0).then_some(user)
    }

    /// One step of (signed) length `h` from `x`; stage i is at `times[i]`.
    fn step<F: Field>(&self, field: &mut F, x: &F::Point, h: f64, times: &[f64]) -> Result<F::Point> {
        let stages = self.stages();
        let mut slopes: Vec<(usize, F::Point)> = Vec::with_capacity(stages);
        let mut fused: Vec<Option<F::Point>> = vec![None; stages + 1];
        fused[0] = Some(x.clone());
        for i in 0..=stages {
            let point = match fused[i].take() {
                Some(point) => point,
                None => {
                    let terms: Vec<_> = (slopes.iter())
                        .filter(|(j, _)| self.weight(i, *j) != 0.0)
                        .map(|(j, slope)| (h * self.weight(i, *j), slope.clone()))
                        .collect();
                    field.combine(x, &terms)?
                }
            };
            if i == stages {
                return Ok(point);
            }
            match self.only_user(i) {
                Some(user) => {
                    fused[user] = Some(field.advance(x, h * self.weight(user, i), &point, times[i])?);
                }
                None => slopes.push((i, field.velocity(&point, times[i])?)),
            }
        }
        Ok(x.clone())
    }
}

impl FlowConfig {
    /// The times of all velocities of a solve of `steps` fixed steps, in the order in which
    /// [`integrate`](Self::integrate) asks for them `[steps · S]`: (i + c)/N, or (N − i − c)/N where noise is at 1. A
    /// stage at a step's end, c = 1, is at the very time of the next step's start.
    pub fn evaluation_times(&self, steps: usize) -> Vec<f64> {
        let c = self.solver.tableau().c;
        let time = |i: usize, c: f64| match self.noise_at {
            NoiseAt::Zero => (i as f64 + c) / steps as f64,
            NoiseAt::One => ((steps - i) as f64 - c) / steps as f64,
        };
        (0..steps).flat_map(|i| c.iter().map(move |&c| time(i, c))).collect()
    }

    /// Velocities that `steps` fixed steps ask for: N · S.
    pub fn evaluations(&self, steps: usize) -> usize {
        steps * self.solver.tableau().stages()
    }

    /// From noise to action in `steps` fixed steps: all points of the path, the first included.
    ///
    /// A stage that only one later point needs goes through [`Field::advance`]: all of Euler and midpoint.
    ///
    /// # Errors
    /// If `steps` is 0; the field's own.
    pub fn integrate<F: Field>(&self, field: &mut F, x: F::Point, steps: usize) -> Result<Vec<F::Point>> {
        if steps == 0 {
            return Err(Error::input("0 solver steps: use at least 1"));
        }
        let tableau = self.solver.tableau();
        let (h, times) = (self.step_size(steps), self.evaluation_times(steps));
        let mut path = Vec::with_capacity(steps + 1);
        path.push(x);
        for times in times.chunks(tableau.stages()) {
            let next = tableau.step(field, &path[path.len() - 1], h, times)?;
            path.push(next);
        }
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// x' = −2 x + t on the host, counting what it is asked.
    #[derive(Default)]
    struct Line {
        times: Vec<f64>,
        combined: usize,
    }

    impl Field for Line {
        type Point = f64;

        fn velocity(&mut self, x: &f64, t: f64) -> Result<f64> {
            self.times.push(t);
            Ok(-2.0 * x + t)
        }

        fn combine(&mut self, base: &f64, terms: &[(f64, f64)]) -> Result<f64> {
            assert!(terms.iter().all(|(c, _)| *c != 0.0));
            self.combined += terms.len();
            Ok(base + terms.iter().map(|(c, k)| c * k).sum::<f64>())
        }
    }

    fn flow(solver: Solver, noise_at: NoiseAt) -> FlowConfig {
        FlowConfig { solver, noise_at, ..FlowConfig::default() }
    }

    /// x(t) = (x0 + 1/4) e^{−2t} + t/2 − 1/4 from x(0) = x0.
    fn error(solver: Solver, noise_at: NoiseAt, steps: usize) -> f64 {
        let solution = |t: f64| 1.25 * (-2.0 * t).exp() + t / 2.0 - 0.25;
        let [start, end] = match noise_at {
            NoiseAt::Zero => [0.0, 1.0],
            NoiseAt::One => [1.0, 0.0],
        };
        let path = flow(solver, noise_at).integrate(&mut Line::default(), solution(start), steps);
        let path = path.expect("host arithmetic");
        assert_eq!(path.len(), steps + 1);
        (path[steps] - solution(end)).abs()
    }

    #[test]
    fn every_solver_has_its_order_in_both_conventions() {
        for solver in Solver::ALL {
            for noise_at in [NoiseAt::Zero, NoiseAt::One] {
                let [coarse, fine] = [32, 64].map(|steps| error(solver, noise_at, steps));
                let order = (coarse / fine).log2();
                let expected = f64::from(solver.tableau().order);
                assert!((order - expected).abs() < 0.2, "{} {noise_at:?}: {order}", solver.name());
            }
        }
    }

    #[test]
    fn tableaus_are_consistent() {
        for tableau in Solver::ALL.map(Solver::tableau) {
            assert_eq!([tableau.c.len(), tableau.a.len()], [tableau.stages(); 2]);
            assert!((tableau.b.iter().sum::<f64>() - 1.0).abs() < 1e-15);
            for (c, row) in tableau.c.iter().zip(tableau.a) {
                assert!((row.iter().sum::<f64>() - c).abs() < 1e-14, "{}", tableau.name);
            }
        }
    }

    #[test]
    fn times_and_evaluations_are_those_asked_for() {
        for solver in Solver::ALL {
            for noise_at in [NoiseAt::Zero, NoiseAt::One] {
                let flow = flow(solver, noise_at);
                let mut field = Line::default();
                flow.integrate(&mut field, 1.0, 10).expect("host arithmetic");
                assert_eq!(field.times, flow.evaluation_times(10));
                assert_eq!(field.times.len(), flow.evaluations(10));
            }
        }
    }

    #[test]
    fn stages_at_a_step_s_end_are_exact() {
        for steps in [3, 7, 10, 49] {
            for solver in [Solver::Heun, Solver::Rk4, Solver::Dopri5] {
                let zero = flow(solver, NoiseAt::Zero).evaluation_times(steps);
                let one = flow(solver, NoiseAt::One).evaluation_times(steps);
                let stages = solver.tableau().stages();
                assert_eq!([zero.last(), one.last()], [Some(&1.0), Some(&0.0)]);
                for i in 1..steps {
                    assert_eq!(zero[i * stages], i as f64 / steps as f64);
                    assert_eq!(zero[i * stages - 1], zero[i * stages]);
                    assert_eq!(one[i * stages - 1], one[i * stages]);
                }
            }
        }
        assert_eq!(flow(Solver::Midpoint, NoiseAt::One).evaluation_times(2), [1.0, 0.75, 0.5, 0.25]);
    }

    #[test]
    fn chains_of_stages_advance_and_others_combine() {
        let combined = |solver| {
            let mut field = Advancing(Line::default(), 0);
            flow(solver, NoiseAt::Zero).integrate(&mut field, 1.0, 1).expect("host arithmetic");
            (field.1, field.0.combined)
        };
        assert_eq!(combined(Solver::Euler), (1, 0));
        assert_eq!(combined(Solver::Midpoint), (2, 0));
        assert_eq!(combined(Solver::Heun), (0, 3));
        assert_eq!(combined(Solver::Rk4), (0, 7));
    }

    struct Advancing(Line, usize);

    impl Field for Advancing {
        type Point = f64;

        fn velocity(&mut self, x: &f64, t: f64) -> Result<f64> {
            self.0.velocity(x, t)
        }

        fn combine(&mut self, base: &f64, terms: &[(f64, f64)]) -> Result<f64> {
            self.0.combine(base, terms)
        }

        fn advance(&mut self, base: &f64, h: f64, x: &f64, t: f64) -> Result<f64> {
            self.1 += 1;
            Ok(base + h * self.velocity(x, t)?)
        }
    }

    #[test]
    fn names_are_found_again_and_unknown_ones_name_the_known() {
        for solver in Solver::ALL {
            assert_eq!(Solver::named(solver.name()), Ok(solver));
        }
        let message = Solver::named("rk45").expect_err("unknown").to_string();
        assert!(message.contains("euler, heun, midpoint, rk4, dopri5"), "{message}");
        let none = flow(Solver::Euler, NoiseAt::Zero).integrate(&mut Line::default(), 0.0, 0);
        assert!(none.is_err());
    }
}
