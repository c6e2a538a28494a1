// The most multiply-adds that a device does: eight chains of vec4 an invocation, which touch nothing but registers.
// 64 floating-point operations a round and invocation. Factor and summand come from the host, so that no compiler knows
// where a chain ends.

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
        a = fma(a, f, s);
        b = fma(b, f, s);
        c = fma(c, f, s);
        d = fma(d, f, s);
        e = fma(e, f, s);
        g = fma(g, f, s);
        h = fma(h, f, s);
        k = fma(k, f, s);
    }
    let sum = a + b + c + d + e + g + h + k;
    sums[id.x] = sum.x + sum.y + sum.z + sum.w;
}
