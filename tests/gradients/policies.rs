//! Training steps of tiny policies of every family.

use std::sync::Arc;

use flowgpu::Result;
use flowgpu::graph::Bank;
use flowgpu::kernels::Dtype;
use flowgpu::kernels::optimizer::Hyper;
use flowgpu::policy::{Config, Images, Network, Observations, Unconditional};
use flowgpu::train::{Purpose, StepInputs, StepShape, TrainStep, loss_weights};

use super::{BATCH, LOOSER, Problem, ROWS, Run, TOKENS, bytes, noise, on_grid, place};

/// A training step of a tiny policy, all in one: two samples, of which the second sees nothing where that is learned.
fn policy(name: &str, json: &serde_json::Value, t_per_slot: bool) -> Problem {
    let config = Config::parse(&json.to_string()).expect("a configuration");
    let (network, params) = Network::new(&config);
    let params = Arc::new(params);
    let around = |id| {
        let noise = noise(params.get(id).len, 0.1, place(id));
        on_grid(params.initial(id, 1).iter().zip(noise).map(|(a, b)| a + b).collect())
    };
    let weights = params.iter().map(|(id, _)| around(id)).collect();
    let compile = move |bank: &Bank| -> Result<Run> {
        let shape = StepShape {
            batch: BATCH,
            cameras: vec![Some(Dtype::U8); config.images().count()],
            t_per_slot,
            purpose: Purpose::Gradients,
            dropout: config.dropout,
        };
        let step = TrainStep::new(&config, &network, bank, shape)?;
        let cameras =
            config.images().map(|(_, image)| bytes(BATCH * config.n_obs_steps * config.seen_len(image)));
        let cameras: Vec<Vec<u8>> = cameras.collect();
        let (seen, dropped) = (config.n_obs_steps * config.state_dim(), [0.0, 1.0]);
        let mut states = noise(BATCH * seen, 1.0, 22);
        if config.unconditional == Unconditional::Learned {
            states[seen..].fill(0.0);
        }
        let mut is_pad = [false; ROWS];
        is_pad[ROWS - 1] = true;
        let weights = loss_weights(&config, &is_pad, &[]);
        let times = if t_per_slot { ROWS } else { BATCH };
        let times: Vec<f32> = (0..times).map(|i| (i as f32 + 0.5) / times as f32).collect();
        let dims = config.network_action_dim();
        let (actions, noises) = (noise(ROWS * dims, 1.0, 20), noise(ROWS * dims, 1.0, 21));
        Ok(Box::new(move || {
            let inputs = StepInputs {
                seen: Observations {
                    images: cameras.iter().map(|images| Images::Bytes(images)).collect(),
                    state: &states,
                },
                dropped: &dropped,
                actions: &actions,
                noise: &noises,
                times: &times,
                weights: &weights,
            };
            let hyper = Hyper {
                lr: 0.0,
                betas: [0.0; 2],
                eps: 1.0,
                weight_decay: 0.0,
                ema_decay: 0.0,
                max_norm: 0.0,
            };
            step.run(&inputs, &hyper, 3, 4)?;
            step.loss()
        }))
    };
    let name = name.to_owned();
    Problem { name, params, weights, upstream: 1.0, nmse: LOOSER, compile: Box::new(compile) }
}

pub fn all() -> Vec<Problem> {
    use serde_json::json;
    let seeing = json!({
        "type": "patch_decoder", "chunk_size": TOKENS,
        "input_features": {"observation.image": {"type": "VISUAL", "shape": [3, 4, 6]}},
        "output_features": {"action": {"type": "ACTION", "shape": [2]}},
        "patch_size": 2, "d_model": 16, "encoder_layers": 1, "encoder_heads": 2, "decoder_layers": 1,
        "decoder_heads": 1, "dim_feedforward": 12, "dropout": 0.3
    });
    let feeling = json!({
        "type": "velocity_mlp", "chunk_size": TOKENS,
        "input_features": {
            "observation.state": {"type": "STATE", "shape": [3]},
            "observation.environment_state": {"type": "ENV", "shape": [2]}
        },
        "output_features": {"action": {"type": "ACTION", "shape": [2]}},
        "hidden_dim": 10, "time_features": {"kind": "harmonics", "dim": 4}, "dropout": 0.2
    });
    let watching = json!({
        "type": "flowmatching", "chunk_size": TOKENS,
        "input_features": {
            "observation.images.left": {"type": "VISUAL", "shape": [3, 4, 6]},
            "observation.images.right": {"type": "VISUAL", "shape": [3, 9, 5]},
            "observation.state": {"type": "STATE", "shape": [2]}
        },
        "output_features": {"action": {"type": "ACTION", "shape": [2]}},
        "max_state_dim": 3, "max_action_dim": 3, "image_size": [4, 6], "vision_backbone": "vit",
        "vit_patch_size": 2, "vit_embed_dim": 8, "vit_heads": 1, "vit_layers": 2, "vit_mlp_dim": 10,
        "hidden_dim": 8, "denoiser_layers": 1, "denoiser_heads": 1, "dropout": 0.3, "action_pos_embed": true
    });
    let residual =
        json!({"layout": "residual", "num_layers": 2, "time_features": {"kind": "sinusoid", "dim": 10}});
    let with = |base: &serde_json::Value, changes: serde_json::Value| {
        let mut json = base.clone();
        for (key, value) in changes.as_object().into_iter().flatten() {
            json[key] = value.clone();
        }
        json
    };
    vec![
        policy("policy", &with(&seeing, json!({"action_pos_embed": true})), false),
        policy(
            "policy of two frames",
            &with(&seeing, json!({"n_obs_steps": 2, "flow": {"noise_at": 1}})),
            true,
        ),
        policy(
            "policy that regresses",
            &with(&seeing, json!({"objective": "regression", "action_pos_embed": true})),
            false,
        ),
        policy(
            "policy in two passes",
            &with(&seeing, json!({"objective": "mip", "action_pos_embed": true})),
            false,
        ),
        policy(
            "policy whose actions look at patches",
            &with(&seeing, json!({"encoder_layers": 0, "action_pos_embed": true})),
            true,
        ),
        policy("policy that watches", &watching, false),
        policy(
            "policy that watches, all counted, a time a slot",
            &with(&watching, json!({"loss_reduction": "zeroed", "action_pos_embed": false})),
            true,
        ),
        policy("state policy", &with(&feeling, json!({"n_obs_steps": 2})), false),
        policy(
            "state policy that learns what nothing looks like",
            &with(&feeling, json!({"observation_dropout": 0.5, "unconditional": "learned"})),
            false,
        ),
        policy("state policy of one layer", &with(&feeling, json!({"num_layers": 1})), false),
        policy("state policy in two passes", &with(&feeling, json!({"objective": "mip"})), false),
        policy("residual state policy", &with(&feeling, residual.clone()), false),
        policy(
            "residual state policy that learns what nothing looks like",
            &with(
                &with(&feeling, residual),
                json!({"activation": "gelu", "observation_dropout": 0.5, "unconditional": "learned"}),
            ),
            false,
        ),
    ]
}
