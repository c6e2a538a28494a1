//! Episodes side by side, so that a policy can decide for all of them at once.

use super::{Environment, Spec};
use crate::{Error, Result};

/// One environment that waits for its next action.
#[derive(Clone, Copy)]
pub struct Turn<'a> {
    /// Which episode: a policy keeps what it remembers apart by this number.
    pub episode: usize,
    /// Steps taken so far in it; 0 tells a policy to forget.
    pub step: usize,
    /// To be observed (policies) or asked (experts).
    pub environment: &'a dyn Environment,
}

/// Decides: one action `[dim]` per turn, in the order of the turns. Finished episodes get no more turns.
pub type Driver<'a> = dyn FnMut(&[Turn<'_>]) -> Result<Vec<Vec<f64>>> + 'a;

/// What happened in one episode of T steps.
#[derive(Debug, Clone, PartialEq)]
pub struct Episode {
    /// Its number; it started from `default_rng(seed + index)`.
    pub index: usize,
    /// What it was an episode of.
    pub spec: &'static Spec,
    /// T actions as they were decided, each `[dim]`: what plays the episode again.
    pub actions: Vec<Vec<f64>>,
    /// T actions as they were executed: the same where nothing stands between deciding and doing.
    pub executed: Vec<Vec<f64>>,
    /// T + 1 positions of the controlled body, before each action and after the last.
    pub positions: Vec<Vec<f64>>,
    /// T + 1 distances from what should be reached: [`Environment::distance`].
    pub distances: Vec<f64>,
    /// T rewards.
    pub rewards: Vec<f64>,
    /// The task ended by its own rule, not by the horizon.
    pub terminated: bool,
    /// The task was solved.
    pub success: bool,
    /// The place in positions and distances that is right after the body was shoved, if it was.
    pub shoved_at: Option<usize>,
}

impl Episode {
    /// The episode of that number before its first step, of an environment that was just reset.
    pub fn begin(index: usize, environment: &dyn Environment) -> Self {
        Self {
            index,
            spec: environment.spec(),
            actions: Vec::new(),
            executed: Vec::new(),
            positions: vec![environment.position()],
            distances: vec![environment.distance()],
            rewards: Vec::new(),
            terminated: false,
            success: false,
            shoved_at: None,
        }
    }

    /// Takes a step: applies an action and keeps what it brought.
    ///
    /// # Errors
    /// As [`Environment::step`]; nothing is kept then.
    pub fn advance(&mut self, environment: &mut dyn Environment, action: Vec<f64>) -> Result<()> {
        let outcome = environment.step(&action)?;
        self.executed.push(environment.executed().unwrap_or(&action).to_vec());
        self.actions.push(action);
        self.positions.push(environment.position());
        self.distances.push(environment.distance());
        self.rewards.push(outcome.reward);
        self.terminated = outcome.terminated;
        self.success = outcome.success;
        self.shoved_at = environment.shoved_at();
        Ok(())
    }
}

/// Runs `episodes` of `seed` side by side, each until it terminates or has taken `horizon` steps.
///
/// # Errors
/// The driver's own; an action per turn that is missing, of another length or not finite.
pub fn rollout(
    environment: &dyn Environment,
    seed: u64,
    episodes: impl IntoIterator<Item = usize>,
    horizon: usize,
    driver: &mut Driver<'_>,
) -> Result<Vec<Episode>> {
    let mut running: Vec<(Box<dyn Environment>, Episode)> = episodes
        .into_iter()
        .map(|index| {
            let mut environment = environment.fresh();
            environment.reset(episode_seed(seed, index));
            let episode = Episode::begin(index, environment.as_ref());
            (environment, episode)
        })
        .collect();
    for step in 0..horizon {
        let waiting: Vec<_> = running.iter_mut().filter(|(_, episode)| !episode.terminated).collect();
        if waiting.is_empty() {
            break;
        }
        let turns: Vec<Turn<'_>> = (waiting.iter())
            .filter(|(environment, _)| environment.takes_decision())
            .map(|(environment, episode)| Turn {
                episode: episode.index,
                step,
                environment: environment.as_ref(),
            })
            .collect();
        let decided = if turns.is_empty() { Vec::new() } else { driver(&turns)? };
        if decided.len() != turns.len() {
            return Err(Error::failure(format!(
                "a policy gave {} actions for {}",
                decided.len(),
                turns.len()
            )));
        }
        let mut decided = decided.into_iter();
        for (environment, episode) in waiting {
            let index = episode.index;
            let carried_on = || episode.actions.last().cloned();
            let action = if environment.takes_decision() { decided.next() } else { carried_on() };
            episode
                .advance(environment.as_mut(), action.unwrap_or_default())
                .map_err(|e| e.at(format_args!("episode {index}, step {step}")))?;
        }
    }
    Ok(running.into_iter().map(|(_, episode)| episode).collect())
}

/// Plays an episode again: decided actions, each `[dim]`, from the reset by `seed`. `look` is shown the environment before
/// each action, with the number of steps taken, and once after the last.
///
/// # Errors
/// If the environment refuses a recorded action; those of `look`.
pub fn play_again(
    environment: &dyn Environment,
    seed: u64,
    actions: &[Vec<f64>],
    look: &mut dyn FnMut(&dyn Environment, usize) -> Result<()>,
) -> Result<()> {
    let mut environment = environment.fresh();
    environment.reset(seed);
    for (step, action) in actions.iter().enumerate() {
        look(environment.as_ref(), step)?;
        environment.step(action)?;
    }
    look(environment.as_ref(), actions.len())
}

/// The seed of episode `index`: `seed + index`, around the end of the numbers if need be.
pub fn episode_seed(seed: u64, index: usize) -> u64 {
    seed.wrapping_add(index as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{Pursuit, Scripted};

    #[test]
    fn episodes_side_by_side_are_the_episodes_one_by_one() {
        let arena = Pursuit::new(0);
        let together = rollout(&arena, 42, 0..20, 100, &mut Scripted::Expert.driver()).expect("runs");
        for episode in &together {
            let alone = episode.index..episode.index + 1;
            let alone = rollout(&arena, 42, alone, 100, &mut Scripted::Expert.driver()).expect("runs");
            assert_eq!(&alone[0], episode);
            assert!(episode.success && episode.terminated);
            assert_eq!(episode.positions.len(), episode.actions.len() + 1);
        }
    }

    #[test]
    fn a_horizon_cuts_and_a_finished_episode_is_not_asked_again() {
        let arena = Pursuit::new(0);
        let mut asked = Vec::new();
        let mut driver = |turns: &[Turn<'_>]| {
            asked.push(turns.len());
            Ok(turns.iter().map(|turn| turn.environment.expert_action()).collect())
        };
        let episodes = rollout(&arena, 42, 0..300, 20, &mut driver).expect("runs");
        assert!(episodes.iter().all(|episode| episode.actions.len() <= 20));
        let cut = episodes.iter().filter(|episode| !episode.terminated).count();
        assert!(cut > 0 && asked[0] == 300 && asked.last().is_some_and(|&n| n >= cut && n < 300));
    }

    #[test]
    fn a_policy_that_answers_wrongly_is_named_with_its_episode_and_step() {
        let arena = Pursuit::new(0);
        let mut broken = |turns: &[Turn<'_>]| Ok(vec![vec![f64::NAN; 2]; turns.len()]);
        let error = rollout(&arena, 42, 3..4, 100, &mut broken).expect_err("NaN is no action");
        assert!(error.to_string().starts_with("episode 3, step 0: environment `pursuit`"), "{error}");
        let mut short = |_: &[Turn<'_>]| Ok(Vec::new());
        assert!(rollout(&arena, 42, 0..2, 100, &mut short).is_err());
    }
}
