//! Checkpoints, as someone meets them who trains, moves folders about, and runs out of luck.

use std::fs;
use std::path::{Path, PathBuf};

use flowgpu::Error;
use flowgpu::graph::{Init, Params};
use flowgpu::policy::presets::preset;
use flowgpu::policy::{
    Config, Folder, FolderWriter, Parts, Pretrained, RunDir, Stats, manifest, resolve, run_dir,
    save_pretrained, tensors, write_pretrained,
};
use serde_json::{Value, json};

/// A policy small enough to damage bit by bit.
struct Policy {
    config: Config,
    params: Params,
    values: Vec<Vec<f32>>,
    stats: Stats,
    train_config: Value,
}

impl Policy {
    fn new(fill: f32) -> Self {
        let mut params = Params::default();
        params.declare("velocity_head.weight", &[2, 3], Init::Zeros);
        params.declare("velocity_head.bias", &[2], Init::Zeros);
        let mut stats = Stats::new("stats");
        for (stat, values) in [("min", [-5.0, -4.0]), ("max", [5.0, 4.0])] {
            stats.insert("action", stat, &[2], values.to_vec()).expect("two");
        }
        stats.insert("observation.image", "mean", &[3, 1, 1], vec![0.5; 3]).expect("three");
        stats.set_bounds("action", &[-5.0; 2], &[5.0; 2]).expect("in order");
        Self {
            config: preset("pursuit").expect("known"),
            params,
            values: vec![vec![fill; 6], vec![-fill; 2]],
            stats,
            train_config: json!({"steps": 500, "lr": 1e-4}),
        }
    }

    fn parts(&self) -> Parts<'_> {
        Parts {
            config: &self.config,
            params: &self.params,
            values: &self.values,
            stats: &self.stats,
            train_config: Some(&self.train_config),
        }
    }

    fn save(&self, folder: &Path) {
        save_pretrained(folder, &self.parts()).expect("saved");
    }

    fn checkpoint(&self, run: &RunDir, step: u64) -> PathBuf {
        let write = |writer: &mut FolderWriter| {
            write_pretrained(writer, run_dir::PRETRAINED, &self.parts())?;
            write_pretrained(writer, run_dir::PRETRAINED_EMA, &self.parts())?;
            let moments = tensors::param_views(&self.params, &self.values, "exp_avg/")?;
            writer.write_tensors("training_state/optimizer_state.safetensors", moments)?;
            writer.write_json("training_state/training_step.json", &json!({"step": step, "batch_size": 8}))
        };
        run.save(step, write).expect("saved")
    }
}

fn says(error: &Error, parts: &[&str]) {
    parts.iter().for_each(|part| assert!(error.to_string().contains(part), "no {part:?} in: {error}"));
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entry = |entry: fs::DirEntry| {
        (entry.file_name().into_string().expect("UTF-8"), fs::read(entry.path()).expect("read"))
    };
    let mut list: Vec<_> = fs::read_dir(folder).expect("there").map(|e| entry(e.expect("listed"))).collect();
    list.sort();
    list
}

fn names(folder: &Path) -> Vec<String> {
    let name =
        |e: std::io::Result<fs::DirEntry>| e.expect("listed").file_name().into_string().expect("UTF-8");
    let mut list: Vec<_> = fs::read_dir(folder).expect("there").map(name).collect();
    list.sort();
    list
}

#[test]
fn a_policy_comes_back_as_it_was_saved_from_disk_and_from_memory() {
    let root = tempfile::tempdir().expect("a folder");
    let (policy, folder) = (Policy::new(0.25), root.path().join("policy"));
    policy.save(&folder);
    let files = files(&folder);
    let lent: Vec<_> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    for mut loaded in [
        Pretrained::load(&folder).expect("loads"),
        Pretrained::from_bytes("weights/pursuit", &lent).expect("loads"),
    ] {
        assert_eq!(loaded.config, policy.config);
        assert_eq!(loaded.train_config.as_ref(), Some(&policy.train_config));
        assert_eq!(loaded.weights(&policy.params).expect("all there"), policy.values);
        assert_eq!(
            loaded.stats.get("observation.image", "mean"),
            policy.stats.get("observation.image", "mean")
        );
        assert_eq!(loaded.notes, [""; 0]);
        let normalizer = loaded.normalizer().expect("has statistics");
        assert_eq!(normalizer.bounds(), Some((&[-5.0, -5.0][..], &[5.0, 5.0][..])));
        let mut actions = [1.0, 0.5, 3.0, 0.0];
        normalizer.finish_actions(&mut actions).expect("finite");
        assert_eq!(actions, [5.0, 2.0, 5.0, 0.0]);
    }
}

#[test]
fn saving_twice_gives_the_same_bytes() {
    let root = tempfile::tempdir().expect("a folder");
    let folders = ["a", "b"].map(|name| root.path().join(name));
    folders.iter().for_each(|folder| Policy::new(0.5).save(folder));
    assert_eq!(files(&folders[0]), files(&folders[1]));
    Policy::new(0.75).save(&folders[0]);
    assert_ne!(files(&folders[0]), files(&folders[1]));
    Policy::new(0.5).save(&folders[0]);
    assert_eq!(files(&folders[0]), files(&folders[1]));
}

#[test]
fn the_processor_files_are_those_of_lerobot() {
    let root = tempfile::tempdir().expect("a folder");
    let folder = root.path().join("policy");
    Policy::new(0.0).save(&folder);
    let read = |name: &str| Folder::open(&folder).expect("there").json(name).expect("JSON");
    let image = json!({"type": "VISUAL", "shape": [3, 128, 128]});
    let action = json!({"type": "ACTION", "shape": [2]});
    let norm_map = json!({"VISUAL": "IDENTITY", "STATE": "MEAN_STD", "ACTION": "MIN_MAX"});
    let expected = json!({"name": "policy_preprocessor", "steps": [
        {"registry_name": "rename_observations_processor", "config": {"rename_map": {}}},
        {"registry_name": "to_batch_processor", "config": {}},
        {"registry_name": "device_processor", "config": {"device": "cpu", "float_dtype": null}},
        {"registry_name": "normalizer_processor",
         "config": {"eps": 1e-08, "norm_map": norm_map,
                    "features": {"observation.image": image, "action": action}},
         "state_file": "policy_preprocessor_step_3_normalizer_processor.safetensors"}]});
    assert_eq!(read("policy_preprocessor.json"), expected);
    let expected = json!({"name": "policy_postprocessor", "steps": [
        {"registry_name": "unnormalizer_processor",
         "config": {"eps": 1e-08, "features": {"action": action}, "norm_map": norm_map},
         "state_file": "policy_postprocessor_step_0_unnormalizer_processor.safetensors"},
        {"registry_name": "device_processor", "config": {"device": "cpu", "float_dtype": null}}]});
    assert_eq!(read("policy_postprocessor.json"), expected);
    let state = "policy_postprocessor_step_0_unnormalizer_processor.safetensors";
    let state = Folder::open(&folder).expect("there").tensors(state).expect("whole");
    let named: Vec<_> = state.iter().collect();
    let (two, image) = (&[2][..], &[3, 1, 1][..]);
    let expected = ["action.high", "action.low", "action.max", "action.min"].map(|name| (name, two));
    assert_eq!(named, [&expected[..], &[("observation.image.mean", image)]].concat());
}

#[test]
fn every_damaged_file_is_named() {
    let root = tempfile::tempdir().expect("a folder");
    let folder = root.path().join("policy");
    Policy::new(0.5).save(&folder);
    for (name, good) in files(&folder) {
        if name == manifest::MANIFEST {
            continue;
        }
        let path = folder.join(&name);
        let mut flipped = good.clone();
        flipped[good.len() / 2] ^= 4;
        for bad in [flipped, good[..good.len() - 1].to_vec(), Vec::new()] {
            fs::write(&path, bad).expect("damaged");
            for error in [Pretrained::load(&folder).map(|_| ()), manifest::verify(&folder).map(|_| ())] {
                let error = error.expect_err(&name);
                says(&error, &[&path.display().to_string(), "changed or damaged"]);
                assert_eq!(error.exit_code(), 2);
            }
        }
        fs::remove_file(&path).expect("removed");
        says(&Pretrained::load(&folder).expect_err(&name), &[&name, "is missing"]);
        fs::write(&path, good).expect("mended");
    }
    assert_eq!(manifest::verify(&folder), Ok(true));
}

#[test]
fn a_folder_without_manifest_loads_and_still_names_what_is_wrong() {
    let root = tempfile::tempdir().expect("a folder");
    let folder = root.path().join("policy");
    Policy::new(0.5).save(&folder);
    fs::remove_file(folder.join(manifest::MANIFEST)).expect("removed");
    assert_eq!(manifest::verify(&folder), Ok(false));
    Pretrained::load(&folder).expect("loads");

    let state = "policy_preprocessor_step_3_normalizer_processor.safetensors";
    let good = fs::read(folder.join(state)).expect("read");
    fs::remove_file(folder.join(state)).expect("removed");
    says(&Pretrained::load(&folder).expect_err("no statistics"), &[state, "is missing"]);
    let other =
        tensors::to_safetensors([("action.min".to_owned(), &[2][..], &[0.0, 0.0][..])]).expect("written");
    fs::write(folder.join(state), other).expect("written");
    says(&Pretrained::load(&folder).expect_err("two answers"), &["differ in `action.min`"]);
    fs::write(folder.join(state), good).expect("mended");

    let chain = fs::read_to_string(folder.join("policy_preprocessor.json")).expect("read");
    let write = |text: &str| fs::write(folder.join("policy_preprocessor.json"), text).expect("written");
    write(&chain.replace("MIN_MAX", "MEAN_STD"));
    says(
        &Pretrained::load(&folder).expect_err("two answers"),
        &["`norm_map` normalises `action`", "MIN_MAX"],
    );
    write(&chain.replace(state, "../elsewhere.safetensors"));
    says(&Pretrained::load(&folder).expect_err("leaves"), &["no path below"]);
    write(&chain.replace("to_batch_processor", "tokenizer_processor"));
    assert_eq!(Pretrained::load(&folder).expect("loads").notes.len(), 1);

    for file in ["policy_preprocessor.json", "policy_postprocessor.json"] {
        fs::remove_file(folder.join(file)).expect("removed");
    }
    let bare = Pretrained::load(&folder).expect("a PyTorch export");
    says(&bare.normalizer().expect_err("no statistics"), &["policy_preprocessor.json", "without statistics"]);
    fs::write(folder.join("model.safetensors"), b"no").expect("damaged");
    says(&Pretrained::load(&folder).expect_err("no"), &["model.safetensors", "no safetensors file"]);
}

#[test]
fn the_first_tensor_that_differs_is_named() {
    let root = tempfile::tempdir().expect("a folder");
    let folder = root.path().join("policy");
    Policy::new(0.5).save(&folder);
    let loaded = Pretrained::load(&folder).expect("loads");
    let against = |shapes: &[(&str, &[usize])]| {
        let mut params = Params::default();
        for (name, shape) in shapes {
            params.declare(*name, shape, Init::Zeros);
        }
        loaded.check_against(&params)
    };
    let (weight, bias) = ("velocity_head.weight", "velocity_head.bias");
    against(&[(weight, &[2, 3]), (bias, &[2])]).expect("the same");
    for (shapes, expected) in [
        (
            &[(weight, &[2, 3][..]), (bias, &[2]), ("pos_embed", &[1, 4])][..],
            "`pos_embed` of shape [1, 4] is missing",
        ),
        (&[(weight, &[2, 3])], "`velocity_head.bias` is in the file, but not in the configuration"),
        (&[(weight, &[3, 2]), (bias, &[2])], "`velocity_head.weight` has shape [2, 3], expected [3, 2]"),
    ] {
        let error = against(shapes).expect_err(expected);
        says(&error, &[&folder.join("model.safetensors").display().to_string(), expected]);
    }
}

#[test]
fn what_is_not_finite_is_never_saved() {
    let root = tempfile::tempdir().expect("a folder");
    let mut policy = Policy::new(0.5);
    policy.values[1][0] = f32::NAN;
    let error = save_pretrained(root.path().join("policy"), &policy.parts()).expect_err("NaN");
    says(&error, &["`velocity_head.bias` holds NaN"]);
    assert_eq!(names(root.path()), [""; 0]);
}

#[test]
fn other_peoples_folders_are_never_replaced() {
    let root = tempfile::tempdir().expect("a folder");
    fs::write(root.path().join("thesis.tex"), "x").expect("written");
    let policy = Policy::new(0.5);
    let error = save_pretrained(root.path(), &policy.parts()).expect_err("occupied");
    says(&error, &["so it is left alone"]);
    // A file where a folder should be.
    let error =
        save_pretrained(root.path().join("thesis.tex/policy"), &policy.parts()).expect_err("no folder");
    says(&error, &["cannot create", "thesis.tex"]);
    assert_eq!(error.exit_code(), 1);
    assert_eq!(names(root.path()), ["thesis.tex"]);
}

#[test]
fn a_run_is_found_by_run_checkpoint_and_policy_folder() {
    let root = tempfile::tempdir().expect("a folder");
    let run = RunDir::create(root.path().join("run")).expect("empty");
    let step = Policy::new(1.0).checkpoint(&run, 500);
    assert_eq!(step, root.path().join("run/checkpoints/000500"));
    let averaged = step.join("pretrained_model_ema");
    for path in [run.root(), &step, &averaged] {
        let found = resolve(path).expect("found");
        assert_eq!((&found.folder, found.averaged, found.warning), (&averaged, true, None));
    }
    let raw = resolve(step.join("pretrained_model")).expect("found");
    assert!(!raw.averaged);
    // The checkpoint's manifest covers the folders in it.
    fs::write(averaged.join("config.json"), "{}").expect("damaged");
    says(&Pretrained::load(&averaged).expect_err("damaged"), &["config.json", "changed or damaged"]);
    Pretrained::load(&raw.folder).expect("whole");

    let state = Folder::open(step.join("training_state")).expect("there");
    assert_eq!(state.json("training_step.json").expect("JSON")["step"], 500);
    let mut moments = state.tensors("optimizer_state.safetensors").expect("whole");
    let policy = Policy::new(1.0);
    assert_eq!(moments.take_params(&policy.params, "exp_avg/").expect("all there"), policy.values);
    moments.finish().expect("nothing else");

    let error = resolve(root.path()).expect_err("no policy");
    says(&error, &["looked for config.json", "pretrained_model/config.json", "checkpoints/last"]);
    says(&resolve(root.path().join("nowhere")).expect_err("nothing"), &["nowhere is no folder"]);
}

#[test]
fn a_damaged_last_checkpoint_is_replaced_by_the_newest_whole_one() {
    let root = tempfile::tempdir().expect("a folder");
    let run = RunDir::create(root.path()).expect("empty");
    let steps = [500, 1000, 1500].map(|step| Policy::new(1.0).checkpoint(&run, step));
    assert_eq!(
        (run.last().expect("whole").folder, run.last().expect("whole").warning),
        (steps[2].clone(), None)
    );
    // An interrupted save beside them, newer than all, is not looked at.
    fs::create_dir_all(run.checkpoints().join("002000.tmp-1/pretrained_model")).expect("created");
    let model = steps[2].join("pretrained_model_ema/model.safetensors");
    fs::write(&model, "x").expect("damaged");
    let found = run.last().expect("an older one");
    assert_eq!(found.folder, steps[1]);
    let warning = found.warning.expect("says so");
    assert!(warning.contains("model.safetensors") && warning.ends_with("001000 instead"), "{warning}");
    let resolved = resolve(root.path()).expect("an older one");
    assert_eq!(resolved.folder, steps[1].join("pretrained_model_ema"));
    assert!(resolved.warning.is_some());

    // Saved again, it is whole again.
    drop(run);
    let run = RunDir::resume(root.path()).expect("not locked");
    Policy::new(2.0).checkpoint(&run, 1500);
    assert_eq!(run.last().expect("whole").warning, None);
    assert_eq!(names(&run.checkpoints()), ["000500", "001000", "001500", "last"]);
}

#[test]
fn two_trainings_never_share_a_folder() {
    let root = tempfile::tempdir().expect("a folder");
    says(&RunDir::resume(root.path()).expect_err("empty"), &["nothing to resume"]);
    let run = RunDir::create(root.path()).expect("empty");
    Policy::new(1.0).checkpoint(&run, 1);
    let pid = format!("by process {}", std::process::id());
    says(&RunDir::create(root.path()).expect_err("locked"), &["is being trained in", &pid]);
    says(&RunDir::resume(root.path()).expect_err("locked"), &["is being trained in", &pid]);
    drop(run);
    says(&RunDir::create(root.path()).expect_err("in use"), &["is not empty", "--resume"]);
    // The lock file of a dead process holds nobody up.
    RunDir::resume(root.path()).expect("free");
}

/// Saves a checkpoint into the folder that the test below names.
#[test]
#[ignore = "a part of the next test, run by it in a process of its own"]
fn save_as_a_child() {
    let Ok(root) = std::env::var("FLOWGPU_TEST_RUN") else { return };
    let run = RunDir::resume(root).expect("free");
    let write = |writer: &mut FolderWriter| writer.write("training_state/big", &vec![1; 1 << 20]);
    let error = run.save(1000, write).expect_err("no room for a megabyte");
    says(&error, &["cannot write", "001000", "big"]);
    assert_eq!(names(&run.checkpoints()), ["000500", "last"]);
}

#[cfg(unix)]
#[test]
fn the_last_good_checkpoint_survives_a_failed_save_and_a_killed_one() {
    let root = tempfile::tempdir().expect("a folder");
    let run = RunDir::create(root.path()).expect("empty");
    let good = Policy::new(1.0).checkpoint(&run, 500);
    drop(run);
    // Files may not grow beyond a few kilobytes: a write fails, or, if the signal is not caught, kills.
    for (shell, dies) in [("trap '' XFSZ; ulimit -f 64", false), ("ulimit -c 0; ulimit -f 64", true)] {
        let script = format!("{shell}; exec \"$0\" --ignored --exact save_as_a_child");
        let program = std::env::current_exe().expect("known");
        let mut child = std::process::Command::new("sh");
        let output = child.arg("-c").arg(script).arg(program).env("FLOWGPU_TEST_RUN", root.path()).output();
        let output = output.expect("started");
        assert_eq!(output.status.success(), !dies, "{output:?}");
        let found = resolve(root.path()).expect("the earlier one");
        assert_eq!((found.folder, found.warning), (good.join("pretrained_model_ema"), None));
        assert_eq!(manifest::verify(&good), Ok(true));
        let left = names(&good.join("..")).into_iter().filter(|name| name.contains(".tmp-")).count();
        assert_eq!(left, usize::from(dies), "{output:?}");
    }
    // Whoever resumes sweeps up.
    let run = RunDir::resume(root.path()).expect("the lock went with its process");
    assert_eq!(names(&run.checkpoints()), ["000500", "last"]);
}
