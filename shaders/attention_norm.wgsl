// uses: activation, product, operands, tiles, total, whole_rows
// Softmax attention of eight queries of a sample, all heads, with the product of at most 128 columns that follows and layer
// norm of its rows: a workgroup. In workgroup memory are the eight queries, then what they found, and a tile of keys' scores,
// then B. Twin: src/kernels/attention_norm.rs.
const SPAN = 128u; // scores of a query: all heads' of some keys
@group(0) @binding(7) var<storage, read> keys_values: array<vec4<f32>>;  // [batch * tk, ..], strided
@group(0) @binding(8) var<storage, read_write> c: array<f32>;            // [batch * tq, n]
var<workgroup> narrow: array<f32, 1032>; // [ROWS][PITCH]: queries, answers

@compute @workgroup_size(INVOCATIONS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let of_entry = (p.tq + ROWS - 1u) / ROWS;
    let number = group.y * groups.x + group.x;
    let entry = number / of_entry;
    if entry >= p.m / p.tq { return; }
    let end = (entry + 1u) * p.tq;
    let tile = Tile(0u, entry * p.tq + number % of_entry * ROWS, 0u, 0u, p.b_offset);
    for (var at = local; at < ROWS * p.k; at += INVOCATIONS) {
        let token = min(tile.i + at / p.k, end - 1u);
        narrow[at / p.k * PITCH + at % p.k] = p.scale * a[4u * (p.q_offset + token * p.q_stride) + at % p.k];
    }
    // A column of two rows, or of four.
    let column = local % COLUMNS;
    let own = ROWS * COLUMNS / INVOCATIONS;
    let first = local / COLUMNS * own;
    let rows = min(first + vec4(0u, 1u, 2u, 3u), vec4(ROWS - 1u));
    let answers = attended(entry, local, column, rows);
    if column < p.k {
        for (var n = 0u; n < own; n++) { narrow[rows[n] * PITCH + column] = answers[n]; }
    }
    var s = vec4(0.0);
    for (var k0 = 0u; k0 < p.k; k0 += DEPTH) {
        stage(tile, k0, local);
        workgroupBarrier();
        for (var k = 0u; k < min(DEPTH, p.k - k0); k++) {
            let at = rows * PITCH + k0 + k;
            s += vec4(narrow[at.x], narrow[at.y], narrow[at.z], narrow[at.w]) * wide[k * PITCH + column];
        }
        workgroupBarrier();
    }
    if column < p.n {
        for (var n = 0u; n < own; n++) {
            wide[rows[n] * PITCH + column] = finished(min(tile.i + rows[n], end - 1u), column, s[n]);
        }
    }
    workgroupBarrier();
    normalise(tile.i, end, local);
}

// What four of the queries find in a column. All invocations come back together, and nobody reads the queries any more.
fn attended(entry: u32, local: u32, column: u32, rows: vec4<u32>) -> vec4<f32> {
    let span = SPAN / p.heads;
    let pairs = ROWS * p.heads; // a query and a head: its largest score so far, and what that does to its sums
    for (var pair = local; pair < pairs; pair += INVOCATIONS) { sums[pair] = vec2(-1e30, 1.0); }
    let h = min(column / (4u * p.width), p.heads - 1u);
    let v = 4u * p.v_offset + column;
    var found = vec4(0.0);
    var mass = vec4(0.0);
    workgroupBarrier();
    for (var first = 0u; first < p.tk; first += span) {
        let count = min(span, p.tk - first);
        for (var unit = local; unit < pairs * count; unit += INVOCATIONS) {
            let row = unit % ROWS;
            let key = unit / ROWS % count;
            let of_head = unit / (ROWS * count);
            let at = p.k_offset + (entry * p.tk + first + key) * p.k_stride + of_head * p.width;
            let query = row * PITCH + of_head * p.width * 4u;
            var score = 0.0;
            for (var i = 0u; i < p.width; i++) {
                let q = query + 4u * i;
                score += dot(vec4(narrow[q], narrow[q + 1u], narrow[q + 2u], narrow[q + 3u]), keys_values[at + i]);
            }
            wide[row * SPAN + of_head * span + key] = score;
        }
        workgroupBarrier();
        for (var pair = local; pair < pairs; pair += INVOCATIONS) {
            let scores = pair % ROWS * SPAN + pair / ROWS * span;
            let before = sums[pair].x;
            var top = before;
            for (var key = 0u; key < count; key++) { top = max(top, wide[scores + key]); }
            sums[pair] = vec2(top, exp(before - top));
        }
        workgroupBarrier();
        for (var unit = local; unit < pairs * count; unit += INVOCATIONS) {
            let of_head = unit / (ROWS * count);
            let at = unit % ROWS * SPAN + of_head * span + unit / ROWS % count;
            wide[at] = exp(wide[at] - sums[of_head * ROWS + unit % ROWS].x);
        }
        workgroupBarrier();
        if column < p.k {
            let pair = h * ROWS + rows;
            let decay = vec4(sums[pair.x].y, sums[pair.y].y, sums[pair.z].y, sums[pair.w].y);
            found *= decay;
            mass *= decay;
            for (var key = 0u; key < count; key++) {
                let at = rows * SPAN + h * span + key;
                let weights = vec4(wide[at.x], wide[at.y], wide[at.z], wide[at.w]);
                let place = v + 4u * (entry * p.tk + first + key) * p.v_stride;
                found += weights * keys_values[place / 4u][place % 4u];
                mass += weights;
            }
        }
        workgroupBarrier();
    }
    return found / max(mass, vec4(1e-30));
}
