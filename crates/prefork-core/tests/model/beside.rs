//! How transcripts write the events and actions between two masters (upgrade by fork).

use std::rc::Rc;

use prefork_core::model::Supervisor;
use prefork_core::model::counters::Counters;
use prefork_core::model::event::Event;
use prefork_core::model::ids::{Generation, MasterId, OpId};
use prefork_core::model::operation::{Operation, OperationKind, Operations, Outcome};
use prefork_core::model::peer::{ForkState, PeerAction, PeerEvent, PeerMessage};
use prefork_core::model::policy::{Policy, StopSeverity};
use prefork_core::model::readiness_memory::ReadinessMemory;
use prefork_core::model::releases::{KeptRelease, Releases};
use prefork_core::model::time::Time;
use prefork_core::wire::operation_id::plain;

/// The new master, by whose word its operations are known.
const NEW: MasterId = MasterId(23);

/// `heir N [manual] [older] [scaled=N]`: the supervisor of a new master of generation 2. The old
/// master is process 50, and the upgrade is its operation 2; `older`: it is of a version that
/// answers no questions.
pub fn heir(rest: &[&str], policy: &Policy) -> Supervisor {
    let slots = rest[0].parse().expect("slots");
    let known = |op, kind, ended| Operation {
        op: plain(op),
        kind,
        began: Time(0),
        ended,
    };
    let done = Outcome::Done("start done".into(), Vec::new());
    let operations = Operations::remembered(
        (MasterId(0), Vec::new()),
        2,
        vec![
            known(1, OperationKind::Start, Some((Time(0), done))),
            known(2, OperationKind::Upgrade, None),
        ],
    );
    let op = plain(2);
    let scaled = rest.iter().find_map(|word| word.strip_prefix("scaled="));
    let heir = ForkState {
        op,
        manual: rest.contains(&"manual"),
        is_copy: false,
        from: Generation(1),
        releases: Releases {
            kept: vec![KeptRelease {
                generation: Generation(1),
                policy: Rc::new(policy.clone()),
                rolled_away: false,
            }],
            ..Releases::default()
        },
        to: Generation(2),
        scaled: scaled.map(|slots| slots.parse().expect("slots")),
        operations,
        readiness_memory: ReadinessMemory::default(),
        answers: !rest.contains(&"older"),
        counters: Counters::default(),
        slots: Vec::new(),
    };
    Supervisor::beside_old_master(Rc::new(policy.clone()), slots, 7, 50, heir).of_master(NEW)
}

/// An event of the other master: `other born PID|unborn WHY|gone HOW|lost WHY`, or a message of it:
/// `other hello PID|ready SLOT|all-ready|done N|back WHY|want SLOT|free SLOT|stop HOW|used GEN`,
/// `other counted REQUESTS`,
/// `other ask|alive|take|taken`, `other began OP KIND`, `other ended OP KIND done|failed TEXT`.
pub fn happened(rest: &[&str]) -> Event {
    let (verb, rest) = rest.split_first().expect("a verb");
    let text = rest.join(" ");
    let number = || text.parse::<u32>().expect("a number");
    let told = match *verb {
        "born" => return Event::Peer(PeerEvent::Started(number() as i32)),
        "unborn" => return Event::Peer(PeerEvent::NotStarted(text)),
        "gone" => return Event::Peer(PeerEvent::Exited(text)),
        "lost" => return Event::Peer(PeerEvent::LinkLost(text)),
        "hello" => PeerMessage::Hello(number() as i32),
        "ready" => PeerMessage::Ready(number()),
        "all-ready" => PeerMessage::AllReady,
        "done" => PeerMessage::Done(number() as usize),
        "back" => PeerMessage::Back(text),
        "want" => PeerMessage::Want(number()),
        "free" => PeerMessage::Free(number()),
        "used" => PeerMessage::Used(Generation(number().into())),
        "counted" => PeerMessage::Counted(Box::new(Counters {
            requests: number().into(),
            ..Counters::default()
        })),
        "ask" => PeerMessage::Ask,
        "alive" => PeerMessage::Alive,
        "take" => PeerMessage::Take,
        "taken" => PeerMessage::Taken,
        "began" => PeerMessage::Began(op(rest[0]), kind(rest[1])),
        "ended" => {
            let text = rest[3..].join(" ");
            let outcome = match rest[2] {
                "done" => Outcome::Done(text, Vec::new()),
                _ => Outcome::Failed(text),
            };
            PeerMessage::Ended(op(rest[0]), kind(rest[1]), outcome)
        }
        "stop" => PeerMessage::Stop(match text.as_str() {
            "graceful" => StopSeverity::Graceful,
            "quick" => StopSeverity::Quick,
            _ => StopSeverity::Kill,
        }),
        _ => panic!("unknown: other {verb}"),
    };
    Event::Peer(PeerEvent::Said(told))
}

fn op(word: &str) -> OpId {
    word.parse().expect("an operation")
}

fn kind(name: &str) -> OperationKind {
    let mut all = OperationKind::ALL.into_iter();
    all.find(|kind| kind.name() == name).expect("a kind")
}

/// An action on the other master, as transcripts show it.
pub fn deed(deed: &PeerAction) -> String {
    match deed {
        PeerAction::StartMaster(heir) => {
            let how = match (heir.manual, heir.is_copy) {
                (true, _) => " manual",
                (false, true) => " as a copy",
                (false, false) => "",
            };
            let scaled = heir
                .scaled
                .map(|slots| format!(" scaled={slots}"))
                .unwrap_or_default();
            format!(
                "beget a master: operation {} from gen={} to gen={}{how}{scaled}",
                heir.op, heir.from, heir.to
            )
        }
        PeerAction::Tell(told) => {
            let text = prefork_core::wire::peer::render(told);
            let text: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
            let word = text["say"].as_str().expect("a word");
            match &text["of"] {
                serde_json::Value::Null => format!("tell the other: {word}"),
                of => format!("tell the other: {word} {of}"),
            }
        }
        PeerAction::Kill => "kill the other".into(),
        PeerAction::TakeNamesBack => "take the names back".into(),
        PeerAction::RemoveOldNames => "remove the old names".into(),
        PeerAction::Succeeded => "the other is the service".into(),
        PeerAction::HandedOver => "this one is the service".into(),
        PeerAction::PassOn(sig) => format!("pass {sig} on to the other"),
    }
}
