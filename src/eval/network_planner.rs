//! A policy as a planner: what environments show, as the network reads it.

use super::planner::{Planned, Planner, Request};
use crate::Result;
use crate::policy::{Chunk, Chunking, Images, Observations, Policy};
use crate::sim::Observation;

/// A policy that plans for the episodes of an evaluation.
pub struct NetworkPlanner<'a> {
    policy: &'a mut Policy,
    cameras: Vec<String>,
    states: Vec<String>,
    /// [B, 3, H, W] of each camera, to be used again.
    frames: Vec<Vec<u8>>,
    /// [B, S].
    state: Vec<f32>,
}

impl<'a> NetworkPlanner<'a> {
    /// A planner over a policy with its settings.
    pub fn new(policy: &'a mut Policy) -> Self {
        let names = |(key, _): (&str, _)| key.to_owned();
        let cameras: Vec<String> = policy.config().images().map(names).collect();
        let states = policy.config().states().map(names).collect();
        let frames = vec![Vec::new(); cameras.len()];
        Self { policy, cameras, states, frames, state: Vec::new() }
    }

    /// Chunks [B, H, N] as they will be executed, inside the bounds: what the next ones go on from.
    fn executed(&self, chunk: &Chunk) -> Result<Vec<f32>> {
        let config = self.policy.config();
        let (robot, network) = (config.action().1, config.network_action_dim());
        let mut bounded = chunk.actions.clone();
        self.policy.normalizer().normalize_actions(&mut bounded)?;
        let mut normalized = chunk.normalized.clone();
        for (ours, bounded) in normalized.chunks_mut(network).zip(bounded.chunks(robot)) {
            ours[..robot].copy_from_slice(bounded);
        }
        Ok(normalized)
    }
}

impl Planner for NetworkPlanner<'_> {
    fn chunk_size(&self) -> usize {
        self.policy.config().chunk_size
    }

    fn n_action_steps(&self) -> usize {
        self.policy.config().n_action_steps
    }

    fn reset(&mut self) -> Result<()> {
        self.policy.reset();
        Ok(())
    }

    fn see(&mut self, episodes: &[usize], seen: &[Observation]) -> Result<()> {
        self.frames.iter_mut().for_each(Vec::clear);
        self.state.clear();
        for observation in seen {
            for (key, frames) in self.cameras.iter().zip(&mut self.frames) {
                frames.extend_from_slice(observation.picture(key));
            }
            self.states.iter().for_each(|key| self.state.extend_from_slice(observation.vector(key)));
        }
        let images = self.frames.iter().map(|frames| Images::Bytes(frames)).collect();
        self.policy.see(episodes, &Observations { images, state: &self.state })
    }

    fn plan(&mut self, requests: &[Request], chunking: Chunking) -> Result<Vec<Planned>> {
        let episodes: Vec<usize> = requests.iter().map(|request| request.episode).collect();
        let continuing: Vec<_> = requests.iter().map(|request| request.continuing.clone()).collect();
        let before = self.policy.usage();
        let chunk = self.policy.plan(&episodes, &continuing, chunking)?;
        let used = self.policy.usage().since(before);
        let evaluations = used.evaluations / used.batches.max(1);
        let rows = |values: &[f32]| (values.len() / requests.len().max(1)).max(1);
        let normalized = self.executed(&chunk)?;
        let chunks = chunk.actions.chunks(rows(&chunk.actions)).zip(normalized.chunks(rows(&normalized)));
        let planned = |(actions, normalized): (&[f32], &[f32])| Planned {
            actions: actions.to_vec(),
            normalized: normalized.to_vec(),
            evaluations,
        };
        Ok(chunks.map(planned).collect())
    }
}
