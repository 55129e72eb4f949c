//! Not one connection is lost by an upgrade by fork, on TCP and on a Unix socket.

use crate::load::{Load, Target};
use crate::support::service::{Service, Worker};

#[test]
fn g6_twenty_upgrades_under_load_lose_nothing() {
    let service = Service::start(&["-n", "4"], &Worker::hello());
    let targets = [Target::Tcp(service.tcp()), Target::Unix(service.unix())];
    let load = Load::start(&targets, 2);
    for time in 0..20 {
        load.more(25);
        let before = service.status().pid;
        service.ctl(["upgrade", "--fork"]);
        let status = service.status();
        assert_ne!(status.pid, before);
        assert_eq!(
            (
                status.role.as_str(),
                status.generation,
                status.workers.ready
            ),
            ("master", time + 2, 4),
            "{}",
            service.log()
        );
    }
    load.more(25);
    load.stop().assert_none_lost(&service.log());
    service.stop();
}
