// What the attention kernels share: sizes, the first bindings. Described in src/kernels/attention.rs.
// Offsets, strides and the head width are in vec4s.
struct Params {
    batch: u32, heads: u32, tq: u32, tk: u32, width: u32,
    q_offset: u32, q_stride: u32, k_offset: u32, k_stride: u32,
    v_offset: u32, v_stride: u32, o_offset: u32, o_stride: u32,
    scale: f32, site: u32, threshold: u32, keep_scale: f32,
    // Of the gradients; absent from the forward kernel's block.
    do_offset: u32, do_stride: u32, dq_offset: u32, dq_stride: u32,
    dk_offset: u32, dk_stride: u32, dv_offset: u32, dv_stride: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;  // [batch * tq, heads * width], strided
@group(0) @binding(2) var<storage, read> k: array<vec4<f32>>;  // [batch * tk, heads * width], strided
@group(0) @binding(3) var<storage, read> v: array<vec4<f32>>;  // [batch * tk, heads * width], strided
@group(0) @binding(4) var<storage, read> control: vec4<u32>;   // seed, step; only read if threshold > 0

// Where the rows of four neighbouring tokens begin; tokens past the last of `tokens` read the last.
fn four(offset: u32, stride: u32, entry: u32, tokens: u32, first: u32, h: u32) -> vec4<u32> {
    let token = min(vec4(first, first + 1u, first + 2u, first + 3u), vec4(tokens - 1u));
    return offset + (entry * tokens + token) * stride + h * p.width;
}

// The mask's factors for four elements, from four bits.
fn factors(dropped: u32) -> vec4<f32> {
    return select(vec4(p.keep_scale), vec4(0.0), (vec4(dropped) & vec4(1u, 2u, 4u, 8u)) != vec4(0u));
}

// The bits of eight neighbouring keys of one query that dropout drops; `head` counts over batch and heads.
fn dropped_keys(head: u32, i: u32, j: u32) -> u32 {
    if p.threshold == 0u { return 0u; }
    return dropped8(control, p.site, (head * p.tq + i) * p.tk + j, p.threshold);
}

