//! Episodes built to trigger each rule.

use super::*;
use crate::eval::planner::{Planned, Planner, Request};
use crate::eval::timing::Timing;
use crate::eval::trial::{Subject, Trial};
use crate::policy::Chunking;
use crate::sim::{Axis, Observation, Perturbation, Perturbations, Scripted, Turn, make};
use crate::{Result, eval::artifact::FailureRecord};

/// A case: where, disturbed how, for how many steps.
struct Case {
    environment: &'static str,
    disturbed: Vec<(Axis, f64)>,
    horizon: usize,
}

impl Case {
    /// The records of the failed ones of twelve episodes.
    fn failures(&self, subject: &mut Subject<'_>, timing: Timing) -> Vec<FailureRecord> {
        let plain = make(self.environment).expect("known");
        let all = self.disturbed.iter().map(|&(axis, level)| Perturbation { axis, level }).collect();
        let perturbations = Perturbations { all, seed: 0, first: 42 };
        let environment = perturbations.apply(plain.fresh()).expect("fits");
        let trial = Trial { environment: environment.as_ref(), timing, seed: 42, horizon: self.horizon };
        let diagnosis =
            Diagnosis { trial, plain: plain.as_ref(), perturbations: &perturbations, training: None };
        let episodes: Vec<usize> = (0..12).collect();
        let played = trial.play(subject, &episodes, &mut |_, _| ()).expect("plays");
        let found = diagnosis.of(subject, &played).expect("judges");
        assert!(!found.is_empty(), "{}: no episode failed", self.environment);
        found.into_values().collect()
    }

    /// The labels of the expert's failures, which must all be the same.
    fn label(&self) -> Label {
        let all = self.failures(&mut Subject::Rule(Scripted::Expert), Timing::NONE);
        assert!(all.iter().all(|record| record.label == all[0].label), "{all:?}");
        all[0].label
    }
}

fn case(environment: &'static str, disturbed: &[(Axis, f64)], horizon: usize) -> Case {
    Case { environment, disturbed: disturbed.to_vec(), horizon }
}

#[test]
fn what_even_the_expert_cannot_do_is_the_evaluations_fault() {
    assert_eq!(case("pursuit", &[], 2).label(), Label::Evaluation);
}

#[test]
fn actions_that_come_after_the_episode_are_late() {
    assert_eq!(case("pursuit", &[(Axis::ActionDelay, 100.0)], 100).label(), Label::Timing);
}

#[test]
fn an_expert_that_is_shown_grey_pictures_does_not_perceive() {
    assert_eq!(case("pursuit", &[(Axis::Occlusion, 1.0)], 60).label(), Label::Perception);
}

#[test]
fn an_angle_from_another_frame_is_a_wrong_estimate() {
    assert_eq!(case("pendulum", &[(Axis::WrongFrame, 90.0)], 200).label(), Label::StateEstimation);
    assert_eq!(case("pendulum", &[(Axis::Occlusion, 1.0)], 200).label(), Label::StateEstimation);
}

#[test]
fn motors_without_strength_do_not_carry_out_what_was_decided() {
    assert_eq!(case("pendulum", &[(Axis::Saturation, 1.0)], 200).label(), Label::Control);
}

#[test]
fn a_start_from_farther_away_than_ever_is_outside_the_data() {
    let found = case("pursuit", &[(Axis::ResetShift, 1.0)], 26)
        .failures(&mut Subject::Rule(Scripted::Expert), Timing::NONE);
    assert!(found.iter().any(|record| record.label == Label::DataCoverage), "{found:?}");
    // Those that the expert cannot do from the ordinary start either are not.
    assert!(
        found.iter().all(|record| matches!(record.label, Label::DataCoverage | Label::Evaluation)),
        "{found:?}"
    );
}

#[test]
fn who_stands_still_has_a_wrong_plan() {
    let found = case("pursuit", &[], 100).failures(&mut Subject::Rule(Scripted::Noop), Timing::NONE);
    assert!(found.iter().all(|record| record.label == Label::Planning), "{found:?}");
    assert_eq!(found[0].reruns["expert"], true);
}

#[test]
fn who_decides_as_the_expert_does_but_hardly_moves_stays_unlabelled() {
    let mut timid = |turns: &[Turn<'_>]| {
        let action = |turn: &Turn<'_>| turn.environment.expert_action().iter().map(|v| 0.1 * v).collect();
        Ok(turns.iter().map(action).collect())
    };
    let found = case("pursuit", &[], 40).failures(&mut Subject::Driver(&mut timid), Timing::NONE);
    assert!(found.iter().all(|record| record.label == Label::Unlabelled), "{found:?}");
}

/// Chunks of thirty times what the expert does at a picture.
struct Stubborn {
    decided: std::collections::BTreeMap<usize, Vec<f64>>,
}

impl Planner for Stubborn {
    fn chunk_size(&self) -> usize {
        30
    }

    fn n_action_steps(&self) -> usize {
        30
    }

    fn reset(&mut self) -> Result<()> {
        Ok(())
    }

    fn see(&mut self, episodes: &[usize], seen: &[Observation]) -> Result<()> {
        let arena = make("pursuit")?;
        for (&episode, seen) in episodes.iter().zip(seen) {
            let decided = arena.expert_seeing(seen).unwrap_or_else(|| vec![0.0; 2]);
            self.decided.insert(episode, decided);
        }
        Ok(())
    }

    fn plan(&mut self, requests: &[Request], _: Chunking) -> Result<Vec<Planned>> {
        let chunk = |request: &Request| {
            let action: Vec<f32> = self.decided[&request.episode].iter().map(|&v| v as f32).collect();
            Planned { actions: action.repeat(30), normalized: Vec::new(), evaluations: 0 }
        };
        Ok(requests.iter().map(chunk).collect())
    }
}

#[test]
fn chunks_that_are_executed_for_too_long_are_a_matter_of_timing() {
    let mut stubborn = Stubborn { decided: std::collections::BTreeMap::new() };
    let found = case("pursuit", &[], 100).failures(&mut Subject::Planner(&mut stubborn), Timing::NONE);
    assert!(found.iter().all(|record| record.label == Label::Timing), "{found:?}");
    assert!(found.iter().all(|record| record.reruns["replanning"] == true));
}

#[test]
fn measurements_beyond_the_training_data_are_seen_in_the_trace() {
    let plain = make("pendulum").expect("known");
    let perturbations = Perturbations::default();
    let trial = Trial { environment: plain.as_ref(), timing: Timing::NONE, seed: 42, horizon: 200 };
    // Trained near the top alone, as its statistics say.
    let near = TrainingRange {
        key: "observation.state".to_owned(),
        low: vec![0.5, -0.8, -1.0],
        high: vec![1.0, 0.8, 1.0],
    };
    let label = |training| {
        let diagnosis = Diagnosis { trial, plain: plain.as_ref(), perturbations: &perturbations, training };
        let mut noop = Subject::Rule(Scripted::Noop);
        let played = trial.play(&mut noop, &[0, 1, 2], &mut |_, _| ()).expect("plays");
        let found = diagnosis.of(&mut noop, &played).expect("judges");
        found.into_values().next().expect("it fell").label
    };
    assert_eq!(label(Some(&near)), Label::DataCoverage);
    assert_eq!(label(None), Label::Planning);
}
