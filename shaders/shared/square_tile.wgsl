// A square tile of a product: 16 columns of A and 16 rows of B are staged in workgroup memory, and an invocation has 4x4 sums.
// After `product`, `operands` and `tiles`.
override SIDE: u32 = 16u; // invocations of a side
override TILE: u32 = 64u; // 4 * SIDE
const DEPTH = 16u;
const PITCH = 65u; // one more than the larger tile, so that neighbouring rows fall into different banks
var<workgroup> a_tile: array<f32, 1040>; // [DEPTH][PITCH], A transposed
var<workgroup> b_tile: array<f32, 1040>; // [DEPTH][PITCH]

// Stages an element of B: neighbours read neighbours in memory.
fn stage_b(tile: Tile, k0: u32, at: u32) {
    var j = at % TILE;
    var k = at / TILE;
    if p.b_column != 1u { j = at / DEPTH; k = at % DEPTH; }
    b_tile[k * PITCH + j] = b_or_zero(tile, k0 + k, j);
}

// The sums in columns 4x to 4x + 3 with all staged terms more: sums[i] are those of row 4y + i.
fn add_staged(sums: mat4x4<f32>, y: u32, x: u32) -> mat4x4<f32> {
    var s = sums;
    for (var k = 0u; k < DEPTH; k++) {
        let left = k * PITCH + y * 4u;
        let right = k * PITCH + x * 4u;
        let bk = vec4(b_tile[right], b_tile[right + 1u], b_tile[right + 2u], b_tile[right + 3u]);
        s[0] += a_tile[left] * bk;
        s[1] += a_tile[left + 1u] * bk;
        s[2] += a_tile[left + 2u] * bk;
        s[3] += a_tile[left + 3u] * bk;
    }
    return s;
}
