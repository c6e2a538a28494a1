// uses: activation, product, result, fused, eight_rows
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
    var sums = EightRows();
    var more = EightRows();
    for (var k = 0u; k < depth; k++) {
        var w = mat4x4(b[at.x], b[at.y], b[at.z], b[at.w]);
        if !BY_ROWS { w = transpose(w); } // four columns of a term each
        at += select(1u, p.b_row, BY_ROWS);
        sums = add_products(sums, w, a[upper + k]);
        if ROWS > 8u { more = add_products(more, w, a[lower + k]); }
    }

    // Four rows at a time, from the front of the queue: moving the rest up costs as much as a term of each, and the epilogue
    // is not compiled 16 times.
    for (var row = i; row < min(i + ROWS, p.m); row += 4u) {
        put(row, j, step, sums.r0);
        put(row + 1u, j, step, sums.r1);
        put(row + 2u, j, step, sums.r2);
        put(row + 3u, j, step, sums.r3);
        sums = EightRows(sums.r4, sums.r5, sums.r6, sums.r7, more.r0, more.r1, more.r2, more.r3);
        more = EightRows(more.r4, more.r5, more.r6, more.r7, more.r4, more.r5, more.r6, more.r7);
    }
}

// Stores what becomes of a row's sums, in columns `step` apart.
fn put(row: u32, j: u32, step: u32, sums: vec4<f32>) {
    finish(0u, row, j, sums.x);
    finish(0u, row, j + step, sums.y);
    finish(0u, row, j + 2u * step, sums.z);
    finish(0u, row, j + 3u * step, sums.w);
}
