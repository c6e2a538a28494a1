// The gradient of weighted_mse with respect to the prediction. Twin: src/kernels/mse.rs.
struct Params { rows: u32, columns: u32, dims: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> prediction: array<f32>;           // [rows, columns]
@group(0) @binding(2) var<storage, read> targets: array<f32>;              // [rows, columns]
@group(0) @binding(3) var<storage, read> weights: array<f32>;              // [rows]
@group(0) @binding(4) var<storage, read> d_loss: array<f32>;               // [1]
@group(0) @binding(5) var<storage, read_write> d_prediction: array<f32>;   // [rows, columns]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let i = (group.y * groups.x + group.x) * 64u + local;
    if i >= p.rows * p.columns { return; }
    var slope = 0.0;
    if i % p.columns < p.dims {
        slope = 2.0 * weights[i / p.columns] * (prediction[i] - targets[i]) * d_loss[0];
    }
    d_prediction[i] = slope;
}
