// d_gamma and d_beta of layer normalisation: a workgroup sums eight columns, 32 invocations each, which take
// turns over the rows four at a time. Twin: src/kernels/layer_norm_backward.rs.
struct Params { rows: u32, width: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;              // [rows, width]
@group(0) @binding(2) var<storage, read> stats: array<vec2<f32>>;    // [rows]: mean, rstd
@group(0) @binding(3) var<storage, read> dy: array<f32>;             // [rows, width]
@group(0) @binding(4) var<storage, read_write> d_gamma: array<f32>;  // [width]
@group(0) @binding(5) var<storage, read_write> d_beta: array<f32>;   // [width]
var<workgroup> sums: array<vec2<f32>, 256>; // [32][8]

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let column = (group.y * groups.x + group.x) * 8u + local % 8u;
    let c = min(column, p.width - 1u);
    var s0 = vec2(0.0);
    var s1 = vec2(0.0);
    var s2 = vec2(0.0);
    var s3 = vec2(0.0);
    var row = local / 8u;
    for (; row + 96u < p.rows; row += 128u) {
        s0 += gradients(row, c);
        s1 += gradients(row + 32u, c);
        s2 += gradients(row + 64u, c);
        s3 += gradients(row + 96u, c);
    }
    for (; row < p.rows; row += 32u) { s0 += gradients(row, c); }
    sums[local] = (s0 + s1) + (s2 + s3);
    workgroupBarrier();
    if local >= 8u || column >= p.width { return; }
    var total = vec2(0.0);
    for (var n = local; n < 256u; n += 8u) { total += sums[n]; }
    d_gamma[column] = total.x;
    d_beta[column] = total.y;
}

// What one row gives to d_gamma and d_beta.
fn gradients(row: u32, c: u32) -> vec2<f32> {
    let d = dy[row * p.width + c];
    let row_stats = stats[row];
    return vec2(d * ((x[row * p.width + c] - row_stats.x) * row_stats.y), d);
}
