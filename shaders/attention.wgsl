// uses: philox, dropout, attention
// Softmax attention with a running maximum. A workgroup answers 16 queries of one head and takes the keys 32 at
// a time: four invocations share a query's weights, eight keys each; then every invocation sums one vec4 of
// channels for up to eight of the queries. Twin: src/kernels/attention.rs.
@group(0) @binding(5) var<storage, read_write> o: array<vec4<f32>>;  // [batch * tq, heads * width], strided
@group(0) @binding(6) var<storage, read_write> lse: array<f32>;      // [batch, heads, tq]
const PITCH = 33u; // one more than the keys of a tile, so that neighbouring rows fall into different banks
var<workgroup> weight: array<f32, 528>;  // [16][PITCH]
var<workgroup> peak: array<f32, 64>;     // [16][4], largest score of each invocation's keys
var<workgroup> mass: array<f32, 64>;     // [16][4], sum of each invocation's weights
var<workgroup> factor: array<f32, 16>;   // what a query's sums so far are multiplied by

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
    var top = -1e30;
    var total = 0.0;
    // As the owner of a vec4 of channels, for queries r0, r0 + lanes, ...
    let channel = local % p.width;
    let lanes = 64u / p.width;
    let rows = (16u + lanes - 1u) / lanes;
    let r0 = local / p.width;
    let r = min(vec4(r0, r0 + lanes, r0 + 2u * lanes, r0 + 3u * lanes), vec4(15u));
    let s = min(vec4(r0 + 4u * lanes) + vec4(0u, lanes, 2u * lanes, 3u * lanes), vec4(15u));
    let rp = r * PITCH;
    let sp = s * PITCH;
    let v_at = p.v_offset + entry * p.tk * p.v_stride + h * p.width + channel;
    var o0 = vec4(0.0);
    var o1 = vec4(0.0);
    var o2 = vec4(0.0);
    var o3 = vec4(0.0);
    var o4 = vec4(0.0);
    var o5 = vec4(0.0);
    var o6 = vec4(0.0);
    var o7 = vec4(0.0);

    for (var j0 = 0u; j0 < p.tk; j0 += 32u) {
        let j = j0 + local % 4u * 8u;
        let ka = four(p.k_offset, p.k_stride, entry, p.tk, j, h);
        let kb = four(p.k_offset, p.k_stride, entry, p.tk, j + 4u, h);
        var a = vec4(0.0);
        var b = vec4(0.0);
        for (var c = 0u; c < p.width; c++) {
            let qc = q[q_at + c];
            a += vec4(dot(qc, k[ka.x + c]), dot(qc, k[ka.y + c]), dot(qc, k[ka.z + c]), dot(qc, k[ka.w + c]));
            b += vec4(dot(qc, k[kb.x + c]), dot(qc, k[kb.y + c]), dot(qc, k[kb.z + c]), dot(qc, k[kb.w + c]));
        }
        a = select(vec4(-1e30), a * p.scale, vec4(j) + vec4(0u, 1u, 2u, 3u) < vec4(p.tk));
        b = select(vec4(-1e30), b * p.scale, vec4(j) + vec4(4u, 5u, 6u, 7u) < vec4(p.tk));
        let ab = max(a, b);
        peak[local] = max(max(ab.x, ab.y), max(ab.z, ab.w));
        workgroupBarrier();
        let at = row * 4u;
        let higher = max(top, max(max(peak[at], peak[at + 1u]), max(peak[at + 2u], peak[at + 3u])));
        let decay = exp(top - higher);
        top = higher;
        a = exp(a - top);
        b = exp(b - top);
        let sums = a + b;
        mass[local] = (sums.x + sums.y) + (sums.z + sums.w);
        if local % 4u == 0u { factor[row] = decay; }
        let dropped = dropped_keys(head, i, j);
        a *= factors(dropped);
        b *= factors(dropped >> 4u);
        let w = row * PITCH + local % 4u * 8u;
        weight[w] = a.x; weight[w + 1u] = a.y; weight[w + 2u] = a.z; weight[w + 3u] = a.w;
        weight[w + 4u] = b.x; weight[w + 5u] = b.y; weight[w + 6u] = b.z; weight[w + 7u] = b.w;
        workgroupBarrier();
        total = total * decay + ((mass[at] + mass[at + 1u]) + (mass[at + 2u] + mass[at + 3u]));

        // The next tile's first barrier stands between these reads and the next tile's writes.
        o0 *= factor[r.x];
        o1 *= factor[r.y];
        o2 *= factor[r.z];
        o3 *= factor[r.w];
        o4 *= factor[s.x];
        o5 *= factor[s.y];
        o6 *= factor[s.z];
        o7 *= factor[s.w];
        for (var n = 0u; n < min(32u, p.tk - j0); n++) {
            let vn = v[v_at + (j0 + n) * p.v_stride];
            o0 += weight[rp.x + n] * vn;
            if rows > 1u {
                o1 += weight[rp.y + n] * vn;
            }
            if rows > 2u {
                o2 += weight[rp.z + n] * vn;
                o3 += weight[rp.w + n] * vn;
            }
            if rows > 4u {
                o4 += weight[sp.x + n] * vn;
                o5 += weight[sp.y + n] * vn;
                o6 += weight[sp.z + n] * vn;
                o7 += weight[sp.w + n] * vn;
            }
        }
    }
    workgroupBarrier();
    if local % 4u == 0u {
        factor[row] = 1.0 / total;
        if i0 + row < p.tq { lse[head * p.tq + i] = top + log(total); }
    }
    workgroupBarrier();
    if r0 >= lanes { return; }
    let o_at = p.o_offset + entry * p.tq * p.o_stride + h * p.width + channel;
    put(o_at, i0, r0, o0);
    put(o_at, i0, r0 + lanes, o1);
    put(o_at, i0, r0 + 2u * lanes, o2);
    put(o_at, i0, r0 + 3u * lanes, o3);
    put(o_at, i0, r0 + 4u * lanes, o4);
    put(o_at, i0, r0 + 5u * lanes, o5);
    put(o_at, i0, r0 + 6u * lanes, o6);
    put(o_at, i0, r0 + 7u * lanes, o7);
}

// Stores a query's finished sum, where there is such a query.
fn put(at: u32, i0: u32, row: u32, sum: vec4<f32>) {
    if row >= 16u || i0 + row >= p.tq { return; }
    o[at + (i0 + row) * p.o_stride] = sum * factor[row];
}
