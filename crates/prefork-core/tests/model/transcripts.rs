//! Transcripts: text files of prose, commands, and the exact actions that follow.
//!
//! In `tests/scenarios/*.txt` a line that starts with `#` is prose, an indented line is an action,
//! and every other line is a command ([`Session::command`]) that the actions below it answer.
//! `PF_REWRITE=1 cargo test transcripts` writes the actions anew; review the diff. Facts of the
//! level debug are left out.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use prefork_core::model::Supervisor;
use prefork_core::model::action::{Action, PinSource};
use prefork_core::model::event::{Command, Event, LifelineEnd, Rehearsal, Scale, WorkerMessage};
use prefork_core::model::exit::{ExitStatus, OomCount, OomReading};
use prefork_core::model::fact::Level;
use prefork_core::model::ids::{Generation, LeftoverId, Ticket, WorkerId};
use prefork_core::model::leftover::{Holds, LeftBehind, LeftBy};
use prefork_core::model::machines::service_manager::{Reported, ServiceNotifier};
use prefork_core::model::machines::stories::Stories;
use prefork_core::model::peer::{PeerAction, PeerEvent};
use prefork_core::model::policy::{Canary, Policy, Readiness, StopSeverity, Surge};
use prefork_core::model::releases::listener_change::{ListenerChange, ListenerLabel};
use prefork_core::model::releases::{GenerationRecord, PinnedRelease, ReleaseLabel};
use prefork_core::model::signal::{Sender, Signal};
use prefork_core::model::time::Time;
use prefork_core::wire::service_manager::render;
use prefork_core::wire::story::{Entry, entry};

#[test]
fn transcripts_match_the_model() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let rewrite = std::env::var_os("PF_REWRITE").is_some();
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .expect("scenarios")
        .map(|entry| entry.expect("entry").path())
        .collect();
    files.sort();
    assert!(files.len() >= 10, "only {} transcripts", files.len());
    let mut wrong = Vec::new();
    for file in files {
        let expected = std::fs::read_to_string(&file).expect("transcript");
        let actual = run(&expected);
        if actual == expected {
            continue;
        }
        if rewrite {
            std::fs::write(&file, &actual).expect("rewrite");
        } else {
            wrong.push(format!(
                "{}:\n{}",
                file.display(),
                first_difference(&expected, &actual)
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "PF_REWRITE=1 rewrites; the differences:\n{}",
        wrong.join("\n")
    );
}

fn first_difference(expected: &str, actual: &str) -> String {
    let mut lines = expected.lines().zip(actual.lines()).enumerate();
    match lines.find(|(_, (old, new))| old != new) {
        Some((number, (old, new))) => {
            format!("line {}:\n  written: {old}\n  answered: {new}", number + 1)
        }
        None => "one text is the start of the other".into(),
    }
}

fn run(text: &str) -> String {
    // Most transcripts are about something else than the canary.
    let policy = Policy {
        canary: Canary::Off,
        ..Policy::default()
    };
    let mut session = Session {
        policy,
        ..Session::default()
    };
    let mut answer = String::new();
    for line in text.lines().filter(|line| !line.starts_with("  ")) {
        let _ = writeln!(answer, "{line}");
        if !line.is_empty() && !line.starts_with('#') {
            session.command(line);
            for action in session.answers.drain(..) {
                let _ = writeln!(answer, "  {action}");
            }
        }
    }
    answer
}

#[derive(Default)]
struct Session {
    now: Time,
    supervisor: Option<Supervisor>,
    policy: Policy,
    /// The name of what is pinned next, and the generations that were pinned with one.
    release: Option<String>,
    released: BTreeMap<u64, String>,
    pin_fails: Option<String>,
    /// What the generation that is pinned next changes of the listeners.
    listeners: ListenerChange,
    tickets: u64,
    notifier: Option<ServiceNotifier>,
    deaf: bool,
    left: Vec<LeftBehind>,
    stories: Stories<Entry>,
    answers: Vec<String>,
}

impl Session {
    /// Runs one command:
    ///
    /// - `new N [setting=value]...` (with `canary=off` unless it says another), `start`, `set
    ///   setting=value` (for the next pin);
    /// - of workers: `exec W`, `ready W`, `beat W`, `newline W`, `closed W`, `stopping W`, `trigger
    ///   W`, `watchdog W D`, `extend W D`, `held W`, `not-held W`, `dumps W`, `does-not-dump W`,
    ///   `exit W code=C|signal=S [rest]`, `oom-kills W COUNT` (the count that is read before),
    ///   `no-exec W WHY`, `no-fork W WHY`, `emptied W`, `let-go W`;
    /// - of what workers leave behind: `left ID pid=P [slot=S] by=W|gone|other|unknown
    ///   holds=nothing|NAME|maybe:NAME` (the next look finds it), `left-gone ID` (no look finds it
    ///   again), `look`;
    /// - of the rest of the world: `oom-kills-so-far COUNT`, `oom-kills-at-exit COUNT` (before an
    ///   end that is no KILL), `lifeline byte|gone`, `queues-empty`,
    ///   `rebound LISTENER`, `advance D`, `sleep D`, `signal S [terminal]`, `pin-fails WHY`,
    ///   `taken-over GEN`, `went-back GEN WHY`; `listeners [+[NAME=]ADDRESS]...
    ///   [-[NAME=]ADDRESS]...` (what the next pin changes of them);
    /// - of the service manager: `manager [D]` (one listens; D: its watchdog), `deaf`, `hears`;
    /// - requests: `reload [renewed]`, `upgrade`, `fork`, `rehearse reload|upgrade|fork`,
    ///   `rollback`, `scale`, `stop`, `pause`, `resume`, `restart`, `retire`, `reopen`, `deliver`,
    ///   `add-listeners [held]`, `remove-listeners`;
    /// - `release NAME`: what is pinned from now on (the same name is the same release);
    /// - to look: `slots`, `deadline`, `history`, `story SLOT`;
    /// - of two masters: `heir ...`, `other ...`, see [`beside`](super::beside).
    ///
    /// W is a worker or a range `A..B`.
    fn command(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (verb, rest) = words.split_first().expect("a verb");
        match *verb {
            "new" => {
                rest[1..]
                    .iter()
                    .for_each(|setting| set(&mut self.policy, setting));
                let slots = rest[0].parse().expect("slots");
                self.supervisor = Some(Supervisor::new(slots, Rc::new(self.policy.clone()), 7));
            }
            "heir" => self.supervisor = Some(super::beside::heir(rest, &self.policy)),
            "other" => self.step(super::beside::happened(rest)),
            "manager" => {
                let limit = rest.first().map(|limit| duration(limit));
                self.notifier = Some(ServiceNotifier::new(
                    99,
                    limit,
                    Reported::default(),
                    self.now,
                ));
            }
            "deaf" => self.deaf = true,
            "hears" => self.deaf = false,
            "set" => rest
                .iter()
                .for_each(|setting| set(&mut self.policy, setting)),
            // An upgrade in place: the next image has what could be written of the supervisor, and
            // pins.
            "taken-over" => {
                let written = super::handover::written(self.supervisor()).expect("written");
                self.supervisor = Some(super::handover::read(&written).expect("read"));
                let generation = Generation(rest[0].parse().expect("a generation"));
                let copied = self.supervisor().successor_copies();
                let pinned = self.pinned(generation, copied);
                self.step(pinned);
            }
            "went-back" => {
                let generation = Generation(rest[0].parse().expect("a generation"));
                self.step(Event::PinFailed(generation, rest[1..].join(" ")));
            }
            "listeners" => self.listeners = listener_change(rest),
            "pin-fails" => self.pin_fails = Some(rest.join(" ")),
            "advance" => self.advance(duration(rest[0])),
            // The master itself did not run: it was stopped, or the machine was suspended.
            "sleep" => {
                self.now = self.now + duration(rest[0]);
                self.step(Event::Due);
            }
            "slots" => self.show_slots(),
            "story" => {
                let slot = rest[0].parse().expect("a slot");
                let story = self.stories.of(slot).into_iter().flatten();
                let line = |entry: &Entry| format!("{} {}: {}", entry.at, entry.event, entry.text);
                self.answers.extend(story.map(line));
            }
            "deadline" => {
                let deadline = self.supervisor().deadline();
                let text = deadline.map_or("none".into(), |at| format!("{:?}", at.since(self.now)));
                self.answers.push(text);
            }
            "left" => self.left.push(left_behind(rest)),
            "look" => self.step(Event::LeftBehind(self.left.clone())),
            "left-gone" => {
                let id = LeftoverId(rest[0].parse().expect("an id"));
                self.left.retain(|left| left.id != id);
            }
            "start" => {
                let release = self.pinned_release(Generation(1), None);
                self.step(Event::Start(release));
            }
            "oom-kills-at-exit" => {
                self.step(Event::OomKills(OomReading::AfterExit, oom_count(rest[0])))
            }
            "oom-kills-so-far" => {
                self.step(Event::OomKills(OomReading::AtStart, oom_count(rest[0])))
            }
            "release" => self.release = Some(rest.join(" ")),
            "history" => self.show_history(),
            "lifeline" => {
                let how = match rest[0] {
                    "byte" => LifelineEnd::Byte,
                    _ => LifelineEnd::NoHolder,
                };
                self.step(Event::LifelineEnded(5, how));
            }
            "queues-empty" => self.step(Event::QueueDepths(Vec::new())),
            "rebound" => self.step(Event::Rebound(rest[0].into())),
            "signal" => {
                let sender = if rest.get(1) == Some(&"terminal") {
                    Sender::Terminal
                } else {
                    Sender::Process
                };
                self.step(Event::Signal(rest[0].parse().expect("signal"), sender));
            }
            "reload" | "upgrade" | "fork" | "rehearse" | "rollback" | "scale" | "stop"
            | "pause" | "resume" | "restart" | "retire" | "reopen" | "deliver"
            | "add-listeners" | "remove-listeners" => {
                self.tickets += 1;
                self.step(Event::Command(Ticket(self.tickets), command(verb, rest)));
            }
            _ => {
                for worker in range(rest[0]) {
                    self.step(happening(verb, worker, &rest[1..]));
                }
            }
        }
        self.speak();
    }

    /// Sends what the service manager is told at the end of a turn.
    fn speak(&mut self) {
        let (Some(notifier), Some(supervisor)) = (&mut self.notifier, &self.supervisor) else {
            return;
        };
        let summary = supervisor.service_summary();
        while let Some(message) = notifier.next_message(self.now, &summary) {
            let text = render(&message).replace('\n', " ");
            if self.deaf {
                notifier.message_failed(self.now, true);
                self.answers.push(format!("manager does not hear: {text}"));
            } else {
                notifier.message_sent();
                self.answers.push(format!("manager: {text}"));
            }
        }
    }

    fn supervisor(&mut self) -> &mut Supervisor {
        self.supervisor.as_mut().expect("new first")
    }

    fn step(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = (!events.is_empty()).then(|| events.remove(0)) {
            let mut out = Vec::new();
            let now = self.now;
            self.supervisor().step(now, event, &mut out);
            for action in out {
                if let (Action::Pin(..), Some(notifier)) = (&action, &mut self.notifier) {
                    notifier.reload_begins(now);
                }
                if let Action::Tell(fact) = &action {
                    let since = |from_now| (now + from_now).since(Time(0)).as_secs_f64();
                    let entry = entry(fact, |from_now| format!("@{:.3}s", since(from_now)));
                    if let Some((slot, entry)) = entry {
                        self.stories.add(slot, entry);
                    }
                }
                // What a log shows of a worker only on request, its actions show here.
                if !matches!(&action, Action::Tell(fact) if fact.level() == Level::Debug) {
                    self.answers.push(super::render::action(&action));
                }
                events.extend(self.answer(&action));
            }
        }
    }

    /// The driver's answer in the same turn.
    fn answer(&mut self, action: &Action) -> Option<Event> {
        match action {
            Action::Spawn { worker, .. } => Some(Event::Forked(*worker, 100 + worker.0 as i32)),
            // The next image answers: `taken-over` or `went-back` in the transcript.
            Action::Pin(_, PinSource::Successor | PinSource::SameImage(_)) => None,
            Action::LookForLeftovers => Some(Event::LeftBehind(self.left.clone())),
            Action::Pin(generation, source) => Some(match (self.pin_fails.take(), source) {
                (Some(why), _) => Event::PinFailed(*generation, why),
                (None, PinSource::Of(old)) => self.pinned(*generation, Some(*old)),
                (None, _) => self.pinned(*generation, None),
            }),
            Action::Peer(PeerAction::StartMaster(_)) => {
                Some(Event::Peer(match self.pin_fails.take() {
                    Some(why) => PeerEvent::NotStarted(why),
                    None => PeerEvent::Started(60),
                }))
            }
            _ => None,
        }
    }

    /// The driver has pinned a generation; `of`: to what another was pinned to.
    fn pinned(&mut self, generation: Generation, of: Option<Generation>) -> Event {
        let release = self.pinned_release(generation, of);
        Event::Pinned(generation, Rc::new(self.policy.clone()), release)
    }

    fn pinned_release(&mut self, generation: Generation, of: Option<Generation>) -> PinnedRelease {
        let name = match of {
            Some(old) => self.released.get(&old.0).cloned(),
            None => self.release.clone(),
        };
        let mut earlier = self.released.iter().rev();
        let same = earlier.find(|(_, known)| Some(*known) == name.as_ref());
        let same_as = of.or(same.map(|(generation, _)| Generation(*generation)));
        self.released
            .extend(name.clone().map(|name| (generation.0, name)));
        PinnedRelease {
            label: ReleaseLabel {
                name,
                ..ReleaseLabel::default()
            },
            same_as,
            listeners: std::mem::take(&mut self.listeners),
        }
    }

    fn show_history(&mut self) {
        let releases = self.supervisor().releases();
        let kept = |record: &GenerationRecord| {
            let kept = releases.kept.iter();
            kept.clone()
                .any(|kept| kept.generation == record.generation)
        };
        let line = |record: &GenerationRecord| {
            format!(
                "{} {} {} {}{}{}",
                record.generation,
                record.kind,
                record.label.title(),
                record.result.name(),
                if kept(record) { ", kept" } else { "" },
                record
                    .error
                    .as_ref()
                    .map_or(String::new(), |why| format!(": {why}")),
            )
        };
        let lines: Vec<String> = releases.records.iter().map(line).collect();
        self.answers.extend(lines);
    }

    fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        loop {
            let model = self.supervisor().deadline();
            let all = [
                model,
                self.notifier.as_ref().and_then(ServiceNotifier::deadline),
            ];
            let next = all.into_iter().flatten().min();
            let Some(at) = next.filter(|at| *at <= end) else {
                break;
            };
            let before = self.answers.len();
            let passed = at.since(Time(0));
            self.now = self.now.max(at);
            if model.is_some_and(|due| due <= self.now) {
                self.step(Event::Due);
            }
            self.speak();
            for answer in &mut self.answers[before..] {
                *answer = format!("@{:.3}s {answer}", passed.as_secs_f64());
            }
        }
        self.now = end;
    }

    fn show_slots(&mut self) {
        let snapshot = self.supervisor().snapshot();
        let view = |view: &prefork_core::model::state::snapshot::SlotView| {
            let worker = view
                .worker
                .map_or("-".into(), |worker| worker.0.to_string());
            let generation = view
                .generation
                .map_or("-".into(), |generation| generation.to_string());
            // Why the slot has no worker.
            let before = view.last_exit.as_ref().filter(|_| view.worker.is_none());
            let why = before.map_or(String::new(), |exit| {
                format!(" ({} {})", exit.worker.0, exit.cause.name())
            });
            format!(
                "{}:{worker}/{generation} {}{why}",
                view.slot,
                view.state.name()
            )
        };
        let list = |views: &[prefork_core::model::state::snapshot::SlotView]| {
            views.iter().map(view).collect::<Vec<_>>().join(", ")
        };
        self.answers.push(format!(
            "{}, generation {}: {}",
            snapshot.state.name(),
            snapshot.generation,
            list(&snapshot.slots)
        ));
        for (name, views) in [
            ("starting", &snapshot.replacements),
            ("retiring", &snapshot.retiring),
        ] {
            if !views.is_empty() {
                self.answers.push(format!("{name}: {}", list(views)));
            }
        }
    }
}

fn duration(text: &str) -> Duration {
    humantime::parse_duration(text).expect("duration")
}

fn range(text: &str) -> Vec<WorkerId> {
    match text.split_once("..") {
        Some((first, last)) => {
            let (first, last): (u64, u64) =
                (first.parse().expect("first"), last.parse().expect("last"));
            (first..=last).map(WorkerId).collect()
        }
        None => vec![WorkerId(
            text.parse().unwrap_or_else(|_| panic!("no worker: {text}")),
        )],
    }
}

/// A process that a worker has left behind, as the driver finds it.
fn left_behind(words: &[&str]) -> LeftBehind {
    let value = |key: &str| {
        let mut settings = words.iter().filter_map(|word| word.split_once('='));
        settings
            .find(|(name, _)| *name == key)
            .map(|(_, value)| value)
    };
    let pid = value("pid").expect("pid=").parse().expect("a pid");
    LeftBehind {
        id: LeftoverId(words[0].parse().expect("an id")),
        pid,
        group: pid,
        name: "helper".into(),
        slot: value("slot").map(|slot| slot.parse().expect("a slot")),
        left_by: match value("by").expect("by=") {
            "gone" => LeftBy::GoneWorker,
            "other" => LeftBy::OtherMaster,
            "unknown" => LeftBy::Unknown,
            worker => LeftBy::Worker(WorkerId(worker.parse().expect("a worker"))),
        },
        holds: match value("holds").expect("holds=") {
            "nothing" => Holds::Nothing,
            text => match text.split_once(':') {
                Some(("maybe", name)) => Holds::Perhaps(vec![name.into()]),
                _ => Holds::Listeners(vec![text.into()]),
            },
        },
    }
}

/// What a pin changes of the listeners: `+NAME=ADDRESS`, `-ADDRESS`.
fn listener_change(words: &[&str]) -> ListenerChange {
    let with = |sign: char| {
        let labels = words.iter().filter_map(|word| word.strip_prefix(sign));
        let label = |text: &str| {
            let (name, address) = match text.split_once('=') {
                Some((name, address)) => (Some(name.to_owned()), address),
                None => (None, text),
            };
            let address = address.to_owned();
            ListenerLabel { name, address }
        };
        labels.map(label).collect()
    };
    ListenerChange {
        added: with('+'),
        removed: with('-'),
    }
}

fn happening(verb: &str, worker: WorkerId, rest: &[&str]) -> Event {
    match verb {
        "exec" => Event::Executed(worker),
        "ready" => Event::Said(worker, WorkerMessage::Ready),
        "beat" => Event::Said(worker, WorkerMessage::Beat),
        "newline" => Event::Said(worker, WorkerMessage::Newline),
        "closed" => Event::Said(worker, WorkerMessage::Closed),
        "stopping" => Event::Said(worker, WorkerMessage::Stopping),
        "no-exec" => Event::ExecFailed(worker, rest.join(" ")),
        "no-fork" => Event::SpawnFailed(worker, rest.join(" ")),
        "trigger" => Event::Said(worker, WorkerMessage::Trigger),
        "watchdog" => Event::Said(worker, WorkerMessage::Watchdog(duration(rest[0]))),
        "extend" => Event::Said(worker, WorkerMessage::Extend(duration(rest[0]))),
        "held" => Event::Held(worker, true),
        "not-held" => Event::Held(worker, false),
        "dumps" => Event::Dumping(worker, true),
        "does-not-dump" => Event::Dumping(worker, false),
        "emptied" => Event::Emptied(worker),
        "let-go" => Event::ListenersReleased(worker),
        "oom-kills" => Event::OomKills(OomReading::AfterKill(worker), oom_count(rest[0])),
        "exit" => {
            let ended = match rest[0].split_once('=').expect("code= or signal=") {
                ("code", code) => ExitStatus::Exited(code.parse().expect("code")),
                (_, signal) => ExitStatus::Signaled(Some(signal.parse().expect("signal")), false),
            };
            Event::Exited {
                worker,
                ended,
                rest: rest.get(1) == Some(&"rest"),
            }
        }
        _ => panic!("unknown command {verb}"),
    }
}

fn oom_count(kills: &str) -> OomCount {
    OomCount {
        group: "app.service".into(),
        kills: kills.parse().expect("a count"),
    }
}

fn command(verb: &str, rest: &[&str]) -> Command {
    match (verb, rest.first()) {
        ("reload", how) => Command::Reload {
            renewed: how == Some(&"renewed"),
        },
        ("upgrade", _) => Command::Upgrade,
        ("fork", how) => Command::Fork {
            manual: how == Some(&"manual"),
        },
        ("rehearse", Some(what)) => Command::Rehearse(match *what {
            "reload" => Rehearsal::Reload,
            "upgrade" => Rehearsal::Upgrade,
            _ => Rehearsal::Fork,
        }),
        ("rollback", to) => {
            Command::Rollback(to.map(|to| Generation(to.parse().expect("generation"))))
        }
        ("add-listeners", how) => Command::AddListeners {
            new: how != Some(&"held"),
        },
        ("remove-listeners", _) => Command::RemoveListeners,
        ("pause", _) => Command::Pause,
        ("resume", _) => Command::Resume,
        ("reopen", _) => Command::Reopen,
        ("retire", Some(generation)) => {
            Command::Retire(Generation(generation.parse().expect("generation")))
        }
        ("stop", Some(&"now")) => Command::Stop(StopSeverity::Quick),
        ("stop", _) => Command::Stop(StopSeverity::Graceful),
        ("restart", Some(slot)) => Command::RestartWorker(slot.parse().expect("slot")),
        ("scale", Some(by)) if by.starts_with(['+', '-']) => {
            Command::Scale(Scale::By(by.parse().expect("by")))
        }
        ("scale", Some(to)) => Command::Scale(Scale::To(to.parse().expect("to"))),
        ("deliver", Some(sig)) => {
            let slot = rest.get(1).map(|slot| slot.parse().expect("slot"));
            Command::Signal(sig.parse::<Signal>().expect("signal"), slot)
        }
        _ => panic!("unknown command {verb} {rest:?}"),
    }
}

fn set(policy: &mut Policy, setting: &str) {
    let (key, value) = setting.split_once('=').expect("setting=value");
    match key {
        "ready" => {
            policy.ready = match value.split_once(':') {
                None if value == "auto" => Readiness::Auto,
                None if value == "notify" => Readiness::Notify,
                None if value == "heartbeat" => Readiness::Heartbeat,
                None if value == "exec" => Readiness::Exec,
                Some(("delay", delay)) => Readiness::Delay(duration(delay)),
                Some(("fd", fd)) => Readiness::Fd(fd.parse().expect("fd")),
                _ => panic!("ready={value}"),
            }
        }
        "surge" => {
            policy.surge = match value.strip_suffix('%') {
                Some(percent) => Surge::Percent(percent.parse().expect("surge")),
                None => Surge::Workers(value.parse().expect("surge")),
            }
        }
        "canary" => {
            policy.canary = match value {
                "auto" => Canary::Auto,
                "off" => Canary::Off,
                trial => Canary::After(duration(trial)),
            }
        }
        "probation" => policy.probation = Some(duration(value)),
        "start-timeout" => policy.start_timeout = Some(duration(value)),
        "start-failures" => policy.start_failures = value.parse().expect("start-failures"),
        "graceful-timeout" => policy.graceful_timeout = duration(value),
        "graceful-signal" => policy.graceful_signal = value.parse().expect("signal"),
        "quick-timeout" => policy.quick_timeout = duration(value),
        "timeout" => policy.timeout = Some(duration(value)),
        "stop-delay" => policy.stop_delay = Some(duration(value)),
        "drain-queue" => policy.drain_queue = true,
        "max-draining" => policy.max_draining = Some(value.parse().expect("max-draining")),
        "backoff" => {
            let (shortest, longest) = value.split_once("..").expect("backoff=MIN..MAX");
            policy.backoff = (duration(shortest), duration(longest));
        }
        "give-up" => policy.give_up = Some(value.parse().expect("give-up")),
        "fatal-exit" => {
            policy.fatal_exit = value
                .split(',')
                .map(|code| code.parse().expect("code"))
                .collect()
        }
        "term" => {
            policy.term = if value == "quick" {
                StopSeverity::Quick
            } else {
                StopSeverity::Graceful
            }
        }
        _ => panic!("unknown setting {key}"),
    }
}
