//! Pretrained vision transformers under three libraries' names. `tests/interop/vit_names.py` made the fixtures.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use flowgpu::graph::ops::ChannelScale;
use flowgpu::nn::{IMAGENET, VitSizes};
use flowgpu::policy::backbone::NamedTensors;
use flowgpu::policy::{Backbone, BackboneSizes, Tensor, backbone, tensors::to_safetensors};

const SIZES: BackboneSizes = BackboneSizes { layers: 2, embed_dim: 16, mlp_dim: 24, patch_size: 4 };
const GRID: [usize; 2] = [4, 4];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/vit/{name}.safetensors"))
}

fn read(name: &str) -> NamedTensors {
    Backbone::read(fixture(name)).expect("a backbone").tensors(&SIZES, GRID).expect("its tensors")
}

/// Tensors with their names.
type Named = Vec<(String, Tensor)>;

/// The f32 tensors of a file as they are.
fn raw(path: &Path) -> Named {
    let bytes = std::fs::read(path).expect("a file");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("whole");
    let tensor = |(name, view): (&str, safetensors::tensor::TensorView)| {
        assert_eq!(view.dtype(), safetensors::Dtype::F32);
        let values = view.data().as_chunks().0.iter().map(|&raw| f32::from_le_bytes(raw)).collect();
        (name.to_owned(), Tensor { shape: view.shape().to_vec(), values })
    };
    let mut all: Named = file.iter().map(tensor).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

fn write(folder: &Path, tensors: &[(String, Tensor)]) -> PathBuf {
    let views = tensors.iter().map(|(name, t)| (name.clone(), &t.shape[..], &t.values[..]));
    let file = folder.join("weights.safetensors");
    std::fs::write(&file, to_safetensors(views).expect("whole")).expect("written");
    file
}

fn error(path: &Path) -> String {
    Backbone::read(path).map(|_| ()).expect_err("of no use").to_string()
}

fn import(arguments: &[&str], files: &[&Path]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flowgpu"));
    command.args(["import", "weights"]).args(files).args(arguments).output().expect("the program starts")
}

#[test]
fn three_namings_of_one_network_give_the_same_bits() {
    let ours = read("torchvision");
    for (name, tensor) in raw(&fixture("torchvision")) {
        match name.starts_with("heads.") {
            true => assert!(!ours.contains_key(&format!("{}{name}", backbone::PREFIX)), "{name} is kept"),
            false => assert_eq!(ours.get(&format!("{}{name}", backbone::PREFIX)), Some(&tensor), "{name}"),
        }
    }
    assert_eq!(ours, read("timm"));
    assert_eq!(ours, read("huggingface"));
    let found = Backbone::read(fixture("huggingface")).expect("a backbone");
    assert_eq!((found.sizes(), found.grid()), (SIZES, GRID));
}

#[test]
fn half_precision_is_the_same_network_within_its_rounding() {
    let ours = read("torchvision");
    for (name, rounding) in [("timm_f16", 2f32.powi(-11)), ("huggingface_bf16", 2f32.powi(-8))] {
        let half = read(name);
        assert_eq!(half.len(), ours.len());
        for (name, tensor) in &ours {
            let other = half.get(name).expect("the same names");
            for (a, b) in tensor.values.iter().zip(&other.values) {
                assert!((a - b).abs() <= rounding * a.abs() + 1e-7, "{name}: {a} and {b}");
            }
        }
    }
}

#[test]
fn positions_are_interpolated_as_torchvision_does_it() {
    let mut backbone = Backbone::read(fixture("timm")).expect("a backbone");
    let name = format!("{}encoder.pos_embedding", backbone::PREFIX);
    for (size, expected) in raw(&fixture("positions")) {
        let (rows, columns) = size.split_once('x').expect("rows x columns");
        let grid = [rows.parse().expect("a number"), columns.parse().expect("a number")];
        let tensors = backbone.tensors(&SIZES, grid).expect("its tensors");
        let found = tensors.get(&name).expect("positions");
        assert_eq!(found.shape, expected.shape, "{size}");
        for (a, b) in found.values.iter().zip(&expected.values) {
            assert!((a - b).abs() <= 1e-6, "{size}: {a}, torchvision has {b}");
        }
    }
}

#[test]
fn older_names_and_names_inside_a_checkpoint_are_known() {
    let here = tempfile::tempdir().expect("a folder");
    let old = raw(&fixture("torchvision")).into_iter().map(|(name, tensor)| {
        (name.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."), tensor)
    });
    let tensors = |path: &Path| Backbone::read(path).expect("a backbone").tensors(&SIZES, GRID);
    let ours = |path: &Path| tensors(path).expect("tensors");
    let expected = ours(&fixture("torchvision"));
    assert_eq!(ours(&write(here.path(), &old.collect::<Vec<_>>())), expected);

    let mut policy: Named = read("timm").into_iter().collect();
    policy.push(("model.state_proj.bias".to_owned(), Tensor { shape: vec![1], values: vec![0.0] }));
    assert_eq!(ours(&write(here.path(), &policy)), expected);
}

#[test]
fn another_pixel_normalisation_is_the_same_function_of_a_pixel() {
    let other = ChannelScale { mean: [0.5, 0.4, 0.3], std: [0.5, 0.25, 0.125] };
    let mut plain = Backbone::read(fixture("timm")).expect("a backbone");
    let mut folded = Backbone::read(fixture("timm")).and_then(|b| b.trained_on(other)).expect("a backbone");
    let convolve = |backbone: &mut Backbone, scale: ChannelScale| {
        let tensors = backbone.tensors(&SIZES, GRID).expect("its tensors");
        let get = |name: &str| &tensors.get(&format!("{}{name}", backbone::PREFIX)).expect("there").values;
        let (weight, bias) = (get("conv_proj.weight"), get("conv_proj.bias"));
        let pixel = |i: usize| ((i * 37) % 101) as f64 / 100.0;
        let output = weight.chunks_exact(48).zip(bias).map(|(filter, &bias)| {
            let seen = |i: usize| (pixel(i) - scale.mean[i / 16]) / scale.std[i / 16];
            f64::from(bias) + filter.iter().enumerate().map(|(i, &w)| f64::from(w) * seen(i)).sum::<f64>()
        });
        output.collect::<Vec<f64>>()
    };
    for (a, b) in convolve(&mut folded, IMAGENET).iter().zip(&convolve(&mut plain, other)) {
        assert!((a - b).abs() <= 2e-6 * (1.0 + b.abs()), "{a} and {b}");
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let here = tempfile::tempdir().expect("a folder");
    let good = raw(&fixture("timm"));
    let changed = |change: &dyn Fn(&mut Named)| {
        let mut tensors = good.clone();
        change(&mut tensors);
        error(&write(here.path(), &tensors))
    };
    let said = changed(&|all| all.retain(|(name, _)| name != "blocks.1.attn.qkv.bias"));
    assert!(said.contains("tensor `blocks.1.attn.qkv.bias` of shape [48] is missing"), "{said}");
    let said = changed(&|all| all.push(("reg_token".into(), Tensor { shape: vec![1], values: vec![0.0] })));
    assert!(said.contains("tensor `reg_token` is no part of a plain vision transformer"), "{said}");
    let said = changed(&|all| {
        let norm = all.iter_mut().find(|(name, _)| name == "norm.bias").expect("there");
        norm.1 = Tensor { shape: vec![1], values: vec![0.0] };
    });
    assert!(said.contains("tensor `norm.bias` has shape [1], expected [16]"), "{said}");
    let said = changed(&|all| {
        all.retain(|(name, _)| !name.starts_with("norm."));
        all.push(("fc_norm.weight".into(), Tensor { shape: vec![16], values: vec![1.0; 16] }));
    });
    assert!(said.contains("trained on the mean of its patches"), "{said}");
    let said = changed(&|all| all.retain(|(name, _)| !name.contains("patch_embed")));
    assert!(said.contains("no vision transformer under names that are known"), "{said}");

    let mut backbone = Backbone::read(fixture("timm")).expect("a backbone");
    let wanted = VitSizes { image: [16, 16], patch: 4, width: 16, layers: 2, heads: 2, mlp: 64 };
    let said = backbone.for_encoder(&wanted).expect_err("another width").to_string();
    assert!(said.contains("its mlp_dim is 24 where the configuration asks for 64"), "{said}");
    let mut bad = good.clone();
    bad.iter_mut().find(|(name, _)| name == "cls_token").expect("there").1.values[3] = f32::NAN;
    let mut backbone = Backbone::read(write(here.path(), &bad)).expect("a backbone");
    let said = backbone.tensors(&SIZES, GRID).expect_err("not finite").to_string();
    assert!(said.contains("tensor `cls_token` holds NaN at element 3"), "{said}");
}

#[test]
fn no_truncated_or_flipped_file_panics() {
    let here = tempfile::tempdir().expect("a folder");
    let good = std::fs::read(fixture("timm_f16")).expect("a file");
    let file = here.path().join("bad.safetensors");
    for end in (0..good.len()).step_by(197).chain(0..32) {
        std::fs::write(&file, &good[..end]).expect("written");
        assert!(error(&file).contains("bad.safetensors"), "cut at {end}");
    }
    let header = 8 + usize::from(good[0]) + 256 * usize::from(good[1]);
    for bit in (0..header * 8).step_by(19) {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&file, &bad).expect("written");
        let _ = Backbone::read(&file).and_then(|mut backbone| backbone.tensors(&SIZES, GRID));
    }
}

#[test]
fn the_command_writes_what_the_library_reads() {
    let here = tempfile::tempdir().expect("a folder");
    let out = here.path().join("vit.safetensors");
    let said = import(&["--out", out.to_str().expect("text")], &[&fixture("huggingface_bf16")]);
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let expected: Vec<_> = read("huggingface_bf16").iter().map(|(n, t)| (n.to_owned(), t.clone())).collect();
    assert_eq!(raw(&out), expected);

    let size = ["--image-size", "24", "12", "--image-mean=0.5,0.5,0.5", "--image-std=0.5,0.5,0.5"];
    let size: Vec<&str> = size.into_iter().chain(["--out", out.to_str().expect("text")]).collect();
    assert!(import(&size, &[&fixture("timm")]).status.success());
    let positions = raw(&out).into_iter().find(|(name, _)| name.ends_with("pos_embedding")).expect("there");
    assert_eq!(positions.1.shape, [1, 1 + 6 * 3, 16]);

    let pickle = here.path().join("vit.pth");
    std::fs::write(&pickle, b"PK\x03\x04 and so on").expect("written");
    let said = import(&["--out", "x.safetensors"], &[&pickle]);
    let error = String::from_utf8_lossy(&said.stderr).into_owned();
    assert_eq!(said.status.code(), Some(2), "{error}");
    assert!(error.contains("safetensors.torch.save_file("), "{error}");
    let said = import(&["--out", "x.safetensors", "--image-size", "24", "13"], &[&fixture("timm")]);
    let error = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.status.code() == Some(2) && error.contains("13 is no multiple"), "{error}");
}
