//! The metrics of every task, and their aggregation.
//!
//! Pursuit's formulas are those of pi-e's `eval/run.py`; norms are Euclidean, ε is 1e-8 and keeps 0/0 at 0.

use super::general::{recovery_steps, smoothness};
use super::verdict::Direction;
use crate::sim::Episode;
use crate::sim::command::CHANGE;
use crate::sim::pendulum::{TOLERANCE, normalised};
use crate::sim::pursuit::MAX_ACTION;

const EPSILON: f64 = 1e-8;

/// The metrics of an episode of that environment: its own, `smoothness`, and, where the body was shoved,
/// `recovery_steps`.
pub fn measure(environment: &str, episode: &Episode) -> Vec<(&'static str, f64)> {
    let mut metrics = of_task(environment, episode);
    metrics.push(("smoothness", smoothness(episode)));
    metrics.extend(recovery_steps(episode).map(|steps| ("recovery_steps", steps)));
    metrics
}

fn of_task(environment: &str, episode: &Episode) -> Vec<(&'static str, f64)> {
    match environment {
        "pursuit" | "pursuit-cameras" => Pursuit::of(episode).named(),
        "pursuit-two" => pursuit_two(episode),
        "pendulum" => pendulum(episode),
        "pendulum-goal" => pendulum_goal(episode),
        "command" => command(episode),
        _ => vec![
            ("return", episode.rewards.iter().sum()),
            ("steps", episode.actions.len() as f64),
            ("completed", f64::from(episode.success)),
        ],
    }
}

/// One pursuit episode of T steps, measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pursuit {
    /// T, whether or not the ball was caught: the horizon stands for a failure.
    pub steps_to_capture: f64,
    /// Length of the effector's path over the distance between its ends plus ε: 1 is a straight line.
    pub path_inefficiency: f64,
    /// Mean cosine between successive actions, aₜ·aₜ₋₁ / (‖aₜ‖‖aₜ₋₁‖ + ε); 1 if there is no pair.
    pub direction_consistency: f64,
    /// Mean of ‖aₜ − aₜ₋₁‖ / (‖aₜ‖ + ‖aₜ₋₁‖ + ε); 0 if there is no pair. Smaller is smoother.
    pub magnitude_continuity: f64,
    /// Length of the effector's path, px.
    pub trajectory_length: f64,
    /// 1 if the ball was caught, else 0.
    pub completed: f64,
}

impl Pursuit {
    /// The metrics of one episode.
    pub fn of(episode: &Episode) -> Self {
        let positions = &episode.positions;
        let trajectory_length = positions.windows(2).map(|pair| distance(&pair[1], &pair[0])).sum();
        let ends = match (positions.first(), positions.last()) {
            (Some(first), Some(last)) => distance(first, last),
            _ => 0.0,
        };
        let pairs = || episode.executed.windows(2).map(|pair| (&pair[1][..], &pair[0][..]));
        let cosine = |(a, b): (&[f64], &[f64])| dot(a, b) / (norm(a) * norm(b) + EPSILON);
        let change = |(a, b): (&[f64], &[f64])| distance(a, b) / (norm(a) + norm(b) + EPSILON);
        Self {
            steps_to_capture: episode.actions.len() as f64,
            path_inefficiency: trajectory_length / (ends + EPSILON),
            direction_consistency: mean(pairs().map(cosine)).unwrap_or(1.0),
            magnitude_continuity: mean(pairs().map(change)).unwrap_or(0.0),
            trajectory_length,
            completed: f64::from(episode.success),
        }
    }

    /// The metrics under their published names.
    pub fn named(&self) -> Vec<(&'static str, f64)> {
        vec![
            ("steps_to_capture", self.steps_to_capture),
            ("path_inefficiency", self.path_inefficiency),
            ("direction_consistency", self.direction_consistency),
            ("magnitude_continuity", self.magnitude_continuity),
            ("trajectory_length", self.trajectory_length),
            ("completed", self.completed),
        ]
    }
}

/// Steps at the end of an episode in which a task that never ends should be solved.
const SETTLED: usize = 50;

/// The metrics of a pendulum's episode, from its positions `[θ in ±π, θ̇]`.
///
/// - `return`: the sum of rewards.
/// - `upright`: share of the last 50 steps that end with |θ| < 0.2.
/// - `solved`: 1 if the return is above −200, the rule of the seed `flow_matching_pendulum`.
pub fn pendulum(episode: &Episode) -> Vec<(&'static str, f64)> {
    let total: f64 = episode.rewards.iter().sum();
    let upright = settled(episode).map(|position| f64::from(position[0].abs() < TOLERANCE));
    vec![("return", total), ("upright", mean(upright).unwrap_or(0.0)), ("solved", f64::from(total > -200.0))]
}

/// The metrics of a pendulum with a goal, from its positions `[θ in ±π, θ̇, θ*]`.
///
/// - `return`: the sum of rewards.
/// - `on_target`: share of the last 50 steps that end with |θ − θ*| < 0.2.
/// - `target_error`: mean |θ − θ*| after those steps, rad.
/// - `completed`: 1 if the episode ends with |θ − θ*| < 0.2.
pub fn pendulum_goal(episode: &Episode) -> Vec<(&'static str, f64)> {
    let errors = || settled(episode).map(|position| normalised(position[0] - position[2]).abs());
    vec![
        ("return", episode.rewards.iter().sum()),
        ("on_target", mean(errors().map(|error| f64::from(error < TOLERANCE))).unwrap_or(0.0)),
        ("target_error", mean(errors()).unwrap_or(0.0)),
        ("completed", f64::from(episode.success)),
    ]
}

/// The metrics of a commanded walker, from its positions `[v, c]`.
///
/// - `return`: the sum of rewards.
/// - `tracking_error`: root of the mean ‖v − c‖² after the last 50 steps.
/// - `tracking_error_before`: the same before each of the last 50 steps under the first command.
/// - `completed`: 1 if the episode ends with ‖v − c‖ < 0.15.
pub fn command(episode: &Episode) -> Vec<(&'static str, f64)> {
    let error = |position: &[f64]| distance(&position[..3], &position[3..]).powi(2);
    let before = episode.positions.iter().take(CHANGE).skip(CHANGE - SETTLED);
    vec![
        ("return", episode.rewards.iter().sum()),
        ("tracking_error", mean(settled(episode).map(error)).unwrap_or(0.0).sqrt()),
        ("tracking_error_before", mean(before.map(|p| error(p))).unwrap_or(0.0).sqrt()),
        ("completed", f64::from(episode.success)),
    ]
}

/// An action whose cosine to what the expert would do is below this does not go for that ball.
const COMMITTED: f64 = 0.7;

/// The metrics of a pursuit of two balls, from its positions: effector, first ball, second ball.
///
/// - `steps_to_capture`: steps taken; the horizon stands for a failure.
/// - `indecision`: share of the steps whose action goes for neither ball: its cosine to what the expert does for the
///   one and for the other is below 0.7. Between two balls that lie apart, the mean of both ways is such an action.
/// - `completed`: 1 if a ball was caught.
pub fn pursuit_two(episode: &Episode) -> Vec<(&'static str, f64)> {
    let undecided = episode.executed.iter().zip(episode.positions.windows(2)).map(|(action, pair)| {
        // A ball's next place is where it would be without bounces: it turns after it has moved.
        let goes_for = |ball: usize| {
            let expert =
                [0, 1].map(|axis| (pair[1][ball + axis] - pair[0][axis]).clamp(-MAX_ACTION, MAX_ACTION));
            dot(action, &expert) / (norm(action) * norm(&expert) + EPSILON) >= COMMITTED
        };
        f64::from(!goes_for(2) && !goes_for(4))
    });
    vec![
        ("steps_to_capture", episode.actions.len() as f64),
        ("indecision", mean(undecided).unwrap_or(0.0)),
        ("completed", f64::from(episode.success)),
    ]
}

/// The positions after each of the last 50 steps, or after every step of a shorter episode.
fn settled(episode: &Episode) -> impl Iterator<Item = &[f64]> {
    let first = episode.actions.len().saturating_sub(SETTLED) + 1;
    episode.positions.iter().skip(first).map(Vec::as_slice)
}

/// Which values of a metric are the good ones.
pub fn direction(metric: &str) -> Direction {
    match metric {
        "return" | "upright" | "on_target" | "completed" | "solved" | "direction_consistency" => {
            Direction::LargerIsBetter
        }
        _ => Direction::SmallerIsBetter,
    }
}

/// Mean and spread over episodes.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Summary {
    /// The mean.
    pub mean: f64,
    /// The population's standard deviation (divided by n), as `numpy.std` computes it.
    pub std: f64,
}

impl Summary {
    /// Mean and population standard deviation in f64; both 0 for no values.
    pub fn of(values: &[f64]) -> Self {
        let average = mean(values.iter().copied()).unwrap_or(0.0);
        let variance = mean(values.iter().map(|v| (v - average).powi(2))).unwrap_or(0.0);
        Self { mean: average, std: variance.sqrt() }
    }
}

/// Summarises episodes by the names that any of them was measured by, in the order of the longest. A metric is of the
/// episodes that have it.
pub fn summarise(episodes: &[Vec<(&'static str, f64)>]) -> Vec<(&'static str, Summary)> {
    let names = episodes.iter().max_by_key(|row| row.len()).into_iter().flatten().map(|&(name, _)| name);
    names
        .map(|name| {
            let of = |row: &Vec<(&'static str, f64)>| Some(row.iter().find(|(known, _)| *known == name)?.1);
            let values: Vec<f64> = episodes.iter().filter_map(of).collect();
            (name, Summary::of(&values))
        })
        .collect()
}

pub(in crate::eval) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

pub(in crate::eval) fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum::<f64>().sqrt()
}

/// `None` for no values.
fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (count, sum) = values.fold((0_usize, 0.0), |(count, sum), v| (count + 1, sum + v));
    (count > 0).then(|| sum / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::command::JOINTS;
    use crate::sim::{Command, Pendulum, PendulumGoal, Pursuit as Arena, PursuitTwo, Scripted, rollout};

    fn evaluate(policy: Scripted, episodes: usize) -> Vec<(&'static str, Summary)> {
        let episodes = rollout(&Arena::new(0), 42, 0..episodes, 100, &mut policy.driver()).expect("runs");
        summarise(&episodes.iter().map(|episode| Pursuit::of(episode).named()).collect::<Vec<_>>())
    }

    #[test]
    fn the_expert_earns_the_published_row_to_every_digit() {
        // pi-e, notes/10_baseline_metrics.md: expert, 300 episodes, seeds 42 to 341, 100 steps.
        let row: Vec<String> = evaluate(Scripted::Expert, 300)
            .into_iter()
            .map(|(name, Summary { mean, std })| match name {
                "steps_to_capture" => format!("{name} {mean:.3} {std:.3}"),
                "trajectory_length" => format!("{name} {mean:.2} {std:.2}"),
                "completed" => format!("{name} {mean:.3}"),
                _ => format!("{name} {mean:.4} {std:.3}"),
            })
            .collect();
        assert_eq!(
            row,
            [
                "steps_to_capture 16.833 10.246",
                "path_inefficiency 1.0597 0.066",
                "direction_consistency 0.9821 0.029",
                "magnitude_continuity 0.0310 0.045",
                "trajectory_length 103.03 61.46",
                "completed 1.000",
            ]
        );
    }

    #[test]
    fn the_expert_agrees_with_a_numpy_twin_to_ten_digits() {
        // The same formulas in numpy 2.4.6 over the same 300 episodes.
        let reference = [
            (16.8333333333, 10.2455952595),
            (1.0597177632, 0.0662320804),
            (0.9821495639, 0.0290874384),
            (0.0309937403, 0.0451042838),
            (103.0316621651, 61.4608965230),
            (1.0, 0.0),
        ];
        for ((name, ours), (mean, std)) in evaluate(Scripted::Expert, 300).into_iter().zip(reference) {
            assert!((ours.mean - mean).abs() < 1e-9 && (ours.std - std).abs() < 1e-9, "{name}: {ours:?}");
        }
    }

    #[test]
    fn standing_still_completes_what_the_ball_brings() {
        for (episodes, share) in [(300, 0.15), (100, 0.12)] {
            let row = evaluate(Scripted::Noop, episodes);
            let (name, completed) = row[5];
            assert_eq!(name, "completed");
            assert!((completed.mean - share).abs() < 1e-12, "{completed:?}");
            assert_eq!(row[1].1.mean, 0.0, "no path, no inefficiency");
        }
    }

    #[test]
    fn the_pendulums_experts_earn_their_figures_to_every_digit() {
        // The rules in numpy on Gymnasium's equations; 42 to 141 are the seeds of an evaluation, on 200 to 299
        // policies trained on the rules are compared with them.
        let row = |policy: Scripted, seed| {
            let episodes = rollout(&Pendulum::new(0), seed, 0..100, 200, &mut policy.driver()).expect("runs");
            let row = summarise(&episodes.iter().map(|e| measure("pendulum", e)).collect::<Vec<_>>());
            let [total, upright, solved] = [row[0].1, row[1].1, row[2].1];
            format!("{:.1} ± {:.1}, {:.0} %, {:.2}", total.mean, total.std, 1e2 * upright.mean, solved.mean)
        };
        assert_eq!(row(Scripted::SeedExpert, 42), "-392.9 ± 308.5, 81 %, 0.35");
        assert_eq!(row(Scripted::Expert, 42), "-161.8 ± 82.4, 100 %, 0.69");
        assert_eq!(row(Scripted::SeedExpert, 200), "-312.8 ± 287.5, 89 %, 0.42");
        assert_eq!(row(Scripted::Expert, 200), "-142.7 ± 88.7, 100 %, 0.72");
    }

    #[test]
    fn the_expert_brings_every_pendulum_to_its_target() {
        let row = |policy: Scripted| {
            let arena = PendulumGoal::new(0);
            let episodes = rollout(&arena, 42, 0..100, 200, &mut policy.driver()).expect("runs");
            let row = summarise(&episodes.iter().map(|e| measure("pendulum-goal", e)).collect::<Vec<_>>());
            let own = row.iter().take(4);
            own.map(|(name, summary)| format!("{name} {:.2}", summary.mean)).collect::<Vec<_>>()
        };
        assert_eq!(
            row(Scripted::Expert),
            ["return -118.11", "on_target 1.00", "target_error 0.00", "completed 1.00"]
        );
        // Hanging targets are near where a pendulum that nobody drives swings through.
        assert_eq!(row(Scripted::Noop)[3], "completed 0.13");
    }

    #[test]
    fn a_walkers_errors_before_and_after_the_change_tell_who_follows() {
        let row = |rule: fn(&Command) -> [f64; JOINTS]| {
            let episodes: Vec<_> = (0..50).map(|index| walk(Command::new(42 + index), rule)).collect();
            let row = summarise(&episodes.iter().map(|e| measure("command", e)).collect::<Vec<_>>());
            [row[1].1.mean, row[2].1.mean, row[3].1.mean]
        };
        let [after, before, completed] = row(|walker| walker.expert(walker.command()));
        assert!(after < 0.06 && before < 0.06 && completed == 1.0, "{after}, {before}, {completed}");
        let [after, before, completed] = row(|walker| walker.expert(walker.commands[0]));
        assert!(after > 0.8 && before < 0.06 && completed < 0.1, "{after}, {before}, {completed}");
    }

    fn walk(mut walker: Command, rule: fn(&Command) -> [f64; JOINTS]) -> Episode {
        let mut episode = Episode::begin(0, &walker);
        for _ in 0..200 {
            let action = rule(&walker).to_vec();
            episode.advance(&mut walker, action).expect("a valid action");
        }
        episode
    }

    #[test]
    fn who_goes_between_two_balls_is_undecided() {
        let arena = PursuitTwo::new(0);
        let row = |episodes: Vec<Episode>| {
            let row = summarise(&episodes.iter().map(|e| measure("pursuit-two", e)).collect::<Vec<_>>());
            row.into_iter().map(|(_, summary)| summary.mean).collect::<Vec<_>>()
        };
        let expert = row(rollout(&arena, 42, 0..300, 100, &mut Scripted::Expert.driver()).expect("runs"));
        assert!(expert[0] < 20.0 && expert[1] == 0.0 && expert[2] == 1.0, "{expert:?}");
        // The mean of what both experts do, as a policy that averages would.
        let between: Vec<Episode> = (42..342)
            .map(|seed| {
                let mut two = PursuitTwo::new(seed);
                let mut episode = Episode::begin(0, &two);
                while episode.actions.len() < 100 && !episode.success {
                    let [one, other] = two.arenas.each_ref().map(|arena| arena.expert());
                    let action = [0, 1].map(|axis| (one[axis] + other[axis]) / 2.0);
                    episode.advance(&mut two, action.to_vec()).expect("a valid action");
                }
                episode
            })
            .collect();
        let between = row(between);
        assert!(between[0] > 30.0 && between[1] > 0.2 && between[2] < 0.95, "{between:?}");
    }

    #[test]
    fn one_step_has_no_pairs() {
        let mut arena = Arena { effector: [100.0; 2], ..Arena::new(0) };
        let mut episode = Episode::begin(0, &arena);
        episode.advance(&mut arena, vec![3.0, 4.0]).expect("a valid action");
        let metrics = Pursuit::of(&episode);
        assert_eq!((metrics.direction_consistency, metrics.magnitude_continuity), (1.0, 0.0));
        assert!((metrics.path_inefficiency - 1.0).abs() < 1e-8);
        assert_eq!(metrics.trajectory_length, 5.0);
    }
}
