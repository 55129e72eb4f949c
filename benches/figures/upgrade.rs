//! An upgrade under load: how long it takes, what is lost, and what a request feels of it.

use std::process::{Command, Stdio};
use std::time::Duration;

use prefork::sys::machine::clock;

use super::load::Account;
use super::managers::{Manager, Service};
use super::reload::{delays, losses, under_load};
use super::run::{Look, millis};
use super::stats::Sample;
use super::table::{Report, cells, number};
use super::{Bench, Outcome};

/// How, with how many workers, and how often each service is upgraded.
const ROUNDS: [(How, usize, usize); 4] = [
    (How::InPlace, 8, 20),
    (How::ByFork, 8, 20),
    (How::InPlace, 64, 5),
    (How::ByFork, 64, 5),
];

/// Which upgrade.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    InPlace,
    ByFork,
}

/// A service whose master may be another process by now. Dropping it stops that master.
struct Named<'a>(&'a str);

impl Drop for Named<'_> {
    fn drop(&mut self) {
        let _ = Command::new(env!("CARGO_BIN_EXE_pf-ctl"))
            .args(["stop", self.0, "--now", "--quiet"])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

/// How long is waited between two.
const PAUSE: Duration = Duration::from_millis(300);

/// What the whole upgrade of 8 workers may take: nginx's time, in milliseconds.
const GOAL: f64 = 45.0;

/// What was seen of one service.
struct Measured {
    ready: Sample,
    gone: Sample,
    told: Sample,
    account: Account,
}

pub fn measure(bench: &Bench, report: &mut Report) -> Outcome {
    let mut rows = Vec::new();
    for (row, (how, workers, rounds)) in ROUNDS.into_iter().enumerate() {
        let pid_file = bench.stage.dir().join(format!("upgrade-{row}.pid"));
        let pid_word = pid_file.to_string_lossy().into_owned();
        let mut service = Manager::Ours.start(&bench.stage, workers, &["--pid", &pid_word])?;
        service.run.await_workers(workers, Look::AtOnce)?;
        let named = Named(&pid_word);
        let measured = upgraded(&mut service, how, workers, rounds, &named)?;
        drop(named);
        rows.push(vec![
            how.words().to_owned(),
            workers.to_string(),
            rounds.to_string(),
            number(measured.ready.median()),
            number(measured.gone.median()),
            number(measured.told.median()),
            measured.account.connections().to_string(),
            losses(&measured.account),
            delays(&measured.account),
        ]);
        if workers == 8 {
            let gone = measured.gone.median();
            report.goal(
                &format!(
                    "upgrade of 8 workers {} under load, to the old ones' end",
                    how.words()
                ),
                format!("{} ms", number(gone)),
                "45 ms",
                gone <= GOAL,
            );
            let lost = measured.account.all_lost();
            report.goal(
                "connections lost through those upgrades",
                format!("{lost} of {}", measured.account.connections()),
                "0",
                lost == 0,
            );
        }
    }
    let columns = cells([
        "how",
        "workers",
        "upgrades",
        "to all new ready, ms",
        "to old gone, ms",
        "to pf-ctl's end, ms",
        "connections",
        "lost",
        "delay p50 / p99 / max, ms",
    ]);
    report.table(
        "pf-ctl upgrade under 400 new connections a second",
        &columns,
        &rows,
    );
    Ok(())
}

impl How {
    fn words(self) -> &'static str {
        match self {
            How::InPlace => "in place",
            How::ByFork => "by fork",
        }
    }
}

fn upgraded(
    service: &mut Service,
    how: How,
    workers: usize,
    rounds: usize,
    named: &Named<'_>,
) -> Outcome<Measured> {
    let address = service.address.clone();
    let (account, times) = under_load(&address, || {
        let mut times = Vec::new();
        for _ in 0..rounds {
            clock::pause(PAUSE);
            times.push(once(service, how, workers, named)?);
        }
        clock::pause(PAUSE);
        Ok(times)
    })?;
    Ok(Measured {
        ready: times.iter().map(|[ready, ..]| *ready).collect(),
        gone: times.iter().map(|[_, gone, _]| *gone).collect(),
        told: times.iter().map(|[.., told]| *told).collect(),
        account,
    })
}

/// The times to the last new worker's readiness, to the last old worker's end, and to the end of
/// `pf-ctl`.
fn once(
    service: &mut Service,
    how: How,
    workers: usize,
    Named(pid_file): &Named<'_>,
) -> Outcome<[f64; 3]> {
    let run = &mut service.run;
    run.look()?;
    let known = run.workers.len();
    let leaving: Vec<usize> = (known - workers..known).collect();
    let began = clock::now();
    let mut asked = Command::new(env!("CARGO_BIN_EXE_pf-ctl"))
        .args(["upgrade", pid_file, "--quiet"])
        .args((how == How::ByFork).then_some("--fork"))
        .stdin(Stdio::null())
        .spawn()?;
    let (ready, gone) = run.await_change(known + workers, &leaving)?;
    if !asked.wait()?.success() {
        return Err("pf-ctl upgrade failed".into());
    }
    let told = clock::now();
    Ok([ready, gone, told].map(|at| millis(at.since(began))))
}
