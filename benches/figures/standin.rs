//! Plays the worker and the bare loop where there is no C compiler, and the counted process.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::Duration;

use prefork::sys::io::fd;
use prefork::sys::io::poll::{Interest, NestedEpoll, Poller};
use prefork::sys::machine::clock;
use prefork::sys::notify;
use prefork::sys::signal::Signals;

use super::Outcome;

/// Plays the part that the first word names, if it is one.
pub fn play(words: &[String]) -> Option<ExitCode> {
    let (part, rest) = words.split_first()?;
    let done = match part.as_str() {
        "worker" => worker(rest.first().is_some_and(|word| word == "stamp")),
        "bare" => bare(rest),
        "accepter" => accepter(rest.first().is_some_and(|word| word == "epoll")),
        "beats" => super::beat::play(rest),
        _ => return None,
    };
    Some(if done.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Accepts on the first listener, blocking or by epoll as most servers do, and sends its pid to
/// each client.
fn accepter(by_epoll: bool) -> Outcome {
    let listener = TcpListener::from(fd::duplicate(3)?);
    listener.set_nonblocking(by_epoll)?;
    let nest = NestedEpoll::new()?;
    nest.add(listener.as_fd(), 0, Interest::READ)?;
    let mut poller = Poller::new();
    if let Some(address) = std::env::var_os("NOTIFY_SOCKET") {
        notify::send(&address, "READY=1")?;
    }
    let own = format!("{}\n", std::process::id());
    loop {
        if by_epoll {
            poller.wait(&[(nest.fd(), Interest::READ)], None)?;
        }
        match listener.accept() {
            // A client that has left is no error.
            Ok((mut client, _)) => drop(client.write(own.as_bytes())),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// As worker.c, but with a non-blocking listener: it polls the listener and its signals.
fn worker(stamp: bool) -> Outcome {
    if stamp {
        return record();
    }
    let number = if std::env::var_os("LISTEN_FDS").is_some() {
        3
    } else {
        let variable =
            std::env::var("SERVER_STARTER_PORT").or_else(|_| std::env::var("BENCH_FD"))?;
        variable.rsplit('=').next().unwrap_or_default().parse()?
    };
    let listener = TcpListener::from(fd::duplicate(number)?);
    listener.set_nonblocking(true)?;
    let mut signals = Signals::install()?;
    if std::env::var_os("BENCH_BEAT").is_some() {
        let beat: i32 = std::env::var("PF_HEARTBEAT_FD")?.parse()?;
        File::from(fd::duplicate(beat)?).write_all_at(&1u64.to_ne_bytes(), 8)?;
    }
    if let Some(address) = std::env::var_os("NOTIFY_SOCKET") {
        notify::send(&address, "READY=1")?;
    }
    record()?;
    let mut poller = Poller::new();
    loop {
        let both = [
            (signals.fd(), Interest::READ),
            (listener.as_fd(), Interest::READ),
        ];
        let [told, _] = *poller.wait(&both, None)? else {
            return Ok(());
        };
        if told.any() && !signals.pending().is_empty() {
            return Ok(());
        }
        match listener.accept() {
            Ok((connection, _)) => drop(serve(connection)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn record() -> Outcome {
    let mut record = Vec::new();
    record.extend(std::process::id().to_ne_bytes());
    record.extend([0; 4]);
    record.extend(clock::now().0.to_ne_bytes());
    let path = std::env::var_os("BENCH_FIFO").ok_or("no BENCH_FIFO")?;
    File::options().write(true).open(path)?.write_all(&record)?;
    Ok(())
}

fn serve(mut connection: TcpStream) -> Outcome {
    connection.set_nonblocking(false)?;
    let mut request = Vec::new();
    let mut chunk = [0; 512];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match connection.read(&mut chunk)? {
            0 => return Ok(()),
            length => request.extend_from_slice(chunk.get(..length).unwrap_or_default()),
        }
    }
    if request.starts_with(b"GET /w") {
        clock::pause(Duration::from_millis(20));
    }
    Ok(connection.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nok\n")?)
}

/// As bare.c.
fn bare(words: &[String]) -> Outcome {
    let [count, program, rest @ ..] = words else {
        return Err("bare N PROGRAM".into());
    };
    let mut command = Command::new(program);
    command.args(rest);
    let count: u32 = count.parse()?;
    if count == 0 {
        return Err(command.exec().into());
    }
    let children: Vec<_> = (0..count)
        .map(|_| command.spawn())
        .collect::<Result<_, _>>()?;
    loop {
        clock::pause(Duration::from_secs(3600));
        // They live as long as this does.
        let _ = &children;
    }
}
