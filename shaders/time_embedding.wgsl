// Sines and cosines of a flow time, by turns. Twin: src/kernels/time_embedding.rs.
//
// The angle is a number of turns, t * (hi + lo). hi has 12 significant bits, and t is split into two parts of 12
// bits, so that two of the three products are exact in f32 and whole turns can be dropped from them without loss.
// What is left lies within an eighth of a turn of a quarter, where a short Taylor series is exact to f32: drivers
// need only keep sin and cos to 2^-11.
struct Params { rows: u32, half: u32, interleaved: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> t: array<f32>;        // [rows]
@group(0) @binding(2) var<storage, read> table: array<f32>;    // [2, half]: turns at t = 1, hi and lo
@group(0) @binding(3) var<storage, read_write> y: array<f32>;  // [rows, 2 half]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let at = (group.y * groups.x + group.x) * 64u + local;
    if at >= p.rows * p.half { return; }
    let row = at / p.half;
    let i = at % p.half;
    let hi = table[i];
    let lo = table[p.half + i];
    let time = t[row];
    let time_hi = bitcast<f32>(bitcast<u32>(time) & 0xfffff000u);
    let time_lo = time - time_hi;

    // Turns, less quarters: exact, then small.
    var turns = time_hi * hi;
    let quarters = floor(turns * 4.0 + 0.5);
    turns = (turns - quarters * 0.25) + (time_lo * hi + time * lo);
    let more = floor(turns * 4.0 + 0.5);
    let x = (turns - more * 0.25) * 6.2831853;
    let z = x * x;
    let s = x * (1.0 + z * (-1.6666667e-1 + z * (8.3333333e-3 + z * (-1.9841270e-4 + z * 2.7557319e-6))));
    let c = 1.0 + z * (-0.5 + z * (4.1666667e-2 + z * (-1.3888889e-3 + z * (2.4801587e-5 - z * 2.7557319e-7))));

    // quarters may pass what an i32 holds; its last two bits do not.
    let quadrant = bitcast<u32>(i32(quarters - 4.0 * floor(quarters * 0.25) + more)) & 3u;
    var sine = select(s, c, (quadrant & 1u) != 0u);
    var cosine = select(c, s, (quadrant & 1u) != 0u);
    if quadrant >= 2u { sine = -sine; }
    if quadrant == 1u || quadrant == 2u { cosine = -cosine; }
    if p.interleaved != 0u {
        y[2u * at] = sine;
        y[2u * at + 1u] = cosine;
    } else {
        y[row * 2u * p.half + i] = sine;
        y[row * 2u * p.half + p.half + i] = cosine;
    }
}
