// uses: total, layer_norm
// Layer normalisation, its sums through workgroup memory. Twin: src/kernels/layer_norm.rs.
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    normalise(group.y * groups.x + group.x, local);
}
