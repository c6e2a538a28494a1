// uses: decoder, fused, eight_rows
// All Euler steps of a transformer decoder over a chunk of at most eight actions, for software adapters with subgroups of
// eight: a workgroup is one subgroup and takes one sample. Each invocation holds a row. In a product it owns four columns of
// all rows, or four keys: it loads their weights, and the rows reach it by broadcast. What is known of the chunk stays in
// workgroup memory, four columns of a row a cell; rows past the last slot repeat it and reach no other. There are no barriers:
// lavapipe runs a subgroup as one vector, each instruction for all eight, so that all see what one wrote. Twin:
// src/kernels/decoder_steps.rs.
// Columns in fours: the tokens; sums before a norm; a head's scores, then weights; queries, keys and values, or what is hidden
// between the last two products, or the velocity.
const TOKENS = 0u; const SUMS = 16u; const SCORES = 32u; const WIDE = 64u;
const FOUR = vec4(0u, 1u, 2u, 3u);
var<workgroup> cells: array<vec4<f32>, 1024>; // [four columns][row]
var<private> row: u32;

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(subgroup_invocation_id) lane: u32) {
    let entry = group.y * groups.x + group.x;
    if entry >= p.batch { return; }
    row = lane;
    let slot = min(row, p.slots - 1u);
    let own = (entry * p.slots + slot) * p.dims;
    var near = vec4(0.0); // the point, up to eight dimensions
    var far = vec4(0.0);
    for (var a = 0u; a < p.dims; a++) {
        if a < 4u { near[a] = noise[own + a]; } else { far[a - 4u] = noise[own + a]; }
    }
    for (var step = 0u; step < p.steps; step++) {
        embed(step, slot, near, far);
        for (var n = 0u; n <= 6u * p.layers; n++) {
            let stage = stage_of(n);
            if stage.part == SELF_OUT { attend_to_rows(); }
            if stage.part == CROSS_OUT { attend_to_memory(stage.layer, entry); }
            linear(stage);
            if stage.part % 2u == 1u { norm(stage.layer * OF_A_LAYER + NORMS + stage.part - 1u); }
        }
        near += p.size * cells[WIDE * 8u + row];
        far += p.size * cells[WIDE * 8u + 8u + row];
    }
    if row >= p.slots { return; }
    for (var a = 0u; a < p.dims; a++) { sample[own + a] = select(far, near, a < 4u)[a % 4u]; }
}

// The action projection at the point, with the step's time and the slots' embedding.
fn embed(step: u32, slot: u32, near: vec4<f32>, far: vec4<f32>) {
    let ends = p.layers * OF_A_LAYER;
    let embedding = place(ends + ACTION_POS_EMBED);
    for (var c = 0u; c < p.width; c += 4u) {
        let time = step * p.width + c;
        var y = vec4(times[time], times[time + 1u], times[time + 2u], times[time + 3u]);
        if p.embedded != 0u { y += one(embedding % 4u, (embedding + slot * p.width + c) / 4u); }
        for (var a = 0u; a < p.dims; a++) {
            let x = select(far, near, a < 4u)[a % 4u];
            let which = ends + ACTION_PROJ;
            let at = c * p.dims + a;
            y += x * vec4(parameter(which, at), parameter(which, at + p.dims),
                          parameter(which, at + 2u * p.dims), parameter(which, at + 3u * p.dims));
        }
        cells[(TOKENS + c / 4u) * 8u + row] = y;
    }
}

// A linear layer: what is added to the tokens goes to SUMS, everything else to WIDE. 32 columns a round.
fn linear(stage: Stage) {
    let which = stage.layer * OF_A_LAYER + 2u * stage.part;
    let weight = place(which);
    let bias = place(which + 1u);
    let whole = stage.inputs / 4u; // vec4s of a weight's row
    let source = select(TOKENS, WIDE, stage.attended || stage.part == LINEAR2);
    for (var i = 0u; i < stage.columns; i += 32u) {
        let j = i + 4u * row;
        let at = weight / 4u + min(j + FOUR, vec4(stage.columns - 1u)) * whole; // columns past the last read it
        var sums = EightRows();
        // lavapipe copies under a mask what is chosen inside of a loop: the choice of a buffer is outside.
        switch weight % 4u {
            case 0u: {
                for (var k = 0u; k < whole; k++) {
                    let w = mat4x4(w0[at.x + k], w0[at.y + k], w0[at.z + k], w0[at.w + k]);
                    sums = add_products(sums, transpose(w), cells[(source + k) * 8u + row]);
                }
            }
            case 1u: {
                for (var k = 0u; k < whole; k++) {
                    let w = mat4x4(w1[at.x + k], w1[at.y + k], w1[at.z + k], w1[at.w + k]);
                    sums = add_products(sums, transpose(w), cells[(source + k) * 8u + row]);
                }
            }
            case 2u: {
                for (var k = 0u; k < whole; k++) {
                    let w = mat4x4(w2[at.x + k], w2[at.y + k], w2[at.z + k], w2[at.w + k]);
                    sums = add_products(sums, transpose(w), cells[(source + k) * 8u + row]);
                }
            }
            default: {
                for (var k = 0u; k < whole; k++) {
                    let w = mat4x4(w3[at.x + k], w3[at.y + k], w3[at.z + k], w3[at.w + k]);
                    sums = add_products(sums, transpose(w), cells[(source + k) * 8u + row]);
                }
            }
        }
        if j < stage.columns {
            let added = one(bias % 4u, (bias + j) / 4u);
            finish(stage.part, j, 0u, sums.r0 + added); finish(stage.part, j, 1u, sums.r1 + added);
            finish(stage.part, j, 2u, sums.r2 + added); finish(stage.part, j, 3u, sums.r3 + added);
            finish(stage.part, j, 4u, sums.r4 + added); finish(stage.part, j, 5u, sums.r5 + added);
            finish(stage.part, j, 6u, sums.r6 + added); finish(stage.part, j, 7u, sums.r7 + added);
        }
    }
}

// Stores what becomes of a row's sums of columns j to j + 3.
fn finish(part: u32, j: u32, r: u32, sums: vec4<f32>) {
    var y = sums;
    if part == LINEAR1 { y = max(y, vec4(0.0)); }
    var to = WIDE;
    if part % 2u == 1u {
        y += cells[(TOKENS + j / 4u) * 8u + r];
        to = SUMS;
    }
    cells[(to + j / 4u) * 8u + r] = y;
}

fn put(at: u32, rows: EightRows) {
    cells[at] = rows.r0; cells[at + 1u] = rows.r1; cells[at + 2u] = rows.r2; cells[at + 3u] = rows.r3;
    cells[at + 4u] = rows.r4; cells[at + 5u] = rows.r5; cells[at + 6u] = rows.r6; cells[at + 7u] = rows.r7;
}

// Layer norm from SUMS to the tokens.
fn norm(which: u32) {
    var sum = vec4(0.0);
    for (var c = 0u; c < p.width / 4u; c++) { sum += cells[(SUMS + c) * 8u + row]; }
    let mean = dot(sum, vec4(1.0)) / f32(p.width);
    var square = vec4(0.0);
    for (var c = 0u; c < p.width / 4u; c++) {
        let d = cells[(SUMS + c) * 8u + row] - mean;
        square += d * d;
    }
    let rstd = 1.0 / sqrt(dot(square, vec4(1.0)) / f32(p.width) + 1e-5);
    let gamma = place(which);
    let beta = place(which + 1u);
    for (var c = 0u; c < p.width / 4u; c++) {
        let x = (cells[(SUMS + c) * 8u + row] - mean) * rstd;
        cells[(TOKENS + c) * 8u + row] = one(gamma % 4u, gamma / 4u + c) * x + one(beta % 4u, beta / 4u + c);
    }
}

// Softmax attention of the queries in WIDE, whose place the answers take, to the rows' keys and values behind them.
fn attend_to_rows() {
    let of_head = p.width / p.heads / 4u;
    for (var h = 0u; h < p.heads; h++) {
        let end = (h + 1u) * of_head;
        var scores = Eight(); // of each key
        for (var c = h * of_head; c < end; c++) {
            scores = add_dots(scores, cells[(WIDE + p.width / 4u + c) * 8u + row], cells[(WIDE + c) * 8u + row]);
        }
        var low = select(vec4(-1e30), scores.near * p.scale, FOUR < vec4(p.slots));
        var high = select(vec4(-1e30), scores.far * p.scale, 4u + FOUR < vec4(p.slots));
        let four = max(low, high);
        let highest = max(max(four.x, four.y), max(four.z, four.w));
        low = exp(low - highest);
        high = exp(high - highest);
        let share = 1.0 / dot(low + high, vec4(1.0));
        low *= share;
        high *= share;
        for (var c = h * of_head; c < end; c++) {
            let v = cells[(WIDE + p.width / 2u + c) * 8u + row];
            let near = mat4x4(subgroupBroadcast(v, 0u), subgroupBroadcast(v, 1u),
                              subgroupBroadcast(v, 2u), subgroupBroadcast(v, 3u));
            let far = mat4x4(subgroupBroadcast(v, 4u), subgroupBroadcast(v, 5u),
                             subgroupBroadcast(v, 6u), subgroupBroadcast(v, 7u));
            cells[(WIDE + c) * 8u + row] = add_product(add_product(vec4(0.0), near, low), far, high);
        }
    }
}

// The same to the memory's keys and values: an invocation owns four keys of 32, then four channels of 32.
fn attend_to_memory(layer: u32, entry: u32) {
    let of_head = p.width / p.heads / 4u;
    let stride = p.layers * (p.width / 2u); // vec4s of the memory's row
    let first = entry * p.keys * stride + layer * (p.width / 2u);
    let fours = (p.keys + 3u) / 4u;
    for (var h = 0u; h < p.heads; h++) {
        for (var i = 0u; i < fours; i += 8u) {
            let n = i + row;
            let at = first + h * of_head + min(4u * n + FOUR, vec4(p.keys - 1u)) * stride;
            var scores = EightRows();
            for (var c = 0u; c < of_head; c++) {
                let k = transpose(mat4x4(memory[at.x + c], memory[at.y + c], memory[at.z + c], memory[at.w + c]));
                scores = add_products(scores, k, cells[(WIDE + h * of_head + c) * 8u + row]);
            }
            if n < fours { put((SCORES + n) * 8u, scores); }
        }
        var top = vec4(-1e30);
        for (var n = 0u; n < fours; n++) {
            let scores = cells[(SCORES + n) * 8u + row] * p.scale;
            let known = select(vec4(-1e30), scores, 4u * n + FOUR < vec4(p.keys));
            cells[(SCORES + n) * 8u + row] = known;
            top = max(top, known);
        }
        let highest = max(max(top.x, top.y), max(top.z, top.w));
        var total = vec4(0.0);
        for (var n = 0u; n < fours; n++) {
            let weights = exp(cells[(SCORES + n) * 8u + row] - highest);
            cells[(SCORES + n) * 8u + row] = weights;
            total += weights;
        }
        let share = 1.0 / dot(total, vec4(1.0));
        for (var i = 0u; i < of_head; i += 8u) {
            let c = i + row;
            let at = first + p.width / 4u + h * of_head + min(c, of_head - 1u);
            var sums = EightRows();
            for (var n = 0u; n < fours; n++) {
                let which = at + min(4u * n + FOUR, vec4(p.keys - 1u)) * stride;
                let v = mat4x4(memory[which.x], memory[which.y], memory[which.z], memory[which.w]);
                sums = add_products(sums, v, cells[(SCORES + n) * 8u + row] * share);
            }
            if c < of_head { put((WIDE + h * of_head + c) * 8u, sums); }
        }
        }
}
