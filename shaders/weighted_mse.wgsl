// A weighted sum of squared errors, by one workgroup in a fixed order. Twin: src/kernels/mse.rs.
struct Params { rows: u32, columns: u32, dims: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> prediction: array<f32>;   // [rows, columns]
@group(0) @binding(2) var<storage, read> targets: array<f32>;      // [rows, columns]
@group(0) @binding(3) var<storage, read> weights: array<f32>;      // [rows]
@group(0) @binding(4) var<storage, read_write> loss: array<f32>;   // [1]
var<workgroup> partial: array<f32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) local: u32) {
    var sum = 0.0;
    for (var i = local; i < p.rows * p.dims; i += 256u) {
        let row = i / p.dims;
        let at = row * p.columns + i % p.dims;
        let error = prediction[at] - targets[at];
        sum += weights[row] * error * error;
    }
    partial[local] = sum;
    workgroupBarrier();
    for (var half = 128u; half > 0u; half /= 2u) {
        if local < half { partial[local] += partial[local + half]; }
        workgroupBarrier();
    }
    if local == 0u { loss[0] = partial[0]; }
}
