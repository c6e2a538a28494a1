// uses: activation, product, result, operands
// Matrix product for few rows: a workgroup makes 16 neighbouring results of one row, and four invocations share
// the sum over k of each.
var<workgroup> partial: array<f32, 64>; // [4][16]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let strips = (p.n + 15u) / 16u;
    let strip = group.y * groups.x + group.x;
    let entry = strip / (p.m * strips);
    if entry >= p.batch { return; }
    let i = (strip / strips) % p.m;
    let j = strip % strips * 16u + local % 16u;
    let a0 = p.a_offset + entry * p.a_batch + i * p.a_row;
    let b0 = p.b_offset + entry * p.b_batch + min(j, p.n - 1u) * p.b_column;
    var sum = 0.0;
    for (var k = local / 16u; k < p.k; k += 4u) {
        sum += a[a0 + k * p.a_column] * b_at(b0 + k * p.b_row);
    }
    partial[local] = sum;
    workgroupBarrier();
    if local < 16u {
        finish(entry, i, j, (partial[local] + partial[local + 16u]) + (partial[local + 32u] + partial[local + 48u]));
    }
}
