//! Solvers where they run: unrolled into a graph, on every device, against an equation whose solution is known.

use std::sync::{Arc, LazyLock};

use flowgpu::Result;
use flowgpu::flow::{Field, FlowConfig, NoiseAt, Solver};
use flowgpu::graph::ops::{Bias, Linear};
use flowgpu::graph::{Bank, Device, Graph, Init, ParamId, Params, Program, Value};
use flowgpu::kernels::{Dtype, Set};

/// One device for all tests of this file: pipelines are dear on software adapters.
static GPU: LazyLock<Device> = LazyLock::new(|| Device::open("gpu").expect("the tests need an adapter"));

/// dx/dt = λ x + sin(ω t), x(0) = 1.
const LAMBDA: f64 = 2.0;
const OMEGA: f64 = 5.0;

/// x(t) = (1 + ω / (λ² + ω²)) exp(λ t) − (λ sin ω t + ω cos ω t) / (λ² + ω²).
fn solution(t: f64) -> f64 {
    let square = LAMBDA * LAMBDA + OMEGA * OMEGA;
    (1.0 + OMEGA / square) * (LAMBDA * t).exp()
        - (LAMBDA * (OMEGA * t).sin() + OMEGA * (OMEGA * t).cos()) / square
}

/// The equation as a graph: x is [1, 1], λ a weight, and what depends on time a table with a row for each evaluation.
struct Equation<'a> {
    graph: &'a mut Graph,
    lambda: ParamId,
    table: Value,
    evaluations: usize,
}

impl Equation<'_> {
    fn slope(&mut self, x: Value) -> Linear {
        let bias = Bias::Row { table: self.table, first: self.evaluations };
        self.evaluations += 1;
        Linear { bias, ..Linear::new(x, self.lambda, self.lambda, 0..1) }
    }
}

impl Field for Equation<'_> {
    type Point = Value;

    fn velocity(&mut self, x: &Value, _: f64) -> Result<Value> {
        let slope = self.slope(*x);
        Ok(self.graph.linear(slope))
    }

    fn combine(&mut self, base: &Value, terms: &[(f64, Value)]) -> Result<Value> {
        let terms: Vec<_> = std::iter::once((1.0, *base)).chain(terms.iter().copied()).collect();
        Ok(self.graph.combine(&terms))
    }

    fn advance(&mut self, base: &Value, h: f64, x: &Value, _: f64) -> Result<Value> {
        let mut step = self.slope(*x).plus(*base, 1);
        step.alpha = h as f32;
        Ok(self.graph.linear(step))
    }
}

/// The end of `steps` steps on a device, and how many velocities were asked for.
fn solve(device: &Device, flow: &FlowConfig, steps: usize) -> Result<(f64, usize)> {
    let mut params = Params::default();
    let lambda = params.declare("lambda", &[1, 1], Init::Zeros);
    let bank = Bank::new(device, &Arc::new(params), &[Set::Weights])?;
    bank.write(Set::Weights, "lambda", &[LAMBDA as f32]);
    let mut graph = Graph::new(Arc::clone(bank.params()), None);
    let x = graph.input("x", Dtype::F32, &[1, 1]);
    let times = flow.evaluation_times(steps);
    let forced: Vec<f32> = times.iter().map(|t| (OMEGA * t).sin() as f32).collect();
    let table = graph.constant(&[times.len(), 1], forced);
    let mut equation = Equation { graph: &mut graph, lambda, table, evaluations: 0 };
    let path = flow.integrate(&mut equation, x, steps)?;
    let evaluations = equation.evaluations;
    assert_eq!(path.len(), steps + 1);
    graph.output("end", path[steps]);
    let program = Program::new(&graph, &bank)?;
    program.write("x", &[solution(flow.noise_time()) as f32])?;
    program.run()?;
    Ok((program.read_wide("end")?[0], evaluations))
}

/// Steps at which an error is well above what f32 rounds, and the order that a solver must show there.
const ORDERS: [(Solver, usize, f64); 5] = [
    (Solver::Euler, 64, 1.0),
    (Solver::Heun, 16, 2.0),
    (Solver::Midpoint, 16, 2.0),
    (Solver::Rk4, 4, 4.0),
    (Solver::Dopri5, 3, 5.0),
];

#[test]
fn every_solver_converges_with_its_order_on_every_device() -> Result<()> {
    for device in [Device::Oracle, Device::Cpu, GPU.clone()] {
        for (solver, steps, order) in ORDERS {
            // The two directions start from different ends; the mean of their slopes is near the order even here, where
            // steps are long.
            let mut slopes = 0.0;
            for noise_at in [NoiseAt::Zero, NoiseAt::One] {
                let flow = FlowConfig { noise_at, solver, ..FlowConfig::default() };
                let error = |steps: usize| -> Result<f64> {
                    let (end, evaluations) = solve(&device, &flow, steps)?;
                    assert_eq!(evaluations, flow.evaluations(steps), "{solver:?}");
                    Ok((end - solution(1.0 - flow.noise_time())).abs())
                };
                slopes += (error(steps)? / error(2 * steps)?).log2();
            }
            let slope = slopes / 2.0;
            println!("{device}: {} falls with order {slope:.2}", solver.name());
            assert!((slope - order).abs() < 0.35, "{device}: {solver:?} falls with order {slope}");
        }
    }
    Ok(())
}

#[test]
fn a_chain_of_stages_is_fused_and_others_are_not() -> Result<()> {
    let launches = |solver: Solver| -> Result<usize> {
        let mut params = Params::default();
        let lambda = params.declare("lambda", &[1, 1], Init::Zeros);
        let mut graph = Graph::new(Arc::new(params), None);
        let x = graph.input("x", Dtype::F32, &[1, 1]);
        let table = graph.constant(&[100, 1], vec![0.0; 100]);
        let flow = FlowConfig { solver, ..FlowConfig::default() };
        let mut equation = Equation { graph: &mut graph, lambda, table, evaluations: 0 };
        flow.integrate(&mut equation, x, 10)?;
        Ok(graph.launches())
    };
    assert_eq!(launches(Solver::Euler)?, 10);
    assert_eq!(launches(Solver::Midpoint)?, 20);
    // Two velocities, and a sum for each: the first point is needed again.
    assert_eq!(launches(Solver::Heun)?, 40);
    assert_eq!(launches(Solver::Rk4)?, 80);
    Ok(())
}
