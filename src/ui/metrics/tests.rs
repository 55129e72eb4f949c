use std::borrow::Cow;

use super::*;
use crate::wire::status::Counters;

fn service(name: &str) -> Service<'static> {
    let listener = |name: Option<&str>, fd, drops| Listener {
        name: name.map(str::to_owned),
        address: "tcp:127.0.0.1:80".into(),
        fd,
        queued: Some(2),
        backlog: Some(128),
        drops,
        longest_wait: (fd == 3).then_some(std::time::Duration::from_millis(1500)),
    };
    let slot = |slot, state: &str| Slot {
        slot,
        state: state.into(),
        restarts: 7,
        cpu_total_s: 1.5,
        rss_bytes: Some(4096),
        ..Slot::default()
    };
    let status = Status {
        generation: 12,
        started_at: Some("2026-01-02T03:04:05.500Z".into()),
        slots: vec![slot(0, "ready"), slot(1, "backoff")],
        retiring: vec![slot(0, "stopping")],
        listeners: vec![
            listener(Some("we\"b\\"), 3, Some(9)),
            listener(None, 4, None),
            listener(None, 5, None),
        ],
        counters: Counters {
            rollouts: 5,
            rolled_back: 1,
            requests: u64::MAX,
            connections: 3,
            exits: [("exited".to_owned(), 4)].into(),
            ..Counters::default()
        },
        ..Status::default()
    };
    Service {
        name: name.into(),
        is_well: true,
        status: Ok(Cow::Owned(status)),
    }
}

#[test]
fn a_service_has_all_metrics() {
    let text = text(&[service("app")]).expect("written");
    let expected = r#"# HELP pf_up Whether the master runs and answers.
# TYPE pf_up gauge
pf_up 1
# HELP pf_start_time_seconds When the service was started, since 1970.
# TYPE pf_start_time_seconds gauge
# UNIT pf_start_time_seconds seconds
pf_start_time_seconds 1767323045.5
# HELP pf_generation The generation that serves.
# TYPE pf_generation gauge
pf_generation 12
# HELP pf_workers Slots and workers without a slot, by state.
# TYPE pf_workers gauge
pf_workers{state="starting"} 0
pf_workers{state="ready"} 1
pf_workers{state="held"} 0
pf_workers{state="stopping"} 1
pf_workers{state="backoff"} 1
pf_workers{state="down"} 0
pf_workers{state="empty"} 0
# HELP pf_worker_exits Workers that ended, by cause.
# TYPE pf_worker_exits counter
pf_worker_exits_total{cause="exited"} 4
# HELP pf_worker_restarts Workers of the slot that died by themselves.
# TYPE pf_worker_restarts counter
pf_worker_restarts_total{slot="0"} 7
pf_worker_restarts_total{slot="1"} 7
# HELP pf_rollouts Rollouts that ended, by result.
# TYPE pf_rollouts counter
pf_rollouts_total{result="done"} 5
pf_rollouts_total{result="rolled-back"} 1
# HELP pf_requests Requests that workers have finished.
# TYPE pf_requests counter
pf_requests_total 18446744073709551615
# HELP pf_connections Connections that workers have had.
# TYPE pf_connections counter
pf_connections_total 3
# HELP pf_listener_queued Connections that wait to be accepted.
# TYPE pf_listener_queued gauge
pf_listener_queued{listener="we\"b\\"} 2
pf_listener_queued{listener="tcp:127.0.0.1:80 fd=4"} 2
pf_listener_queued{listener="tcp:127.0.0.1:80 fd=5"} 2
# HELP pf_listener_backlog Connections that can wait to be accepted.
# TYPE pf_listener_backlog gauge
pf_listener_backlog{listener="we\"b\\"} 128
pf_listener_backlog{listener="tcp:127.0.0.1:80 fd=4"} 128
pf_listener_backlog{listener="tcp:127.0.0.1:80 fd=5"} 128
# HELP pf_listener_wait_seconds How long the oldest one in the queue has waited.
# TYPE pf_listener_wait_seconds gauge
# UNIT pf_listener_wait_seconds seconds
pf_listener_wait_seconds{listener="we\"b\\"} 1.5
# HELP pf_listener_drops What the kernel dropped as the queue was full.
# TYPE pf_listener_drops counter
pf_listener_drops_total{listener="we\"b\\"} 9
# HELP pf_worker_rss_bytes Resident memory of the slot's workers.
# TYPE pf_worker_rss_bytes gauge
# UNIT pf_worker_rss_bytes bytes
pf_worker_rss_bytes{slot="0"} 8192
pf_worker_rss_bytes{slot="1"} 4096
# HELP pf_worker_cpu_seconds Processor time of all workers of the slot so far.
# TYPE pf_worker_cpu_seconds counter
# UNIT pf_worker_cpu_seconds seconds
pf_worker_cpu_seconds_total{slot="0"} 1.5
pf_worker_cpu_seconds_total{slot="1"} 1.5
# HELP pf_log_lines_lost Log lines that could not be written.
# TYPE pf_log_lines_lost counter
pf_log_lines_lost_total 0
# EOF
"#;
    assert_eq!(text, expected);
}

#[test]
fn several_services_share_the_families_and_one_that_is_away_is_not_up() {
    let away = Service {
        name: "b\nc".into(),
        is_well: false,
        status: Err("not running".into()),
    };
    let text_of = |services: &[Service<'_>]| text(services).expect("written");
    let both = text_of(&[service("a"), away]);
    assert!(both.contains("pf_up{service=\"a\"} 1\npf_up{service=\"b\\\\nc\"} 0\n# HELP"));
    assert!(
        both.contains("pf_workers{service=\"a\",state=\"ready\"} 1\n"),
        "{both}"
    );
    assert_eq!(both.matches("# TYPE pf_requests ").count(), 1);
    let away = Service {
        name: "b".into(),
        is_well: false,
        status: Err("not running".into()),
    };
    let expected = "# HELP pf_up Whether the master runs and answers.\n\
                    # TYPE pf_up gauge\npf_up 0\n# EOF\n";
    assert_eq!(text_of(&[away]), expected);
}
