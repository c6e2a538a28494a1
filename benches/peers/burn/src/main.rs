//! flowgpu's peer in Burn: training steps and samples of the seed-000 network.
//!
//!     peer-burn serve flex GOLDEN     on the CPU
//!     peer-burn serve wgpu GOLDEN     on a Vulkan device, by wgpu
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
