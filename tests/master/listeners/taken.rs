//! `take-fds`: another program, and another master, with the listeners of a running one.

use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use prefork::sys::listener;
use prefork::worker::notify;
use rustix::event::{PollFd, PollFlags, poll};

use super::{free, serves};
use crate::common::load::{Load, Target};
use crate::common::support::service::{Service, Worker, hello};

fn ctl(words: &[&str], pid_file: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pf-ctl"));
    command.arg(words[0]).arg(pid_file).args(&words[1..]);
    command
}

#[track_caller]
fn done(mut command: Command) {
    let output = command.output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}");
}

/// Another master over the listeners of the one that `from` names, with its own names.
fn take(from: &Path, to: &Path, worker: &Worker) -> Child {
    let mut command = ctl(&["take-fds", "--"], from);
    command.arg(env!("CARGO_BIN_EXE_pf-master")).arg("--pid");
    command.arg(to).args(["-n", "2", "--canary", "off", "--"]);
    command.args(&worker.command);
    command.envs(worker.environment.iter().cloned());
    let log = std::fs::File::create(to.with_extension("log")).expect("a log");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    let child = command.spawn().expect("pf-ctl starts");
    done(ctl(&["wait", "--ready"], to));
    child
}

fn ended_well(mut child: Child) {
    let status = child.wait().expect("our own child");
    assert!(status.success(), "{status}");
}

#[test]
fn p5_the_sockets_move_to_another_master_and_back_and_no_connection_is_lost() {
    let service = Service::start(&["-n", "2"], &Worker::hello());
    let load = Load::start(
        &[Target::Tcp(service.tcp()), Target::Unix(service.unix())],
        2,
    );
    let (first, second) = (service.path("app.pid"), service.path("b.pid"));
    load.more(25);
    let other = take(&first, &second, &Worker::hello());
    load.more(25);
    service.ctl(["stop"]);
    load.more(25);
    let back = take(&second, &first, &Worker::hello());
    load.more(25);
    done(ctl(&["stop"], &second));
    ended_well(other);
    load.more(25);
    load.stop().assert_none_lost(&service.log());
    serves(&service, &Target::Unix(service.unix()));
    done(ctl(&["stop"], &first));
    ended_well(back);
}

#[test]
fn p5_the_program_gets_names_and_formats_and_nothing_of_the_service() {
    let at = free();
    let listen = format!("web=tcp:{at}");
    let service = Service::start(&["-n", "1", "--listen", &listen], &Worker::hello());
    let script = "echo $LISTEN_FDS $LISTEN_FDNAMES $UNICORN_FD $PF_TAKEN_FROM $((LISTEN_PID - $$))
        for fd in 3 4 5 6; do [ -S /proc/$$/fd/$fd ] || echo $fd is no socket; done";
    let words = ["take-fds", "--export", "unicorn", "--", "sh", "-c", script];
    let output = ctl(&words, &service.path("app.pid"))
        .output()
        .expect("pf-ctl starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let pid = service.status().pid;
    let wanted = format!("3 unknown:unknown:web 3,4,5 {pid} 0\n6 is no socket\n");
    assert_eq!(text, wanted, "{}", String::from_utf8_lossy(&output.stderr));
    service.stop();
}

/// A process of a worker that takes listeners leaves the service by it: the stop does not wait.
#[test]
fn p5_what_took_the_listeners_is_not_of_the_service() {
    let mut worker = Worker::hello();
    let script = r#"[ $PF_WORKER = 0 ] && [ ! -e "$3" ] && { : >"$3"; setsid "$1" take-fds "$2" -- sh -c 'echo $$ >"$0"; exec sleep 1000' "$4" & }; exec "$0""#;
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name);
    worker.command = vec!["sh".into(), "-c".into(), script.into(), hello().into()];
    worker.command.push(env!("CARGO_BIN_EXE_pf-ctl").into());
    let (once, taker) = (path("once"), path("taker"));
    worker
        .command
        .extend([path("app.pid").into(), once.into(), taker.clone().into()]);
    let service = Service::start_in(dir, &["-n", "2"], &worker);
    let pid: i32 = crate::common::service::until("it has them", || {
        let text = std::fs::read_to_string(&taker).ok()?;
        text.trim().parse().ok()
    });
    let (code, text) = service.try_ctl(["stop"]);
    assert_eq!(code, Some(0), "{text}\n{}", service.log());
    assert!(!text.contains("left behind"), "{text}");
    assert!(
        crate::common::service::process::alive(pid),
        "{}",
        service.log()
    );
    let held = crate::common::service::process::descriptors(pid);
    assert!(held.values().any(|it| *it == "socket"), "{held:?}");
    assert!(!held.values().any(|it| it.contains("memfd")), "{held:?}");
    crate::common::service::process::signal(pid, nix::sys::signal::Signal::SIGKILL);
}

/// The role: answers every datagram with itself, until TERM.
#[test]
fn echo_datagrams() {
    if std::env::var_os("PF_TEST_ECHO").is_none() {
        return;
    }
    let (end, told) = UnixStream::pair().expect("a pair");
    signal_hook::low_level::pipe::register(nix::libc::SIGTERM, told).expect("a handler");
    let mut inherited = listener::inherit_listen_fds(1, &[]).expect("a listener");
    let socket = UdpSocket::from(inherited.remove(0).fd);
    socket.set_nonblocking(true).expect("set");
    notify::ready().expect("sent");
    let mut bytes = [0; 64];
    loop {
        let mut fds = [
            PollFd::from_borrowed_fd(end.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN),
        ];
        let polled = poll(&mut fds, None);
        if polled.is_ok() && !fds[0].revents().is_empty() {
            return;
        }
        if let Ok((length, from)) = socket.recv_from(&mut bytes) {
            socket.send_to(&bytes[..length], from).expect("sent");
        }
    }
}

#[test]
fn p5_a_datagram_service_moves_and_no_datagram_is_lost() {
    let worker = Worker::role("listeners::taken::echo_datagrams").with("PF_TEST_ECHO", "1");
    let dir = tempfile::tempdir().expect("a directory");
    let (first, second) = (dir.path().join("a.pid"), dir.path().join("b.pid"));
    let at = free();
    let mut chain = Command::new(env!("CARGO_BIN_EXE_pf-listen"));
    chain
        .arg(format!("udp:{at}"))
        .args(["--", env!("CARGO_BIN_EXE_pf-master"), "--pid"]);
    chain.arg(&first).args(["-n", "2", "--canary", "off", "--"]);
    chain
        .args(&worker.command)
        .envs(worker.environment.iter().cloned());
    chain
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let original = chain.spawn().expect("pf-listen starts");
    done(ctl(&["wait", "--ready"], &first));
    let (over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let client = UdpSocket::bind("127.0.0.1:0").expect("bound");
            client.connect(at).expect("connected");
            let patience = Some(crate::common::support::PATIENCE);
            client.set_read_timeout(patience).expect("set");
            while !over.load(Ordering::SeqCst) {
                let text = answered.load(Ordering::SeqCst).to_string();
                client.send(text.as_bytes()).expect("the socket is open");
                let mut bytes = [0; 64];
                let length = client.recv(&mut bytes).expect("an answer");
                assert_eq!(&bytes[..length], text.as_bytes());
                answered.fetch_add(1, Ordering::SeqCst);
            }
        });
        let more = || {
            let wanted = answered.load(Ordering::SeqCst) + 20;
            crate::common::service::until("more are answered", || {
                (answered.load(Ordering::SeqCst) >= wanted).then_some(())
            });
        };
        more();
        let other = take(&first, &second, &worker);
        more();
        done(ctl(&["stop"], &first));
        ended_well(original);
        more();
        let back = take(&second, &first, &worker);
        done(ctl(&["stop"], &second));
        ended_well(other);
        more();
        over.store(true, Ordering::SeqCst);
        done(ctl(&["stop"], &first));
        ended_well(back);
    });
}
