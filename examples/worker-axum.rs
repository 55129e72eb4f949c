//! A worker with axum.
//!
//!     cargo build --release --example worker-axum
//!     pf-listen 127.0.0.1:8080 -- pf-master -n 4 --pid app.pid -- target/release/examples/worker-axum
//!
//! axum drains by itself, and closes connections that are kept alive at their next pause. What remains: to take over the listeners, to say what this worker is
//! up to, to count, and to see that the drain ends.

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::get;
use prefork::{Heartbeat, Listeners, notify};
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// How long clients may go on once the worker is told to finish: less than the master's patience, `--graceful-timeout`.
const DRAIN: Duration = Duration::from_secs(25);

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

async fn work(mut listeners: Listeners, heartbeat: Heartbeat) -> Outcome {
    // Before readiness is told, so that no signal comes too early.
    let (term, quit) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::quit())?,
    );
    let app = Router::new()
        .route("/{name}", get(hello))
        .layer(from_fn_with_state(heartbeat, count));
    let (stop, stopping) = watch::channel(());
    let mut servers = JoinSet::new();
    for place in 0..listeners.len() {
        let (app, mut stopping) = (app.clone(), stopping.clone());
        let stopped = async move {
            // An error is the end of whoever says it: an end as well.
            let _ = stopping.changed().await;
        };
        // The runtime wants them so, which they then are for all who share them.
        if let Ok(listener) = listeners.tcp(place) {
            listener.set_nonblocking(true)?;
            let listener = TcpListener::from_std(listener)?;
            servers.spawn(
                axum::serve(listener, app)
                    .with_graceful_shutdown(stopped)
                    .into_future(),
            );
        } else {
            let listener = listeners.unix(place)?;
            listener.set_nonblocking(true)?;
            let listener = UnixListener::from_std(listener)?;
            servers.spawn(
                axum::serve(listener, app)
                    .with_graceful_shutdown(stopped)
                    .into_future(),
            );
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
    stop.send(())?;
    notify::stopping()?;
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

/// Counts each request, and beats.
async fn count(State(heartbeat): State<Heartbeat>, request: Request, next: Next) -> Response {
    let counted = heartbeat.request();
    let response = next.run(request).await;
    drop(counted);
    response
}

async fn hello(Path(name): Path<String>) -> String {
    format!("hello {name}, from pid {}\n", std::process::id())
}
