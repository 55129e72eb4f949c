//! What a manager takes while nothing happens: memory, descriptors, wake-ups.

use std::fs;
use std::time::Duration;

use prefork::sys::machine::clock;

use super::managers::Manager;
use super::run::Look;
use super::table::{Report, cells, number};
use super::{Bench, Outcome};

const SETTLED: Duration = Duration::from_secs(2);
const IDLE: Duration = Duration::from_secs(10);

/// With a heartbeat that every worker has begun; a quarter of it is the pace of looks.
const TIMED: [&str; 4] = ["--timeout", "60s", "--env", "BENCH_BEAT=1"];

pub fn measure(bench: &Bench, report: &mut Report) -> Outcome {
    let mut services = Vec::new();
    for manager in &bench.managers {
        for workers in [1, 8, 256] {
            let wanted = match manager {
                Manager::Bare => false,
                Manager::StartServer => workers == 1,
                _ => workers > 1 && manager.manages(workers),
            };
            if !wanted {
                continue;
            }
            let service = manager.start(&bench.stage, workers, &[])?;
            services.push((*manager, manager.name(), workers, service));
        }
    }
    let timed = Manager::Ours.start(&bench.stage, 8, &TIMED)?;
    services.push((Manager::Ours, "pf-master --timeout 60s", 8, timed));
    for (_, _, workers, service) in &mut services {
        service.run.await_workers(*workers, Look::Rarely)?;
    }
    clock::pause(SETTLED);
    let before: Vec<Vec<(i32, u64)>> = services
        .iter()
        .map(|(.., service)| switches_of(&service.run.managing()))
        .collect();
    clock::pause(IDLE);
    let mut rows = Vec::new();
    for ((manager, name, workers, service), before) in services.iter().zip(before) {
        let own = service.run.pid().as_raw_pid();
        let helpers: Vec<i32> = service
            .run
            .managing()
            .into_iter()
            .filter(|pid| *pid != own)
            .collect();
        let (rss, pss) = memory(own);
        let (helpers_rss, helpers_pss) = helpers
            .iter()
            .map(|pid| memory(*pid))
            .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let woken: u64 = before
            .iter()
            .map(|(pid, then)| switches(*pid).saturating_sub(*then))
            .sum();
        rows.push(vec![
            (*name).to_owned(),
            workers.to_string(),
            rss.to_string(),
            pss.to_string(),
            descriptors(own).to_string(),
            format!("{}: {helpers_rss} / {helpers_pss}", helpers.len()),
            helpers
                .iter()
                .map(|pid| descriptors(*pid))
                .sum::<usize>()
                .to_string(),
            woken.to_string(),
        ]);
        if *manager == Manager::Ours {
            goals(name, *workers, rss, woken, report);
        }
    }
    let columns = cells([
        "manager",
        "workers",
        "RSS, KiB",
        "PSS, KiB",
        "fds",
        "helpers: RSS / PSS, KiB",
        "their fds",
        "context switches in 10 s, all of them",
    ]);
    report.table(
        "A manager at rest, 2 s after the last worker was ready",
        &columns,
        &rows,
    );
    report.note("pf-master's helper is its guard; s6's are its s6-supervise processes.");
    Ok(())
}

fn goals(name: &str, workers: usize, rss: u64, woken: u64, report: &mut Report) {
    let (kib, text) = if workers == 8 {
        (3 * 1024, "3 MiB")
    } else {
        (4 * 1024, "4 MiB")
    };
    let is_timed = name.contains("--timeout");
    if !is_timed {
        report.goal(
            &format!("resident memory of the master, {workers} workers"),
            format!("{} MiB", number(rss as f64 / 1024.0)),
            text,
            rss <= kib,
        );
    }
    // Within any 10 s a quarter of the timeout ends at most once.
    let due = u64::from(is_timed);
    report.goal(
        &format!("context switches in 10 s, idle {name}, {workers} workers"),
        woken.to_string(),
        if is_timed {
            "1 (one look may be due)"
        } else {
            "0"
        },
        woken <= due,
    );
}

fn switches_of(pids: &[i32]) -> Vec<(i32, u64)> {
    pids.iter().map(|pid| (*pid, switches(*pid))).collect()
}

/// Context switches of a process, voluntary or not.
fn switches(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status
        .lines()
        .filter(|line| line.contains("ctxt_switches:"))
        .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
        .sum()
}

/// RSS and PSS in KiB.
fn memory(pid: i32) -> (u64, u64) {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let field = |name: &str| {
        let line = rollup.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    (field("Rss:").unwrap_or(0), field("Pss:").unwrap_or(0))
}

fn descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}
