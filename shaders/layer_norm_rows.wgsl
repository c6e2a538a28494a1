// y = gamma * (x - mean) * rstd + beta, an invocation for each row of whole vec4s: for software adapters, where meeting
// at barriers costs more than a row. Twin: src/kernels/layer_norm.rs.
struct Params { rows: u32, width: u32, lanes: u32, eps: f32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;         // [rows, width]
@group(0) @binding(2) var<storage, read> gamma: array<vec4<f32>>;     // [width]
@group(0) @binding(3) var<storage, read> beta: array<vec4<f32>>;      // [width]
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;   // [rows, width]
@group(0) @binding(5) var<storage, read_write> stats: array<vec2<f32>>; // [rows]: mean, rstd

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let row = (group.y * groups.x + group.x) * 8u + local;
    if row >= p.rows { return; }
    let columns = p.width / 4u;
    let at = row * columns;
    var sums = vec4(0.0);
    for (var c = 0u; c < columns; c++) { sums += x[at + c]; }
    let mean = dot(sums, vec4(1.0)) / f32(p.width);
    var square = 0.0;
    for (var c = 0u; c < columns; c++) { let d = x[at + c] - mean; square += dot(d, d); }
    let rstd = 1.0 / sqrt(square / f32(p.width) + p.eps);
    for (var c = 0u; c < columns; c++) { y[at + c] = gamma[c] * ((x[at + c] - mean) * rstd) + beta[c]; }
    stats[row] = vec2(mean, rstd);
}
