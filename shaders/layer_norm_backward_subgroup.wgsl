// uses: total_subgroup, layer_norm_backward
// dx of layer normalisation, its sums by subgroups of one size, of which a row takes no more than one.
// Twin: src/kernels/layer_norm_backward.rs.
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(subgroup_id) subgroup: u32, @builtin(subgroup_size) size: u32,
        @builtin(subgroup_invocation_id) lane: u32) {
    differentiate(group.y * groups.x + group.x, subgroup * size + lane);
}
