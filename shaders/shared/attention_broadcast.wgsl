// How the eight invocations of a subgroup tell one another: a value of each of the first four, and of the last four. After
// `attention`.
fn first_four(x: f32) -> vec4<f32> {
    return vec4(subgroupBroadcast(x, 0u), subgroupBroadcast(x, 1u), subgroupBroadcast(x, 2u), subgroupBroadcast(x, 3u));
}

fn last_four(x: f32) -> vec4<f32> {
    return vec4(subgroupBroadcast(x, 4u), subgroupBroadcast(x, 5u), subgroupBroadcast(x, 6u), subgroupBroadcast(x, 7u));
}

// The factors of one key for four queries, from the bits of eight keys.
fn kept(bits: vec4<u32>, key: u32) -> vec4<f32> {
    return select(vec4(p.keep_scale), vec4(0.0), (bits & vec4(1u << key)) != vec4(0u));
}

// The same for the first, and the last, four invocations' queries, from the bits that each drew for its own.
fn first_four_kept(bits: u32, key: u32) -> vec4<f32> {
    return kept(vec4(subgroupBroadcast(bits, 0u), subgroupBroadcast(bits, 1u),
                     subgroupBroadcast(bits, 2u), subgroupBroadcast(bits, 3u)), key);
}

fn last_four_kept(bits: u32, key: u32) -> vec4<f32> {
    return kept(vec4(subgroupBroadcast(bits, 4u), subgroupBroadcast(bits, 5u),
                     subgroupBroadcast(bits, 6u), subgroupBroadcast(bits, 7u)), key);
}

