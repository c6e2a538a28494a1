//! The golden's weights in a session's parameters.

use meganeura::Session;

use crate::golden::{Golden, Tensor};
use crate::network::{PATCHES, WIDTH};
use crate::protocol::Result;

/// Fills in all parameters.
pub fn load(session: &mut Session, golden: &Golden) -> Result<()> {
    for name in golden.parameters()? {
        let Tensor { shape, values } = golden.tensor(&format!("param/{name}"))?;
        let name = name.replace("linear1", "ff.fc1").replace("linear2", "ff.fc2");
        if let Some(attention) = name.strip_suffix("in_proj_weight") {
            for (part, values) in projections(&values) {
                session
                    .set_parameter(&format!("{attention}{part}.weight"), &transposed(values, WIDTH, WIDTH));
            }
        } else if let Some(attention) = name.strip_suffix("in_proj_bias") {
            for (part, values) in projections(&values) {
                session.set_parameter(&format!("{attention}{part}.bias"), values);
            }
        } else if name == "pos_embed" {
            session.set_parameter(&name, &transposed(&values, PATCHES, WIDTH));
        } else if let [rows, columns] = shape[..] {
            session.set_parameter(&name, &transposed(&values, rows, columns));
        } else {
            session.set_parameter(&name, &values);
        }
    }
    Ok(())
}

/// PyTorch stacks the projections to queries, keys and values.
fn projections(stacked: &[f32]) -> impl Iterator<Item = (&'static str, &[f32])> {
    ["query", "key", "value"].into_iter().zip(stacked.chunks(stacked.len() / 3))
}

fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..rows * columns).map(|i| values[i % rows * columns + i / rows]).collect()
}
