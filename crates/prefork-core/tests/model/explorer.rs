//! All orders of events for two slots: one command, two faults, breadth first over states that are
//! told apart only by what decides, as far as [`STATES`] of them reach.
//!
//! From every state that is reached, it must come to rest if everybody behaves from then on. So a
//! wait that nothing ends is found in any order of events that brings it about, and the shortest
//! one is printed.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::time::Duration;

use prefork_core::model::Supervisor;
use prefork_core::model::action::Action;
use prefork_core::model::action::PinSource;
use prefork_core::model::event::{Command, Event, Scale, WorkerMessage};
use prefork_core::model::exit::ExitStatus;
use prefork_core::model::ids::{Ticket, WorkerId};
use prefork_core::model::policy::{Canary, Policy, Readiness, Surge};
use prefork_core::model::releases::PinnedRelease;
use prefork_core::model::state::snapshot::{ServiceState, SlotState};
use prefork_core::model::time::Time;
use prefork_core::model::worker::Phase;

/// No state of these services needs more steps to come to rest.
const STEPS: usize = 400;

/// How many states are looked at, nearest first: what goes wrong does so within a few events.
const STATES: usize = 5_000;

/// What does not decide: totals, memories, labels. The values are left out.
const UNDECISIVE: [&str; 18] = [
    "dice",
    "counters",
    "counters_at_fork",
    "counters_told",
    "operations",
    "records",
    "last_rollout",
    "last_exit",
    "totals",
    "last_generation",
    "last_worker",
    "pid",
    "policy",
    "readiness_memory",
    "started_at",
    "began",
    "told_at",
    "listener_looks",
];

#[derive(Clone)]
struct Node {
    supervisor: Supervisor,
    now: Time,
    policy: Rc<Policy>,
    commands: u32,
    faults: u32,
    over: bool,
}

#[derive(Debug, Clone)]
enum Move {
    Due,
    Event(Event),
    Command(Command),
    Fault(Event),
}

impl Node {
    fn step(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let mut out = Vec::new();
            self.supervisor.step(self.now, event, &mut out);
            for action in out {
                match action {
                    Action::Pin(_, PinSource::Successor | PinSource::SameImage(_)) => {}
                    Action::Pin(generation, source) => {
                        let same_as = match source {
                            PinSource::Of(old) | PinSource::SameImage(old) => Some(old),
                            PinSource::Now | PinSource::Asked { .. } | PinSource::Successor => None,
                        };
                        let release = PinnedRelease {
                            same_as,
                            ..PinnedRelease::default()
                        };
                        let policy = Rc::clone(&self.policy);
                        events.push_back(Event::Pinned(generation, policy, release));
                    }
                    Action::LookAtQueues => events.push_back(Event::QueueDepths(Vec::new())),
                    Action::Exit(..) => self.over = true,
                    _ => {}
                }
            }
        }
    }

    fn take(&mut self, next: &Move) {
        match next {
            Move::Due => {
                self.now = self.now.max(self.supervisor.deadline().unwrap_or(self.now));
                self.step(Event::Due);
            }
            Move::Event(event) => self.step(event.clone()),
            Move::Command(command) => {
                self.commands -= 1;
                self.step(Event::Command(Ticket(1), command.clone()));
            }
            Move::Fault(event) => {
                self.faults -= 1;
                self.step(event.clone());
            }
        }
    }

    fn exit(worker: WorkerId, code: i32) -> Event {
        Event::Exited {
            worker,
            ended: ExitStatus::Exited(code),
            rest: false,
        }
    }

    /// What a worker does that behaves.
    fn orderly(&self) -> Vec<Event> {
        let mut events = Vec::new();
        for worker in self.supervisor.workers() {
            let id = worker.id;
            events.extend(match worker.phase {
                Phase::Spawning => Some(Event::Executed(id)),
                Phase::Starting => Some(Event::Said(id, WorkerMessage::Ready)),
                Phase::Stopping(_) => Some(Node::exit(id, 0)),
                Phase::Leaderless(_) => Some(Event::Emptied(id)),
                Phase::Ready | Phase::Gone => None,
            });
        }
        events
    }

    fn moves(&self) -> Vec<Move> {
        let mut moves: Vec<Move> = self.orderly().into_iter().map(Move::Event).collect();
        moves.extend(self.supervisor.deadline().map(|_| Move::Due));
        if self.faults > 0 {
            for worker in self.supervisor.workers() {
                let id = worker.id;
                let fatal = Move::Fault(Node::exit(id, 78));
                let failed = Move::Fault(Node::exit(id, 1));
                match worker.phase {
                    Phase::Starting | Phase::Ready => moves.extend([fatal, failed]),
                    Phase::Spawning => {
                        moves.push(Move::Fault(Event::SpawnFailed(id, String::new())));
                    }
                    Phase::Stopping(_) | Phase::Leaderless(_) | Phase::Gone => {}
                }
            }
        }
        if self.commands > 0 {
            let commands = [
                Command::Reload { renewed: false },
                Command::Rollback(None),
                Command::RestartWorker(0),
                Command::Scale(Scale::To(3)),
                Command::Scale(Scale::To(1)),
                Command::Pause,
            ];
            moves.extend(commands.map(Move::Command));
        }
        moves
    }

    /// Whether it comes to rest if everybody behaves; else, what is left open.
    fn comes_to_rest(mut self) -> Result<(), String> {
        for _ in 0..STEPS {
            let snapshot = self.supervisor.snapshot();
            let slots = snapshot.slots.iter();
            let filled = slots
                .filter(|view| !matches!(view.state, SlotState::Ready | SlotState::Down))
                .count();
            let quiet = match snapshot.state {
                ServiceState::Running => filled == 0,
                ServiceState::Paused => true,
                ServiceState::Starting | ServiceState::Rolling | ServiceState::Stopping => false,
            };
            let open = self.supervisor.owned_operations();
            let extra = snapshot.replacements.len() + snapshot.retiring.len();
            if self.over || (quiet && open.is_empty() && extra == 0) {
                return Ok(());
            }
            match self.orderly().into_iter().next() {
                Some(event) => self.step(event),
                None if self.supervisor.deadline().is_some() => self.take(&Move::Due),
                None => return Err(format!("nothing is waited for; open: {open:?}")),
            }
        }
        Err(format!("no rest after {STEPS} steps"))
    }

    /// What decides, as a number: ids in the order in which they appear, and times to come in the
    /// order in which they come.
    fn canonical(&self) -> u64 {
        let text = format!("{:?}", self.supervisor);
        let times: BTreeSet<u64> = text
            .split("Time(")
            .skip(1)
            .filter_map(|rest| rest.split(')').next()?.parse().ok())
            .filter(|at| Time(*at) > self.now)
            .collect();
        let mut hasher = DefaultHasher::new();
        (self.commands, self.faults, self.over).hash(&mut hasher);
        let mut names: BTreeMap<(String, u64), usize> = BTreeMap::new();
        let mut word = String::new();
        let mut rest = text.chars().peekable();
        // How deep the value is that is left out.
        let (mut depth, mut skipped) = (0_i32, None);
        while let Some(c) = rest.next() {
            match c {
                '"' => while rest.next().is_some_and(|c| c != '"') {},
                '(' | '{' | '[' => depth += 1,
                ')' | '}' | ']' => depth -= 1,
                _ => {}
            }
            if skipped.is_some_and(|at| depth < at || (c == ',' && depth == at)) {
                skipped = None;
            }
            if c.is_alphanumeric() || c == '_' {
                word.push(c);
                continue;
            }
            if skipped.is_none() {
                if c == ':' && UNDECISIVE.contains(&word.as_str()) {
                    skipped = Some(depth);
                } else if c == '('
                    && matches!(word.as_str(), "WorkerId" | "Generation" | "OpId" | "Time")
                {
                    let mut digits = String::new();
                    while let Some(digit) = rest.next_if(char::is_ascii_digit) {
                        digits.push(digit);
                    }
                    let number = digits.parse().unwrap_or(0);
                    if word == "Time" {
                        times.range(..=number).count().hash(&mut hasher);
                    } else {
                        let known = names.len();
                        let name = names.entry((word.clone(), number)).or_insert(known);
                        name.hash(&mut hasher);
                    }
                } else {
                    (&word, c).hash(&mut hasher);
                }
            }
            word.clear();
        }
        hasher.finish()
    }
}

/// The service with both slots ready, after one reload, so that there is something to go back to.
fn settled(policy: Policy) -> Node {
    let policy = Rc::new(policy);
    let mut node = Node {
        supervisor: Supervisor::new(2, Rc::clone(&policy), 7),
        now: Time(0),
        policy,
        commands: 1,
        faults: 2,
        over: false,
    };
    node.step(Event::Start(PinnedRelease::default()));
    for reload in [true, false] {
        while let Some(event) = node.orderly().into_iter().next() {
            node.step(event);
        }
        while node.supervisor.deadline().is_some() {
            node.take(&Move::Due);
            while let Some(event) = node.orderly().into_iter().next() {
                node.step(event);
            }
        }
        if reload {
            let command = Command::Reload { renewed: false };
            node.step(Event::Command(Ticket(0), command));
        }
    }
    node
}

/// The states, nearest first; how many, or the shortest way to one from which there is no rest.
fn explore(policy: Policy) -> Result<usize, String> {
    let first = settled(policy);
    let mut seen = HashSet::from([first.canonical()]);
    let mut ways: Vec<(usize, Option<Move>)> = vec![(0, None)];
    let mut queue = VecDeque::from([(0, first)]);
    while let Some((at, node)) = queue.pop_front() {
        for next in node.moves() {
            let mut then = node.clone();
            then.take(&next);
            if !seen.insert(then.canonical()) {
                continue;
            }
            ways.push((at, Some(next)));
            let here = ways.len() - 1;
            if let Err(why) = then.clone().comes_to_rest() {
                let mut way = Vec::new();
                let mut step = here;
                while let (before, Some(next)) = &ways[step] {
                    way.insert(0, format!("{next:?}"));
                    step = *before;
                }
                return Err(format!("{why}, after:\n{}", way.join("\n")));
            }
            if !then.over {
                queue.push_back((here, then));
            }
            if seen.len() >= STATES {
                return Ok(seen.len());
            }
        }
    }
    Ok(seen.len())
}

#[test]
fn every_order_of_events_comes_to_rest() {
    let usual = || Policy {
        ready: Readiness::Notify,
        canary: Canary::Off,
        fatal_exit: vec![78],
        start_failures: 2,
        ..Policy::default()
    };
    let policies = [
        usual(),
        Policy {
            canary: Canary::Auto,
            ..usual()
        },
        Policy {
            surge: Surge::Workers(0),
            ..usual()
        },
        Policy {
            surge: Surge::Percent(100),
            probation: Some(Duration::from_secs(2)),
            ..usual()
        },
    ];
    for policy in policies {
        let states = explore(policy.clone());
        let states = states.unwrap_or_else(|why| panic!("{policy:?}:\n{why}"));
        assert!(states > 500, "only {states} states: {policy:?}");
    }
}
