//! What a graph refuses to build.

use std::sync::Arc;

use flowgpu::graph::ops::{Attend, AttentionShape, Columns};
use flowgpu::graph::{Graph, Init, Params, Training, Value};
use flowgpu::kernels::Dtype;
use flowgpu::kernels::activation::{Activate, Activation};
use flowgpu::nn::Projection;

/// A graph over one linear layer of four, and its input.
fn layer() -> (Graph, Projection, Value) {
    let mut params = Params::default();
    let layer = Projection::new(&mut params, "layer", 4, 4);
    let mut graph = Graph::new(Arc::new(params), Some(Training { dropout: 0.0 }));
    let x = graph.input("x", Dtype::F32, &[3, 4]);
    (graph, layer, x)
}

#[test]
#[should_panic(expected = "a graph is differentiated once")]
fn a_second_loss_is_refused() {
    let (mut graph, layer, x) = layer();
    let y = graph.linear(layer.of(x));
    let upstream = graph.constant(&[3, 4], vec![1.0; 12]);
    graph.differentiate(y, upstream);
    graph.differentiate(y, upstream);
}

#[test]
#[should_panic(expected = "input x has one type and size")]
fn an_input_of_another_size_is_refused() {
    layer().0.input("x", Dtype::F32, &[3, 5]);
}

#[test]
#[should_panic(expected = "which it binds twice")]
fn a_launch_that_writes_what_it_reads_is_refused() {
    let (mut graph, _, _) = layer();
    let y = graph.temporary(&[4]);
    graph.launch(Activate { kind: Activation::Relu, len: 4 }, &[Some(y)], &[y]);
    graph.compile_plan();
}

#[test]
#[should_panic(expected = "queries, keys and values are different columns")]
fn an_attention_whose_queries_are_its_keys_is_refused() {
    let mut params = Params::default();
    let p = params.declare("p", &[3, 8], Init::Zeros);
    let mut graph = Graph::new(Arc::new(params), Some(Training { dropout: 0.0 }));
    let p = graph.param(p);
    let [q, v] = [0, 4].map(|first| Columns { value: p, first });
    let shape = AttentionShape { batch: 1, heads: 1, queries: 3, keys: 3, head_width: 4 };
    let y = graph.attention(Attend { q, k: q, v, shape });
    let upstream = graph.constant(&[3, 4], vec![1.0; 12]);
    graph.differentiate(y, upstream);
}
