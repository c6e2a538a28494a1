// What all matrix products share: sizes, and what becomes of a sum. Described in src/kernels/matmul.rs.
struct Params {
    m: u32, k: u32, n: u32, batch: u32,
    a_offset: u32, a_row: u32, a_column: u32, a_batch: u32,
    b_offset: u32, b_row: u32, b_column: u32, b_batch: u32,
    c_offset: u32, c_row: u32, c_column: u32, c_batch: u32,
    has_bias: u32, bias_offset: u32, residual_rows: u32, activation: u32,
    alpha: f32, gated: u32,
    eps: f32, // of rows that are normalised; absent from others' block
    // Of an attention whose answers are A; widths, offsets and strides in vec4s. Absent from others' block.
    heads: u32, tq: u32, tk: u32, width: u32,
    q_offset: u32, q_stride: u32, k_offset: u32, k_stride: u32, v_offset: u32, v_stride: u32,
    scale: f32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(3) var<storage, read> bias: array<f32>;      // [n] from bias_offset
@group(0) @binding(4) var<storage, read> residual: array<f32>;  // [residual_rows, n]

fn residual_at(i: u32, j: u32) -> f32 {
    if p.residual_rows == 0u { return 0.0; }
    return residual[(i % p.residual_rows) * p.n + j];
}

// What becomes of a sum at (i, j).
fn finished(i: u32, j: u32, sum: f32) -> f32 {
    var y = sum;
    if p.has_bias != 0u { y += bias[p.bias_offset + j]; }
    return ended(i, j, y);
}

// R + alpha f(y), or alpha f(y) where R is above 0.
fn ended(i: u32, j: u32, y: f32) -> f32 {
    let r = residual_at(i, j);
    let f = p.alpha * activate(p.activation, y);
    if p.gated != 0u { return select(0.0, f, r > 0.0); }
    return r + f;
}

