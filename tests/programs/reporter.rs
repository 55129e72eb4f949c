//! This test program as the COMMAND of `pf-listen`: it reports what it was given as a line of JSON.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::process::Command;

use nix::libc;
use nix::sys::socket::GetSockOpt;
use nix::{getsockopt_impl, sockopt_impl};
use prefork::sys::io::fd;
use prefork::sys::listener::Listener;
use serde_json::{Value, json};
use socket2::SockRef;

use crate::common::running::{MARK, finished, pf_listen};

sockopt_impl!(
    TcpFastOpen,
    GetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_FASTOPEN,
    libc::c_int
);
sockopt_impl!(
    TcpDeferAccept,
    GetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_DEFER_ACCEPT,
    libc::c_int
);
sockopt_impl!(
    TcpInfo,
    GetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_INFO,
    libc::tcp_info
);

/// A COMMAND that reports.
pub fn reporter() -> Vec<OsString> {
    let program = std::env::current_exe().expect("the test program's path");
    let args = [
        "--exact",
        "reporter::report",
        "--nocapture",
        "--test-threads=1",
    ];
    std::iter::once(program.into_os_string())
        .chain(args.map(OsString::from))
        .collect()
}

/// `pf-listen ARGS -- reporter`
pub fn listen_and_report<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(pf_listen());
    command.args(args).arg("--").args(reporter());
    command
}

/// A shell script between two programs; in it, `$LISTEN` is `pf-listen` and `"$@"` the reporter.
pub fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", script, "sh"])
        .args(reporter())
        .env("LISTEN", pf_listen());
    command
}

/// The role of the COMMAND; without its name among the arguments it does nothing.
#[test]
fn report() {
    if !std::env::args().any(|arg| arg == "reporter::report") {
        return;
    }
    let variables: BTreeMap<String, String> = std::env::vars()
        .filter(|(key, _)| key.starts_with("LISTEN_"))
        .collect();
    let report = json!({
        "pid": std::process::id(),
        "env": variables,
        "fds": open_descriptors(),
        "listeners": listeners(),
        "cwd": std::env::current_dir().expect("a directory"),
    });
    let mut stdout = std::io::stdout();
    writeln!(stdout, "\n{MARK}{report}")
        .and_then(|()| stdout.flush())
        .expect("a reader");
    // A test that needs the listeners longer keeps our standard input open.
    std::io::stdin()
        .read_to_end(&mut vec![])
        .expect("standard input");
}

fn open_descriptors() -> Value {
    let entries = std::fs::read_dir("/proc/self/fd").expect("/proc");
    let told = entries.flatten().filter_map(|entry| {
        let target = std::fs::read_link(entry.path()).ok()?;
        let own = target.starts_with("/proc") && target.ends_with("fd");
        (!own).then(|| {
            (
                entry.file_name().to_string_lossy().into_owned(),
                json!(target),
            )
        })
    });
    Value::Object(told.collect())
}

fn listeners() -> Value {
    let count = std::env::var("LISTEN_FDS")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(0);
    (3..3 + count).map(describe).collect()
}

fn describe(number: i32) -> Value {
    let copy = fd::duplicate(number).expect("open");
    let flags = nix::fcntl::fcntl(&copy, nix::fcntl::FcntlArg::F_GETFL).expect("flags");
    let listener = Listener::inspect(copy, None, None, "fd").expect("a socket");
    let socket = SockRef::from(&listener.fd);
    let device = socket.device().ok().flatten();
    json!({
        "address": listener.address.to_string(),
        "inode": listener.inode(),
        "type": i32::from(socket.r#type().expect("a type")),
        "accepts": nix::sys::socket::sockopt::AcceptConn.get(&listener.fd).ok(),
        "cloexec": !fd::survives_exec(number),
        "nonblock": flags & libc::O_NONBLOCK != 0,
        "reuseaddr": socket.reuse_address().ok(),
        "reuseport": socket.reuse_port().ok(),
        "v6only": socket.only_v6().ok(),
        "nodelay": socket.tcp_nodelay().ok(),
        "keepalive": socket.keepalive().ok(),
        "fastopen": TcpFastOpen.get(&listener.fd).ok(),
        "defer-accept": TcpDeferAccept.get(&listener.fd).ok(),
        "backlog": TcpInfo.get(&listener.fd).ok().map(|info| info.tcpi_sacked),
        "rcvbuf": socket.recv_buffer_size().ok(),
        "sndbuf": socket.send_buffer_size().ok(),
        "freebind": socket.freebind_v4().ok(),
        "device": device.map(|name| String::from_utf8_lossy(&name).into_owned()),
        "mark": socket.mark().ok(),
    })
}

/// Runs `command` to its end, as far as its report.
pub fn reported(command: Command) -> Value {
    let (code, out, errors) = finished(command);
    let report = out
        .split_once(MARK)
        .and_then(|(_, report)| report.lines().next());
    match report {
        Some(report) => serde_json::from_str(report).expect("JSON"),
        None => panic!("no report, exit code {code}: {errors}"),
    }
}

/// The report's addresses, in order.
pub fn addresses(report: &Value) -> Vec<String> {
    let listeners = report["listeners"].as_array().expect("listeners");
    listeners
        .iter()
        .map(|listener| listener["address"].as_str().expect("an address").to_owned())
        .collect()
}

/// The report's inodes, in order.
pub fn inodes(report: &Value) -> Vec<u64> {
    let listeners = report["listeners"].as_array().expect("listeners");
    listeners
        .iter()
        .map(|listener| listener["inode"].as_u64().expect("an inode"))
        .collect()
}
