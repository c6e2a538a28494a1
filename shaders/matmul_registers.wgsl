// uses: activation, product, result, operands
// Matrix product without workgroup memory: 4x4 results an invocation, 32x32 a workgroup.
// For software adapters, where barriers and workgroup memory cost more than they save.
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let tiles_m = (p.m + 31u) / 32u;
    let tiles_n = (p.n + 31u) / 32u;
    let tile = group.y * groups.x + group.x;
    let entry = tile / (tiles_m * tiles_n);
    if entry >= p.batch { return; }
    let i = (tile / tiles_n) % tiles_m * 32u + local / 8u * 4u;
    let j = tile % tiles_n * 32u + local % 8u * 4u;
    if i >= p.m || j >= p.n { return; }

    // Rows and columns past the edge read the last one; `finish` drops what they sum up to.
    let a0 = p.a_offset + entry * p.a_batch;
    let row = min(vec4(i, i + 1u, i + 2u, i + 3u), vec4(p.m - 1u)) * p.a_row + a0;
    let b0 = p.b_offset + entry * p.b_batch;
    let column = min(vec4(j, j + 1u, j + 2u, j + 3u), vec4(p.n - 1u)) * p.b_column + b0;
    var s0 = vec4(0.0);
    var s1 = vec4(0.0);
    var s2 = vec4(0.0);
    var s3 = vec4(0.0);
    for (var k = 0u; k < p.k; k++) {
        let ak = k * p.a_column;
        let bk = column + k * p.b_row;
        let right = vec4(b_at(bk.x), b_at(bk.y), b_at(bk.z), b_at(bk.w));
        s0 += a[row.x + ak] * right;
        s1 += a[row.y + ak] * right;
        s2 += a[row.z + ak] * right;
        s3 += a[row.w + ak] * right;
    }
    finish(entry, i, j, s0.x); finish(entry, i, j + 1u, s0.y); finish(entry, i, j + 2u, s0.z); finish(entry, i, j + 3u, s0.w);
    finish(entry, i + 1u, j, s1.x); finish(entry, i + 1u, j + 1u, s1.y); finish(entry, i + 1u, j + 2u, s1.z); finish(entry, i + 1u, j + 3u, s1.w);
    finish(entry, i + 2u, j, s2.x); finish(entry, i + 2u, j + 1u, s2.y); finish(entry, i + 2u, j + 2u, s2.z); finish(entry, i + 2u, j + 3u, s2.w);
    finish(entry, i + 3u, j, s3.x); finish(entry, i + 3u, j + 1u, s3.y); finish(entry, i + 3u, j + 2u, s3.z); finish(entry, i + 3u, j + 3u, s3.w);
}
