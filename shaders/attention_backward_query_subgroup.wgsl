// uses: philox, dropout, attention, attention_broadcast, fused, eight_rows
// dQ of softmax attention for software adapters with subgroups of eight, heads of at most 32 channels. A subgroup takes
// eight queries of one head and the keys eight at a time: an invocation loads a query, a key and a vec4 of channels of
// its own, and broadcasts bring them to the others. Twin: src/kernels/attention_backward.rs.
@group(0) @binding(5) var<storage, read> o: array<vec4<f32>>;         // [batch * tq, heads * width], strided
@group(0) @binding(6) var<storage, read> d_o: array<vec4<f32>>;       // [batch * tq, heads * width], strided
@group(0) @binding(7) var<storage, read> lse: array<f32>;             // [batch, heads, tq]
@group(0) @binding(8) var<storage, read_write> d_q: array<vec4<f32>>; // [batch * tq, heads * width], strided

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
    let o_at = p.o_offset + (entry * p.tq + i) * p.o_stride + h * p.width;
    let do_at = p.do_offset + (entry * p.tq + i) * p.do_stride + h * p.width;
    var query: array<vec4<f32>, 8>;
    var gradient: array<vec4<f32>, 8>;
    var delta = 0.0;
    for (var c = 0u; c < p.width; c++) {
        query[c] = q[q_at + c];
        gradient[c] = d_o[do_at + c];
        delta = add_dot(delta, o[o_at + c], gradient[c]);
    }
    let log_total = lse[head * p.tq + i];
    let totals = first_four(log_total);
    let more_totals = last_four(log_total);
    let deltas = first_four(delta);
    let more_deltas = last_four(delta);
    let channel = min(lane, p.width - 1u);
    var dq = EightRows(); // of eight queries
    for (var j0 = 0u; j0 < p.tk; j0 += 8u) {
        let j = entry * p.tk + min(j0 + lane, p.tk - 1u);
        let k_at = p.k_offset + j * p.k_stride + h * p.width;
        let v_at = p.v_offset + j * p.v_stride + h * p.width;
        var scores = Eight(); // of this key, and dO V
        var products = Eight();
        for (var c = 0u; c < p.width; c++) {
            scores = add_dots(scores, query[c], k[k_at + c]);
            products = add_dots(products, gradient[c], v[v_at + c]);
        }
        var near_kept = vec4(1.0);
        var far_kept = vec4(1.0);
        if p.threshold > 0u {
            let bits = dropped_keys(head, i, j0);
            near_kept = first_four_kept(bits, lane);
            far_kept = last_four_kept(bits, lane);
        }
        let inside = j0 + lane < p.tk;
        let near = select(vec4(0.0), exp(scores.near * p.scale - totals)
            * (products.near * near_kept - deltas), inside);
        let far = select(vec4(0.0), exp(scores.far * p.scale - more_totals)
            * (products.far * far_kept - more_deltas), inside);
        let keys = p.k_offset + entry * p.tk * p.k_stride + h * p.width + channel;
        dq = add_outer(dq, subgroupBroadcast(near, 0u), subgroupBroadcast(far, 0u), key_at(keys, j0));
        dq = add_outer(dq, subgroupBroadcast(near, 1u), subgroupBroadcast(far, 1u), key_at(keys, j0 + 1u));
        dq = add_outer(dq, subgroupBroadcast(near, 2u), subgroupBroadcast(far, 2u), key_at(keys, j0 + 2u));
        dq = add_outer(dq, subgroupBroadcast(near, 3u), subgroupBroadcast(far, 3u), key_at(keys, j0 + 3u));
        dq = add_outer(dq, subgroupBroadcast(near, 4u), subgroupBroadcast(far, 4u), key_at(keys, j0 + 4u));
        dq = add_outer(dq, subgroupBroadcast(near, 5u), subgroupBroadcast(far, 5u), key_at(keys, j0 + 5u));
        dq = add_outer(dq, subgroupBroadcast(near, 6u), subgroupBroadcast(far, 6u), key_at(keys, j0 + 6u));
        dq = add_outer(dq, subgroupBroadcast(near, 7u), subgroupBroadcast(far, 7u), key_at(keys, j0 + 7u));
    }
    if lane >= p.width { return; }
    let at = p.dq_offset + entry * p.tq * p.dq_stride + h * p.width + lane;
    put(at, i0 + 0u, dq.r0);
    put(at, i0 + 1u, dq.r1);
    put(at, i0 + 2u, dq.r2);
    put(at, i0 + 3u, dq.r3);
    put(at, i0 + 4u, dq.r4);
    put(at, i0 + 5u, dq.r5);
    put(at, i0 + 6u, dq.r6);
    put(at, i0 + 7u, dq.r7);
}

// Four channels of a key, or of the last one.
fn key_at(first: u32, j: u32) -> vec4<f32> { return k[first + min(j, p.tk - 1u) * p.k_stride]; }

// Stores a query's finished sum, where there is such a query.
fn put(at: u32, i: u32, sum: vec4<f32>) {
    if i < p.tq { d_q[at + i * p.dq_stride] = sum * p.scale; }
}
