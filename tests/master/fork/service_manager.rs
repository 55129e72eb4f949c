//! What a service manager receives: the old master announces the new one as it leaves, and from
//! then on the new one sends.

use nix::sys::signal::Signal;

use super::{ForkService, OPTIONS, ends, pid_of};
use crate::common::notify_manager::Manager;

#[test]
fn r20_the_old_master_announces_the_new_main_pid() {
    let service = ForkService::new();
    let manager = Manager::at(&service.path("manager"));
    let mut master = service
        .master(OPTIONS)
        .env("NOTIFY_SOCKET", service.path("manager"))
        .env("WATCHDOG_USEC", "60000000")
        .start();
    let own = format!("MAINPID={}", master.pid());
    let ready = |words: &[String]| words.iter().any(|word| word == "READY=1");
    let first = manager.next_notification();
    assert!(first.contains(&own), "{first:?}");
    while !ready(&manager.next_notification()) {}
    // By itself: the old one leaves, and its last word is who comes.
    master.ctl("upgrade --fork").succeeded();
    ends(&mut master);
    let new = format!("MAINPID={}", pid_of(&service.status()));
    let mut words = manager.next_notification();
    assert!(words.contains(&"RELOADING=1".to_owned()), "{words:?}");
    while !words.contains(&new) {
        assert!(
            !ready(&words) && !words.contains(&"STOPPING=1".to_owned()),
            "{words:?}"
        );
        words = manager.next_notification();
    }
    while !ready(&words) {
        words = manager.next_notification();
    }
    // By hand: as long as both live, the old master notifies.
    service.ctl("upgrade --fork --manual").succeeded();
    let (old, new) = service.both();
    crate::common::service::process::signal(pid_of(&old), Signal::SIGQUIT);
    let last = format!("MAINPID={}", pid_of(&new));
    loop {
        let words = manager.next_notification();
        assert!(!words.contains(&"STOPPING=1".to_owned()), "{words:?}");
        if words.contains(&last) {
            break;
        }
    }
    service.assert_one_master(2);
    service.stop();
}
