// A matrix product whose operands are f16 and whose sums are f32. Four subgroups, two by two, have two by two of the
// hardware's matrices each; what they multiply is staged in workgroup memory, A rounded there. A sum can only be looked
// at once it is back in workgroup memory. SIDE, Left, Right and Sums are the file's that uses this.
override LANES: u32 = 32u; // invocations of a subgroup
const TILE = 4u * SIDE;    // rows and columns of a workgroup's results
const DEPTH = 32u;         // columns of A, rows of B that are staged together
const A_PITCH = DEPTH + 8u; // a few more, so that neighbouring rows fall into different banks
const B_PITCH = TILE + 8u;
var<workgroup> a_tile: array<f16, TILE * A_PITCH>;
var<workgroup> b_tile: array<f16, DEPTH * B_PITCH>;
var<workgroup> stored: array<f32, 4u * SIDE * SIDE>;

@compute @workgroup_size(4u * LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    // naga takes no function's word for it that all of a workgroup return.
    let tiles = (p.m + TILE - 1u) / TILE * ((p.n + TILE - 1u) / TILE) * p.batch;
    if group.y * groups.x + group.x >= tiles { return; }
    let tile = tile_of(group, groups, TILE);
    let subgroup = local / LANES;
    let row = subgroup / 2u * 2u * SIDE;
    let column = subgroup % 2u * 2u * SIDE;
    var s00 = Sums(); var s01 = Sums();
    var s10 = Sums(); var s11 = Sums();
    for (var k0 = 0u; k0 < p.k; k0 += DEPTH) {
        // Neighbours stage what lies side by side in memory.
        for (var at = local; at < TILE * DEPTH; at += 4u * LANES) {
            let i = select(at % TILE, at / DEPTH, p.a_column == 1u);
            let ka = select(at / TILE, at % DEPTH, p.a_column == 1u);
            a_tile[i * A_PITCH + ka] = half(a_or_zero(tile, i, k0 + ka));
            let j = select(at % TILE, at / DEPTH, p.b_row == 1u);
            let kb = select(at / TILE, at % DEPTH, p.b_row == 1u);
            b_tile[kb * B_PITCH + j] = half(b_or_zero(tile, k0 + kb, j));
        }
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k += SIDE) {
            let above = coopLoadT<Left>(&a_tile[row * A_PITCH + k], A_PITCH);
            let below = coopLoadT<Left>(&a_tile[(row + SIDE) * A_PITCH + k], A_PITCH);
            let left = coopLoadT<Right>(&b_tile[k * B_PITCH + column], B_PITCH);
            let right = coopLoadT<Right>(&b_tile[k * B_PITCH + column + SIDE], B_PITCH);
            s00 = coopMultiplyAdd(above, left, s00);
            s01 = coopMultiplyAdd(above, right, s01);
            s10 = coopMultiplyAdd(below, left, s10);
            s11 = coopMultiplyAdd(below, right, s11);
        }
        workgroupBarrier();
    }
    let first = subgroup * SIDE * SIDE;
    let lane = local % LANES;
    coopStoreT(s00, &stored[first], SIDE);
    finish_matrix(tile.entry, tile.i + row, tile.j + column, first, lane);
    coopStoreT(s01, &stored[first], SIDE);
    finish_matrix(tile.entry, tile.i + row, tile.j + column + SIDE, first, lane);
    coopStoreT(s10, &stored[first], SIDE);
    finish_matrix(tile.entry, tile.i + row + SIDE, tile.j + column, first, lane);
    coopStoreT(s11, &stored[first], SIDE);
    finish_matrix(tile.entry, tile.i + row + SIDE, tile.j + column + SIDE, first, lane);
}

// The nearest f16; what is beyond them becomes the largest.
fn half(x: f32) -> f16 { return f16(clamp(x, -65504.0, 65504.0)); }

// What comes after the sums of one matrix, which its subgroup has just stored and may overwrite afterwards.
fn finish_matrix(entry: u32, i: u32, j: u32, first: u32, lane: u32) {
    workgroupBarrier();
    for (var at = lane; at < SIDE * SIDE; at += LANES) {
        finish(entry, i + at / SIDE, j + at % SIDE, stored[first + at]);
    }
    workgroupBarrier();
}

