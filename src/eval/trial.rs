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
    /// Mean cosine between what was decided and what the expert does in the same state; 1 where both stand still.
    pub agreement: f64,
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
        let (mut sum, mut count) = (0.0, 0_usize);
        let mut look = |turn: &Turn<'_>, action: &[f64]| {
            sum += agreement(action, &turn.environment.expert_action());
            count += 1;
            watch(turn.step + 1, 1);
        };
        let place = (self.seed, episode);
        let (episode, log) =
            play_live(self.environment, planner, &self.timing, place, self.horizon, &mut look)?;
        Ok(Played { episode, log, agreement: sum / count.max(1) as f64 })
    }

    fn drive(
        &self,
        driver: &mut Driver<'_>,
        episodes: &[usize],
        watch: &mut Watch<'_>,
    ) -> Result<Vec<Played>> {
        let mut agreements = vec![(0.0, 0_usize); episodes.len()];
        let mut watched = |turns: &[Turn<'_>]| {
            let actions = driver(turns)?;
            for (turn, action) in turns.iter().zip(&actions) {
                if let Some(at) = episodes.iter().position(|&episode| episode == turn.episode) {
                    let (sum, count) = &mut agreements[at];
                    *sum += agreement(action, &turn.environment.expert_action());
                    *count += 1;
                }
            }
            watch(turns.first().map_or(0, |turn| turn.step + 1), turns.len());
            Ok(actions)
        };
        let played =
            rollout(self.environment, self.seed, episodes.iter().copied(), self.horizon, &mut watched)?;
        let played = played.into_iter().zip(agreements).map(|(episode, (sum, count))| Played {
            episode,
            log: EpisodeLog::default(),
            agreement: sum / count.max(1) as f64,
        });
        Ok(played.collect())
    }
}

/// The cosine of two actions; 1 where both stand still, 0 where one does.
fn agreement(ours: &[f64], experts: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let (a, b) = (dot(ours, ours).sqrt(), dot(experts, experts).sqrt());
    match (a > 0.0, b > 0.0) {
        (true, true) => dot(ours, experts) / (a * b),
        (false, false) => 1.0,
        _ => 0.0,
    }
}
