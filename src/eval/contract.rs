//! Whether an environment keeps the contract that a policy was trained under.

use serde_json::Value;

use crate::policy::{Config, Policy};
use crate::sim::{FeatureContract, Spec, TaskContract};
use crate::{Error, Result};

/// Checks a policy that carries a contract, as [`check_contract`]. One without is taken as it is.
///
/// # Errors
/// As there, or if the contract cannot be read.
pub fn check_policy_contract(spec: &Spec, policy: &Policy) -> Result<()> {
    let Some(json) = policy.contract() else { return Ok(()) };
    let contract = serde_json::from_value(json.clone()).map_err(|e| {
        Error::input(format!(
            "train_config.json of the policy: `contract` cannot be read: {e}; use the flowgpu that trained it, or \
             remove the key to do without the check"
        ))
    })?;
    check_contract(spec, policy.config(), &contract)
}

/// Checks that an environment means by its numbers what a policy of that configuration learnt them to mean: the rate,
/// and names, units and bounds of what it sees and of what it decides. Another task, reset, horizon or reward is none
/// of its business, so that a policy can be tried where it was not trained.
///
/// # Errors
/// Names the first field that differs, with both values.
pub fn check_contract(spec: &Spec, config: &Config, learnt: &TaskContract) -> Result<()> {
    let here = spec.contract();
    let refuse = |field: &str, theirs: &Value, ours: &Value| {
        Err(Error::input(format!(
            "the policy was trained for environment `{}` with `{field}` {theirs}, this one, `{}`, has {ours}: use an \
             environment that fits, or train a policy for this one",
            learnt.environment, here.environment
        )))
    };
    if learnt.rate_hz != here.rate_hz {
        return refuse("rate_hz", &learnt.rate_hz.into(), &here.rate_hz.into());
    }
    let read = config.images().chain(config.states()).map(|(key, _)| key);
    let observations = read.filter_map(|key| Some((learnt.observation(key)?, here.observation(key)?)));
    for (theirs, ours, name) in observations
        .map(|(theirs, ours)| (theirs, ours, ours.key.as_str()))
        .chain([(&learnt.action, &here.action, "action")])
    {
        if let Some((field, theirs, ours)) = first_difference(theirs, ours) {
            return refuse(&format!("{name}.{field}"), &theirs, &ours);
        }
    }
    Ok(())
}

/// The first field that differs, down to the element, with both values. Keys and shapes are the policy's own, and
/// compared with its configuration.
fn first_difference(theirs: &FeatureContract, ours: &FeatureContract) -> Option<(String, Value, Value)> {
    element("names", &theirs.names, &ours.names)
        .or_else(|| element("units", &theirs.units, &ours.units))
        .or_else(|| element("low", &theirs.low, &ours.low))
        .or_else(|| element("high", &theirs.high, &ours.high))
}

/// The first element that two lists do not share: one that a list lacks is null.
fn element<T: PartialEq + Clone + Into<Value>>(
    field: &str,
    theirs: &[T],
    ours: &[T],
) -> Option<(String, Value, Value)> {
    let value = |list: &[T], at: usize| list.get(at).cloned().map_or(Value::Null, Into::into);
    let at = (0..theirs.len().max(ours.len())).find(|&i| theirs.get(i) != ours.get(i))?;
    let place = if ours.len() == 1 { field.to_owned() } else { format!("{field}[{at}]") };
    Some((place, value(theirs, at), value(ours, at)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Device;
    use crate::policy::resolve_policy;
    use crate::sim::make;

    fn pendulum() -> (Config, TaskContract) {
        let config = resolve_policy("pendulum").expect("built in").config;
        (config, make("pendulum").expect("known").spec().contract())
    }

    #[test]
    fn what_the_numbers_mean_must_agree_and_the_field_is_named() {
        let (config, contract) = pendulum();
        let environment = make("pendulum").expect("known");
        type Change = fn(&mut TaskContract);
        let changes: [(Change, &str); 5] = [
            (|c| c.rate_hz = 10, "environment `pendulum` with `rate_hz` 10, this one, `pendulum`, has 20:"),
            (|c| c.action.units = vec!["mN m".into()], "with `action.units` \"mN m\", this one"),
            (|c| c.action.high = vec![3.0], "with `action.high` 3.0, this one, `pendulum`, has 2.0:"),
            (|c| c.observations[0].names.swap(0, 1), "`observation.state.names[0]` \"sin_theta\""),
            (|c| c.observations[0].units[2] = "deg/s".into(), "`observation.state.units[2]` \"deg/s\""),
        ];
        for (change, expected) in changes {
            let mut learnt = contract.clone();
            change(&mut learnt);
            let error = check_contract(environment.spec(), &config, &learnt).expect_err(expected);
            assert!(error.to_string().contains(expected), "{error}");
            assert_eq!(error.exit_code(), 2);
        }
    }

    #[test]
    fn another_name_reset_horizon_or_unread_observation_is_no_reason_to_refuse() {
        let (config, mut learnt) = pendulum();
        learnt.environment = "another".into();
        learnt.task = "another".into();
        learnt.reset = "another".into();
        learnt.reward = "another".into();
        learnt.version += 1;
        learnt.horizon.steps = 7;
        // The same rod with a target beside it, which this policy does not read.
        for name in ["pendulum", "pendulum-goal"] {
            let environment = make(name).expect("known");
            check_contract(environment.spec(), &config, &learnt).expect("fits");
        }
    }

    #[test]
    fn a_contract_of_no_use_is_named_and_none_is_taken_as_it_is() {
        let environment = make("pendulum").expect("known");
        let mut pretrained = resolve_policy("pendulum").expect("built in");
        pretrained.train_config = Some(serde_json::json!({"contract": {"rate": 3}}));
        let policy = Policy::from_parts(pretrained.clone(), &Device::Cpu).expect("fits");
        let error = check_policy_contract(environment.spec(), &policy).expect_err("no contract");
        assert!(error.to_string().contains("train_config.json of the policy: `contract` cannot"), "{error}");
        pretrained.train_config = None;
        let policy = Policy::from_parts(pretrained, &Device::Cpu).expect("fits");
        check_policy_contract(environment.spec(), &policy).expect("nothing to check");
    }
}
