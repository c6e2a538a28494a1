// uses: philox, dropout, attention, attention_broadcast, fused
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
    var o0 = vec4(0.0); var o1 = vec4(0.0); var o2 = vec4(0.0); var o3 = vec4(0.0);
    var o4 = vec4(0.0); var o5 = vec4(0.0); var o6 = vec4(0.0); var o7 = vec4(0.0);
    for (var j0 = 0u; j0 < p.tk; j0 += 8u) {
        let k_at = p.k_offset + (entry * p.tk + min(j0 + lane, p.tk - 1u)) * p.k_stride + h * p.width;
        var s0 = 0.0; var s1 = 0.0; var s2 = 0.0; var s3 = 0.0;
        var s4 = 0.0; var s5 = 0.0; var s6 = 0.0; var s7 = 0.0;
        for (var c = 0u; c < p.width; c++) {
            let x = query[c];
            let y = k[k_at + c];
            s0 = add_dot(s0, subgroupBroadcast(x, 0u), y);
            s1 = add_dot(s1, subgroupBroadcast(x, 1u), y);
            s2 = add_dot(s2, subgroupBroadcast(x, 2u), y);
            s3 = add_dot(s3, subgroupBroadcast(x, 3u), y);
            s4 = add_dot(s4, subgroupBroadcast(x, 4u), y);
            s5 = add_dot(s5, subgroupBroadcast(x, 5u), y);
            s6 = add_dot(s6, subgroupBroadcast(x, 6u), y);
            s7 = add_dot(s7, subgroupBroadcast(x, 7u), y);
        }
        let inside = j0 + lane < p.tk;
        var lower = select(vec4(-1e30), vec4(s0, s1, s2, s3) * p.scale, inside);
        var upper = select(vec4(-1e30), vec4(s4, s5, s6, s7) * p.scale, inside);
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
        o0 *= decay.x; o1 *= decay.y; o2 *= decay.z; o3 *= decay.w;
        o4 *= decays.x; o5 *= decays.y; o6 *= decays.z; o7 *= decays.w;
        {
            let near = subgroupBroadcast(lower, 0u);
            let far = subgroupBroadcast(upper, 0u);
            let x = v[v_at + min(j0 + 0u, p.tk - 1u) * p.v_stride];
            o0 = fma(vec4(near.x), x, o0); o1 = fma(vec4(near.y), x, o1); o2 = fma(vec4(near.z), x, o2); o3 = fma(vec4(near.w), x, o3);
            o4 = fma(vec4(far.x), x, o4); o5 = fma(vec4(far.y), x, o5); o6 = fma(vec4(far.z), x, o6); o7 = fma(vec4(far.w), x, o7);
        }
        {
            let near = subgroupBroadcast(lower, 1u);
            let far = subgroupBroadcast(upper, 1u);
            let x = v[v_at + min(j0 + 1u, p.tk - 1u) * p.v_stride];
            o0 = fma(vec4(near.x), x, o0); o1 = fma(vec4(near.y), x, o1); o2 = fma(vec4(near.z), x, o2); o3 = fma(vec4(near.w), x, o3);
            o4 = fma(vec4(far.x), x, o4); o5 = fma(vec4(far.y), x, o5); o6 = fma(vec4(far.z), x, o6); o7 = fma(vec4(far.w), x, o7);
        }
        {
            let near = subgroupBroadcast(lower, 2u);
            let far = subgroupBroadcast(upper, 2u);
            let x = v[v_at + min(j0 + 2u, p.tk - 1u) * p.v_stride];
            o0 = fma(vec4(near.x), x, o0); o1 = fma(vec4(near.y), x, o1); o2 = fma(vec4(near.z), x, o2); o3 = fma(vec4(near.w), x, o3);
            o4 = fma(vec4(far.x), x, o4); o5 = fma(vec4(far.y), x, o5); o6 = fma(vec4(far.z), x, o6); o7 = fma(vec4(far.w), x, o7);
        }
        {
            let near = subgroupBroadcast(lower, 3u);
            let far = subgroupBroadcast(upper, 3u);
            let x = v[v_at + min(j0 + 3u, p.tk - 1u) * p.v_stride];
            o0 = fma(vec4(near.x), x, o0); o1 = fma(vec4(near.y), x, o1); o2 = fma(vec4(near.z), x, o2); o3 = fma(vec4(near.w), x, o3);
            o4 = fma(vec4(far.x), x, o4); o5 = fma(vec4(far.y), x, o5); o6 = fma(vec4(far.z), x, o6); o7 = fma(vec4(far.w), x, o7);
        }
        {
            let near = subgroupBroadcast(lower, 4u);
            let far = subgroupBroadcast(upper, 4u);
            let x = v[v_at + min(j0 + 4u, p.tk - 1u) * p.v_stride];
            o0 = fma(vec4(near.x), x, o0); o1 = fma(vec4(near.y), x, o1); o2 = fma(vec4(near.z), x, o2); o3 = fma(vec4(near.w), x, o3);
            o4 = fma(vec4(far.x), x, o4); o5 = fma(vec4(far.y), x, o5); o6 = fma(vec4(far.z), x, o6); o7 = fma(vec4(far.w), x, o7);
        }
        {
            let near = subgroupBroadcast(lower, 5u);
            let far = subgroupBroadcast(upper, 5u);
            let x = v[v_at + min(j0 + 5u, p.tk - 1u) * p.v_stride];
            o0 = fma(vec4(near.x), x, o0); o1 = fma(vec4(near.y), x, o1); o2 = fma(vec4(near.z), x, o2); o3 = fma(vec4(near.w), x, o3);
            o4 = fma(vec4(far.x), x, o4); o5 = fma(vec4(far.y), x, o5); o6 = fma(vec4(far.z), x, o6); o7 = fma(vec4(far.w), x, o7);
        }
        {
            let near = subgroupBroadcast(lower, 6u);
            let far = subgroupBroadcast(upper, 6u);
            let x = v[v_at + min(j0 + 6u, p.tk - 1u) * p.v_stride];
            o0 = fma(vec4(near.x), x, o0); o1 = fma(vec4(near.y), x, o1); o2 = fma(vec4(near.z), x, o2); o3 = fma(vec4(near.w), x, o3);
            o4 = fma(vec4(far.x), x, o4); o5 = fma(vec4(far.y), x, o5); o6 = fma(vec4(far.z), x, o6); o7 = fma(vec4(far.w), x, o7);
        }
        {
            let near = subgroupBroadcast(lower, 7u);
            let far = subgroupBroadcast(upper, 7u);
            let x = v[v_at + min(j0 + 7u, p.tk - 1u) * p.v_stride];
            o0 = fma(vec4(near.x), x, o0); o1 = fma(vec4(near.y), x, o1); o2 = fma(vec4(near.z), x, o2); o3 = fma(vec4(near.w), x, o3);
            o4 = fma(vec4(far.x), x, o4); o5 = fma(vec4(far.y), x, o5); o6 = fma(vec4(far.z), x, o6); o7 = fma(vec4(far.w), x, o7);
        }
    }

    let total = subgroupAdd(mass);
    let totals = subgroupAdd(masses);
    let o_at = p.o_offset + entry * p.tq * p.o_stride + h * p.width + lane;
    if lane < p.width {
        put(o_at, i0, o0 / total.x); put(o_at, i0 + 1u, o1 / total.y);
        put(o_at, i0 + 2u, o2 / total.z); put(o_at, i0 + 3u, o3 / total.w);
        put(o_at, i0 + 4u, o4 / totals.x); put(o_at, i0 + 5u, o5 / totals.y);
        put(o_at, i0 + 6u, o6 / totals.z); put(o_at, i0 + 7u, o7 / totals.w);
    }
    if i0 + lane < p.tq {
        let near = high + log(total);
        let far = higher + log(totals);
        lse[head * p.tq + i] = select(far[lane % 4u], near[lane % 4u], lane < 4u);
    }
}

// Stores a query's answer, where there is such a query.
fn put(at: u32, i: u32, sum: vec4<f32>) {
    if i < p.tq { o[at + i * p.o_stride] = sum; }
}
