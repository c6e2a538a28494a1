// Philox4x32-10 (Salmon et al., SC 2011): four random words from a counter and a key.
fn philox(counter: vec4<u32>, key: vec2<u32>) -> vec4<u32> {
    var c = counter;
    var k = key;
    for (var round = 0; round < 10; round++) {
        let hi0 = mul_high(0xD2511F53u, c.x);
        let hi1 = mul_high(0xCD9E8D57u, c.z);
        c = vec4<u32>(hi1 ^ c.y ^ k.x, 0xCD9E8D57u * c.z, hi0 ^ c.w ^ k.y, 0xD2511F53u * c.x);
        k += vec2<u32>(0x9E3779B9u, 0xBB67AE85u);
    }
    return c;
}

// The high word of a 32 x 32 bit product, from 16-bit halves: WGSL has no wide product.
fn mul_high(a: u32, b: u32) -> u32 {
    let al = a & 0xffffu;
    let ah = a >> 16u;
    let bl = b & 0xffffu;
    let bh = b >> 16u;
    let middle = ah * bl + ((al * bl) >> 16u);
    let carry = (middle & 0xffffu) + al * bh;
    return ah * bh + (middle >> 16u) + (carry >> 16u);
}

