//! The figures that pf-tools must reach, each beside a peer or a bare C loop in the same run.
//!
//! `cargo bench --bench figures` prints all of them; with names of figures after `--`, only those.
//! With `-- --write` all of them replace the tables of `benches/README.md`. That page describes how
//! they are measured. Peers that are not installed are left out.

mod accept;
mod beat;
mod chain;
mod crowd;
mod footprint;
mod growth;
mod hold;
mod load;
mod machine;
mod managers;
mod page;
mod programs;
mod reload;
mod respawn;
mod run;
mod standin;
mod start;
mod stats;
mod status;
mod table;
mod upgrade;

use std::io::{self, Write};
use std::process::ExitCode;

use prefork::sys::machine::limits;
use prefork::sys::process::wait;

use managers::Manager;
use programs::Stage;
use table::Report;

/// What a figure may fail by: the system, or a program that does not do what it should.
type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// A figure: it measures, and adds its rows to the report.
type Figure = fn(&Bench, &mut Report) -> Outcome;

const FIGURES: [(&str, Figure); 12] = [
    ("start", start::measure),
    ("respawn", respawn::measure),
    ("reload", reload::measure),
    ("upgrade", upgrade::measure),
    ("hold", hold::measure),
    ("footprint", footprint::measure),
    ("chain", chain::measure),
    ("accept", accept::measure),
    ("status", status::measure),
    ("crowd", crowd::measure),
    ("growth", growth::measure),
    ("beat", beat::measure),
];

/// What all figures share.
struct Bench {
    stage: Stage,
    /// Those that are installed, ours first.
    managers: Vec<Manager>,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let Some(exit) = standin::play(&words) {
        return exit;
    }
    // Cargo adds its own options.
    let wanted: Vec<&str> = words
        .iter()
        .map(String::as_str)
        .filter(|word| !word.starts_with('-'))
        .collect();
    let done = if words.iter().any(|word| word == "--write") {
        all(&[]).and_then(|report| page::replace(&report))
    } else {
        all(&wanted).and_then(|report| print(&report))
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "figures: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures; what is to be printed.
fn all(wanted: &[&str]) -> Outcome<String> {
    // What a manager leaves behind comes to us, and is ended.
    wait::become_subreaper()?;
    limits::raise_nofile();
    let bench = Bench {
        stage: Stage::set()?,
        managers: Manager::installed(),
    };
    let mut report = Report::new(&bench);
    for (name, figure) in FIGURES {
        if wanted.is_empty() || wanted.contains(&name) {
            progress(&format!("measuring: {name}"));
            figure(&bench, &mut report)?;
        }
    }
    Ok(report.to_string())
}

fn print(report: &str) -> Outcome {
    match io::stdout().write_all(report.as_bytes()) {
        // The reader has gone.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// Progress for the user, on stderr.
fn progress(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
