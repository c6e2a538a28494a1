//! Chunks executed in time: the robot moves while the policy thinks.
//!
//! Time goes in control steps. A chunk that is asked for at step n, from what is seen then, arrives d steps later; until then
//! the robot goes on with the chunk before, or waits. Its first d actions were meant for steps that are over by then and
//! are left out. With d = 0 this is plain receding-horizon control: `n_action_steps` actions of a chunk, then the next.
//!
//! The first chunk of an episode is made before the episode starts, as in the reference of real-time chunking
//! (arXiv 2506.07339).

use std::collections::BTreeMap;
use std::time::Instant;

use super::planner::{Planner, Request};
use super::running::{EpisodeLog, Running};
use super::timing::{Latency, Timing};
use crate::sim::{Observation, Turn};
use crate::{Error, Result};

/// Executes a planner's chunks, episode by episode.
pub struct Executor<P> {
    planner: P,
    timing: Timing,
    /// Control steps a second.
    rate: f64,
    episodes: BTreeMap<usize, Running>,
    seen: Vec<Observation>,
}

impl<P: Planner> Executor<P> {
    /// An executor at a control rate in Hz.
    ///
    /// # Errors
    /// If the timing means nothing.
    pub fn new(planner: P, timing: Timing, rate: f64) -> Result<Self> {
        timing.check()?;
        Ok(Self { planner, timing, rate, episodes: BTreeMap::new(), seen: Vec::new() })
    }

    /// One action `[dim]` for each turn. Step 0 begins all episodes anew.
    ///
    /// # Errors
    /// The planner's own; they name the step.
    pub fn act(&mut self, turns: &[Turn<'_>]) -> Result<Vec<Vec<f64>>> {
        // Episodes of a rollout begin together.
        if turns.first().is_some_and(|turn| turn.step == 0) {
            self.planner.reset()?;
            self.episodes.clear();
        }
        let episodes: Vec<usize> = turns.iter().map(|turn| turn.episode).collect();
        self.seen.resize_with(turns.len(), Observation::default);
        for (turn, seen) in turns.iter().zip(&mut self.seen) {
            turn.environment.observe(seen);
        }
        let step = turns.first().map_or(0, |turn| turn.step);
        self.planner.see(&episodes, &self.seen).map_err(|e| e.at(format!("step {step}")))?;
        let due: Vec<Request> = episodes.iter().filter_map(|&episode| self.due(episode)).collect();
        self.make(due).map_err(|e| e.at(format!("step {step}")))?;
        Ok(turns.iter().map(|turn| self.next(turn)).collect())
    }

    /// Takes what arrives now, and says whether it is time for a new chunk.
    fn due(&mut self, episode: usize) -> Option<Request> {
        let every = self.timing.n_action_steps.unwrap_or_else(|| self.planner.n_action_steps());
        let chunk = self.planner.chunk_size();
        self.episodes.entry(episode).or_default().due(episode, &self.timing, self.rate, every, chunk)
    }

    /// Makes the chunks that are due: in one batch, or one by one where each is timed.
    fn make(&mut self, due: Vec<Request>) -> Result<()> {
        let alone = self.timing.latency == Latency::Measured || self.timing.deadline_ms.is_some();
        let size = if alone { 1 } else { due.len().max(1) };
        for batch in due.chunks(size) {
            let start = Instant::now();
            let planned = self.planner.plan(batch, self.timing.chunking())?;
            let latency_ms = 1e3 * start.elapsed().as_secs_f64();
            if planned.len() != batch.len() {
                let (given, asked) = (planned.len(), batch.len());
                return Err(Error::failure(format!("{given} chunks were made where {asked} were asked for")));
            }
            for (request, planned) in batch.iter().zip(planned) {
                let running = self.episodes.entry(request.episode).or_default();
                running.take(planned, latency_ms, &self.timing, self.rate);
            }
        }
        Ok(())
    }

    fn next(&mut self, turn: &Turn<'_>) -> Vec<f64> {
        let dims = turn.environment.spec().low.len();
        let running = self.episodes.entry(turn.episode).or_default();
        running.next(self.planner.chunk_size(), dims, self.timing.execution)
    }

    /// What was done in each episode so far, and forgets it.
    pub fn take_logs(&mut self) -> BTreeMap<usize, EpisodeLog> {
        std::mem::take(&mut self.episodes)
            .into_iter()
            .map(|(episode, running)| (episode, running.log))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::planner::Planned;
    use crate::eval::timing::{Execution, steps_of};
    use crate::policy::Chunking;
    use crate::sim::{Pendulum, rollout};

    /// Chunks of four actions that say when they were asked for: 0.1 n + 0.01 i at step n.
    #[derive(Default)]
    struct Clock {
        steps: BTreeMap<usize, usize>,
        requests: Vec<Request>,
    }

    impl Planner for Clock {
        fn chunk_size(&self) -> usize {
            4
        }

        fn n_action_steps(&self) -> usize {
            2
        }

        fn reset(&mut self) -> Result<()> {
            self.steps.clear();
            Ok(())
        }

        fn see(&mut self, episodes: &[usize], _: &[Observation]) -> Result<()> {
            episodes.iter().for_each(|episode| *self.steps.entry(*episode).or_default() += 1);
            Ok(())
        }

        fn plan(&mut self, requests: &[Request], _: Chunking) -> Result<Vec<Planned>> {
            self.requests.extend(requests.iter().cloned());
            let planned = |request: &Request| {
                let asked = (self.steps[&request.episode] - 1) as f32;
                let actions: Vec<f32> = (0..4).map(|i| 0.1 * asked + 0.01 * i as f32).collect();
                Planned { normalized: actions.clone(), actions, evaluations: 1 }
            };
            Ok(requests.iter().map(planned).collect())
        }
    }

    /// What is executed in eight steps, as (step asked, place in the chunk); -1 where the robot stands still.
    fn executed(timing: Timing) -> (Vec<(i32, i32)>, EpisodeLog, Vec<Request>) {
        let mut clock = Clock::default();
        let mut executor = Executor::new(&mut clock, timing, 20.0).expect("means something");
        let played = rollout(&Pendulum::new(0), 1, [3], 8, &mut |turns| executor.act(turns)).expect("runs");
        let log = executor.take_logs().remove(&3).expect("played");
        let place = |action: &Vec<f64>| {
            let hundredths = (action[0] * 100.0).round() as i32;
            (hundredths / 10, hundredths % 10)
        };
        let idle: Vec<usize> = (0..8).filter(|&i| played[0].actions[i] == [0.0]).collect();
        let mut all: Vec<(i32, i32)> = played[0].actions.iter().map(place).collect();
        // Step 0 of chunk 0 is zero as well.
        idle.into_iter().filter(|&i| i > 0).for_each(|i| all[i] = (-1, -1));
        drop(executor);
        (all, log, clock.requests)
    }

    fn timing(delay: usize, execution: Execution) -> Timing {
        Timing { latency: Latency::Steps(delay), execution, ..Timing::NONE }
    }

    const NAIVE: Execution = Execution::Move(Chunking::Naive);

    #[test]
    fn without_delay_a_chunk_lasts_its_action_steps() {
        for execution in [NAIVE, Execution::Wait] {
            let (all, log, _) = executed(timing(0, execution));
            assert_eq!(all, [(0, 0), (0, 1), (2, 0), (2, 1), (4, 0), (4, 1), (6, 0), (6, 1)]);
            assert_eq!((log.chunks.len(), log.idle_steps, log.deadline_misses), (4, 0, 0));
        }
    }

    #[test]
    fn a_late_chunk_begins_at_the_action_that_is_due_when_it_arrives() {
        let (all, log, _) = executed(timing(1, NAIVE));
        // Asked for at 2, there at 3: action 0 of it was for step 2.
        assert_eq!(all, [(0, 0), (0, 1), (0, 2), (2, 1), (2, 2), (4, 1), (4, 2), (6, 1)]);
        assert_eq!(
            log.chunks.iter().map(|c| (c.asked, c.arrived)).collect::<Vec<_>>(),
            [(0, 0), (2, 3), (4, 5), (6, 7)]
        );
    }

    #[test]
    fn a_robot_that_waits_stands_still_and_then_executes_from_the_start() {
        let (all, log, _) = executed(timing(1, Execution::Wait));
        assert_eq!(all, [(0, 0), (0, 1), (-1, -1), (2, 0), (2, 1), (-1, -1), (5, 0), (5, 1)]);
        assert_eq!(log.idle_steps, 2);
    }

    #[test]
    fn a_chunk_that_comes_after_the_last_action_leaves_the_robot_without() {
        let (all, log, _) = executed(timing(3, NAIVE));
        assert_eq!(all[..6], [(0, 0), (0, 1), (0, 2), (0, 3), (-1, -1), (2, 3)]);
        assert!(log.idle_steps >= 1);
    }

    #[test]
    fn what_goes_on_is_told_what_is_left_of_the_chunk_before_and_how_late_it_will_be() {
        let (_, _, requests) = executed(timing(1, Execution::Move(Chunking::Prefix)));
        assert_eq!(requests[0], Request { episode: 3, continuing: None });
        let continuing = requests[1].continuing.as_ref().expect("a chunk before");
        assert_eq!((continuing.planned.as_slice(), continuing.delay), (&[0.02, 0.03][..], 1));
        let (_, _, naive) = executed(timing(1, NAIVE));
        assert!(naive.iter().all(|request| request.continuing.is_none()));
    }

    #[test]
    fn milliseconds_are_whole_steps_and_a_deadline_is_missed_or_kept() {
        assert_eq!([0.0, 1.0, 50.0, 50.1, 149.0].map(|ms| steps_of(ms, 20.0)), [0, 1, 1, 2, 3]);
        let late =
            |ms| Timing { latency: Latency::Milliseconds(ms), deadline_ms: Some(40.0), ..Timing::NONE };
        let (all, log, _) = executed(late(30.0));
        assert_eq!((all[2], log.deadline_misses), ((0, 2), 0), "one step late, in time");
        let (_, log, _) = executed(late(41.0));
        assert_eq!(log.deadline_misses, log.chunks.len());
        let measured = Timing { latency: Latency::Measured, ..Timing::NONE };
        let (_, log, _) = executed(measured);
        assert!(log.chunks.iter().all(|chunk| chunk.arrived <= chunk.asked + 8));
    }

    #[test]
    fn numbers_that_mean_nothing_are_named() {
        let mut clock = Clock::default();
        let wrong = Timing { latency: Latency::Milliseconds(-1.0), ..Timing::NONE };
        let told = Executor::new(&mut clock, wrong, 20.0).err().expect("refused").to_string();
        assert!(told.starts_with("--latency-ms is -1"), "{told}");
        let wrong = Timing { deadline_ms: Some(f64::NAN), ..Timing::NONE };
        assert!(Executor::new(&mut clock, wrong, 20.0).is_err());
    }
}
