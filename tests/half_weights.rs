//! Weights stored as f16: how near a policy stays to its own f32, what that saves, and what is refused.

use flowgpu::Result;
use flowgpu::graph::{Device, trial};
use flowgpu::kernels::check::Distance;
use flowgpu::policy::{
    Config, Images, Network, Observations, Parts, Policy, Pretrained, Stats, WeightStorage, resolve_policy,
    save_pretrained,
};
use flowgpu::sim::{self, Observation};
use serde_json::json;
use tempfile::TempDir;

/// Samples of a batch.
const BATCH: usize = 3;
/// Each weight is off by 2^-11 of itself at most; ten times what was seen (1.1e-7) in what comes out, normalised.
const NMSE: f64 = 1.1e-6;
/// As above, for one value (9.7e-4).
const MAX_ABS: f64 = 0.01;

/// A small policy of two cameras and a state, of the family of the largest ones, whose weights are as they start.
fn small() -> Config {
    let camera = json!({"type": "VISUAL", "shape": [3, 32, 32]});
    let config = json!({
        "type": "flowmatching",
        "input_features": {
            "observation.images.wrist": camera,
            "observation.images.top": camera,
            "observation.state": {"type": "STATE", "shape": [5]},
        },
        "output_features": {"action": {"type": "ACTION", "shape": [3]}},
        "chunk_size": 7, "n_action_steps": 7, "max_state_dim": 7, "max_action_dim": 5,
        "image_size": [32, 32], "vit_embed_dim": 36, "vit_patch_size": 8, "vit_layers": 2, "vit_heads": 3,
        "vit_mlp_dim": 70, "hidden_dim": 36, "denoiser_layers": 2, "denoiser_heads": 3,
    });
    Config::parse(&config.to_string()).expect("valid")
}

/// Saves the small policy with one weight changed.
fn saved(name: &str, value: Option<f32>) -> TempDir {
    let (folder, config) = (tempfile::tempdir().expect("a folder"), small());
    let (_, params) = Network::new(&config);
    let mut values: Vec<Vec<f32>> = params.iter().map(|(id, _)| params.initial(id, 0)).collect();
    for ((_, param), values) in params.iter().zip(&mut values) {
        if let (true, Some(value)) = (param.name == name, value) {
            values[1] = value;
        }
    }
    let mut stats = Stats::new("stats");
    for (key, width) in [("action", 3), ("observation.state", 5)] {
        for (stat, value) in [("mean", 0.5), ("std", 2.0)] {
            stats.insert(key, stat, &[width], vec![value; width]).expect("as many");
        }
    }
    let parts =
        Parts { config: &config, params: &params, values: &values, stats: &stats, train_config: None };
    save_pretrained(folder.path().join("policy"), &parts).expect("saved");
    folder
}

/// Normalised chunks for a few observations from given noise.
fn chunks(pretrained: &Pretrained, device: &Device, storage: WeightStorage) -> Result<(Vec<f64>, usize)> {
    let mut policy = Policy::from_parts_as(pretrained.clone(), device, storage)?;
    let config = policy.config().clone();
    let mut environment = sim::make("pursuit")?;
    let mut pictures = vec![Vec::new(); config.images().count()];
    for seed in 0..BATCH as u64 {
        for (camera, (_, image)) in config.images().enumerate() {
            environment.reset(10 * seed + camera as u64);
            let mut seen = Observation::default();
            environment.observe(&mut seen);
            let frame = &seen.picture("observation.image")[..image.shape.iter().product()];
            pictures[camera].extend(frame.repeat(config.n_obs_steps));
        }
    }
    let wave = |i: usize| (0.7 * i as f32).sin();
    let state: Vec<f32> = (0..BATCH * config.n_obs_steps * config.state_dim()).map(wave).collect();
    let noise: Vec<f32> = (0..BATCH * config.noise_len()).map(|i| 1.4 * wave(i)).collect();
    let images = pictures.iter().map(|bytes| Images::Bytes(bytes)).collect();
    let chunk = policy.predict_chunk(&Observations { images, state: &state }, &noise)?;
    Ok((chunk.normalized.into_iter().map(f64::from).collect(), policy.weight_bytes()))
}

/// A policy on every device with f16: near its f32 on the oracle, and nearer to what the oracle makes of the same f16.
fn check(name: &str, pretrained: &Pretrained) {
    let devices = ["cpu", "oracle", "gpu"].map(|name| Device::open(name).expect("this machine has it"));
    let (reference, whole) = chunks(pretrained, &devices[1], WeightStorage::F32).expect("samples");
    let (rounded, _) = chunks(pretrained, &devices[1], WeightStorage::F16).expect("samples");
    for device in &devices {
        let (halved, bytes) = chunks(pretrained, device, WeightStorage::F16).expect("samples");
        let distance = Distance::between(&halved, &reference);
        println!(
            "{name} on {device}: NMSE {:.1e}, largest error {:.1e} of {:.2}; {bytes} bytes of {whole}",
            distance.nmse, distance.max_abs, distance.scale
        );
        assert!(distance.nmse > 0.0 && distance.nmse <= NMSE && distance.max_abs <= MAX_ABS, "{distance:?}");
        let same = Distance::between(&halved, &rounded);
        assert!(same.nmse <= 1e-10, "{device} reads other weights than the oracle: {same:?}");
        assert!(bytes as f64 <= 0.55 * whole as f64, "{bytes} of {whole}");
    }
}

#[test]
fn products_of_halves_stay_near_their_f32() {
    let oracle = Device::open("oracle").expect("always there");
    let gpu = Device::open("gpu").expect("this machine has one");
    let others = trial::other_classes(&gpu).expect("opens again");
    let has = |device: &Device| WeightStorage::F16Products.check(device).is_ok();
    let Some(device) = others.into_iter().chain([gpu.clone()]).find(has) else {
        println!("skipped: {gpu} has no cooperative matrices (lavapipe has them from Mesa 26 on)");
        return;
    };
    for name in ["pursuit", "pendulum"] {
        let pretrained = resolve_policy(name).expect("built in");
        let (reference, _) = chunks(&pretrained, &oracle, WeightStorage::F32).expect("samples");
        let (rounded, _) = chunks(&pretrained, &device, WeightStorage::F16Products).expect("samples");
        let distance = Distance::between(&rounded, &reference);
        println!("{name} on {device}: NMSE {:.1e}, largest error {:.1e}", distance.nmse, distance.max_abs);
        assert!(distance.nmse > 0.0 && distance.nmse <= NMSE && distance.max_abs <= MAX_ABS, "{distance:?}");
    }
}

#[test]
fn products_of_halves_are_refused_where_nothing_multiplies_them() {
    let pretrained = resolve_policy("pendulum").expect("built in");
    let error =
        chunks(&pretrained, &Device::Cpu, WeightStorage::F16Products).expect_err("no such units").to_string();
    assert!(error.contains("cpu has no cooperative matrices") && error.contains("--weights f16"), "{error}");
}

#[test]
fn the_built_in_policies_stay_near_their_f32() {
    check("pursuit", &resolve_policy("pursuit").expect("built in"));
    check("pendulum", &resolve_policy("pendulum").expect("built in"));
}

#[test]
fn a_policy_of_cameras_and_state_stays_near_its_f32() {
    let folder = saved("", None);
    check("flowmatching", &Pretrained::load(folder.path().join("policy")).expect("whole"));
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let pretrained = resolve_policy("pursuit").expect("built in");
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| chunks(&pretrained, &Device::Cpu, WeightStorage::F16)).expect("samples").0
    };
    assert!(with(1) == with(2) && with(1) == with(3));
}

#[test]
fn a_weight_beyond_f16_is_named() {
    let name = "model.action_in_proj.weight";
    let load = |folder: &TempDir, storage| {
        let pretrained = Pretrained::load(folder.path().join("policy"))?;
        Policy::from_parts_as(pretrained, &Device::Cpu, storage)
    };
    let folder = saved(name, Some(1e6));
    let error = load(&folder, WeightStorage::F16).err().expect("too large");
    let expected = "model.safetensors: tensor `model.action_in_proj.weight` holds 1000000 at element 1: f16 ends at \
                    65504, keep the weights as f32";
    assert!(error.to_string().ends_with(expected), "{error}");
    assert_eq!(error.exit_code(), 2);
    load(&folder, WeightStorage::F32).expect("f32 holds it");
    // A bias stays f32.
    load(&saved("model.action_in_proj.bias", Some(1e6)), WeightStorage::F16).expect("f32 holds it");
    load(&saved(name, Some(-65_504.0)), WeightStorage::F16).expect("the largest");
}
