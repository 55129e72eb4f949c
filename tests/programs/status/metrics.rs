//! `pf-status --metrics`, read by parsers of others: that of the Python client, and Prometheus.

use std::path::Path;
use std::process::{Command, Stdio};

use super::{DEGRADED, Master, READY, assert_exit, one_error, run, stdout, tell_all};
use crate::common::support::skip;

/// Reads an exposition as Prometheus does, and prints a line for each sample: name, labels, value.
const PARSER: &str = "
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families
for family in text_string_to_metric_families(sys.stdin.read()):
    assert family.documentation, family
    for sample in family.samples:
        labels = ','.join('%s=%r' % label for label in sorted(sample.labels.items()))
        print(family.type, sample.name, labels, float(sample.value))
";

/// What the parser of the Python client has read. `None`: it is not there.
fn parsed(text: &str) -> Option<Vec<String>> {
    use std::io::Write;
    // Debian's package is for Debian's own python3, which may not be the first one in PATH.
    let is_there = |python: &&str| {
        let mut command = Command::new(python);
        command.args(["-c", "import prometheus_client.openmetrics.parser"]);
        let status = command.stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    let python = ["python3", "/usr/bin/python3"].into_iter().find(is_there)?;
    let mut child = Command::new(python)
        .args(["-c", PARSER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(text.as_bytes()).expect("written");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{text}");
    let lines = String::from_utf8(output.stdout).expect("UTF-8");
    Some(lines.lines().map(str::to_owned).collect())
}

#[test]
fn u32_metrics_are_understood_by_the_parser_of_prometheus() {
    let name = r#"we\"b\\ ü"#;
    let document = READY
        .replace(r#""name":"http""#, &format!(r#""name":"{name}""#))
        .replace(
            r#""rollout":"#,
            r#""started_at":"2026-01-02T03:04:05.678Z","counters":{"requests":12,
            "connections":3,"rollouts":2,"exits":{"exited":1,"stopped":0}},"rollout":"#,
        );
    let (one, two) = (Master::at("app.ctl"), Master::at("app.ctl"));
    let output = one.tells(&["--metrics"], &document);
    assert_exit(&output, 0);
    assert!(stdout(&output).ends_with("\n# EOF\n"), "{output:?}");
    let Some(samples) = parsed(stdout(&output)) else {
        return skip("python3's prometheus_client is not installed");
    };
    for sample in [
        "gauge pf_up  1.0",
        "gauge pf_start_time_seconds  1767323045.678",
        "gauge pf_generation  3.0",
        "gauge pf_workers state='ready' 1.0",
        "counter pf_worker_exits_total cause='exited' 1.0",
        "counter pf_worker_exits_total cause='stopped' 0.0",
        "counter pf_worker_restarts_total slot='0' 0.0",
        "counter pf_rollouts_total result='done' 2.0",
        "counter pf_rollouts_total result='rolled-back' 0.0",
        "counter pf_requests_total  12.0",
        "counter pf_connections_total  3.0",
        "gauge pf_listener_queued listener='we\"b\\\\ ü' 1.0",
        "gauge pf_listener_backlog listener='we\"b\\\\ ü' 4096.0",
        "gauge pf_worker_rss_bytes slot='0' 1258291.0",
        "counter pf_worker_cpu_seconds_total slot='0' 0.0",
        "counter pf_log_lines_lost_total  0.0",
    ] {
        assert!(
            samples.iter().any(|it| it == sample),
            "{sample}: {samples:#?}"
        );
    }

    let absent = one.path("absent.pid");
    let masters = [(&one, document.as_str()), (&two, DEGRADED)];
    let output = tell_all(&masters, &[&absent], &["--metrics"]);
    assert_exit(&output, 3);
    let samples = parsed(stdout(&output)).expect("it was there");
    let up = |name: &Path, value: &str| {
        let sample = format!(
            "gauge pf_up service={:?} {value}",
            name.display().to_string()
        );
        let sample = sample.replace('"', "'");
        assert!(samples.contains(&sample), "{sample}: {samples:#?}");
    };
    up(&one.path("app.ctl"), "1.0");
    up(&two.path("app.ctl"), "1.0");
    up(&absent, "0.0");
}

/// What Prometheus has stored of an exposition, a line for each sample: labels, value, time.
/// `None`: promtool is not there.
///
/// promtool reads the exposition with the parser of the server, as a backfill; that wants a time
/// at each sample.
fn stored(text: &str) -> Option<Vec<String>> {
    let promtool = |words: &[&str], dir: &Path| {
        let mut command = Command::new("promtool");
        command.arg("tsdb").args(words).current_dir(dir).output()
    };
    let dir = tempfile::tempdir().expect("a directory");
    let dated = |line: &str| match line.starts_with('#') {
        true => format!("{line}\n"),
        false => format!("{line} 1700000000\n"),
    };
    let text: String = text.lines().map(dated).collect();
    std::fs::write(dir.path().join("dated"), &text).expect("written");
    let words = ["create-blocks-from", "openmetrics", "dated", "db"];
    let made = match promtool(&words, dir.path()) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        made => made.expect("promtool starts"),
    };
    assert!(made.status.success(), "{made:?}: {text}");
    // A database that has only blocks has none of the log that `dump` looks for.
    std::fs::create_dir(dir.path().join("db/wal")).expect("a directory");
    let dump = promtool(&["dump", "db"], dir.path()).expect("promtool starts");
    assert!(dump.status.success(), "{dump:?}");
    let lines = String::from_utf8(dump.stdout).expect("UTF-8");
    Some(lines.lines().map(str::to_owned).collect())
}

#[test]
fn u32_prometheus_stores_every_sample() {
    let name = r#"we\"b\\ ü"#;
    let document = READY
        .replace(r#""name":"http""#, &format!(r#""name":"{name}""#))
        .replace(
            r#""rollout":"#,
            r#""counters":{"requests":12,"exits":{"exited":1}},"rollout":"#,
        );
    let one = Master::at("app.ctl");
    let output = one.tells(&["--metrics"], &document);
    assert_exit(&output, 0);
    let Some(samples) = stored(stdout(&output)) else {
        return skip("promtool is not installed");
    };
    let told = stdout(&output)
        .lines()
        .filter(|line| !line.starts_with('#'));
    assert_eq!(samples.len(), told.count(), "{samples:#?}");
    for sample in [
        r#"{__name__="pf_up"} 1"#,
        r#"{__name__="pf_requests_total"} 12"#,
        r#"{__name__="pf_worker_exits_total", cause="exited"} 1"#,
        r#"{__name__="pf_listener_queued", listener="we\"b\\ ü"} 1"#,
        r#"{__name__="pf_worker_rss_bytes", slot="0"} 1.258291e+06"#,
    ] {
        let sample = format!("{sample} 1700000000000");
        assert!(samples.contains(&sample), "{sample}: {samples:#?}");
    }

    let two = Master::at("app.ctl");
    let masters = [(&one, document.as_str()), (&two, DEGRADED)];
    let output = tell_all(&masters, &[], &["--metrics"]);
    let samples = stored(stdout(&output)).expect("it was there");
    let up = |sample: &&String| sample.starts_with(r#"{__name__="pf_up", service="#);
    assert_eq!(samples.iter().filter(up).count(), 2, "{samples:#?}");
}

#[test]
fn what_is_not_running_has_metrics_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let output = run(&dir.path().join("absent.pid"), &["--metrics"]);
    assert_exit(&output, 3);
    assert!(stdout(&output).contains("\npf_up 0\n# EOF\n"), "{output:?}");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(errors.lines().count(), 1, "{errors}");
    let both = run(Path::new("/nonexistent"), &["--metrics", "--json"]);
    one_error(&both, 2);
}
