// uses: activation, product, fused, eight_rows
// Matrix product of at most 64 columns and layer norm of its rows, for software adapters with subgroups of eight: a
// subgroup makes eight rows. b's columns, stored one after the other, are bound as a uniform buffer, as in
// `matmul_uniform`. Each invocation loads a row of A, which reaches the others by broadcast, and owns eight columns, eight
// apart. Twin: src/kernels/matmul_norm.rs.
@group(0) @binding(1) var<storage, read> a: array<vec4<f32>>;   // m x k, strided
@group(0) @binding(2) var<uniform> b: array<vec4<f32>, 4096>;   // k x n, columns strided
@group(0) @binding(5) var<storage, read> gamma: array<f32>;     // [n]
@group(0) @binding(6) var<storage, read> beta: array<f32>;      // [n]
@group(0) @binding(7) var<storage, read_write> c: array<f32>;   // m x n

// Four columns of an invocation.
struct Four { at: vec4<u32>, inside: vec4<f32>, bias: vec4<f32>, gamma: vec4<f32>, beta: vec4<f32> }

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(subgroup_invocation_id) lane: u32) {
    let i = (group.y * groups.x + group.x) * 8u;
    if i >= p.m { return; }
    let near = four(lane);
    let far = four(lane + 32u);
    var left = (min(i + lane, p.m - 1u) * p.a_row + p.a_offset) / 4u;
    var x_at = (near.at * p.b_column + p.b_offset) / 4u;
    var y_at = (far.at * p.b_column + p.b_offset) / 4u;
    var sums = EightRows(); // of near columns, and of far ones
    var others = EightRows();
    for (var k = 0u; k < p.k / 4u; k++) {
        // Four columns of a term each, which are stored as four terms of a column.
        let x = transpose(mat4x4(b[x_at.x], b[x_at.y], b[x_at.z], b[x_at.w]));
        let y = transpose(mat4x4(b[y_at.x], b[y_at.y], b[y_at.z], b[y_at.w]));
        let w = a[left + k];
        x_at += 1u;
        y_at += 1u;
        sums = add_products(sums, x, w);
        others = add_products(others, y, w);
    }

    // The rows one after the other, each from the front of the queue, so that the epilogue is compiled once and not
    // eight times.
    let width = f32(p.n);
    for (var row = i; row < min(i + 8u, p.m); row++) {
        let y = ends(row, near, sums.r0);
        let z = ends(row, far, others.r0);
        let mean = subgroupAdd(dot(y, near.inside) + dot(z, far.inside)) / width;
        let d = (y - mean) * near.inside;
        let e = (z - mean) * far.inside;
        let rstd = 1.0 / sqrt(subgroupAdd(dot(d, d) + dot(e, e)) / width + p.eps);
        put(row, lane, near.gamma * (d * rstd) + near.beta);
        put(row, lane + 32u, far.gamma * (e * rstd) + far.beta);
        sums = EightRows(sums.r1, sums.r2, sums.r3, sums.r4, sums.r5, sums.r6, sums.r7, sums.r7);
        others = EightRows(others.r1, others.r2, others.r3, others.r4, others.r5, others.r6, others.r7, others.r7);
    }
}

// The columns j, j + 8, j + 16, j + 24. Those past the edge read the last one, and count for nothing.
fn four(j: u32) -> Four {
    let columns = j + vec4(0u, 8u, 16u, 24u);
    let at = min(columns, vec4(p.n - 1u));
    let inside = select(vec4(0.0), vec4(1.0), columns < vec4(p.n));
    var biases = vec4(0.0);
    if p.has_bias != 0u {
        let b_at = p.bias_offset + at;
        biases = vec4(bias[b_at.x], bias[b_at.y], bias[b_at.z], bias[b_at.w]);
    }
    return Four(at, inside, biases, vec4(gamma[at.x], gamma[at.y], gamma[at.z], gamma[at.w]),
                vec4(beta[at.x], beta[at.y], beta[at.z], beta[at.w]));
}

fn ends(row: u32, columns: Four, sum: vec4<f32>) -> vec4<f32> {
    let y = sum + columns.bias;
    let at = columns.at;
    let r = vec4(residual_at(row, at.x), residual_at(row, at.y), residual_at(row, at.z), residual_at(row, at.w));
    return r + p.alpha * vec4(activate(p.activation, y.x), activate(p.activation, y.y),
                              activate(p.activation, y.z), activate(p.activation, y.w));
}

// Stores four results of a row, where they lie inside C.
fn put(row: u32, j: u32, y: vec4<f32>) {
    let at = row * p.n + j;
    if j < p.n { c[at] = y.x; }
    if j + 8u < p.n { c[at + 8u] = y.y; }
    if j + 16u < p.n { c[at + 16u] = y.z; }
    if j + 24u < p.n { c[at + 24u] = y.w; }
}
