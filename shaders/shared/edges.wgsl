// Elements of a product's operands, zeros beyond their edges. Used with operands.
fn a_or_zero(base: u32, i: u32, k: u32) -> f32 {
    let inside = i < p.m && k < p.k;
    return select(0.0, a[select(0u, base + i * p.a_row + k * p.a_column, inside)], inside);
}

fn b_or_zero(base: u32, k: u32, j: u32) -> f32 {
    let inside = k < p.k && j < p.n;
    return select(0.0, b_at(select(0u, base + k * p.b_row + j * p.b_column, inside)), inside);
}

