// uses: activation, product, result, operands
// Matrix product by subgroups of exactly eight invocations: a workgroup is one subgroup and makes 32x64 results.
// For lavapipe, where a load of eight elements costs as much as twenty of its eight-wide multiplications: each
// element is loaded by one invocation only, which hands those of A on by broadcast. No workgroup memory.
override PLAIN: bool = false; // neither activation nor residual: less to compile, less to run

// The sums of an invocation's near columns, and of its far ones: four rows each.
struct Sums {
    s0: mat4x4<f32>, s1: mat4x4<f32>, s2: mat4x4<f32>, s3: mat4x4<f32>,
    s4: mat4x4<f32>, s5: mat4x4<f32>, s6: mat4x4<f32>, s7: mat4x4<f32>,
    t0: mat4x4<f32>, t1: mat4x4<f32>, t2: mat4x4<f32>, t3: mat4x4<f32>,
    t4: mat4x4<f32>, t5: mat4x4<f32>, t6: mat4x4<f32>, t7: mat4x4<f32>,
}

// Where an invocation's next elements lie: of four rows of A, and of its columns of B.
struct Places { row: vec4<u32>, near: vec4<u32>, far: vec4<u32> }

// The sums and four rows of A, held by invocations 0..3 (4..7), times four columns of B. Fused multiply-adds are written
// as such: lavapipe makes two operations of what is not.
fn low(sums: mat4x4<f32>, a: f32, b: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(fma(vec4(subgroupBroadcast(a, 0u)), b, sums[0]), fma(vec4(subgroupBroadcast(a, 1u)), b, sums[1]),
                  fma(vec4(subgroupBroadcast(a, 2u)), b, sums[2]), fma(vec4(subgroupBroadcast(a, 3u)), b, sums[3]));
}
fn high(sums: mat4x4<f32>, a: f32, b: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(fma(vec4(subgroupBroadcast(a, 4u)), b, sums[0]), fma(vec4(subgroupBroadcast(a, 5u)), b, sums[1]),
                  fma(vec4(subgroupBroadcast(a, 6u)), b, sums[2]), fma(vec4(subgroupBroadcast(a, 7u)), b, sums[3]));
}

// Adds one term to each sum.
fn add_terms(sums: ptr<function, Sums>, places: ptr<function, Places>) {
    let at = *places;
    let x = vec4(a[at.row.x], a[at.row.y], a[at.row.z], a[at.row.w]);
    let y = vec4(b_at(at.near.x), b_at(at.near.y), b_at(at.near.z), b_at(at.near.w));
    let z = vec4(b_at(at.far.x), b_at(at.far.y), b_at(at.far.z), b_at(at.far.w));
    let s = *sums;
    *sums = Sums(low(s.s0, x.x, y), high(s.s1, x.x, y), low(s.s2, x.y, y), high(s.s3, x.y, y),
                 low(s.s4, x.z, y), high(s.s5, x.z, y), low(s.s6, x.w, y), high(s.s7, x.w, y),
                 low(s.t0, x.x, z), high(s.t1, x.x, z), low(s.t2, x.y, z), high(s.t3, x.y, z),
                 low(s.t4, x.z, z), high(s.t5, x.z, z), low(s.t6, x.w, z), high(s.t7, x.w, z));
    *places = Places(at.row + p.a_column, at.near + p.b_row, at.far + p.b_row);
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
    var places = Places(
        min(vec4(i + lane) + 8u * four, vec4(p.m - 1u)) * p.a_row + p.a_offset + entry * p.a_batch,
        min(vec4(j) + four, last) * p.b_column + p.b_offset + entry * p.b_batch,
        min(vec4(j + 32u) + four, last) * p.b_column + p.b_offset + entry * p.b_batch);
    var sums = Sums();
    // Four terms a round: lavapipe copies under a mask what a loop hands from round to round, as dear as a term.
    var k = 0u;
    for (; k + 4u <= p.k; k += 4u) {
        add_terms(&sums, &places);
        add_terms(&sums, &places);
        add_terms(&sums, &places);
        add_terms(&sums, &places);
    }
    for (; k < p.k; k++) { add_terms(&sums, &places); }

    // The rows one after the other, each from the front of the queue, so that the epilogue is compiled once and
    // not 32 times.
    let near_bias = biases(j);
    let far_bias = biases(j + 32u);
    for (var r = i; r < min(i + 32u, p.m); r += 4u) {
        for (var q = r; q < min(r + 4u, p.m); q++) {
            put(entry, q, j, sums.s0[0] + near_bias);
            put(entry, q, j + 32u, sums.t0[0] + far_bias);
            sums.s0 = mat4x4(sums.s0[1], sums.s0[2], sums.s0[3], sums.s0[3]);
            sums.t0 = mat4x4(sums.t0[1], sums.t0[2], sums.t0[3], sums.t0[3]);
        }
        sums = Sums(sums.s1, sums.s2, sums.s3, sums.s4, sums.s5, sums.s6, sums.s7, sums.s7,
                    sums.t1, sums.t2, sums.t3, sums.t4, sums.t5, sums.t6, sums.t7, sums.t7);
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
