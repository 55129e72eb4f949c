//! `kill -9` of a worker until its replacement is about to accept.

use std::process::{Child, Command};
use std::time::Duration;

use prefork::sys::machine::clock;
use rustix::process::{Signal, pidfd_send_signal};

use super::managers::{Manager, Service};
use super::run::{Look, millis};
use super::stats::Sample;
use super::table::{Report, cells, number};
use super::{Bench, Outcome};

const WORKERS: usize = 8;
const KILLS: usize = 40;
/// The pause between two kills: odd, and longer than the life after which a worker's death counts
/// as an accident.
const BETWEEN: Duration = Duration::from_millis(37);

pub fn measure(bench: &Bench, report: &mut Report) -> Outcome {
    let event_driven = |manager: &&Manager| {
        matches!(
            manager,
            Manager::Ours | Manager::Multiwatch | Manager::Unicorn | Manager::Gunicorn
        )
    };
    let managers: Vec<Manager> = bench
        .managers
        .iter()
        .filter(event_driven)
        .copied()
        .collect();
    let mut services = Vec::new();
    for manager in &managers {
        let mut service = manager.start(&bench.stage, WORKERS, &["--backoff", "1ms..1ms"])?;
        service.run.await_workers(WORKERS, Look::AtOnce)?;
        services.push(service);
    }
    let quiet = replace_in_turns(&mut services, 0)?;
    let busy = beside_busy_cores(|| replace_in_turns(&mut services, KILLS))?;
    let columns = cells(["manager", "kills", "min", "median", "p90", "max"]);
    for (samples, title) in [
        (
            &quiet,
            "kill -9 of one of 8 workers until its replacement accepts, ms",
        ),
        (&busy, "The same, beside a busy process on each core, ms"),
    ] {
        let rows: Vec<Vec<String>> = managers
            .iter()
            .zip(samples)
            .map(|(manager, sample)| {
                let mut row = vec![manager.name().to_owned(), sample.len().to_string()];
                row.extend([0.0, 0.5, 0.9, 1.0].map(|share| number(sample.quantile(share))));
                row
            })
            .collect();
        report.table(title, &columns, &rows);
    }
    let median = |samples: &[Sample], wanted| {
        let found = managers.iter().position(|manager| *manager == wanted);
        found.and_then(|at| samples.get(at)).map(Sample::median)
    };
    if let (Some(ours), Some(peer)) = (
        median(&quiet, Manager::Ours),
        median(&quiet, Manager::Multiwatch),
    ) {
        let ratio = ours / peer;
        report.goal(
            "kill -9 of a worker until its replacement accepts",
            format!("{} ms, {} x multiwatch", number(ours), number(ratio)),
            "1.2 x multiwatch",
            ratio <= 1.2,
        );
    }
    Ok(())
}

/// Kills workers of each service in turn; `killed`: so many were killed before.
fn replace_in_turns(services: &mut [Service], killed: usize) -> Outcome<Vec<Sample>> {
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); services.len()];
    for kill in killed..killed + KILLS {
        for (service, times) in services.iter_mut().zip(&mut times) {
            clock::pause(BETWEEN);
            times.push(replace(service, kill)?);
        }
    }
    Ok(times.into_iter().map(Sample::from_iter).collect())
}

/// Measures while each core has a process that never waits.
fn beside_busy_cores<T>(measure: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let spin = |_| {
        Command::new("sh")
            .args(["-c", "while :; do :; done"])
            .spawn()
    };
    let mut busy = (0..cores).map(spin).collect::<Result<Vec<Child>, _>>()?;
    let measured = measure();
    for child in &mut busy {
        child.kill()?;
        child.wait()?;
    }
    measured
}

/// Kills the oldest worker but those killed before.
fn replace(service: &mut Service, killed: usize) -> Outcome<f64> {
    let run = &mut service.run;
    let known = run.workers.len();
    let victim = run
        .workers
        .get(killed)
        .ok_or("no worker is left to be killed")?;
    let began = clock::now();
    pidfd_send_signal(&victim.handle, Signal::KILL)?;
    run.await_workers(known + 1, Look::AtOnce)?;
    let ready = run.workers.last().ok_or("no worker")?.ready_at;
    Ok(millis(ready.since(began)))
}
