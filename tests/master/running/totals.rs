//! Totals of the status document: they outlive workers, reloads and both upgrades.

use std::collections::BTreeMap;
use std::process::Command;

use nix::sys::signal::Signal;
use prefork::wire::status::{Counters, Status};

use crate::common::load::{self, Load, Target};
use crate::common::service::{Scene, process, until};
use crate::common::support::is_thorough;
use crate::common::support::service::Service;
use crate::plain_worker::{COUNTS, plain};

/// What never goes down.
fn totals(counters: &Counters) -> Vec<u64> {
    let exits = counters.exits.values().copied();
    let numbers = [
        counters.spawned,
        counters.readied,
        counters.died,
        counters.killed,
        counters.rollouts,
        counters.requests,
        counters.connections,
        counters.log_lines_lost,
    ];
    numbers.into_iter().chain(exits).collect()
}

#[track_caller]
fn assert_no_less(before: &Counters, after: &Counters) {
    let pairs = totals(before).into_iter().zip(totals(after));
    for (before, after_it) in pairs {
        assert!(after_it >= before, "{before:?}: {after:?}");
    }
}

/// The counters of `pf-status --metrics`, by name and labels.
fn metrics(service: &Service) -> BTreeMap<String, f64> {
    let output = Command::new(env!("CARGO_BIN_EXE_pf-status"))
        .arg(service.path("app.pid"))
        .arg("--metrics")
        .output()
        .expect("pf-status starts");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let samples = text.lines().filter_map(|line| line.rsplit_once(' '));
    let counters = samples.filter(|(name, _)| {
        let family = name.split('{').next().unwrap_or(name);
        family.ends_with("_total")
    });
    counters
        .map(|(name, value)| (name.to_owned(), value.parse().expect("a number")))
        .collect()
}

/// Reloads, upgrades of both kinds and kills, each so often: 20 times where all is thorough.
fn rounds() -> u32 {
    let asked = std::env::var("PF_ROUNDS").ok();
    let asked = asked.map(|asked| asked.parse().expect("a number"));
    asked.unwrap_or(if is_thorough() { 20 } else { 3 })
}

#[test]
fn u32_totals_are_what_was_answered_through_reloads_both_upgrades_and_kills() {
    let service = Service::start(&["-n", "2"], &plain().with(COUNTS, "1"));
    let targets = [Target::Tcp(service.tcp()), Target::Unix(service.unix())];
    let mut known = (service.status().counters, metrics(&service));
    let mut look = || {
        let now = (service.status().counters, metrics(&service));
        assert_no_less(&known.0, &now.0);
        for (name, before) in &known.1 {
            let after = now.1.get(name);
            assert!(after >= Some(before), "{name}: {before} {after:?}");
        }
        known = now;
    };
    let mut answered = 0;
    let rounds = rounds();
    for round in 1..=rounds {
        let load = Load::start(&targets, 2);
        for act in [
            &["reload"][..],
            &["upgrade"],
            &["restart-worker", "0"],
            &["upgrade", "--fork"],
        ] {
            load.more(10);
            match act {
                [verb] => service.ctl([*verb]),
                [verb, operand] if operand.starts_with('-') => {
                    service.ctl([*verb, *operand, "--timeout", "60s"]);
                }
                _ => service.ctl([act[0], act[1]]),
            }
            look();
        }
        let counts = load.stop();
        counts.assert_none_lost(&service.log());
        answered += counts.answered.iter().sum::<u64>();
        // A request counts as finished a moment after its client has the answer.
        let enough = |status: &Status| status.counters.requests >= answered;
        let counters = service.wait_for(enough).counters;
        assert_eq!(counters.requests, answered, "{}", service.log());
        assert_eq!(counters.connections, answered);
        // The next upgrade by fork is refused before the old master has ended.
        service.wait_for(|status| status.role == "master");
        let pid = service.ready()[0].pid.expect("a worker");
        service.signal(pid, Signal::SIGKILL);
        service.wait_for(|status| status.counters.exits["signaled"] == u64::from(round));
        // Its successor is ready with its first request.
        until("both are ready", || {
            for target in &targets {
                load::request(target, "one").expect("an answer");
                answered += 1;
            }
            (service.status().workers.ready == 2).then_some(())
        });
        look();
    }
    let counters = service.status().counters;
    assert!(
        counters.exits["stopped"] >= u64::from(rounds) * 7,
        "{counters:?}"
    );
    service.stop();
}

#[test]
fn u32_a_worker_that_is_killed_has_counted_and_its_exit_has_a_cause() {
    let scene = Scene::new();
    scene.app("helper 'count 5 2'; i=0; while [ $i -lt 9999 ]; do i=$((i+1)); done; up; rest");
    let master = scene.master("-n 1 --ready fd=9 --backoff 1ms..1ms").start();
    let status = master.status();
    let number = |status: &serde_json::Value, name: &str| status["counters"][name].as_u64();
    assert_eq!(number(&status, "requests"), Some(5));
    assert_eq!(number(&status, "connections"), Some(2));
    assert_eq!(status["counters"]["exits"]["signaled"], 0);
    let cpu = |status: &serde_json::Value| status["slots"][0]["cpu_total_s"].as_f64();
    assert!(cpu(&status) > Some(0.0), "{status}");
    for round in 2..4_u64 {
        let before = master.status();
        process::signal(master.workers()[0], Signal::SIGKILL);
        let after = master.until("another has counted", |status| {
            let counted = number(status, "requests") == Some(5 * round);
            counted && status["workers"]["ready"] == 1
        });
        assert_eq!(after["counters"]["exits"]["signaled"], round - 1);
        assert!(cpu(&after) >= cpu(&before), "{after}");
    }
    // By the last look, also where no client has asked meanwhile.
    let last = master.workers()[0];
    scene.app("up; rest");
    process::signal(last, Signal::SIGKILL);
    let after = master.until("the next one is ready", |status| {
        status["counters"]["exits"]["signaled"] == 3 && status["workers"]["ready"] == 1
    });
    assert_eq!(number(&after, "requests"), Some(15), "{after}");
    assert_eq!(number(&after, "connections"), Some(6), "{after}");
    master.stop();
}
