// uses: philox, dropout
// y = r + mask * scale * x, eight elements an invocation, which one counter masks. Twin: src/kernels/dropout.rs.
struct Params { len: u32, site: u32, threshold: u32, scale: f32, has_residual: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;         // [len]
@group(0) @binding(2) var<storage, read> residual: array<f32>;  // [len]
@group(0) @binding(3) var<storage, read> control: vec4<u32>;    // seed, step
@group(0) @binding(4) var<storage, read_write> y: array<f32>;   // [len]

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let first = ((group.y * groups.x + group.x) * 256u + local) * 8u;
    if first >= p.len { return; }
    let dropped = dropped8(control, p.site, first, p.threshold);
    for (var n = 0u; n < min(8u, p.len - first); n++) {
        let e = first + n;
        var sum = select(p.scale, 0.0, ((dropped >> n) & 1u) != 0u) * x[e];
        if p.has_residual != 0u { sum += residual[e]; }
        y[e] = sum;
    }
}
