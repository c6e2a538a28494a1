//! Values and ops, the backward pass, the memory plan, replay on a device.

mod params;

pub use params::{Init, Param, ParamId, Params};
