//! `kill -9` of the master until the service is served again: of a master under `pf-listen --hold`,
//! and, as the least possible time, of a master that this program restarts at once with the same
//! listener.

use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::Duration;

use prefork::sys::machine::clock;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::run::{Look, Run, millis};
use super::stats::Sample;
use super::table::{Report, cells, number};
use super::{Bench, Outcome};

const WORKERS: usize = 8;
const KILLS: usize = 20;
/// Between two kills: longer than a master must have lived to be started again at once.
const BETWEEN: Duration = Duration::from_millis(151);

pub fn measure(bench: &Bench, report: &mut Report) -> Outcome {
    let count = WORKERS.to_string();
    let mut held = Command::new(env!("CARGO_BIN_EXE_pf-listen"));
    held.args(["-q", "--hold", "127.0.0.1:0", "--"]);
    held.args([env!("CARGO_BIN_EXE_pf-master"), "-q", "-n", &count, "--"]);
    held.args(bench.stage.worker());
    let mut run = Run::start(&bench.stage, held)?;
    run.await_workers(WORKERS, Look::AtOnce)?;
    let (mut first, mut all) = (Vec::new(), Vec::new());
    for _ in 0..KILLS {
        clock::pause(BETWEEN);
        let known = run.workers.len();
        let master = child_of(run.pid())?;
        let handle = pidfd_open(master, PidfdFlags::empty())?;
        let began = clock::now();
        pidfd_send_signal(&handle, Signal::KILL)?;
        run.await_workers(known + WORKERS, Look::AtOnce)?;
        let mut ready: Vec<f64> = run
            .workers
            .iter()
            .skip(known)
            .map(|worker| millis(worker.ready_at.since(began)))
            .collect();
        ready.sort_by(f64::total_cmp);
        first.extend(ready.first());
        all.extend(ready.last());
    }
    drop(run);
    let fresh = fresh(bench, &count)?;
    let samples = [first, all, fresh.0, fresh.1].map(Sample::from_iter);
    let names = [
        "held: until the first worker accepts",
        "held: until all accept",
        "started by hand: until the first worker accepts",
        "started by hand: until all accept",
    ];
    let rows: Vec<Vec<String>> = names
        .iter()
        .zip(&samples)
        .map(|(name, sample)| {
            let mut row = vec![(*name).to_owned(), sample.len().to_string()];
            row.extend([0.0, 0.5, 0.9, 1.0].map(|share| number(sample.quantile(share))));
            row
        })
        .collect();
    report.table(
        "kill -9 of the master of 8 workers under --hold until it is served again, beside the \
         start of a master, ms",
        &cells(["what", "times", "min", "median", "p90", "max"]),
        &rows,
    );
    let [held, _, fresh, _] = &samples;
    let more = held.median() - fresh.median();
    report.goal(
        "kill -9 of the master under --hold until it is served again",
        format!(
            "{} ms, {} ms more than a start",
            number(held.median()),
            number(more)
        ),
        "5 ms more than the start of a master",
        more <= 5.0,
    );
    Ok(())
}

/// Starts of a master with an open listener: until its first worker accepts, and until its last.
fn fresh(bench: &Bench, count: &str) -> Outcome<(Vec<f64>, Vec<f64>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let fd = listener.as_raw_fd();
    fcntl_setfd(&listener, FdFlags::empty())?;
    let (mut first, mut all) = (Vec::new(), Vec::new());
    for _ in 0..KILLS {
        let mut master = Command::new(env!("CARGO_BIN_EXE_pf-master"));
        master.args(["-q", "-n", count, "--listen", &format!("fd:{fd}"), "--"]);
        master.args(bench.stage.worker());
        let mut run = Run::start(&bench.stage, master)?;
        run.await_workers(WORKERS, Look::AtOnce)?;
        let least = run.workers.iter().map(|worker| worker.ready_at).min();
        first.push(millis(least.unwrap_or(run.began).since(run.began)));
        all.push(run.took());
    }
    Ok((first, all))
}

/// The only child of a process that is no worker: the master.
fn child_of(holder: Pid) -> Outcome<Pid> {
    let pid = holder.as_raw_pid();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    let first = children.split_whitespace().next();
    let child = first.and_then(|child| Pid::from_raw(child.parse().ok()?));
    Ok(child.ok_or("there is no master")?)
}
