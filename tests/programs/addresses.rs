//! Each form of address and each option: what comes out of it is read back from the socket.

use serde_json::{Value, json};

use crate::common::running::{directory, finished, is_root};
use crate::reporter::{addresses, listen_and_report, reported, shell};

/// The one listener of `pf-listen ADDRESS`.
fn listener(address: &str) -> Value {
    let report = reported(listen_and_report([address]));
    assert_eq!(report["env"]["LISTEN_FDS"], "1", "{address}");
    report["listeners"][0].clone()
}

fn refused(args: &[&str]) -> String {
    let (code, out, errors) = finished(listen_and_report(args));
    assert_eq!((code, out.as_str()), (2, ""), "{args:?}: {errors}");
    errors
}

#[test]
fn u2_each_form_of_a_tcp_address() {
    for address in ["tcp:127.0.0.1:0", "127.0.0.1:0"] {
        let found = listener(address);
        let at = found["address"].as_str().unwrap_or_default();
        assert!(
            at.starts_with("tcp:127.0.0.1:") && !at.ends_with(":0"),
            "{found}"
        );
        assert_eq!(
            (&found["type"], &found["accepts"], &found["reuseaddr"]),
            (&json!(1), &json!(true), &json!(true))
        );
        assert_eq!(
            (&found["cloexec"], &found["nonblock"]),
            (&json!(false), &json!(false))
        );
    }
    let found = listener("[::1]:0");
    assert!(
        found["address"]
            .as_str()
            .is_some_and(|at| at.starts_with("tcp:[::1]:")),
        "{found}"
    );
    for address in ["tcp:0", ":0", "0"] {
        let found = listener(address);
        assert!(
            found["address"]
                .as_str()
                .is_some_and(|at| at.starts_with("tcp:[::]:")),
            "{found}"
        );
        assert_eq!(found["v6only"], false, "one socket for IPv6 and IPv4");
    }
}

#[test]
fn u2_each_form_of_a_udp_address() {
    for (address, start) in [
        ("udp:127.0.0.1:0", "udp:127.0.0.1:"),
        ("udp:[::1]:0", "udp:[::1]:"),
        ("udp:0", "udp:[::]:"),
        ("udp::0", "udp:[::]:"),
    ] {
        let found = listener(address);
        assert!(
            found["address"]
                .as_str()
                .is_some_and(|at| at.starts_with(start) && !at.ends_with(":0")),
            "{found}"
        );
        assert_eq!(
            (&found["type"], &found["accepts"]),
            (&json!(2), &json!(false))
        );
    }
}

#[test]
fn u2_each_form_of_a_unix_address() {
    let (_guard, directory) = directory();
    let at = |name: &str| directory.join(name).display().to_string();
    for (address, expected, kind, accepts) in [
        (at("a"), format!("unix:{}", at("a")), 1, true),
        (
            format!("unix:{}", at("b")),
            format!("unix:{}", at("b")),
            1,
            true,
        ),
        (
            format!("unixgram:{}", at("c")),
            format!("unixgram:{}", at("c")),
            2,
            false,
        ),
        (
            format!("unixseq:{}", at("d")),
            format!("unixseq:{}", at("d")),
            5,
            true,
        ),
        (at("e\\,f=g"), format!("unix:{}", at("e\\,f=g")), 1, true),
    ] {
        let found = listener(&address);
        assert_eq!(
            (&found["address"], &found["type"], &found["accepts"]),
            (&json!(expected), &json!(kind), &json!(accepts)),
            "{address}"
        );
    }
    assert!(directory.join("e,f=g").exists());
    // From the root, so that it stays true in another working directory.
    let mut relative = listen_and_report(["./r"]);
    relative.current_dir(&directory);
    assert_eq!(
        addresses(&reported(relative)),
        [format!("unix:{}", at("r"))]
    );
}

#[test]
#[cfg(target_os = "linux")]
fn u2_abstract_and_vsock_addresses() {
    let name = format!("pf-tools-test-{}", std::process::id());
    let found = listener(&format!("@{name}"));
    assert_eq!(
        (&found["address"], &found["type"]),
        (&json!(format!("unix:@{name}")), &json!(1))
    );
    let found = listener(&format!("unixgram:@{name}"));
    assert_eq!(
        (&found["address"], &found["type"]),
        (&json!(format!("unixgram:@{name}")), &json!(2))
    );
    let (code, out, errors) = finished(listen_and_report(["vsock::0"]));
    if code == 0 {
        assert!(out.contains("\"address\":\"vsock::"), "{out}");
    } else {
        // A kernel without vsock.
        assert!(
            code == 111
                && errors
                    .starts_with("pf-listen: cannot bind vsock::0: Address family not supported"),
            "{code}: {errors}"
        );
    }
}

#[test]
fn an_open_descriptor_is_moved_to_its_place() {
    // The inner one finds the socket of the outer one as fd 9 alone.
    let script = r#"exec "$LISTEN" 127.0.0.1:0 -- sh -c 'exec 9<&3 3<&-
        unset LISTEN_FDS; exec "$LISTEN" x=fd:9,nodelay -- "$@"' sh "$@""#;
    let report = reported(shell(script));
    assert_eq!(report["env"]["LISTEN_FDNAMES"], "x");
    assert!(addresses(&report)[0].starts_with("tcp:127.0.0.1:"));
    assert_eq!(report["listeners"][0]["nodelay"], true);
    assert_eq!(report["fds"]["9"], Value::Null, "it is not open twice");
    let (code, _, errors) = finished(listen_and_report(["fd:77"]));
    assert_eq!(
        (code, errors.as_str()),
        (111, "pf-listen: cannot take over fd 77: it is not open\n")
    );
    let (code, _, errors) = finished(shell(r#"exec "$LISTEN" fd:9 -- "$@" 9</dev/null"#));
    assert_eq!(
        (code, errors.as_str()),
        (
            111,
            "pf-listen: cannot use fd 9 as a listener: it is not a socket\n"
        )
    );
    // A number that a socket bound in the same run would get is not mistaken for it.
    let (code, _, errors) = finished(shell(
        r#"exec 3<&-; exec "$LISTEN" 127.0.0.1:0 fd:3 -- "$@""#,
    ));
    assert_eq!(
        (code, errors.as_str()),
        (111, "pf-listen: cannot take over fd 3: it is not open\n")
    );
}

#[test]
fn a_service_has_its_port() {
    let (code, out, errors) = finished(listen_and_report(["127.0.0.1:no-such-service"]));
    assert_eq!((code, out.as_str()), (111, ""));
    assert!(
        errors.starts_with("pf-listen: cannot find the port of service 'no-such-service': "),
        "{errors}"
    );
    let table = std::fs::read_to_string("/etc/services").unwrap_or_default();
    // A port that needs no privilege, and is probably free here.
    let Some(port) = prefork::wire::services::port(&table, "ircd", "tcp") else {
        return;
    };
    let (code, out, errors) = finished(listen_and_report(["127.0.0.1:ircd", "--tries", "0"]));
    let expected = format!("tcp:127.0.0.1:{port}");
    assert!(
        if code == 0 {
            out.contains(&expected)
        } else {
            errors.contains(&expected)
        },
        "{out}{errors}"
    );
}

#[test]
fn each_option_of_tcp_is_set() {
    for (option, key, expected) in [
        ("backlog=7", "backlog", json!(7)),
        ("reuseport", "reuseport", json!(true)),
        ("nodelay", "nodelay", json!(true)),
        ("keepalive", "keepalive", json!(true)),
        ("fastopen=9", "fastopen", json!(9)),
        ("freebind", "freebind", json!(true)),
        ("nonblock", "nonblock", json!(true)),
        // The kernel tells double of what it is given.
        ("rcvbuf=16K", "rcvbuf", json!(32768)),
        ("sndbuf=16K", "sndbuf", json!(32768)),
        ("device=lo", "device", json!("lo")),
    ] {
        assert_ne!(listener("127.0.0.1:0")[key], expected, "without {option}");
        assert_eq!(
            listener(&format!("127.0.0.1:0,{option}"))[key],
            expected,
            "{option}"
        );
    }
    let patience = listener("127.0.0.1:0,defer-accept=5s")["defer-accept"]
        .as_i64()
        .unwrap_or_default();
    assert!(
        patience >= 5,
        "the kernel rounds up to a retransmission: {patience}"
    );
    let found = listener("[::]:0,v6only");
    assert_eq!(found["v6only"], true);
    // An address for documentation, which no host has (RFC 5737).
    assert!(
        listener("192.0.2.7:0,freebind")["address"]
            .as_str()
            .is_some_and(|at| at.starts_with("tcp:192.0.2.7:"))
    );
}

#[test]
fn a_mark_is_set_or_the_missing_capability_named() {
    let (code, out, errors) = finished(listen_and_report(["127.0.0.1:0,mark=0x10"]));
    if code == 0 {
        assert!(out.contains("\"mark\":16"), "{out}");
    } else {
        let expected = "cannot set mark on tcp:127.0.0.1:0: \
                        Operation not permitted (it needs a capability";
        assert!(code == 111 && errors.contains(expected), "{errors}");
    }
}

#[test]
fn options_of_other_families_are_set() {
    let (_guard, directory) = directory();
    let path = directory.join("a").display().to_string();
    let found = listener("udp:127.0.0.1:0,reuseport,freebind,nonblock,rcvbuf=16K");
    assert_eq!(
        (
            &found["reuseport"],
            &found["freebind"],
            &found["nonblock"],
            &found["rcvbuf"]
        ),
        (&json!(true), &json!(true), &json!(true), &json!(32768))
    );
    let found = listener(&format!("{path},sndbuf=16K,nonblock,backlog=3"));
    assert_eq!(
        (&found["sndbuf"], &found["nonblock"]),
        (&json!(32768), &json!(true))
    );
}

#[test]
fn copies_share_an_address_and_have_own_names() {
    let report = reported(listen_and_report([
        "web=127.0.0.1:0,copies=3",
        "127.0.0.1:0,copies=2",
    ]));
    assert_eq!(
        report["env"]["LISTEN_FDNAMES"],
        "web.0:web.1:web.2:unknown:unknown"
    );
    let found = addresses(&report);
    assert!(
        found[0] == found[1]
            && found[1] == found[2]
            && found[3] == found[4]
            && found[0] != found[3],
        "{found:?}"
    );
    assert!(
        report["listeners"]
            .as_array()
            .is_some_and(|all| all.iter().all(|one| one["reuseport"] == true))
    );
    let mut inodes = crate::reporter::inodes(&report);
    inodes.dedup();
    assert_eq!(inodes.len(), 5);
}

#[test]
fn an_unfit_option_is_a_usage_error() {
    for (address, option) in [
        ("udp:0", "backlog=3"),
        ("udp:0", "nodelay"),
        ("127.0.0.1:0", "v6only"),
        ("127.0.0.1:0", "mode=0600"),
        ("@a", "owner=root"),
        ("/nonexistent/a", "reuseport"),
        ("unixgram:/nonexistent/a", "backlog=1"),
        ("vsock::1", "copies=2"),
        ("fd:3", "copies=2"),
    ] {
        let key = option.split('=').next().unwrap_or_default();
        let errors = refused(&[&format!("{address},{option}")]);
        assert!(
            errors.contains(&format!("option '{key}' does not fit ")),
            "{address},{option}: {errors}"
        );
    }
    assert!(refused(&["127.0.0.1:0,shiny"]).contains("unknown option 'shiny'"));
    assert_eq!(
        refused(&["a=127.0.0.1:1", "b=127.0.0.1:1"]),
        "pf-listen: b=tcp:127.0.0.1:1 is given twice, under two names\n"
    );
    assert_eq!(
        refused(&["127.0.0.1:1", "127.0.0.1:1,nodelay"]),
        "pf-listen: tcp:127.0.0.1:1,nodelay is given twice, with other options\n"
    );
}

#[test]
fn w1_a_host_gets_a_socket_for_each_address() {
    if !is_root("change what a name resolves to") {
        return;
    }
    let (_guard, directory) = directory();
    let hosts = directory.join("hosts");
    let lines = "::1 pf-both\n127.0.0.1 pf-both\n127.0.0.1 pf-both\n\
                 127.0.0.1 pf-half\n2001:db8::1 pf-half\n2001:db8::1 pf-none\n";
    std::fs::write(&hosts, lines).expect("written");
    let with_hosts = |args: &str| {
        let script = format!(
            r#"exec unshare -m sh -c 'mount --bind {} /etc/hosts &&
                exec "$LISTEN" {args} -- "$@"' sh "$@""#,
            hosts.display()
        );
        shell(&script)
    };
    let (code, _, errors) = finished(with_hosts("127.0.0.1:0"));
    if code != 0 {
        // A container that may not make namespaces.
        assert!(
            errors.contains("unshare") || errors.contains("mount"),
            "{errors}"
        );
        return crate::common::support::unavailable("no namespace may be made");
    }
    let report = reported(with_hosts("web=pf-both:0"));
    assert_eq!(report["env"]["LISTEN_FDNAMES"], "web:web");
    let found = addresses(&report);
    let port = |at: &str| at.rsplit(':').next().map(str::to_owned);
    let mut hosts: Vec<_> = found
        .iter()
        .map(|at| at.rsplit_once(':').map(|(host, _)| host))
        .collect();
    hosts.sort();
    assert_eq!(hosts, [Some("tcp:127.0.0.1"), Some("tcp:[::1]")]);
    assert!(
        port(&found[0]) == port(&found[1]) && port(&found[0]) != Some("0".into()),
        "{found:?}"
    );
    // An IPv6 address of the host that this machine does not have is skipped with a log line.
    let (code, out, errors) = finished(with_hosts("pf-half:0"));
    assert!(code == 0 && out.contains("\"tcp:127.0.0.1:"), "{errors}");
    assert!(
        errors.contains("cannot bind tcp:[2001:db8::1]:")
            && errors.contains("; the host's other addresses are used"),
        "{errors}"
    );
    let (code, _, errors) = finished(with_hosts("pf-none:0"));
    assert_eq!(code, 111, "{errors}");
}

#[test]
fn w1_a_host_that_does_not_exist_is_an_error() {
    let (code, _, errors) = finished(listen_and_report(["host.invalid:80"]));
    assert!(
        code == 111 && errors.starts_with("pf-listen: cannot resolve host host.invalid: "),
        "{code}: {errors}"
    );
    assert_eq!(errors.lines().count(), 1);
}

#[test]
fn a_backlog_above_the_system_limit_warns_and_is_capped() {
    let text = std::fs::read_to_string("/proc/sys/net/core/somaxconn").expect("somaxconn");
    let most: u32 = text.trim().parse().expect("a number");
    assert_eq!(
        listener("127.0.0.1:0")["backlog"],
        most,
        "the default is the system's maximum"
    );
    let address = format!("127.0.0.1:0,copies=3,backlog={}", u64::from(most) + 1);
    let (_, out, errors) = finished(listen_and_report([&address, "-v"]));
    let warning = format!(
        "a backlog of {} is asked for, {most} is what the system allows (net.core.somaxconn)\n",
        u64::from(most) + 1
    );
    assert_eq!(errors.matches(&warning).count(), 1, "{errors}");
    assert_eq!(
        errors.matches(&format!(", backlog {most}\n")).count(),
        3,
        "{errors}"
    );
    assert!(out.contains(&format!("\"backlog\":{most}")));
    let (_, _, errors) = finished(listen_and_report([&address, "-q"]));
    assert_eq!(errors, "");
}
