//! The way of an observation from the environment to the policy.

use std::collections::VecDeque;
use std::ops::Range;

use super::{Axis, Draws, Perturbations};
use crate::rng::Rng;
use crate::sim::disturbable::Frame;
use crate::sim::{Disturbable, ENVIRONMENT_STATE, Environment, Feature, Observation, STATE, Spec};

/// What covers a part of a picture.
const GREY: u8 = 128;

/// Turns an observation by so many rad.
type Turn = fn(&mut Observation, f64);

/// What stands between an environment and who looks at it.
pub(super) struct Seeing {
    turn: Option<(Turn, f64)>,
    /// Standard deviation as a share of full scale.
    noise: f64,
    /// Share that is hidden.
    occlusion: f64,
    /// Share that does not arrive.
    dropped: f64,
    /// Steps by which what arrived is seen late.
    stale: usize,
    /// What is hidden in this episode.
    hidden: Vec<Hidden>,
    /// What arrived, the newest last: what is seen is the first.
    arrived: VecDeque<Observation>,
}

/// What is hidden of one feature in an episode.
enum Hidden {
    /// Rows and columns of a picture of `[height, width]`.
    Patch { key: &'static str, size: [usize; 2], rows: Range<usize>, columns: Range<usize> },
    /// Components of a vector.
    Components { key: &'static str, which: Vec<usize> },
}

impl Seeing {
    /// None where all is seen as it is.
    pub fn new(environment: &dyn Environment, perturbations: &Perturbations) -> Option<Self> {
        let angle = perturbations.level(Axis::WrongFrame).to_radians();
        let turn = match environment.disturbable().frame {
            Some(Frame::Seen(turn)) if angle != 0.0 => Some((turn, angle)),
            _ => None,
        };
        let seeing = Self {
            turn,
            noise: perturbations.level(Axis::ObservationNoise),
            occlusion: perturbations.level(Axis::Occlusion),
            dropped: perturbations.level(Axis::DroppedFrames),
            stale: perturbations.level(Axis::StaleFrames) as usize,
            hidden: Vec::new(),
            arrived: VecDeque::new(),
        };
        let clear = seeing.noise == 0.0 && seeing.occlusion == 0.0 && seeing.dropped == 0.0;
        (!clear || seeing.stale > 0 || turn.is_some()).then_some(seeing)
    }

    /// The first look of an episode.
    pub fn begin(&mut self, environment: &dyn Environment, draws: &Draws) {
        let mut rng = draws.once(Axis::Occlusion);
        self.hidden.clear();
        if self.occlusion > 0.0 {
            self.hidden = hidden(environment.spec(), self.occlusion, &mut rng);
        }
        self.arrived.clear();
        self.look(environment, 0, draws);
    }

    /// The look after so many steps. The first one always arrives.
    pub fn look(&mut self, environment: &dyn Environment, step: usize, draws: &Draws) {
        let is_lost = self.dropped > 0.0 && draws.at(Axis::DroppedFrames, step).uniform() < self.dropped;
        let now = match self.arrived.back() {
            Some(last) if is_lost => last.clone(),
            _ => self.disturbed(environment, step, draws),
        };
        self.arrived.push_back(now);
        if self.arrived.len() > self.stale + 1 {
            self.arrived.pop_front();
        }
    }

    /// What is seen; none before the first look.
    pub fn seen(&self) -> Option<&Observation> {
        self.arrived.front()
    }

    /// What is sent on its way now.
    fn disturbed(&self, environment: &dyn Environment, step: usize, draws: &Draws) -> Observation {
        let mut now = Observation::default();
        environment.observe(&mut now);
        if let Some((turn, angle)) = self.turn {
            turn(&mut now, angle);
        }
        if self.noise > 0.0 {
            let mut rng = draws.at(Axis::ObservationNoise, step);
            add_noise(&mut now, self.noise, environment.disturbable(), &mut rng);
        }
        self.hidden.iter().for_each(|hidden| hidden.hide(&mut now));
        now
    }
}

/// Noise on every byte of pictures and every component of vectors, in their order.
fn add_noise(observation: &mut Observation, sigma: f64, disturbable: &Disturbable, rng: &mut Rng) {
    for (_, planes) in &mut observation.pictures {
        for value in planes {
            // The cast rounds down and keeps to 0 to 255.
            *value = (f64::from(*value) + 255.0 * sigma * rng.normal()).round() as u8;
        }
    }
    for (key, vector) in
        [(STATE, &mut observation.state), (ENVIRONMENT_STATE, &mut observation.environment_state)]
    {
        for (component, value) in vector.iter_mut().enumerate() {
            *value += (sigma * rng.normal()) as f32 * disturbable.scale(key, component);
        }
    }
}

/// Draws what is hidden of every feature: a patch of a picture's proportions somewhere inside of it, components of a vector
/// each by chance.
fn hidden(spec: &Spec, share: f64, rng: &mut Rng) -> Vec<Hidden> {
    let part = |whole: usize, rng: &mut Rng| {
        let length = (whole as f64 * share.sqrt()).round() as usize;
        let start = rng.below((whole - length) as u32 + 1) as usize;
        start..start + length
    };
    let mut of = |feature: &Feature| match *feature.shape {
        [_, height, width] => {
            let (rows, columns) = (part(height, rng), part(width, rng));
            Hidden::Patch { key: feature.key, size: [height, width], rows, columns }
        }
        _ => {
            let length: usize = feature.shape.iter().product();
            let which = (0..length).filter(|_| rng.uniform() < share).collect();
            Hidden::Components { key: feature.key, which }
        }
    };
    spec.observations.iter().map(&mut of).collect()
}

impl Hidden {
    fn hide(&self, observation: &mut Observation) {
        match self {
            Self::Patch { key, size: [height, width], rows, columns } => {
                let planes = observation.picture_mut(key);
                for plane in planes.chunks_exact_mut(height * width) {
                    for line in plane.chunks_exact_mut(*width).take(rows.end).skip(rows.start) {
                        line[columns.clone()].fill(GREY);
                    }
                }
            }
            Self::Components { key, which } => {
                let vector = match *key {
                    STATE => &mut observation.state,
                    _ => &mut observation.environment_state,
                };
                which.iter().for_each(|at| vector[*at] = 0.0);
            }
        }
    }
}
