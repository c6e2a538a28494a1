// What a decoder in one launch binds, and its parameters by number. Described in src/kernels/decoder_steps.rs.
struct Params {
    batch: u32, slots: u32, dims: u32, width: u32,
    heads: u32, feedforward: u32, keys: u32, layers: u32,
    steps: u32, embedded: u32, size: f32, scale: f32,
    // First elements of the parameters, and in the lowest two bits which of w0 to w3 holds them.
    places: array<vec4<u32>, 10>,
}
// Parameters by their number: a layer's six products and three norms, each a weight with its bias behind it; behind
// the last layer the velocity head, and two more.
const OF_A_LAYER = 18u; const NORMS = 12u; const ACTION_PROJ = 2u; const ACTION_POS_EMBED = 3u;
// The products of a layer. Those with odd numbers are added to the tokens and normalised.
const SELF_IN = 0u; const SELF_OUT = 1u; const CROSS_OUT = 3u; const LINEAR1 = 4u; const LINEAR2 = 5u;
// A product of a step: its number in a layer, its sizes, whether it reads what attention answers.
struct Stage { layer: u32, part: u32, columns: u32, inputs: u32, attended: bool }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> w0: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> w1: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> w2: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> w3: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> memory: array<vec4<f32>>;   // [batch * keys, layers * 2 * width]
@group(0) @binding(6) var<storage, read> noise: array<f32>;          // [batch, slots, dims]
@group(0) @binding(7) var<storage, read> times: array<f32>;          // [steps, width]
@group(0) @binding(8) var<storage, read_write> sample: array<f32>;   // [batch, slots, dims]

// A product by its number in a step; the velocity head is the first of a layer too many.
fn stage_of(n: u32) -> Stage {
    var stage = Stage(n / 6u, n % 6u, p.width, p.width, false);
    stage.attended = stage.part == SELF_OUT || stage.part == CROSS_OUT;
    if stage.layer == p.layers { stage.columns = p.dims; }
    else if stage.part == SELF_IN { stage.columns = 3u * p.width; }
    else if stage.part == LINEAR1 { stage.columns = p.feedforward; }
    else if stage.part == LINEAR2 { stage.inputs = p.feedforward; }
    return stage;
}

// Where a parameter lies, by its number, and element i of it.
fn place(which: u32) -> u32 { return p.places[which / 4u][which % 4u]; }

fn parameter(which: u32, i: u32) -> f32 {
    let at = place(which) / 4u + i / 4u;
    switch place(which) % 4u {
        case 0u: { return w0[at][i % 4u]; }
        case 1u: { return w1[at][i % 4u]; }
        case 2u: { return w2[at][i % 4u]; }
        default: { return w3[at][i % 4u]; }
    }
}

// One vec4 of a buffer, and four. Which buffer is the same choice for all invocations.
fn one(buffer: u32, at: u32) -> vec4<f32> {
    switch buffer {
        case 0u: { return w0[at]; }
        case 1u: { return w1[at]; }
        case 2u: { return w2[at]; }
        default: { return w3[at]; }
    }
}

fn four(buffer: u32, at: u32) -> mat4x4<f32> {
    switch buffer {
        case 0u: { return mat4x4(w0[at], w0[at + 1u], w0[at + 2u], w0[at + 3u]); }
        case 1u: { return mat4x4(w1[at], w1[at + 1u], w1[at + 2u], w1[at + 3u]); }
        case 2u: { return mat4x4(w2[at], w2[at + 1u], w2[at + 2u], w2[at + 3u]); }
        default: { return mat4x4(w3[at], w3[at + 1u], w3[at + 2u], w3[at + 3u]); }
    }
}

