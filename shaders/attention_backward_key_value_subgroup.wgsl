// uses: philox, dropout, attention, attention_broadcast, fused
// dK and dV of softmax attention for software adapters with subgroups of eight, heads of at most 32 channels. A subgroup
// takes eight keys of one head and the queries eight at a time: an invocation loads a key, a query and a vec4 of channels
// of its own, and broadcasts bring them to the others. Twin: src/kernels/attention_backward.rs.
@group(0) @binding(5) var<storage, read> o: array<vec4<f32>>;         // [batch * tq, heads * width], strided
@group(0) @binding(6) var<storage, read> d_o: array<vec4<f32>>;       // [batch * tq, heads * width], strided
@group(0) @binding(7) var<storage, read> lse: array<f32>;             // [batch, heads, tq]
@group(0) @binding(8) var<storage, read_write> d_kv: array<vec4<f32>>; // dK, dV: [batch * tk, heads * width], strided

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(subgroup_invocation_id) lane: u32) {
    let tiles = (p.tk + 7u) / 8u;
    let tile = group.y * groups.x + group.x;
    let head = tile / tiles;
    if head >= p.batch * p.heads { return; }
    let entry = head / p.heads;
    let h = head % p.heads;
    let j0 = tile % tiles * 8u;

    let j = entry * p.tk + min(j0 + lane, p.tk - 1u);
    var key: array<vec4<f32>, 8>;
    var value: array<vec4<f32>, 8>;
    for (var c = 0u; c < p.width; c++) {
        key[c] = k[p.k_offset + j * p.k_stride + h * p.width + c];
        value[c] = v[p.v_offset + j * p.v_stride + h * p.width + c];
    }
    let channel = min(lane, p.width - 1u);
    let queries = p.q_offset + entry * p.tq * p.q_stride + h * p.width + channel;
    let gradients = p.do_offset + entry * p.tq * p.do_stride + h * p.width + channel;
    var k0 = vec4(0.0); var v0 = vec4(0.0);
    var k1 = vec4(0.0); var v1 = vec4(0.0);
    var k2 = vec4(0.0); var v2 = vec4(0.0);
    var k3 = vec4(0.0); var v3 = vec4(0.0);
    var k4 = vec4(0.0); var v4 = vec4(0.0);
    var k5 = vec4(0.0); var v5 = vec4(0.0);
    var k6 = vec4(0.0); var v6 = vec4(0.0);
    var k7 = vec4(0.0); var v7 = vec4(0.0);
    for (var i0 = 0u; i0 < p.tq; i0 += 8u) {
        let i = min(i0 + lane, p.tq - 1u);
        let q_at = p.q_offset + (entry * p.tq + i) * p.q_stride + h * p.width;
        let o_at = p.o_offset + (entry * p.tq + i) * p.o_stride + h * p.width;
        let do_at = p.do_offset + (entry * p.tq + i) * p.do_stride + h * p.width;
        var delta = 0.0;
        var s0 = 0.0; var t0 = 0.0;
        var s1 = 0.0; var t1 = 0.0;
        var s2 = 0.0; var t2 = 0.0;
        var s3 = 0.0; var t3 = 0.0;
        var s4 = 0.0; var t4 = 0.0;
        var s5 = 0.0; var t5 = 0.0;
        var s6 = 0.0; var t6 = 0.0;
        var s7 = 0.0; var t7 = 0.0;
        for (var c = 0u; c < p.width; c++) {
            let x = q[q_at + c];
            let y = d_o[do_at + c];
            delta = add_dot(delta, o[o_at + c], y);
            s0 = add_dot(s0, subgroupBroadcast(x, 0u), key[c]); t0 = add_dot(t0, subgroupBroadcast(y, 0u), value[c]);
            s1 = add_dot(s1, subgroupBroadcast(x, 1u), key[c]); t1 = add_dot(t1, subgroupBroadcast(y, 1u), value[c]);
            s2 = add_dot(s2, subgroupBroadcast(x, 2u), key[c]); t2 = add_dot(t2, subgroupBroadcast(y, 2u), value[c]);
            s3 = add_dot(s3, subgroupBroadcast(x, 3u), key[c]); t3 = add_dot(t3, subgroupBroadcast(y, 3u), value[c]);
            s4 = add_dot(s4, subgroupBroadcast(x, 4u), key[c]); t4 = add_dot(t4, subgroupBroadcast(y, 4u), value[c]);
            s5 = add_dot(s5, subgroupBroadcast(x, 5u), key[c]); t5 = add_dot(t5, subgroupBroadcast(y, 5u), value[c]);
            s6 = add_dot(s6, subgroupBroadcast(x, 6u), key[c]); t6 = add_dot(t6, subgroupBroadcast(y, 6u), value[c]);
            s7 = add_dot(s7, subgroupBroadcast(x, 7u), key[c]); t7 = add_dot(t7, subgroupBroadcast(y, 7u), value[c]);
        }
        // Queries past the last have no weight.
        let log_total = select(1e30, lse[head * p.tq + i], i0 + lane < p.tq);
        var near_kept = vec4(1.0);
        var far_kept = vec4(1.0);
        if p.threshold > 0u {
            let bits = dropped_keys(head, i, j0);
            near_kept = first_four_kept(bits, lane);
            far_kept = last_four_kept(bits, lane);
        }
        let near = exp(vec4(s0, s1, s2, s3) * p.scale
            - first_four(log_total));
        let far = exp(vec4(s4, s5, s6, s7) * p.scale
            - last_four(log_total));
        let near_ds = near * (vec4(t0, t1, t2, t3) * near_kept
            - first_four(delta));
        let far_ds = far * (vec4(t4, t5, t6, t7) * far_kept
            - last_four(delta));
        let near_weight = near * near_kept;
        let far_weight = far * far_kept;
        {
            let at = min(i0 + 0u + vec4(0u, 1u, 2u, 3u), vec4(p.tq - 1u));
            let x = mat4x4(q[queries + at.x * p.q_stride], q[queries + at.y * p.q_stride],
                           q[queries + at.z * p.q_stride], q[queries + at.w * p.q_stride]);
            let y = mat4x4(d_o[gradients + at.x * p.do_stride], d_o[gradients + at.y * p.do_stride],
                           d_o[gradients + at.z * p.do_stride], d_o[gradients + at.w * p.do_stride]);
            k0 = add_product(k0, x, subgroupBroadcast(near_ds, 0u)); v0 = add_product(v0, y, subgroupBroadcast(near_weight, 0u));
            k1 = add_product(k1, x, subgroupBroadcast(near_ds, 1u)); v1 = add_product(v1, y, subgroupBroadcast(near_weight, 1u));
            k2 = add_product(k2, x, subgroupBroadcast(near_ds, 2u)); v2 = add_product(v2, y, subgroupBroadcast(near_weight, 2u));
            k3 = add_product(k3, x, subgroupBroadcast(near_ds, 3u)); v3 = add_product(v3, y, subgroupBroadcast(near_weight, 3u));
            k4 = add_product(k4, x, subgroupBroadcast(near_ds, 4u)); v4 = add_product(v4, y, subgroupBroadcast(near_weight, 4u));
            k5 = add_product(k5, x, subgroupBroadcast(near_ds, 5u)); v5 = add_product(v5, y, subgroupBroadcast(near_weight, 5u));
            k6 = add_product(k6, x, subgroupBroadcast(near_ds, 6u)); v6 = add_product(v6, y, subgroupBroadcast(near_weight, 6u));
            k7 = add_product(k7, x, subgroupBroadcast(near_ds, 7u)); v7 = add_product(v7, y, subgroupBroadcast(near_weight, 7u));
        }
        {
            let at = min(i0 + 4u + vec4(0u, 1u, 2u, 3u), vec4(p.tq - 1u));
            let x = mat4x4(q[queries + at.x * p.q_stride], q[queries + at.y * p.q_stride],
                           q[queries + at.z * p.q_stride], q[queries + at.w * p.q_stride]);
            let y = mat4x4(d_o[gradients + at.x * p.do_stride], d_o[gradients + at.y * p.do_stride],
                           d_o[gradients + at.z * p.do_stride], d_o[gradients + at.w * p.do_stride]);
            k0 = add_product(k0, x, subgroupBroadcast(far_ds, 0u)); v0 = add_product(v0, y, subgroupBroadcast(far_weight, 0u));
            k1 = add_product(k1, x, subgroupBroadcast(far_ds, 1u)); v1 = add_product(v1, y, subgroupBroadcast(far_weight, 1u));
            k2 = add_product(k2, x, subgroupBroadcast(far_ds, 2u)); v2 = add_product(v2, y, subgroupBroadcast(far_weight, 2u));
            k3 = add_product(k3, x, subgroupBroadcast(far_ds, 3u)); v3 = add_product(v3, y, subgroupBroadcast(far_weight, 3u));
            k4 = add_product(k4, x, subgroupBroadcast(far_ds, 4u)); v4 = add_product(v4, y, subgroupBroadcast(far_weight, 4u));
            k5 = add_product(k5, x, subgroupBroadcast(far_ds, 5u)); v5 = add_product(v5, y, subgroupBroadcast(far_weight, 5u));
            k6 = add_product(k6, x, subgroupBroadcast(far_ds, 6u)); v6 = add_product(v6, y, subgroupBroadcast(far_weight, 6u));
            k7 = add_product(k7, x, subgroupBroadcast(far_ds, 7u)); v7 = add_product(v7, y, subgroupBroadcast(far_weight, 7u));
        }
    }
    if lane >= p.width { return; }
    let column = h * p.width + lane;
    put(entry, column, j0 + 0u, k0, v0);
    put(entry, column, j0 + 1u, k1, v1);
    put(entry, column, j0 + 2u, k2, v2);
    put(entry, column, j0 + 3u, k3, v3);
    put(entry, column, j0 + 4u, k4, v4);
    put(entry, column, j0 + 5u, k5, v5);
    put(entry, column, j0 + 6u, k6, v6);
    put(entry, column, j0 + 7u, k7, v7);
}

// Stores a key's finished sums, where there is such a key.
fn put(entry: u32, column: u32, j: u32, k_sum: vec4<f32>, v_sum: vec4<f32>) {
    if j >= p.tk { return; }
    let token = entry * p.tk + j;
    d_kv[p.dk_offset + token * p.dk_stride + column] = k_sum * p.scale;
    d_kv[p.dv_offset + token * p.dv_stride + column] = v_sum;
}
