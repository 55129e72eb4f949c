//! What becomes of listeners that were inherited.

use serde_json::json;

use crate::common::running::{directory, finished};
use crate::reporter::{addresses, inodes, reported, shell};

/// The report of `pf-listen OUTER -- pf-listen INNER -- reporter`, with what both said.
fn chained(outer: &str, inner: &str) -> (serde_json::Value, String) {
    let script = format!(r#"exec "$LISTEN" {outer} -- "$LISTEN" {inner} -- "$@""#);
    let (code, out, errors) = finished(shell(&script));
    assert_eq!(code, 0, "{errors}");
    let report = out
        .split_once("REPORT ")
        .and_then(|(_, report)| report.lines().next())
        .expect("a report");
    (serde_json::from_str(report).expect("JSON"), errors)
}

/// The same, the inner one with the first address that the outer one bound as `$AT`.
fn chained_at(outer: &str, inner: &str) -> (serde_json::Value, String) {
    let (_guard, directory) = directory();
    let ports = directory.join("ports").display().to_string();
    let inner =
        format!(r#"AT=$(head -n 1 {ports} | cut -d " " -f 2); exec "$LISTEN" {inner} -- "$@""#);
    let script =
        format!(r#"exec "$LISTEN" --port-file {ports} {outer} -- sh -c '{inner}' sh "$@""#);
    let (code, out, errors) = finished(shell(&script));
    assert_eq!(code, 0, "{errors}");
    let report = out
        .split_once("REPORT ")
        .and_then(|(_, report)| report.lines().next())
        .expect("a report");
    (serde_json::from_str(report).expect("JSON"), errors)
}

#[test]
fn u3_an_address_already_held_is_not_bound_again() {
    let (report, errors) = chained_at("web=127.0.0.1:0", "-v --tries 0 $AT $AT web=$AT");
    assert_eq!(report["env"]["LISTEN_FDS"], "1");
    assert_eq!(
        report["env"]["LISTEN_FDNAMES"], "web",
        "the name that it came with stays"
    );
    assert!(!errors.contains("in use"), "{errors}");
}

#[test]
fn u4_inherited_listeners_are_matched_by_address_or_closed() {
    let (report, errors) = chained_at(
        "a=127.0.0.1:0 b=127.0.0.1:0 c=@pf-tools-u4-$$",
        "c=@pf-tools-u4-$$ 127.0.0.1:0 again=$AT",
    );
    assert_eq!(report["env"]["LISTEN_FDS"], "3");
    assert_eq!(
        report["env"]["LISTEN_FDNAMES"], "c:unknown:again",
        "in the order of the addresses"
    );
    assert_eq!(
        errors.matches("closing inherited listener").count(),
        1,
        "{errors}"
    );
    assert!(
        errors.contains("pf-listen: closing inherited listener b: no address names it\n"),
        "{errors}"
    );
    let sockets = report["fds"]
        .as_object()
        .expect("fds")
        .values()
        .filter(|target| {
            target
                .as_str()
                .is_some_and(|target| target.starts_with("socket:"))
        });
    assert_eq!(sockets.count(), 3, "{}", report["fds"]);
}

#[test]
fn u4_the_options_of_a_kept_listener_are_set_anew() {
    let (report, _) = chained_at(
        "127.0.0.1:0,backlog=9",
        "$AT,nodelay,keepalive,backlog=5,rcvbuf=16K,nonblock",
    );
    let found = &report["listeners"][0];
    assert_eq!(
        (
            &found["nodelay"],
            &found["keepalive"],
            &found["backlog"],
            &found["rcvbuf"]
        ),
        (&json!(true), &json!(true), &json!(5), &json!(32768))
    );
    assert_eq!(
        found["nonblock"], false,
        "it is shared with others, and was set at bind"
    );
    let (report, _) = chained_at("127.0.0.1:0,backlog=9,nodelay", "$AT");
    let found = &report["listeners"][0];
    assert_eq!(
        (&found["nodelay"], &found["backlog"]),
        (&json!(true), &json!(9)),
        "what is not asked for stays"
    );
    let (_guard, directory) = directory();
    let path = directory.join("a").display().to_string();
    chained(&format!("{path},mode=0600"), &format!("{path},mode=0666"));
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(
        std::fs::metadata(path).expect("there").permissions().mode() & 0o777,
        0o666
    );
}

#[test]
fn u4_the_same_socket_is_kept() {
    let script = r#"exec "$LISTEN" a=127.0.0.1:0 b=127.0.0.1:0 -- sh -c '
        readlink /proc/$$/fd/3 /proc/$$/fd/4; exec "$LISTEN" -- "$@"' sh "$@""#;
    let (code, out, errors) = finished(shell(script));
    assert_eq!(code, 0, "{errors}");
    let report: serde_json::Value = serde_json::from_str(
        out.split_once("REPORT ")
            .expect("a report")
            .1
            .lines()
            .next()
            .expect("a line"),
    )
    .expect("JSON");
    let expected: Vec<String> = inodes(&report)
        .iter()
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    assert_eq!(out.lines().take(2).collect::<Vec<_>>(), expected);
    assert_eq!(
        report["env"]["LISTEN_FDNAMES"], "a:b",
        "without an address all are kept, names too"
    );
}

#[test]
fn u3_a_private_listener_is_added_to_those_that_were_inherited() {
    let (report, errors) = chained("a=127.0.0.1:0 b=127.0.0.1:0", "--add debug=@pf-tools-u3-$$");
    assert_eq!(
        report["env"]["LISTEN_FDNAMES"], "a:b:debug",
        "the numbers of the others stay"
    );
    assert_eq!(errors, "");
}

#[test]
fn u5_unlinked_unix_path_counts_as_dead() {
    let (_guard, directory) = directory();
    let path = directory.join("a").display().to_string();
    let script = format!(
        r#"exec "$LISTEN" {path} -- sh -c '
            readlink /proc/$$/fd/3; rm {path}; exec "$LISTEN" {path} -- "$@"' sh "$@""#
    );
    let (code, out, errors) = finished(shell(&script));
    assert_eq!(code, 0, "{errors}");
    assert_eq!(
        errors,
        format!("pf-listen: unix:{path}: its path has been removed: binding it anew\n")
    );
    let report: serde_json::Value = serde_json::from_str(
        out.split_once("REPORT ")
            .expect("a report")
            .1
            .lines()
            .next()
            .expect("a line"),
    )
    .expect("JSON");
    assert_eq!(addresses(&report), [format!("unix:{path}")]);
    let old = out.lines().next().unwrap_or_default();
    assert_ne!(
        old,
        format!("socket:[{}]", inodes(&report)[0]),
        "another socket"
    );
    assert!(std::path::Path::new(&path).exists());
    // No address names it, so it is not bound anew, since its mode is unknown; the log says so.
    let script =
        format!(r#"exec "$LISTEN" {path} -- sh -c 'rm {path}; exec "$LISTEN" -- "$@"' sh "$@""#);
    let (code, _, errors) = finished(shell(&script));
    assert_eq!(
        (code, errors),
        (
            0,
            format!("pf-listen: unix:{path}: its path has been removed: no client can reach it\n")
        )
    );
}

#[test]
fn a_port_chosen_by_the_kernel_is_kept() {
    let (report, errors) = chained_at(
        "web=127.0.0.1:0",
        "-q other=127.0.0.1:0 web=127.0.0.1:0 kept=$AT",
    );
    let found = addresses(&report);
    assert_eq!(found.len(), 3, "{errors}");
    assert!(
        found[0] != found[2] && found[1] != found[2],
        "an exact address comes first: {found:?}"
    );
    let (report, _) = chained("web=127.0.0.1:0,nodelay", "-v web=127.0.0.1:0");
    assert_eq!(report["listeners"][0]["nodelay"], true, "the same socket");
}

#[test]
fn unnamed_listeners_close_before_ports_are_bound() {
    let (report, errors) = chained_at("0.0.0.0:0", "--tries 0 tcp:${AT##*:}");
    assert!(addresses(&report)[0].starts_with("tcp:[::]:"), "{report}");
    assert!(
        errors.contains("closing inherited listener tcp:0.0.0.0:"),
        "{errors}"
    );
}

#[test]
fn inherited_copies_are_kept_by_number() {
    let (report, _) = chained_at("web=127.0.0.1:0,copies=3", "web=$AT,copies=4");
    assert_eq!(report["env"]["LISTEN_FDNAMES"], "web.0:web.1:web.2:web.3");
    let (report, errors) = chained_at("web=127.0.0.1:0,copies=3", "web=$AT,copies=2");
    assert_eq!(report["env"]["LISTEN_FDNAMES"], "web.0:web.1");
    assert!(
        errors.contains("closing inherited listener web.2: "),
        "{errors}"
    );
    // All three are bound where the address says, and each may have connections in its queue.
    let (report, _) = chained_at("web=127.0.0.1:0,copies=3", "$AT");
    assert_eq!(report["env"]["LISTEN_FDNAMES"], "web.0:web.1:web.2");
}

#[test]
fn g1_listener_variables_count_only_if_ours_and_complete() {
    let run = |script: &str| finished(shell(script));
    let (code, out, errors) =
        run(r#"LISTEN_FDS=1 LISTEN_PID=1 exec "$LISTEN" 127.0.0.1:0 -- "$@" 3</dev/null"#);
    assert!(code == 0 && out.contains("REPORT"), "{errors}");
    assert!(
        errors.contains("LISTEN_FDS is ignored: it is meant for pid 1, and this is pid "),
        "{errors}"
    );
    for (script, expected) in [
        (
            r#"LISTEN_FDS=x LISTEN_PID=$$ exec "$LISTEN" -- "$@""#,
            "cannot inherit listeners: LISTEN_FDS is malformed: 'x'",
        ),
        (
            r#"LISTEN_FDS=1 LISTEN_PID=$$ LISTEN_FDNAMES=a:b exec "$LISTEN" -- "$@""#,
            "cannot inherit listeners: LISTEN_FDNAMES has 2 names for 1 listeners",
        ),
        (
            r#"exec 3<&-; LISTEN_FDS=1 LISTEN_PID=$$ exec "$LISTEN" -- "$@""#,
            "cannot take over fd 3: it is not open (LISTEN_FDS is 1)",
        ),
        (
            r#"exec 3</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec "$LISTEN" -- "$@""#,
            "cannot use fd 3, which LISTEN_FDS names, as a listener: it is not a socket",
        ),
    ] {
        let (code, out, errors) = run(script);
        assert_eq!(
            (code, out.as_str(), errors.as_str()),
            (111, "", format!("pf-listen: {expected}\n").as_str()),
            "{script}"
        );
    }
    // Without LISTEN_PID they belong to another process, and stale variables are not passed on.
    let report = reported(shell(
        r#"LISTEN_FDS=7 LISTEN_FDNAMES=a LISTEN_PIDFDID=9 exec "$LISTEN" 127.0.0.1:0 -- "$@""#,
    ));
    assert_eq!(
        report["env"],
        json!({
            "LISTEN_FDS": "1",
            "LISTEN_FDNAMES": "unknown",
            "LISTEN_PID": report["pid"].to_string(),
        })
    );
}

#[test]
fn names_that_others_gave_are_passed_on() {
    let script = r#"exec "$LISTEN" 127.0.0.1:0 -- sh -c '
        LISTEN_FDNAMES=web@1.socket exec "$LISTEN" -- "$@"' sh "$@""#;
    assert_eq!(
        reported(shell(script))["env"]["LISTEN_FDNAMES"],
        "web@1.socket"
    );
}

#[test]
fn u3_a_worker_that_adds_a_listener_keeps_its_heartbeat_page() {
    // Its page is at fd 4, where the second listener goes.
    let script = r#"exec 4</dev/zero
        PF_HEARTBEAT_FD=4 exec "$LISTEN" 127.0.0.1:0 127.0.0.1:0 -- sh -c '
            echo "$PF_HEARTBEAT_FD" && readlink /proc/$$/fd/4 "/proc/$$/fd/$PF_HEARTBEAT_FD"'"#;
    let (code, out, errors) = finished(shell(script));
    assert_eq!((code, errors.as_str()), (0, ""));
    let lines: Vec<&str> = out.lines().collect();
    let [number, listener, page] = lines[..] else {
        panic!("{out}");
    };
    assert!(
        number.parse::<i32>().is_ok_and(|number| number > 4),
        "{out}"
    );
    assert!(listener.starts_with("socket:"), "{out}");
    assert_eq!(page, "/dev/zero");
}
