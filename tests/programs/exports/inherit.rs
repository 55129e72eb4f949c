//! Listeners that are inherited, in each protocol (U4).

use std::collections::BTreeMap;

use crate::common::running::{directory, finished};
use crate::common::support::{ports, skip};
use crate::reporter::{addresses, inodes, reported, shell};

/// Whether a program is there.
fn has(program: &str) -> bool {
    let found = shell(&format!("command -v {program} >/dev/null"));
    let found = finished(found).0 == 0;
    if !found {
        skip(&format!("no {program}"));
    }
    found
}

#[test]
fn u4_listeners_are_inherited_and_exported_in_each_protocol() {
    for protocol in ["einhorn", "server-starter", "unicorn", "nginx", "php-fpm"] {
        let (_guard, directory) = directory();
        let (socket, seen) = (directory.join("x.sock"), directory.join("seen"));
        // Between the two there is no variable of systemd's.
        let script = format!(
            r#"exec "$LISTEN" -e {protocol} 127.0.0.1:0 {} -- sh -c '
                unset LISTEN_FDS LISTEN_PID LISTEN_FDNAMES
                for fd in 3 4; do readlink /proc/$$/fd/$fd; done >{seen}
                exec "$LISTEN" --add {added} -- \
                    sh -c "env >{seen}.env; exec \"\$@\"" sh "$@"' sh "$@""#,
            socket.display(),
            seen = seen.display(),
            added = directory.join("y.sock").display(),
        );
        let report = reported(shell(&script));
        let before = std::fs::read_to_string(&seen).expect("written");
        let after = inodes(&report);
        let before: Vec<&str> = before.lines().collect();
        assert_eq!(after.len(), 3, "{protocol}: {report}");
        let same = |(one, other): (&&str, &u64)| **one == format!("socket:[{other}]");
        assert!(
            before.iter().zip(&after).all(same),
            "{protocol}: {before:?} {after:?}"
        );
        assert!(addresses(&report)[1].ends_with("/x.sock"));

        let environment = std::fs::read_to_string(directory.join("seen.env")).expect("written");
        let environment: BTreeMap<&str, &str> = environment
            .lines()
            .filter_map(|line| line.split_once('='))
            .collect();
        let (name, value) = match protocol {
            "einhorn" => ("EINHORN_FD_2", "5"),
            "unicorn" => ("UNICORN_FD", "3,4,5"),
            "nginx" => ("NGINX", "3;4;5;"),
            "server-starter" => ("SERVER_STARTER_PORT", "=5"),
            _ => ("FPM_SOCKETS", "=5"),
        };
        assert!(
            environment[name].ends_with(value),
            "{protocol}: {environment:?}"
        );
    }
}

#[test]
fn u4_a_listener_of_several_protocols_counts_once() {
    // The inner `pf-listen` is given fd 7 alone, in two protocols, and requests neither.
    let script = r#"exec "$LISTEN" -e unicorn 127.0.0.1:0 -- sh -c '
        unset LISTEN_FDS LISTEN_PID LISTEN_FDNAMES
        exec 7<&3 3<&-
        UNICORN_FD=7 NGINX="7;" exec "$LISTEN" -e systemd -- sh -c "
            test -z \"\$UNICORN_FD\$NGINX\" || exit 9; exec \"\$@\"" sh "$@"' sh "$@""#;
    let report = reported(shell(script));
    assert_eq!(report["env"]["LISTEN_FDS"], "1");
    assert_eq!(addresses(&report).len(), 1);
}

#[test]
fn left_over_variables_are_ignored_with_a_warning() {
    for (variables, warning) in [
        (
            "NGINX=/etc/nginx",
            "NGINX is ignored: '/etc/nginx' is malformed",
        ),
        ("UNICORN_FD=9", "UNICORN_FD is ignored: fd 9 is not open"),
        (
            "UNICORN_FD=8",
            "UNICORN_FD is ignored: fd 8 is not a socket",
        ),
        (
            "EINHORN_FD_COUNT=2 EINHORN_FD_0=8",
            "EINHORN_FD_COUNT is ignored: there is no EINHORN_FD_1",
        ),
        (
            "EINHORN_MASTER_PID=1 EINHORN_FD_COUNT=1 EINHORN_FD_0=8",
            "EINHORN_FD_COUNT is ignored: it is meant for children of pid 1, and this is one of \
             pid ",
        ),
        (
            "FPM_SOCKETS=/run/x.sock=8",
            "FPM_SOCKETS is ignored: fd 8 is not a socket",
        ),
    ] {
        let script =
            format!(r#"exec 8</dev/null 9<&-; {variables} exec "$LISTEN" 127.0.0.1:0 -- "$@""#);
        let (code, out, errors) = finished(shell(&script));
        assert_eq!(code, 0, "{errors}");
        assert!(out.contains("REPORT"), "{out}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
        assert!(
            errors.starts_with(&format!("pf-listen: {warning}")),
            "{errors}"
        );
    }
    // It says where, and is not there.
    let script = r#"exec "$LISTEN" 127.0.0.1:0 127.0.0.1:0 -- sh -c '
        unset LISTEN_FDS LISTEN_PID LISTEN_FDNAMES
        SERVER_STARTER_PORT="127.0.0.1:1=3" exec "$LISTEN" 127.0.0.1:0 -- "$@"' sh "$@""#;
    let (code, _, errors) = finished(shell(script));
    assert_eq!(code, 0, "{errors}");
    assert!(
        errors.contains("SERVER_STARTER_PORT is ignored: fd 3 is bound elsewhere than it says"),
        "{errors}"
    );
}

#[test]
fn pf_listen_in_a_worker_keeps_its_masters_variables() {
    let script = r#"EINHORN_MASTER_PID=$PPID EINHORN_SOCK_PATH=/x EINHORN_CHILD_INDEX=3 \
        exec "$LISTEN" -e einhorn 127.0.0.1:0 -- sh -c '
        test "$EINHORN_SOCK_PATH$EINHORN_CHILD_INDEX$EINHORN_FD_COUNT" = /x31 || exit 9
        exec "$@"' sh "$@""#;
    assert_eq!(reported(shell(script))["env"]["LISTEN_FDS"], "1");
}

#[test]
fn u4_server_starters_own_listeners_are_taken_over() {
    if !has("start_server") {
        return;
    }
    let (_guard, directory) = directory();
    let socket = directory.join("x.sock");
    let port = ports(1);
    let script = format!(
        r#"exec start_server --port 127.0.0.1:{port} --path {} -- \
            sh -c 'exec "$LISTEN" -- "$@" </dev/null; exit 9' sh "$@" 2>&1"#,
        socket.display()
    );
    let mut running = crate::common::running::Running::start(shell(&script));
    let report = running.report();
    let mut addresses = addresses(&report);
    addresses.sort();
    let expected = [
        format!("tcp:127.0.0.1:{port}"),
        format!("unix:{}", socket.display()),
    ];
    assert_eq!(addresses, expected);
}

#[test]
fn php_fpm_takes_over_its_listeners() {
    let program = "php-fpm8.2";
    if !has(program) {
        return;
    }
    let (_guard, directory) = directory();
    let config = directory.join("fpm.conf");
    let socket = directory.join("fpm.sock");
    let text = format!(
        "[global]\ndaemonize = no\nerror_log = /dev/stderr\n[www]\nuser = nobody\ngroup = \
         nogroup\npm = static\n\
         pm.max_children = 1\nlisten = {}\n",
        socket.display()
    );
    std::fs::write(&config, text).expect("written");
    let mut command = std::process::Command::new(crate::common::running::pf_listen());
    command.args(["-e", "php-fpm"]).arg(&socket);
    command.args(["--", program, "-R", "-y"]).arg(&config);
    let mut running = crate::common::running::Running::start(command);
    let line = running.error_line("using inherited socket fd=3");
    assert!(line.contains(&socket.display().to_string()), "{line}");
    // It would say before this that the address is in use.
    running.error_line("ready to handle connections");
    crate::common::service::process::signal(
        i32::try_from(running.pid()).expect("a pid"),
        nix::sys::signal::Signal::SIGTERM,
    );
    let (status, errors) = running.end();
    assert!(status.success(), "{errors}");
}
