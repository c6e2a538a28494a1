// uses: activation, product, result, fused
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

    // Rows and columns past the edge read the last one; `finish` drops what they sum up to.
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
        var w = mat4x4(b[at.x], b[at.y], b[at.z], b[at.w]);
        if !BY_ROWS { w = transpose(w); } // four columns of a term each
        at += select(1u, p.b_row, BY_ROWS);
        let x = a[upper + k];
        s0 = add_product(s0, w, subgroupBroadcast(x, 0u)); s1 = add_product(s1, w, subgroupBroadcast(x, 1u));
        s2 = add_product(s2, w, subgroupBroadcast(x, 2u)); s3 = add_product(s3, w, subgroupBroadcast(x, 3u));
        s4 = add_product(s4, w, subgroupBroadcast(x, 4u)); s5 = add_product(s5, w, subgroupBroadcast(x, 5u));
        s6 = add_product(s6, w, subgroupBroadcast(x, 6u)); s7 = add_product(s7, w, subgroupBroadcast(x, 7u));
        if ROWS > 8u {
            let y = a[lower + k];
            t0 = add_product(t0, w, subgroupBroadcast(y, 0u)); t1 = add_product(t1, w, subgroupBroadcast(y, 1u));
            t2 = add_product(t2, w, subgroupBroadcast(y, 2u)); t3 = add_product(t3, w, subgroupBroadcast(y, 3u));
            t4 = add_product(t4, w, subgroupBroadcast(y, 4u)); t5 = add_product(t5, w, subgroupBroadcast(y, 5u));
            t6 = add_product(t6, w, subgroupBroadcast(y, 6u)); t7 = add_product(t7, w, subgroupBroadcast(y, 7u));
        }
    }

    // Four rows at a time, from the front of the queue: moving the rest up costs as much as a term of each, and the epilogue
    // is not compiled 16 times.
    for (var row = i; row < min(i + ROWS, p.m); row += 4u) {
        put(row, j, step, s0);
        put(row + 1u, j, step, s1);
        put(row + 2u, j, step, s2);
        put(row + 3u, j, step, s3);
        s0 = s4; s1 = s5; s2 = s6; s3 = s7;
        s4 = t0; s5 = t1; s6 = t2; s7 = t3;
        t0 = t4; t1 = t5; t2 = t6; t3 = t7;
    }
}

// Stores what becomes of a row's sums, in columns `step` apart.
fn put(row: u32, j: u32, step: u32, sums: vec4<f32>) {
    finish(0u, row, j, sums.x);
    finish(0u, row, j + step, sums.y);
    finish(0u, row, j + 2u * step, sums.z);
    finish(0u, row, j + 3u * step, sums.w);
}
