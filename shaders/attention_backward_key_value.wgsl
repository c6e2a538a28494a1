// uses: philox, dropout, attention
// dK and dV of softmax attention. A workgroup takes 16 keys of one head and the queries 32 at a time: two
// invocations share a query's weights and dS, eight keys each; then every invocation sums one vec4 of channels
// for up to eight of the keys. Twin: src/kernels/attention_backward.rs.
@group(0) @binding(5) var<storage, read> o: array<vec4<f32>>;           // [batch * tq, heads * width], strided
@group(0) @binding(6) var<storage, read> d_o: array<vec4<f32>>;         // [batch * tq, heads * width], strided
@group(0) @binding(7) var<storage, read> lse: array<f32>;               // [batch, heads, tq]
@group(0) @binding(8) var<storage, read_write> d_kv: array<vec4<f32>>;  // dK, dV: [batch * tk, heads * width], strided
const PITCH = 17u; // one more than the keys of a tile, so that neighbouring rows fall into different banks
var<workgroup> weight: array<f32, 544>; // [32][PITCH]
var<workgroup> d_s: array<f32, 544>;    // [32][PITCH]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let tiles = (p.tk + 15u) / 16u;
    let tile = group.y * groups.x + group.x;
    let head = tile / tiles;
    if head >= p.batch * p.heads { return; }
    let entry = head / p.heads;
    let h = head % p.heads;
    let j0 = tile % tiles * 16u;

    // As one of two with a query.
    let j = j0 + local % 2u * 8u;
    let ka = four(p.k_offset, p.k_stride, entry, p.tk, j, h);
    let kb = four(p.k_offset, p.k_stride, entry, p.tk, j + 4u, h);
    let va = four(p.v_offset, p.v_stride, entry, p.tk, j, h);
    let vb = four(p.v_offset, p.v_stride, entry, p.tk, j + 4u, h);
    // As the owner of a vec4 of channels, for keys r0, r0 + lanes, ...
    let channel = local % p.width;
    let lanes = 64u / p.width;
    let rows = (16u + lanes - 1u) / lanes;
    let r0 = local / p.width;
    let r = min(vec4(r0) + vec4(0u, lanes, 2u * lanes, 3u * lanes), vec4(15u));
    let s = min(vec4(r0 + 4u * lanes) + vec4(0u, lanes, 2u * lanes, 3u * lanes), vec4(15u));
    let q_sum = p.q_offset + entry * p.tq * p.q_stride + h * p.width + channel;
    let do_sum = p.do_offset + entry * p.tq * p.do_stride + h * p.width + channel;
    var k0 = vec4(0.0); var v0 = vec4(0.0);
    var k1 = vec4(0.0); var v1 = vec4(0.0);
    var k2 = vec4(0.0); var v2 = vec4(0.0);
    var k3 = vec4(0.0); var v3 = vec4(0.0);
    var k4 = vec4(0.0); var v4 = vec4(0.0);
    var k5 = vec4(0.0); var v5 = vec4(0.0);
    var k6 = vec4(0.0); var v6 = vec4(0.0);
    var k7 = vec4(0.0); var v7 = vec4(0.0);

    for (var i0 = 0u; i0 < p.tq; i0 += 32u) {
        let i = min(i0 + local / 2u, p.tq - 1u);
        let q_at = p.q_offset + (entry * p.tq + i) * p.q_stride + h * p.width;
        let o_at = p.o_offset + (entry * p.tq + i) * p.o_stride + h * p.width;
        let do_at = p.do_offset + (entry * p.tq + i) * p.do_stride + h * p.width;
        var delta = 0.0;
        var a = vec4(0.0);
        var b = vec4(0.0);
        var da = vec4(0.0);
        var db = vec4(0.0);
        for (var c = 0u; c < p.width; c++) {
            let x = q[q_at + c];
            let y = d_o[do_at + c];
            delta += dot(y, o[o_at + c]);
            a += vec4(dot(x, k[ka.x + c]), dot(x, k[ka.y + c]), dot(x, k[ka.z + c]), dot(x, k[ka.w + c]));
            b += vec4(dot(x, k[kb.x + c]), dot(x, k[kb.y + c]), dot(x, k[kb.z + c]), dot(x, k[kb.w + c]));
            da += vec4(dot(y, v[va.x + c]), dot(y, v[va.y + c]), dot(y, v[va.z + c]), dot(y, v[va.w + c]));
            db += vec4(dot(y, v[vb.x + c]), dot(y, v[vb.y + c]), dot(y, v[vb.z + c]), dot(y, v[vb.w + c]));
        }
        let log_total = lse[head * p.tq + i];
        a = exp(a * p.scale - log_total);
        b = exp(b * p.scale - log_total);
        let dropped = dropped_keys(head, i, j);
        let fa = factors(dropped);
        let fb = factors(dropped >> 4u);
        let wa = a * fa;
        let wb = b * fb;
        a *= da * fa - delta;
        b *= db * fb - delta;
        workgroupBarrier();
        let w = local / 2u * PITCH + local % 2u * 8u;
        weight[w] = wa.x; weight[w + 1u] = wa.y; weight[w + 2u] = wa.z; weight[w + 3u] = wa.w;
        weight[w + 4u] = wb.x; weight[w + 5u] = wb.y; weight[w + 6u] = wb.z; weight[w + 7u] = wb.w;
        d_s[w] = a.x; d_s[w + 1u] = a.y; d_s[w + 2u] = a.z; d_s[w + 3u] = a.w;
        d_s[w + 4u] = b.x; d_s[w + 5u] = b.y; d_s[w + 6u] = b.z; d_s[w + 7u] = b.w;
        workgroupBarrier();
        for (var n = 0u; n < min(32u, p.tq - i0); n++) {
            let x = q[q_sum + (i0 + n) * p.q_stride];
            let y = d_o[do_sum + (i0 + n) * p.do_stride];
            let at = n * PITCH;
            k0 += d_s[at + r.x] * x; v0 += weight[at + r.x] * y;
            if rows > 1u {
                k1 += d_s[at + r.y] * x; v1 += weight[at + r.y] * y;
            }
            if rows > 2u {
                k2 += d_s[at + r.z] * x; v2 += weight[at + r.z] * y;
                k3 += d_s[at + r.w] * x; v3 += weight[at + r.w] * y;
            }
            if rows > 4u {
                k4 += d_s[at + s.x] * x; v4 += weight[at + s.x] * y;
                k5 += d_s[at + s.y] * x; v5 += weight[at + s.y] * y;
                k6 += d_s[at + s.z] * x; v6 += weight[at + s.z] * y;
                k7 += d_s[at + s.w] * x; v7 += weight[at + s.w] * y;
            }
        }
    }
    if r0 >= lanes { return; }
    put(entry, h * p.width + channel, j0, r0, k0, v0);
    put(entry, h * p.width + channel, j0, r0 + lanes, k1, v1);
    put(entry, h * p.width + channel, j0, r0 + 2u * lanes, k2, v2);
    put(entry, h * p.width + channel, j0, r0 + 3u * lanes, k3, v3);
    put(entry, h * p.width + channel, j0, r0 + 4u * lanes, k4, v4);
    put(entry, h * p.width + channel, j0, r0 + 5u * lanes, k5, v5);
    put(entry, h * p.width + channel, j0, r0 + 6u * lanes, k6, v6);
    put(entry, h * p.width + channel, j0, r0 + 7u * lanes, k7, v7);
}

// Stores a key's finished sums, where there is such a key.
fn put(entry: u32, column: u32, j0: u32, row: u32, k_sum: vec4<f32>, v_sum: vec4<f32>) {
    if row >= 16u || j0 + row >= p.tk { return; }
    let token = entry * p.tk + j0 + row;
    d_kv[p.dk_offset + token * p.dk_stride + column] = k_sum * p.scale;
    d_kv[p.dv_offset + token * p.dv_stride + column] = v_sum;
}
