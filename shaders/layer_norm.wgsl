// y = gamma * (x - mean) * rstd + beta for each row, `lanes` invocations a row. Twin: src/kernels/layer_norm.rs.
struct Params { rows: u32, width: u32, lanes: u32, eps: f32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;           // [rows, width]
@group(0) @binding(2) var<storage, read> gamma: array<f32>;       // [width]
@group(0) @binding(3) var<storage, read> beta: array<f32>;        // [width]
@group(0) @binding(4) var<storage, read_write> y: array<f32>;     // [rows, width]
@group(0) @binding(5) var<storage, read_write> stats: array<vec2<f32>>; // [rows]: mean, rstd
var<workgroup> sums: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let lane = local % p.lanes;
    let first = local - lane;
    let row = (group.y * groups.x + group.x) * (64u / p.lanes) + local / p.lanes;
    // Rows past the last one work on the last, so that every invocation meets every barrier.
    let at = min(row, p.rows - 1u) * p.width;
    var sum = 0.0;
    for (var c = lane; c < p.width; c += p.lanes) { sum += x[at + c]; }
    sums[local] = sum;
    workgroupBarrier();
    let mean = total(first) / f32(p.width);
    workgroupBarrier();
    var square = 0.0;
    for (var c = lane; c < p.width; c += p.lanes) { let d = x[at + c] - mean; square += d * d; }
    sums[local] = square;
    workgroupBarrier();
    let rstd = 1.0 / sqrt(total(first) / f32(p.width) + p.eps);
    if row >= p.rows { return; }
    for (var c = lane; c < p.width; c += p.lanes) { y[at + c] = gamma[c] * ((x[at + c] - mean) * rstd) + beta[c]; }
    if lane == 0u { stats[row] = vec2(mean, rstd); }
}

// The sum over the lanes of a row, which every one of them makes for itself.
fn total(first: u32) -> f32 {
    var sum = 0.0;
    for (var n = 0u; n < p.lanes; n += 4u) {
        sum += (sums[first + n] + sums[first + n + 1u]) + (sums[first + n + 2u] + sums[first + n + 3u]);
    }
    return sum;
}
