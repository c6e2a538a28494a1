//! Every op in the middle of a graph, and every way in which gradients meet.

use flowgpu::graph::ops::{Attend, AttentionShape, Columns, Linear, RowCut};
use flowgpu::graph::{Graph, Init, Params, Value};
use flowgpu::kernels::Dtype;
use flowgpu::kernels::activation::Activation;
use flowgpu::nn::{Norm, Projection};

use super::{BATCH, F32, LOOSER, Net, Op, ROWS, TOKENS, WIDTH, loss_of_samples, two_losses};

/// A linear layer as wide as the op's input.
fn square(params: &mut Params, name: &str) -> Projection {
    Projection::new(params, name, WIDTH, WIDTH)
}

/// Every op, and every way in which gradients meet.
pub fn all() -> Vec<Net> {
    let mut nets = linear_nets();
    nets.extend(row_nets());
    nets.extend(attention_nets());
    nets.extend(sharing_nets());
    nets
}

const KINDS: [Activation; 4] = [Activation::Relu, Activation::Gelu, Activation::GeluTanh, Activation::Silu];

fn bound_of(kind: Activation) -> f64 {
    if kind == Activation::Gelu { LOOSER } else { F32 }
}

fn linear_nets() -> Vec<Net> {
    let mut nets = Vec::new();
    for kind in [Activation::None].into_iter().chain(KINDS) {
        let plain = Net::new(format!("linear {kind:?}"), |params| {
            let layer = square(params, "layer");
            Box::new(move |graph, h| graph.linear(layer.of(h).activation(kind)))
        });
        let values = Net::new(format!("linear {kind:?} plus values"), |params| {
            let (layer, other) = (square(params, "layer"), square(params, "other"));
            Box::new(move |graph, h| {
                let residual = graph.linear(other.of(h));
                graph.linear(layer.of(h).activation(kind).plus(residual, ROWS))
            })
        });
        let repeated = Net::new(format!("linear {kind:?} plus a parameter's rows"), |params| {
            let layer = square(params, "layer");
            let residual = params.declare("residual", &[TOKENS, WIDTH], Init::Zeros);
            Box::new(move |graph, h| {
                let residual = graph.param(residual);
                graph.linear(layer.of(h).activation(kind).plus(residual, TOKENS))
            })
        });
        nets.extend([plain, values, repeated].map(|net| net.within(bound_of(kind))));
    }
    nets.push(Net::new("linear plus its input", |params| {
        let layer = square(params, "layer");
        Box::new(move |graph, h| graph.linear(layer.of(h).plus(h, ROWS)))
    }));
    // Two runs of rows of one weight and bias, a gap between them: the gap's gradient is zero.
    nets.push(Net::new("linear by rows of a weight", |params| {
        let weight = params.declare("weight", &[20, WIDTH], Init::Zeros);
        let bias = params.declare("bias", &[20], Init::Zeros);
        Box::new(move |graph, h| {
            let first = graph.linear(Linear::new(h, weight, bias, 0..WIDTH));
            graph.linear(Linear::new(first, weight, bias, 12..20).plus(h, ROWS))
        })
    }));
    nets
}

/// A rectifier whose result one product reads, which is the gate of its gradient then, and one that others read as well.
fn rectifier_nets() -> Vec<Net> {
    let hidden = |name: &'static str, kind, again: bool| {
        move || {
            Net::new(name, |params| {
                let (first, second) = (square(params, "first"), square(params, "second"));
                Box::new(move |graph: &mut Graph, h| {
                    let hidden = graph.linear_dropped(first.of(h).activation(kind));
                    let y = graph.linear(second.of(hidden));
                    if again { graph.add_rows(y, hidden, 1, ROWS) } else { y }
                })
            })
        }
    };
    let once = hidden(GATED, Activation::Relu, false);
    let again = hidden("a rectifier whose result is used again", Activation::Relu, true);
    let added = || {
        Net::new("a rectifier whose result is added to what is made of it", |params| {
            let (first, second) = (square(params, "first"), square(params, "second"));
            Box::new(move |graph: &mut Graph, h| {
                let hidden = graph.linear_dropped(first.of(h).activation(Activation::Relu));
                graph.linear(second.of(hidden).plus(hidden, ROWS))
            })
        })
    };
    let smooth = hidden("a smooth hidden layer", Activation::Silu, false);
    let all = [once(), again(), added(), smooth()].into_iter();
    all.chain([once(), again(), added(), smooth()].map(|net| net.dropping(0.4))).collect()
}

const GATED: &str = "a rectifier between two layers";

#[test]
fn a_product_passes_a_gradient_through_the_rectifier_before_it() {
    for net in rectifier_nets() {
        let plan = net.graph().compile_plan();
        let count = |name| plan.steps.iter().filter(|step| step.kernel.name() == name).count();
        let gated = net.name.starts_with(GATED);
        // The SiLU behind the net has a backward launch of its own.
        assert_eq!(count("activation_backward") == 1, gated, "{}", net.name);
        let dropped = usize::from(net.dropout > 0.0);
        assert_eq!(count("dropout"), if gated { dropped } else { 2 * dropped }, "{}", net.name);
    }
}

fn row_nets() -> Vec<Net> {
    let mut nets = Vec::new();
    for kind in KINDS {
        let net =
            Net::new(format!("activation {kind:?}"), |_| Box::new(move |graph, h| graph.activation(h, kind)));
        nets.push(net.within(bound_of(kind)));
    }
    for (div, modulo) in [(1, ROWS), (1, TOKENS), (TOKENS, BATCH), (2, 3), (2, 2)] {
        nets.push(Net::new(format!("add_rows of values, each {div} of {modulo}"), |params| {
            let layer = square(params, "layer");
            let b = params.declare("b", &[modulo, WIDTH], Init::Zeros);
            Box::new(move |graph, h| {
                let b = graph.param(b);
                let b = graph.linear(layer.of(b));
                graph.add_rows(h, b, div, modulo)
            })
        }));
        nets.push(Net::new(format!("add_rows of a parameter, each {div} of {modulo}"), |params| {
            let b = params.declare("b", &[modulo, WIDTH], Init::Zeros);
            Box::new(move |graph, h| {
                let b = graph.param(b);
                graph.add_rows(h, b, div, modulo)
            })
        }));
    }
    let dropout = Net::new("dropout", |_| Box::new(|graph, h| graph.dropout(h, None)));
    let added = Net::new("dropout plus values", |params| {
        let other = square(params, "other");
        Box::new(move |graph, h| {
            let residual = graph.linear(other.of(h));
            graph.dropout(h, Some(residual))
        })
    });
    let itself = Net::new("dropout plus its input", |_| Box::new(|graph, h| graph.dropout(h, Some(h))));
    nets.extend([dropout, added, itself].map(|net| net.dropping(0.4)));
    nets.push(Net::new("dropout that is off, plus its input", |_| {
        Box::new(|graph, h| graph.dropout(h, Some(h)))
    }));
    nets.push(Net::new("layer_norm", |params| {
        let norm = Norm::new(params, "norm", WIDTH, 1e-5);
        Box::new(move |graph, h| norm.apply(graph, h))
    }));
    nets.push(Net::new("layer_norm of what is used again", |params| {
        let norm = Norm::new(params, "norm", WIDTH, 1e-5);
        Box::new(move |graph, h| {
            let y = norm.apply(graph, h);
            graph.add_rows(y, h, 1, ROWS)
        })
    }));
    for (name, dtype) in [("bytes", Dtype::U8), ("floats", Dtype::F32)] {
        nets.push(Net::new(format!("patchify of {name}"), |params| {
            let embed = Projection::new(params, "embed", 3 * 2 * 2, WIDTH);
            let positions = params.declare("positions", &[6, WIDTH], Init::Zeros);
            Box::new(move |graph, h| {
                let images = graph.input(name, dtype, &[BATCH, 3, 4, 6]);
                let patches = graph.patchify(images, 2);
                let positions = graph.param(positions);
                let patches = graph.linear(embed.of(patches).activation(Activation::Silu).plus(positions, 6));
                graph.add_rows(patches, h, 1, ROWS)
            })
        }));
    }
    let pass = |_: &mut Params| -> Op { Box::new(|_, h| h) };
    nets.push(Net::ending("weighted_mse of samples, in the middle", pass, loss_of_samples));
    nets.push(Net::ending("two losses", pass, two_losses));
    nets
}

/// Two heads over [`WIDTH`] columns, as many queries as there are tokens.
fn attend(q: Columns, k: Columns, v: Columns, keys: usize) -> Attend {
    let shape = AttentionShape { batch: BATCH, heads: 2, queries: TOKENS, keys, head_width: WIDTH / 2 };
    Attend { q, k, v, shape }
}

/// Part `part` of a packed projection.
fn part(value: Value, part: usize) -> Columns {
    Columns { value, first: part * WIDTH }
}

/// Weight and bias of `parts` projections side by side.
fn packed(params: &mut Params, parts: usize) -> Projection {
    Projection::new(params, "in_proj", WIDTH, parts * WIDTH)
}

fn attention_nets() -> Vec<Net> {
    let oneself = || {
        Net::new("self-attention", |params| {
            let packed = packed(params, 3);
            Box::new(move |graph, h| {
                let qkv = graph.linear(packed.of(h));
                graph.attention(attend(part(qkv, 0), part(qkv, 1), part(qkv, 2), TOKENS))
            })
        })
    };
    let cross = || {
        Net::new("cross-attention", |params| {
            let packed = packed(params, 3);
            let memory = params.declare("memory", &[BATCH * 5, WIDTH], Init::Zeros);
            Box::new(move |graph, h| {
                let (weight, bias) = (packed.weight, packed.bias);
                let q = graph.linear(Linear::new(h, weight, bias, 0..WIDTH));
                let memory = graph.param(memory);
                let kv = graph.linear(Linear::new(memory, weight, bias, WIDTH..3 * WIDTH));
                graph.attention(attend(part(q, 0), part(kv, 0), part(kv, 1), 5))
            })
        })
    };
    let mut nets = vec![oneself(), oneself().dropping(0.3), cross(), cross().dropping(0.3)];
    // Keys and values that two layers look at, in columns of one projection: each fills its own.
    nets.push(Net::new("two attentions on columns of one projection", |params| {
        let packed = packed(params, 6);
        Box::new(move |graph, h| {
            let all = graph.linear(packed.of(h));
            let first = graph.attention(attend(part(all, 0), part(all, 1), part(all, 2), TOKENS));
            graph.attention(attend(part(first, 0), part(all, 5), part(all, 3), TOKENS))
        })
    }));
    nets.into_iter().map(|net| net.within(LOOSER)).collect()
}

fn sharing_nets() -> Vec<Net> {
    let mut nets = Vec::new();
    nets.push(Net::new("a value used by every kind of op", |params| {
        let (a, b) = (square(params, "a"), square(params, "b"));
        let norm = Norm::new(params, "norm", WIDTH, 1e-5);
        let packed = packed(params, 3);
        Box::new(move |graph, h| {
            let y = graph.linear(a.of(h));
            let y = graph.linear(b.of(h).plus(y, ROWS));
            let z = graph.activation(h, Activation::Silu);
            let y = graph.add_rows(y, z, 1, ROWS);
            let z = norm.apply(graph, h);
            let y = graph.add_rows(y, z, 1, ROWS);
            let qkv = graph.linear(packed.of(h));
            let z = graph.attention(attend(part(qkv, 0), part(qkv, 1), part(qkv, 2), TOKENS));
            let y = graph.add_rows(y, z, 1, ROWS);
            let y = graph.dropout(y, Some(h));
            graph.add_rows(y, y, 1, ROWS)
        })
    }));
    // The one row goes before each sample's three; then the first and the last two of each sample's four are taken.
    nets.push(Net::new("rows led, cut and used twice", |params| {
        let lead = params.declare("lead", &[1, 1, WIDTH], Init::Zeros);
        let layer = square(params, "layer");
        Box::new(move |graph, h| {
            let lead = graph.param(lead);
            let y = graph.lead_rows(lead, h, BATCH);
            let y = graph.linear(layer.of(y).activation(Activation::Silu));
            let cut = |first, rows| RowCut { groups: BATCH, stride: 1 + TOKENS, first, rows };
            let firsts = graph.cut_rows(y, cut(0, 1));
            let rest = graph.cut_rows(y, cut(1, TOKENS));
            graph.add_rows(rest, firsts, TOKENS, BATCH)
        })
    }));
    nets.push(Net::new("a weight used twice", |params| {
        let layer = square(params, "layer");
        Box::new(move |graph, h| {
            let y = graph.linear(layer.of(h).activation(Activation::Relu));
            graph.linear(layer.of(y))
        })
    }));
    nets.extend(rectifier_nets());
    nets.push(Net::new("a norm used twice", |params| {
        let norm = Norm::new(params, "norm", WIDTH, 1e-5);
        let layer = square(params, "layer");
        Box::new(move |graph, h| {
            let y = norm.apply(graph, h);
            let y = graph.linear(layer.of(y));
            norm.apply(graph, y)
        })
    }));
    // 6..14 is written first; 0..8 then overlaps it by two rows, and 4..20 by all of it and more.
    nets.push(Net::new("rows of a weight that overlap", |params| {
        let weight = params.declare("weight", &[20, WIDTH], Init::Zeros);
        let bias = params.declare("bias", &[20], Init::Zeros);
        let down = Projection::new(params, "down", 16, WIDTH);
        Box::new(move |graph, h| {
            let y = graph.linear(Linear::new(h, weight, bias, 4..20).activation(Activation::Silu));
            let y = graph.linear(down.of(y));
            let y = graph.linear(Linear::new(y, weight, bias, 0..8));
            graph.linear(Linear::new(y, weight, bias, 6..14))
        })
    }));
    nets.push(Net::new("a parameter in every place of an op", |params| {
        let p = params.declare("p", &[ROWS, WIDTH], Init::Zeros);
        let layer = square(params, "layer");
        let norm = Norm::new(params, "norm", WIDTH, 1e-5);
        Box::new(move |graph, h| {
            let p = graph.param(p);
            let y = graph.linear(layer.of(p).plus(p, ROWS));
            let y = graph.add_rows(p, y, 1, ROWS);
            let z = graph.activation(p, Activation::Silu);
            let y = graph.add_rows(y, z, 1, ROWS);
            let z = norm.apply(graph, p);
            let y = graph.add_rows(y, z, 1, ROWS);
            let y = graph.dropout(y, Some(p));
            graph.add_rows(y, h, 1, ROWS)
        })
    }));
    // A shape changes between an op's forward and its backward pass.
    nets.push(Net::new("values that take another shape", |params| {
        let norm = Norm::new(params, "norm", WIDTH, 1e-5);
        let layer = square(params, "layer");
        let flat = params.declare("flat", &[1, TOKENS * WIDTH], Init::Zeros);
        let fold = |graph: &mut Graph, value| graph.reshape(value, &[BATCH, TOKENS * WIDTH]);
        let unfold = |graph: &mut Graph, value| graph.reshape(value, &[ROWS, WIDTH]);
        Box::new(move |graph, h| {
            let y = norm.apply(graph, h);
            let z = graph.linear(layer.of(y).plus(h, ROWS));
            [h, y, z].into_iter().for_each(|value| fold(graph, value));
            let flat = graph.param(flat);
            let sum = graph.add_rows(z, flat, 1, 1);
            let sum = graph.add_rows(sum, h, 1, BATCH);
            unfold(graph, sum);
            sum
        })
    }));
    nets
}
