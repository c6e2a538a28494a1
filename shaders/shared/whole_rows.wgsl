// What a workgroup shares that makes eight whole rows of at most 128 columns: a product's B, sixteen of its rows at a time,
// and layer norm of what becomes of the sums. After `tiles` and `total`.
override COLUMNS: u32 = 64u; // 64 or 128, not fewer than there are
const INVOCATIONS = 256u;
const ROWS = 8u;
const DEPTH = 16u;
const PITCH = 129u; // one more than the columns, so that neighbouring rows fall into different banks
@group(0) @binding(5) var<storage, read> gamma: array<f32>;     // [n]
@group(0) @binding(6) var<storage, read> beta: array<f32>;      // [n]
var<workgroup> wide: array<f32, 2064>; // [DEPTH][PITCH]: B; behind the sums [ROWS][PITCH], the rows

// B's rows from k0 on.
fn stage(tile: Tile, k0: u32, local: u32) {
    for (var at = local; at < COLUMNS * DEPTH; at += INVOCATIONS) {
        var j = at % COLUMNS;
        var k = at / COLUMNS;
        if p.b_column != 1u { j = at / DEPTH; k = at % DEPTH; }
        wide[k * PITCH + j] = b_or_zero(tile, k0 + k, j);
    }
}

// Stores the norms of the rows, of which the first is C's row i. C has rows up to `end`.
fn normalise(i: u32, end: u32, local: u32) {
    // As one of 32 with a row.
    let row = local / 32u;
    let lane = local % 32u;
    let width = f32(p.n);
    var sum = 0.0;
    for (var j = lane; j < p.n; j += 32u) { sum += wide[row * PITCH + j]; }
    let mean = total(vec2(sum, 0.0), local, 32u).x / width;
    var square = 0.0;
    for (var j = lane; j < p.n; j += 32u) { let d = wide[row * PITCH + j] - mean; square += d * d; }
    let rstd = 1.0 / sqrt(total(vec2(square, 0.0), local, 32u).x / width + p.eps);
    if i + row >= end { return; }
    for (var j = lane; j < p.n; j += 32u) {
        c[(i + row) * p.n + j] = gamma[j] * ((wide[row * PITCH + j] - mean) * rstd) + beta[j];
    }
}

