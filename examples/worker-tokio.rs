//! A worker with tokio, and nothing above it: HTTP/1.1 with keep-alive, a task a client.
//!
//!     cargo build --release --example worker-tokio
//!     pf-listen 127.0.0.1:8080 -- pf-master -n 4 --pid app.pid -- \
//!         target/release/examples/worker-tokio
//!
//! The library has no runtime. Its counting and waiting fit into one: a [`Gate`] counts the
//! connections, here in tasks.

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use prefork::worker::gate::{Gate, Ticket};
use prefork::{Heartbeat, Listeners, notify};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{interval, timeout};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// The longest head of a request, in bytes.
const LONGEST_HEAD: u64 = 16 * 1024;
/// How long a client may be silent.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long clients may continue once the worker is asked to finish.
const DRAIN: Duration = Duration::from_secs(25);
/// How long the first request of a connection may take to arrive then: it was on its way when the
/// connection was accepted.
const FIRST_WORD: Duration = Duration::from_secs(2);
/// The same for a later request: a client that asks often is told in an answer that it was the
/// last.
const LAST_WORD: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    // Before the runtime has threads: only then can the variables be removed.
    let outcome = inherit().and_then(|(listeners, heartbeat)| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let outcome = runtime.block_on(work(listeners, heartbeat));
        // The wait for the last clients has lasted long enough.
        runtime.shutdown_background();
        outcome
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "worker-tokio: {error}");
            ExitCode::FAILURE
        }
    }
}

fn inherit() -> Outcome<(Listeners, Heartbeat)> {
    let listeners = Listeners::inherit_or_bind(["127.0.0.1:8080"])?;
    Ok((listeners, Heartbeat::inherit()?))
}

/// What every task knows.
#[derive(Clone)]
struct World {
    gate: Gate,
    heartbeat: Heartbeat,
    stopping: watch::Receiver<bool>,
}

async fn work(mut listeners: Listeners, heartbeat: Heartbeat) -> Outcome {
    // Before the worker reports ready, so that no signal comes too early.
    let (mut term, mut quit) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::quit())?,
    );
    let (stop, stopping) = watch::channel(false);
    let world = World {
        gate: Gate::new(),
        heartbeat,
        stopping,
    };
    for place in 0..listeners.len() {
        // The runtime wants them so, which they then are for all who share them.
        if let Ok(listener) = listeners.tcp(place) {
            listener.set_nonblocking(true)?;
            let listener = TcpListener::from_std(listener)?;
            tokio::spawn(accept(world.clone(), async move || {
                Ok(listener.accept().await?.0)
            }));
        } else {
            let listener = listeners.unix(place)?;
            listener.set_nonblocking(true)?;
            let listener = UnixListener::from_std(listener)?;
            tokio::spawn(accept(world.clone(), async move || {
                Ok(listener.accept().await?.0)
            }));
        }
    }
    if let Some(often) = heartbeat.interval() {
        let mut often = interval(often);
        tokio::spawn(async move {
            loop {
                often.tick().await;
                heartbeat.beat();
            }
        });
    }
    notify::ready()?;
    tokio::select! {
        _ = term.recv() => {}
        _ = quit.recv() => {}
    }
    world.gate.close();
    stop.send(true)?;
    notify::stopping()?;
    let gate = world.gate.clone();
    let drained = tokio::task::spawn_blocking(move || gate.wait(|| None));
    tokio::select! {
        drained = timeout(DRAIN, drained) => { drained?.map(drop).map_err(Into::into) }
        // A second word means now.
        _ = term.recv() => Err("told to end at once".into()),
        _ = quit.recv() => Err("told to end at once".into()),
    }
}

/// Accepts until the gate is closed.
async fn accept<S>(mut world: World, listener: impl AsyncFn() -> io::Result<S>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    loop {
        // Before the accept, so that no client is between the queue and the count when the gate is
        // closed.
        let Some(entrance) = world.gate.enter() else {
            return;
        };
        let accepted = tokio::select! {
            accepted = listener() => accepted,
            _ = world.stopping.wait_for(|stopping| *stopping) => return,
        };
        match accepted {
            Ok(client) => {
                tokio::spawn(converse(client, entrance.admit(), world.clone()));
            }
            Err(error) => {
                let _ = writeln!(io::stderr(), "worker-tokio: accept: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Serves a client, and closes its connection before it no longer counts.
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(client: S, ticket: Ticket, world: World) {
    let open = world.heartbeat.connection();
    // A client that goes away, or takes too long, is its own business.
    let _ = serve(client, world).await;
    drop((open, ticket));
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(client: S, mut world: World) -> Outcome {
    let mut client = BufReader::new(client);
    let mut is_first = true;
    while await_request(&mut client, &mut world, is_first).await {
        let counted = world.heartbeat.request();
        let Some((name, keeps_alive)) = timeout(PATIENCE, read_request(&mut client)).await?? else {
            break;
        };
        let is_last = *world.stopping.borrow() || !keeps_alive;
        let connection = if is_last { "close" } else { "keep-alive" };
        let body = format!("hello {name}, from pid {}\n", std::process::id());
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: {connection}\r\n\r\n{body}"
        );
        timeout(PATIENCE, client.get_mut().write_all(answer.as_bytes())).await??;
        drop(counted);
        if is_last {
            break;
        }
        is_first = false;
    }
    Ok(())
}

/// The pause between two requests: it ends with the next one (true), or with the connection.
async fn await_request<S: AsyncRead + Unpin>(
    client: &mut BufReader<S>,
    world: &mut World,
    is_first: bool,
) -> bool {
    let stopping = world.stopping.wait_for(|stopping| *stopping);
    tokio::select! {
        // What has come already is served.
        biased;
        begun = timeout(PATIENCE, client.fill_buf()) => return has_more(begun),
        _ = stopping => {}
    }
    let patience = if is_first { FIRST_WORD } else { LAST_WORD };
    has_more(timeout(patience, client.fill_buf()).await)
}

fn has_more(read: Result<io::Result<&[u8]>, tokio::time::error::Elapsed>) -> bool {
    matches!(read, Ok(Ok(bytes)) if !bytes.is_empty())
}

/// The name in `GET /NAME`, and whether the connection stays; None at its end.
async fn read_request<S: AsyncRead + Unpin>(
    client: &mut BufReader<S>,
) -> Outcome<Option<(String, bool)>> {
    let mut head = client.take(LONGEST_HEAD);
    let mut line = String::new();
    if head.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let path = line.strip_prefix("GET /").ok_or("not a GET")?;
    let (name, version) = path.trim_end().split_once(' ').ok_or("no version")?;
    let mut keeps_alive = version == "HTTP/1.1";
    loop {
        let mut line = String::new();
        if head.read_line(&mut line).await? == 0 {
            return Err("a head without an end".into());
        }
        if line.trim_end().is_empty() {
            return Ok(Some((name.to_owned(), keeps_alive)));
        }
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("connection:") {
            keeps_alive = value.trim() != "close";
        }
    }
}
