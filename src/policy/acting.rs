//! A policy in closed loop: what it remembers of each episode, and one action after the other.

use std::collections::BTreeMap;

use super::observations::{FrameSizes, Kept};
use super::{ActionQueue, Observations, Policy};
use crate::rng::{Rng, Stream};
use crate::{Error, Result};

/// Where a chunk starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noise {
    /// Normal numbers keyed by (seed, chunk of the episode, episode), drawn on the host: one seed gives one chunk
    /// on every device.
    Seeded(u64),
    /// Zeros: the most likely start, and no randomness at all.
    Zero,
}

impl Noise {
    /// `len` values for an episode's chunk number `chunk`, counted from 0.
    pub fn draw(self, episode: usize, chunk: u64, len: usize) -> Vec<f32> {
        match self {
            Self::Zero => vec![0.0; len],
            Self::Seeded(seed) => {
                let mut rng = Rng::new(seed, Stream::SampleNoise, chunk, episode as u32);
                (0..len).map(|_| rng.normal() as f32).collect()
            }
        }
    }
}

/// What a policy remembers, by the episode's number; never shared between episodes.
pub(super) type Episodes = BTreeMap<usize, Episode>;

/// What a policy remembers of one episode.
pub(super) struct Episode {
    queue: ActionQueue,
    /// The last T time steps, the oldest first; the first stands for those before it.
    seen: Kept,
    /// Chunks made so far.
    chunks: u64,
}

impl Policy {
    /// Forgets all episodes: queues, observations and how many chunks each has had.
    pub fn reset(&mut self) {
        self.episodes.clear();
    }

    /// Sets where [`Self::select_action`] starts from; `Noise::Seeded(0)` unless set.
    pub fn set_noise(&mut self, noise: Noise) {
        self.noise = noise;
    }

    /// The next action of each of some episodes, [B, A], from what they see now, one time step each. An episode that
    /// is not known yet begins. One batch of chunks is made for those that have executed theirs.
    ///
    /// # Errors
    /// As [`Self::predict_chunk`]; errors name the episode.
    pub fn select_action(&mut self, episodes: &[usize], seen: Observations<'_>) -> Result<Vec<f32>> {
        self.see(episodes, seen)?;
        let mut actions: Vec<_> = episodes.iter().map(|episode| self.pop(episode)).collect();
        let due = episodes.iter().zip(&actions).filter(|(_, action)| action.is_none());
        self.refill(&due.map(|(episode, _)| *episode).collect::<Vec<_>>())?;
        for (episode, action) in episodes.iter().zip(&mut actions) {
            *action = action.take().or_else(|| self.pop(episode));
            if action.is_none() {
                return Err(Error::input(format!("episode {episode} is asked twice in one step")));
            }
        }
        Ok(actions.into_iter().flatten().flatten().collect())
    }

    fn pop(&mut self, episode: &usize) -> Option<Vec<f32>> {
        self.episodes.get_mut(episode)?.queue.pop()
    }

    /// Keeps what episodes see.
    ///
    /// # Errors
    /// If it does not fit.
    pub fn see(&mut self, episodes: &[usize], seen: Observations<'_>) -> Result<()> {
        seen.check(&self.config, episodes.len(), 1)?;
        let sizes = FrameSizes::of(&seen, episodes.len());
        for (i, &episode) in episodes.iter().enumerate() {
            self.see_one(episode, &seen.part(i..i + 1, &sizes))?;
        }
        Ok(())
    }

    /// Keeps what an episode sees.
    fn see_one(&mut self, episode: usize, step: &Observations<'_>) -> Result<()> {
        match self.episodes.get_mut(&episode) {
            Some(known) => {
                let sizes = FrameSizes::of(step, 1);
                if FrameSizes::of(&known.seen.observations(), self.config.n_obs_steps) != sizes {
                    return Err(Error::input(format!(
                        "episode {episode}: a camera's pictures changed their size, or a camera came or went"
                    )));
                }
                known.seen.append(step).map_err(|e| e.at(format!("episode {episode}")))?;
                known.seen.drop_first(&sizes);
            }
            None => {
                let seen = Kept::repeated(step, self.config.n_obs_steps);
                let queue = ActionQueue::new(&self.config);
                self.episodes.insert(episode, Episode { queue, seen, chunks: 0 });
            }
        }
        Ok(())
    }

    /// Makes a new chunk for each of these episodes, in one batch.
    fn refill(&mut self, due: &[usize]) -> Result<()> {
        if due.is_empty() {
            return Ok(());
        }
        let chunk = self.plan(due, &[], crate::policy::Chunking::Naive)?;
        let size = self.config.chunk_size * self.config.action().1;
        for (number, actions) in due.iter().zip(chunk.actions.chunks(size)) {
            if let Some(episode) = self.episodes.get_mut(number) {
                episode.queue.fill(actions)?;
            }
        }
        Ok(())
    }

    /// New chunks.
    ///
    /// # Errors
    /// As above.
    pub fn plan(
        &mut self,
        due: &[usize],
        _: &[Option<crate::policy::Continuation>],
        _: crate::policy::Chunking,
    ) -> Result<crate::policy::Chunk> {
        let size = self.config.noise_len();
        let mut seen: Option<Kept> = None;
        let mut noise = Vec::with_capacity(due.len() * size);
        for (&number, episode) in due.iter().filter_map(|number| self.episodes.get_key_value(number)) {
            match &mut seen {
                Some(seen) => seen.append(&episode.seen.observations())?,
                None => seen = Some(episode.seen.clone()),
            }
            noise.extend(self.noise.draw(number, episode.chunks, size));
        }
        let Some(seen) = seen else { return Err(Error::failure("nobody to plan for")) };
        let normalized = self.integrate(&seen.observations(), &noise, false)?.pop().unwrap_or_default();
        let chunk = self.finish(normalized, |i| format!("episode {}", due[i]))?;
        for number in due {
            if let Some(episode) = self.episodes.get_mut(number) {
                episode.chunks += 1;
            }
        }
        Ok(chunk)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::graph::{Bank, Device};
    use crate::kernels::Set;
    use crate::policy::{Chunk, Config, Images, Network, Normalizer, Objective, Stats, presets::preset};

    const FRAME: usize = 3 * 32 * 32;

    /// A small policy of random weights whose actions lie between −5 and 5.
    fn policy(n_obs_steps: usize, n_action_steps: usize) -> Policy {
        let mut json = preset("pursuit").expect("known").to_json();
        json["n_obs_steps"] = n_obs_steps.into();
        json["n_action_steps"] = n_action_steps.into();
        (json["chunk_size"], json["d_model"]) = (8.into(), 32.into());
        json["input_features"]["observation.image"]["shape"] = serde_json::json!([3, 32, 32]);
        let config = Config::parse(&json.to_string()).expect("valid");
        let (network, params) = Network::new(&config);
        let bank = Bank::new(&Device::Cpu, &Arc::new(params), &[Set::Weights]).expect("memory");
        for (id, param) in bank.params().iter() {
            bank.write(Set::Weights, &param.name, &bank.params().initial(id, 3));
        }
        let mut stats = Stats::new("stats");
        stats.insert("action", "min", &[2], vec![-5.0; 2]).expect("two");
        stats.insert("action", "max", &[2], vec![5.0; 2]).expect("two");
        stats.set_bounds("action", &[-5.0; 2], &[5.0; 2]).expect("in order");
        let normalizer = Normalizer::new(&config, &stats).expect("complete");
        let mut policy = Policy::new(config, network, bank, normalizer);
        policy.set_solver_steps(3).expect("a few");
        policy
    }

    /// What an episode sees at a step.
    fn frame(episode: usize, step: usize) -> Vec<u8> {
        (0..FRAME).map(|i| (i * (7 + episode) + 31 * step + i / 32 * 5) as u8).collect()
    }

    fn frames(episodes: &[usize], step: usize) -> Vec<u8> {
        episodes.iter().flat_map(|&episode| frame(episode, step)).collect()
    }

    fn step(policy: &mut Policy, episodes: &[usize], at: usize) -> Vec<f32> {
        let seen = frames(episodes, at);
        policy.select_action(episodes, Observations::of_images(Images::Bytes(&seen))).expect("acts")
    }

    /// Another batch size may round otherwise, no more.
    fn assert_near(a: &[f32], b: &[f32]) {
        assert_eq!(a.len(), b.len());
        assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 2e-5), "{a:?} is not {b:?}");
    }

    #[test]
    fn an_episode_acts_alone_as_it_does_among_others() {
        let mut together = policy(2, 3);
        together.set_noise(Noise::Seeded(9));
        let mut shared = vec![Vec::new(); 5];
        for at in 0..10 {
            // Episode 4 ends after four steps, and the order is none of the policy's business.
            let order: &[usize] = if at < 4 { &[4, 0, 2] } else { &[2, 0] };
            let actions = step(&mut together, order, at);
            order.iter().zip(actions.chunks(2)).for_each(|(&e, action)| shared[e].extend_from_slice(action));
        }
        for (episode, steps) in [(0, 10), (2, 10), (4, 4)] {
            let mut alone = policy(2, 3);
            alone.set_noise(Noise::Seeded(9));
            let actions: Vec<f32> = (0..steps).flat_map(|at| step(&mut alone, &[episode], at)).collect();
            assert_near(&actions, &shared[episode]);
            assert_eq!(alone.usage().chunks, usize::div_ceil(steps, 3));
        }
        assert_eq!(together.usage().chunks, 4 + 4 + 2, "a chunk lasts three steps");
    }

    #[test]
    fn the_network_sees_the_last_frames_and_the_first_one_for_those_before_it() {
        let mut acting = policy(3, 1);
        acting.set_noise(Noise::Seeded(1));
        for (at, seen) in [[0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 3]].into_iter().enumerate() {
            let action = step(&mut acting, &[6], at);
            let stacked: Vec<u8> = seen.iter().flat_map(|&past| frame(6, past)).collect();
            let noise = Noise::Seeded(1).draw(6, at as u64, 16);
            let observations = Observations::of_images(Images::Bytes(&stacked));
            let chunk = policy(3, 1).predict_chunk(&observations, &noise).expect("predicts");
            assert_eq!(action, chunk.actions[..2], "step {at}");
        }
    }

    #[test]
    fn a_chunk_does_not_depend_on_its_batch_and_bytes_are_their_floats() {
        let mut policy = policy(1, 8);
        let (pictures, noise) = (frames(&[0, 1, 2], 0), Noise::Seeded(5).draw(0, 0, 48));
        let mut predict = |images, noise: &[f32]| {
            let Chunk { actions, normalized } =
                policy.predict_chunk(&Observations::of_images(images), noise).expect("predicts");
            assert!(
                actions
                    .iter()
                    .zip(&normalized)
                    .all(|(a, n)| *a == ((n + 1.0) / 2.0 * 10.0 - 5.0).clamp(-5.0, 5.0))
            );
            normalized
        };
        let batch = predict(Images::Bytes(&pictures), &noise);
        let alone: Vec<f32> = (0..3)
            .flat_map(|i| predict(Images::Bytes(&pictures[i * FRAME..][..FRAME]), &noise[i * 16..][..16]))
            .collect();
        assert_near(&batch, &alone);
        let floats: Vec<f32> = pictures.iter().map(|&v| f32::from(v) / 255.0).collect();
        let floats = predict(Images::Floats(&floats), &noise);
        assert_near(&batch, &floats);
    }

    #[test]
    fn a_path_runs_from_the_noise_to_the_chunk() {
        let mut policy = policy(1, 8);
        let (picture, noise) = (frame(0, 0), Noise::Seeded(2).draw(0, 0, 16));
        let observations = Observations::of_images(Images::Bytes(&picture));
        let chunk = policy.predict_chunk(&observations, &noise).expect("predicts");
        let path = policy.predict_path(&observations, &noise).expect("predicts");
        assert_eq!(path.len(), 4, "three steps");
        let wide = |values: &[f32]| values.iter().map(|v| (v + 1.0) / 2.0 * 10.0 - 5.0).collect::<Vec<_>>();
        assert_near(&path[0], &wide(&noise));
        assert_near(&path[3], &wide(&chunk.normalized));
        policy.config.objective = Objective::Regression;
        policy.programs.clear();
        assert_eq!(policy.predict_path(&observations, &noise).expect("predicts").len(), 2, "one pass");
    }

    #[test]
    fn a_reset_forgets_everything() {
        let mut policy = policy(2, 8);
        let first = step(&mut policy, &[0], 0);
        let later = step(&mut policy, &[0], 1);
        policy.reset();
        assert_eq!(step(&mut policy, &[0], 0), first);
        policy.set_action_steps(1).expect("of eight");
        assert_eq!(step(&mut policy, &[0], 0), first);
        assert_ne!(step(&mut policy, &[0], 1), later, "a new chunk at every step");
        assert!(policy.set_action_steps(9).is_err() && policy.set_solver_steps(0).is_err());
    }

    #[test]
    fn what_does_not_fit_or_is_not_finite_is_named() {
        let mut policy = policy(1, 8);
        let picture = frame(0, 0);
        let mut refuse = |images, noise: &[f32]| {
            let error = policy.predict_chunk(&Observations::of_images(images), noise).expect_err("wrong");
            assert_eq!(error.exit_code(), 2);
            error.to_string()
        };
        let noise = [0.5; 16];
        assert!(
            refuse(Images::Bytes(&picture[1..]), &noise)
                .starts_with("`observation.image` has 3071 values where 1 x 1 time steps of 3072 have 3072")
        );
        assert!(refuse(Images::Bytes(&picture), &noise[1..]).starts_with("noise of 15 values"));
        let mut bad = noise;
        bad[3] = f32::NAN;
        assert_eq!(refuse(Images::Bytes(&picture), &bad), "the noise holds NaN in sample 0, element 3");
        let mut floats = vec![0.0; FRAME];
        floats[7] = f32::INFINITY;
        assert_eq!(refuse(Images::Floats(&floats), &noise), "the picture holds inf in sample 0, element 7");
        step(&mut policy, &[0], 0);
        let mixed = policy
            .select_action(&[0], Observations::of_images(Images::Floats(&[0.0; FRAME])))
            .expect_err("bytes, then floats");
        assert!(mixed.to_string().starts_with("episode 0: pictures are bytes or floats"), "{mixed}");
    }

    #[test]
    fn weights_that_are_not_finite_send_no_action() {
        let mut policy = policy(1, 8);
        let bank = policy.bank.clone();
        bank.write(Set::Weights, "velocity_head.bias", &[f32::NAN, 0.0]);
        let error = {
            let seen = frames(&[3, 8], 0);
            policy.select_action(&[3, 8], Observations::of_images(Images::Bytes(&seen))).expect_err("NaN")
        };
        assert_eq!(error.to_string(), "episode 3: `action` is NaN at step 0, dimension 0: it is not sent");
        assert_eq!(error.exit_code(), 1);
    }
}
