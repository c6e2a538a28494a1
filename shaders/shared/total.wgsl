// Sums over neighbouring invocations of a workgroup, `lanes` of them together (a power of two from 4 on), which every one of
// them gets: through workgroup memory. All invocations of the workgroup have to call it; who uses it says how many
// INVOCATIONS there are.
var<workgroup> sums: array<vec2<f32>, INVOCATIONS>;

fn total(x: vec2<f32>, local: u32, lanes: u32) -> vec2<f32> {
    workgroupBarrier(); // whoever still reads the last sums
    sums[local] = x;
    workgroupBarrier();
    let first = local / lanes * lanes;
    var sum = vec2(0.0);
    for (var n = first; n < first + lanes; n += 4u) {
        sum += (sums[n] + sums[n + 1u]) + (sums[n + 2u] + sums[n + 3u]);
    }
    return sum;
}

