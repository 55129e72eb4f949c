//! kill -9 of the master, and of its guard, at every moment: nothing of the service survives, and the next one starts (U25, R56, R57, S3).

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt;

use nix::sys::signal::Signal;
use prefork::sys::clock;

use super::support::{Tracks, app, guard_of, lines};
use crate::service::master::address;
use crate::service::process::{self, descriptors};
use crate::service::{Master, Scene, until};

/// What workers there are in the world, by slot: a program that counts what it is told and stays; a wrapper shell that did not exec; one that ignores
/// TERM; and a tree of three levels whose leader goes when it is told. All but the third write down each TERM they get.
const KINDS: &str = r#"
count() { trap 'echo "$PF_GENERATION $1 $$" >>"$PF_TEST_SAY.terms"' TERM; }
tree() { sh -c 'trap "echo rest >>\"$PF_TEST_SAY.terms\"" TERM; while :; do sleep 1000; done'; }
case $((PF_WORKER % 4)) in
0) play 'catch stubborn ready';;
1) helper ready; sh -c 'sleep 1000'; exit 3;;
2) trap '' TERM; helper ready; exec sleep 1000;;
3) trap 'exit 0' TERM; sh -c 'sh -c "sleep 1000" & trap "" TERM; wait; sleep 1000' & helper ready; wait;;
esac"#;

/// The options of every service here.
const OPTIONS: &str = "--ready notify --graceful-timeout 1s --backoff 1h..1h";

/// The service that will lose its master.
struct Doomed {
    scene: Scene,
    tracks: Tracks,
    master: Master,
    address: SocketAddr,
}

impl Doomed {
    /// Started, with these workers; ready or not.
    #[track_caller]
    fn spawned(body: &str, options: &str) -> Doomed {
        let scene = Scene::new();
        let tracks = Tracks::of(&scene);
        app(&scene, body);
        let options = format!("{OPTIONS} {options} --listen 127.0.0.1:0");
        let master = scene.master(&options).spawn();
        let status = master.status();
        let address = address(&status, 0);
        Doomed {
            scene,
            tracks,
            master,
            address,
        }
    }

    /// Started, and ready.
    #[track_caller]
    fn ready(options: &str) -> Doomed {
        let doomed = Doomed::spawned(KINDS, options);
        doomed.master.ctl("wait --ready --timeout 15s").done();
        doomed
    }

    /// Kills the master, and checks that nothing survives, that no leader was told more than `at_most` times, and that another can start.
    #[track_caller]
    fn kill(mut self, at_most: usize) {
        let counting: Vec<i32> = self
            .tracks
            .all()
            .into_iter()
            .filter(|pid| process::catches_term(*pid))
            .collect();
        self.master.signal(Signal::SIGKILL);
        assert_eq!(self.master.end(), None, "killed");
        self.tracks.gone();
        let mut told: BTreeMap<i32, usize> = BTreeMap::new();
        for report in self.scene.heard_so_far() {
            if report.text == "got TERM" {
                *told.entry(report.pid).or_default() += 1;
            }
        }
        drop(counting);
        assert!(
            told.values().all(|times| *times <= at_most),
            "{told:?} were told more than {at_most} times"
        );
        let free = TcpListener::bind(self.address);
        assert!(free.is_ok(), "{}: {free:?}", self.address);
        drop(free);
        self.scene.app("say up; up; rest");
        let options = format!("-n 2 --ready fd=9 --listen {}", self.address);
        let next = self.scene.master(&options).start();
        assert_ne!(next.pid(), self.master.pid());
        next.stop();
    }
}
