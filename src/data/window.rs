//! Temporal windows: which frames an observation and an action chunk are made of, at the ends of episodes too.

use std::ops::Range;

/// Frame offsets around the current frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Windows {
    /// Offsets of the observed frames, oldest first; the last is 0.
    pub observation_deltas: Vec<i64>,
    /// Offsets of the actions in a chunk.
    pub action_deltas: Vec<i64>,
}

/// What stands in an action chunk's steps outside the episode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Padding {
    /// The nearest action of the episode, repeated.
    #[default]
    Hold,
    /// Zeros (seed 000).
    Zero,
}

impl Windows {
    /// The frames 1 - `n_obs_steps` ..= 0 and the actions 0 .. `chunk_size`.
    pub fn new(n_obs_steps: usize, chunk_size: usize) -> Self {
        let observation_deltas = (1 - n_obs_steps as i64..=0).collect();
        Self { observation_deltas, action_deltas: (0..chunk_size as i64).collect() }
    }

    /// Number of observed frames, T.
    pub fn observations(&self) -> usize {
        self.observation_deltas.len()
    }

    /// Number of actions in a chunk, H.
    pub fn actions(&self) -> usize {
        self.action_deltas.len()
    }

    /// The T frames observed at `frame`; before the episode its first frame, after it its last.
    pub fn observation(&self, episode: &Range<usize>, frame: usize) -> impl Iterator<Item = usize> {
        self.observation_deltas.iter().map(move |&delta| clamp(episode, frame, delta).0)
    }

    /// The H frames of the chunk at `frame`, each with whether it lies outside the episode (and was clamped to it).
    pub fn chunk(&self, episode: &Range<usize>, frame: usize) -> impl Iterator<Item = (usize, bool)> {
        self.action_deltas.iter().map(move |&delta| clamp(episode, frame, delta))
    }

    /// The action chunk at `frame`: `chunk` is `[H, A]`, from `actions` `[frames, A]`; `is_pad` is `[H]`.
    pub fn fill_chunk(
        &self,
        actions: &[f32],
        episode: &Range<usize>,
        frame: usize,
        padding: Padding,
        chunk: &mut [f32],
        is_pad: &mut [bool],
    ) {
        let width = chunk.len() / self.actions().max(1);
        let steps = chunk.chunks_exact_mut(width).zip(is_pad);
        for ((source, outside), (step, pad)) in self.chunk(episode, frame).zip(steps) {
            match (outside, padding) {
                (true, Padding::Zero) => step.fill(0.0),
                _ => step.copy_from_slice(&actions[source * width..][..width]),
            }
            *pad = outside;
        }
    }
}

/// The frame at an offset, clamped to the episode, and whether it had to be.
fn clamp(episode: &Range<usize>, frame: usize, delta: i64) -> (usize, bool) {
    let wanted = frame as i64 + delta;
    let inside = wanted.clamp(episode.start as i64, episode.end as i64 - 1);
    (inside as usize, inside != wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Actions [frames, 2] that name their frame.
    fn actions() -> Vec<f32> {
        (0..10u8).flat_map(|frame| [f32::from(frame), -f32::from(frame)]).collect()
    }

    #[test]
    fn observations_before_the_episode_repeat_its_first_frame() {
        let windows = Windows::new(3, 1);
        assert_eq!(windows.observation(&(4..10), 4).collect::<Vec<_>>(), [4, 4, 4]);
        assert_eq!(windows.observation(&(4..10), 5).collect::<Vec<_>>(), [4, 4, 5]);
        assert_eq!(windows.observation(&(4..10), 9).collect::<Vec<_>>(), [7, 8, 9]);
    }

    #[test]
    fn chunks_past_the_episode_hold_the_last_action_or_zeros() {
        let windows = Windows::new(1, 4);
        let (mut chunk, mut is_pad) = ([9.0; 8], [false; 4]);
        windows.fill_chunk(&actions(), &(2..6), 4, Padding::Hold, &mut chunk, &mut is_pad);
        assert_eq!(chunk, [4.0, -4.0, 5.0, -5.0, 5.0, -5.0, 5.0, -5.0]);
        assert_eq!(is_pad, [false, false, true, true]);
        windows.fill_chunk(&actions(), &(2..6), 4, Padding::Zero, &mut chunk, &mut is_pad);
        assert_eq!(chunk, [4.0, -4.0, 5.0, -5.0, 0.0, 0.0, 0.0, 0.0]);
        windows.fill_chunk(&actions(), &(2..6), 2, Padding::Hold, &mut chunk, &mut is_pad);
        assert_eq!(is_pad, [false; 4]);
    }

    #[test]
    fn actions_before_the_frame_are_padded_at_the_episodes_start() {
        let windows = Windows { observation_deltas: vec![-1, 0], action_deltas: vec![-1, 0, 1] };
        let seen: Vec<_> = windows.chunk(&(3..5), 3).collect();
        assert_eq!(seen, [(3, true), (3, false), (4, false)]);
    }
}
