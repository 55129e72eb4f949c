//! Totals never go down: not when workers die, not through either kind of upgrade.

use std::rc::Rc;
use std::time::Duration;

use prefork_core::model::Supervisor;
use prefork_core::model::action::Action;
use prefork_core::model::counters::Work;
use prefork_core::model::event::{Command, Event, WorkerMessage};
use prefork_core::model::exit::{Cause, ExitStatus};
use prefork_core::model::ids::{Generation, Ticket, WorkerId};
use prefork_core::model::peer::{ForkState, PeerAction, PeerEvent, PeerMessage};
use prefork_core::model::policy::{Policy, Readiness};
use prefork_core::model::releases::PinnedRelease;
use prefork_core::model::time::Time;

use super::handover::{read, written};

/// A supervisor whose workers start, and are ready, as soon as they are wanted.
struct Service {
    supervisor: Supervisor,
    now: Time,
    workers: Vec<WorkerId>,
    fork: Option<Box<ForkState>>,
}

impl Service {
    fn new(supervisor: Supervisor) -> Service {
        let mut service = Service {
            supervisor,
            now: Time(1_000_000_000),
            workers: Vec::new(),
            fork: None,
        };
        service.step(Event::Start(PinnedRelease::default()));
        service
    }

    fn step(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let mut actions = Vec::new();
            self.now = self.now + Duration::from_millis(1);
            self.supervisor.step(self.now, event, &mut actions);
            for action in actions {
                match action {
                    Action::Spawn { worker, .. } => {
                        self.workers.push(worker);
                        events.push(Event::Said(worker, WorkerMessage::Ready));
                        events.push(Event::Executed(worker));
                        events.push(Event::Forked(worker, 100));
                    }
                    Action::Peer(PeerAction::StartMaster(state)) => {
                        self.fork = Some(state);
                        events.push(Event::Peer(PeerEvent::Started(60)));
                    }
                    _ => {}
                }
            }
        }
    }

    fn works(&mut self, worker: usize, requests: u64, cpu: u64) {
        let work = Work {
            requests,
            connections: 2 * requests,
            cpu: Duration::from_secs(cpu),
        };
        self.step(Event::Worked(self.workers[worker], work));
    }

    /// Requests, connections, workers started, and the processor time of slot 0.
    fn totals(&self) -> (u64, u64, u64, u64) {
        let snapshot = self.supervisor.snapshot();
        let counters = snapshot.counters;
        let cpu = snapshot.slots[0].totals.cpu.as_secs();
        (
            counters.requests,
            counters.connections,
            counters.spawned,
            cpu,
        )
    }

    fn dies(&mut self, worker: usize) {
        self.step(Event::Exited {
            worker: self.workers[worker],
            ended: ExitStatus::Exited(3),
            rest: false,
        });
    }

    /// What this master tells the other one now.
    fn tells(&self) -> Event {
        let told = self.supervisor.counts_for_peer().expect("there is one");
        Event::Peer(PeerEvent::Said(told))
    }
}

fn policy() -> Rc<Policy> {
    Rc::new(Policy {
        ready: Readiness::Notify,
        ..Policy::default()
    })
}

fn service() -> Service {
    Service::new(Supervisor::new(2, policy(), 7))
}

#[test]
fn the_work_of_dead_workers_stays_and_exits_have_causes() {
    let mut service = service();
    service.works(0, 5, 1);
    service.works(1, 7, 2);
    service.dies(0);
    let counters = service.supervisor.snapshot().counters;
    assert_eq!((counters.requests, counters.connections), (12, 24));
    assert_eq!(counters.exits.of(Cause::Exited), 1);
    assert_eq!(counters.exits.of(Cause::Stopped), 0);
    assert_eq!(service.supervisor.snapshot().slots[0].totals.restarts, 1);
    // What is left of a group may count on after its worker was forgotten.
    service.works(0, 1, 9);
    assert_eq!((service.totals().0, service.totals().3), (13, 1));
    service.step(Event::LogLinesLost(4));
    service.step(Event::LogLinesLost(1));
    assert_eq!(service.supervisor.snapshot().counters.log_lines_lost, 5);
}

#[test]
fn the_next_image_goes_on_with_the_totals() {
    let mut service = service();
    service.works(0, 5, 1);
    service.dies(1);
    let before = service.supervisor.snapshot();
    let next = read(&written(&service.supervisor).expect("written")).expect("read");
    let after = next.snapshot();
    assert_eq!(after.counters, before.counters);
    let totals = |snapshot: &prefork_core::model::state::snapshot::Snapshot| -> Vec<_> {
        snapshot.slots.iter().map(|slot| slot.totals).collect()
    };
    assert_eq!(totals(&after), totals(&before));
    assert_eq!(totals(&after)[0].cpu, Duration::from_secs(1));
    assert_eq!(totals(&after)[1].restarts, 1);
}

#[test]
fn each_of_two_masters_knows_what_the_other_has_counted() {
    let mut old = service();
    old.works(0, 5, 1);
    old.step(Event::Command(Ticket(1), Command::Fork { manual: true }));
    let state = old.fork.take().expect("a new master is started");
    assert_eq!(state.to, Generation(2));
    let mut new = Service::new(Supervisor::beside_old_master(policy(), 2, 8, 50, *state));
    assert_eq!(new.totals().0, 5, "it begins with what was counted before");
    assert_eq!(new.totals().3, 1);
    new.step(Event::Peer(PeerEvent::Said(PeerMessage::Hello(50))));
    old.step(Event::Peer(PeerEvent::Said(PeerMessage::Hello(60))));

    new.works(0, 10, 0);
    old.works(0, 100, 0);
    old.step(new.tells());
    let spawned = new.totals().2;
    assert_eq!(old.totals().0, 5 + 100 + 10);
    assert_eq!(old.totals().2, spawned, "workers started, too");
    // A message that is missed, or that comes twice, does no harm.
    new.works(0, 20, 0);
    let missed = new.tells();
    new.works(0, 30, 0);
    old.step(new.tells());
    old.step(missed);
    assert_eq!(old.totals().0, 5 + 100 + 10 + 20 + 30);
    // What it was told by the other is not what it has counted itself.
    new.step(old.tells());
    assert_eq!(new.totals(), (165, 330, spawned, 1));
    new.step(old.tells());
    assert_eq!(new.totals().0, 165);
    assert_eq!(service().supervisor.counts_for_peer(), None);
}
