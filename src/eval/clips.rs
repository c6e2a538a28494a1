//! Episodes played again, for people.

use crate::Result;
use crate::report::gif::{Clip, MAX_CLIPS};
use crate::sim::rollout::{episode_seed, play_again};
use crate::sim::{Environment, Episode};

/// Plays the first episodes of a rollout of `seed` again, as many as a GIF shows, and renders every step.
///
/// # Errors
/// If the environment refuses a recorded action.
pub fn clips(environment: &dyn Environment, seed: u64, episodes: &[Episode]) -> Result<Vec<Clip>> {
    let clip = |episode: &Episode| {
        let mut frames = Vec::with_capacity(episode.actions.len() + 1);
        let seed = episode_seed(seed, episode.index);
        play_again(environment, seed, &episode.actions, &mut |environment, _| {
            frames.push(environment.render());
            Ok(())
        })?;
        Ok(Clip { frames, success: episode.success })
    };
    episodes.iter().take(MAX_CLIPS).map(clip).collect()
}
