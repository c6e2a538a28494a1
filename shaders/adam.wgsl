// uses: adam
// Adam's step over a flat run of parameters. Twin: src/kernels/optimizer.rs.
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let i = (group.y * groups.x + group.x) * 256u + local;
    if i >= p.len || state[2] == 0.0 { return; }
    step_weight(i);
}
