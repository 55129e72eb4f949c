//! The Dockerfile's entry point as pid 1 of a pid namespace, with its health check beside it.

use nix::sys::signal::Signal;

use super::place::{Place, have, serves};
use crate::common::namespace::{NAMESPACE, permitted};
use crate::common::service::scene_processes::children;
use crate::common::service::{process, until};

/// The words of an instruction in its JSON form.
fn words(text: &str, instruction: &str) -> Vec<String> {
    let line = text
        .lines()
        .find(|line| line.starts_with(&format!("{instruction} ")))
        .unwrap_or_else(|| panic!("no {instruction}"));
    let start = line.find('[').expect("the JSON form");
    serde_json::from_str(&line[start..]).expect("a list of words")
}

#[test]
fn pid_1_serves_is_healthy_outlives_its_master_and_stops() {
    if !have(&["unshare", "nsenter"]) || !permitted() {
        return;
    }
    let place = Place::new();
    let text = place.text("container/Dockerfile");
    assert!(text.contains("\nSTOPSIGNAL SIGTERM\n"));
    let entry = [words(&text, "ENTRYPOINT"), words(&text, "CMD")].concat();
    let all: Vec<String> = NAMESPACE
        .map(str::to_owned)
        .into_iter()
        .chain(entry)
        .collect();
    let mut unshare = place.manager(&all);
    let first = until("the namespace's pid 1", || {
        children(unshare.pid()).first().copied()
    });
    let inside = [
        "nsenter",
        "--pid",
        "--mount",
        "--target",
        &first.to_string(),
    ]
    .map(str::to_owned);
    let check = [inside.to_vec(), words(&text, "HEALTHCHECK")].concat();
    until("it is healthy", || {
        place.run(&check).code.filter(|code| *code == 0)
    });
    place.status("ready", serves(1));
    place.serves();
    process::signal(first, Signal::SIGHUP);
    place.status("reloaded", serves(2));
    let master = children(first).first().copied().expect("a master");
    process::signal(master, Signal::SIGKILL);
    for _ in 0..20 {
        place.serves();
    }
    until("it is healthy again", || {
        place.run(&check).code.filter(|code| *code == 0)
    });
    process::signal(first, Signal::SIGTERM);
    assert_eq!(unshare.end(), Some(0), "{}", place.log());
    place.nothing_left();
}
