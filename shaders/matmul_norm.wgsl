// uses: activation, product, operands, tiles, total, whole_rows
// Matrix product of at most 128 columns, and layer norm of its rows: a workgroup makes eight whole rows, so that it knows
// their means. It stages 16 columns of A and 16 rows of B in workgroup memory; each of its 256 invocations has a column, of
// two rows (64 columns) or of four (128). Twin: src/kernels/matmul_norm.rs.
const A_PITCH = 12u;
@group(0) @binding(7) var<storage, read_write> c: array<f32>;   // m x n
var<workgroup> a_tile: array<f32, 192>;  // [DEPTH][A_PITCH], A transposed

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
        stage(tile, k0, local);
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k++) {
            let left = k * A_PITCH + first;
            s += vec4(a_tile[left], a_tile[left + 1u], a_tile[left + 2u], a_tile[left + 3u]) * wide[k * PITCH + column];
        }
        workgroupBarrier();
    }
    if column < p.n {
        for (var row = first; row < first + own; row++) {
            wide[row * PITCH + column] = finished(tile.i + row, column, s.x);
            s = s.yzww;
        }
    }
    workgroupBarrier();
    normalise(tile.i, p.m, local);
}
