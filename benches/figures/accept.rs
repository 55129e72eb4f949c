//! A process for each connection: connections a second, beside tcpserver, and how evenly the
//! workers of a service share them.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use prefork::sys::io::poll::{Interest, Poller};
use prefork::sys::machine::clock;
use rustix::process::{Pid, Signal, kill_process};
use socket2::{Domain, Socket, Type};

use super::managers::is_installed;
use super::stats::Sample;
use super::table::{Report, cells, number};
use super::{Bench, Outcome};

/// How long one server is loaded in one turn, and how many turns: short and many, alternating, so
/// that other load on the machine hits both alike.
const STRETCH: Duration = Duration::from_millis(100);
const ROUNDS: usize = 80;

/// How many clients there are at once.
const CLIENTS: [usize; 3] = [1, 8, 64];

/// Workers that share a listener, and how many connections they share.
const WORKERS: usize = 4;
const SHARED: u64 = 4000;

const PATIENCE: Duration = Duration::from_secs(20);

const OURS: &str = "pf-accept -c 64";
const PEER: &str = "tcpserver -c 64";

/// A server at work; ended when dropped.
struct Server {
    child: Child,
    at: SocketAddr,
}

impl Server {
    /// Starts a server; `words` makes its command line for a port.
    fn start(words: impl Fn(&str) -> Vec<PathBuf>) -> Outcome<Server> {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let at = free.local_addr()?;
        drop(free);
        let line = words(&at.port().to_string());
        let (program, rest) = line.split_first().ok_or("a program")?;
        let mut command = Command::new(program);
        for variable in ["LISTEN_FDS", "LISTEN_PID", "NOTIFY_SOCKET"] {
            command.env_remove(variable);
        }
        command
            .args(rest)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let server = Server {
            child: command.spawn()?,
            at,
        };
        let limit = clock::now() + PATIENCE;
        while server.load(1, |served, _| served >= 1).is_err() {
            if clock::now() > limit {
                return Err(format!("{} does not serve", program.display()).into());
            }
            clock::pause(Duration::from_millis(5));
        }
        Ok(server)
    }

    /// This many clients open new connections until it is `enough`, by their number and the elapsed
    /// time; returns which process served how many.
    fn load(
        &self,
        clients: usize,
        enough: impl Fn(u64, Duration) -> bool,
    ) -> Outcome<BTreeMap<i32, u64>> {
        let began = clock::now();
        let mut served = BTreeMap::new();
        let mut count = 0;
        let mut poller = Poller::new();
        let mut flights: Vec<(Socket, Vec<u8>)> = Vec::new();
        while !enough(count, clock::now().since(began)) {
            while flights.len() < clients {
                flights.push((connect(self.at)?, Vec::new()));
            }
            let fds: Vec<_> = flights
                .iter()
                .map(|(socket, _)| (socket.as_fd(), Interest::READ))
                .collect();
            let ready: Vec<bool> = poller
                .wait(&fds, Some(clock::now() + PATIENCE))?
                .iter()
                .map(|ready| ready.any())
                .collect();
            drop(fds);
            if !ready.contains(&true) {
                return Err("no client is served".into());
            }
            let mut at = 0;
            let mut failed = None;
            flights.retain_mut(|(socket, answer)| {
                let is_ready = ready.get(at).copied().unwrap_or(false);
                at += 1;
                match is_ready.then(|| read(socket, answer)) {
                    Some(Ok(true)) => {
                        let pid = String::from_utf8_lossy(answer).trim().parse().unwrap_or(0);
                        *served.entry(pid).or_default() += 1;
                        count += 1;
                        false
                    }
                    Some(Err(error)) => {
                        failed = Some(error);
                        false
                    }
                    Some(Ok(false)) | None => true,
                }
            });
            if let Some(error) = failed {
                return Err(error.into());
            }
        }
        Ok(served)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let limit = clock::now() + PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) && clock::now() < limit {
            clock::pause(Duration::from_millis(1));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn connect(at: SocketAddr) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.connect(&at.into())?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Whether that was the end.
fn read(socket: &mut Socket, answer: &mut Vec<u8>) -> std::io::Result<bool> {
    let mut chunk = [0; 64];
    loop {
        match socket.read(&mut chunk) {
            Ok(0) => return Ok(true),
            Ok(count) => answer.extend_from_slice(chunk.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn words(words: &[&str]) -> Vec<PathBuf> {
    words.iter().map(PathBuf::from).collect()
}

pub fn measure(bench: &Bench, report: &mut Report) -> Outcome {
    rates(bench, report)?;
    shares(bench, report)
}

/// Connections a second.
fn rates(bench: &Bench, report: &mut Report) -> Outcome {
    if !is_installed("tcpserver") {
        return Ok(());
    }
    let handler = bench.stage.handler();
    let ours = Server::start(|port| {
        let mut line = words(&[
            env!("CARGO_BIN_EXE_pf-listen"),
            &format!("127.0.0.1:{port}"),
        ]);
        line.extend(words(&[
            "--",
            env!("CARGO_BIN_EXE_pf-accept"),
            "-c",
            "64",
            "--",
        ]));
        line.extend_from_slice(handler);
        line
    })?;
    let peer = Server::start(|port| {
        let mut line = words(&[
            "tcpserver",
            "-qHRl0",
            "-c",
            "64",
            "-b",
            "1024",
            "127.0.0.1",
            port,
        ]);
        line.extend_from_slice(handler);
        line
    })?;
    let mut rows = Vec::new();
    let mut worst = f64::INFINITY;
    for clients in CLIENTS {
        let mut rates = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for (server, rates) in [&ours, &peer].into_iter().zip(&mut rates) {
                let served = server.load(clients, |_, passed| passed >= STRETCH)?;
                let count: u64 = served.values().sum();
                rates.push(count as f64 / STRETCH.as_secs_f64());
            }
        }
        let [ours, peer] = &rates;
        let ratios = ours.iter().zip(peer).map(|(ours, peer)| ours / peer);
        let ratio = Sample::from_iter(ratios).median();
        worst = worst.min(ratio);
        let [ours, peer] = rates.map(|rates| Sample::from_iter(rates).median());
        rows.push(vec![
            clients.to_string(),
            number(ours),
            number(peer),
            number(ratio),
        ]);
    }
    report.table(
        &format!("Connections a second, a process each; medians of {ROUNDS}"),
        &cells(["clients at once", OURS, PEER, "ratio"]),
        &rows,
    );
    report.goal(
        "connections a second with a process each, at 1, 8 and 64 clients",
        format!("at least {} x tcpserver", number(worst)),
        "1 x tcpserver",
        worst >= 1.0,
    );
    Ok(())
}

/// Who serves how many.
fn shares(bench: &Bench, report: &mut Report) -> Outcome {
    let itself = std::env::current_exe()?;
    let itself = itself.to_str().ok_or("UTF-8")?;
    let accept = |options: &[&str]| {
        let mut line = words(&[env!("CARGO_BIN_EXE_pf-accept"), "-c", "16"]);
        line.extend(words(options));
        line.push("--".into());
        line.extend_from_slice(bench.stage.handler());
        line
    };
    let styles = [
        ("pf-accept", accept(&[])),
        ("pf-accept --serialize", accept(&["--serialize"])),
        ("blocking accept", words(&[itself, "accepter", "blocking"])),
        ("epoll", words(&[itself, "accepter", "epoll"])),
    ];
    let mut rows = Vec::new();
    for (style, worker) in &styles {
        let server = Server::start(|port| {
            let mut line = words(&[env!("CARGO_BIN_EXE_pf-master"), "-q"]);
            line.extend(words(&["-n", &WORKERS.to_string(), "--ready", "notify"]));
            line.extend(words(&["-l", &format!("127.0.0.1:{port}"), "--"]));
            line.extend_from_slice(worker);
            line
        })?;
        let mut row = vec![(*style).to_owned()];
        for clients in [1, 16] {
            // All of them are there.
            clock::pause(Duration::from_millis(200));
            let served = server.load(clients, |count, _| count >= SHARED)?;
            row.push(share(&served));
        }
        rows.push(row);
    }
    report.table(
        &format!("What share of {SHARED} connections each of {WORKERS} workers takes, %"),
        &cells(["how they wait", "one client at a time", "16 at once"]),
        &rows,
    );
    report.note(
        "Blocking accept and an exclusive wait whose waiters go to the end of the line \
         (pf-accept) take turns; epoll wakes them all, and the same \
         one is often first.",
    );
    Ok(())
}

fn share(served: &BTreeMap<i32, u64>) -> String {
    let all: u64 = served.values().sum();
    let mut shares: Vec<u64> = served.values().copied().collect();
    shares.resize(WORKERS.max(shares.len()), 0);
    shares.sort_unstable_by(|one, other| other.cmp(one));
    let shares: Vec<String> = shares
        .iter()
        .map(|count| format!("{:.0}", *count as f64 * 100.0 / all as f64))
        .collect();
    shares.join(" ")
}
