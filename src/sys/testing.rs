//! Tests that need a process of their own (signals, locks and children are per process): the test
//! binary executes itself again in a role, and talks to it over a socket that is the role's stdin.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

#[path = "../../tests/common/support/skip.rs"]
mod skip;

pub use skip::{skip, unavailable};

const ROLE: &str = "PF_TEST_ROLE";
/// No step of any test takes longer than this; one that does is a hang, and fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Lines over a socket; every read has a time limit, so that a hang is a failure.
pub struct Talk(BufReader<UnixStream>);

impl Talk {
    fn over(stream: UnixStream) -> Talk {
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a read timeout");
        Talk(BufReader::new(stream))
    }

    pub fn say(&mut self, line: &str) {
        writeln!(self.0.get_mut(), "{line}").expect("the other side listens");
    }

    /// The next line; `None` once the other side has closed the socket.
    pub fn hear(&mut self) -> Option<String> {
        let mut line = String::new();
        let count = self
            .0
            .read_line(&mut line)
            .expect("a line within the limit");
        (count > 0).then(|| line.trim_end().to_owned())
    }
}

/// A process that plays one of the roles of [`role`].
pub struct Peer {
    pub child: Child,
    pub talk: Talk,
}

impl Peer {
    pub fn start(role: &str, words: &[&str]) -> Peer {
        Peer::start_under(&[], role, words)
    }

    /// Starts it under a command (`chain`) that executes what follows its own arguments.
    pub fn start_under(chain: &[&str], role: &str, words: &[&str]) -> Peer {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        let mut line: Vec<OsString> = chain.iter().map(OsString::from).collect();
        line.push(std::env::current_exe().expect("the test binary").into());
        let (program, arguments) = line.split_first().expect("never empty");
        let child = Command::new(program)
            .args(arguments)
            .args([
                "--exact",
                "sys::testing::role",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(ROLE, role)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()
            .expect("the test binary runs");
        let mut peer = Peer {
            child,
            talk: Talk::over(ours),
        };
        for word in words {
            peer.talk.say(word);
        }
        peer
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The process of the role runs this test.
#[test]
fn role() {
    let Ok(name) = std::env::var(ROLE) else {
        return;
    };
    let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned().expect("stdin"));
    let mut talk = Talk::over(stream);
    match name.as_str() {
        "interruptible" => super::signal::interruptible::tests::play(&mut talk),
        "control" => super::control::tests::play(&mut talk),
        "shared-accept" => super::listener::shared_accept::tests::play(&mut talk),
        "signals" => super::signal::handlers::tests::play(&mut talk),
        "spawn-and-kill" => super::process::spawn::tests::play(&mut talk),
        "orphans" => super::process::wait::tests::play(&mut talk),
        "fork-master" => super::process::fork_master::tests::play(&mut talk),
        "environment" => super::machine::environment::tests::play(&mut talk),
        "pidfile" => super::files::pidfile::tests::play(&mut talk),
        other => panic!("no role '{other}'"),
    }
}
