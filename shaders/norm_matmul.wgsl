// uses: activation, product, operands, tiles, square_tile
// Layer norm of A's rows and the product that takes them, by the square tiles of `matmul`. A row's mean and deviation are known
// when all of it has been multiplied, and are put in then. With d = a - shift, of mean m and inverse deviation r,
//   LN(a) B = r (sum d gamma B - m sum gamma B) + sum beta B.
// The sums of rows are made of what is staged for the product, those of columns as well. Twin: src/kernels/norm_matmul.rs.
@group(0) @binding(5) var<storage, read> gamma: array<f32>;         // [k]
@group(0) @binding(6) var<storage, read> beta: array<f32>;          // [k]
@group(0) @binding(7) var<storage, read_write> c: array<f32>;       // m x n, strided
@group(0) @binding(8) var<storage, read_write> normed: array<f32>;  // m x k
var<workgroup> d_tile: array<f32, 1040>; // [DEPTH][PITCH], A less the shift, transposed; a_tile has it times gamma
var<workgroup> shift: array<f32, 64>;    // about a row's mean, so that squares of differences do not cancel
var<workgroup> rows: array<vec2<f32>, 64>;    // m, r
var<workgroup> columns: array<vec2<f32>, 64>; // sums of gamma B, of beta B

@compute @workgroup_size(SIDE * SIDE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let tile = tile_of(group, groups, TILE);
    if tile.entry >= p.batch { return; }
    if local < TILE {
        let count = min(DEPTH, p.k);
        var sum = 0.0;
        for (var k = 0u; k < count; k++) { sum += a_or_zero(tile, local, k); }
        shift[local] = sum / f32(count);
    }
    workgroupBarrier();
    let x = local % SIDE;
    let y = local / SIDE;
    var sums = vec2(0.0); // of a row, or of a column
    var products = mat4x4<f32>();
    for (var k0 = 0u; k0 < p.k; k0 += DEPTH) {
        for (var at = local; at < TILE * DEPTH; at += SIDE * SIDE) {
            let i = at / DEPTH;
            let k = at % DEPTH;
            let d = select(0.0, a_or_zero(tile, i, k0 + k) - shift[i], k0 + k < p.k);
            d_tile[k * PITCH + i] = d;
            a_tile[k * PITCH + i] = d * gamma[min(k0 + k, p.k - 1u)];
            stage_b(tile, k0, at);
        }
        workgroupBarrier();
        if local < TILE {
            for (var k = 0u; k < DEPTH; k++) {
                let d = d_tile[k * PITCH + local];
                sums += vec2(d, d * d);
            }
        } else if local < 2u * TILE {
            for (var k = 0u; k < DEPTH; k++) {
                let at = min(k0 + k, p.k - 1u);
                sums += b_tile[k * PITCH + local - TILE] * vec2(gamma[at], beta[at]);
            }
        }
        products = add_staged(products, y, x);
        workgroupBarrier();
    }
    if local < TILE {
        let mean = sums.x / f32(p.k);
        rows[local] = vec2(mean, 1.0 / sqrt(max(sums.y / f32(p.k) - mean * mean, 0.0) + p.eps));
    } else if local < 2u * TILE {
        columns[local - TILE] = sums;
    }
    workgroupBarrier();
    let j = x * 4u;
    // Each row from the front of the queue, as in `matmul`.
    for (var i = y * 4u; i < y * 4u + 4u; i++) {
        finish(tile, i, j, products[0].x); finish(tile, i, j + 1u, products[0].y);
        finish(tile, i, j + 2u, products[0].z); finish(tile, i, j + 3u, products[0].w);
        products = mat4x4(products[1], products[2], products[3], products[3]);
    }
    // The rows themselves: beside one another, tiles are at least as wide as A, and each stores as many columns as it has.
    for (var at = local; at < TILE * TILE; at += SIDE * SIDE) {
        let i = at / TILE;
        let k = tile.j + at % TILE;
        if tile.i + i < p.m && k < p.k {
            let d = a_or_zero(tile, i, k) - shift[i];
            normed[(tile.i + i) * p.k + k] = gamma[k] * ((d - rows[i].x) * rows[i].y) + beta[k];
        }
    }
}

// Stores what becomes of a sum in the tile's row i and column j.
fn finish(tile: Tile, i: u32, j: u32, sum: f32) {
    if tile.i + i >= p.m || tile.j + j >= p.n { return; }
    let y = rows[i].y * (sum - rows[i].x * columns[j].x) + columns[j].y;
    c[p.c_offset + (tile.i + i) * p.c_row + tile.j + j] = finished(tile.i + i, tile.j + j, y);
}
