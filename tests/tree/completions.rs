//! The completions at work: Tab is pressed in a real bash and a real zsh, and fish is asked for
//! what it would offer.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::common::support::skip;
use crate::common::terminal::terminal;

const PROMPT: &str = "ready> ";

fn completions() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("completions")
}

fn verbs() -> Vec<String> {
    let command = prefork::cmd::ctl::command();
    let verbs = command.get_subcommands();
    verbs.map(|verb| verb.get_name().to_owned()).collect()
}

/// A shell on a terminal of its own, in which `pf-ctl` prints its arguments.
struct Shell {
    terminal: File,
    shell: Child,
    seen: String,
}

impl Shell {
    /// None: the shell is not installed.
    fn start(shell: &[&str], setup: &str) -> Option<Shell> {
        let (terminal, slave) = terminal();
        let copy = || Stdio::from(slave.try_clone().expect("a copy"));
        let child = Command::new("setsid")
            .arg("--ctty")
            .args(shell)
            .env("TERM", "dumb")
            .env("PS1", PROMPT)
            .stdin(copy())
            .stdout(copy())
            .stderr(copy())
            .spawn()
            .expect("setsid runs");
        let mut shell = Shell {
            terminal,
            shell: child,
            seen: String::new(),
        };
        drop(slave);
        shell.type_in(setup);
        // Not as it is echoed: with the quotes.
        shell.type_in("pf-ctl() { echo \"<$*>\"; }; echo up''here\n");
        let is_up = shell.reads("uphere");
        // The prompt that follows is the first of those that count.
        let end = shell.seen.rfind("uphere").unwrap_or_default();
        shell.seen.drain(..end);
        is_up.then_some(shell)
    }

    fn type_in(&mut self, keys: &str) {
        let written = self.terminal.write_all(keys.as_bytes());
        written.expect("the terminal takes it");
    }

    /// Reads until `wanted` has come; false at the end.
    fn reads(&mut self, wanted: &str) -> bool {
        let limit = Timespec {
            tv_sec: 60,
            tv_nsec: 0,
        };
        while !self.seen.contains(wanted) {
            let mut fds = [PollFd::from_borrowed_fd(
                self.terminal.as_fd(),
                PollFlags::IN,
            )];
            let ready = poll(&mut fds, Some(&limit)).expect("a poll");
            assert!(ready > 0, "no {wanted}: {}", self.seen);
            let mut chunk = [0; 4096];
            match self.terminal.read(&mut chunk) {
                Ok(0) | Err(_) => return false,
                Ok(length) => self.seen += &String::from_utf8_lossy(&chunk[..length]),
            }
        }
        true
    }

    /// Presses Tab after `line`, runs what stands there then, and expects it to be `completed`.
    #[track_caller]
    fn completes(&mut self, line: &str, completed: &str) {
        // The prompt: a Tab that is typed before it is no key for the shell's editor.
        assert!(self.reads(PROMPT), "{}", self.seen);
        self.seen.clear();
        self.type_in(&format!("pf-ctl {line}\t"));
        // A shell takes a Tab before other input for a Tab: so the completion comes first.
        assert!(self.reads(completed), "{}", self.seen);
        self.seen.clear();
        self.type_in("\n");
        assert!(self.reads(">\r\n"), "{}", self.seen);
        let ran = format!("<{completed}>");
        assert!(self.seen.contains(&ran), "{line}: {}", self.seen);
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

fn every_verb_completes(mut shell: Shell) {
    for verb in verbs() {
        shell.completes(
            &format!("{verb} app.pid --js"),
            &format!("{verb} app.pid --json"),
        );
    }
    shell.completes("stop app.pid --ki", "stop app.pid --kill");
    shell.completes("reload app.pid --tim", "reload app.pid --timeout");
}

#[test]
fn tab_in_bash_completes_the_options_of_every_verb() {
    let setup = format!("source {}\n", completions().join("pf-ctl.bash").display());
    match Shell::start(&["bash", "--norc", "--noprofile", "-i"], &setup) {
        Some(shell) => every_verb_completes(shell),
        None => skip("no bash"),
    }
}

#[test]
fn tab_in_zsh_completes_the_options_of_every_verb() {
    let setup = format!(
        "fpath=({} $fpath); autoload -U compinit; compinit -D -u\n",
        completions().display()
    );
    match Shell::start(&["zsh", "-f", "-i"], &setup) {
        Some(shell) => every_verb_completes(shell),
        None => skip("no zsh"),
    }
}

#[test]
fn fish_offers_the_options_of_every_verb() {
    for verb in verbs() {
        let script = format!(
            "source {}; complete -C 'pf-ctl {verb} app.pid --js'",
            completions().join("pf-ctl.fish").display()
        );
        match Command::new("fish").args(["-N", "-c", &script]).output() {
            Err(error) => return skip(&format!("no fish: {error}")),
            Ok(output) => {
                let offered = String::from_utf8_lossy(&output.stdout).into_owned();
                assert!(offered.contains("--json"), "{verb}: {output:?}");
            }
        }
    }
}
