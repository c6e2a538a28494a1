//! flowgpu's peer in Meganeura: samples of the seed-000 network, and training steps without its dropout.
//!
//!     peer-meganeura serve vulkan GOLDEN
//!
//! Answers each line on stdin with one line of JSON; see benches/peers/README.md.

#[path = "../../shared/golden.rs"]
mod golden;
mod network;
#[path = "../../shared/protocol.rs"]
mod protocol;
mod subject;
mod weights;

fn main() -> protocol::Result<()> {
    protocol::serve::<subject::Subject>()
}
