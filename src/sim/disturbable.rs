//! What can be disturbed about an environment, and on which scales: data beside its dynamics.

use super::Observation;

/// Something that dynamics depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    /// How fast that is which the controlled body follows.
    Speed,
    /// How heavy the controlled body is.
    Mass,
    /// How strongly it is pulled away.
    Gravity,
}

/// Where a coordinate frame that is off by some angle shows.
#[derive(Debug, Clone, Copy)]
pub enum Frame {
    /// In what is executed: turns an action `[dim]` by so many rad.
    Executed(fn(&mut [f64], f64)),
    /// In what is seen: turns an observation by so many rad.
    Seen(fn(&mut Observation, f64)),
}

/// How the controlled body can be pushed in mid-episode.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shove {
    /// The unit of its size.
    pub unit: &'static str,
    /// Sizes worth trying, ascending from 0.
    pub levels: [f64; 4],
}

/// What an environment has that can be disturbed.
#[derive(Debug, Clone, Copy)]
pub struct Disturbable {
    /// What [`Environment::set_dynamics`](super::Environment::set_dynamics) changes.
    pub dynamics: &'static [Quantity],
    /// Whether [`Environment::shift_reset`](super::Environment::shift_reset) moves anything.
    pub shifts: bool,
    /// What [`Environment::shove`](super::Environment::shove) does; none where it does nothing.
    pub shove: Option<Shove>,
    /// Where a wrong frame shows; none where there is no frame.
    pub frame: Option<Frame>,
    /// Of seen vectors by key: the full scale of every component, which noise is measured in. 1 where none is given.
    pub scales: &'static [(&'static str, &'static [f32])],
}

impl Disturbable {
    /// What has nothing of its own to disturb: actions and observations still can be.
    pub const NOTHING: Self = Self { dynamics: &[], shifts: false, shove: None, frame: None, scales: &[] };

    /// The full scale of a component of the vector of that key.
    pub fn scale(&self, key: &str, component: usize) -> f32 {
        let of = self.scales.iter().find(|(known, _)| *known == key);
        of.and_then(|(_, scales)| scales.get(component)).map_or(1.0, |scale| *scale)
    }
}

/// The vector that begins at `x`, `y`, turned counter-clockwise where y points up.
pub(super) fn turned([x, y]: [f64; 2], radians: f64) -> [f64; 2] {
    let (sin, cos) = radians.sin_cos();
    [cos * x - sin * y, sin * x + cos * y]
}

/// Turns the first two components of a seen vector.
pub(super) fn turn_seen(vector: &mut [f32], radians: f64) {
    if let [x, y, ..] = vector {
        [*x, *y] = turned([*x, *y].map(f64::from), radians).map(|v| v as f32);
    }
}
