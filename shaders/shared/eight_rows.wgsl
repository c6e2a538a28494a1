// Sums for subgroups of eight: what every invocation holds of its row reaches the others by broadcast. After `fused`.

// Sums of eight rows, in four columns each.
struct EightRows {
    r0: vec4<f32>, r1: vec4<f32>, r2: vec4<f32>, r3: vec4<f32>,
    r4: vec4<f32>, r5: vec4<f32>, r6: vec4<f32>, r7: vec4<f32>,
}

// The sums with four terms more: x has those of this invocation's row, and column t of w what term t is multiplied by in each of
// the four columns.
fn add_products(sums: EightRows, w: mat4x4<f32>, x: vec4<f32>) -> EightRows {
    return EightRows(
        add_product(sums.r0, w, subgroupBroadcast(x, 0u)), add_product(sums.r1, w, subgroupBroadcast(x, 1u)),
        add_product(sums.r2, w, subgroupBroadcast(x, 2u)), add_product(sums.r3, w, subgroupBroadcast(x, 3u)),
        add_product(sums.r4, w, subgroupBroadcast(x, 4u)), add_product(sums.r5, w, subgroupBroadcast(x, 5u)),
        add_product(sums.r6, w, subgroupBroadcast(x, 6u)), add_product(sums.r7, w, subgroupBroadcast(x, 7u)));
}

// The sums with a term more: a number of each row, times x, the same in all of them.
fn add_outer(sums: EightRows, near: vec4<f32>, far: vec4<f32>, x: vec4<f32>) -> EightRows {
    return EightRows(
        fma(vec4(near.x), x, sums.r0), fma(vec4(near.y), x, sums.r1), fma(vec4(near.z), x, sums.r2), fma(vec4(near.w), x, sums.r3),
        fma(vec4(far.x), x, sums.r4), fma(vec4(far.y), x, sums.r5), fma(vec4(far.z), x, sums.r6), fma(vec4(far.w), x, sums.r7));
}

// Sums of eight rows, in one column.
struct Eight { near: vec4<f32>, far: vec4<f32> }

// The sums with four terms more: x of each row, and y, the column's.
fn add_dots(sums: Eight, x: vec4<f32>, y: vec4<f32>) -> Eight {
    return Eight(
        vec4(add_dot(sums.near.x, subgroupBroadcast(x, 0u), y), add_dot(sums.near.y, subgroupBroadcast(x, 1u), y),
             add_dot(sums.near.z, subgroupBroadcast(x, 2u), y), add_dot(sums.near.w, subgroupBroadcast(x, 3u), y)),
        vec4(add_dot(sums.far.x, subgroupBroadcast(x, 4u), y), add_dot(sums.far.y, subgroupBroadcast(x, 5u), y),
             add_dot(sums.far.z, subgroupBroadcast(x, 6u), y), add_dot(sums.far.w, subgroupBroadcast(x, 7u), y)));
}
