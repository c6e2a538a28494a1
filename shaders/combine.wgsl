// y = Σ c_i x_i over up to seven terms. Twin: src/kernels/combine.rs.
struct Params { len: u32, count: u32, c0: f32, c1: f32, c2: f32, c3: f32, c4: f32, c5: f32, c6: f32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x0: array<f32>;       // [len]; the others as well, where there are as many
@group(0) @binding(2) var<storage, read> x1: array<f32>;
@group(0) @binding(3) var<storage, read> x2: array<f32>;
@group(0) @binding(4) var<storage, read> x3: array<f32>;
@group(0) @binding(5) var<storage, read> x4: array<f32>;
@group(0) @binding(6) var<storage, read> x5: array<f32>;
@group(0) @binding(7) var<storage, read> x6: array<f32>;
@group(0) @binding(8) var<storage, read_write> y: array<f32>;  // [len]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let i = (group.y * groups.x + group.x) * 64u + local;
    if i >= p.len { return; }
    var sum = p.c0 * x0[i];
    if p.count > 1u { sum += p.c1 * x1[i]; }
    if p.count > 2u { sum += p.c2 * x2[i]; }
    if p.count > 3u { sum += p.c3 * x3[i]; }
    if p.count > 4u { sum += p.c4 * x4[i]; }
    if p.count > 5u { sum += p.c5 * x5[i]; }
    if p.count > 6u { sum += p.c6 * x6[i]; }
    y[i] = sum;
}
