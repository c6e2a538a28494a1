// Where most matrix products store their results. After `product`.
@group(0) @binding(5) var<storage, read_write> c: array<f32>;   // m x n, strided

// Stores what becomes of a sum at (i, j) of one batch entry, where that lies inside C.
fn finish(entry: u32, i: u32, j: u32, sum: f32) {
    if i >= p.m || j >= p.n { return; }
    c[p.c_offset + entry * p.c_batch + i * p.c_row + j] = finished(i, j, sum);
}

