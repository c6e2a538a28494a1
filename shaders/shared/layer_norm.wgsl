// y = gamma * (x - mean) * rstd + beta for each row, `lanes` invocations a row, by workgroups of 64; after `total` or
// `total_subgroup`. Described in src/kernels/layer_norm.rs.
struct Params { rows: u32, width: u32, lanes: u32, eps: f32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;           // [rows, width]
@group(0) @binding(2) var<storage, read> gamma: array<f32>;       // [width]
@group(0) @binding(3) var<storage, read> beta: array<f32>;        // [width]
@group(0) @binding(4) var<storage, read_write> y: array<f32>;     // [rows, width]
@group(0) @binding(5) var<storage, read_write> stats: array<vec2<f32>>; // [rows]: mean, rstd

fn normalise(workgroup: u32, local: u32) {
    let lane = local % p.lanes;
    let row = workgroup * (64u / p.lanes) + local / p.lanes;
    // Rows past the last one work on the last, so that every invocation takes part in every sum.
    let at = min(row, p.rows - 1u) * p.width;
    var sum = 0.0;
    for (var c = lane; c < p.width; c += p.lanes) { sum += x[at + c]; }
    let mean = total(vec2(sum, 0.0), local, p.lanes).x / f32(p.width);
    var square = 0.0;
    for (var c = lane; c < p.width; c += p.lanes) { let d = x[at + c] - mean; square += d * d; }
    let rstd = 1.0 / sqrt(total(vec2(square, 0.0), local, p.lanes).x / f32(p.width) + p.eps);
    if row >= p.rows { return; }
    for (var c = lane; c < p.width; c += p.lanes) { y[at + c] = gamma[c] * ((x[at + c] - mean) * rstd) + beta[c]; }
    if lane == 0u { stats[row] = vec2(mean, rstd); }
}

