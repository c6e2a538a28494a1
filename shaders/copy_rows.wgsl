// Runs of elements from one place to another. Twin: src/kernels/copy_rows.rs, which counts in rows.
struct Params { len: u32, run: u32, from_stride: u32, from_first: u32, to_stride: u32, to_first: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let i = (group.y * groups.x + group.x) * 256u + local;
    if i >= p.len { return; }
    let run = i / p.run;
    let at = i % p.run;
    y[run * p.to_stride + p.to_first + at] = x[run * p.from_stride + p.from_first + at];
}
