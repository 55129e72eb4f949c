//! `pf-listen`: what COMMAND gets, what is said, and how it ends.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use crate::common::running::{Running, directory, finished, is_root, pf_listen};
use crate::reporter::{addresses, listen_and_report, reported, shell};

fn run(args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(pf_listen());
    // A directory in PATH without search permission would turn "not found" into "permission
    // denied", as with env(1).
    command.args(args).env("PATH", "/usr/bin:/bin");
    finished(command)
}

#[test]
fn u1_the_command_serves_on_bound_listeners() {
    let mut running = Running::start(listen_and_report(["web=127.0.0.1:0"]));
    let report = running.report();
    assert_eq!(report["pid"], running.pid(), "an exec keeps the pid");
    assert_eq!(report["env"]["LISTEN_PID"], running.pid().to_string());
    assert_eq!(
        (
            &report["env"]["LISTEN_FDS"],
            &report["env"]["LISTEN_FDNAMES"]
        ),
        (&"1".into(), &"web".into())
    );
    let at = addresses(&report)[0].trim_start_matches("tcp:").to_owned();
    TcpStream::connect(&at).expect("the kernel accepts for it");
    let (status, errors) = running.finish();
    assert!(status.success() && errors.is_empty(), "{status}: {errors}");
    assert!(
        TcpStream::connect(&at).is_err(),
        "nothing of it stays behind"
    );
}

#[test]
fn u2_several_addresses_stand_in_order() {
    let (_guard, directory) = directory();
    let path = directory.join("a").display().to_string();
    let report = reported(listen_and_report([
        "one=127.0.0.1:0",
        &path,
        "udp:127.0.0.1:0",
        "four=[::1]:0",
    ]));
    assert_eq!(report["env"]["LISTEN_FDNAMES"], "one:unknown:unknown:four");
    let found = addresses(&report);
    for (found, start) in found.iter().zip([
        "tcp:127.0.0.1:",
        &format!("unix:{path}"),
        "udp:127.0.0.1:",
        "tcp:[::1]:",
    ]) {
        assert!(found.starts_with(start), "{found}");
    }
}

#[test]
fn u2_without_an_address_the_default_is_bound() {
    let (code, out, errors) = finished(listen_and_report(["--tries", "0"]));
    // Another process may have the port; then the error names the address.
    let told = out.contains("\"address\":\"tcp:127.0.0.1:8080\"")
        || errors.starts_with("pf-listen: cannot bind tcp:127.0.0.1:8080: Address already in use");
    assert!(told, "{code}: {out}{errors}");
}

#[test]
fn u3_an_address_in_use_is_retried_and_logged() {
    let held = TcpListener::bind("127.0.0.1:0").expect("bound");
    let at = held.local_addr().expect("an address").to_string();
    let (code, out, errors) = finished(listen_and_report([&at, "--tries", "2", "--delay", "1ms"]));
    assert_eq!((code, out.as_str()), (111, ""));
    let pid = std::process::id();
    let lines: Vec<&str> = errors.lines().collect();
    assert_eq!(lines.len(), 3, "{errors}");
    for (line, number) in lines.iter().zip(["(1 of 2)", "(2 of 2)"]) {
        let start =
            format!("pf-listen: cannot bind tcp:{at}: Address already in use (held by pid {pid}, ");
        assert!(
            line.starts_with(&start) && line.ends_with(&format!("; trying again in 1ms {number}")),
            "{line}"
        );
    }
    assert!(
        lines[2].starts_with(&format!(
            "pf-listen: cannot bind tcp:{at}: Address already in use (held by pid {pid}, "
        )),
        "{errors}"
    );
    let (code, _, errors) = finished(listen_and_report([
        &at, "--tries", "2", "--delay", "1ms", "-q",
    ]));
    assert_eq!(
        (code, errors.lines().count()),
        (111, 1),
        "the error itself is never silenced: {errors}"
    );
}

#[test]
fn u3_tries_go_on_until_the_address_is_free() {
    let held = TcpListener::bind("127.0.0.1:0").expect("bound");
    let at = held.local_addr().expect("an address").to_string();
    let mut command = shell(r#"exec "$LISTEN" "$AT" --tries -1 --delay 5ms -- "$@" 2>&1"#);
    command.env("AT", &at);
    let mut running = Running::start(command);
    for number in 1..4 {
        assert!(
            running
                .line()
                .ends_with(&format!("trying again in 5ms ({number})"))
        );
    }
    drop(held);
    assert_eq!(addresses(&running.report()), [format!("tcp:{at}")]);
}

#[test]
fn w1_the_port_file_has_the_real_ports() {
    let (_guard, directory) = directory();
    let file = directory.join("ports");
    std::fs::write(&file, "old").expect("written");
    let path = directory
        .join("a,b")
        .display()
        .to_string()
        .replace(',', "\\,");
    let report = reported(listen_and_report([
        "--port-file",
        &file.display().to_string(),
        "web=127.0.0.1:0",
        &path,
        "udp:[::1]:0",
    ]));
    let found = addresses(&report);
    let text = std::fs::read_to_string(&file).expect("there");
    assert_eq!(
        text,
        format!("web {}\n- {}\n- {}\n", found[0], found[1], found[2])
    );
    assert!(!text.contains(":0\n"));
    // It is in the grammar: what it says can be bound again.
    for line in text.lines() {
        let (_, address) = line.split_once(' ').expect("two words");
        let spec: prefork::wire::address::ListenSpec = address.parse().expect("an address");
        assert_eq!(spec.to_string(), address);
    }
    let left: Vec<_> = std::fs::read_dir(&directory)
        .expect("there")
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert_eq!(
        left.len(),
        2,
        "nothing but the file and the socket: {left:?}"
    );
    let (code, _, errors) = run(&[
        "--port-file",
        "/nonexistent/ports",
        "127.0.0.1:0",
        "--",
        "true",
    ]);
    assert_eq!(
        (code, errors.as_str()),
        (
            111,
            "pf-listen: cannot write port file /nonexistent/ports: No such file or directory\n"
        )
    );
}

#[test]
fn a_port_file_may_be_a_pipe_or_a_link() {
    let (_guard, directory) = directory();
    let (code, out, errors) = run(&[
        "--port-file",
        "/dev/stdout",
        "web=127.0.0.1:0",
        "--",
        "echo",
        "served",
    ]);
    assert_eq!(code, 0, "{errors}");
    let lines: Vec<&str> = out.lines().collect();
    assert!(
        lines.len() == 2 && lines[0].starts_with("web tcp:127.0.0.1:") && lines[1] == "served",
        "{out}"
    );
    let (file, link) = (directory.join("file"), directory.join("link"));
    std::fs::write(&file, "").expect("written");
    std::os::unix::fs::symlink(&file, &link).expect("linked");
    let (code, ..) = run(&[
        "--port-file",
        &link.display().to_string(),
        "web=127.0.0.1:0",
        "--",
        "true",
    ]);
    assert!(code == 0 && link.is_symlink());
    assert!(
        std::fs::read_to_string(&file)
            .expect("there")
            .starts_with("web tcp:127.0.0.1:")
    );
}

#[test]
fn a_port_file_that_names_a_descriptor_is_written_through_it() {
    let (_guard, directory) = directory();
    // A link as container images have them for log files.
    std::os::unix::fs::symlink("/dev/stdout", directory.join("link")).expect("linked");
    for (file, how) in [
        ("/dev/stdout", ">"),
        ("/dev/stdout", ">>"),
        ("/proc/self/fd/1", ">"),
        ("/dev/fd/7", ">"),
        ("/dev/fd/7", ">>"),
        ("link", ">"),
    ] {
        std::fs::write(directory.join("log"), "old\n").expect("written");
        let script = format!(
            r#"{{ echo before; "$0" --port-file {file} web=127.0.0.1:0 -- \
               sh -c 'echo after; echo end' 7>&1; }} {how} log"#
        );
        let mut command = Command::new("sh");
        command.args(["-c", &script, pf_listen()]);
        command.current_dir(&directory);
        let (code, _, errors) = finished(command);
        assert_eq!((code, errors.as_str()), (0, ""), "{script}");
        let text = std::fs::read_to_string(directory.join("log")).expect("there");
        let kept = if how == ">>" { "old\n" } else { "" };
        let told = text.strip_prefix(&format!("{kept}before\nweb tcp:127.0.0.1:"));
        assert!(
            told.is_some_and(|told| told.ends_with("\nafter\nend\n")),
            "{script}: {text}"
        );
    }
    let (code, _, errors) = run(&["--port-file", "/dev/fd/77", "127.0.0.1:0", "--", "true"]);
    assert_eq!(
        (code, errors.as_str()),
        (
            111,
            "pf-listen: cannot write port file /dev/fd/77: fd 77 is not open\n"
        )
    );
}

#[test]
fn exit_codes_are_those_of_command_or_failure() {
    assert_eq!(run(&["127.0.0.1:0", "--", "sh", "-c", "exit 7"]).0, 7);
    let (code, out, errors) = run(&["127.0.0.1:0", "--", "no-such-command-here"]);
    assert_eq!(
        (code, out.as_str(), errors.as_str()),
        (
            127,
            "",
            "pf-listen: cannot execute no-such-command-here: No such file or directory\n"
        )
    );
    let (code, _, errors) = run(&["127.0.0.1:0", "--", "/dev/null"]);
    assert_eq!(
        (code, errors.as_str()),
        (
            126,
            "pf-listen: cannot execute /dev/null: Permission denied\n"
        )
    );
    let (_guard, directory) = directory();
    let script = directory.join("script");
    crate::common::support::copies::executable(&script, "#!/no/such/interpreter");
    let (code, _, errors) = run(&["127.0.0.1:0", "--", &script.display().to_string()]);
    assert!(
        code == 127 && errors.contains("its interpreter, or the one in its #! line, is not"),
        "{code}: {errors}"
    );
    for args in [
        &["127.0.0.1:0"][..],
        &["--"],
        &["--shiny", "--", "true"],
        &["--tries", "x", "--", "true"],
        &["-v", "-q", "--", "true"],
        &["--delay", "soon", "--", "true"],
        &["no.address", "--", "true"],
    ] {
        let (code, out, errors) = run(args);
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}");
        assert!(
            errors.starts_with("pf-listen: ") && errors.lines().count() == 1,
            "{args:?}: {errors}"
        );
    }
    let (code, out, errors) = run(&["--help"]);
    assert!(
        code == 0 && out.contains("ADDRESS OPTIONS") && errors.is_empty(),
        "{errors}"
    );
    assert_eq!(
        run(&["--version"]).1,
        format!("pf-listen {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn help_for_a_reader_that_has_gone_is_no_error() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = Command::new(pf_listen())
        .arg("--help")
        .stdout(writer)
        .output()
        .expect("run");
    assert_eq!(
        (output.status.code(), output.stderr.as_slice()),
        (Some(0), &b""[..])
    );
}

#[test]
fn u21_the_command_inherits_listeners_and_open_descriptors() {
    let script = r#"exec 7</dev/null 9</dev/zero; exec "$LISTEN" 127.0.0.1:0 127.0.0.1:0 -- "$@""#;
    let report = reported(shell(script));
    let fds = report["fds"].as_object().expect("fds");
    assert!(
        fds["3"]
            .as_str()
            .is_some_and(|target| target.starts_with("socket:"))
    );
    assert!(
        fds["4"]
            .as_str()
            .is_some_and(|target| target.starts_with("socket:"))
    );
    assert_eq!(
        (&fds["7"], &fds["9"]),
        (&"/dev/null".into(), &"/dev/zero".into()),
        "as through env(1)"
    );
    let sockets = fds.values().filter(|target| {
        target
            .as_str()
            .is_some_and(|target| target.starts_with("socket:"))
    });
    assert_eq!(sockets.count(), 2, "nothing of pf-listen's own: {fds:?}");
    let closed = (5..50)
        .filter(|number| ![7, 9].contains(number))
        .filter(|number| fds.contains_key(&number.to_string()));
    let inherited = reported(shell(r#"exec 7</dev/null 9</dev/zero; exec "$@""#));
    let inherited: Vec<_> = closed
        .filter(|number| inherited["fds"].get(number.to_string()).is_none())
        .collect();
    assert_eq!(inherited, Vec::<i32>::new());
}

#[test]
fn an_unrelated_descriptor_in_the_way_is_replaced() {
    let (code, out, errors) = finished(shell(
        r#"exec 4</dev/zero; exec "$LISTEN" 127.0.0.1:0 web=127.0.0.1:0 -- "$@""#,
    ));
    assert_eq!(code, 0);
    assert_eq!(
        errors,
        "pf-listen: fd 4 (/dev/zero) is replaced by the listener web\n"
    );
    assert!(out.contains("\"4\":\"socket:"), "{out}");
    let (_, _, errors) = finished(shell(
        r#"exec 4</dev/zero; exec "$LISTEN" -q 127.0.0.1:0 127.0.0.1:0 -- "$@""#,
    ));
    assert_eq!(errors, "");
}

#[test]
fn u28_command_inherits_the_signal_state_of_pf_listen() {
    let status = |script: &str| {
        let (code, out, errors) = finished(shell(script));
        assert_eq!(code, 0, "{errors}");
        let field = |key: &str| {
            out.lines()
                .find_map(|line| line.strip_prefix(key))
                .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        };
        (
            field("SigBlk:").expect("a mask"),
            field("SigIgn:").expect("a mask"),
        )
    };
    let bare = status(r#"exec cat /proc/self/status"#);
    let listen = status(r#"exec "$LISTEN" 127.0.0.1:0 -- cat /proc/self/status"#);
    let pipe = 1 << (nix::libc::SIGPIPE - 1);
    assert_eq!(listen.1 & pipe, 0, "SIGPIPE is the default");
    assert_eq!(listen, (bare.0, bare.1 & !pipe));
    let hup = 1 << (nix::libc::SIGHUP - 1);
    let ignored = status(r#"trap "" HUP; exec "$LISTEN" 127.0.0.1:0 -- cat /proc/self/status"#);
    assert_eq!(
        ignored.1 & hup,
        hup,
        "a nohup before pf-listen reaches COMMAND"
    );
}

#[test]
fn the_environment_and_the_arguments_are_passed_on() {
    let mut command = Command::new(pf_listen());
    command
        .args([
            "127.0.0.1:0",
            "--",
            "sh",
            "-c",
            r#"printf '%s|' "$FOO" "$@""#,
            "sh",
            "-v",
            "--",
            "a b",
        ])
        .env("FOO", "b a r")
        .env("LISTEN_FDNAMES", "old");
    assert_eq!(finished(command).1, "b a r|-v|--|a b|");
}

#[test]
fn clients_may_connect_before_the_command_accepts() {
    let (_guard, directory) = directory();
    let ports = directory.join("ports");
    let command = listen_and_report(["--port-file", &ports.display().to_string(), "127.0.0.1:0"]);
    let mut running = Running::start(command);
    running.report();
    let text = std::fs::read_to_string(&ports).expect("written before COMMAND runs");
    let at = text.trim().strip_prefix("- tcp:").expect("a line");
    let mut client = TcpStream::connect(at).expect("queued");
    client.write_all(b"hello").expect("sent");
    drop(running);
    // Its last holder is gone: what was queued is reset.
    let end = client.read(&mut [0; 8]);
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
}

#[test]
fn a_port_that_needs_privilege_is_refused_with_a_hint() {
    if !is_root("give its rights up") {
        return;
    }
    let start = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
        .unwrap_or_default();
    if start.trim().parse::<u16>().unwrap_or(0) < 1024 {
        return crate::common::support::unavailable("every port may be bound by anybody");
    }
    let (_guard, directory) = directory();
    // Where another user may execute it.
    std::fs::set_permissions(
        &directory,
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .expect("set");
    let copy = directory.join("pf-listen");
    crate::common::support::copies::copied(pf_listen(), &copy);
    let mut command = Command::new(&copy);
    std::os::unix::process::CommandExt::uid(&mut command, 4242);
    command.args(["127.0.0.1:7", "--", "true"]);
    let (code, _, errors) = finished(command);
    assert_eq!(
        (code, errors.as_str()),
        (
            111,
            "pf-listen: cannot bind tcp:127.0.0.1:7: Permission denied (ports below 1024 need \
             root or CAP_NET_BIND_SERVICE)\n"
        )
    );
}
