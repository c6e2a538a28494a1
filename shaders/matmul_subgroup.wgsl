// uses: activation, product, result, operands
// Matrix product by subgroups of exactly eight invocations: a workgroup is one subgroup and makes 32x64 results.
// For lavapipe, where a load of eight elements costs as much as twenty of its eight-wide multiplications: each
// element is loaded by one invocation only, which hands those of A on by broadcast. No workgroup memory.
override PLAIN: bool = false; // neither activation nor residual: less to compile, less to run

// Four rows of A, held by invocations 0..3 (4..7), times four columns of B: rows of the results.
fn low(a: f32, b: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(subgroupBroadcast(a, 0u) * b, subgroupBroadcast(a, 1u) * b,
                  subgroupBroadcast(a, 2u) * b, subgroupBroadcast(a, 3u) * b);
}
fn high(a: f32, b: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(subgroupBroadcast(a, 4u) * b, subgroupBroadcast(a, 5u) * b,
                  subgroupBroadcast(a, 6u) * b, subgroupBroadcast(a, 7u) * b);
}

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(subgroup_invocation_id) lane: u32) {
    let tiles_m = (p.m + 31u) / 32u;
    let tiles_n = (p.n + 63u) / 64u;
    let tile = group.y * groups.x + group.x;
    let entry = tile / (tiles_m * tiles_n);
    if entry >= p.batch { return; }
    let i = (tile / tiles_n) % tiles_m * 32u;
    let j = tile % tiles_n * 64u + lane * 4u;

    // An invocation's rows of A are 8 apart, its columns of B two runs of four. Rows and columns past the edge read
    // the last one; `put` drops what they sum up to.
    let last = vec4(p.n - 1u);
    let four = vec4(0u, 1u, 2u, 3u);
    var row = min(vec4(i + lane) + 8u * four, vec4(p.m - 1u)) * p.a_row + p.a_offset + entry * p.a_batch;
    var near = min(vec4(j) + four, last) * p.b_column + p.b_offset + entry * p.b_batch;
    var far = min(vec4(j + 32u) + four, last) * p.b_column + p.b_offset + entry * p.b_batch;
    var s0 = mat4x4<f32>(); var s1 = mat4x4<f32>(); var s2 = mat4x4<f32>(); var s3 = mat4x4<f32>();
    var s4 = mat4x4<f32>(); var s5 = mat4x4<f32>(); var s6 = mat4x4<f32>(); var s7 = mat4x4<f32>();
    var t0 = mat4x4<f32>(); var t1 = mat4x4<f32>(); var t2 = mat4x4<f32>(); var t3 = mat4x4<f32>();
    var t4 = mat4x4<f32>(); var t5 = mat4x4<f32>(); var t6 = mat4x4<f32>(); var t7 = mat4x4<f32>();
    for (var k = 0u; k < p.k; k++) {
        let x = vec4(a[row.x], a[row.y], a[row.z], a[row.w]);
        let y = vec4(b_at(near.x), b_at(near.y), b_at(near.z), b_at(near.w));
        let z = vec4(b_at(far.x), b_at(far.y), b_at(far.z), b_at(far.w));
        s0 += low(x.x, y); s1 += high(x.x, y); t0 += low(x.x, z); t1 += high(x.x, z);
        s2 += low(x.y, y); s3 += high(x.y, y); t2 += low(x.y, z); t3 += high(x.y, z);
        s4 += low(x.z, y); s5 += high(x.z, y); t4 += low(x.z, z); t5 += high(x.z, z);
        s6 += low(x.w, y); s7 += high(x.w, y); t6 += low(x.w, z); t7 += high(x.w, z);
        row += p.a_column;
        near += p.b_row;
        far += p.b_row;
    }

    // The rows one after the other, each from the front of the queue, so that the epilogue is compiled once and
    // not 32 times.
    let near_bias = biases(j);
    let far_bias = biases(j + 32u);
    for (var r = i; r < min(i + 32u, p.m); r += 4u) {
        for (var q = r; q < min(r + 4u, p.m); q++) {
            put(entry, q, j, s0[0] + near_bias);
            put(entry, q, j + 32u, t0[0] + far_bias);
            s0 = mat4x4(s0[1], s0[2], s0[3], s0[3]);
            t0 = mat4x4(t0[1], t0[2], t0[3], t0[3]);
        }
        s0 = s1; s1 = s2; s2 = s3; s3 = s4; s4 = s5; s5 = s6; s6 = s7;
        t0 = t1; t1 = t2; t2 = t3; t3 = t4; t4 = t5; t5 = t6; t6 = t7;
    }
}

fn biases(j: u32) -> vec4<f32> {
    if p.has_bias == 0u { return vec4(0.0); }
    let at = min(vec4(j, j + 1u, j + 2u, j + 3u), vec4(p.n - 1u)) + p.bias_offset;
    return vec4(bias[at.x], bias[at.y], bias[at.z], bias[at.w]);
}

// Stores what becomes of the sums and biases y at (i, j) and the three columns after it, where they lie inside C.
fn put(entry: u32, i: u32, j: u32, y: vec4<f32>) {
    let at = p.c_offset + entry * p.c_batch + i * p.c_row + j;
    if j < p.n { c[at] = epilogue(i, j, y.x); }
    if j + 1u < p.n { c[at + 1u] = epilogue(i, j + 1u, y.y); }
    if j + 2u < p.n { c[at + 2u] = epilogue(i, j + 2u, y.z); }
    if j + 3u < p.n { c[at + 3u] = epilogue(i, j + 3u, y.w); }
}

fn epilogue(i: u32, j: u32, y: f32) -> f32 {
    if PLAIN { return p.alpha * y; }
    return ended(i, j, y);
}
