//! What a service manager hears: the old master names the new one as it leaves, and from then on that one speaks.

use nix::sys::signal::Signal;

use super::{Dance, OPTIONS, ends, pid_of};
use crate::common::notify_manager::Manager;

#[test]
fn r20_the_old_master_announces_the_new_main_pid() {
    let dance = Dance::new();
    let manager = Manager::at(&dance.path("manager"));
    let mut master = dance
        .master(OPTIONS)
        .env("NOTIFY_SOCKET", dance.path("manager"))
        .env("WATCHDOG_USEC", "60000000")
        .start();
    let own = format!("MAINPID={}", master.pid());
    let ready = |words: &[String]| words.iter().any(|word| word == "READY=1");
    let first = manager.told();
    assert!(first.contains(&own), "{first:?}");
    while !ready(&manager.told()) {}
    // By itself: the old one leaves, and its last word is who comes.
    master.ctl("upgrade --fork").done();
    ends(&mut master);
    let new = format!("MAINPID={}", pid_of(&dance.status()));
    let mut words = manager.told();
    assert!(words.contains(&"RELOADING=1".to_owned()), "{words:?}");
    while !words.contains(&new) {
        assert!(
            !ready(&words) && !words.contains(&"STOPPING=1".to_owned()),
            "{words:?}"
        );
        words = manager.told();
    }
    while !ready(&words) {
        words = manager.told();
    }
    // By hand: as long as both live the old one speaks.
    dance.ctl("upgrade --fork --manual").done();
    let (old, new) = dance.both();
    crate::common::service::process::signal(pid_of(&old), Signal::SIGQUIT);
    let last = format!("MAINPID={}", pid_of(&new));
    loop {
        let words = manager.told();
        assert!(!words.contains(&"STOPPING=1".to_owned()), "{words:?}");
        if words.contains(&last) {
            break;
        }
    }
    dance.stands_alone(2);
    dance.stop();
}
