// Sums of squares, one a workgroup, in a fixed order. Twin: src/kernels/optimizer.rs.
struct Params { len: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;               // [len]
@group(0) @binding(2) var<storage, read_write> partials: array<f32>;  // [workgroups]
var<workgroup> partial: array<f32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    var sum = 0.0;
    for (var i = group.x * 256u + local; i < p.len; i += groups.x * 256u) {
        sum += x[i] * x[i];
    }
    partial[local] = sum;
    workgroupBarrier();
    // Sixteen of each that lie apart, then these: a tree would meet at eight barriers.
    if local < 16u {
        for (var n = local + 16u; n < 256u; n += 16u) { sum += partial[n]; }
        partial[local] = sum;
    }
    workgroupBarrier();
    if local != 0u { return; }
    for (var n = 1u; n < 16u; n++) { sum += partial[n]; }
    partials[group.x] = sum;
}
