//! Episodes by the wall clock: the robot moves while the policy thinks on a thread of its own.
//!
//! What a chunk costs in steps is then what it costs on this machine, other load included: no two runs are alike.

use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::planner::{Planned, Planner, Request};
use super::running::{EpisodeLog, Running};
use super::timing::{Timing, rate_of};
use super::trial::Watch;
use crate::policy::Chunking;
use crate::sim::rollout::episode_seed;
use crate::sim::{Environment, Episode, Observation};
use crate::{Error, Result};

/// What an episode sees at a decision, and whether it wants a chunk made of it.
struct Sight {
    seen: Observation,
    request: Option<Request>,
}

/// A chunk with the wall time it took, ms.
type Answer = Result<(Planned, f64)>;

/// Plays one episode; `watch` is told each decision.
///
/// # Errors
/// The planner's own; an action that the environment refuses.
pub(super) fn play_live(
    environment: &dyn Environment,
    planner: &mut dyn Planner,
    timing: &Timing,
    (seed, index): (u64, usize),
    horizon: usize,
    watch: &mut Watch<'_>,
) -> Result<(Episode, EpisodeLog)> {
    let every = timing.n_action_steps.unwrap_or_else(|| planner.n_action_steps());
    let (chunk, rate) = (planner.chunk_size(), rate_of(environment));
    planner.reset()?;
    let mut environment = environment.fresh();
    environment.reset(episode_seed(seed, index));
    let dims = environment.spec().low.len();
    let period = Duration::from_secs_f64(1.0 / f64::from(environment.spec().fps));
    let (show, sights) = channel();
    let (answer, answers) = channel();
    thread::scope(|scope| {
        let chunking = timing.chunking();
        scope.spawn(move || think(planner, index, chunking, &sights, &answer));
        let mut episode = Episode::begin(index, environment.as_ref());
        let mut running = Running::default();
        let mut begun: Option<Instant> = None;
        for step in 0..horizon {
            // The clock starts when the first chunk is there.
            if let Some(begun) = begun {
                thread::sleep((begun + period * step as u32).saturating_duration_since(Instant::now()));
            }
            let action = if environment.takes_decision() {
                receive(&answers, &mut running, timing, rate)?;
                let request = running.due(index, timing, rate, every, chunk);
                let thinks = request.is_some();
                let mut seen = Observation::default();
                environment.observe(&mut seen);
                show.send(Sight { seen, request }).map_err(|_| broken_off())?;
                if thinks {
                    running.think();
                }
                if begun.is_none() {
                    let (planned, ms) = answers.recv().map_err(|_| broken_off())??;
                    running.receive(planned, ms, timing, rate);
                    begun = Some(Instant::now());
                }
                let action = running.next(chunk, dims, timing.execution);
                watch(step + 1, 1);
                action
            } else {
                episode.actions.last().cloned().unwrap_or_default()
            };
            episode
                .advance(environment.as_mut(), action)
                .map_err(|e| e.at(format_args!("episode {index}, step {step}")))?;
            if episode.terminated {
                break;
            }
        }
        drop(show);
        Ok((episode, running.log))
    })
}

/// Takes a chunk that is there by now.
fn receive(answers: &Receiver<Answer>, running: &mut Running, timing: &Timing, rate: f64) -> Result<()> {
    match answers.try_recv() {
        Ok(answer) => {
            let (planned, ms) = answer?;
            running.receive(planned, ms, timing, rate);
            Ok(())
        }
        Err(TryRecvError::Empty) => Ok(()),
        Err(TryRecvError::Disconnected) => Err(broken_off()),
    }
}

/// Sees everything in order and makes the chunks that are asked for, until nothing more is shown.
fn think(
    planner: &mut dyn Planner,
    episode: usize,
    chunking: Chunking,
    sights: &Receiver<Sight>,
    answer: &Sender<Answer>,
) {
    for Sight { seen, request } in sights {
        let start = Instant::now();
        let mut made = || -> Result<Option<Planned>> {
            planner.see(&[episode], std::slice::from_ref(&seen))?;
            let Some(request) = request.clone() else { return Ok(None) };
            Ok(planner.plan(&[request], chunking)?.pop())
        };
        let told = match made() {
            Ok(None) => continue,
            Ok(Some(planned)) => Ok((planned, 1e3 * start.elapsed().as_secs_f64())),
            Err(error) => Err(error),
        };
        let failed = told.is_err();
        if answer.send(told).is_err() || failed {
            return;
        }
    }
}

fn broken_off() -> Error {
    Error::failure("the policy's thread broke off")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::Command;

    /// Chunks of six actions of 0.5, each of which takes so long.
    struct Slow(Duration);

    impl Planner for Slow {
        fn chunk_size(&self) -> usize {
            6
        }

        fn n_action_steps(&self) -> usize {
            2
        }

        fn reset(&mut self) -> Result<()> {
            Ok(())
        }

        fn see(&mut self, _: &[usize], _: &[Observation]) -> Result<()> {
            Ok(())
        }

        fn plan(&mut self, requests: &[Request], _: Chunking) -> Result<Vec<Planned>> {
            thread::sleep(self.0);
            let planned = Planned { actions: vec![0.5; 180], normalized: Vec::new(), evaluations: 1 };
            Ok(vec![planned; requests.len()])
        }
    }

    fn play(millis: u64, deadline_ms: f64) -> (Episode, EpisodeLog, Duration) {
        let timing = Timing { deadline_ms: Some(deadline_ms), ..Timing::NONE };
        let start = Instant::now();
        let mut slow = Slow(Duration::from_millis(millis));
        let found = play_live(&Command::new(0), &mut slow, &timing, (1, 0), 12, &mut |_, _| ());
        let (episode, log) = found.expect("plays");
        (episode, log, start.elapsed())
    }

    #[test]
    fn a_robot_moves_on_while_its_policy_thinks() {
        // 50 steps a second: a chunk of 50 ms comes two and a half steps late, and four actions of a chunk are left.
        let (episode, log, took) = play(50, 40.0);
        assert!(took >= Duration::from_millis(220), "12 steps of 20 ms: {took:?}");
        assert_eq!(episode.actions.len(), 12);
        assert!(log.chunks.len() >= 2 && log.deadline_misses == log.chunks.len(), "{log:?}");
        assert!(log.chunks[1..].iter().all(|chunk| chunk.arrived >= chunk.asked + 2), "{log:?}");
        assert!(log.chunks.iter().all(|chunk| chunk.latency_ms >= 50.0));
    }

    #[test]
    fn a_policy_that_is_much_too_slow_leaves_the_robot_standing() {
        let (episode, log, _) = play(160, 1_000.0);
        assert!(log.idle_steps > 0 && log.deadline_misses == 0, "{log:?}");
        assert!(episode.actions.iter().any(|action| action.iter().all(|v| *v == 0.0)));
    }
}
