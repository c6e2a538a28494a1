// The same sums as `total` where the invocations are of one subgroup, counted subgroup by subgroup: without barriers.
fn total(x: vec2<f32>, local: u32, lanes: u32) -> vec2<f32> {
    var sum = x;
    for (var across = 1u; across < lanes; across *= 2u) { sum += subgroupShuffleXor(sum, across); }
    return sum;
}

