// uses: activation, product, operands, tiles, total
// Matrix product of at most 128 columns, and layer norm of its rows: a workgroup makes eight whole rows, so that it knows
// their means. It stages 16 columns of A and 16 rows of B in workgroup memory; each of its 256 invocations has a column, of
// two rows (64 columns) or of four (128). Twin: src/kernels/matmul_norm.rs.
override COLUMNS: u32 = 64u; // 64 or 128, not fewer than there are
const INVOCATIONS = 256u;
const ROWS = 8u;
const DEPTH = 16u;
const A_PITCH = 12u;
const PITCH = 129u; // one more than the columns, so that neighbouring rows fall into different banks
@group(0) @binding(5) var<storage, read> gamma: array<f32>;     // [n]
@group(0) @binding(6) var<storage, read> beta: array<f32>;      // [n]
@group(0) @binding(7) var<storage, read_write> c: array<f32>;   // m x n
var<workgroup> a_tile: array<f32, 192>;  // [DEPTH][A_PITCH], A transposed
var<workgroup> b_tile: array<f32, 2064>; // [DEPTH][PITCH]; behind the sums [ROWS][PITCH], the rows

@compute @workgroup_size(INVOCATIONS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let tile = Tile(0u, (group.y * groups.x + group.x) * ROWS, 0u, p.a_offset, p.b_offset);
    if tile.i >= p.m { return; }
    let column = local % COLUMNS;
    let own = ROWS * COLUMNS / INVOCATIONS; // rows of an invocation
    let first = local / COLUMNS * own;
    var s = vec4(0.0);
    for (var k0 = 0u; k0 < p.k; k0 += DEPTH) {
        if local < ROWS * DEPTH {
            a_tile[local % DEPTH * A_PITCH + local / DEPTH] = a_or_zero(tile, local / DEPTH, k0 + local % DEPTH);
        }
        for (var at = local; at < COLUMNS * DEPTH; at += INVOCATIONS) {
            var j = at % COLUMNS;
            var k = at / COLUMNS;
            if p.b_column != 1u { j = at / DEPTH; k = at % DEPTH; }
            b_tile[k * PITCH + j] = b_or_zero(tile, k0 + k, j);
        }
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k++) {
            let left = k * A_PITCH + first;
            s += vec4(a_tile[left], a_tile[left + 1u], a_tile[left + 2u], a_tile[left + 3u]) * b_tile[k * PITCH + column];
        }
        workgroupBarrier();
    }
    if column < p.n {
        for (var row = first; row < first + own; row++) {
            b_tile[row * PITCH + column] = finished(tile.i + row, column, s.x);
            s = s.yzww;
        }
    }
    workgroupBarrier();

    // As one of 32 with a row.
    let row = local / 32u;
    let lane = local % 32u;
    let width = f32(p.n);
    var sum = 0.0;
    for (var j = lane; j < p.n; j += 32u) { sum += b_tile[row * PITCH + j]; }
    let mean = total(vec2(sum, 0.0), local, 32u).x / width;
    var square = 0.0;
    for (var j = lane; j < p.n; j += 32u) { let d = b_tile[row * PITCH + j] - mean; square += d * d; }
    let rstd = 1.0 / sqrt(total(vec2(square, 0.0), local, 32u).x / width + p.eps);
    if tile.i + row >= p.m { return; }
    for (var j = lane; j < p.n; j += 32u) {
        c[(tile.i + row) * p.n + j] = gamma[j] * ((b_tile[row * PITCH + j] - mean) * rstd) + beta[j];
    }
}
