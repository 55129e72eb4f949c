//! What `reload` changes: options, and the new command after `--`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use crate::driver::pin::is_ours;
use crate::error::{Error, Result};
use crate::wire::changes::Changes;

#[derive(Debug, clap::Args)]
pub(super) struct ChangeArgs {
    /// Set a variable of the workers' environment from now on; repeatable
    ///
    /// It overrides --env and the master's own environment.
    #[arg(long, value_name = "K=V")]
    pub set: Vec<OsString>,

    /// Remove a variable from the workers' environment from now on; repeatable
    ///
    /// It does not matter what set the variable: the master's own environment, --env or --set.
    #[arg(long, value_name = "K")]
    pub unset: Vec<OsString>,

    /// The workers' directory from now on; relative to where the master was started
    #[arg(long, value_name = "D")]
    pub chdir: Option<OsString>,

    /// The worker command from now on
    #[arg(last = true, value_name = "NEWCOMMAND")]
    pub command: Vec<OsString>,
}

impl ChangeArgs {
    /// The options as one value. If a variable is set several times, the last one counts.
    ///
    /// # Errors
    /// Exit 2: the changes are wrong for every master.
    pub(super) fn read(&self) -> Result<Changes> {
        let mut changes = Changes::default();
        for setting in &self.set {
            let bytes = setting.as_bytes();
            let equals = bytes.iter().position(|byte| *byte == b'=');
            let (name, value) = equals
                .map(|at| (&bytes[..at], &bytes[at + 1..]))
                .ok_or_else(|| wrong("--set", setting, "a variable is written K=V"))?;
            let name = variable_name("--set", OsStr::from_bytes(name))?;
            changes.set.insert(name, OsStr::from_bytes(value).into());
        }
        for name in &self.unset {
            changes.unset.insert(variable_name("--unset", name)?);
        }
        changes.chdir = self.chdir.as_deref().map(Into::into);
        // clap cannot tell `--` at the end from no `--` at all.
        if self.command.is_empty() && std::env::args_os().next_back().is_some_and(|it| it == "--") {
            return Err(Error::usage("nothing stands after --")
                .hint("write the new worker command there, or leave -- out to keep the command"));
        }
        if !self.command.is_empty() {
            let words = self.command.iter();
            changes.command = Some(words.map(|word| word.as_os_str().into()).collect());
        }
        changes.check(is_ours).map_err(Error::usage)?;
        Ok(changes)
    }
}

fn variable_name(option: &str, name: &OsStr) -> Result<String> {
    let text = name.to_str().map(str::to_owned);
    text.ok_or_else(|| wrong(option, name, "the name of a variable is text in UTF-8"))
}

fn wrong(option: &str, value: &OsStr, why: &str) -> Error {
    Error::usage(format!("{option} {}: {why}", value.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: ChangeArgs,
    }

    fn read(words: &[&str]) -> Result<Changes> {
        let words = std::iter::once("reload").chain(words.iter().copied());
        Line::try_parse_from(words).expect("parsed").args.read()
    }

    #[test]
    fn the_options_become_one_value() {
        let words = [
            "--set", "A=1=2", "--set", "B=", "--set", "A=3", "--unset", "C", "--chdir", "new",
            "--", "./app", "--unset", "D",
        ];
        let expected: Changes = serde_json::from_str(
            r#"{"set":{"A":"3","B":""},"unset":["C"],"chdir":"new","command":["./app","--unset","D"]}"#,
        )
        .expect("changes");
        assert_eq!(read(&words), Ok(expected));
        assert_eq!(read(&[]), Ok(Changes::default()));
    }

    #[test]
    fn wrong_changes_are_usage_errors() {
        for words in [
            &["--set", "A"][..],
            &["--set", "=1"],
            &["--unset", "A=1"],
            &["--unset", ""],
            &["--set", "PF_WORKER=1"],
            &["--unset", "LISTEN_FDS"],
            &["--set", "A=1", "--unset", "A"],
            &["--chdir", ""],
            &["--", ""],
        ] {
            let error = read(words).expect_err("refused");
            assert_eq!(error.exit, crate::error::Exit::Usage, "{words:?}");
            assert!(!error.to_string().contains('\n'), "{words:?}");
        }
    }
}
