// Products and sums of four in fused multiply-adds, written as such: lavapipe makes two operations of what is not.

// sum + x . y
fn add_dot(sum: f32, x: vec4<f32>, y: vec4<f32>) -> f32 {
    return fma(x.w, y.w, fma(x.z, y.z, fma(x.y, y.y, fma(x.x, y.x, sum))));
}

// sums + m x
fn add_product(sums: vec4<f32>, m: mat4x4<f32>, x: vec4<f32>) -> vec4<f32> {
    return fma(m[3], vec4(x.w), fma(m[2], vec4(x.z), fma(m[1], vec4(x.y), fma(m[0], vec4(x.x), sums))));
}

