// Activations and their derivatives; the numbers are src/kernels/activation.rs's `Activation`.
const RELU = 1u;
const GELU = 2u;
const GELU_TANH = 3u;
const SILU = 4u;

// erf by Abramowitz and Stegun 7.1.26 in x^2-free form; largest error 1.5e-7.
fn erf(x: f32) -> f32 {
    let a = abs(x);
    let t = 1.0 / (1.0 + 0.3275911 * a);
    let poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    return sign(x) * (1.0 - poly * exp(-a * a));
}

fn activate(kind: u32, x: f32) -> f32 {
    switch kind {
        case RELU: { return max(x, 0.0); }
        case GELU: { return 0.5 * x * (1.0 + erf(x * 0.70710678)); }
        case GELU_TANH: {
            let u = clamp(0.79788456 * (x + 0.044715 * x * x * x), -15.0, 15.0);
            return 0.5 * x * (1.0 + tanh(u));
        }
        case SILU: { return x / (1.0 + exp(-x)); }
        default: { return x; }
    }
}

// d activate / dx at x.
fn activate_slope(kind: u32, x: f32) -> f32 {
    switch kind {
        case RELU: { return select(0.0, 1.0, x > 0.0); }
        case GELU: {
            return 0.5 * (1.0 + erf(x * 0.70710678)) + x * 0.39894228 * exp(-0.5 * x * x);
        }
        case GELU_TANH: {
            let u = clamp(0.79788456 * (x + 0.044715 * x * x * x), -15.0, 15.0);
            let h = tanh(u);
            return 0.5 * (1.0 + h) + 0.5 * x * (1.0 - h * h) * 0.79788456 * (1.0 + 0.134145 * x * x);
        }
        case SILU: {
            let s = 1.0 / (1.0 + exp(-x));
            return s * (1.0 + x * (1.0 - s));
        }
        default: { return 1.0; }
    }
}

