//! How training draws times: five laws, each with its distribution function.

use serde_json::{Value, json};

use super::NoiseAt;
use crate::fields::Fields;
use crate::rng::Rng;
use crate::{Error, Result};

/// How times in [0, 1] are drawn while training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TimeLaw {
    /// U(0, 1).
    Uniform,
    /// scale · Beta(alpha, beta) + offset. π0 (arXiv 2410.24164) and LeRobot: 0.999 · Beta(1.5, 1) + 0.001 with noise
    /// at 1.
    Beta {
        /// First shape parameter.
        alpha: f64,
        /// Second shape parameter.
        beta: f64,
        /// Factor.
        scale: f64,
        /// Summand.
        offset: f64,
    },
    /// 1 / (1 + e^{−z}) with z from N(mean, std²): the middle of the path (Esser et al., arXiv 2403.03206).
    LogitNormal {
        /// Mean of the logit; above 0 leans towards t = 1.
        mean: f64,
        /// Standard deviation of the logit.
        std: f64,
    },
    /// The share of the way from noise to action is u^power, u from U(0, 1): towards the noise in either convention.
    /// A policy so trained can need a single step (arXiv 2606.05737).
    BiasedToNoise {
        /// 1 is uniform; more is nearer to the noise.
        power: f64,
    },
    /// Density proportional to cosh(sharpness (t − 1/2)): both ends (Lee et al., arXiv 2405.20320, sharpness 4).
    UShaped {
        /// Near 0 is uniform.
        sharpness: f64,
    },
}

impl TimeLaw {
    /// Draws a time.
    pub fn sample(&self, noise_at: NoiseAt, rng: &mut Rng) -> f64 {
        match *self {
            Self::Uniform => rng.uniform(),
            // Beta(a, 1) by its inverse distribution function u^(1/a).
            Self::Beta { alpha, beta: 1.0, scale, offset } => {
                scale * rng.uniform().powf(1.0 / alpha) + offset
            }
            // X / (X + Y) with X from Gamma(alpha, 1) and Y from Gamma(beta, 1).
            Self::Beta { alpha, beta, scale, offset } => {
                let (x, y) = (rng.log_gamma(alpha), rng.log_gamma(beta));
                scale * logistic(x - y) + offset
            }
            Self::LogitNormal { mean, std } => logistic(mean + std * rng.normal()),
            Self::BiasedToNoise { power } => {
                let share = rng.uniform().powf(power);
                match noise_at {
                    NoiseAt::Zero => share,
                    NoiseAt::One => 1.0 - share,
                }
            }
            Self::UShaped { sharpness } => {
                let ends = (sharpness / 2.0).sinh();
                (0.5 + ((2.0 * rng.uniform() - 1.0) * ends).asinh() / sharpness).clamp(0.0, 1.0)
            }
        }
    }

    /// The distribution function: the chance of a time up to `t`.
    pub fn distribution(&self, noise_at: NoiseAt, t: f64) -> f64 {
        let within = t.clamp(0.0, 1.0);
        match *self {
            Self::Uniform => within,
            Self::Beta { alpha, beta, scale, offset } => incomplete_beta(alpha, beta, (t - offset) / scale),
            Self::LogitNormal { mean, std } => {
                let z = ((within / (1.0 - within)).ln() - mean) / std;
                0.5 * libm::erfc(-z / std::f64::consts::SQRT_2)
            }
            Self::BiasedToNoise { power } => match noise_at {
                NoiseAt::Zero => within.powf(1.0 / power),
                NoiseAt::One => 1.0 - (1.0 - within).powf(1.0 / power),
            },
            Self::UShaped { sharpness } => {
                0.5 + (sharpness * (within - 0.5)).sinh() / (2.0 * (sharpness / 2.0).sinh())
            }
        }
    }

    /// Reads `flow.time_law`.
    pub(super) fn from_json(value: Value) -> Result<Self> {
        let unknown = |value: &Value| {
            Error::input(format!(
                "config.json: `flow.time_law` is {value}: use \"uniform\", {{\"beta\": [1.5, 1.0], \"scale\": 0.999, \
                 \"offset\": 0.001}}, {{\"logit_normal\": [0.0, 1.0]}}, {{\"biased_to_noise\": 2.0}} or \
                 {{\"u_shaped\": 4.0}}"
            ))
        };
        if value == "uniform" {
            return Ok(Self::Uniform);
        }
        if !value.is_object() {
            return Err(unknown(&value));
        }
        let mut fields = Fields::of(value.clone(), "config.json: `flow.time_law`")?;
        let law = if let Some([alpha, beta]) = fields.optional::<[f64; 2]>("beta")? {
            Self::Beta { alpha, beta, scale: fields.or("scale", 1.0)?, offset: fields.or("offset", 0.0)? }
        } else if let Some([mean, std]) = fields.optional::<[f64; 2]>("logit_normal")? {
            Self::LogitNormal { mean, std }
        } else if let Some(power) = fields.optional("biased_to_noise")? {
            Self::BiasedToNoise { power }
        } else if let Some(sharpness) = fields.optional("u_shaped")? {
            Self::UShaped { sharpness }
        } else {
            return Err(unknown(&value));
        };
        fields.finish(&[])?;
        law.check().map_err(|e| e.at("config.json"))?;
        Ok(law)
    }

    pub(super) fn to_json(self) -> Value {
        match self {
            Self::Uniform => json!("uniform"),
            Self::Beta { alpha, beta, scale, offset } => {
                json!({"beta": [alpha, beta], "scale": scale, "offset": offset})
            }
            Self::LogitNormal { mean, std } => json!({"logit_normal": [mean, std]}),
            Self::BiasedToNoise { power } => json!({"biased_to_noise": power}),
            Self::UShaped { sharpness } => json!({"u_shaped": sharpness}),
        }
    }

    /// # Errors
    /// Names the parameter that is of no use, or whose times would leave [0, 1].
    pub fn check(&self) -> Result<()> {
        let refuse = |key: &str, why: &str| Err(Error::input(format!("`flow.time_law.{key}`: {why}")));
        let positive = |v: f64| v.is_finite() && v > 0.0;
        match *self {
            Self::Beta { alpha, beta, .. } if !positive(alpha) || !positive(beta) => {
                refuse("beta", "use two finite numbers above 0")
            }
            Self::Beta { scale, offset, .. }
                if !positive(scale) || !(0.0..1.0).contains(&offset) || scale + offset > 1.0 + 1e-12 =>
            {
                refuse("scale", "use a scale above 0 and an offset from 0 whose sum is at most 1")
            }
            Self::LogitNormal { mean, std } if !mean.is_finite() || !positive(std) => {
                refuse("logit_normal", "use a finite mean and a standard deviation above 0")
            }
            Self::BiasedToNoise { power } if !power.is_finite() || power < 1.0 => {
                refuse("biased_to_noise", "use a power of at least 1")
            }
            // e^350 is finite with room to spare.
            Self::UShaped { sharpness } if !positive(sharpness) || sharpness > 700.0 => {
                refuse("u_shaped", "use a sharpness above 0 and at most 700")
            }
            _ => Ok(()),
        }
    }
}

fn logistic(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

/// The regularised incomplete beta function I_x(a, b), the distribution function of Beta(a, b).
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    let scale = libm::lgamma(a + b) - libm::lgamma(a) - libm::lgamma(b) + a * x.ln() + b * libm::log1p(-x);
    if x < (a + 1.0) / (a + b + 2.0) {
        scale.exp() * beta_fraction(a, b, x) / a
    } else {
        1.0 - scale.exp() * beta_fraction(b, a, 1.0 - x) / b
    }
}

/// The continued fraction 1/(1 + d_1/(1 + d_2/(1 + …))) of I_x (DLMF 8.17.22), by the modified Lentz method.
fn beta_fraction(a: f64, b: f64, x: f64) -> f64 {
    let guard = |v: f64| if v.abs() < 1e-300 { 1e-300 } else { v };
    let term = |k: usize| {
        let m = (k / 2) as f64;
        if k.is_multiple_of(2) {
            m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m))
        } else {
            -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0))
        }
    };
    let (mut c, mut d) = (1.0, 1.0 / guard(1.0 + term(1)));
    let mut value = d;
    for k in 2..10_000 {
        d = 1.0 / guard(1.0 + term(k) * d);
        c = guard(1.0 + term(k) / c);
        value *= c * d;
        if (c * d - 1.0).abs() < 1e-15 {
            break;
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::FlowConfig;
    use crate::rng::Stream;

    const PI0: TimeLaw = TimeLaw::Beta { alpha: 1.5, beta: 1.0, scale: 0.999, offset: 0.001 };
    const LAWS: [TimeLaw; 9] = [
        TimeLaw::Uniform,
        PI0,
        TimeLaw::Beta { alpha: 2.0, beta: 3.0, scale: 1.0, offset: 0.0 },
        TimeLaw::Beta { alpha: 0.5, beta: 0.4, scale: 0.9, offset: 0.05 },
        TimeLaw::LogitNormal { mean: 0.0, std: 1.0 },
        TimeLaw::LogitNormal { mean: -0.5, std: 0.7 },
        TimeLaw::BiasedToNoise { power: 2.0 },
        TimeLaw::UShaped { sharpness: 4.0 },
        TimeLaw::UShaped { sharpness: 20.0 },
    ];
    const ENDS: [NoiseAt; 2] = [NoiseAt::Zero, NoiseAt::One];
    const DRAWS: usize = 20_000;
    /// Kolmogorov's critical value at a level of 0.001: 1.949 / √n.
    const CRITICAL: f64 = 1.949 / 141.421_356;

    fn draws(law: TimeLaw, noise_at: NoiseAt) -> Vec<f64> {
        let mut times: Vec<f64> = (0..DRAWS as u64)
            .map(|step| law.sample(noise_at, &mut Rng::new(5, Stream::TrainTime, step, 0)))
            .collect();
        times.sort_by(f64::total_cmp);
        times
    }

    /// Kolmogorov and Smirnov's statistic: the largest distance between the two distribution functions.
    fn distance(sorted: &[f64], law: TimeLaw, noise_at: NoiseAt) -> f64 {
        let n = sorted.len() as f64;
        (sorted.iter().enumerate())
            .map(|(i, &t)| {
                let f = law.distribution(noise_at, t);
                (f - i as f64 / n).abs().max((f - (i + 1) as f64 / n).abs())
            })
            .fold(0.0, f64::max)
    }

    #[test]
    fn draws_follow_their_law_and_no_other() {
        for noise_at in ENDS {
            for law in LAWS {
                let times = draws(law, noise_at);
                assert!(times.iter().all(|t| (0.0..=1.0).contains(t)), "{law:?}");
                for other in LAWS {
                    let d = distance(&times, other, noise_at);
                    assert_eq!(d < CRITICAL, law == other, "{law:?} against {other:?}: {d}");
                }
            }
        }
    }

    #[test]
    fn biased_times_lean_to_the_noise_in_both_conventions() {
        let law = TimeLaw::BiasedToNoise { power: 3.0 };
        let [zero, one] = ENDS.map(|noise_at| draws(law, noise_at).iter().sum::<f64>() / DRAWS as f64);
        // E[u^3] = 1/4.
        assert!((zero - 0.25).abs() < 0.01 && (one - 0.75).abs() < 0.01, "{zero} {one}");
        let swapped = distance(&draws(law, NoiseAt::Zero), law, NoiseAt::One);
        assert!(swapped > 10.0 * CRITICAL);
    }

    #[test]
    fn distribution_functions_have_known_values() {
        let at = |law: TimeLaw, t| law.distribution(NoiseAt::Zero, t);
        let beta = |alpha, beta| TimeLaw::Beta { alpha, beta, scale: 1.0, offset: 0.0 };
        // I_x(2, 3) = 1 − (1 − x)^3 (1 + 3x); I_x(1/2, 1/2) = 2/π asin √x; I_x(a, 1) = x^a.
        assert!((at(beta(2.0, 3.0), 0.4) - (1.0 - 0.216 * 2.2)).abs() < 1e-14);
        let arcsine = 0.3_f64.sqrt().asin() * std::f64::consts::FRAC_2_PI;
        assert!((at(beta(0.5, 0.5), 0.3) - arcsine).abs() < 1e-14);
        assert!((at(beta(1.5, 1.0), 0.7) - 0.7_f64.powf(1.5)).abs() < 1e-14);
        assert!((at(beta(200.0, 200.0), 0.5) - 0.5).abs() < 1e-10);
        // Φ(1) at the logit 1.
        assert!((at(LAWS[4], logistic(1.0)) - 0.841_344_746_068_542_9).abs() < 1e-14);
        for law in LAWS {
            for noise_at in ENDS {
                assert_eq!([0.0, 1.0].map(|t| law.distribution(noise_at, t)), [0.0, 1.0], "{law:?}");
            }
        }
    }

    #[test]
    fn pi0_times_have_their_mean() {
        let mean = draws(PI0, NoiseAt::One).iter().sum::<f64>() / DRAWS as f64;
        assert!((mean - (0.999 * 0.6 + 0.001)).abs() < 5e-3, "mean {mean}");
    }

    #[test]
    fn laws_survive_json() {
        for time_law in LAWS {
            let flow = FlowConfig { time_law, ..FlowConfig::default() };
            assert_eq!(FlowConfig::from_json(flow.to_json(), &FlowConfig::default()), Ok(flow));
        }
    }

    #[test]
    fn laws_of_no_use_are_refused_by_name() {
        for (law, key) in [
            (json!("normal"), "time_law"),
            (json!({"scale": 1.0}), "time_law"),
            (json!({"beta": [0.0, 1.0]}), "beta"),
            (json!({"beta": [1.0, -1.0]}), "beta"),
            (json!({"beta": [1.0, 1.0], "offset": 0.5}), "scale"),
            (json!({"logit_normal": [0.0, 0.0]}), "logit_normal"),
            (json!({"logit_normal": [0.0]}), "logit_normal"),
            (json!({"biased_to_noise": 0.5}), "biased_to_noise"),
            (json!({"u_shaped": 0.0}), "u_shaped"),
            (json!({"u_shaped": 4.0, "sharp": 1.0}), "sharp"),
        ] {
            let error = FlowConfig::from_json(json!({"time_law": law}), &FlowConfig::default());
            let error = error.expect_err("refused").to_string();
            assert!(error.contains(key), "{law}: {error}");
        }
    }
}
