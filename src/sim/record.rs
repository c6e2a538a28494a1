//! Recording demonstrations: anyone drives, an expert labels.
//!
//! With the expert as driver this is plain demonstration, with noise on the executed actions it also
//! shows how to come back to the path (DART, Laskey et al. 2017), and with a learner as driver it is
//! DAgger (Ross et al. 2011).

use super::rollout::{Driver, Episode, Turn, episode_seed, rollout};
use super::scattered::Scattered;
use super::{Environment, Observation, Spec};
use crate::rng::{Rng, Stream};
use crate::{Error, Result};

/// The step that keys what is drawn once an episode; no episode is so long.
pub(super) const ONCE: u64 = u64::MAX;

/// Where episodes begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Where the environment's reset puts them.
    Reset,
    /// Anywhere an episode may lead: [`Environment::scatter`] after the reset.
    Wide,
}

/// Which expert labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Labels {
    /// The task's own: [`Environment::expert_action`].
    Expert,
    /// The one its seed published: [`Environment::seed_expert_action`].
    SeedExpert,
}

/// What to record.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Episode i starts from `default_rng(seed + i)`; keep it away from the seeds of an evaluation.
    pub seed: u64,
    /// Stop after so many episodes.
    pub episodes: Option<usize>,
    /// Stop after so many frames; the last episode may be cut.
    pub max_frames: Option<usize>,
    /// Longest episode, in steps.
    pub max_steps: usize,
    /// Standard deviation of the Gaussian noise on executed actions, in action units. Noisy actions are
    /// brought back inside the action bounds, as a robot's limits would.
    pub noise: f64,
    /// Draw each episode's standard deviation evenly from 0 to `noise` instead of taking `noise` itself.
    pub noise_varies: bool,
    /// Share of the steps that are noisy, 0 to 1.
    pub noisy_share: f64,
    /// Where episodes begin.
    pub start: Start,
    /// Which expert labels.
    pub labels: Labels,
    /// Episodes run side by side, one batch for the driver. What is recorded does not depend on it.
    pub together: usize,
}

impl Default for Options {
    /// Seeds from 2^40, far from every evaluation's, 1000 steps at most, ordinary starts, no noise, the expert's labels.
    fn default() -> Self {
        Self {
            seed: 1 << 40,
            episodes: None,
            max_frames: None,
            max_steps: 1000,
            noise: 0.0,
            noise_varies: false,
            noisy_share: 1.0,
            start: Start::Reset,
            labels: Labels::Expert,
            together: 32,
        }
    }
}

/// One recorded step, lent to the receiver.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame<'a> {
    /// Counts from 0.
    pub episode: usize,
    /// Counts from 0 in its episode.
    pub step: usize,
    /// Seconds since the episode began: step / fps.
    pub timestamp: f64,
    /// What a policy saw before the action.
    pub observation: &'a Observation,
    /// The label: what the labelling expert does in this state, `[dim]`.
    pub action: &'a [f32],
    /// What was executed, `[dim]`: the driver's action, with noise where there was some.
    pub executed: &'a [f32],
    /// The reward of the executed action.
    pub reward: f64,
    /// The task was solved by this step.
    pub success: bool,
    /// No further frame of this episode follows.
    pub last: bool,
}

/// How much was recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Episodes, the cut one included.
    pub episodes: usize,
    /// Frames over all episodes.
    pub frames: usize,
    /// Episodes whose last frame solved the task.
    pub successes: usize,
}

/// Runs episodes under `driver` and hands every frame to `receive`, episode by episode.
///
/// Episodes run side by side without pictures; each is then replayed for the receiver, so that a group
/// of long episodes needs no memory for their pictures.
///
/// # Errors
/// Options that mean nothing; the driver's and the receiver's own errors.
pub fn record(
    environment: &dyn Environment,
    options: &Options,
    driver: &mut Driver<'_>,
    receive: &mut dyn FnMut(&Frame<'_>) -> Result<()>,
) -> Result<Recorded> {
    options.check()?;
    let scattered;
    let environment: &dyn Environment = match options.start {
        Start::Reset => environment,
        Start::Wide => {
            scattered = Scattered(environment.fresh());
            &scattered
        }
    };
    let all_episodes = options.episodes.unwrap_or(usize::MAX);
    let all_frames = options.max_frames.unwrap_or(usize::MAX);
    let mut noisy = |turns: &[Turn<'_>]| {
        let mut actions = driver(turns)?;
        for (action, turn) in actions.iter_mut().zip(turns) {
            options.disturb(action, turn);
        }
        Ok(actions)
    };
    let mut replayed = environment.fresh();
    let mut recorded = Recorded::default();
    let mut next = 0;
    while next < all_episodes && recorded.frames < all_frames {
        let group = next..next.saturating_add(options.together).min(all_episodes);
        next = group.end;
        for episode in rollout(environment, options.seed, group, options.max_steps, &mut noisy)? {
            let frames = episode.actions.len().min(all_frames - recorded.frames);
            if frames == 0 {
                break;
            }
            let success = replay(replayed.as_mut(), options, &episode, frames, receive)?;
            recorded.episodes += 1;
            recorded.frames += frames;
            recorded.successes += usize::from(success);
        }
    }
    Ok(recorded)
}

/// Hands the first `frames` frames of an episode to the receiver; whether the last one solved the task.
fn replay(
    environment: &mut dyn Environment,
    options: &Options,
    episode: &Episode,
    frames: usize,
    receive: &mut dyn FnMut(&Frame<'_>) -> Result<()>,
) -> Result<bool> {
    let single = |action: &[f64]| action.iter().map(|&v| v as f32).collect::<Vec<f32>>();
    let fps = f64::from(environment.spec().fps);
    let mut observation = Observation::default();
    let mut success = false;
    environment.reset(episode_seed(options.seed, episode.index));
    for (step, action) in episode.actions.iter().take(frames).enumerate() {
        environment.observe(&mut observation);
        let label = match options.labels {
            Labels::Expert => environment.expert_action(),
            Labels::SeedExpert => environment.seed_expert_action(),
        };
        let outcome = environment.step(action)?;
        success = outcome.success;
        receive(&Frame {
            episode: episode.index,
            step,
            timestamp: step as f64 / fps,
            observation: &observation,
            action: &single(&label),
            executed: &single(environment.executed().unwrap_or(action)),
            reward: outcome.reward,
            success,
            last: step + 1 == frames,
        })?;
    }
    Ok(success)
}

impl Options {
    fn check(&self) -> Result<()> {
        let wrong = if self.episodes.is_none() && self.max_frames.is_none() {
            "say how much to record: a number of episodes or of frames".to_owned()
        } else if !(self.noise.is_finite() && self.noise >= 0.0) {
            format!("the noise on executed actions must be 0 or more, not {}", self.noise)
        } else if !(0.0..=1.0).contains(&self.noisy_share) {
            format!("the share of noisy steps lies between 0 and 1, not at {}", self.noisy_share)
        } else if self.max_steps == 0 || self.together == 0 {
            "an episode needs a step, and a group an episode".to_owned()
        } else {
            return Ok(());
        };
        Err(Error::input(format!("cannot record: {wrong}")))
    }

    /// Adds this turn's execution noise, keyed by (seed, episode, step).
    fn disturb(&self, action: &mut [f64], turn: &Turn<'_>) {
        let rng = |step| Rng::new(self.seed, Stream::Execution, step, turn.episode as u32);
        let deviation = self.noise * if self.noise_varies { rng(ONCE).uniform() } else { 1.0 };
        let mut rng = rng(turn.step as u64);
        if deviation == 0.0 || rng.uniform() >= self.noisy_share {
            return;
        }
        let Spec { low, high, .. } = turn.environment.spec();
        for ((value, &low), &high) in action.iter_mut().zip(*low).zip(*high) {
            *value = (*value + deviation * rng.normal()).clamp(low, high);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{Pendulum, Pursuit, Scripted};

    /// (episode, step, action, executed, last, sum of the picture)
    type Kept = (usize, usize, Vec<f32>, Vec<f32>, bool, u64);

    fn keep(options: &Options, policy: Scripted) -> (Recorded, Vec<Kept>) {
        let mut frames = Vec::new();
        let recorded = record(&Pursuit::new(0), options, &mut policy.driver(), &mut |frame| {
            assert_eq!(frame.timestamp, frame.step as f64 / 20.0);
            assert_eq!(frame.observation.picture("observation.image").len(), 3 * 128 * 128);
            let picture = frame.observation.picture("observation.image").iter().map(|&v| u64::from(v)).sum();
            let (action, executed) = (frame.action.to_vec(), frame.executed.to_vec());
            frames.push((frame.episode, frame.step, action, executed, frame.last, picture));
            Ok(())
        })
        .expect("records");
        (recorded, frames)
    }

    #[test]
    fn an_expert_recording_has_whole_episodes_and_clean_labels() {
        let (recorded, frames) =
            keep(&Options { episodes: Some(40), ..Options::default() }, Scripted::Expert);
        assert_eq!((recorded.episodes, recorded.frames, recorded.successes), (40, frames.len(), 40));
        assert_eq!(frames.iter().filter(|frame| frame.4).count(), 40);
        assert!(frames.iter().all(|frame| frame.2 == frame.3));
        assert!(frames.windows(2).all(|pair| {
            let next = if pair[0].4 { (pair[0].0 + 1, 0) } else { (pair[0].0, pair[0].1 + 1) };
            (pair[1].0, pair[1].1) == next
        }));
    }

    #[test]
    fn a_number_of_frames_cuts_the_last_episode() {
        let options = Options { max_frames: Some(101), together: 7, ..Options::default() };
        let (recorded, frames) = keep(&options, Scripted::Expert);
        assert_eq!((recorded.frames, frames.len()), (101, 101));
        assert!(frames[100].4, "the cut frame closes its episode");
        let whole = keep(&Options { episodes: Some(recorded.episodes), ..options.clone() }, Scripted::Expert);
        assert_eq!(whole.1[..100], frames[..100]);
    }

    #[test]
    fn noise_touches_its_share_of_what_is_executed_and_no_label() {
        let options = Options {
            episodes: Some(60),
            noise: 2.0,
            noisy_share: 0.25,
            max_steps: 100,
            ..Options::default()
        };
        let (_, frames) = keep(&options, Scripted::Expert);
        let noisy = frames.iter().filter(|frame| frame.2 != frame.3).count() as f64 / frames.len() as f64;
        // A saturated label hides positive noise behind its bound, in both components a quarter of the time.
        assert!((0.15..0.3).contains(&noisy), "{noisy}");
        assert!(frames.iter().flat_map(|frame| &frame.3).all(|v| v.abs() <= 5.0));
        let (_, apart) = keep(&Options { together: 1, ..options }, Scripted::Expert);
        assert!(frames == apart, "the group's size changed the recording");
    }

    #[test]
    fn noise_that_varies_has_one_deviation_an_episode_up_to_the_largest() {
        let options = Options {
            episodes: Some(80),
            noise: 2.0,
            noise_varies: true,
            max_steps: 60,
            ..Options::default()
        };
        let (_, frames) = keep(&options, Scripted::Noop);
        let mut deviations: Vec<f64> = (0..80)
            .map(|episode| {
                let noise: Vec<f64> = (frames.iter().filter(|frame| frame.0 == episode))
                    .flat_map(|frame| frame.3.iter().map(|&v| f64::from(v)))
                    .collect();
                (noise.iter().map(|v| v * v).sum::<f64>() / noise.len() as f64).sqrt()
            })
            .collect();
        deviations.sort_by(f64::total_cmp);
        let mean = deviations.iter().sum::<f64>() / 80.0;
        assert!((0.85..1.15).contains(&mean), "{mean}");
        assert!(deviations[4] < 0.3 && deviations[75] > 1.6 && deviations[79] < 2.6, "{deviations:?}");
    }

    #[test]
    fn wide_starts_are_other_starts_of_the_same_seeds() {
        let first = |start| {
            let options = Options { episodes: Some(20), max_steps: 1, start, ..Options::default() };
            let (_, frames) = keep(&options, Scripted::Expert);
            assert_eq!(frames, keep(&Options { together: 3, ..options }, Scripted::Expert).1);
            frames
        };
        let (reset, wide) = (first(Start::Reset), first(Start::Wide));
        assert!(reset.iter().zip(&wide).all(|(a, b)| a.5 != b.5 || a.2 != b.2));
    }

    #[test]
    fn any_driver_acts_while_the_expert_labels() {
        let options = Options { episodes: Some(5), max_steps: 30, ..Options::default() };
        let (_, frames) = keep(&options, Scripted::Noop);
        assert!(frames.iter().all(|frame| frame.3 == [0.0, 0.0]));
        assert!(frames.iter().any(|frame| frame.2.contains(&5.0) || frame.2.contains(&-5.0)));
    }

    #[test]
    fn the_expert_of_the_seed_labels_when_it_is_asked_to() {
        let labels = |labels| {
            let options = Options { episodes: Some(2), max_steps: 200, labels, ..Options::default() };
            let mut frames = Vec::new();
            let mut driver = Scripted::SeedExpert.driver();
            let recorded = record(&Pendulum::new(0), &options, &mut driver, &mut |frame| {
                assert_eq!(frame.observation.state.len(), 3);
                assert!(frame.observation.picture("observation.image").is_empty());
                frames.push((frame.action[0], frame.executed[0]));
                Ok(())
            });
            assert_eq!(recorded.expect("records").frames, 400);
            frames
        };
        assert!(labels(Labels::SeedExpert).iter().all(|(label, executed)| label == executed));
        let corrected = labels(Labels::Expert);
        assert!(corrected.iter().filter(|(label, executed)| label != executed).count() > 20);
    }

    #[test]
    fn options_that_mean_nothing_are_refused() {
        let some = Options { episodes: Some(1), ..Options::default() };
        for options in [
            Options::default(),
            Options { noise: f64::NAN, ..some.clone() },
            Options { noisy_share: 1.5, ..some.clone() },
            Options { max_steps: 0, ..some.clone() },
        ] {
            let error = record(&Pursuit::new(0), &options, &mut Scripted::Noop.driver(), &mut |_| Ok(()));
            assert!(error.is_err_and(|e| e.exit_code() == 2), "{options:?}");
        }
    }
}
