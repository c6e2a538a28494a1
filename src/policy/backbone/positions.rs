//! Position embeddings for pictures of another size.

/// The free number of a cubic convolution, as in PyTorch's `bicubic`.
const A: f64 = -0.75;

/// Position embeddings of a grid of tokens, for another grid: `[1 + h·w, d]` to `[1 + H·W, d]`.
///
/// The class token's, the first, stays. The others are interpolated as torchvision's `interpolate_embeddings` does it:
/// bicubic, the corners of both grids in the same place. Both passes are computed in f64.
pub fn resized(values: &[f32], width: usize, from: [usize; 2], to: [usize; 2]) -> Vec<f32> {
    if from == to {
        return values.to_vec();
    }
    let (class, grid) = values.split_at(width);
    // Rows first: `middle[Y][x][d]`, then columns.
    let mut middle = vec![0.0f64; to[0] * from[1] * width];
    for (y, row) in middle.chunks_exact_mut(from[1] * width).enumerate() {
        for (source, weight) in taps(y, to[0], from[0]) {
            let source = &grid[source * from[1] * width..][..from[1] * width];
            row.iter_mut().zip(source).for_each(|(sum, &value)| *sum += weight * f64::from(value));
        }
    }
    let mut all = class.to_vec();
    let mut token = vec![0.0f64; width];
    for row in middle.chunks_exact(from[1] * width) {
        for x in 0..to[1] {
            token.fill(0.0);
            for (source, weight) in taps(x, to[1], from[1]) {
                let source = &row[source * width..][..width];
                token.iter_mut().zip(source).for_each(|(sum, &value)| *sum += weight * value);
            }
            all.extend(token.iter().map(|&value| value as f32));
        }
    }
    all
}

/// The four old places that new place `at` of `new` is made of, with their weights; beyond an edge lies the edge.
fn taps(at: usize, new: usize, old: usize) -> [(usize, f64); 4] {
    let place = if new > 1 { at as f64 * (old - 1) as f64 / (new - 1) as f64 } else { 0.0 };
    let first = place.floor();
    let t = place - first;
    let near = |x: f64| ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
    let far = |x: f64| ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
    let weights = [far(1.0 + t), near(t), near(1.0 - t), far(2.0 - t)];
    std::array::from_fn(|i| {
        let source = (first as usize + i).saturating_sub(1).min(old - 1);
        (source, weights[i])
    })
}
