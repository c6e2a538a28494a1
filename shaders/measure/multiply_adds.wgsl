// The most multiply-adds that a device does: eight chains of vec4 an invocation, which touch nothing but registers, eight
// links of each a round: what a loop hands from round to round lavapipe copies under a mask. 512 floating-point operations a
// round and invocation. Factor and summand come from the host, so that no compiler knows where a chain ends.

struct Params {
    rounds: u32,
    factor: f32,
    summand: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> sums: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let f = vec4<f32>(params.factor);
    let s = vec4<f32>(params.summand);
    let start = f32(id.x % 64u);
    var a = vec4<f32>(start);
    var b = vec4<f32>(start + 1.0);
    var c = vec4<f32>(start + 2.0);
    var d = vec4<f32>(start + 3.0);
    var e = vec4<f32>(start + 4.0);
    var g = vec4<f32>(start + 5.0);
    var h = vec4<f32>(start + 6.0);
    var k = vec4<f32>(start + 7.0);
    for (var round = 0u; round < params.rounds; round++) {
        a = eight(a, f, s);
        b = eight(b, f, s);
        c = eight(c, f, s);
        d = eight(d, f, s);
        e = eight(e, f, s);
        g = eight(g, f, s);
        h = eight(h, f, s);
        k = eight(k, f, s);
    }
    let sum = a + b + c + d + e + g + h + k;
    sums[id.x] = sum.x + sum.y + sum.z + sum.w;
}

// Eight links of a chain.
fn eight(x: vec4<f32>, f: vec4<f32>, s: vec4<f32>) -> vec4<f32> {
    let y = fma(fma(fma(fma(x, f, s), f, s), f, s), f, s);
    return fma(fma(fma(fma(y, f, s), f, s), f, s), f, s);
}
