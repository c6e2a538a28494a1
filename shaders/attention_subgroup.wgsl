// uses: philox, dropout, attention, attention_broadcast, fused, eight_rows
// Softmax attention for software adapters with subgroups of eight, heads of at most 32 channels. A subgroup answers
// eight queries of one head and takes the keys eight at a time: an invocation loads a query, a key and a vec4 of
// channels of its own, and broadcasts bring them to the others. Twin: src/kernels/attention.rs.
@group(0) @binding(5) var<storage, read_write> o: array<vec4<f32>>;  // [batch * tq, heads * width], strided
@group(0) @binding(6) var<storage, read_write> lse: array<f32>;      // [batch, heads, tq]

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(subgroup_invocation_id) lane: u32) {
    let tiles = (p.tq + 7u) / 8u;
    let tile = group.y * groups.x + group.x;
    let head = tile / tiles;
    if head >= p.batch * p.heads { return; }
    let entry = head / p.heads;
    let h = head % p.heads;
    let i0 = tile % tiles * 8u;

    let i = min(i0 + lane, p.tq - 1u);
    let q_at = p.q_offset + (entry * p.tq + i) * p.q_stride + h * p.width;
    var query: array<vec4<f32>, 8>;
    for (var c = 0u; c < p.width; c++) { query[c] = q[q_at + c]; }
    let v_at = p.v_offset + entry * p.tk * p.v_stride + h * p.width + min(lane, p.width - 1u);

    // Largest scores of the eight queries so far, sums of each invocation's weights, and sums of its channels.
    var high = vec4(-1e30); var higher = vec4(-1e30);
    var mass = vec4(0.0); var masses = vec4(0.0);
    var answers = EightRows();
    for (var j0 = 0u; j0 < p.tk; j0 += 8u) {
        let k_at = p.k_offset + (entry * p.tk + min(j0 + lane, p.tk - 1u)) * p.k_stride + h * p.width;
        var scores = Eight();
        for (var c = 0u; c < p.width; c++) { scores = add_dots(scores, query[c], k[k_at + c]); }
        let inside = j0 + lane < p.tk;
        var lower = select(vec4(-1e30), scores.near * p.scale, inside);
        var upper = select(vec4(-1e30), scores.far * p.scale, inside);
        let top = max(high, subgroupMax(lower));
        let tops = max(higher, subgroupMax(upper));
        let decay = exp(high - top);
        let decays = exp(higher - tops);
        high = top;
        higher = tops;
        lower = exp(lower - high);
        upper = exp(upper - higher);
        mass = mass * decay + lower;
        masses = masses * decays + upper;
        if p.threshold > 0u {
            // An invocation draws for its query and eight keys, and keeps the bits of its key for all queries.
            let bits = dropped_keys(head, i, j0);
            lower *= first_four_kept(bits, lane);
            upper *= last_four_kept(bits, lane);
        }
        answers = EightRows(answers.r0 * decay.x, answers.r1 * decay.y, answers.r2 * decay.z, answers.r3 * decay.w,
                       answers.r4 * decays.x, answers.r5 * decays.y, answers.r6 * decays.z, answers.r7 * decays.w);
        answers = add_outer(answers, subgroupBroadcast(lower, 0u), subgroupBroadcast(upper, 0u), value_at(v_at, j0));
        answers = add_outer(answers, subgroupBroadcast(lower, 1u), subgroupBroadcast(upper, 1u), value_at(v_at, j0 + 1u));
        answers = add_outer(answers, subgroupBroadcast(lower, 2u), subgroupBroadcast(upper, 2u), value_at(v_at, j0 + 2u));
        answers = add_outer(answers, subgroupBroadcast(lower, 3u), subgroupBroadcast(upper, 3u), value_at(v_at, j0 + 3u));
        answers = add_outer(answers, subgroupBroadcast(lower, 4u), subgroupBroadcast(upper, 4u), value_at(v_at, j0 + 4u));
        answers = add_outer(answers, subgroupBroadcast(lower, 5u), subgroupBroadcast(upper, 5u), value_at(v_at, j0 + 5u));
        answers = add_outer(answers, subgroupBroadcast(lower, 6u), subgroupBroadcast(upper, 6u), value_at(v_at, j0 + 6u));
        answers = add_outer(answers, subgroupBroadcast(lower, 7u), subgroupBroadcast(upper, 7u), value_at(v_at, j0 + 7u));
    }

    let total = subgroupAdd(mass);
    let totals = subgroupAdd(masses);
    let o_at = p.o_offset + entry * p.tq * p.o_stride + h * p.width + lane;
    if lane < p.width {
        put(o_at, i0, answers.r0 / total.x); put(o_at, i0 + 1u, answers.r1 / total.y);
        put(o_at, i0 + 2u, answers.r2 / total.z); put(o_at, i0 + 3u, answers.r3 / total.w);
        put(o_at, i0 + 4u, answers.r4 / totals.x); put(o_at, i0 + 5u, answers.r5 / totals.y);
        put(o_at, i0 + 6u, answers.r6 / totals.z); put(o_at, i0 + 7u, answers.r7 / totals.w);
    }
    if i0 + lane < p.tq {
        let near = high + log(total);
        let far = higher + log(totals);
        lse[head * p.tq + i] = select(far[lane % 4u], near[lane % 4u], lane < 4u);
    }
}

// Four channels of a key's value, or of the last one's.
fn value_at(first: u32, j: u32) -> vec4<f32> { return v[first + min(j, p.tk - 1u) * p.v_stride]; }

// Stores a query's answer, where there is such a query.
fn put(at: u32, i: u32, sum: vec4<f32>) {
    if i < p.tq { o[at + i * p.o_stride] = sum; }
}
