// uses: activation, product, result, operands, tiles
// Matrix product by 64x64 tiles: a workgroup stages 16 columns of A and 16 rows of B in workgroup memory, and
// each of its 256 invocations keeps 4x4 results in registers. Where such tiles were too few to fill a GPU, they are 32x32
// with 64 invocations.
override SIDE: u32 = 16u; // invocations of a side
override TILE: u32 = 64u; // 4 * SIDE
const DEPTH = 16u;
const PITCH = 65u; // one more than the larger tile, so that neighbouring rows fall into different banks
var<workgroup> a_tile: array<f32, 1040>; // [DEPTH][PITCH], A transposed
var<workgroup> b_tile: array<f32, 1040>; // [DEPTH][PITCH]

@compute @workgroup_size(SIDE * SIDE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let tile = tile_of(group, groups, TILE);
    if tile.entry >= p.batch { return; }
    let x = local % SIDE;
    let y = local / SIDE;
    var s0 = vec4(0.0);
    var s1 = vec4(0.0);
    var s2 = vec4(0.0);
    var s3 = vec4(0.0);
    for (var k0 = 0u; k0 < p.k; k0 += DEPTH) {
        // A few elements of each tile an invocation, neighbours reading neighbours in memory.
        for (var at = local; at < TILE * DEPTH; at += SIDE * SIDE) {
            var i = at / DEPTH;
            var k = at % DEPTH;
            if p.a_column != 1u { i = at % TILE; k = at / TILE; }
            a_tile[k * PITCH + i] = a_or_zero(tile, i, k0 + k);
            var j = at % TILE;
            k = at / TILE;
            if p.b_column != 1u { j = at / DEPTH; k = at % DEPTH; }
            b_tile[k * PITCH + j] = b_or_zero(tile, k0 + k, j);
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
    let i = tile.i + y * 4u;
    let j = tile.j + x * 4u;
    // Each row from the front of the queue, so that the epilogue is compiled once and not four times.
    for (var row = i; row < i + 4u; row++) {
        finish(tile.entry, row, j, s0.x); finish(tile.entry, row, j + 1u, s0.y);
        finish(tile.entry, row, j + 2u, s0.z); finish(tile.entry, row, j + 3u, s0.w);
        s0 = s1; s1 = s2; s2 = s3;
    }
}
