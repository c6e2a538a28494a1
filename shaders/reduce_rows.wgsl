// Sums of rows by group: the gradient of what add_rows adds. Twin: src/kernels/add_rows.rs.
// A workgroup makes 16 neighbouring columns of one group; 16 invocations share the rows of each.
struct Params {
    rows: u32, columns: u32, div: u32, modulo: u32,
    offset: u32, alpha: f32, beta: f32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;        // [rows, columns]
@group(0) @binding(2) var<storage, read_write> y: array<f32>;  // [modulo, columns] from offset
override ONE_GROUP: bool = false; // modulo is 1: a row's number is its place, no division needed
var<workgroup> partial: array<f32, 256>; // [16 rows][16 columns]

// This column of the i-th row of a group; 0 past either edge.
fn element(member: u32, i: u32, column: u32) -> f32 {
    var row = i;
    if !ONE_GROUP { row = (i / p.div * p.modulo + member) * p.div + i % p.div; }
    if row >= p.rows || column >= p.columns { return 0.0; }
    return x[row * p.columns + column];
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let strips = (p.columns + 15u) / 16u;
    let strip = group.y * groups.x + group.x;
    let member = strip / strips;
    if member >= p.modulo { return; }
    let column = strip % strips * 16u + local % 16u;
    let period = p.div * p.modulo;
    let count = (p.rows + period - 1u) / period * p.div;
    // Four sums at once, so that four loads are under way.
    var s = vec4(0.0);
    for (var i = local / 16u; i < count; i += 64u) {
        s.x += element(member, i, column);
        s.y += element(member, i + 16u, column);
        s.z += element(member, i + 32u, column);
        s.w += element(member, i + 48u, column);
    }
    partial[local] = (s.x + s.y) + (s.z + s.w);
    workgroupBarrier();
    if local >= 16u || column >= p.columns { return; }
    var total = 0.0;
    for (var n = local; n < 256u; n += 16u) { total += partial[n]; }
    let at = p.offset + member * p.columns + column;
    var sum = p.alpha * total;
    if p.beta != 0.0 { sum += p.beta * y[at]; }
    y[at] = sum;
}
