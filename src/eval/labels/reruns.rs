//! Reruns of failed episodes with one thing put right.

use std::collections::BTreeMap;

use super::rules::{Evidence, Reruns, judge};
use crate::eval::artifact::FailureRecord;
use crate::eval::metrics::{dot, norm};
use crate::eval::timing::{Latency, Timing};
use crate::eval::trial::{Played, Subject, Trial};
use crate::sim::perturb::{Axis, Perturbations};
use crate::sim::rollout::{episode_seed, play_again};
use crate::sim::{Environment, Observation, Scripted, Turn};
use crate::{Error, Result};

/// The range of measurements that a policy was trained on.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingRange {
    /// The vector's key.
    pub key: String,
    /// Least value of each component.
    pub low: Vec<f32>,
    /// Greatest value of each component.
    pub high: Vec<f32>,
}

/// Where a disturbance comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Start,
    Seen,
    Done,
    Late,
}

fn stage(axis: Axis) -> Stage {
    match axis {
        Axis::ResetShift => Stage::Start,
        Axis::ObservationNoise
        | Axis::Occlusion
        | Axis::DroppedFrames
        | Axis::StaleFrames
        | Axis::WrongFrame => Stage::Seen,
        Axis::ActionNoise | Axis::Saturation | Axis::Speed | Axis::Mass | Axis::Gravity | Axis::Shove => {
            Stage::Done
        }
        Axis::ActionDelay | Axis::ControlRate => Stage::Late,
    }
}

/// What failures are judged by.
pub struct Diagnosis<'a> {
    /// The evaluation.
    pub trial: Trial<'a>,
    /// The environment without disturbances.
    pub plain: &'a dyn Environment,
    /// What disturbs the evaluation's.
    pub perturbations: &'a Perturbations,
    /// What measurements the policy was trained on, where that is known.
    pub training: Option<&'a TrainingRange>,
}

impl Diagnosis<'_> {
    /// A record for every failed episode of those that were played.
    ///
    /// # Errors
    /// As [`Trial::play`].
    pub fn of(&self, subject: &mut Subject<'_>, played: &[Played]) -> Result<BTreeMap<usize, FailureRecord>> {
        let failed: Vec<&Played> = played.iter().filter(|played| !played.episode.success).collect();
        let episodes: Vec<usize> = failed.iter().map(|played| played.episode.index).collect();
        if episodes.is_empty() {
            return Ok(BTreeMap::new());
        }
        let reruns = self.reruns(subject, &episodes)?;
        let pictures_disturbed = self.pictures_disturbed();
        let judged = failed.iter().zip(reruns).map(|(played, reruns)| {
            let (agreement, outside_training) = self.watched_again(played)?;
            let evidence = Evidence { reruns, pictures_disturbed, agreement, outside_training };
            Ok((played.episode.index, judge(&evidence)))
        });
        judged.collect()
    }

    /// Whether pictures show something else than what is there.
    fn pictures_disturbed(&self) -> bool {
        let pictures = self.plain.spec().observations.iter().any(|feature| feature.is_image());
        let level = |axis| self.perturbations.level(axis) != 0.0;
        pictures && (level(Axis::ObservationNoise) || level(Axis::Occlusion))
    }

    fn reruns(&self, subject: &mut Subject<'_>, episodes: &[usize]) -> Result<Vec<Reruns>> {
        let now = self.trial.timing;
        let timely = Timing { latency: Latency::Steps(0), ..now };
        let slow = now.latency != Latency::Steps(0);
        let networks = matches!(subject, Subject::Planner(_));
        let without = |gone: Stage| {
            let mut kept = self.perturbations.clone();
            kept.all.retain(|perturbation| stage(perturbation.axis) != gone);
            (kept != *self.perturbations).then_some(kept)
        };
        let expert = self.again(&mut Subject::Rule(Scripted::Expert), self.plain, now, episodes)?;
        let mut all: Vec<Reruns> =
            expert.into_iter().map(|saved| Reruns { expert: Some(saved), ..Reruns::default() }).collect();
        let mut keep = |saved: Vec<bool>, of: fn(&mut Reruns) -> &mut Option<bool>| {
            all.iter_mut().zip(saved).for_each(|(reruns, saved)| *of(reruns) = Some(saved));
        };
        let undisturbed = match slow || !self.perturbations.is_none() {
            true => Some(self.again(subject, self.plain, timely, episodes)?),
            false => None,
        };
        // Where nothing is left that disturbs, that is the rerun which was made already.
        let under = |kept: &Perturbations, timing: Timing, subject: &mut Subject<'_>| match &undisturbed {
            Some(known) if kept.is_none() && timing == timely => Ok(known.clone()),
            _ => {
                let environment = kept.apply(self.plain.fresh())?;
                self.again(subject, environment.as_ref(), timing, episodes)
            }
        };
        if let Some(kept) = without(Stage::Late).or_else(|| slow.then(|| self.perturbations.clone())) {
            keep(under(&kept, timely, subject)?, |r| &mut r.without_delay);
        }
        for (gone, of) in [
            (Stage::Seen, (|r| &mut r.true_observation) as fn(&mut Reruns) -> &mut Option<bool>),
            (Stage::Done, |r| &mut r.faithful_actions),
            (Stage::Start, |r| &mut r.ordinary_start),
        ] {
            if let Some(kept) = without(gone) {
                keep(under(&kept, now, subject)?, of);
            }
        }
        if without(Stage::Seen).is_some()
            && let Some(saved) = self.expert_seeing(episodes)?
        {
            keep(saved, |r| &mut r.expert_seeing);
        }
        if networks && now.n_action_steps != Some(1) {
            let often = Timing { n_action_steps: Some(1), ..timely };
            keep(self.again(subject, self.trial.environment, often, episodes)?, |r| &mut r.replanning);
        }
        if let Some(saved) = undisturbed {
            keep(saved, |r| &mut r.undisturbed);
        }
        Ok(all)
    }

    /// Whether each of these episodes succeeds in that environment with that timing.
    fn again(
        &self,
        subject: &mut Subject<'_>,
        environment: &dyn Environment,
        timing: Timing,
        episodes: &[usize],
    ) -> Result<Vec<bool>> {
        let trial = Trial { environment, timing, ..self.trial };
        let played = trial.play(subject, episodes, &mut |_, _| ())?;
        Ok(played.iter().map(|played| played.episode.success).collect())
    }

    /// The same for an expert that knows what the policy is shown; none where that is not enough for it.
    fn expert_seeing(&self, episodes: &[usize]) -> Result<Option<Vec<bool>>> {
        let mut seen = Observation::default();
        let mut blind = false;
        let mut decide = |turns: &[Turn<'_>]| {
            let decided = turns.iter().map(|turn| {
                turn.environment.observe(&mut seen);
                let action = turn.environment.expert_seeing(&seen);
                blind |= action.is_none();
                action.ok_or_else(|| Error::failure("an observation does not tell the expert enough"))
            });
            decided.collect()
        };
        let trial = self.trial;
        let played = trial.play(&mut Subject::Driver(&mut decide), episodes, &mut |_, _| ());
        match played {
            Err(_) if blind => Ok(None),
            played => Ok(Some(played?.iter().map(|played| played.episode.success).collect())),
        }
    }

    /// What an episode shows when it is played again: the mean cosine of its decisions to the expert's in the same state, and
    /// the share of its steps whose measurements lie outside of what the policy was trained on, where that is known.
    fn watched_again(&self, played: &Played) -> Result<(f64, Option<f64>)> {
        let seed = episode_seed(self.trial.seed, played.episode.index);
        let actions = &played.episode.actions;
        let (mut agreed, mut decisions, mut outside) = (0.0, 0_usize, 0_usize);
        let mut seen = Observation::default();
        play_again(self.trial.environment, seed, actions, &mut |environment, step| {
            if let Some(action) = actions.get(step).filter(|_| environment.takes_decision()) {
                agreed += agreement(action, &environment.expert_action());
                decisions += 1;
            }
            if let Some(TrainingRange { key, low, high }) = self.training {
                environment.observe(&mut seen);
                let range = low.iter().zip(high);
                let inside =
                    seen.vector(key).iter().zip(range).all(|(v, (low, high))| (*low..=*high).contains(v));
                outside += usize::from(!inside);
            }
            Ok(())
        })?;
        let share = outside as f64 / (actions.len() + 1) as f64;
        Ok((agreed / decisions.max(1) as f64, self.training.map(|_| share)))
    }
}

/// The cosine of two actions; 1 where both stand still, 0 where one does.
fn agreement(ours: &[f64], experts: &[f64]) -> f64 {
    match (norm(ours), norm(experts)) {
        (0.0, 0.0) => 1.0,
        (a, b) if a > 0.0 && b > 0.0 => dot(ours, experts) / (a * b),
        _ => 0.0,
    }
}
