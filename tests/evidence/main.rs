//! `flowgpu eval --output-dir` and `flowgpu compare`, as someone meets them who has to believe a result.

mod acting;
mod comparing;
mod folder;
mod lab;
