//! Unix paths: who may take one, and what holds before the first client.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;

use crate::common::running::{Running, directory, finished, is_root};
use crate::reporter::{listen_and_report, reported, shell};

fn address(path: &Path) -> String {
    path.display().to_string()
}

/// Tries once; the one line on standard error.
fn refused(path: &Path) -> String {
    let (code, out, errors) = finished(listen_and_report(["--tries", "0", &address(path)]));
    assert_eq!((code, out.as_str()), (111, ""), "{errors}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
    errors
}

/// A socket file without a server.
fn leave_dead_socket(path: &Path) -> u64 {
    drop(UnixListener::bind(path).expect("bound"));
    path.metadata().expect("left").ino()
}

#[test]
fn a_dead_servers_path_is_replaced() {
    let (_guard, directory) = directory();
    let path = directory.join("a");
    leave_dead_socket(&path);
    let mut running = Running::start(listen_and_report([address(&path)]));
    running.report();
    UnixStream::connect(&path).expect("served anew");
    drop(running);
    assert!(path.exists(), "the path stays at exit");
    // A dead datagram socket, too, and for a stream one.
    let other = directory.join("b");
    drop(UnixDatagram::bind(&other).expect("bound"));
    reported(listen_and_report([address(&other)]));
}

#[test]
fn a_path_with_a_full_queue_is_in_use() {
    let (_guard, directory) = directory();
    let path = directory.join("a");
    let live = UnixListener::bind(&path).expect("bound");
    let before = path.metadata().expect("there").ino();
    let errors = refused(&path);
    let start = format!(
        "pf-listen: cannot bind unix:{}: Address already in use (held by pid {}, ",
        path.display(),
        std::process::id()
    );
    assert!(errors.starts_with(&start), "{errors}");
    nix::sys::socket::listen(&live, nix::sys::socket::Backlog::new(0).expect("a backlog"))
        .expect("smaller");
    // A queue that holds nothing more: a connect that waited would wait for ever.
    let mut clients = vec![];
    loop {
        let client = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)
            .expect("a socket");
        client.set_nonblocking(true).expect("set");
        if client
            .connect(&socket2::SockAddr::unix(&path).expect("short"))
            .is_err()
        {
            break;
        }
        clients.push(client);
    }
    assert!(refused(&path).starts_with(&start));
    assert_eq!(path.metadata().expect("there").ino(), before);
    // A live one of another type is alive, too.
    let gram = directory.join("b");
    let _live = UnixDatagram::bind(&gram).expect("bound");
    assert!(refused(&gram).contains("Address already in use"));
}

#[test]
fn a_file_that_is_no_socket_is_kept() {
    let (_guard, directory) = directory();
    let file = directory.join("file");
    std::fs::write(&file, "precious").expect("written");
    let expected = format!(
        "pf-listen: cannot bind unix:{0}: a file that is not a socket is in the way (remove or \
         rename {0})\n",
        file.display()
    );
    assert_eq!(refused(&file), expected);
    assert_eq!(std::fs::read_to_string(&file).expect("there"), "precious");
    // Links are not followed: not to a dead socket, not to nowhere.
    let dead = directory.join("dead");
    let inode = leave_dead_socket(&dead);
    for target in ["dead", "file", "nowhere"] {
        let link = directory.join(format!("to-{target}"));
        symlink(target, &link).expect("linked");
        assert!(refused(&link).contains("a file that is not a socket is in the way"));
        assert!(link.is_symlink());
    }
    assert_eq!(dead.metadata().expect("there").ino(), inode);
    assert!(!directory.join("nowhere").exists());
    assert!(refused(&directory.join("nowhere/a")).contains("/nowhere: No such file or directory"));
}

#[test]
fn a_directory_lock_held_elsewhere_is_a_named_error() {
    let (_guard, directory) = directory();
    let _kept = prefork::sys::files::dirlock::lock_dir_of(&directory.join("a")).expect("locked");
    let errors = refused(&directory.join("a"));
    let expected = format!(
        ": cannot lock directory {}: another process has held it for 5s (find it with lsof or \
         fuser)\n",
        directory.display()
    );
    assert!(errors.ends_with(&expected), "{errors}");
}

#[test]
fn of_two_starters_exactly_one_gets_the_path() {
    let (_guard, directory) = directory();
    for round in 0..10 {
        let path = directory.join(format!("{round}"));
        leave_dead_socket(&path);
        // Each blocks on its own FIFO; both are released at once.
        let gates = ["one", "other"].map(|which| directory.join(format!("{round}.{which}")));
        let mut starters = gates.each_ref().map(|gate| {
            nix::unistd::mkfifo(gate, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
            let mut command = shell(
                r#"read go <"$GATE"
                exec "$LISTEN" --tries 0 "$SOCKET" -- sh -c 'echo won; read forever'"#,
            );
            command.env("GATE", gate).env("SOCKET", &path);
            Running::start(command)
        });
        let mut gates = gates.map(|gate| {
            std::fs::OpenOptions::new()
                .write(true)
                .open(gate)
                .expect("a reader")
        });
        for gate in &mut gates {
            std::io::Write::write_all(gate, b"go\n").expect("written");
        }
        // Before either is ended: the winner must be alive while the other tries.
        let won = starters
            .each_mut()
            .map(|starter| starter.line_or_end().is_some());
        let errors = starters.map(|starter| starter.finish().1);
        let expected = format!(
            "pf-listen: cannot bind unix:{}: Address already in use (held by ",
            path.display()
        );
        match won {
            [true, false] => assert!(
                errors[0].is_empty() && errors[1].starts_with(&expected),
                "{errors:?}"
            ),
            [false, true] => assert!(
                errors[1].is_empty() && errors[0].starts_with(&expected),
                "{errors:?}"
            ),
            _ => panic!("{won:?}: {errors:?}"),
        }
    }
}

#[test]
fn mode_and_owner_are_as_asked_for() {
    let (_guard, directory) = directory();
    let path = directory.join("a");
    reported(listen_and_report([format!("{},mode=0620", path.display())]));
    assert_eq!(
        path.metadata().expect("there").permissions().mode() & 0o7777,
        0o620
    );
    // Without a mode the umask decides, as for any file; COMMAND has the umask that pf-listen had.
    let path = directory.join("b");
    let mut command = shell(r#"umask 027; exec "$LISTEN" "$SOCKET" -- sh -c umask"#);
    command.env("SOCKET", &path);
    assert_eq!(finished(command).1, "0027\n");
    assert_eq!(
        path.metadata().expect("there").permissions().mode() & 0o7777,
        0o750
    );
    if is_root("give files away") {
        let path = directory.join("c");
        reported(listen_and_report([format!(
            "{},mode=0600,owner=4242,group=4343",
            path.display()
        )]));
        let found = path.metadata().expect("there");
        assert!(found.file_type().is_socket());
        assert_eq!(
            (
                found.uid(),
                found.gid(),
                found.permissions().mode() & 0o7777
            ),
            (4242, 4343, 0o600)
        );
    }
    let path = directory.join("d");
    let (code, _, errors) = finished(listen_and_report([format!(
        "{},owner=no-such-user-here",
        path.display()
    )]));
    assert_eq!(
        (code, errors.as_str()),
        (
            111,
            "pf-listen: cannot find user 'no-such-user-here': no such user\n"
        )
    );
    assert!(!path.exists());
}
