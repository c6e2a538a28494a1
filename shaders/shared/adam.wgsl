// One element's step of Adam or AdamW. Described in src/kernels/optimizer.rs.
struct Params { len: u32, decoupled: u32, rate: f32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> gradients: array<f32>;      // [len]
@group(0) @binding(2) var<storage, read> state: array<f32>;          // [4]: norm, scale, finite, first bad step
@group(0) @binding(3) var<storage, read> hyper: array<f32>;          // [12], see the twin
@group(0) @binding(4) var<storage, read_write> weights: array<f32>;  // [len]
@group(0) @binding(5) var<storage, read_write> moment1: array<f32>;  // [len]
@group(0) @binding(6) var<storage, read_write> moment2: array<f32>;  // [len]

// Moves weight i and its moments; the weight's new value.
fn step_weight(i: u32) -> f32 {
    let w = weights[i];
    var g = gradients[i] * state[1];
    if p.decoupled == 0u { g += hyper[7] * w; }
    let m = hyper[1] * moment1[i] + hyper[2] * g;
    let v = hyper[3] * moment2[i] + hyper[4] * g * g;
    var change = hyper[0] * m / (sqrt(v) / hyper[5] + hyper[6]);
    if p.decoupled != 0u { change += hyper[8] * w; }
    moment1[i] = m;
    moment2[i] = v;
    weights[i] = w - p.rate * change;
    return w - p.rate * change;
}

