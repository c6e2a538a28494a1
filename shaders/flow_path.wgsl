// The point between noise and actions at time t, and the velocity there. Twin: src/kernels/flow_path.rs.
struct Params { len: u32, span: u32, noise_at: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> noise: array<f32>;      // [len]
@group(0) @binding(2) var<storage, read> actions: array<f32>;    // [len]
@group(0) @binding(3) var<storage, read> t: array<f32>;          // [len / span]
@group(0) @binding(4) var<storage, read_write> x: array<f32>;    // [len]
@group(0) @binding(5) var<storage, read_write> v: array<f32>;    // [len]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let i = (group.y * groups.x + group.x) * 64u + local;
    if i >= p.len { return; }
    let time = t[i / p.span];
    let start = select(noise[i], actions[i], p.noise_at == 1u);
    let end = select(actions[i], noise[i], p.noise_at == 1u);
    x[i] = (1.0 - time) * start + time * end;
    v[i] = end - start;
}
