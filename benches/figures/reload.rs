//! A reload under load: how long it takes, what is lost, and what a request feels of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use prefork::model::time::Time;
use prefork::sys::machine::clock;
use rustix::process::Signal;

use super::load::{self, Account};
use super::managers::{Manager, Service};
use super::run::{Look, millis};
use super::stats::Sample;
use super::table::{Report, cells, number};
use super::{Bench, Outcome};

/// Of a manager, how many workers it can reload, and how often that is done.
fn plan(manager: Manager) -> Option<(usize, usize)> {
    match manager {
        Manager::Ours => Some((4, 20)),
        Manager::Unicorn | Manager::Gunicorn => Some((4, 10)),
        Manager::StartServer => Some((1, 3)),
        Manager::Bare | Manager::Multiwatch | Manager::S6 => None,
    }
}

/// Between the end of a reload and the next.
const PAUSE: Duration = Duration::from_millis(300);

/// Reloads begin at multiples of this. The load has a request of 20 ms every 25 ms, and a reload
/// often ends when such a request does. A fixed pause after each reload would therefore hit the
/// same moment of the rhythm each time; these multiples hit 20 moments evenly.
const STEP: Duration = Duration::from_micros(333_750);

/// Waits for the next multiple that is far enough away.
fn pause(since: Time) {
    let earliest = clock::now() + PAUSE;
    let steps = earliest.since(since).as_micros() / STEP.as_micros() + 1;
    let next = since + STEP * u32::try_from(steps).unwrap_or(u32::MAX);
    clock::pause(next.since(clock::now()));
}

/// What one manager did.
struct Measured {
    ready: Sample,
    gone: Sample,
    quiet: Account,
    rolling: Account,
}

pub fn measure(bench: &Bench, report: &mut Report) -> Outcome {
    let mut rows = Vec::new();
    for manager in &bench.managers {
        let Some((workers, reloads)) = plan(*manager) else {
            continue;
        };
        let mut service = manager.start(&bench.stage, workers, &[])?;
        service.run.await_workers(workers, Look::AtOnce)?;
        let measured = roll(&mut service, workers, reloads)?;
        rows.push(row(*manager, workers, &measured));
        if *manager == Manager::Ours {
            goals(&measured, report);
        }
    }
    let columns = cells([
        "manager",
        "workers",
        "reloads",
        "to all new ready, ms",
        "to old gone, ms",
        "max",
        "connections",
        "lost",
        "delay p50 / p99 / max, ms",
        "the same without reloads",
    ]);
    report.table("HUP under 400 new connections a second", &columns, &rows);
    Ok(())
}

fn roll(service: &mut Service, workers: usize, reloads: usize) -> Outcome<Measured> {
    let address = service.address.clone();
    let (quiet, ()) = under_load(&address, || {
        clock::pause(STEP * u32::try_from(reloads).unwrap_or(u32::MAX));
        Ok(())
    })?;
    let (rolling, times) = under_load(&address, || {
        let mut times = Vec::new();
        let since = clock::now();
        for _ in 0..reloads {
            pause(since);
            times.push(once(service, workers)?);
        }
        clock::pause(PAUSE);
        Ok(times)
    })?;
    Ok(Measured {
        ready: times.iter().map(|(ready, _)| *ready).collect(),
        gone: times.iter().map(|(_, gone)| *gone).collect(),
        quiet,
        rolling,
    })
}

/// To the last new worker's readiness, and to the last old one's end.
fn once(service: &mut Service, workers: usize) -> Outcome<(f64, f64)> {
    let run = &mut service.run;
    run.look()?;
    let known = run.workers.len();
    let leaving: Vec<usize> = (known - workers..known).collect();
    let began = clock::now();
    run.signal(Signal::HUP)?;
    let (ready, gone) = run.await_change(known + workers, &leaving)?;
    Ok((millis(ready.since(began)), millis(gone.since(began))))
}

/// Does something while there is load.
pub fn under_load<T>(address: &str, body: impl FnOnce() -> Outcome<T>) -> Outcome<(Account, T)> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let load = scope.spawn(|| load::run(address, &stop).map_err(|error| error.to_string()));
        let done = body();
        stop.store(true, Ordering::Relaxed);
        let account = load.join().map_err(|_| "the load client panicked")??;
        Ok((account, done?))
    })
}

fn row(manager: Manager, workers: usize, measured: &Measured) -> Vec<String> {
    vec![
        manager.name().to_owned(),
        workers.to_string(),
        measured.gone.len().to_string(),
        number(measured.ready.median()),
        number(measured.gone.median()),
        number(measured.gone.max()),
        measured.rolling.connections().to_string(),
        losses(&measured.rolling),
        delays(&measured.rolling),
        delays(&measured.quiet),
    ]
}

/// What was lost, by kind.
pub fn losses(account: &Account) -> String {
    let lost: Vec<String> = account
        .lost
        .iter()
        .map(|(kind, count)| format!("{count} {kind}"))
        .collect();
    if lost.is_empty() {
        "0".to_owned()
    } else {
        lost.join(", ")
    }
}

/// How long a request took: median, 99th percentile and worst, in milliseconds.
pub fn delays(account: &Account) -> String {
    let sample = account.delays();
    [0.5, 0.99, 1.0]
        .map(|share| number(sample.quantile(share)))
        .join(" / ")
}

fn goals(measured: &Measured, report: &mut Report) {
    let gone = measured.gone.median();
    report.goal(
        "reload of 4 workers under load, to the old ones' end",
        format!("{} ms", number(gone)),
        "24 ms",
        gone <= 24.0,
    );
    let lost = measured.rolling.all_lost();
    report.goal(
        "connections lost through those reloads",
        format!("{lost} of {}", measured.rolling.connections()),
        "0",
        lost == 0,
    );
    let (with, without) = (measured.rolling.delays(), measured.quiet.delays());
    let ratio = with.max() / without.max();
    report.goal(
        "worst delay of a request during a rollout",
        format!(
            "{} ms, {} x the same load without one (p99: {} x)",
            number(with.max()),
            number(ratio),
            number(with.quantile(0.99) / without.quantile(0.99)),
        ),
        "1.5 x",
        ratio <= 1.5,
    );
}
