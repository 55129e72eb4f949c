//! A `pf-accept` that runs behind a `pf-listen`, and its clients.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use prefork::sys::machine::clock;
use tempfile::TempDir;

use crate::common::service::{HANG, end_of, process, until};

/// A handler that says its pid and then gives back what it gets.
pub(super) const ECHO: &[&str] = &["sh", "-c", "echo $$; exec cat"];

/// One to be started.
pub(super) struct Start {
    dir: TempDir,
    wrapped_in: Vec<OsString>,
    address: String,
    options: Vec<String>,
    environment: Vec<(String, String)>,
}

/// A running one.
pub(super) struct Accept {
    child: Child,
    dir: TempDir,
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

impl Start {
    /// With these options, split at blanks, at a port of 127.0.0.1 and at a Unix socket.
    pub(super) fn with(options: &str) -> Start {
        Start {
            dir: tempfile::tempdir().expect("a directory"),
            wrapped_in: Vec::new(),
            address: "127.0.0.1:0".to_owned(),
            options: words(options),
            environment: Vec::new(),
        }
    }

    /// At another address than 127.0.0.1.
    pub(super) fn at(mut self, address: &str) -> Start {
        address.clone_into(&mut self.address);
        self
    }

    /// Started by these words, which execute what follows them.
    pub(super) fn wrapped_in(mut self, words: &[&str]) -> Start {
        self.wrapped_in = words.iter().map(OsString::from).collect();
        self
    }

    pub(super) fn env(mut self, name: &str, value: &str) -> Start {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it with this handler, and waits until it accepts.
    #[track_caller]
    pub(super) fn handler(self, handler: &[&str]) -> Accept {
        let log = File::create(self.dir.path().join("log")).expect("a log");
        let mut line = self.wrapped_in.clone();
        line.push(env!("CARGO_BIN_EXE_pf-listen").into());
        line.push("--port-file".into());
        line.push(self.dir.path().join("ports").into());
        line.push(self.address.clone().into());
        line.push(self.dir.path().join("socket").into());
        line.extend(["--".into(), env!("CARGO_BIN_EXE_pf-accept").into()]);
        if !self.options.iter().any(|option| option == "-q") {
            line.push("-v".into());
        }
        line.extend(self.options.iter().map(OsString::from));
        line.push("--".into());
        line.extend(handler.iter().map(OsString::from));
        let mut command = Command::new(&line[0]);
        command
            .args(&line[1..])
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let accept = Accept {
            child: command.spawn().expect("pf-listen starts"),
            dir: self.dir,
        };
        // The signal handlers are installed before the listeners are checked.
        until("it accepts", || {
            accept.ports().contains("tcp:").then_some(())
        });
        until("it is pf-accept", || {
            (process::name(accept.pid()) == "pf-accept").then_some(())
        });
        until("it hears signals", || {
            process::exists(accept.pid()).then_some(())?;
            let caught = process::status(accept.pid(), "SigCgt");
            let caught = u64::from_str_radix(&caught, 16).expect("a mask");
            // TERM and CHLD, and the alarm's, which comes last.
            let all = 1 << 14 | 1 << 16 | 1 << 13;
            (caught & all == all).then_some(())
        });
        accept
    }
}

impl Accept {
    /// With these options and this handler.
    #[track_caller]
    pub(super) fn start(options: &str, handler: &[&str]) -> Accept {
        Start::with(options).handler(handler)
    }

    pub(super) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid")
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn ports(&self) -> String {
        fs::read_to_string(self.path("ports")).unwrap_or_default()
    }

    pub(super) fn tcp(&self) -> SocketAddr {
        let ports = self.ports();
        let at = ports.lines().find_map(|line| line.strip_prefix("- tcp:"));
        let mut at: SocketAddr = at.expect("a port").parse().expect("an address");
        if at.ip().is_unspecified() {
            at.set_ip(std::net::Ipv6Addr::LOCALHOST.into());
        }
        at
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Waits until the log contains this text.
    #[track_caller]
    pub(super) fn wait_for_log(&self, text: &str) {
        until(&format!("'{text}' in the log"), || {
            self.log().contains(text).then_some(())
        });
    }

    pub(super) fn signal(&self, signal: Signal) {
        process::signal(self.pid(), signal);
    }

    /// Everything that it has begun and that runs.
    pub(super) fn begun(&self) -> Vec<i32> {
        let all = process::descendants(self.pid());
        let live = |state: char| !matches!(state, 'Z' | 'X');
        all.into_iter()
            .filter(|(_, state)| live(*state))
            .map(|(pid, _)| pid)
            .collect()
    }

    /// Waits until no process that it started runs, and none waits to be reaped.
    #[track_caller]
    pub(super) fn wait_for_sleep(&self) {
        until("the end of all handlers", || {
            process::descendants(self.pid()).is_empty().then_some(())
        });
    }

    /// Waits for its end; the exit code.
    #[track_caller]
    pub(super) fn end(&mut self) -> Option<i32> {
        end_of(&mut self.child, "pf-accept").code()
    }

    pub(super) fn runs(&mut self) -> bool {
        self.child.try_wait().expect("our own child").is_none()
    }

    #[track_caller]
    pub(super) fn dial(&self) -> Client {
        Client::over_tcp(self.tcp())
    }

    #[track_caller]
    pub(super) fn dial_unix(&self) -> Client {
        let stream = UnixStream::connect(self.path("socket")).expect("a connection");
        stream.set_read_timeout(Some(HANG)).expect("a timeout");
        let other = stream.try_clone().expect("a copy");
        Client {
            tcp: None,
            reader: BufReader::new(Box::new(other)),
            writer: Box::new(stream),
        }
    }
}

impl Drop for Accept {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "pf-accept has said:\n{}", self.log());
        }
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        // A stopped process starts nothing more.
        self.signal(Signal::SIGSTOP);
        for pid in self.begun() {
            process::signal(pid, Signal::SIGKILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection.
pub(super) struct Client {
    tcp: Option<TcpStream>,
    reader: BufReader<Box<dyn Read>>,
    writer: Box<dyn Write>,
}

impl Client {
    #[track_caller]
    pub(super) fn over_tcp(at: SocketAddr) -> Client {
        let stream = TcpStream::connect_timeout(&at, HANG).expect("a connection");
        stream.set_read_timeout(Some(HANG)).expect("a timeout");
        let other = stream.try_clone().expect("a copy");
        let third = stream.try_clone().expect("a copy");
        Client {
            tcp: Some(third),
            reader: BufReader::new(Box::new(other)),
            writer: Box::new(stream),
        }
    }

    #[track_caller]
    pub(super) fn say(&mut self, line: &str) {
        self.writer
            .write_all(format!("{line}\n").as_bytes())
            .expect("written");
    }

    /// The next line; None at the end.
    #[track_caller]
    pub(super) fn hear(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            // It was closed with something unread.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            read => (read.expect("a line in time") > 0).then(|| line.trim_end().to_owned()),
        }
    }

    /// Whether nothing comes for so long.
    pub(super) fn is_silent_for(&mut self, time: Duration) -> bool {
        use std::io::ErrorKind::{Interrupted, WouldBlock};
        let until = clock::now() + time;
        let heard = loop {
            let left = until.since(clock::now());
            if left.is_zero() {
                break None;
            }
            self.stream().set_read_timeout(Some(left)).expect("set");
            match self.stream().peek(&mut [0]) {
                // A read with a timeout is also interrupted by a stop and continue of this process
                // (signal(7)); nothing was read.
                Err(error) if matches!(error.kind(), Interrupted | WouldBlock) => {}
                heard => break Some(heard),
            }
        };
        self.stream().set_read_timeout(Some(HANG)).expect("set");
        heard.is_none()
    }

    /// The handler's pid, which it says first.
    #[track_caller]
    pub(super) fn pid(&mut self) -> i32 {
        let line = self.hear().expect("a greeting");
        line.parse().expect("a pid")
    }

    /// Closes its sending side, and reads the rest.
    #[track_caller]
    pub(super) fn rest(mut self) -> String {
        if let Some(tcp) = &self.tcp {
            // The other side may have closed already.
            let _ = tcp.shutdown(Shutdown::Write);
        }
        let mut text = String::new();
        self.reader.read_to_string(&mut text).expect("the end");
        text
    }

    pub(super) fn stream(&self) -> &TcpStream {
        self.tcp.as_ref().expect("over TCP")
    }
}
