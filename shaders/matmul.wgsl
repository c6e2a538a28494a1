// uses: activation, product, operands
// Matrix product by 64x64 tiles: a workgroup stages 16 columns of A and 16 rows of B in workgroup memory, and
// each of its 256 invocations keeps 4x4 results in registers.
const TILE = 64u;
const DEPTH = 16u;
const PITCH = 65u; // one more than the tile, so that neighbouring rows fall into different banks
var<workgroup> a_tile: array<f32, 1040>; // [DEPTH][PITCH], A transposed
var<workgroup> b_tile: array<f32, 1040>; // [DEPTH][PITCH]

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let tiles_m = (p.m + TILE - 1u) / TILE;
    let tiles_n = (p.n + TILE - 1u) / TILE;
    let tile = group.y * groups.x + group.x;
    let entry = tile / (tiles_m * tiles_n);
    if entry >= p.batch { return; }
    let i0 = (tile / tiles_n) % tiles_m * TILE;
    let j0 = tile % tiles_n * TILE;
    let a0 = p.a_offset + entry * p.a_batch;
    let b0 = p.b_offset + entry * p.b_batch;
    let x = local % 16u;
    let y = local / 16u;
    var s0 = vec4(0.0);
    var s1 = vec4(0.0);
    var s2 = vec4(0.0);
    var s3 = vec4(0.0);
    for (var k0 = 0u; k0 < p.k; k0 += DEPTH) {
        // Four elements of each tile an invocation, neighbours reading neighbours in memory.
        for (var part = 0u; part < 4u; part++) {
            let at = part * 256u + local;
            var i = at / DEPTH;
            var k = at % DEPTH;
            if p.a_column != 1u { i = at % TILE; k = at / TILE; }
            let inside_a = i0 + i < p.m && k0 + k < p.k;
            let at_a = a0 + (i0 + i) * p.a_row + (k0 + k) * p.a_column;
            a_tile[k * PITCH + i] = select(0.0, a[select(0u, at_a, inside_a)], inside_a);
            var j = at % TILE;
            k = at / TILE;
            if p.b_column != 1u { j = at / DEPTH; k = at % DEPTH; }
            let inside_b = j0 + j < p.n && k0 + k < p.k;
            let at_b = b0 + (k0 + k) * p.b_row + (j0 + j) * p.b_column;
            b_tile[k * PITCH + j] = select(0.0, b_at(select(0u, at_b, inside_b)), inside_b);
        }
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k++) {
            let left = k * PITCH + y * 4u;
            let right = k * PITCH + x * 4u;
            let bk = vec4(b_tile[right], b_tile[right + 1u], b_tile[right + 2u], b_tile[right + 3u]);
            s0 += a_tile[left] * bk;
            s1 += a_tile[left + 1u] * bk;
            s2 += a_tile[left + 2u] * bk;
            s3 += a_tile[left + 3u] * bk;
        }
        workgroupBarrier();
    }
    let i = i0 + y * 4u;
    let j = j0 + x * 4u;
    finish(entry, i, j, s0.x); finish(entry, i, j + 1u, s0.y); finish(entry, i, j + 2u, s0.z); finish(entry, i, j + 3u, s0.w);
    finish(entry, i + 1u, j, s1.x); finish(entry, i + 1u, j + 1u, s1.y); finish(entry, i + 1u, j + 2u, s1.z); finish(entry, i + 1u, j + 3u, s1.w);
    finish(entry, i + 2u, j, s2.x); finish(entry, i + 2u, j + 1u, s2.y); finish(entry, i + 2u, j + 2u, s2.z); finish(entry, i + 2u, j + 3u, s2.w);
    finish(entry, i + 3u, j, s3.x); finish(entry, i + 3u, j + 1u, s3.y); finish(entry, i + 3u, j + 2u, s3.z); finish(entry, i + 3u, j + 3u, s3.w);
}
