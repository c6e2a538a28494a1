//! Pictures of how a policy samples: one component on many ways from noise, and the velocity it follows.

use super::inputs::Inputs;
use crate::eval::check_fit;
use crate::flow::{NoiseAt, Solver};
use crate::image::Image;
use crate::policy::{Kept, Noise, Objective, Observations, Policy};
use crate::report::denoise::{Samples, denoising};
use crate::report::field::{FieldPanel, flow_field};
use crate::sim::{Environment, Pendulum};
use crate::{Error, Result};

/// Samples of a picture.
const SAMPLES: usize = 64;
/// Points of a field along each axis.
const SIDE: usize = 50;
/// A field spans the actions of noise from −3 to 3 standard deviations.
const SPAN: f32 = 3.0;
/// Where the paths in a field start, in standard deviations.
const STARTS: [f32; 9] = [-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0];
/// Euler steps of these paths.
const STEPS: usize = 50;
/// A pendulum at rest: what to call it, and its angle, rad.
const POSES: [(&str, f64); 3] =
    [("upright", 0.0), ("halfway", std::f64::consts::FRAC_PI_2), ("hanging", std::f64::consts::PI)];

/// Whether many samples of an action tell more than one chunk's path: chunks of one action, seen once, by a solver
/// whose way is known.
pub fn is_single(policy: &Policy, inputs: &Inputs) -> bool {
    let config = policy.config();
    let stepped = config.objective == Objective::Flow && config.flow.solver != Solver::Dopri5;
    stepped && config.chunk_size == 1 && inputs.batch == 1
}

/// Draws the first component of the action on its ways from 64 seeded noises.
///
/// # Errors
/// If the device fails.
pub fn ways(policy: &mut Policy, inputs: &Inputs, seed: u64) -> Result<Image> {
    let (width, noise_len) = (policy.config().action().1, policy.config().noise_len());
    let noise: Vec<f32> =
        (0..SAMPLES).flat_map(|sample| Noise::Seeded(seed).draw(sample, 0, noise_len)).collect();
    let seen = Kept::repeated(&inputs.seen.observations(), SAMPLES);
    let path = policy.predict_path(&seen.observations(), &noise)?;
    let flow = policy.config().flow;
    let title = format!(
        "{SAMPLES} noises on their way to an action, {} steps: {}",
        flow.solver.name(),
        path.len() - 1
    );
    let values: Vec<f32> =
        (0..SAMPLES).flat_map(|sample| path.iter().map(move |point| point[sample * width])).collect();
    let name = inputs.names.first().map_or("action 0", String::as_str);
    let target = inputs.expert.first().copied();
    denoising(&title, &Samples { name, values: &values, times: &times(flow.noise_at, path.len()), target })
}

/// Draws the velocity of a pendulum's policy over flow time and torque, for a pendulum at rest upright, halfway and
/// hanging, with paths of 50 Euler steps. The policy keeps that solver.
///
/// # Errors
/// If the policy is for another task, its chunks have several actions, or it has no velocity.
pub fn field(policy: &mut Policy) -> Result<Image> {
    let config = policy.config();
    let fits = check_fit(Pendulum::new(0).spec(), policy).is_ok();
    if !fits || config.chunk_size != 1 || config.objective != Objective::Flow {
        return Err(Error::input(
            "--field draws policies of environment pendulum, of objective flow, whose chunks have one action: this is \
             no such policy",
        ));
    }
    let (frames, noise_at) = (config.n_obs_steps, config.flow.noise_at);
    policy.set_solver(Solver::Euler);
    policy.set_solver_steps(STEPS)?;
    // Unnormalising is linear: a velocity is scaled as a difference of actions.
    let mut ends = [-SPAN, SPAN];
    policy.normalizer().unnormalize_actions(&mut ends)?;
    let scale = (ends[1] - ends[0]) / (2.0 * SPAN);
    let share = |i: usize| i as f32 / (SIDE - 1) as f32;
    let x: Vec<f32> = (0..SIDE * SIDE).map(|i| SPAN * (2.0 * share(i % SIDE) - 1.0)).collect();
    let t: Vec<f32> = (0..SIDE * SIDE).map(|i| share(i / SIDE)).collect();
    let mut drawn = Vec::new();
    for (name, theta) in POSES {
        let state = Pendulum::at(theta, 0.0).seen();
        let at = |batch: usize| Kept::repeated(&Observations::of_state(&state), batch * frames);
        let mut values = policy.velocity(&at(x.len()).observations(), &x, &t)?;
        values.iter_mut().for_each(|v| *v *= scale);
        let path = policy.predict_path(&at(STARTS.len()).observations(), &STARTS)?;
        let times = times(noise_at, path.len());
        let line =
            |start: usize| path.iter().map(move |point| f64::from(point[start])).zip(times.iter().copied());
        let paths: Vec<Vec<(f64, f64)>> = (0..STARTS.len()).map(|start| line(start).collect()).collect();
        drawn.push((name, values, paths));
    }
    let panels: Vec<FieldPanel<'_>> =
        drawn.iter().map(|(name, values, paths)| FieldPanel { name, values, columns: SIDE, paths }).collect();
    let range = f64::from(ends[0].min(ends[1]))..f64::from(ends[0].max(ends[1]));
    flow_field("Velocity of the torque (N m) at three poses", range, &panels)
}

/// The flow times of a path's points, from the noise on.
fn times(noise_at: NoiseAt, points: usize) -> Vec<f64> {
    let share = |i: usize| i as f64 / (points - 1).max(1) as f64;
    match noise_at {
        NoiseAt::Zero => (0..points).map(share).collect(),
        NoiseAt::One => (0..points).rev().map(share).collect(),
    }
}
