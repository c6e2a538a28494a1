// dx of layer normalisation, an invocation for each row of whole vec4s: for software adapters, where meeting at barriers
// costs more than a row. Twin: src/kernels/layer_norm_backward.rs.
struct Params { rows: u32, width: u32, lanes: u32, has_extra: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;         // [rows, width]
@group(0) @binding(2) var<storage, read> gamma: array<vec4<f32>>;     // [width]
@group(0) @binding(3) var<storage, read> stats: array<vec2<f32>>;     // [rows]: mean, rstd
@group(0) @binding(4) var<storage, read> dy: array<vec4<f32>>;        // [rows, width]
@group(0) @binding(5) var<storage, read> extra: array<vec4<f32>>;     // [rows, width]
@group(0) @binding(6) var<storage, read_write> dx: array<vec4<f32>>;  // [rows, width]

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let row = (group.y * groups.x + group.x) * 8u + local;
    if row >= p.rows { return; }
    let columns = p.width / 4u;
    let at = row * columns;
    let mean = stats[row].x;
    let rstd = stats[row].y;
    var sums = vec4(0.0);
    var products = vec4(0.0);
    for (var c = 0u; c < columns; c++) {
        let g = gamma[c] * dy[at + c];
        sums += g;
        products += g * ((x[at + c] - mean) * rstd);
    }
    let g_mean = dot(sums, vec4(1.0)) / f32(p.width);
    let gx_mean = dot(products, vec4(1.0)) / f32(p.width);
    for (var c = 0u; c < columns; c++) {
        var d = rstd * (gamma[c] * dy[at + c] - g_mean - (x[at + c] - mean) * rstd * gx_mean);
        if p.has_extra != 0u { d += extra[at + c]; }
        dx[at + c] = d;
    }
}
