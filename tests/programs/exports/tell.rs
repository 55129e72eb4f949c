//! What `pf-listen` tells the next program.

use std::collections::BTreeMap;
use std::process::Command;

use crate::common::running::{directory, finished, pf_listen};

/// The environment of a COMMAND, and the TCP port of the first listener.
fn told(options: &[&str]) -> (BTreeMap<String, String>, String) {
    let (_guard, directory) = directory();
    let mut command = Command::new(pf_listen());
    let ports = directory.join("ports");
    command.arg("--port-file").arg(&ports).args(options);
    command.args(["--", "env"]).current_dir(&directory);
    let (code, out, errors) = finished(command);
    assert_eq!((code, errors.as_str()), (0, ""));
    let environment = out.lines().filter_map(|line| line.split_once('='));
    let environment = environment
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let ports = std::fs::read_to_string(ports).expect("a port file");
    let port = ports
        .lines()
        .next()
        .and_then(|line| line.rsplit(':').next());
    (environment, port.expect("a port").to_owned())
}

#[test]
fn each_protocol_is_exported_beside_systemds() {
    let (environment, port) = told(&[
        "-e",
        "einhorn",
        "-e",
        "server-starter",
        "--export",
        "unicorn",
        "-enginx",
        "-e",
        "php-fpm",
        "-e",
        "systemd",
        "web=127.0.0.1:0",
        "./x.sock",
    ]);
    let of = |name: &str| environment[name].as_str();
    assert_eq!(of("LISTEN_FDS"), "2");
    assert_eq!(of("LISTEN_FDNAMES"), "web:unknown");
    assert_eq!(of("EINHORN_FD_COUNT"), "2");
    assert_eq!((of("EINHORN_FD_0"), of("EINHORN_FD_1")), ("3", "4"));
    assert_eq!(of("UNICORN_FD"), "3,4");
    assert_eq!(of("NGINX"), "3;4;");
    // A path is exported absolute, because the receiver may run in another directory.
    let starter = of("SERVER_STARTER_PORT");
    assert!(
        starter.starts_with(&format!("127.0.0.1:{port}=3;/")),
        "{starter}"
    );
    assert!(starter.ends_with("/x.sock=4"), "{starter}");
    let fpm = of("FPM_SOCKETS");
    assert!(fpm.starts_with(&format!("127.0.0.1:{port}=3,/")), "{fpm}");
    assert!(fpm.ends_with("/x.sock=4"), "{fpm}");
}

#[test]
fn no_protocol_is_exported_unasked() {
    let (environment, _) = told(&["127.0.0.1:0"]);
    assert!(environment.contains_key("LISTEN_FDS"));
    for other in [
        "EINHORN_FD_COUNT",
        "SERVER_STARTER_PORT",
        "UNICORN_FD",
        "NGINX",
        "FPM_SOCKETS",
    ] {
        assert!(!environment.contains_key(other), "{other}");
    }
}

#[test]
fn an_address_a_protocol_cannot_hold_is_a_usage_error() {
    for (protocol, address, why) in [
        (
            "nginx",
            "vsock::1",
            "NGINX cannot hold vsock::1: it is for TCP, UDP and Unix sockets with a path",
        ),
        (
            "unicorn",
            "udp:127.0.0.1:0",
            "UNICORN_FD cannot hold udp:127.0.0.1:0: it is for TCP and Unix stream sockets",
        ),
        (
            "server-starter",
            "./a=b",
            "SERVER_STARTER_PORT cannot hold unix:./a=b: a ';' or '=' in a path is taken for its \
             end",
        ),
        (
            "php-fpm",
            "@name",
            "FPM_SOCKETS cannot hold unix:@name: it has no path",
        ),
        (
            "php-fpm",
            "127.0.0.1:0,copies=2",
            "FPM_SOCKETS cannot hold tcp:127.0.0.1:0,copies=2: the format identifies listeners by \
             address",
        ),
    ] {
        let (_guard, directory) = directory();
        let mut command = Command::new(pf_listen());
        command.args(["-e", protocol, "./before.sock", address, "--", "true"]);
        let (code, _, errors) = finished(command.current_dir_of(&directory));
        assert_eq!(code, 2, "{errors}");
        let said = format!("pf-listen: --export {protocol}: {why}");
        assert!(errors.starts_with(&said), "{errors}");
        let left = std::fs::read_dir(&directory).expect("ours").count();
        assert_eq!(left, 0, "nothing was bound");
    }
    let mut command = Command::new(pf_listen());
    command.args(["-e", "upstart", "127.0.0.1:0", "--", "true"]);
    let (code, _, errors) = finished(command);
    assert!(
        code == 2 && errors.contains("upstart") && errors.contains("server-starter"),
        "{errors}"
    );
}

#[test]
fn a_misfit_known_after_binding_is_a_usage_error() {
    let (_guard, directory) = directory();
    let odd = directory.join("a=b");
    std::fs::create_dir(&odd).expect("ours");
    let mut command = Command::new(pf_listen());
    command.args(["-e", "server-starter", "./x", "--", "true"]);
    let (code, _, errors) = finished(command.current_dir_of(&odd));
    assert!(
        code == 2 && errors.contains("cannot hold unix:/"),
        "{errors}"
    );
}

/// A command that runs elsewhere, by value.
trait Elsewhere {
    fn current_dir_of(self, directory: &std::path::Path) -> Command;
}

impl Elsewhere for Command {
    fn current_dir_of(mut self, directory: &std::path::Path) -> Command {
        self.current_dir(directory);
        self
    }
}
