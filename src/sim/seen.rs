//! What a picture of an arena shows of places: for experts that know only what was seen.

use super::pursuit::{MAX_ACTION, OBSERVED};

/// Redder, or bluer, than the mean of the other channels by this much: half of full scale.
const COLOURED: f64 = 128.0;
/// Diameter of a ball, px of the arena.
const BALL: f64 = 20.0;

/// Places of coloured pixels in the planes `[3, 128, 128]` of an arena at half size, as px of the arena.
pub(super) struct Places {
    /// Every red pixel.
    pub red: Vec<[f64; 2]>,
    /// Every blue pixel.
    pub blue: Vec<[f64; 2]>,
}

impl Places {
    /// Reads a picture.
    pub fn of(planes: &[u8]) -> Self {
        let mut places = Self { red: Vec::new(), blue: Vec::new() };
        let plane = OBSERVED * OBSERVED;
        let [Some(red), Some(green), Some(blue)] =
            [0, 1, 2].map(|channel| planes.get(channel * plane..(channel + 1) * plane))
        else {
            return places;
        };
        for (index, ((&red, &green), &blue)) in red.iter().zip(green).zip(blue).enumerate() {
            // A pixel covers two of the arena: its middle lies between them.
            let place = [index % OBSERVED, index / OBSERVED].map(|v| (2 * v + 1) as f64);
            let [red, green, blue] = [red, green, blue].map(f64::from);
            if red - (green + blue) / 2.0 > COLOURED {
                places.red.push(place);
            } else if blue - (red + green) / 2.0 > COLOURED {
                places.blue.push(place);
            }
        }
        places
    }

    /// The red pixels of one of several balls: within a ball's diameter of the one that is nearest to a place.
    pub fn nearest_ball(&self, [x, y]: [f64; 2]) -> Vec<[f64; 2]> {
        let apart = |a: &[f64; 2], b: [f64; 2]| (a[0] - b[0]).hypot(a[1] - b[1]);
        let nearest = self.red.iter().min_by(|a, b| apart(a, [x, y]).total_cmp(&apart(b, [x, y])));
        let near = |place: &&[f64; 2]| nearest.is_some_and(|nearest| apart(place, *nearest) < BALL);
        self.red.iter().filter(near).copied().collect()
    }
}

/// The middle of places; none of no places.
pub(super) fn centroid(places: &[[f64; 2]]) -> Option<[f64; 2]> {
    let n = places.len() as f64;
    let mean = |axis: usize| places.iter().map(|place| place[axis]).sum::<f64>() / n;
    (!places.is_empty()).then(|| [mean(0), mean(1)])
}

/// As far as bounds allow from the effector to where the ball is now: one picture shows no velocity. Who does not see
/// both stands still.
pub(super) fn chase(ball: Option<[f64; 2]>, effector: Option<[f64; 2]>) -> Vec<f64> {
    let (Some(ball), Some(effector)) = (ball, effector) else { return vec![0.0; 2] };
    [0, 1].map(|axis| (ball[axis] - effector[axis]).clamp(-MAX_ACTION, MAX_ACTION)).to_vec()
}
