//! What an old master and a new one beside it exchange, on a seqpacket socket whose descriptor
//! `PF_OLD_MASTER_FD` names.
//!
//! What the new master needs waits in the socket before it runs, so that it can go on alone if the
//! old one dies at once: messages with descriptors, the first of which is a file with a
//! [`ForkHandover`], the others the listeners. After that each message is one [`PeerMessage`], as a
//! JSON object. A side ignores a message that it does not know.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::events::kept::KnownEvents;
use super::exports::Protocol;
use super::handover::operations::{End, KnownOperations};
use super::handover::releases::{KnownReleases, before_they_were_known};
use super::handover::totals::{KnownSlotTotals, Totals};
use super::handover::values::{KindName, Learnt, Settings, Severity};
use super::handover::{Listener, Pin};
use super::operation_id::OpWord;
use super::story::kept::KnownStories;
use super::text::{self, Text, shown};
use crate::model::counters::SlotTotals;
use crate::model::ids::Generation;
use crate::model::operation::Outcome;
use crate::model::peer::{ForkState, PeerMessage};
use crate::model::policy::Policy;

/// Names the descriptor.
pub const LINK_FD: &str = "PF_OLD_MASTER_FD";

/// Variables that were meant for the old master's process alone.
pub const FOR_ONE_PROCESS: [&str; 5] = [
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PIDFDID",
    "WATCHDOG_PID",
];

/// The format that is written.
pub const FORMAT: u32 = 2;

/// The oldest format that is read. Its master answers no questions, and hands nothing over: it ends
/// when it has drained.
const OLDEST: u32 = 1;

/// The longest message, in bytes.
pub const LONGEST: usize = 16 * 1024;

/// The longest text in one: JSON may take six bytes for each of its bytes.
const LONGEST_TEXT: usize = 2 * 1024;

/// What the old master leaves to the new one.
#[derive(Debug, Serialize, Deserialize)]
pub struct ForkHandover {
    /// [`FORMAT`] of the old master.
    pub format: u32,
    /// The version of the old master.
    pub by: String,
    /// The old master's pid.
    pub pid: i32,
    /// What its model knows.
    pub state: PeerState,
    /// What the generation that serves was pinned to.
    pub pin: Pin,
    /// What the releases that can be gone back to were pinned to.
    #[serde(default)]
    pub earlier: Vec<Pin>,
    /// Its events; None: it has none, being older.
    #[serde(default)]
    pub events: Option<KnownEvents>,
    /// What has happened to each slot; a master that is older leaves it out.
    #[serde(default)]
    pub stories: KnownStories,
    /// The listeners, in the order in which their descriptors come; `fd` means nothing here.
    pub listeners: Vec<Listener>,
    /// The protocols in which it was told of listeners.
    #[serde(default)]
    pub inherited_exports: Vec<Protocol>,
    /// The name that its pid file has now.
    pub pid_file: Option<Text>,
    /// The name that its control socket has now.
    pub control: Option<Text>,
    /// Idempotency keys and their operations, oldest first.
    #[serde(default)]
    pub keys: Vec<(String, OpWord)>,
    /// The commands that the keys were used for, as JSON.
    #[serde(default)]
    pub key_commands: BTreeMap<String, String>,
    /// How many control clients were dropped.
    #[serde(default)]
    pub clients_dropped: u64,
    /// The addresses that its `--listen` named: one that it has no listener for any more was taken
    /// away on purpose.
    #[serde(default)]
    pub listen: Vec<String>,
}

impl ForkHandover {
    /// The document.
    ///
    /// # Errors
    /// None that is known: there is nothing in it that JSON cannot hold.
    pub fn render(&self) -> Result<Vec<u8>, String> {
        serde_json::to_vec(self).map_err(|error| format!("the state cannot be written: {error}"))
    }

    /// Reads a document.
    ///
    /// # Errors
    /// It is of another format, or none; in words.
    pub fn parse(document: &[u8]) -> Result<ForkHandover, String> {
        #[derive(Deserialize)]
        struct Head {
            format: u32,
            #[serde(default)]
            by: String,
        }
        let not_understood = |error: serde_json::Error| {
            let error = shown(error);
            format!("what the old master left is not understood: {error}")
        };
        let head: Head = serde_json::from_slice(document).map_err(not_understood)?;
        if !(OLDEST..=FORMAT).contains(&head.format) {
            return Err(format!(
                "what the old master (version {}) left has format {}, and this program reads formats \
                 {OLDEST} to {FORMAT}",
                shown(&head.by),
                head.format
            ));
        }
        serde_json::from_slice(document).map_err(not_understood)
    }
}

/// What the new master has to know of the old one's model, as JSON has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PeerState {
    op: OpWord,
    manual: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    copy: bool,
    from: u64,
    settings: Settings,
    to: u64,
    scaled: Option<usize>,
    operations: KnownOperations,
    readiness: Learnt,
    /// Also that it says `take`. Versions that did not say that wrote this by another name, and
    /// count as those that answer no questions.
    #[serde(default, rename = "takes")]
    answers: bool,
    /// Not yet in the format's first version.
    #[serde(default)]
    releases: Option<KnownReleases>,
    /// Totals, and what the slots keep for good. An older version leaves them out.
    #[serde(default)]
    totals: Totals,
    #[serde(default)]
    slots: Vec<KnownSlotTotals>,
}

impl PeerState {
    /// The new master's first generation.
    pub fn to(&self) -> u64 {
        self.to
    }

    /// Whether that is a copy of the generation that serves.
    pub fn is_copy(&self) -> bool {
        self.copy
    }
}

impl From<&ForkState> for PeerState {
    fn from(state: &ForkState) -> Self {
        let settings = state.releases.kept.last();
        PeerState {
            op: state.op.into(),
            manual: state.manual,
            copy: state.is_copy,
            from: state.from.0,
            settings: settings.map_or_else(Settings::default, |kept| (&*kept.policy).into()),
            to: state.to.0,
            scaled: state.scaled,
            operations: KnownOperations::from(&state.operations),
            readiness: Learnt::from(&state.readiness_memory),
            answers: state.answers,
            releases: Some(KnownReleases::from(&state.releases)),
            totals: Totals::from(&state.counters),
            slots: state.slots.iter().map(|totals| (*totals).into()).collect(),
        }
    }
}

impl From<PeerState> for ForkState {
    fn from(state: PeerState) -> Self {
        let releases = state.releases.and_then(|known| known.try_into().ok());
        let releases = releases.unwrap_or_else(|| {
            let policy = Rc::new(Policy::from(state.settings));
            let policies = BTreeMap::from([(Generation(state.from), policy)]);
            before_they_were_known(state.from, Some(state.from), &policies)
        });
        ForkState {
            op: state.op.into(),
            manual: state.manual,
            is_copy: state.copy,
            from: Generation(state.from),
            releases,
            to: Generation(state.to),
            scaled: state.scaled,
            operations: state.operations.into(),
            readiness_memory: state.readiness.into(),
            answers: state.answers,
            counters: state.totals.into(),
            slots: state.slots.into_iter().map(SlotTotals::from).collect(),
        }
    }
}

/// A [`PeerMessage`] as JSON has it: `{"say":"ready","of":3}`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "say", content = "of")]
enum Message {
    Hello(i32),
    Ready(u32),
    AllReady,
    Done(usize),
    Back(String),
    Want(u32),
    Free(u32),
    Stop(Severity),
    Used(u64),
    Ask,
    Alive,
    Take,
    Taken,
    Began(OpWord, KindName),
    Ended(OpWord, KindName, End),
    Counted(Box<Totals>),
}

/// One message. A reason that is too long for one is cut.
pub fn render(message: &PeerMessage) -> Vec<u8> {
    let message = match message {
        PeerMessage::Hello(pid) => Message::Hello(*pid),
        PeerMessage::Ready(slot) => Message::Ready(*slot),
        PeerMessage::AllReady => Message::AllReady,
        PeerMessage::Done(workers) => Message::Done(*workers),
        PeerMessage::Back(why) => Message::Back(cut(why)),
        PeerMessage::Want(slot) => Message::Want(*slot),
        PeerMessage::Free(slot) => Message::Free(*slot),
        PeerMessage::Stop(severity) => Message::Stop((*severity).into()),
        PeerMessage::Used(generation) => Message::Used(generation.0),
        PeerMessage::Ask => Message::Ask,
        PeerMessage::Alive => Message::Alive,
        PeerMessage::Take => Message::Take,
        PeerMessage::Taken => Message::Taken,
        PeerMessage::Began(op, kind) => Message::Began((*op).into(), KindName(*kind)),
        PeerMessage::Ended(op, kind, outcome) => {
            Message::Ended((*op).into(), KindName(*kind), cut_outcome(outcome))
        }
        PeerMessage::Counted(counted) => Message::Counted(Box::new(Totals::from(&**counted))),
    };
    serde_json::to_vec(&message).unwrap_or_default()
}

/// What of a text fits into one message.
fn cut(text: &str) -> String {
    text::cut(text, LONGEST_TEXT)
}

fn cut_outcome(outcome: &Outcome) -> End {
    match outcome {
        // The warnings are for the client that asked, and that is a client of the sender.
        Outcome::Done(text, _) => End::Done(cut(text), Vec::new()),
        Outcome::Failed(why) => End::Failed(cut(why)),
        Outcome::RolledBack(why) => End::RolledBack(cut(why)),
        Outcome::Aborted(why) => End::Aborted(cut(why)),
        Outcome::Lost(why) => End::Lost(cut(why)),
    }
}

/// Reads a message; None: it is a newer program's, or none.
pub fn parse(message: &[u8]) -> Option<PeerMessage> {
    Some(match serde_json::from_slice(message).ok()? {
        Message::Hello(pid) => PeerMessage::Hello(pid),
        Message::Ready(slot) => PeerMessage::Ready(slot),
        Message::AllReady => PeerMessage::AllReady,
        Message::Done(workers) => PeerMessage::Done(workers),
        Message::Back(why) => PeerMessage::Back(why),
        Message::Want(slot) => PeerMessage::Want(slot),
        Message::Free(slot) => PeerMessage::Free(slot),
        Message::Stop(severity) => PeerMessage::Stop(severity.into()),
        Message::Used(generation) => PeerMessage::Used(Generation(generation)),
        Message::Ask => PeerMessage::Ask,
        Message::Alive => PeerMessage::Alive,
        Message::Take => PeerMessage::Take,
        Message::Taken => PeerMessage::Taken,
        Message::Began(op, KindName(kind)) => PeerMessage::Began(op.into(), kind),
        Message::Ended(op, KindName(kind), end) => PeerMessage::Ended(op.into(), kind, end.into()),
        Message::Counted(counted) => PeerMessage::Counted(Box::new((*counted).into())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::counters::Counters;
    use crate::model::exit::Cause;
    use crate::model::operation::OperationKind;
    use crate::model::policy::StopSeverity;
    use proptest::prelude::*;

    #[test]
    fn messages_come_back() {
        let op = "3-z".parse().expect("an operation");
        let mut counted = Counters {
            spawned: 3,
            requests: 4,
            ..Counters::default()
        };
        counted.exits.add(Cause::Signaled, 1);
        for (told, text) in [
            (PeerMessage::Hello(7), r#"{"say":"hello","of":7}"#),
            (PeerMessage::Ready(3), r#"{"say":"ready","of":3}"#),
            (PeerMessage::AllReady, r#"{"say":"all-ready"}"#),
            (PeerMessage::Done(4), r#"{"say":"done","of":4}"#),
            (
                PeerMessage::Back("no\nway".into()),
                r#"{"say":"back","of":"no\nway"}"#,
            ),
            (PeerMessage::Want(1), r#"{"say":"want","of":1}"#),
            (PeerMessage::Free(1), r#"{"say":"free","of":1}"#),
            (
                PeerMessage::Stop(StopSeverity::Quick),
                r#"{"say":"stop","of":"quick"}"#,
            ),
            (PeerMessage::Used(Generation(9)), r#"{"say":"used","of":9}"#),
            (PeerMessage::Ask, r#"{"say":"ask"}"#),
            (PeerMessage::Alive, r#"{"say":"alive"}"#),
            (PeerMessage::Take, r#"{"say":"take"}"#),
            (PeerMessage::Taken, r#"{"say":"taken"}"#),
            (
                PeerMessage::Began(op, OperationKind::Scale),
                r#"{"say":"began","of":["3-z","scale"]}"#,
            ),
            (
                PeerMessage::Ended(op, OperationKind::Scale, Outcome::done("3 workers")),
                r#"{"say":"ended","of":["3-z","scale",{"done":["3 workers",[]]}]}"#,
            ),
            (
                PeerMessage::Counted(Box::new(counted)),
                r#"{"say":"counted","of":{"spawned":3,"readied":0,"died":0,"failed_starts":0,"killed":0,"rollouts":0,"rolled_back":0,"requests":4,"connections":0,"log_lines_lost":0,"exits":{"signaled":1}}}"#,
            ),
        ] {
            assert_eq!(String::from_utf8(render(&told)).as_deref(), Ok(text));
            assert_eq!(parse(text.as_bytes()), Some(told));
        }
        assert_eq!(parse(br#"{"say":"sing","of":"loud"}"#), None);
        for letters in ["ü\u{1}", "\u{1}"] {
            let long = render(&PeerMessage::Back(letters.repeat(LONGEST)));
            assert!(long.len() < LONGEST, "{}", long.len());
        }
    }

    #[test]
    fn what_is_of_another_format_is_refused_in_words() {
        for (document, why) in [
            (
                r#"{"format": 3, "by": "0.9.0"}"#,
                "(version 0.9.0) left has format 3",
            ),
            (r#"{"format": 1}"#, "not understood: missing field"),
            ("", "not understood"),
        ] {
            let error = ForkHandover::parse(document.as_bytes()).expect_err(document);
            assert!(error.contains(why), "{error}");
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = (parse(&bytes), ForkHandover::parse(&bytes));
        }
    }
}
