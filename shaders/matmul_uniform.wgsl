// uses: activation, product, result
// Matrix product with a small right operand, for software adapters with subgroups of eight: b is bound as a uniform
// buffer, which lavapipe reads four elements at a time and without a branch for each. A subgroup makes 16x32 results
// (8x32 where there are no more rows): each invocation loads a row of A, which reaches the others by broadcast, and owns
// four columns: eight apart where b's columns are stored one after the other, neighbours where its rows are.
override ROWS: u32 = 16u; // 8 or 16
override BY_ROWS: bool = false; // b's rows are stored one after the other
@group(0) @binding(1) var<storage, read> a: array<vec4<f32>>;  // m x k, strided
@group(0) @binding(2) var<uniform> b: array<vec4<f32>, 4096>;  // k x n, rows or columns strided

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(subgroup_invocation_id) lane: u32) {
    let tiles_n = (p.n + 31u) / 32u;
    let tile = group.y * groups.x + group.x;
    let i = tile / tiles_n * ROWS;
    if i >= p.m { return; }
    let step = select(8u, 1u, BY_ROWS);
    let j = tile % tiles_n * 32u + lane * select(1u, 4u, BY_ROWS);

    // Rows and columns past the edge read the last one; `put` drops what they sum up to.
    let depth = p.k / 4u;
    let upper = (min(i + lane, p.m - 1u) * p.a_row + p.a_offset) / 4u;
    let lower = (min(i + 8u + lane, p.m - 1u) * p.a_row + p.a_offset) / 4u;
    var at = (min(vec4(j, j + 8u, j + 16u, j + 24u), vec4(p.n - 1u)) * p.b_column + p.b_offset) / 4u;
    if BY_ROWS { at = (min(j, p.n - 4u) + vec4(0u, 1u, 2u, 3u) * p.b_row + p.b_offset) / 4u; }
    var s0 = vec4(0.0); var s1 = vec4(0.0); var s2 = vec4(0.0); var s3 = vec4(0.0);
    var s4 = vec4(0.0); var s5 = vec4(0.0); var s6 = vec4(0.0); var s7 = vec4(0.0);
    var t0 = vec4(0.0); var t1 = vec4(0.0); var t2 = vec4(0.0); var t3 = vec4(0.0);
    var t4 = vec4(0.0); var t5 = vec4(0.0); var t6 = vec4(0.0); var t7 = vec4(0.0);
    for (var k = 0u; k < depth; k++) {
        var w = mat4x4(b[at.x], b[at.y], b[at.z], b[at.w]); // four terms of a column each
        if BY_ROWS { w = transpose(w); }
        at += select(1u, p.b_row, BY_ROWS);
        let x = a[upper + k];
        s0 += subgroupBroadcast(x, 0u) * w; s1 += subgroupBroadcast(x, 1u) * w;
        s2 += subgroupBroadcast(x, 2u) * w; s3 += subgroupBroadcast(x, 3u) * w;
        s4 += subgroupBroadcast(x, 4u) * w; s5 += subgroupBroadcast(x, 5u) * w;
        s6 += subgroupBroadcast(x, 6u) * w; s7 += subgroupBroadcast(x, 7u) * w;
        if ROWS > 8u {
            let y = a[lower + k];
            t0 += subgroupBroadcast(y, 0u) * w; t1 += subgroupBroadcast(y, 1u) * w;
            t2 += subgroupBroadcast(y, 2u) * w; t3 += subgroupBroadcast(y, 3u) * w;
            t4 += subgroupBroadcast(y, 4u) * w; t5 += subgroupBroadcast(y, 5u) * w;
            t6 += subgroupBroadcast(y, 6u) * w; t7 += subgroupBroadcast(y, 7u) * w;
        }
    }

    // The rows one after the other, each from the front of the queue, so that the epilogue is compiled once and not
    // 16 times.
    for (var row = i; row < min(i + ROWS, p.m); row++) {
        finish(0u, row, j, s0.x);
        finish(0u, row, j + step, s0.y);
        finish(0u, row, j + 2u * step, s0.z);
        finish(0u, row, j + 3u * step, s0.w);
        s0 = s1; s1 = s2; s2 = s3; s3 = s4; s4 = s5; s5 = s6; s6 = s7;
        s7 = t0; t0 = t1; t1 = t2; t2 = t3; t3 = t4; t4 = t5; t5 = t6; t6 = t7;
    }
}
