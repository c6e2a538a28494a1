// uses: philox, dropout, attention
// dQ of softmax attention. A workgroup takes 16 queries of one head and the keys 32 at a time: four invocations
// share a query's dS, eight keys each; then every invocation sums one vec4 of channels for up to eight of the
// queries. Twin: src/kernels/attention_backward.rs.
@group(0) @binding(5) var<storage, read> o: array<vec4<f32>>;         // [batch * tq, heads * width], strided
@group(0) @binding(6) var<storage, read> d_o: array<vec4<f32>>;       // [batch * tq, heads * width], strided
@group(0) @binding(7) var<storage, read> lse: array<f32>;             // [batch, heads, tq]
@group(0) @binding(8) var<storage, read_write> d_q: array<vec4<f32>>; // [batch * tq, heads * width], strided
const PITCH = 33u; // one more than the keys of a tile, so that neighbouring rows fall into different banks
var<workgroup> d_s: array<f32, 528>; // [16][PITCH]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let tiles = (p.tq + 15u) / 16u;
    let tile = group.y * groups.x + group.x;
    let head = tile / tiles;
    if head >= p.batch * p.heads { return; }
    let entry = head / p.heads;
    let h = head % p.heads;
    let i0 = tile % tiles * 16u;

    // As one of four with a query.
    let row = local / 4u;
    let i = min(i0 + row, p.tq - 1u);
    let q_at = p.q_offset + (entry * p.tq + i) * p.q_stride + h * p.width;
    let o_at = p.o_offset + (entry * p.tq + i) * p.o_stride + h * p.width;
    let do_at = p.do_offset + (entry * p.tq + i) * p.do_stride + h * p.width;
    let log_total = lse[head * p.tq + i];
    var delta = 0.0;
    for (var c = 0u; c < p.width; c++) { delta += dot(o[o_at + c], d_o[do_at + c]); }
    // As the owner of a vec4 of channels, for queries r0, r0 + lanes, ...
    let channel = local % p.width;
    let lanes = 64u / p.width;
    let rows = (16u + lanes - 1u) / lanes;
    let r0 = local / p.width;
    let rp = min(vec4(r0) + vec4(0u, lanes, 2u * lanes, 3u * lanes), vec4(15u)) * PITCH;
    let sp = min(vec4(r0 + 4u * lanes) + vec4(0u, lanes, 2u * lanes, 3u * lanes), vec4(15u)) * PITCH;
    let k_at = p.k_offset + entry * p.tk * p.k_stride + h * p.width + channel;
    var d0 = vec4(0.0);
    var d1 = vec4(0.0);
    var d2 = vec4(0.0);
    var d3 = vec4(0.0);
    var d4 = vec4(0.0);
    var d5 = vec4(0.0);
    var d6 = vec4(0.0);
    var d7 = vec4(0.0);

    for (var j0 = 0u; j0 < p.tk; j0 += 32u) {
        let j = j0 + local % 4u * 8u;
        let ka = four(p.k_offset, p.k_stride, entry, p.tk, j, h);
        let kb = four(p.k_offset, p.k_stride, entry, p.tk, j + 4u, h);
        let va = four(p.v_offset, p.v_stride, entry, p.tk, j, h);
        let vb = four(p.v_offset, p.v_stride, entry, p.tk, j + 4u, h);
        var a = vec4(0.0);
        var b = vec4(0.0);
        var da = vec4(0.0);
        var db = vec4(0.0);
        for (var c = 0u; c < p.width; c++) {
            let x = q[q_at + c];
            let y = d_o[do_at + c];
            a += vec4(dot(x, k[ka.x + c]), dot(x, k[ka.y + c]), dot(x, k[ka.z + c]), dot(x, k[ka.w + c]));
            b += vec4(dot(x, k[kb.x + c]), dot(x, k[kb.y + c]), dot(x, k[kb.z + c]), dot(x, k[kb.w + c]));
            da += vec4(dot(y, v[va.x + c]), dot(y, v[va.y + c]), dot(y, v[va.z + c]), dot(y, v[va.w + c]));
            db += vec4(dot(y, v[vb.x + c]), dot(y, v[vb.y + c]), dot(y, v[vb.z + c]), dot(y, v[vb.w + c]));
        }
        let dropped = dropped_keys(head, i, j);
        a = exp(a * p.scale - log_total) * (da * factors(dropped) - delta);
        b = exp(b * p.scale - log_total) * (db * factors(dropped >> 4u) - delta);
        workgroupBarrier();
        let w = row * PITCH + local % 4u * 8u;
        d_s[w] = a.x; d_s[w + 1u] = a.y; d_s[w + 2u] = a.z; d_s[w + 3u] = a.w;
        d_s[w + 4u] = b.x; d_s[w + 5u] = b.y; d_s[w + 6u] = b.z; d_s[w + 7u] = b.w;
        workgroupBarrier();
        for (var n = 0u; n < min(32u, p.tk - j0); n++) {
            let kn = k[k_at + (j0 + n) * p.k_stride];
            d0 += d_s[rp.x + n] * kn;
            if rows > 1u {
                d1 += d_s[rp.y + n] * kn;
            }
            if rows > 2u {
                d2 += d_s[rp.z + n] * kn;
                d3 += d_s[rp.w + n] * kn;
            }
            if rows > 4u {
                d4 += d_s[sp.x + n] * kn;
                d5 += d_s[sp.y + n] * kn;
                d6 += d_s[sp.z + n] * kn;
                d7 += d_s[sp.w + n] * kn;
            }
        }
    }
    if r0 >= lanes { return; }
    let dq_at = p.dq_offset + entry * p.tq * p.dq_stride + h * p.width + channel;
    put(dq_at, i0, r0, d0);
    put(dq_at, i0, r0 + lanes, d1);
    put(dq_at, i0, r0 + 2u * lanes, d2);
    put(dq_at, i0, r0 + 3u * lanes, d3);
    put(dq_at, i0, r0 + 4u * lanes, d4);
    put(dq_at, i0, r0 + 5u * lanes, d5);
    put(dq_at, i0, r0 + 6u * lanes, d6);
    put(dq_at, i0, r0 + 7u * lanes, d7);
}

// Stores a query's finished sum, where there is such a query.
fn put(at: u32, i0: u32, row: u32, sum: vec4<f32>) {
    if row >= 16u || i0 + row >= p.tq { return; }
    d_q[at + (i0 + row) * p.dq_stride] = sum * p.scale;
}
