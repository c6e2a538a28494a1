// Pictures cut into patches of side x side pixels, one a row, columns as Conv2d orders its weight.
// An invocation makes a run of neighbouring pixels, which lie in one word where they are bytes.
// Twin: src/kernels/patchify.rs.
override RUN: u32 = 1u; // 1, or 4 where a patch and a picture are whole runs wide
// Known when the pipeline is made, so that what is divided by them is multiplied and shifted.
override CHANNELS: u32 = 1u;
override HEIGHT: u32 = 1u;
override WIDTH: u32 = 1u;
override SIDE: u32 = 1u;
struct Params { len: u32, bytes: u32, normalize: u32, first: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> images: array<u32>;      // [batch, channels, height, width]: bytes or f32
@group(0) @binding(2) var<storage, read> affine: array<f32>;      // [2, channels]: scale, shift
@group(0) @binding(3) var<storage, read_write> rows: array<f32>;  // [batch * patches, channels * side * side]

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let i = ((group.y * groups.x + group.x) * 256u + local) * RUN;
    if i >= p.len { return; }
    let across = WIDTH / SIDE;
    let patches = HEIGHT / SIDE * across;
    let columns = CHANNELS * SIDE * SIDE;
    let row = i / columns;
    let column = i % columns;
    let place = row % patches;
    let entry = row / patches;
    let channel = column / (SIDE * SIDE);
    let y = place / across * SIDE + column / SIDE % SIDE;
    let x = place % across * SIDE + column % SIDE;
    let at = ((entry * CHANNELS + channel) * HEIGHT + y) * WIDTH + x;
    var scale = 1.0;
    var shift = 0.0;
    if p.normalize != 0u { scale = affine[channel]; shift = affine[CHANNELS + channel]; }
    if p.bytes != 0u {
        let word = images[at / 4u] >> (at % 4u * 8u);
        for (var n = 0u; n < RUN; n++) {
            rows[p.first + i + n] = f32((word >> (n * 8u)) & 255u) / 255.0 * scale + shift;
        }
    } else {
        for (var n = 0u; n < RUN; n++) { rows[p.first + i + n] = bitcast<f32>(images[at + n]) * scale + shift; }
    }
}
