//! The manifest is read by a foreign YAML parser; its numbers agree, and its probes run against its
//! command.

use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use prefork::sys::machine::clock;
use serde_json::Value;

use super::place::{Place, have, serves};
use crate::common::service::process;
use crate::common::support::skip;

const TO_JSON: &str =
    "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(sys.stdin))))";

/// The documents of the manifest.
fn documents(place: &Place) -> Option<Vec<Value>> {
    if !have(&["python3"]) {
        return None;
    }
    if !Command::new("python3")
        .args(["-c", "import yaml"])
        .stderr(std::process::Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
    {
        skip("no yaml for python3");
        return None;
    }
    let output = assert_cmd::Command::new("python3")
        .args(["-c", TO_JSON])
        .write_stdin(place.text("kubernetes/app.yaml"))
        .output()
        .expect("python3");
    assert!(output.status.success(), "{output:?}");
    Some(serde_json::from_slice(&output.stdout).expect("JSON"))
}

fn words(list: &Value) -> Vec<String> {
    serde_json::from_value(list.clone()).expect("a list of words")
}

fn seconds_after(words: &[String], option: &str) -> u64 {
    let at = words
        .iter()
        .position(|word| word == option)
        .expect("the option");
    humantime::parse_duration(&words[at + 1])
        .expect("a duration")
        .as_secs()
}

#[test]
fn kubernetes_timeouts_agree_and_probes_are_right() {
    let place = Place::new();
    let Some(documents) = documents(&place) else {
        return;
    };
    let [deployment, service] = &documents[..] else {
        panic!("two documents: {documents:?}");
    };
    let template = &deployment["spec"]["template"];
    for selector in [
        &deployment["spec"]["selector"]["matchLabels"],
        &service["spec"]["selector"],
    ] {
        assert_eq!(selector, &template["metadata"]["labels"]);
    }
    let pod = &template["spec"];
    let container = &pod["containers"][0];
    assert_eq!(
        service["spec"]["ports"][0]["targetPort"],
        container["ports"][0]["name"]
    );
    let port = container["ports"][0]["containerPort"].as_u64();
    assert_eq!(port, Some(place.address().port().into()));
    let command = [words(&container["command"]), words(&container["args"])].concat();
    let delay = seconds_after(&command, "--stop-delay");
    let most = delay + seconds_after(&command, "--graceful-timeout");
    let grace = pod["terminationGracePeriodSeconds"]
        .as_u64()
        .expect("a number");
    assert!(
        (most + 1..=most + 10).contains(&grace),
        "{grace} for {most}"
    );
    assert!(container.get("lifecycle").is_none(), "no hook that sleeps");

    // Its command for real.
    let probe = |name: &str| place.run(&words(&container[name]["exec"]["command"])).code;
    assert_ne!(
        (probe("readinessProbe"), probe("livenessProbe")),
        (Some(0), Some(0))
    );
    let mut holder = place.manager(&command);
    crate::common::service::until("it has started", || {
        probe("startupProbe").filter(|code| *code == 0)
    });
    assert_eq!(
        (probe("readinessProbe"), probe("livenessProbe")),
        (Some(0), Some(0))
    );
    place.status("ready", serves(1));
    let begun = clock::now();
    process::signal(holder.pid(), Signal::SIGTERM);
    place.status("stopping", |status| status["state"] == "stopping");
    // Clients that still come are served.
    for _ in 0..5 {
        place.serves();
    }
    assert_eq!(probe("livenessProbe"), Some(0));
    assert_eq!(holder.end(), Some(0), "{}", place.log());
    assert!(clock::now().since(begun) >= Duration::from_secs(delay));
    place.nothing_left();
}
