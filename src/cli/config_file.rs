//! `--config FILE.toml`: a table per subcommand, whose keys are the subcommand's flags.
//!
//! ```toml
//! [train]
//! steps = 2000
//! batch-size = 64
//! set = { "flow.num_steps" = 10 }
//! ```
//!
//! A table becomes arguments in front of the user's own. A flag that the user gives is left out of them, so
//! that the command line wins.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::{Arg, Command};
use toml::{Table, Value};

use super::common::spelled;
use crate::{Error, Result};

/// The arguments with what the file of `--config` says put in, if they name one. They are spelled our way.
///
/// # Errors
/// If the file cannot be read, or holds a table or a key that means nothing.
pub fn with_file(root: &Command, mut arguments: Vec<OsString>) -> Result<Vec<OsString>> {
    let Some(path) = take_path(&mut arguments)? else { return Ok(arguments) };
    let path = Path::new(&path);
    let text = std::fs::read_to_string(path)
        .map_err(|e| Error::input(format!("--config {}: cannot be read: {e}", path.display())))?;
    let subcommand = |name: &OsStr| root.get_subcommands().find(|command| command.get_name() == name);
    let Some((at, command)) =
        arguments.iter().enumerate().skip(1).find_map(|(i, argument)| Some((i, subcommand(argument)?)))
    else {
        return Ok(arguments); // clap says what is missing
    };
    let own: Vec<OsString> = arguments.split_off(at + 1);
    arguments.extend(from_text(&text, root, command, &own).map_err(|e| e.at(path.display()))?);
    arguments.extend(own);
    Ok(arguments)
}

/// Takes `--config FILE` out of the arguments.
fn take_path(arguments: &mut Vec<OsString>) -> Result<Option<OsString>> {
    let is_it = |argument: &OsString| argument == "--config";
    if let Some(at) = arguments.iter().position(is_it) {
        arguments.remove(at);
        if at == arguments.len() {
            return Err(Error::input("--config needs a file, FILE.toml"));
        }
        return Ok(Some(arguments.remove(at)));
    }
    let joined = |argument: &OsString| argument.to_str()?.strip_prefix("--config=").map(OsString::from);
    let found = arguments.iter().enumerate().find_map(|(at, argument)| Some((at, joined(argument)?)));
    Ok(found.map(|(at, path)| {
        arguments.remove(at);
        path
    }))
}

/// The arguments that the table of `command` stands for.
fn from_text(text: &str, root: &Command, command: &Command, own: &[OsString]) -> Result<Vec<OsString>> {
    let file: Table = text.parse().map_err(|e| Error::input(format!("no TOML: {e}")))?;
    let known = || root.get_subcommands().map(Command::get_name).collect::<Vec<_>>().join(", ");
    let mut arguments = Vec::new();
    for (name, table) in &file {
        if root.find_subcommand(name).is_none() {
            return Err(Error::input(format!(
                "unknown table `{name}`: use a subcommand's name, {}",
                known()
            )));
        }
        let Value::Table(table) = table else {
            return Err(Error::input(format!("`{name}` is no table: write [{name}] above its keys")));
        };
        if name != command.get_name() {
            continue;
        }
        for (key, value) in table {
            let flag = spelled(key);
            let argument = command.get_arguments().find(|argument| names(argument).any(|name| name == flag));
            let argument = argument.ok_or_else(|| {
                let known: Vec<_> = command.get_arguments().filter_map(Arg::get_long).collect();
                let known = known.join(", ");
                Error::input(format!("[{name}]: unknown key `{key}`: known are {known}"))
            })?;
            if !given(argument, own) {
                push(argument, &flag, value, &mut arguments)
                    .map_err(|e| e.at(format!("[{name}]: `{key}`")))?;
            }
        }
    }
    Ok(arguments)
}

/// A flag's name and its other names.
fn names(argument: &Arg) -> impl Iterator<Item = &str> {
    argument.get_long().into_iter().chain(argument.get_all_aliases().into_iter().flatten())
}

/// Whether the user gave this flag.
fn given(argument: &Arg, own: &[OsString]) -> bool {
    let flags = own.iter().filter_map(|own| own.to_str()?.strip_prefix("--"));
    let mut flags = flags.map(|flag| flag.split_once('=').map_or(flag, |(name, _)| name));
    flags.any(|flag| names(argument).any(|name| name == flag))
}

/// `--flag` for true, `--flag=value`, or one of those for every entry of a list or a table.
fn push(argument: &Arg, flag: &str, value: &Value, to: &mut Vec<OsString>) -> Result<()> {
    let wrong = |what: &str| Error::input(format!("is {value}: {what}"));
    if !argument.get_action().takes_values() {
        match value {
            Value::Boolean(true) => to.push(format!("--{flag}").into()),
            Value::Boolean(false) => {}
            _ => return Err(wrong("use true or false")),
        }
        return Ok(());
    }
    match value {
        Value::Array(values) => values.iter().try_for_each(|value| push(argument, flag, value, to))?,
        Value::Table(table) => {
            for (key, value) in table {
                let value = scalar(value).ok_or_else(|| wrong("nest no tables"))?;
                to.push(format!("--{flag}={key}={value}").into());
            }
        }
        value => {
            let value = scalar(value).ok_or_else(|| wrong("use text, a number, a list or a table"))?;
            to.push(format!("--{flag}={value}").into());
        }
    }
    Ok(())
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => Some(value.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{ArgAction, arg};

    fn root() -> Command {
        let train = Command::new("train").args([
            arg!(--steps <N>),
            arg!(--"policy" <P>).alias("policy-path"),
            arg!(--resume),
            arg!(--set <KEY>).action(ArgAction::Append),
        ]);
        Command::new("flowgpu").subcommand(train).subcommand(Command::new("eval"))
    }

    fn read(text: &str, arguments: &str) -> Result<String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("run.toml");
        std::fs::write(&path, text).expect("writes");
        let path = path.to_str().expect("a path");
        let arguments = arguments.split(' ').map(|part| part.replace("FILE", path).into()).collect();
        let joined: Vec<_> = with_file(&root(), arguments)?;
        Ok(joined.join(OsStr::new(" ")).into_string().expect("text"))
    }

    #[test]
    fn a_table_stands_in_front_of_the_users_flags_which_win() {
        let text =
            "[eval]\n[train]\nsteps = 20\npolicy_path = 'a b'\nresume = true\nset = {lr = 1e-3, x = 2}";
        for arguments in ["flowgpu train --config FILE --seed 3", "flowgpu --config=FILE train --seed 3"] {
            let all = read(text, arguments).expect("reads");
            let file = "--policy-path=a b --resume --set=lr=0.001 --set=x=2 --steps=20";
            assert_eq!(all, format!("flowgpu train {file} --seed 3"));
        }
        let all = read(text, "flowgpu train --config FILE --policy p --steps=1 --set y=1").expect("reads");
        assert_eq!(all, "flowgpu train --resume --policy p --steps=1 --set y=1");
        assert_eq!(read(text, "flowgpu eval --config FILE").expect("reads"), "flowgpu eval");
        assert_eq!(read(text, "flowgpu train --steps 1").expect("reads"), "flowgpu train --steps 1");
    }

    #[test]
    fn mistakes_are_named() {
        for (text, expected) in [
            ("[train]\nstepz = 1", "[train]: unknown key `stepz`: known are steps, policy"),
            ("[trian]\nsteps = 1", "unknown table `trian`: use a subcommand's name, train, eval"),
            ("train = 1", "`train` is no table"),
            ("[train]\nresume = 1", "[train]: `resume`: is 1: use true or false"),
            ("[train]\nset = {a = {b = 1}}", "`set`: is { a = { b = 1 } }: nest no tables"),
            ("[train\n", "no TOML"),
        ] {
            let error = read(text, "flowgpu train --config FILE").expect_err(text);
            assert!(error.to_string().contains(expected), "{error}");
            assert_eq!(error.exit_code(), 2);
        }
        let error = read("", "flowgpu train --config nowhere.toml").expect_err("no file");
        assert!(error.to_string().starts_with("--config nowhere.toml: cannot be read"), "{error}");
        assert!(read("", "flowgpu train --config").is_err());
    }
}
