// uses: philox, dropout, attention, attention_broadcast, fused, eight_rows
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
    var dk = EightRows(); // of eight keys
    var dv = EightRows();
    for (var i0 = 0u; i0 < p.tq; i0 += 8u) {
        let i = min(i0 + lane, p.tq - 1u);
        let q_at = p.q_offset + (entry * p.tq + i) * p.q_stride + h * p.width;
        let o_at = p.o_offset + (entry * p.tq + i) * p.o_stride + h * p.width;
        let do_at = p.do_offset + (entry * p.tq + i) * p.do_stride + h * p.width;
        var delta = 0.0;
        var scores = Eight(); // of this key, and dO V
        var products = Eight();
        for (var c = 0u; c < p.width; c++) {
            let x = q[q_at + c];
            let y = d_o[do_at + c];
            delta = add_dot(delta, o[o_at + c], y);
            scores = add_dots(scores, x, key[c]);
            products = add_dots(products, y, value[c]);
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
        let near = exp(scores.near * p.scale - first_four(log_total));
        let far = exp(scores.far * p.scale - last_four(log_total));
        let near_ds = near * (products.near * near_kept - first_four(delta));
        let far_ds = far * (products.far * far_kept - last_four(delta));
        for (var half = 0u; half < 8u; half += 4u) {
            let at = min(i0 + half + vec4(0u, 1u, 2u, 3u), vec4(p.tq - 1u));
            let x = mat4x4(q[queries + at.x * p.q_stride], q[queries + at.y * p.q_stride],
                           q[queries + at.z * p.q_stride], q[queries + at.w * p.q_stride]);
            let y = mat4x4(d_o[gradients + at.x * p.do_stride], d_o[gradients + at.y * p.do_stride],
                           d_o[gradients + at.z * p.do_stride], d_o[gradients + at.w * p.do_stride]);
            dk = add_products(dk, x, select(far_ds, near_ds, half == 0u));
            dv = add_products(dv, y, select(far * far_kept, near * near_kept, half == 0u));
        }
    }
    if lane >= p.width { return; }
    let column = h * p.width + lane;
    put(entry, column, j0 + 0u, dk.r0, dv.r0);
    put(entry, column, j0 + 1u, dk.r1, dv.r1);
    put(entry, column, j0 + 2u, dk.r2, dv.r2);
    put(entry, column, j0 + 3u, dk.r3, dv.r3);
    put(entry, column, j0 + 4u, dk.r4, dv.r4);
    put(entry, column, j0 + 5u, dk.r5, dv.r5);
    put(entry, column, j0 + 6u, dk.r6, dv.r6);
    put(entry, column, j0 + 7u, dk.r7, dv.r7);
}

// Stores a key's finished sums, where there is such a key.
fn put(entry: u32, column: u32, j: u32, k_sum: vec4<f32>, v_sum: vec4<f32>) {
    if j >= p.tk { return; }
    let token = entry * p.tk + j;
    d_kv[p.dk_offset + token * p.dk_stride + column] = k_sum * p.scale;
    d_kv[p.dv_offset + token * p.dv_stride + column] = v_sum;
}
