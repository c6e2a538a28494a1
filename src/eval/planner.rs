//! What makes chunks of actions: a network here, or a program elsewhere.

use crate::Result;
use crate::policy::{Chunking, Continuation};
use crate::sim::Observation;

/// A new chunk for an episode.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// Actions [H, A] in the robot's units.
    pub actions: Vec<f32>,
    /// The same as the network knows them [H, N], for the chunk that goes on from this one; empty where nothing can.
    pub normalized: Vec<f32>,
    /// Passes through a network that it took; 0 where nobody knows.
    pub evaluations: usize,
}

/// A wish for a chunk.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Whose.
    pub episode: usize,
    /// What is left of the chunk before, where the new one is to go on from it.
    pub continuing: Option<Continuation>,
}

/// Makes chunks from what episodes see.
pub trait Planner: Send {
    /// H: actions of a chunk.
    fn chunk_size(&self) -> usize;

    /// Actions of a chunk that are executed before the next one is made.
    fn n_action_steps(&self) -> usize;

    /// Forgets all episodes.
    ///
    /// # Errors
    /// If a program elsewhere does not answer.
    fn reset(&mut self) -> Result<()>;

    /// Takes what some episodes see now, one time step each; an episode that is not known yet begins.
    ///
    /// # Errors
    /// If something is missing, or of another size than before.
    fn see(&mut self, episodes: &[usize], seen: &[Observation]) -> Result<()>;

    /// A chunk for each request, from what its episode saw last, that goes on from the one before as `chunking` says.
    ///
    /// # Errors
    /// If an action is not finite, or the work fails; the error names the episode.
    fn plan(&mut self, requests: &[Request], chunking: Chunking) -> Result<Vec<Planned>>;
}

impl<P: Planner + ?Sized> Planner for &mut P {
    fn chunk_size(&self) -> usize {
        (**self).chunk_size()
    }

    fn n_action_steps(&self) -> usize {
        (**self).n_action_steps()
    }

    fn reset(&mut self) -> Result<()> {
        (**self).reset()
    }

    fn see(&mut self, episodes: &[usize], seen: &[Observation]) -> Result<()> {
        (**self).see(episodes, seen)
    }

    fn plan(&mut self, requests: &[Request], chunking: Chunking) -> Result<Vec<Planned>> {
        (**self).plan(requests, chunking)
    }
}
