//! What grows with the service: the master's processor time for a reload of N workers, and a reload
//! beside clients that send requests ahead of their answers.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use prefork::sys::machine::clock;

use super::managers::Manager;
use super::run::{Look, millis};
use super::stats::Sample;
use super::table::{Report, cells, number};
use super::{Bench, Outcome};

const WORKERS: [usize; 4] = [125, 250, 500, 1000];
const RELOADS: usize = 15;
const CLIENTS: usize = 3;

pub fn measure(bench: &Bench, report: &mut Report) -> Outcome {
    reload_of_many(bench, report)?;
    beside_clients(bench, report)
}

fn reload_of_many(bench: &Bench, report: &mut Report) -> Outcome {
    let pid_file = bench.stage.dir().join("growth.pid");
    let pid_word = pid_file.to_string_lossy();
    let mut times = Vec::new();
    for workers in WORKERS {
        let mut service = Manager::Ours.start(&bench.stage, workers, &["--pid", &pid_word])?;
        service.run.await_workers(workers, Look::Rarely)?;
        ctl(&pid_file, "wait", "--ready")?;
        reload(&pid_file)?;
        let master = service.run.pid().as_raw_pid();
        let before = own_time(master)?;
        reload(&pid_file)?;
        times.push(millis(own_time(master)?.saturating_sub(before)));
    }
    let rows: Vec<Vec<String>> = WORKERS
        .iter()
        .zip(&times)
        .map(|(workers, cpu)| {
            let each = cpu / *workers as f64;
            vec![workers.to_string(), number(*cpu), number(each)]
        })
        .collect();
    report.table(
        "Processor time of the master for a reload, ms",
        &cells(["workers", "in all", "a worker"]),
        &rows,
    );
    let [_, quarter, _, all] = times[..] else {
        return Err("a size has no figure".into());
    };
    report.goal(
        "processor time of a reload of 1000",
        format!(
            "{} ms, {} x that of 250",
            number(all),
            number(all / quarter)
        ),
        "400 ms, 4.5 x",
        all < 400.0 && all <= 4.5 * quarter,
    );
    Ok(())
}

/// The processor time of a process, without that of its children.
fn own_time(pid: i32) -> Outcome<Duration> {
    let clock = clock_getcpuclockid(Pid::from_raw(pid))?;
    Ok(clock_gettime(clock)?.into())
}

fn beside_clients(bench: &Bench, report: &mut Report) -> Outcome {
    let pid_file = bench.stage.dir().join("pipelined.pid");
    let pid_word = pid_file.to_string_lossy();
    let mut service = Manager::Ours.start(&bench.stage, 8, &["--pid", &pid_word])?;
    service.run.await_workers(8, Look::Rarely)?;
    ctl(&pid_file, "wait", "--ready")?;
    let alone = reloads(&pid_file)?;
    let socket = pid_file.with_extension("ctl");
    let is_over = AtomicBool::new(false);
    let beside = std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| send_ahead(&socket, &is_over));
        }
        let beside = reloads(&pid_file);
        is_over.store(true, Ordering::Relaxed);
        beside
    })?;
    let row = |name: &str, sample: &Sample| {
        let shares = [0.0, 0.5, 1.0].map(|share| number(sample.quantile(share)));
        let mut row = vec![name.to_owned()];
        row.extend(shares);
        row
    };
    let rows = [
        row("alone", &alone),
        row("beside 3 clients that pipeline status", &beside),
    ];
    let title = format!("pf-ctl reload of 8 workers, ms ({RELOADS} each)");
    report.table(&title, &cells(["how", "min", "median", "max"]), &rows);
    let ratio = beside.median() / alone.median();
    report.goal(
        "a reload beside 3 clients that pipeline status",
        format!("{} x one alone", number(ratio)),
        "2 x",
        ratio <= 2.0,
    );
    Ok(())
}

fn reloads(pid_file: &Path) -> Outcome<Sample> {
    let mut times = Vec::new();
    for _ in 0..RELOADS {
        let began = clock::now();
        reload(pid_file)?;
        times.push(millis(clock::now().since(began)));
    }
    Ok(Sample::from_iter(times))
}

fn reload(pid_file: &Path) -> Outcome {
    ctl(pid_file, "reload", "-q")
}

fn ctl(pid_file: &Path, verb: &str, option: &str) -> Outcome {
    let status = Command::new(env!("CARGO_BIN_EXE_pf-ctl"))
        .arg(verb)
        .arg(pid_file)
        .arg(option)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("pf-ctl {verb}: {status}").into())
    }
}

/// Keeps some hundred requests in flight: sends fifty whenever there is room, and reads what comes.
fn send_ahead(socket: &Path, is_over: &AtomicBool) -> std::io::Result<()> {
    let mut connection = UnixStream::connect(socket)?;
    connection.set_read_timeout(Some(std::time::Duration::from_millis(50)))?;
    connection.set_write_timeout(Some(std::time::Duration::from_millis(1)))?;
    let requests = "{\"cmd\":\"status\"}\n".repeat(50);
    let mut rest = requests.as_bytes();
    let mut answers = vec![0; 1 << 16];
    while !is_over.load(Ordering::Relaxed) {
        if let Ok(count) = connection.write(rest) {
            rest = rest.get(count..).unwrap_or_default();
            if rest.is_empty() {
                rest = requests.as_bytes();
            }
        }
        // A timeout means that the master has not come to this client yet.
        let _ = connection.read(&mut answers);
    }
    Ok(())
}
