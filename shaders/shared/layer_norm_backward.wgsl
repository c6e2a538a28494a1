// dx of layer normalisation, `lanes` invocations a row, by workgroups of 64; after `total` or `total_subgroup`. Described in
// src/kernels/layer_norm_backward.rs.
struct Params { rows: u32, width: u32, lanes: u32, has_extra: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;           // [rows, width]
@group(0) @binding(2) var<storage, read> gamma: array<f32>;       // [width]
@group(0) @binding(3) var<storage, read> stats: array<vec2<f32>>; // [rows]: mean, rstd
@group(0) @binding(4) var<storage, read> dy: array<f32>;          // [rows, width]
@group(0) @binding(5) var<storage, read> extra: array<f32>;       // [rows, width]
@group(0) @binding(6) var<storage, read_write> dx: array<f32>;    // [rows, width]

fn differentiate(workgroup: u32, local: u32) {
    let lane = local % p.lanes;
    let row = workgroup * (64u / p.lanes) + local / p.lanes;
    // Rows past the last one work on the last, so that every invocation takes part in every sum.
    let at = min(row, p.rows - 1u) * p.width;
    let row_stats = stats[min(row, p.rows - 1u)];
    let mean = row_stats.x;
    let rstd = row_stats.y;
    var sum = vec2(0.0);
    for (var c = lane; c < p.width; c += p.lanes) {
        let g = gamma[c] * dy[at + c];
        sum += vec2(g, g * ((x[at + c] - mean) * rstd));
    }
    let means = total(sum, local, p.lanes) / f32(p.width);
    if row >= p.rows { return; }
    for (var c = lane; c < p.width; c += p.lanes) {
        let normal = (x[at + c] - mean) * rstd;
        var d = rstd * (gamma[c] * dy[at + c] - means.x - normal * means.y);
        if p.has_extra != 0u { d += extra[at + c]; }
        dx[at + c] = d;
    }
}

