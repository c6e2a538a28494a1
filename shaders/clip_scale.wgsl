// The norm of all gradients and what it means for this step. Twin: src/kernels/optimizer.rs.
struct Params { len: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> partials: array<f32>;     // [len], sums of squares
@group(0) @binding(2) var<storage, read> hyper: array<f32>;        // [12], see the twin
@group(0) @binding(3) var<storage, read_write> state: array<f32>;  // [4]: norm, scale, finite, first bad step
var<workgroup> partial: array<f32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) local: u32) {
    var sum = 0.0;
    for (var i = local; i < p.len; i += 256u) { sum += partials[i]; }
    partial[local] = sum;
    workgroupBarrier();
    for (var half = 128u; half > 0u; half /= 2u) {
        if local < half { partial[local] += partial[local + half]; }
        workgroupBarrier();
    }
    if local > 0u { return; }
    // All ones in the exponent: infinite or NaN. Drivers may assume that comparisons never see either.
    if (bitcast<u32>(partial[0]) & 0x7f800000u) == 0x7f800000u {
        state[0] = -1.0;
        state[1] = 0.0;
        state[2] = 0.0;
        if state[3] == 0.0 { state[3] = hyper[11]; }
        return;
    }
    let norm = sqrt(partial[0]);
    let max_norm = hyper[10];
    state[0] = norm;
    state[1] = select(1.0, min(1.0, max_norm / (norm + 1e-6)), max_norm > 0.0);
    state[2] = 1.0;
}
