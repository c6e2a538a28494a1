// y += x over a run of both, in place. Twin: src/kernels/add_rows.rs.
struct Params { offset: u32, len: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;        // [offset + len..]
@group(0) @binding(2) var<storage, read_write> y: array<f32>;  // [offset + len..]

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let i = (group.y * groups.x + group.x) * 256u + local;
    if i >= p.len { return; }
    y[p.offset + i] += x[p.offset + i];
}
