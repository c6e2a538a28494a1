// Dropout masks by counters, as src/kernels/dropout.rs tells. `control` is seed and step, low words first.

// Which of the elements first .. first + 8 of a site are dropped: bit n for element first + n.
fn dropped8(control: vec4<u32>, site: u32, first: u32, threshold: u32) -> u32 {
    let skip = first % 8u;
    var bits = dropped_block(control, site, first / 8u, threshold);
    if skip != 0u { bits |= dropped_block(control, site, first / 8u + 1u, threshold) << 8u; }
    return (bits >> skip) & 0xffu;
}

// The same for the eight elements of one counter.
fn dropped_block(control: vec4<u32>, site: u32, block: u32, threshold: u32) -> u32 {
    // The stream's word of src/rng.rs: 6 times Philox's second key step.
    let key = vec2<u32>(control.x, control.y ^ 0x646E171Eu);
    let words = philox(vec4<u32>(block, site, control.z, control.w), key);
    let even = (words & vec4(0xffffu)) < vec4(threshold);
    let odd = (words >> vec4(16u)) < vec4(threshold);
    let bits = select(vec4(0u), vec4(1u, 4u, 16u, 64u), even) | select(vec4(0u), vec4(2u, 8u, 32u, 128u), odd);
    return bits.x | bits.y | bits.z | bits.w;
}

