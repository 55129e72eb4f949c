//! A worker with axum.
//!
//!     cargo build --release --example worker-axum
//!     pf-listen 127.0.0.1:8080 -- pf-master -n 4 --pid app.pid -- \
//!         target/release/examples/worker-axum
//!
//! axum drains by itself and closes kept connections. But it does so at once, also where the first
//! request is still on its way. So a worker that is asked to finish first only stops accepting and
//! marks each answer as the last of its connection, and a little later lets axum shut down.

use std::error::Error;
use std::future::pending;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::header::{CONNECTION, HeaderValue};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::get;
use axum::serve::Listener;
use prefork::{Heartbeat, Listeners, notify};
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// How long clients may continue once the worker is asked to finish: less than the master's
/// `--graceful-timeout`.
const DRAIN: Duration = Duration::from_secs(25);
/// How long a connection may take to send a request then.
const FIRST_WORD: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    // Before the runtime has threads: only then can the variables be removed.
    let outcome = inherit().and_then(|(listeners, heartbeat)| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?
            .block_on(work(listeners, heartbeat))
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "worker-axum: {error}");
            ExitCode::FAILURE
        }
    }
}

fn inherit() -> Outcome<(Listeners, Heartbeat)> {
    let listeners = Listeners::inherit_or_bind(["127.0.0.1:8080"])?;
    Ok((listeners, Heartbeat::inherit()?))
}

/// What every request knows.
#[derive(Clone)]
struct World {
    heartbeat: Heartbeat,
    /// No client is accepted any more.
    stopping: watch::Receiver<bool>,
}

async fn work(mut listeners: Listeners, heartbeat: Heartbeat) -> Outcome {
    // Before the worker reports ready, so that no signal comes too early.
    let (term, quit) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::quit())?,
    );
    let (stop, stopping) = watch::channel(false);
    let (close, closing) = watch::channel(false);
    let world = World {
        heartbeat,
        stopping,
    };
    let app = Router::new()
        .route("/{name}", get(hello))
        .layer(from_fn_with_state(world.clone(), count));
    let mut servers = JoinSet::new();
    for place in 0..listeners.len() {
        // The runtime wants them so, which they then are for all who share them.
        if let Ok(listener) = listeners.tcp(place) {
            listener.set_nonblocking(true)?;
            let listener = TcpListener::from_std(listener)?;
            servers.spawn(serve(listener, &app, &world, &closing));
        } else {
            let listener = listeners.unix(place)?;
            listener.set_nonblocking(true)?;
            let listener = UnixListener::from_std(listener)?;
            servers.spawn(serve(listener, &app, &world, &closing));
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
    asked_to_finish(term, quit).await;
    stop.send(true)?;
    notify::stopping()?;
    sleep(FIRST_WORD).await;
    close.send(true)?;
    timeout(DRAIN, async {
        while let Some(ended) = servers.join_next().await {
            ended??;
        }
        Ok(())
    })
    .await?
}

async fn asked_to_finish(mut term: Signal, mut quit: Signal) {
    tokio::select! {
        _ = term.recv() => {}
        _ = quit.recv() => {}
    }
}

/// Serves the clients of a listener until `closing` becomes true.
fn serve<L>(
    listener: L,
    app: &Router,
    world: &World,
    closing: &watch::Receiver<bool>,
) -> impl Future<Output = io::Result<()>> + Send + use<L>
where
    L: Listener<Addr: std::fmt::Debug>,
{
    let listener = Until {
        listener,
        stopping: world.stopping.clone(),
    };
    let mut closing = closing.clone();
    axum::serve(listener, app.clone())
        .with_graceful_shutdown(async move {
            // An error means that the sender has gone, which is an end as well.
            let _ = closing.wait_for(|closing| *closing).await;
        })
        .into_future()
}

/// A listener that accepts no client once the worker is stopping.
struct Until<L> {
    listener: L,
    stopping: watch::Receiver<bool>,
}

impl<L: Listener> Listener for Until<L> {
    type Io = L::Io;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (L::Io, L::Addr) {
        let stopped = async { self.stopping.wait_for(|stopping| *stopping).await.is_ok() };
        let accepted = tokio::select! {
            accepted = self.listener.accept() => Some(accepted),
            _ = stopped => None,
        };
        match accepted {
            Some(accepted) => accepted,
            None => pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<L::Addr> {
        self.listener.local_addr()
    }
}

/// Counts each request, and beats.
async fn count(State(world): State<World>, request: Request, next: Next) -> Response {
    let counted = world.heartbeat.request();
    let mut response = next.run(request).await;
    drop(counted);
    if *world.stopping.borrow() {
        let last = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, last);
    }
    response
}

async fn hello(Path(name): Path<String>) -> String {
    format!("hello {name}, from pid {}\n", std::process::id())
}
