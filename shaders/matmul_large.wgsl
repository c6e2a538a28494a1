// uses: activation, product, result, operands, tiles
// Matrix product by 128x128 tiles, for products large enough to fill a GPU with them: a workgroup stages 8 columns of A
// and 8 rows of B in workgroup memory, and each of its 256 invocations keeps 8x8 results in registers, four blocks of
// 4x4 that are 64 rows and columns apart, so that neighbours read neighbouring vec4s.
const TILE = 128u;
const DEPTH = 8u;
const PITCH = 33u; // in vec4s, one more than the tile, so that neighbouring rows fall into different banks
var<workgroup> a_tile: array<vec4<f32>, 264>; // [DEPTH][PITCH], A transposed
var<workgroup> b_tile: array<vec4<f32>, 264>; // [DEPTH][PITCH]

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let tile = tile_of(group, groups, TILE);
    if tile.entry >= p.batch { return; }
    let x = local % 16u;
    let y = local / 16u;
    var s0 = vec4(0.0); var t0 = vec4(0.0);
    var s1 = vec4(0.0); var t1 = vec4(0.0);
    var s2 = vec4(0.0); var t2 = vec4(0.0);
    var s3 = vec4(0.0); var t3 = vec4(0.0);
    var s4 = vec4(0.0); var t4 = vec4(0.0);
    var s5 = vec4(0.0); var t5 = vec4(0.0);
    var s6 = vec4(0.0); var t6 = vec4(0.0);
    var s7 = vec4(0.0); var t7 = vec4(0.0);
    for (var k0 = 0u; k0 < p.k; k0 += DEPTH) {
        // Four elements of each tile an invocation, along whichever side neighbours in memory lie.
        var row = local % 32u * 4u;
        var k = local / 32u;
        if p.a_column == 1u { row = local / 8u * 4u; k = local % 8u; }
        a_tile[k * PITCH + row / 4u] = vec4(
            a_or_zero(tile, row, k0 + k), a_or_zero(tile, row + 1u, k0 + k),
            a_or_zero(tile, row + 2u, k0 + k), a_or_zero(tile, row + 3u, k0 + k));
        var column = local % 32u * 4u;
        k = local / 32u;
        if p.b_row == 1u { column = local / 8u * 4u; k = local % 8u; }
        b_tile[k * PITCH + column / 4u] = vec4(
            b_or_zero(tile, k0 + k, column), b_or_zero(tile, k0 + k, column + 1u),
            b_or_zero(tile, k0 + k, column + 2u), b_or_zero(tile, k0 + k, column + 3u));
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k++) {
            let above = a_tile[k * PITCH + y];
            let below = a_tile[k * PITCH + y + 16u];
            let left = b_tile[k * PITCH + x];
            let right = b_tile[k * PITCH + x + 16u];
            s0 += above.x * left; t0 += above.x * right;
            s1 += above.y * left; t1 += above.y * right;
            s2 += above.z * left; t2 += above.z * right;
            s3 += above.w * left; t3 += above.w * right;
            s4 += below.x * left; t4 += below.x * right;
            s5 += below.y * left; t5 += below.y * right;
            s6 += below.z * left; t6 += below.z * right;
            s7 += below.w * left; t7 += below.w * right;
        }
        workgroupBarrier();
    }
    let i = tile.i + y * 4u;
    let j = tile.j + x * 4u;
    // The rows one after the other, each from the front of the queue, so that the epilogue is compiled once and not eight
    // times.
    for (var r = 0u; r < 8u; r++) {
        let row = i + r % 4u + r / 4u * 64u;
        for (var side = 0u; side < 2u; side++) {
            let sums = select(s0, t0, side == 1u);
            let column = j + side * 64u;
            finish(tile.entry, row, column, sums.x); finish(tile.entry, row, column + 1u, sums.y);
            finish(tile.entry, row, column + 2u, sums.z); finish(tile.entry, row, column + 3u, sums.w);
        }
        s0 = s1; s1 = s2; s2 = s3; s3 = s4; s4 = s5; s5 = s6; s6 = s7;
        t0 = t1; t1 = t2; t2 = t3; t3 = t4; t4 = t5; t5 = t6; t6 = t7;
    }
}
