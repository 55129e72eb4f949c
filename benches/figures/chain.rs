//! What a link of the chain costs: from before the exec of the first program until the worker runs.

use std::path::PathBuf;
use std::process::Command;

use super::managers::program;
use super::run::{Look, Run};
use super::stats::Sample;
use super::table::{Report, cells, number};
use super::{Bench, Outcome};

const ROUNDS: usize = 100;

pub fn measure(bench: &Bench, report: &mut Report) -> Outcome {
    let stage = &bench.stage;
    let mut worker = stage.worker().to_vec();
    worker.push("stamp".into());
    let mut bare = stage.bare().to_vec();
    bare.push("0".into());
    let listen = |addresses: &[&str]| {
        let mut words: Vec<PathBuf> = vec![env!("CARGO_BIN_EXE_pf-listen").into()];
        words.extend(addresses.iter().map(PathBuf::from));
        words.push("--".into());
        words
    };
    let links = [
        ("the worker alone", Vec::new()),
        ("bare.c, which executes it", bare),
        ("env", vec!["env".into()]),
        ("pf-listen 127.0.0.1:0 --", listen(&["127.0.0.1:0"])),
        ("pf-listen with 8 addresses", listen(&["127.0.0.1:0"; 8])),
    ];
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); links.len()];
    for _ in 0..ROUNDS {
        for ((_, link), times) in links.iter().zip(&mut times) {
            let words: Vec<PathBuf> = link.iter().chain(&worker).cloned().collect();
            let mut run = Run::start(stage, clean(program(&words)))?;
            run.await_workers(1, Look::AtOnce)?;
            times.push(run.took());
        }
    }
    let medians: Vec<f64> = times
        .into_iter()
        .map(|times| Sample::from_iter(times).median())
        .collect();
    let alone = medians.first().copied().unwrap_or(f64::NAN);
    let rows: Vec<Vec<String>> = links
        .iter()
        .zip(&medians)
        .map(|((name, _), median)| {
            vec![(*name).to_owned(), number(*median), number(median - alone)]
        })
        .collect();
    report.table(
        &format!("A link of the chain, until the worker runs; ms, medians of {ROUNDS}"),
        &cells([
            "what is executed",
            "until the worker runs",
            "more than the worker alone",
        ]),
        &rows,
    );
    let cost = medians.get(3).copied().unwrap_or(f64::NAN) - alone;
    report.goal(
        "cost of a pf-listen in the chain",
        format!("{} ms", number(cost)),
        "0.9 ms",
        cost <= 0.9,
    );
    Ok(())
}

/// Without what an earlier link may have left in our own environment.
fn clean(mut command: Command) -> Command {
    for variable in [
        "LISTEN_FDS",
        "LISTEN_PID",
        "LISTEN_FDNAMES",
        "NOTIFY_SOCKET",
    ] {
        command.env_remove(variable);
    }
    command
}
