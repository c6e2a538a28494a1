// The operands of a matrix product as most of its variants bind them. Described in src/kernels/matmul.rs.
override HALF: bool = false; // b's elements are f16, two to a word
@group(0) @binding(1) var<storage, read> a: array<f32>;         // m x k, strided
@group(0) @binding(2) var<storage, read> b: array<u32>;         // k x n, strided; read by b_at

// Element i of b. No device needs f16 of its own for it.
fn b_at(i: u32) -> f32 {
    if HALF { return unpack2x16float(b[i / 2u] >> (i % 2u * 16u)).x; }
    return bitcast<f32>(b[i]);
}

