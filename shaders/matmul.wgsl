// uses: activation, product, result, operands, tiles, square_tile
// Matrix product by 64x64 tiles of 256 invocations. Where such tiles were too few to fill a GPU, they are 32x32 with 64
// invocations.
@compute @workgroup_size(SIDE * SIDE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let tile = tile_of(group, groups, TILE);
    if tile.entry >= p.batch { return; }
    let x = local % SIDE;
    let y = local / SIDE;
    var sums = mat4x4<f32>();
    for (var k0 = 0u; k0 < p.k; k0 += DEPTH) {
        // A few elements of each tile an invocation, neighbours reading neighbours in memory.
        for (var at = local; at < TILE * DEPTH; at += SIDE * SIDE) {
            var i = at / DEPTH;
            var k = at % DEPTH;
            if p.a_column != 1u { i = at % TILE; k = at / TILE; }
            a_tile[k * PITCH + i] = a_or_zero(tile, i, k0 + k);
            stage_b(tile, k0, at);
        }
        workgroupBarrier();
        sums = add_staged(sums, y, x);
        workgroupBarrier();
    }
    let i = tile.i + y * 4u;
    let j = tile.j + x * 4u;
    // Each row from the front of the queue, so that the epilogue is compiled once and not four times.
    for (var row = i; row < i + 4u; row++) {
        finish(tile.entry, row, j, sums[0].x); finish(tile.entry, row, j + 1u, sums[0].y);
        finish(tile.entry, row, j + 2u, sums[0].z); finish(tile.entry, row, j + 3u, sums[0].w);
        sums = mat4x4(sums[1], sums[2], sums[3], sums[3]);
    }
}
