// y = x + b, where b has fewer rows and repeats. Twin: src/kernels/add_rows.rs.
struct Params { len: u32, columns: u32, div: u32, modulo: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;        // [rows, columns]
@group(0) @binding(2) var<storage, read> b: array<f32>;        // [modulo, columns]
@group(0) @binding(3) var<storage, read_write> y: array<f32>;  // [rows, columns]

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let i = (group.y * groups.x + group.x) * 256u + local;
    if i >= p.len { return; }
    let row = i / p.columns;
    y[i] = x[i] + b[row / p.div % p.modulo * p.columns + i % p.columns];
}
