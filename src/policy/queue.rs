//! The actions of a chunk that are still to be executed.

use std::collections::VecDeque;

use super::Config;
use crate::{Error, Result};

/// The queue of one episode: filled with a chunk, emptied one action at a time. Never shared between episodes.
#[derive(Debug, Clone)]
pub struct ActionQueue {
    steps: usize,
    width: usize,
    actions: VecDeque<Vec<f32>>,
}

impl ActionQueue {
    /// An empty queue that keeps `n_action_steps` of every chunk.
    pub fn new(config: &Config) -> Self {
        Self { steps: config.n_action_steps, width: config.action().1, actions: VecDeque::new() }
    }

    /// The next action, \[A\]; none when it is time for a new chunk.
    pub fn pop(&mut self) -> Option<Vec<f32>> {
        self.actions.pop_front()
    }

    /// Replaces what is left by the first `n_action_steps` actions of `chunk`, \[H, A\].
    ///
    /// # Errors
    /// If the chunk holds fewer actions, or no whole number of them.
    pub fn fill(&mut self, chunk: &[f32]) -> Result<()> {
        if !chunk.len().is_multiple_of(self.width) || chunk.len() < self.steps * self.width {
            return Err(Error::failure(format!(
                "a chunk of {} values cannot fill a queue of {} actions of {} values",
                chunk.len(),
                self.steps,
                self.width
            )));
        }
        self.actions = chunk.chunks(self.width).take(self.steps).map(<[f32]>::to_vec).collect();
        Ok(())
    }

    /// Forgets everything: a new episode begins.
    pub fn reset(&mut self) {
        self.actions.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::presets::preset;

    #[test]
    fn a_chunk_is_executed_for_its_action_steps_and_then_a_new_one_is_due() {
        let config = Config { n_action_steps: 3, ..preset("pursuit").expect("known") };
        let mut queue = ActionQueue::new(&config);
        assert_eq!(queue.pop(), None);
        let chunk: Vec<f32> = (0..16).map(|i| i as f32).collect();
        queue.fill(&chunk).expect("eight actions");
        assert_eq!([queue.pop(), queue.pop()], [Some(vec![0.0, 1.0]), Some(vec![2.0, 3.0])]);
        queue.fill(&chunk[2..8]).expect("three actions");
        let rest: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(rest, [[2.0, 3.0], [4.0, 5.0], [6.0, 7.0]]);
        queue.fill(&chunk).expect("eight actions");
        queue.reset();
        assert_eq!(queue.pop(), None);
    }

    #[test]
    fn a_chunk_that_is_too_short_or_torn_is_refused() {
        let mut queue = ActionQueue::new(&preset("pursuit").expect("known"));
        assert!(queue.fill(&[0.0; 14]).is_err());
        assert!(queue.fill(&[0.0; 17]).is_err());
    }
}
