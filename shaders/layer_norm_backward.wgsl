// dx of layer normalisation, `lanes` invocations a row. Twin: src/kernels/layer_norm_backward.rs.
struct Params { rows: u32, width: u32, lanes: u32, has_extra: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;           // [rows, width]
@group(0) @binding(2) var<storage, read> gamma: array<f32>;       // [width]
@group(0) @binding(3) var<storage, read> stats: array<vec2<f32>>; // [rows]: mean, rstd
@group(0) @binding(4) var<storage, read> dy: array<f32>;          // [rows, width]
@group(0) @binding(5) var<storage, read> extra: array<f32>;       // [rows, width]
@group(0) @binding(6) var<storage, read_write> dx: array<f32>;    // [rows, width]
var<workgroup> sums: array<vec2<f32>, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let lane = local % p.lanes;
    let first = local - lane;
    let row = (group.y * groups.x + group.x) * (64u / p.lanes) + local / p.lanes;
    // Rows past the last one work on the last, so that every invocation meets the barrier.
    let at = min(row, p.rows - 1u) * p.width;
    let row_stats = stats[min(row, p.rows - 1u)];
    let mean = row_stats.x;
    let rstd = row_stats.y;
    var sum = vec2(0.0);
    for (var c = lane; c < p.width; c += p.lanes) {
        let g = gamma[c] * dy[at + c];
        sum += vec2(g, g * ((x[at + c] - mean) * rstd));
    }
    sums[local] = sum;
    workgroupBarrier();
    if row >= p.rows { return; }
    var total = vec2(0.0);
    for (var n = 0u; n < p.lanes; n += 4u) {
        total += (sums[first + n] + sums[first + n + 1u]) + (sums[first + n + 2u] + sums[first + n + 3u]);
    }
    let means = total / f32(p.width);
    for (var c = lane; c < p.width; c += p.lanes) {
        let normal = (x[at + c] - mean) * rstd;
        var d = rstd * (gamma[c] * dy[at + c] - means.x - normal * means.y);
        if p.has_extra != 0u { d += extra[at + c]; }
        dx[at + c] = d;
    }
}
