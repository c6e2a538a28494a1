//! Episodes under one set of conditions, whoever acts.

use super::executor::Executor;
use super::planner::Planner;
use super::real_time::play_live;
use super::running::EpisodeLog;
use super::timing::{Latency, Timing, rate_of};
use crate::Result;
use crate::sim::rollout::Driver;
use crate::sim::{Environment, Episode, Scripted, Turn, rollout};

/// Who acts.
pub enum Subject<'a> {
    /// A rule, which takes no time and decides at every step.
    Rule(Scripted),
    /// What makes chunks.
    Planner(&'a mut dyn Planner),
    /// Anything else that decides at every step.
    Driver(&'a mut Driver<'a>),
}

/// An episode as it was played.
#[derive(Debug, Clone, PartialEq)]
pub struct Played {
    /// What happened.
    pub episode: Episode,
    /// What the executor did; nothing of a rule.
    pub log: EpisodeLog,
}

/// What stays the same over the episodes of an evaluation.
#[derive(Clone, Copy)]
pub struct Trial<'a> {
    /// The environment, disturbed as it may be.
    pub environment: &'a dyn Environment,
    /// How chunks are executed in time.
    pub timing: Timing,
    /// Episode i starts from `default_rng(seed + i)`.
    pub seed: u64,
    /// Steps after which an episode has failed.
    pub horizon: usize,
}

/// Is told, after every step, the steps taken and the episodes that took the last one.
pub type Watch<'a> = dyn FnMut(usize, usize) + 'a;

impl Trial<'_> {
    /// Plays these episodes side by side.
    ///
    /// # Errors
    /// The subject's own; an action that is not finite, or of another length than the environment's.
    pub fn play(
        &self,
        subject: &mut Subject<'_>,
        episodes: &[usize],
        watch: &mut Watch<'_>,
    ) -> Result<Vec<Played>> {
        match subject {
            Subject::Rule(rule) => self.drive(&mut *rule.driver(), episodes, watch),
            Subject::Driver(driver) => self.drive(*driver, episodes, watch),
            Subject::Planner(planner) if self.timing.latency == Latency::RealTime => {
                episodes.iter().map(|&episode| self.live(&mut **planner, episode, watch)).collect()
            }
            Subject::Planner(planner) => {
                let mut executor = Executor::new(&mut **planner, self.timing, rate_of(self.environment))?;
                let mut played = self.drive(&mut |turns| executor.act(turns), episodes, watch)?;
                let mut logs = executor.take_logs();
                for played in &mut played {
                    played.log = logs.remove(&played.episode.index).unwrap_or_default();
                }
                Ok(played)
            }
        }
    }

    /// Plays one episode by the wall clock.
    fn live(&self, planner: &mut dyn Planner, episode: usize, watch: &mut Watch<'_>) -> Result<Played> {
        let place = (self.seed, episode);
        let (episode, log) = play_live(self.environment, planner, &self.timing, place, self.horizon, watch)?;
        Ok(Played { episode, log })
    }

    fn drive(
        &self,
        driver: &mut Driver<'_>,
        episodes: &[usize],
        watch: &mut Watch<'_>,
    ) -> Result<Vec<Played>> {
        let mut watched = |turns: &[Turn<'_>]| {
            let actions = driver(turns)?;
            watch(turns.first().map_or(0, |turn| turn.step + 1), turns.len());
            Ok(actions)
        };
        let played =
            rollout(self.environment, self.seed, episodes.iter().copied(), self.horizon, &mut watched)?;
        let played = played.into_iter().map(|episode| Played { episode, log: EpisodeLog::default() });
        Ok(played.collect())
    }
}
