//! What a handler gets: its descriptors, its environment, its signals, and nothing else.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use super::support::{Accept, Client, ECHO, Start};
use crate::common::service::{HANG, process, until};
use crate::common::support::{ports, skip};

#[test]
fn a_handler_inherits_only_its_connection_and_stderr() {
    // A descriptor that leaked into this process, and signals that were ignored at its start.
    let leak = r#"trap '' USR1 USR2 PIPE TERM; exec 9</dev/null; exec "$@""#;
    let mut start = Start::with("-c 4").wrapped_in(&["sh", "-c", leak, "sh"]);
    for stale in [
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
        "PF_HEARTBEAT_FD",
        "PF_WORKER",
        "PF_GENERATION",
        "PF_MASTER_PID",
        "EINHORN_FD_COUNT",
        "EINHORN_FD_0",
        "SERVER_STARTER_PORT",
        "UNICORN_FD",
        "NGINX",
        "FPM_SOCKETS",
        "TCPREMOTEHOST",
        "TCPREMOTEINFO",
        "TCP6REMOTEIP",
        "UNIXREMOTEEUID",
    ] {
        start = start.env(stale, "stale");
    }
    let accept = start
        .env("PF_RELEASE", "7")
        .env("MINE", "yes")
        .handler(ECHO);
    let mut client = accept.dial();
    let pid = client.pid();
    process::wait_for_sleep_of(pid, "cat");

    let fds = process::descriptors(pid);
    let log = accept.path("log").display().to_string();
    let wanted: BTreeMap<i32, String> = [(0, "socket"), (1, "socket"), (2, &log)]
        .map(|(fd, what)| (fd, what.to_owned()))
        .into();
    assert_eq!(fds, wanted);

    for field in ["SigBlk", "SigIgn", "SigPnd", "ShdPnd"] {
        assert_eq!(process::status(pid, field), "0000000000000000", "{field}");
    }
    assert_eq!(process::status(pid, "SigCgt"), "0000000000000000");

    let environment = process::environment(pid);
    let remote = client.stream().local_addr().expect("connected");
    let (local, port) = (accept.tcp().port().to_string(), remote.port().to_string());
    let ours = |name: &str| {
        [
            "LISTEN", "PF_", "NOTIFY", "WATCHDOG", "TCP", "UNIX", "EINHORN",
        ]
        .iter()
        .any(|begin| name.starts_with(begin))
            || [
                "PROTO",
                "MINE",
                "NGINX",
                "FPM_SOCKETS",
                "SERVER_STARTER_PORT",
            ]
            .contains(&name)
    };
    let told: Vec<(&str, &str)> = environment
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        // But for what tells this suite where skipped tests are noted down.
        .filter(|(name, _)| ours(name) && *name != "PF_SKIPPED_FILE")
        .collect();
    assert_eq!(
        told,
        [
            ("MINE", "yes"),
            ("PF_RELEASE", "7"),
            ("PROTO", "TCP"),
            ("TCPLOCALIP", "127.0.0.1"),
            ("TCPLOCALPORT", &local),
            ("TCPREMOTEIP", "127.0.0.1"),
            ("TCPREMOTEPORT", &port),
        ]
    );
    // Its own group, so that it can be ended with its children; and our session.
    let stat = |pid| procfs::process::Process::new(pid).and_then(|process| process.stat());
    let (handler, ours) = (
        stat(pid).expect("it lives"),
        stat(accept.pid()).expect("so do we"),
    );
    assert_eq!((handler.pgrp, handler.session), (pid, ours.session));
    assert_eq!(handler.ppid, accept.pid());
    client.say("and it serves");
    assert_eq!(client.hear().as_deref(), Some("and it serves"));
}

/// The variables that a handler prints.
fn printed(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| line.split_once('='))
        .filter(|(name, _)| *name == "PROTO" || name.starts_with("TCP") || name.starts_with("UNIX"))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

const PRINT: &[&str] = &["sh", "-c", "echo own=$$; env"];

#[test]
fn the_environment_names_ipv6_and_mapped_ipv4_clients() {
    let accept = Start::with("-c 4").at("tcp:0").handler(PRINT);
    let port = accept.tcp().port();
    let told = |ip: &str| {
        let at = std::net::SocketAddr::new(ip.parse().expect("an address"), port);
        let client = Client::over_tcp(at);
        let remote = client.stream().local_addr().expect("connected").port();
        (printed(&client.rest()), remote.to_string())
    };
    let Ok(_) = std::net::TcpListener::bind("[::1]:0") else {
        return crate::common::support::unavailable("IPv6");
    };
    let local = port.to_string();
    for (ip, proto, six) in [
        ("::1", "TCP6", "::1"),
        ("127.0.0.1", "TCP", "::ffff:127.0.0.1"),
    ] {
        let (told, remote) = told(ip);
        let wanted: BTreeMap<String, String> = [
            ("PROTO", proto),
            ("TCPLOCALIP", ip),
            ("TCPLOCALPORT", &local),
            ("TCPREMOTEIP", ip),
            ("TCPREMOTEPORT", &remote),
            ("TCP6LOCALIP", six),
            ("TCP6LOCALPORT", &local),
            ("TCP6REMOTEIP", six),
            ("TCP6REMOTEPORT", &remote),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        assert_eq!(told, wanted);
    }
}

#[test]
fn the_environment_names_the_client_of_a_unix_socket() {
    let accept = Accept::start("", PRINT);
    let mut client = accept.dial_unix();
    let own = client.hear().expect("its pid");
    let told = printed(&client.rest());
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let path = accept.path("socket").display().to_string();
    let wanted: BTreeMap<String, String> = [
        ("PROTO", "UNIX".to_owned()),
        ("UNIXLOCALPATH", path),
        ("UNIXLOCALUID", uid.to_string()),
        ("UNIXLOCALGID", gid.to_string()),
        ("UNIXLOCALPID", own.replace("own=", "")),
        ("UNIXREMOTEEUID", uid.to_string()),
        ("UNIXREMOTEEGID", gid.to_string()),
        ("UNIXREMOTEPID", std::process::id().to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    assert_eq!(told, wanted);
}

#[test]
fn the_environment_is_tcpservers() {
    let accept = Accept::start("", PRINT);
    let ours = printed(&accept.dial().rest());
    let at = std::net::SocketAddr::from(([127, 0, 0, 1], ports(1)));
    let peer = Command::new("tcpserver")
        .args(["-HRl0", "127.0.0.1", &at.port().to_string()])
        .args(PRINT)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut peer = match peer {
        Ok(peer) => peer,
        Err(error) => return skip(&format!("no tcpserver: {error}")),
    };
    let connected = until("tcpserver accepts", || {
        std::net::TcpStream::connect_timeout(&at, HANG).ok()
    });
    let theirs = std::io::read_to_string(connected).expect("read");
    peer.kill().expect("our own");
    peer.wait().expect("our own");
    let mut theirs = printed(&theirs);
    // What -l says, in place of a look-up.
    assert_eq!(theirs.remove("TCPLOCALHOST").as_deref(), Some("0"));
    let but_ports = |all: BTreeMap<String, String>| -> Vec<(String, String)> {
        let fixed = |(name, value): (String, String)| {
            let value = if name.ends_with("PORT") {
                String::new()
            } else {
                value
            };
            (name, value)
        };
        all.into_iter().map(fixed).collect()
    };
    assert_eq!(but_ports(ours), but_ports(theirs));
}
