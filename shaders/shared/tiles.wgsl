// A product's results in square tiles, a workgroup each: where a tile begins, and what of the operands belongs to it, zeros
// past their edges. Used with product and operands.
struct Tile {
    entry: u32,       // of the batch; p.batch and more behind the last tile
    i: u32, j: u32,   // its first row and column
    a: u32, b: u32,   // the entry's first elements
}

fn tile_of(group: vec3<u32>, groups: vec3<u32>, side: u32) -> Tile {
    let tiles_m = (p.m + side - 1u) / side;
    let tiles_n = (p.n + side - 1u) / side;
    let number = group.y * groups.x + group.x;
    let entry = number / (tiles_m * tiles_n);
    return Tile(entry, (number / tiles_n) % tiles_m * side, number % tiles_n * side,
                p.a_offset + entry * p.a_batch, p.b_offset + entry * p.b_batch);
}

// A's column k in the tile's row i.
fn a_or_zero(tile: Tile, i: u32, k: u32) -> f32 {
    let inside = tile.i + i < p.m && k < p.k;
    return select(0.0, a[select(0u, tile.a + (tile.i + i) * p.a_row + k * p.a_column, inside)], inside);
}

// B's row k in the tile's column j.
fn b_or_zero(tile: Tile, k: u32, j: u32) -> f32 {
    let inside = k < p.k && tile.j + j < p.n;
    return select(0.0, b_at(select(0u, tile.b + k * p.b_row + (tile.j + j) * p.b_column, inside)), inside);
}

