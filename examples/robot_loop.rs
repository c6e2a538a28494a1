//! A policy in a robot's loop: observe, act, and begin the next episode.
//!
//! `cargo run --release --example robot_loop` runs the built-in pursuit policy in its arena;
//! `cargo run --release --example robot_loop -- DIR` takes a pretrained_model, checkpoint or run folder trained for it.

use flowgpu::Result;
use flowgpu::graph::Device;
use flowgpu::policy::{Images, Noise, Observations, Policy, resolve_policy};
use flowgpu::sim::{Environment, Observation, Pursuit};

fn main() -> Result<()> {
    // Weights, statistics and the flow's conventions all lie in the folder.
    let device = Device::open("auto")?;
    let mut policy = match std::env::args().nth(1) {
        Some(folder) => Policy::from_pretrained(folder, &device)?,
        None => Policy::from_parts(resolve_policy("pursuit")?, &device)?,
    };
    println!("{} on {device}", policy.config().family.name());

    // One chunk, by hand: normal noise in, [H, A] actions in the robot's units out.
    let mut robot = Pursuit::new(0);
    let mut seen = Observation::default();
    robot.reset(42);
    robot.observe(&mut seen);
    let picture = Observations::of_images(Images::Bytes(seen.picture("observation.image")));
    let noise = Noise::Seeded(0).draw(0, 0, policy.config().noise_len());
    let chunk = policy.predict_chunk(&picture, &noise)?;
    println!("a chunk begins with {:?}", &chunk.actions[..policy.config().action().1]);

    // In closed loop the policy keeps a queue: a new chunk is made when `n_action_steps` of the last are executed.
    policy.set_action_steps(4)?;
    for seed in 42..45 {
        policy.reset();
        robot.reset(seed);
        for step in 1..=robot.spec().horizon {
            robot.observe(&mut seen);
            let picture = Observations::of_images(Images::Bytes(seen.picture("observation.image")));
            let action = policy.select_action(&[0], picture)?;
            let action: Vec<f64> = action.into_iter().map(f64::from).collect();
            if robot.step(&action)?.terminated {
                println!("seed {seed}: caught after {step} steps");
                break;
            }
        }
    }
    Ok(())
}
