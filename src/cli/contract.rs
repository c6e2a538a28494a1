//! A task's contract in words, and the contracts that data sets carry.

use std::path::{Path, PathBuf};

use super::common::{note, table};
use crate::sim::{FeatureContract, TaskContract};
use crate::{Error, Result};

/// Where a data set keeps the contract of the task it was recorded in. Other programs take no notice of it.
pub const CONTRACT_PATH: &str = "meta/contract.json";

/// Writes it into a data set's folder.
///
/// # Errors
/// If the disk refuses.
pub fn write(root: &Path, contract: &TaskContract) -> Result<()> {
    let path = root.join(CONTRACT_PATH);
    let failed = |e: String| Error::failure(format!("cannot write {}: {e}", path.display()));
    let text = serde_json::to_string_pretty(contract).map_err(|e| failed(e.to_string()))?;
    std::fs::write(&path, text + "\n").map_err(|e| failed(e.to_string()))
}

/// The contract in a data set's folder; none where there is no such file.
///
/// # Errors
/// If the file cannot be read as one.
pub fn read(root: &Path) -> Result<Option<TaskContract>> {
    let path = root.join(CONTRACT_PATH);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::input(format!("cannot read {}: {e}", path.display()))),
    };
    serde_json::from_slice(&text).map(Some).map_err(|e| {
        Error::input(format!(
            "{} is no task contract of this version: {e}; record the data set again, or remove the file",
            path.display()
        ))
    })
}

/// The contract of several data sets that are used as one: the first one's. Where another has a different one, a line
/// names the fields, and where one has none, there is none for all.
///
/// # Errors
/// As [`read`].
pub fn of_all(roots: &[PathBuf]) -> Result<Option<TaskContract>> {
    let all = roots.iter().map(|root| read(root)).collect::<Result<Option<Vec<_>>>>()?;
    let Some((first, others)) = all.as_deref().and_then(<[_]>::split_first) else { return Ok(None) };
    for (other, root) in others.iter().zip(&roots[1..]) {
        let differences = first.differences(other);
        if !differences.is_empty() {
            note(format!(
                "warning: {} has another contract than {}, which the policy will carry: they differ in {}",
                root.display(),
                roots[0].display(),
                differences.join(", ")
            ));
        }
    }
    Ok(Some(first.clone()))
}

/// The whole of it for people.
pub fn in_words(contract: &TaskContract) -> String {
    let TaskContract { environment, version, task, rate_hz, horizon, .. } = contract;
    let mut text = format!(
        "environment {environment}, version {version}: {task}\n{rate_hz} steps per second, episodes of {} steps \
         ({} s) at most\nobservations\n",
        horizon.steps, horizon.seconds
    );
    text += &table(&contract.observations.iter().flat_map(rows).map(indented).collect::<Vec<_>>());
    text += "action\n";
    text += &table(&rows(&contract.action).into_iter().map(indented).collect::<Vec<_>>());
    for (name, what) in sentences(contract) {
        text += &format!("{name:11}  {what}\n");
    }
    text
}

/// What is said in sentences, each with its name.
pub fn sentences(contract: &TaskContract) -> [(&'static str, &str); 5] {
    [
        ("reset", &contract.reset),
        ("success", &contract.success),
        ("failure", &contract.failure),
        ("termination", &contract.termination),
        ("reward", &contract.reward),
    ]
}

fn indented([key, rest @ ..]: [String; 4]) -> [String; 4] {
    let [what, unit, range] = rest;
    [format!("  {key}"), what, unit, range]
}

/// Key and shape, components, unit and range; a row for each run of components that have the last two in common.
pub fn rows(feature: &FeatureContract) -> Vec<[String; 4]> {
    let FeatureContract { key, shape, names, units, low, high } = feature;
    let same = |a: usize, b: usize| (&units[a], low[a], high[a]) == (&units[b], low[b], high[b]);
    let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
    for i in 0..units.len().min(low.len()).min(high.len()) {
        match runs.last_mut() {
            Some(run) if same(run.start, i) => run.end = i + 1,
            _ => runs.push(i..i + 1),
        }
    }
    let row = |(number, run): (usize, std::ops::Range<usize>)| {
        // A picture has one unit, but three names.
        let named = if units.len() == 1 { &names[..] } else { names.get(run.clone()).unwrap_or(&[]) };
        let components = match named {
            [first, .., last] if named.len() > 4 => format!("{first} to {last}"),
            few => few.join(", "),
        };
        let key = if number == 0 { format!("{key} {shape:?}") } else { String::new() };
        let at = run.start;
        [key, components, units[at].clone(), format!("{} to {}", low[at], high[at])]
    };
    runs.into_iter().enumerate().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{KNOWN, make};

    #[test]
    fn components_that_have_unit_and_range_in_common_share_a_row() {
        let contract = make("command").expect("known").spec().contract();
        let cells: Vec<_> = contract.observations.iter().flat_map(rows).collect();
        let expected = [
            ["observation.state [200]", "measured_0 to measured_199", "1", "-1 to 1"],
            ["observation.environment_state [3]", "forward", "m/s", "-1 to 1"],
            ["", "left", "m/s", "-0.5 to 0.5"],
            ["", "turning", "rad/s", "-1 to 1"],
        ];
        assert_eq!(cells, expected);
        let contract = make("pursuit").expect("known").spec().contract();
        let expected = ["observation.image [3, 128, 128]", "channels, height, width", "level", "0 to 255"];
        assert_eq!(rows(&contract.observations[0]), [expected]);
    }

    #[test]
    fn a_contract_goes_through_a_data_sets_folder() {
        let root = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(root.path().join("meta")).expect("a folder");
        assert_eq!(read(root.path()).expect("nothing is fine"), None);
        for name in KNOWN {
            let contract = make(name).expect("known").spec().contract();
            write(root.path(), &contract).expect("writes");
            assert_eq!(read(root.path()).expect("reads").as_ref(), Some(&contract));
            assert!(in_words(&contract).contains(&contract.reset));
        }
        std::fs::write(root.path().join(CONTRACT_PATH), "{\"environment\": 3}").expect("writes");
        let error = read(root.path()).expect_err("no contract");
        assert!(error.to_string().contains("contract.json is no task contract"), "{error}");
        assert_eq!(error.exit_code(), 2);
    }
}
