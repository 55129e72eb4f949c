//! The status of 1,000 slots: the request itself, and the program that makes it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use prefork::sys::machine::clock;

use super::managers::Manager;
use super::run::{Look, millis};
use super::stats::Sample;
use super::table::{Report, cells, number};
use super::{Bench, Outcome};

const SLOTS: usize = 1000;
const ROUNDS: usize = 30;

pub fn measure(bench: &Bench, report: &mut Report) -> Outcome {
    let pid_file = bench.stage.dir().join("thousand.pid");
    let pid_word = pid_file.to_string_lossy();
    let mut service = Manager::Ours.start(&bench.stage, SLOTS, &["--pid", &pid_word])?;
    service.run.await_workers(SLOTS, Look::Rarely)?;
    let started = service.run.took();
    let socket = pid_file.with_extension("ctl");
    let requests = ask(&socket)?;
    let mut programs = Vec::new();
    for _ in 0..ROUNDS {
        programs.push(millis_of_status(&pid_file)?);
    }
    let programs = Sample::from_iter(programs);
    let row = |name: &str, sample: &Sample| {
        let mut row = vec![name.to_owned()];
        row.extend([0.0, 0.5, 1.0].map(|share| number(sample.quantile(share))));
        row
    };
    let title = format!(
        "Status of {SLOTS} slots, ms ({ROUNDS} each; all were ready after {} ms)",
        number(started)
    );
    let rows = [
        row(
            "a request on an open connection, until its answer is read",
            &requests,
        ),
        row("pf-status --json, from exec to exit", &programs),
    ];
    report.table(&title, &cells(["what", "min", "median", "max"]), &rows);
    let median = programs.median();
    report.goal(
        &format!("status of {SLOTS} slots"),
        format!(
            "{} ms with pf-status, {} ms the request",
            number(median),
            number(requests.median())
        ),
        "20 ms",
        median < 20.0,
    );
    Ok(())
}

fn ask(socket: &Path) -> Outcome<Sample> {
    let connection = UnixStream::connect(socket)?;
    let mut answers = BufReader::new(&connection);
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let began = clock::now();
        (&connection).write_all(b"{\"cmd\":\"status\"}\n")?;
        let mut answer = Vec::new();
        answers.read_until(b'\n', &mut answer)?;
        times.push(millis(clock::now().since(began)));
        if answer.len() < SLOTS * 100 {
            return Err("that is no status of so many slots".into());
        }
    }
    Ok(Sample::from_iter(times))
}

fn millis_of_status(pid_file: &Path) -> Outcome<f64> {
    let began = clock::now();
    let status = Command::new(env!("CARGO_BIN_EXE_pf-status"))
        .arg(pid_file)
        .arg("--json")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()?;
    let took = millis(clock::now().since(began));
    if status.success() {
        Ok(took)
    } else {
        Err(format!("pf-status: {status}").into())
    }
}
