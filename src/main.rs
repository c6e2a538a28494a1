//! The `flowgpu` program: parses, dispatches, prints errors; nothing else.
fn main() {}
