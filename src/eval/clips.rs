//! Episodes played again, for people.

use crate::Result;
use crate::report::gif::{Clip, MAX_CLIPS};
use crate::sim::rollout::episode_seed;
use crate::sim::{Environment, Episode};

/// Plays the first episodes of a rollout of `seed` again, as many as a GIF shows, and renders every step.
///
/// # Errors
/// If the environment refuses a recorded action.
pub fn clips(environment: &dyn Environment, seed: u64, episodes: &[Episode]) -> Result<Vec<Clip>> {
    let mut environment = environment.fresh();
    let mut clip = |episode: &Episode| {
        environment.reset(episode_seed(seed, episode.index));
        let mut frames = vec![environment.render()];
        for action in &episode.actions {
            environment.step(action)?;
            frames.push(environment.render());
        }
        Ok(Clip { frames, success: episode.success })
    };
    episodes.iter().take(MAX_CLIPS).map(&mut clip).collect()
}
