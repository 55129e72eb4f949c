//! What it does not start with, each in one line and with its exit code.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

/// Runs it through a chain of words to its end: the exit code, and the last line on stderr.
fn run(chain: &[&str], words: &[&str]) -> (Option<i32>, String) {
    let mut line: Vec<&str> = chain.to_vec();
    line.push(env!("CARGO_BIN_EXE_pf-accept"));
    line.extend(words);
    let output = Command::new(line[0])
        .args(&line[1..])
        .env_remove("LISTEN_FDS")
        .env_remove("LISTEN_PID")
        .stdin(Stdio::null())
        .output()
        .expect("it starts");
    let text = String::from_utf8(output.stderr).expect("UTF-8");
    let last = text.lines().last().unwrap_or_default().to_owned();
    (output.status.code(), last)
}

const LISTEN: &str = env!("CARGO_BIN_EXE_pf-listen");

#[test]
fn too_few_descriptors_fail_the_start() {
    for (limit, starts) in [(8, false), (40, true)] {
        let limited = format!(r#"ulimit -n {limit}; exec "$@""#);
        let chain = [LISTEN, "127.0.0.1:0", "--", "sh", "-c", &limited, "sh"];
        let (code, line) = run(&chain, &["--idle-timeout", "10ms", "--", "cat"]);
        if starts {
            assert_eq!(code, Some(0), "{line}");
        } else {
            assert_eq!(code, Some(111), "{line}");
            assert!(
                line.starts_with("pf-accept: cannot ") && line.contains("Too many open files"),
                "{line}"
            );
        }
    }
}

#[test]
fn a_script_with_a_missing_interpreter_is_exit_127() {
    let dir = tempfile::tempdir().expect("a directory");
    let script = dir.path().join("script");
    fs::write(&script, "#!/nowhere/sh\n").expect("written");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("set");
    let script = script.display().to_string();
    let (code, line) = run(&[LISTEN, "127.0.0.1:0", "--"], &["--", &script]);
    assert_eq!(code, Some(127), "{line}");
    assert_eq!(
        line,
        format!("pf-accept: cannot execute {script}: its interpreter /nowhere/sh does not exist")
    );
}

#[test]
fn w1_no_listener_is_an_error_with_a_hint() {
    let (code, line) = run(&[], &["--", "cat"]);
    assert_eq!(code, Some(111), "{line}");
    assert!(line.starts_with("pf-accept: no listener: none was inherited (start it as in: "));
    // A shell in between has another pid.
    let script = r#""$@"; exit $?"#;
    let (code, line) = run(
        &[LISTEN, "127.0.0.1:0", "--", "sh", "-c", script, "sh"],
        &["--", "cat"],
    );
    assert_eq!(code, Some(111), "{line}");
    assert!(
        line.contains("no listener: LISTEN_FDS is ignored: it is meant for pid"),
        "{line}"
    );
}

#[test]
fn listeners_without_connections_are_refused_by_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let gram = format!("log=unixgram:{}", dir.path().join("log").display());
    for (address, named) in [
        ("dns=udp:127.0.0.1:0", "fd 4, dns udp:127.0.0.1:"),
        (&gram, "fd 4, log unixgram:"),
    ] {
        let (code, line) = run(&[LISTEN, "127.0.0.1:0", address, "--"], &["--", "cat"]);
        assert_eq!(code, Some(111), "{line}");
        assert!(
            line.contains(&format!("cannot accept on {named}")),
            "{line}"
        );
        assert!(line.contains("it is a datagram socket"), "{line}");
    }
    // A connection in the place of a listener, as inetd would pass it.
    let script =
        r#"exec 3<>"/dev/tcp/127.0.0.1/$2"; export LISTEN_FDS=1 LISTEN_PID=$$; shift 2; exec "$@""#;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = listener.local_addr().expect("bound").port().to_string();
    let chain = ["bash", "-c", script, "bash", "x", &port];
    let (code, line) = run(&chain, &["--", "cat"]);
    assert_eq!(code, Some(111), "{line}");
    assert!(
        line.contains("it is a connection, and no listener"),
        "{line}"
    );
}

#[test]
fn a_missing_handler_fails_the_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let plain = dir.path().join("plain");
    fs::write(&plain, "text").expect("written");
    fs::set_permissions(&plain, fs::Permissions::from_mode(0o644)).expect("our own");
    let chain = [LISTEN, "127.0.0.1:0", "--"];
    let (code, line) = run(&chain, &["--", "no-such-handler"]);
    assert_eq!(code, Some(127), "{line}");
    assert!(line.contains("cannot execute no-such-handler"), "{line}");
    let (code, line) = run(&chain, &["--", plain.to_str().expect("UTF-8")]);
    assert_eq!(code, Some(126), "{line}");
}

#[test]
fn usage_errors_are_2() {
    for words in [
        &["cat"][..],
        &["--"],
        &["-c", "0", "--", "cat"],
        &["-c", "many", "--", "cat"],
        &["--max-requests", "0", "--", "cat"],
        &["--client-timeout", "soon", "--", "cat"],
        &["--drain-timeout", "off", "--", "cat"],
        &["-v", "-q", "--", "cat"],
    ] {
        assert_eq!(run(&[], words).0, Some(2), "{words:?}");
    }
}
