// uses: philox, dropout, attention, attention_broadcast, fused
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
    var d0 = vec4(0.0); var d1 = vec4(0.0); var d2 = vec4(0.0); var d3 = vec4(0.0);
    var d4 = vec4(0.0); var d5 = vec4(0.0); var d6 = vec4(0.0); var d7 = vec4(0.0);
    for (var j0 = 0u; j0 < p.tk; j0 += 8u) {
        let j = entry * p.tk + min(j0 + lane, p.tk - 1u);
        let k_at = p.k_offset + j * p.k_stride + h * p.width;
        let v_at = p.v_offset + j * p.v_stride + h * p.width;
        var s0 = 0.0; var t0 = 0.0;
        var s1 = 0.0; var t1 = 0.0;
        var s2 = 0.0; var t2 = 0.0;
        var s3 = 0.0; var t3 = 0.0;
        var s4 = 0.0; var t4 = 0.0;
        var s5 = 0.0; var t5 = 0.0;
        var s6 = 0.0; var t6 = 0.0;
        var s7 = 0.0; var t7 = 0.0;
        for (var c = 0u; c < p.width; c++) {
            let x = query[c];
            let y = gradient[c];
            let u = k[k_at + c];
            let w = v[v_at + c];
            s0 = add_dot(s0, subgroupBroadcast(x, 0u), u); t0 = add_dot(t0, subgroupBroadcast(y, 0u), w);
            s1 = add_dot(s1, subgroupBroadcast(x, 1u), u); t1 = add_dot(t1, subgroupBroadcast(y, 1u), w);
            s2 = add_dot(s2, subgroupBroadcast(x, 2u), u); t2 = add_dot(t2, subgroupBroadcast(y, 2u), w);
            s3 = add_dot(s3, subgroupBroadcast(x, 3u), u); t3 = add_dot(t3, subgroupBroadcast(y, 3u), w);
            s4 = add_dot(s4, subgroupBroadcast(x, 4u), u); t4 = add_dot(t4, subgroupBroadcast(y, 4u), w);
            s5 = add_dot(s5, subgroupBroadcast(x, 5u), u); t5 = add_dot(t5, subgroupBroadcast(y, 5u), w);
            s6 = add_dot(s6, subgroupBroadcast(x, 6u), u); t6 = add_dot(t6, subgroupBroadcast(y, 6u), w);
            s7 = add_dot(s7, subgroupBroadcast(x, 7u), u); t7 = add_dot(t7, subgroupBroadcast(y, 7u), w);
        }
        var near_kept = vec4(1.0);
        var far_kept = vec4(1.0);
        if p.threshold > 0u {
            let bits = dropped_keys(head, i, j0);
            near_kept = first_four_kept(bits, lane);
            far_kept = last_four_kept(bits, lane);
        }
        let inside = j0 + lane < p.tk;
        let near = select(vec4(0.0), exp(vec4(s0, s1, s2, s3) * p.scale - totals)
            * (vec4(t0, t1, t2, t3) * near_kept - deltas), inside);
        let far = select(vec4(0.0), exp(vec4(s4, s5, s6, s7) * p.scale - more_totals)
            * (vec4(t4, t5, t6, t7) * far_kept - more_deltas), inside);
        let keys = p.k_offset + entry * p.tk * p.k_stride + h * p.width + channel;
        {
            let x = k[keys + min(j0 + 0u, p.tk - 1u) * p.k_stride];
            let a = subgroupBroadcast(near, 0u);
            let b = subgroupBroadcast(far, 0u);
            d0 = fma(vec4(a.x), x, d0); d1 = fma(vec4(a.y), x, d1); d2 = fma(vec4(a.z), x, d2); d3 = fma(vec4(a.w), x, d3);
            d4 = fma(vec4(b.x), x, d4); d5 = fma(vec4(b.y), x, d5); d6 = fma(vec4(b.z), x, d6); d7 = fma(vec4(b.w), x, d7);
        }
        {
            let x = k[keys + min(j0 + 1u, p.tk - 1u) * p.k_stride];
            let a = subgroupBroadcast(near, 1u);
            let b = subgroupBroadcast(far, 1u);
            d0 = fma(vec4(a.x), x, d0); d1 = fma(vec4(a.y), x, d1); d2 = fma(vec4(a.z), x, d2); d3 = fma(vec4(a.w), x, d3);
            d4 = fma(vec4(b.x), x, d4); d5 = fma(vec4(b.y), x, d5); d6 = fma(vec4(b.z), x, d6); d7 = fma(vec4(b.w), x, d7);
        }
        {
            let x = k[keys + min(j0 + 2u, p.tk - 1u) * p.k_stride];
            let a = subgroupBroadcast(near, 2u);
            let b = subgroupBroadcast(far, 2u);
            d0 = fma(vec4(a.x), x, d0); d1 = fma(vec4(a.y), x, d1); d2 = fma(vec4(a.z), x, d2); d3 = fma(vec4(a.w), x, d3);
            d4 = fma(vec4(b.x), x, d4); d5 = fma(vec4(b.y), x, d5); d6 = fma(vec4(b.z), x, d6); d7 = fma(vec4(b.w), x, d7);
        }
        {
            let x = k[keys + min(j0 + 3u, p.tk - 1u) * p.k_stride];
            let a = subgroupBroadcast(near, 3u);
            let b = subgroupBroadcast(far, 3u);
            d0 = fma(vec4(a.x), x, d0); d1 = fma(vec4(a.y), x, d1); d2 = fma(vec4(a.z), x, d2); d3 = fma(vec4(a.w), x, d3);
            d4 = fma(vec4(b.x), x, d4); d5 = fma(vec4(b.y), x, d5); d6 = fma(vec4(b.z), x, d6); d7 = fma(vec4(b.w), x, d7);
        }
        {
            let x = k[keys + min(j0 + 4u, p.tk - 1u) * p.k_stride];
            let a = subgroupBroadcast(near, 4u);
            let b = subgroupBroadcast(far, 4u);
            d0 = fma(vec4(a.x), x, d0); d1 = fma(vec4(a.y), x, d1); d2 = fma(vec4(a.z), x, d2); d3 = fma(vec4(a.w), x, d3);
            d4 = fma(vec4(b.x), x, d4); d5 = fma(vec4(b.y), x, d5); d6 = fma(vec4(b.z), x, d6); d7 = fma(vec4(b.w), x, d7);
        }
        {
            let x = k[keys + min(j0 + 5u, p.tk - 1u) * p.k_stride];
            let a = subgroupBroadcast(near, 5u);
            let b = subgroupBroadcast(far, 5u);
            d0 = fma(vec4(a.x), x, d0); d1 = fma(vec4(a.y), x, d1); d2 = fma(vec4(a.z), x, d2); d3 = fma(vec4(a.w), x, d3);
            d4 = fma(vec4(b.x), x, d4); d5 = fma(vec4(b.y), x, d5); d6 = fma(vec4(b.z), x, d6); d7 = fma(vec4(b.w), x, d7);
        }
        {
            let x = k[keys + min(j0 + 6u, p.tk - 1u) * p.k_stride];
            let a = subgroupBroadcast(near, 6u);
            let b = subgroupBroadcast(far, 6u);
            d0 = fma(vec4(a.x), x, d0); d1 = fma(vec4(a.y), x, d1); d2 = fma(vec4(a.z), x, d2); d3 = fma(vec4(a.w), x, d3);
            d4 = fma(vec4(b.x), x, d4); d5 = fma(vec4(b.y), x, d5); d6 = fma(vec4(b.z), x, d6); d7 = fma(vec4(b.w), x, d7);
        }
        {
            let x = k[keys + min(j0 + 7u, p.tk - 1u) * p.k_stride];
            let a = subgroupBroadcast(near, 7u);
            let b = subgroupBroadcast(far, 7u);
            d0 = fma(vec4(a.x), x, d0); d1 = fma(vec4(a.y), x, d1); d2 = fma(vec4(a.z), x, d2); d3 = fma(vec4(a.w), x, d3);
            d4 = fma(vec4(b.x), x, d4); d5 = fma(vec4(b.y), x, d5); d6 = fma(vec4(b.z), x, d6); d7 = fma(vec4(b.w), x, d7);
        }
    }
    if lane >= p.width { return; }
    let at = p.dq_offset + entry * p.tq * p.dq_stride + h * p.width + lane;
    put(at, i0 + 0u, d0);
    put(at, i0 + 1u, d1);
    put(at, i0 + 2u, d2);
    put(at, i0 + 3u, d3);
    put(at, i0 + 4u, d4);
    put(at, i0 + 5u, d5);
    put(at, i0 + 6u, d6);
    put(at, i0 + 7u, d7);
}

// Stores a query's finished sum, where there is such a query.
fn put(at: u32, i: u32, sum: vec4<f32>) {
    if i < p.tq { d_q[at + i * p.dq_stride] = sum * p.scale; }
}
