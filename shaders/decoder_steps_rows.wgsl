// uses: decoder, fused
// All Euler steps of a transformer decoder over a chunk of at most eight actions, for software adapters with subgroups of
// eight: a workgroup is one subgroup and takes one sample, an invocation has a row. Each of eight weights, or keys, is loaded by
// one invocation and reaches the others by broadcast. What is known of the chunk stays in workgroup memory, four columns of
// a row a cell, and no row reads another's cells: no barriers. Rows past the last slot repeat it and reach no other. Twin:
// src/kernels/decoder_steps.rs.
// Columns in fours: the tokens; sums before a norm; a head's scores and weights, of eight keys in two; queries, keys and values,
// or what is hidden between the last two products, or the velocity.
const TOKENS = 0u; const SUMS = 16u; const SCORES = 32u; const WIDE = 64u;
var<workgroup> cells: array<vec4<f32>, 1024>; // [four columns][row]
var<private> row: u32;

// Eight columns, or keys, of a row.
struct Eight { low: vec4<f32>, high: vec4<f32> }

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
        // The velocity head is the first product of a layer too many.
        for (var stage = 0u; stage <= 6u * p.layers; stage++) {
            let layer = stage / 6u;
            let part = stage % 6u;
            let attended = part == SELF_OUT || part == CROSS_OUT;
            if attended { attend(part == CROSS_OUT, layer, entry); }
            var columns = p.width;
            var inputs = p.width;
            var source = TOKENS;
            if layer == p.layers { columns = p.dims; }
            else if part == SELF_IN { columns = 3u * p.width; }
            else if attended { source = WIDE; }
            else if part == LINEAR1 { columns = p.feedforward; }
            else if part == LINEAR2 { inputs = p.feedforward; source = WIDE; }
            linear(layer * OF_A_LAYER + 2u * part, columns, inputs / 4u, source, part);
            if part % 2u == 1u { norm(layer * OF_A_LAYER + NORMS + part - 1u); }
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

// A linear layer of `whole` vec4s of inputs: what is added to the tokens goes to SUMS, everything else to WIDE.
fn linear(which: u32, columns: u32, whole: u32, source: u32, part: u32) {
    let weight = place(which);
    let bias = place(which + 1u);
    for (var j = 0u; j < columns; j += 16u) {
        // Of each weight's row; columns past the last read it.
        let at = weight / 4u + min(j + row, columns - 1u) * whole;
        let further = weight / 4u + min(j + 8u + row, columns - 1u) * whole;
        var near = Eight();
        var far = Eight();
        // lavapipe copies under a mask what a loop hands from round to round, and what is chosen inside of one: a round has two
        // vec4s of a row, and the choice of a buffer is outside.
        switch weight % 4u {
            case 0u: {
                for (var k = 0u; k < whole; k += 2u) {
                    let next = min(k + 1u, whole - 1u);
                    let x = cells[(source + k) * 8u + row];
                    let y = select(vec4(0.0), cells[(source + next) * 8u + row], next > k);
                    near = add_dots(add_dots(near, x, w0[at + k]), y, w0[at + next]);
                    far = add_dots(add_dots(far, x, w0[further + k]), y, w0[further + next]);
                }
            }
            case 1u: {
                for (var k = 0u; k < whole; k += 2u) {
                    let next = min(k + 1u, whole - 1u);
                    let x = cells[(source + k) * 8u + row];
                    let y = select(vec4(0.0), cells[(source + next) * 8u + row], next > k);
                    near = add_dots(add_dots(near, x, w1[at + k]), y, w1[at + next]);
                    far = add_dots(add_dots(far, x, w1[further + k]), y, w1[further + next]);
                }
            }
            case 2u: {
                for (var k = 0u; k < whole; k += 2u) {
                    let next = min(k + 1u, whole - 1u);
                    let x = cells[(source + k) * 8u + row];
                    let y = select(vec4(0.0), cells[(source + next) * 8u + row], next > k);
                    near = add_dots(add_dots(near, x, w2[at + k]), y, w2[at + next]);
                    far = add_dots(add_dots(far, x, w2[further + k]), y, w2[further + next]);
                }
            }
            default: {
                for (var k = 0u; k < whole; k += 2u) {
                    let next = min(k + 1u, whole - 1u);
                    let x = cells[(source + k) * 8u + row];
                    let y = select(vec4(0.0), cells[(source + next) * 8u + row], next > k);
                    near = add_dots(add_dots(near, x, w3[at + k]), y, w3[at + next]);
                    far = add_dots(add_dots(far, x, w3[further + k]), y, w3[further + next]);
                }
            }
        }
        finish(bias, part, columns, j, near.low);
        finish(bias, part, columns, j + 4u, near.high);
        finish(bias, part, columns, j + 8u, far.low);
        finish(bias, part, columns, j + 12u, far.high);
    }
}

// Stores what becomes of the sums of columns j to j + 3.
fn finish(bias: u32, part: u32, columns: u32, j: u32, sums: vec4<f32>) {
    if j >= columns { return; }
    var y = sums + one(bias % 4u, (bias + j) / 4u);
    if part == LINEAR1 { y = max(y, vec4(0.0)); }
    var to = WIDE;
    if part % 2u == 1u {
        y += cells[(TOKENS + j / 4u) * 8u + row];
        to = SUMS;
    }
    cells[(to + j / 4u) * 8u + row] = y;
}

// Eight sums, each with four terms more: this row's x, and what each invocation holds.
fn add_dots(sums: Eight, x: vec4<f32>, held: vec4<f32>) -> Eight {
    return Eight(
        vec4(add_dot(sums.low.x, x, subgroupBroadcast(held, 0u)), add_dot(sums.low.y, x, subgroupBroadcast(held, 1u)),
             add_dot(sums.low.z, x, subgroupBroadcast(held, 2u)), add_dot(sums.low.w, x, subgroupBroadcast(held, 3u))),
        vec4(add_dot(sums.high.x, x, subgroupBroadcast(held, 4u)), add_dot(sums.high.y, x, subgroupBroadcast(held, 5u)),
             add_dot(sums.high.z, x, subgroupBroadcast(held, 6u)), add_dot(sums.high.w, x, subgroupBroadcast(held, 7u))));
}

// Four channels' sums, with what each invocation holds of them times this row's weights.
fn add_weighted(sum: vec4<f32>, weights: Eight, held: vec4<f32>) -> vec4<f32> {
    let low = mat4x4(subgroupBroadcast(held, 0u), subgroupBroadcast(held, 1u),
                     subgroupBroadcast(held, 2u), subgroupBroadcast(held, 3u));
    let high = mat4x4(subgroupBroadcast(held, 4u), subgroupBroadcast(held, 5u),
                      subgroupBroadcast(held, 6u), subgroupBroadcast(held, 7u));
    return add_product(add_product(sum, low, weights.low), high, weights.high);
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

// Softmax attention of the queries in WIDE, whose place the answers take: to the rows' keys and values behind them, or, where it
// `looks`, to the memory's. Keys come eight at a time, one from each invocation.
fn attend(looks: bool, layer: u32, entry: u32) {
    let keys = select(p.slots, p.keys, looks);
    let eights = (keys + 7u) / 8u;
    let of_head = p.width / p.heads / 4u;
    let stride = p.layers * (p.width / 2u); // vec4s of the memory's row
    let first = entry * p.keys * stride + layer * (p.width / 2u);
    let eight = vec4(0u, 1u, 2u, 3u);
    for (var h = 0u; h < p.heads; h++) {
        let end = (h + 1u) * of_head;
        var top = vec4(-1e30);
        for (var n = 0u; n < eights; n++) {
            let at = first + min(8u * n + row, keys - 1u) * stride;
            var scores = Eight();
            for (var c = h * of_head; c < end; c++) {
                var key = cells[(WIDE + p.width / 4u + c) * 8u + row];
                if looks { key = memory[at + c]; }
                scores = add_dots(scores, cells[(WIDE + c) * 8u + row], key);
            }
            let low = select(vec4(-1e30), scores.low * p.scale, 8u * n + eight < vec4(keys));
            let high = select(vec4(-1e30), scores.high * p.scale, 8u * n + 4u + eight < vec4(keys));
            top = max(top, max(low, high));
            put(n, Eight(low, high));
        }
        let highest = max(max(top.x, top.y), max(top.z, top.w));
        var total = vec4(0.0);
        for (var n = 0u; n < eights; n++) {
            let scores = weights_of(n);
            let weights = Eight(exp(scores.low - highest), exp(scores.high - highest));
            total += weights.low + weights.high;
            put(n, weights);
        }
        let share = 1.0 / dot(total, vec4(1.0));
        for (var c = h * of_head; c < end; c++) {
            var sum = vec4(0.0);
            for (var n = 0u; n < eights; n++) {
                var value = cells[(WIDE + p.width / 2u + c) * 8u + row];
                if looks { value = memory[first + min(8u * n + row, keys - 1u) * stride + p.width / 4u + c]; }
                sum = add_weighted(sum, weights_of(n), value);
            }
            cells[(WIDE + c) * 8u + row] = sum * share;
        }
    }
}

// Scores of eight keys, or their weights.
fn weights_of(n: u32) -> Eight {
    return Eight(cells[(SCORES + 2u * n) * 8u + row], cells[(SCORES + 2u * n + 1u) * 8u + row]);
}

fn put(n: u32, weights: Eight) {
    cells[(SCORES + 2u * n) * 8u + row] = weights.low;
    cells[(SCORES + 2u * n + 1u) * 8u + row] = weights.high;
}
