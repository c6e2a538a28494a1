// uses: decoder
// All Euler steps of a transformer decoder over a chunk of at most eight actions: one launch, a workgroup a sample.
// What is known of the chunk stays in workgroup memory, column by column: two vec4s, a cell each, hold the eight rows
// of one. Rows past the last slot repeat it and reach no other. In a product an invocation owns a column, reads its
// weights from PyTorch's rows, and meets the same cells as its neighbours; of at most 64 columns each has four
// invocations, a quarter of the sum each. Twin: src/kernels/decoder_steps.rs.
// Cells: the tokens; what attention mixed, and sums; its weights, (head, key) a column; queries, keys and values, or
// what is hidden between the last two products, or the point.
const TOKENS = 0u; const MIXED = 128u; const SCORES = 256u; const WIDE = 512u;
var<workgroup> cells: array<vec4<f32>, 1024>;

// A column's rows 0 to 3, and 4 to 7.
struct Rows { low: vec4<f32>, high: vec4<f32> }

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let entry = group.y * groups.x + group.x;
    if entry >= p.batch { return; }
    var x = vec4(0.0); // a cell of the point in each of the first invocations
    let owns = local < 2u * p.dims;
    if owns {
        let at = entry * p.slots * p.dims + local / 2u + p.dims * four_rows(local % 2u);
        x = vec4(noise[at.x], noise[at.y], noise[at.z], noise[at.w]);
    }
    for (var step = 0u; step < p.steps; step++) {
        if owns { cells[WIDE + local] = x; }
        workgroupBarrier();
        if local < 2u * p.width { cells[TOKENS + local] = embed(step, local / 2u, local % 2u); }
        workgroupBarrier();
        for (var n = 0u; n <= 6u * p.layers; n++) {
            let stage = stage_of(n);
            if stage.attended { attend(stage.part == CROSS_OUT, stage.layer, entry, local); }
            var source = TOKENS;
            if stage.attended { source = MIXED; } else if stage.part == LINEAR2 { source = WIDE; }
            let spare = select(MIXED, WIDE, stage.attended);
            let which = stage.layer * OF_A_LAYER + 2u * stage.part;
            var y = linear(which, stage.columns, stage.inputs, source, spare, local);
            let added = stage.part % 2u == 1u;
            if local < stage.columns {
                if added {
                    y = Rows(y.low + cells[TOKENS + 2u * local], y.high + cells[TOKENS + 2u * local + 1u]);
                } else if stage.part == LINEAR1 {
                    y = Rows(max(y.low, vec4(0.0)), max(y.high, vec4(0.0)));
                }
                put(select(WIDE, MIXED, added), local, y);
            }
            workgroupBarrier();
            if added { norm(stage.layer * OF_A_LAYER + NORMS + stage.part - 1u, local); }
        }
        if owns { x += p.size * cells[WIDE + local]; }
    }
    if owns { cells[WIDE + local] = x; }
    workgroupBarrier();
    if local < p.slots * p.dims {
        let row = local / p.dims;
        sample[entry * p.slots * p.dims + local] = cells[WIDE + 2u * (local % p.dims) + row / 4u][row % 4u];
    }
}

fn four_rows(half: u32) -> vec4<u32> { return min(4u * half + vec4(0u, 1u, 2u, 3u), vec4(p.slots - 1u)); }

// Half a column of the action projection at the point in WIDE, with the step's time and the slots' embedding.
fn embed(step: u32, column: u32, half: u32) -> vec4<f32> {
    let ends = p.layers * OF_A_LAYER;
    var y = vec4(times[step * p.width + column]);
    if p.embedded != 0u {
        let which = ends + ACTION_POS_EMBED;
        let at = four_rows(half) * p.width + column;
        y += vec4(parameter(which, at.x), parameter(which, at.y), parameter(which, at.z), parameter(which, at.w));
    }
    for (var a = 0u; a < p.dims; a++) {
        y += cells[WIDE + 2u * a + half] * parameter(ends + ACTION_PROJ, column * p.dims + a);
    }
    return y;
}

// A linear layer of `inputs` columns from cell x on: the first invocations return its columns. Where others help, their
// sums lie in at most 384 cells from `spare` on.
fn linear(which: u32, columns: u32, inputs: u32, x: u32, spare: u32, local: u32) -> Rows {
    let shares = select(1u, 4u, columns <= 64u);
    let column = local % (256u / shares);
    let share = local / (256u / shares);
    let whole = inputs / 4u; // vec4s of a weight's row
    let each = (whole + shares - 1u) / shares;
    let first = min(share * each, whole);
    var sum = Rows(vec4(0.0), vec4(0.0));
    if column < columns {
        let at = place(which);
        sum = product(at % 4u, at / 4u + column * whole + first, min(each, whole - first), x + 8u * first);
        if share > 0u { put(spare, (share - 1u) * columns + column, sum); }
    }
    workgroupBarrier();
    if local < columns {
        for (var at = spare + 2u * local; at < spare + 2u * (shares - 1u) * columns; at += 2u * columns) {
            sum = Rows(sum.low + cells[at], sum.high + cells[at + 1u]);
        }
        let bias = parameter(which + 1u, column);
        sum = Rows(sum.low + bias, sum.high + bias);
    }
    return sum;
}

// The sums of `count` vec4s with the columns from cell x on. The next four are loaded before these are summed.
fn product(buffer: u32, start: u32, count: u32, x: u32) -> Rows {
    var sum = Rows(vec4(0.0), vec4(0.0));
    let fours = count / 4u;
    if fours > 0u {
        var w = four(buffer, start);
        for (var i = 0u; i < fours; i++) {
            let next = four(buffer, start + 4u * min(i + 1u, fours - 1u));
            sum = fold_four(sum, x + 32u * i, w);
            w = next;
        }
    }
    for (var i = 4u * fours; i < count; i++) { sum = fold(sum, x + 8u * i, one(buffer, start + i)); }
    return sum;
}

// Layer norm from MIXED to the tokens, a cell an invocation: every one adds up all columns for itself.
fn norm(which: u32, local: u32) {
    if local < 2u * p.width {
        let first = MIXED + local % 2u;
        let last = first + 2u * p.width;
        var a = vec4(0.0); var b = vec4(0.0); var c = vec4(0.0); var d = vec4(0.0);
        for (var at = first; at < last; at += 8u) {
            a += cells[at]; b += cells[at + 2u]; c += cells[at + 4u]; d += cells[at + 6u];
        }
        let mean = ((a + b) + (c + d)) / f32(p.width);
        a = vec4(0.0); b = vec4(0.0); c = vec4(0.0); d = vec4(0.0);
        for (var at = first; at < last; at += 8u) {
            let e = cells[at] - mean; let f = cells[at + 2u] - mean;
            let g = cells[at + 4u] - mean; let h = cells[at + 6u] - mean;
            a += e * e; b += f * f; c += g * g; d += h * h;
        }
        let rstd = 1.0 / sqrt(((a + b) + (c + d)) / f32(p.width) + 1e-5);
        let gamma = parameter(which, local / 2u);
        cells[TOKENS + local] = gamma * ((cells[MIXED + local] - mean) * rstd) + parameter(which + 1u, local / 2u);
    }
    workgroupBarrier();
}

// Softmax attention of the queries in WIDE, to MIXED: to the keys and values behind them, or, where it `looks`, to the
// memory's.
fn attend(looks: bool, layer: u32, entry: u32, local: u32) {
    let keys = select(p.slots, p.keys, looks);
    let head_width = p.width / p.heads;
    let row = p.layers * (p.width / 2u); // vec4s of the memory
    let first = entry * p.keys * row + layer * (p.width / 2u);

    // As the owner of a key of a head.
    let key = local % keys;
    let h = local / keys;
    let owns = h < p.heads;
    var score = Rows(vec4(0.0), vec4(0.0));
    if owns {
        let q = WIDE + 2u * h * head_width;
        let whole = head_width / 4u;
        let k = first + key * row + h * whole;
        let own = q + 2u * p.width + key / 4u;
        var c = 0u;
        for (; looks && c + 4u <= whole; c += 4u) {
            let at = k + c;
            let w = mat4x4(memory[at], memory[at + 1u], memory[at + 2u], memory[at + 3u]);
            score = fold_four(score, q + 8u * c, w);
        }
        for (; c < whole; c++) {
            var y: vec4<f32>;
            if looks { y = memory[k + c]; } else { y = channels(own + 8u * c, key % 4u); }
            score = fold(score, q + 8u * c, y);
        }
        score = Rows(score.low * p.scale, score.high * p.scale);
        put(SCORES, local, score);
    }
    workgroupBarrier();
    var top = Rows(vec4(-1e30), vec4(-1e30));
    if owns {
        let scores = SCORES + 2u * h * keys;
        for (var at = scores; at < scores + 2u * keys; at += 2u) {
            top = Rows(max(top.low, cells[at]), max(top.high, cells[at + 1u]));
        }
    }
    workgroupBarrier();
    if owns { put(SCORES, local, Rows(exp(score.low - top.low), exp(score.high - top.high))); }
    workgroupBarrier();

    // As the owner of a column for four of the rows.
    if local < 2u * p.width {
        let column = local % p.width;
        let half = local / p.width;
        let weights = SCORES + 2u * (column / head_width) * keys + half;
        let v = first + (p.width + column) / 4u;
        var sum = vec4(0.0);
        var total = vec4(0.0);
        var n = 0u;
        for (; looks && n + 16u <= keys; n += 16u) {
            let at = v + n * row;
            let a = values(at, row, column % 4u); let b = values(at + 4u * row, row, column % 4u);
            let c = values(at + 8u * row, row, column % 4u); let d = values(at + 12u * row, row, column % 4u);
            let w = weights + 2u * n;
            sum = fold_half(fold_half(fold_half(fold_half(sum, w, a), w + 8u, b), w + 16u, c), w + 24u, d);
            for (var i = w; i < w + 32u; i += 8u) { total = fold_half(total, i, vec4(1.0)); }
        }
        for (; n < keys; n++) {
            var y: f32;
            if looks { y = memory[v + n * row][column % 4u]; }
            else { y = cells[WIDE + 2u * (2u * p.width + column) + n / 4u][n % 4u]; }
            sum += cells[weights + 2u * n] * y;
            total += cells[weights + 2u * n];
        }
        cells[MIXED + 2u * column + half] = sum / total;
    }
    workgroupBarrier();
}

// A channel of four rows of the memory, and a row of four columns of cells.
fn values(at: u32, row: u32, channel: u32) -> vec4<f32> {
    return vec4(memory[at][channel], memory[at + row][channel],
                memory[at + 2u * row][channel], memory[at + 3u * row][channel]);
}

fn channels(at: u32, row: u32) -> vec4<f32> {
    return vec4(cells[at][row], cells[at + 2u][row], cells[at + 4u][row], cells[at + 6u][row]);
}

// sum + Σ w_c of column c for four columns, for sixteen, and for half of four.
fn fold(sum: Rows, x: u32, w: vec4<f32>) -> Rows {
    return Rows(fold_half(sum.low, x, w), fold_half(sum.high, x + 1u, w));
}

fn fold_four(sum: Rows, x: u32, w: mat4x4<f32>) -> Rows {
    return fold(fold(fold(fold(sum, x, w[0]), x + 8u, w[1]), x + 16u, w[2]), x + 24u, w[3]);
}

fn fold_half(sum: vec4<f32>, x: u32, w: vec4<f32>) -> vec4<f32> {
    return sum + cells[x] * w.x + cells[x + 2u] * w.y + cells[x + 4u] * w.z + cells[x + 6u] * w.w;
}

fn put(region: u32, column: u32, rows: Rows) {
    cells[region + 2u * column] = rows.low;
    cells[region + 2u * column + 1u] = rows.high;
}
