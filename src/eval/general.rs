//! Metrics that every task has.

use crate::sim::{Episode, Spec, command, pendulum, pursuit};

/// Steps for which a recovery must last.
const LASTING: usize = 3;

/// Mean of ‖aₜ − aₜ₋₁‖ / ‖high − low‖ over what was executed; 0 if there is no pair. Smaller is smoother.
pub fn smoothness(episode: &Episode) -> f64 {
    let Spec { low, high, .. } = episode.spec;
    let range = apart(high, low);
    let pairs = episode.executed.windows(2);
    let (count, sum) = (pairs.len(), pairs.map(|pair| apart(&pair[1], &pair[0])).sum::<f64>());
    if count == 0 || range == 0.0 { 0.0 } else { sum / (count as f64 * range) }
}

/// Steps from a shove to the first of three in a row after which the distance is below what it was right after the
/// shove, or within the task's tolerance (a kick need not move a body at once). Where an episode ends solved, fewer
/// than three will do. All that was left of the episode if that never happens; none where there was no shove.
pub fn recovery_steps(episode: &Episode) -> Option<f64> {
    let at = episode.shoved_at?;
    let after = episode.distances.get(at + 1..)?;
    let limit = episode.distances[at].max(tolerance(episode.spec.name));
    let is_lasting = |first: &usize| {
        let rest = &after[*first..];
        (rest.len() >= LASTING || episode.success) && rest.iter().take(LASTING).all(|d| *d < limit)
    };
    let never = after.len();
    Some((0..never).find(is_lasting).map_or(never, |first| first + 1) as f64)
}

/// How near is solved, in the unit of [`Environment::distance`](crate::sim::Environment::distance).
fn tolerance(environment: &str) -> f64 {
    match environment {
        "pursuit" | "pursuit-two" | "pursuit-cameras" => pursuit::CAPTURE_RADIUS,
        "pendulum" | "pendulum-goal" => pendulum::TOLERANCE,
        "command" => command::TOLERANCE,
        _ => 0.0,
    }
}

fn apart(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{Pendulum, Pursuit};

    #[test]
    fn a_change_from_end_to_end_of_all_components_is_a_smoothness_of_one() {
        let mut episode = Episode::begin(0, &Pursuit::new(0));
        assert_eq!(smoothness(&episode), 0.0);
        episode.executed = vec![vec![5.0, -5.0], vec![-5.0, 5.0]];
        assert_eq!(smoothness(&episode), 1.0);
        episode.executed.push(vec![-5.0, 5.0]);
        assert_eq!(smoothness(&episode), 0.5);
    }

    fn shoved(distances: &[f64], at: usize) -> Option<f64> {
        let shoved_at = Some(at);
        let distances = distances.to_vec();
        recovery_steps(&Episode { distances, shoved_at, ..Episode::begin(0, &Pendulum::at(0.0, 0.0)) })
    }

    #[test]
    fn a_recovery_is_three_steps_nearer_than_the_shove_left_the_body() {
        assert_eq!(shoved(&[2.0, 3.0, 3.5, 2.9, 2.5, 2.0, 1.0], 1), Some(2.0));
        assert_eq!(shoved(&[2.0, 3.0, 2.9, 3.5, 2.9, 2.5, 2.0], 1), Some(3.0), "once is no recovery");
        assert_eq!(shoved(&[2.0, 3.0, 3.5, 3.6, 3.7, 2.9, 2.8], 1), Some(5.0), "two are none");
        assert_eq!(shoved(&[2.0, 3.0], 1), Some(0.0), "nothing was left");
        // A kick of what is upright: the angle leaves the tolerance of 0.2 rad and comes back.
        assert_eq!(shoved(&[0.0, 0.0, 0.1, 0.3, 0.4, 0.3, 0.1, 0.05, 0.02], 1), Some(5.0));
        assert_eq!(shoved(&[0.0, 0.0, 0.1, 0.15, 0.1, 0.05], 1), Some(1.0), "it never left");
        assert_eq!(recovery_steps(&Episode::begin(0, &Pendulum::at(0.0, 0.0))), None);
    }

    #[test]
    fn an_episode_that_ends_solved_has_recovered() {
        let distances = vec![30.0, 60.0, 62.0, 20.0, 14.0];
        let episode = Episode { distances, shoved_at: Some(1), ..Episode::begin(0, &Pursuit::new(0)) };
        assert_eq!(recovery_steps(&episode), Some(3.0));
        assert_eq!(recovery_steps(&Episode { success: true, ..episode }), Some(2.0));
    }
}
