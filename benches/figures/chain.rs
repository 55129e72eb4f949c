//! What a link of the chain costs: from before the exec of the first program until the worker runs.

use std::path::PathBuf;
use std::process::Command;

use super::managers::{is_installed, program};
use super::run::{Look, Run};
use super::stats::Sample;
use super::table::{Report, cells, number};
use super::{Bench, Outcome};

const ROUNDS: usize = 100;

const BARE: &str = "bare.c, which executes it";
const OURS: &str = "pf-listen 127.0.0.1:0 --";
const PEER: &str = "systemfd, which binds one too";

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
    let mut links = vec![
        ("the worker alone", Vec::new()),
        (BARE, bare),
        ("env", vec!["env".into()]),
        (OURS, listen(&["127.0.0.1:0"])),
        ("pf-listen with 8 addresses", listen(&["127.0.0.1:0"; 8])),
        (
            "pf-listen --add 127.0.0.1:0 --",
            listen(&["--add", "127.0.0.1:0"]),
        ),
    ];
    if is_installed("systemfd") {
        let words = ["systemfd", "--quiet", "--socket", "tcp::127.0.0.1:0", "--"];
        links.push((PEER, words.map(PathBuf::from).to_vec()));
    }
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
    let cost = |name| {
        let found = links.iter().position(|(link, _)| *link == name);
        found
            .and_then(|at| medians.get(at))
            .map_or(f64::NAN, |median| median - alone)
    };
    let rows: Vec<Vec<String>> = links
        .iter()
        .zip(&medians)
        .map(|((name, _), median)| {
            let more = median - alone;
            vec![
                (*name).to_owned(),
                number(*median),
                number(more),
                number(more / cost(BARE)),
            ]
        })
        .collect();
    report.table(
        &format!("A link of the chain, until the worker runs; ms, medians of {ROUNDS}"),
        &cells([
            "what is executed",
            "until the worker runs",
            "more than the worker alone",
            "as a multiple of bare.c",
        ]),
        &rows,
    );
    let (ours, bare, peer) = (cost(OURS), cost(BARE), cost(PEER));
    let beside = if peer.is_nan() {
        String::new()
    } else {
        format!(", {} x systemfd", number(ours / peer))
    };
    report.goal(
        "cost of a pf-listen in the chain",
        format!(
            "{} ms, {} x a bare exec{beside}",
            number(ours),
            number(ours / bare)
        ),
        "0.9 ms, what systemfd cost where the goal was set",
        if peer.is_nan() {
            ours <= 0.9
        } else {
            ours <= peer
        },
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
