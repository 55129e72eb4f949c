//! Golden states: documents of an upgrade in place as this version writes them. A later version has
//! to read them.
//!
//! `PF_REWRITE=1` writes them anew, which is right only for a format that was never released.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use prefork_core::model::Supervisor;
use prefork_core::model::action::{Action, PinSource};
use prefork_core::model::event::{Command, Event, Scale, WorkerMessage};
use prefork_core::model::exit::ExitStatus;
use prefork_core::model::fact::Fact;
use prefork_core::model::ids::{Generation, OpId, Ticket, WorkerId, WorkerLabel};
use prefork_core::model::machines::event_log::EventLog;
use prefork_core::model::peer::{PeerEvent, PeerMessage};
use prefork_core::model::policy::{Canary, Policy, Readiness};
use prefork_core::model::releases::PinnedRelease;
use prefork_core::model::state::snapshot::{Role, ServiceState};
use prefork_core::model::time::Time;
use prefork_core::wire::changes::Changes;
use prefork_core::wire::events::kept::KnownEvents;
use prefork_core::wire::events::render;
use prefork_core::wire::handover::service::Service;
use prefork_core::wire::handover::values::{Moment, Settings};
use prefork_core::wire::handover::{
    Beat, Client, Clients, DrainingMaster, FORMAT, Follows, Guard, Hold, Image, Listener, Needs,
    OLDEST, Pin, Process, State,
};
use prefork_core::wire::story::kept::KnownStories;

/// The service in one state, and what the image that reads it must find.
struct Golden {
    name: &'static str,
    /// The listeners of the next generations, and of those before.
    listeners: &'static [&'static [i32]],
    build: fn(&mut World),
    check: fn(&Supervisor),
}

const GOLDEN: [Golden; 6] = [
    Golden {
        name: "running",
        listeners: &[&[10]],
        build: |world| world.roll(),
        check: |supervisor| {
            assert_eq!(supervisor.generation(), Generation(2));
            assert!(supervisor.snapshot().ready == 2);
            assert!(
                supervisor
                    .operation("2".parse().expect("an operation"))
                    .is_some()
            );
        },
    },
    Golden {
        name: "paused",
        listeners: &[&[10]],
        build: |world| {
            world.ask(Command::Pause);
            world.end_told();
        },
        check: |supervisor| assert_eq!(supervisor.service_state(), ServiceState::Paused),
    },
    Golden {
        name: "scaling",
        listeners: &[&[10]],
        build: |world| world.ask(Command::Scale(Scale::To(4))),
        check: |supervisor| {
            let snapshot = supervisor.snapshot();
            assert_eq!((snapshot.wanted, snapshot.ready), (4, 2));
            assert_eq!(snapshot.starting, 2);
        },
    },
    Golden {
        name: "retiring",
        listeners: &[&[10]],
        build: |world| {
            world.draining = true;
            world.roll();
            world.ask(Command::Retire(Generation(1)));
        },
        check: |supervisor| {
            let snapshot = supervisor.snapshot();
            assert_eq!(snapshot.retiring.len(), 2);
            assert_eq!(snapshot.generation, Generation(2));
        },
    },
    Golden {
        name: "several-listeners",
        listeners: &[&[10, 11, 12], &[10]],
        build: |world| world.roll(),
        check: |supervisor| assert_eq!(supervisor.generation(), Generation(2)),
    },
    Golden {
        name: "beside-an-old-master",
        listeners: &[&[10]],
        build: World::take_over_from_old_master,
        check: |supervisor| {
            assert_eq!(supervisor.role(), Role::New);
            assert!(supervisor.is_service());
        },
    },
];

/// A world in which everything goes well.
struct World {
    supervisor: Supervisor,
    now: Time,
    tickets: u64,
    /// Workers that are told to finish take their time, and hold no listener any more.
    draining: bool,
}

impl World {
    fn new() -> World {
        let policy = Policy {
            ready: Readiness::Notify,
            canary: Canary::Off,
            timeout: Some(Duration::from_secs(60)),
            ..Policy::default()
        };
        let mut world = World {
            supervisor: Supervisor::new(2, Rc::new(policy), 7),
            now: Time(1_000_000_000),
            tickets: 0,
            draining: false,
        };
        world.step(Event::Start(PinnedRelease::default()));
        world.make_all_ready();
        world
    }

    fn step(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let mut out = Vec::new();
            self.supervisor.step(self.now, event, &mut out);
            events.extend(out.iter().filter_map(|action| self.answer(action)));
        }
    }

    fn answer(&self, action: &Action) -> Option<Event> {
        let policy = || {
            Rc::new(Policy {
                canary: Canary::Off,
                ready: Readiness::Notify,
                ..Policy::default()
            })
        };
        match action {
            Action::Spawn { worker, .. } => Some(Event::Forked(*worker, 4000 + worker.0 as i32)),
            Action::Pin(_, PinSource::Successor | PinSource::SameImage(_)) => None,
            Action::Pin(generation, _) => Some(Event::Pinned(
                *generation,
                policy(),
                PinnedRelease::default(),
            )),
            Action::LookForListeners(worker) => Some(Event::ListenersReleased(*worker)),
            _ => None,
        }
    }

    fn ask(&mut self, command: Command) {
        self.tickets += 1;
        self.now = self.now + Duration::from_secs(1);
        self.step(Event::Command(Ticket(self.tickets), command));
    }

    fn ids(&self, which: impl Fn(&prefork_core::model::worker::Worker) -> bool) -> Vec<WorkerId> {
        let workers = self.supervisor.workers().filter(|worker| which(worker));
        workers.map(|worker| worker.id).collect()
    }

    fn make_all_ready(&mut self) {
        for id in self.ids(|worker| worker.is_starting()) {
            self.step(Event::Executed(id));
            self.step(Event::Said(id, WorkerMessage::Beat));
            self.step(Event::Said(id, WorkerMessage::Ready));
        }
    }

    fn end_told(&mut self) {
        for worker in self.ids(|worker| worker.is_told()) {
            let ended = ExitStatus::Exited(0);
            self.step(Event::Exited {
                worker,
                ended,
                rest: false,
            });
        }
    }

    /// An upgrade by fork, seen by the new master, until the old one drains.
    fn take_over_from_old_master(&mut self) {
        let policy = Policy {
            ready: Readiness::Notify,
            canary: Canary::Off,
            ..Policy::default()
        };
        self.supervisor = super::beside::heir(&["2"], &policy);
        self.step(Event::Start(PinnedRelease::default()));
        for _ in 0..2 {
            self.make_all_ready();
        }
        self.step(Event::Peer(PeerEvent::Said(PeerMessage::Take)));
    }

    /// A reload to its end.
    fn roll(&mut self) {
        let renewed = false;
        self.ask(Command::Reload { renewed });
        for _ in 0..2 {
            self.make_all_ready();
            if !self.draining {
                self.end_told();
            }
        }
        while self.supervisor.service_state() == ServiceState::Rolling {
            self.now = self.supervisor.deadline().expect("it waits for something");
            self.step(Event::Due);
        }
    }

    /// Three events; beside an old master one of this master has no number yet.
    fn events(&self) -> KnownEvents {
        let event = |pid: i32| {
            let worker = WorkerLabel {
                slot: 0,
                pid: Some(pid),
                generation: Generation(1),
            };
            let at = "2026-01-31T12:00:00.000Z";
            render(&Fact::WorkerStarted(worker), || at.to_owned()).expect("an event")
        };
        let mut log = EventLog::new(7);
        for pid in 4001..=4003 {
            log.happened(event(pid));
        }
        let is_beside = self.supervisor.role() == Role::New;
        let log = match is_beside {
            true => log.beside_old_master([event(4004)]),
            false => log,
        };
        KnownEvents::from(&log)
    }

    /// The document of an upgrade that begins now.
    fn state(&mut self, sets: &[&[i32]]) -> State {
        self.ask(Command::Upgrade);
        let service = Service::from(&self.supervisor.hand_over().expect("it can be handed over"));
        let listener = |fd: &i32| Listener {
            fd: *fd,
            name: (*fd > 10).then(|| format!("name{fd}")),
            source: Some(fd - 7),
            backlog: Some(4096),
        };
        let generation = self.supervisor.generation().0;
        let pin = |generation: u64, listeners: usize| Pin {
            generation,
            policy: Settings::from(&Policy::default()),
            cwd: Path::new("/srv/app").into(),
            program: Path::new("/srv/app/hello").into(),
            command: vec![Path::new("./hello").into()],
            environment: [("A", "b")].into_iter().collect(),
            listeners,
            changes: serde_json::from_str::<Changes>(r#"{"set":{"A":"b"}}"#).expect("changes"),
            exports: Vec::new(),
            beat_fd: 4,
            notify_dir: None,
            closed: None,
        };
        let process = |id: &WorkerId| Process {
            id: id.0,
            leader: 4000 + id.0 as i32,
            hold: Hold::Leader,
            leaderless: false,
            terms: (
                prefork_core::wire::handover::values::SignalName(
                    prefork_core::model::signal::Signal::Term,
                ),
                30_000,
            ),
            beat: Beat {
                fd: 40 + id.0 as i32,
                changed: (1, 2),
                modified: (1, 2),
                mode: 0o600,
                beats: 1,
            },
            last_beat: Some(Moment::from(self.now)),
            counted: (9, 3, std::time::Duration::from_millis(250)),
            status: Some("serving".into()),
            notify: (60 + id.0 as i32, format!("@{:032x}", id.0)),
            outcome: None,
            about_to_execute: false,
            ready: None,
        };
        State {
            format: FORMAT,
            by: "0.1.0".into(),
            pid: 4000,
            image: Image {
                fd: 3,
                argv: vec![Path::new("/srv/bin/pf-master").into()],
            },
            service,
            nofile: Some((1024, 4096)),
            ignored: Vec::new(),
            started: Moment::from(Time(1)),
            started_wall: 1_700_000_000_000_000_000,
            listeners: sets
                .iter()
                .map(|set| set.iter().map(listener).collect())
                .collect(),
            pins: (1..=generation)
                .map(|number| {
                    pin(
                        number,
                        (sets.len() - 1).min(usize::from(number != generation)),
                    )
                })
                .collect(),
            keep: vec![(9, 9)],
            lifeline: None,
            guard: Some(Guard { fd: 5, pid: 4001 }),
            processes: self.ids(|_| true).iter().map(process).collect(),
            control: None,
            acks: None,
            inherited_exports: Vec::new(),
            listen: vec!["tcp:127.0.0.1:8080".into()],
            pid_file: None,
            clients: Clients {
                all: vec![Client {
                    number: 1,
                    fd: 8,
                    follows: Some(Follows { id: None, seen: 2 }),
                    ..Client::default()
                }],
                last_client: 1,
                last_ticket: self.tickets,
                keys: vec![(
                    "deploy-1".into(),
                    "2".parse::<OpId>().expect("an operation").into(),
                )],
                key_commands: [("deploy-1".into(), r#"{"cmd":"reload"}"#.into())].into(),
                dropped: 0,
            },
            events: Some(self.events()),
            // As an image writes it that has none yet, and as one that is older does.
            stories: KnownStories::default(),
            control_token: None,
            service_manager: None,
            draining_master: (self.supervisor.role() == Role::New).then(|| DrainingMaster {
                link: 12,
                unsent: Vec::new(),
                pid: 50,
                process: Some(13),
                pid_file: Some(Path::new("/run/app.pid.oldbin").into()),
                control: None,
            }),
            missing_dir: None,
            needs: Needs {
                descriptors: 64,
                memory: 1 << 20,
            },
        }
    }
}

#[test]
fn every_golden_state_is_read_and_goes_on() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/states");
    let rewrite = std::env::var_os("PF_REWRITE").is_some();
    for format in OLDEST..=FORMAT {
        for golden in GOLDEN {
            let file = folder.join(format!("format-{format}-{}.json", golden.name));
            let mut world = World::new();
            (golden.build)(&mut world);
            let state = world.state(golden.listeners);
            let written = serde_json::to_string_pretty(&state).expect("JSON") + "\n";
            if rewrite && format == FORMAT {
                std::fs::create_dir_all(&folder).expect("a folder");
                std::fs::write(&file, &written).expect("rewritten");
            }
            let text = std::fs::read_to_string(&file).expect("a golden state");
            if format == FORMAT {
                assert_eq!(text, written, "{}: PF_REWRITE=1 rewrites", file.display());
            }
            let read = State::parse(text.as_bytes()).expect("it is understood");
            let mut supervisor = read.supervisor().expect("it is whole");
            (golden.check)(&supervisor);
            assert!(supervisor.awaits_successor());
            // The image that takes over pins, and the rollout follows.
            let to = supervisor.successor_of().expect("an upgrade");
            let mut out = Vec::new();
            let pinned = Event::Pinned(to, Rc::new(Policy::default()), PinnedRelease::default());
            supervisor.step(world.now, pinned, &mut out);
            assert_eq!(supervisor.service_state(), ServiceState::Rolling);
            let events = EventLog::from(read.events.clone().expect("this format has events"));
            assert_eq!((events.last(), events.kept().count()), (3, 3));
            // An image that is older has no events.
            let mut older: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            older.as_object_mut().expect("an object").remove("events");
            let older = State::parse(older.to_string().as_bytes()).expect("it is understood");
            assert_eq!(older.events, None);
            assert!(read.stories.is_empty());
            let descriptors = read.descriptors();
            for fd in golden.listeners.iter().flat_map(|set| set.iter()) {
                assert!(descriptors.contains(fd), "{fd}");
            }
        }
    }
}
