//! The load: clients of every listener, and the account of the step under way.
//!
//! All clients are descriptors of one wait, beside the control connection: `Load::add_to` adds
//! them, `Load::turn` lets each take its next steps, and what came of a request is compared with
//! what is right and counted in the [`Tally`] of the step.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use super::answers::Template;
use super::client::{Client, Job, Manner, Outcome};
use super::request::Request;
use super::tally::{Kind, Loss, Tally};
use crate::model::time::Time;
use crate::sys::io::place::Place;
use crate::sys::io::poll::{PollSet, ReadySet};
use crate::ui::text::plain_cut;

/// How many clients of each manner each listener has.
pub(super) const CLIENTS: [(Manner, usize); 2] = [(Manner::New, 4), (Manner::Kept, 2)];

/// How many undisturbed answers of each kind set what is right.
pub(super) const UNDISTURBED: usize = 20;

/// How long after a kill a connection of the killed worker breaks at the latest.
const MOMENT_OF_KILL: Duration = Duration::from_secs(2);

/// How much of a wrong answer is shown.
const SHOWN: usize = 60;

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    /// The control connection.
    Control,
    /// A signal of this number.
    Signal(i32),
    /// A client.
    Client(usize),
}

/// A listener under load.
#[derive(Debug, Clone)]
pub(super) struct Loaded {
    /// Its name and address, in words.
    pub label: String,
    pub place: Place,
    /// Nothing more is sent after the request, and the listener is told so.
    pub ends_request: bool,
}

/// All clients.
pub(super) struct Load {
    request: Rc<Request>,
    listeners: Vec<Loaded>,
    clients: Vec<(Stream, Client)>,
    /// What is right, by stream: answers on a kept connection may differ in their length.
    right: Vec<(Stream, Template)>,
    /// New requests are made.
    pub goes_on: bool,
    /// What is right is still being learnt.
    pub is_learning: bool,
    pub tally: Tally,
    /// How many requests to each listener have ended in this step, well or not.
    ended: Vec<u64>,
    kill: Option<Kill>,
}

/// The requests of one manner to one listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stream {
    listener: usize,
    manner: Manner,
}

/// A worker is killed on purpose.
#[derive(Debug, Clone, Copy)]
struct Kill {
    from: Time,
    /// When the worker was known to be gone; None: it may still accept.
    gone: Option<Time>,
}

impl Load {
    pub(super) fn new(request: Rc<Request>, listeners: Vec<Loaded>, now: Time) -> Load {
        let mut clients = Vec::new();
        let mut right = Vec::new();
        let manners = |manner: &&(Manner, usize)| manner.0 == Manner::New || request.kept.is_some();
        for (index, listener) in listeners.iter().enumerate() {
            for (manner, count) in CLIENTS.iter().filter(manners) {
                let stream = Stream {
                    listener: index,
                    manner: *manner,
                };
                right.push((stream, Template::default()));
                let job = Job {
                    place: listener.place.clone(),
                    request: Rc::clone(&request),
                    ends_request: listener.ends_request,
                    manner: *manner,
                };
                clients.extend((0..*count).map(|_| (stream, Client::new(job.clone(), now))));
            }
        }
        Load {
            request,
            ended: vec![0; listeners.len()],
            listeners,
            clients,
            right,
            goes_on: false,
            is_learning: true,
            tally: Tally::default(),
            kill: None,
        }
    }

    /// Adds what the clients wait for.
    pub(super) fn add_to<'fd>(&'fd self, set: &mut PollSet<'fd, Key>) {
        for (index, (_, client)) in self.clients.iter().enumerate() {
            if let Some((fd, interest)) = client.interest() {
                set.add(Key::Client(index), fd, interest);
            }
        }
    }

    /// When a client has something to do although nothing happens.
    pub(super) fn deadline(&self) -> Option<Time> {
        let clients = self.clients.iter();
        clients
            .filter_map(|(_, client)| client.deadline(self.goes_on))
            .min()
    }

    /// Whether no request is under way.
    pub(super) fn is_quiet(&self) -> bool {
        self.clients.iter().all(|(_, client)| client.rests())
    }

    /// How many requests have ended in this step, well or not, of the listener with the fewest.
    pub(super) fn fewest_ended(&self) -> u64 {
        self.ended.iter().copied().min().unwrap_or(0)
    }

    /// Whether every listener has ended so many requests in this step, or a connection could not be
    /// made: more load tells no more then.
    pub(super) fn is_enough(&self, enough: u64) -> bool {
        self.tally.all_not_made().is_some() || enough <= self.fewest_ended()
    }

    /// Whether something was lost, or a connection could not be made.
    pub(super) fn is_disturbed(&self) -> bool {
        self.tally.all_lost() > 0 || self.tally.all_not_made().is_some()
    }

    /// The listener that has ended fewer than `enough` requests in this step, and how many; None:
    /// there is none.
    pub(super) fn too_few(&self, enough: u64) -> Option<(&str, u64)> {
        let (listener, ended) = self
            .listeners
            .iter()
            .zip(&self.ended)
            .min_by_key(|it| it.1)?;
        (*ended < enough).then_some((listener.label.as_str(), *ended))
    }

    /// This program has not looked at the clients for so long.
    pub(super) fn stood_still(&mut self, time: Duration) {
        for (_, client) in &mut self.clients {
            client.stood_still(time);
        }
    }

    /// Whether enough undisturbed answers of each kind have come.
    pub(super) fn has_learnt(&self) -> bool {
        self.right
            .iter()
            .all(|(_, right)| right.seen >= UNDISTURBED)
    }

    /// From now on answers are compared. These numbers may change.
    pub(super) fn end_learning(&mut self, numbers: &BTreeSet<u64>) {
        self.is_learning = false;
        for (_, right) in &mut self.right {
            right.free(numbers);
        }
    }

    /// The account of the step that ends; another one begins.
    pub(super) fn end_step(&mut self) -> Tally {
        self.ended.fill(0);
        self.kill = None;
        std::mem::take(&mut self.tally)
    }

    /// A worker is about to be killed.
    pub(super) fn kill_begins(&mut self, now: Time) {
        self.kill = Some(Kill {
            from: now,
            gone: None,
        });
    }

    /// The killed worker is gone.
    pub(super) fn kill_is_over(&mut self, now: Time) {
        if let Some(kill) = &mut self.kill {
            kill.gone = Some(now);
        }
    }

    /// Lets every client take its next steps.
    pub(super) fn turn(&mut self, now: Time, ready: &ReadySet<Key>) {
        for index in 0..self.clients.len() {
            let Some((stream, client)) = self.clients.get_mut(index) else {
                return;
            };
            let stream = *stream;
            let outcome = client.turn(now, ready.of(Key::Client(index)), self.goes_on);
            if let Some(outcome) = outcome {
                self.count(now, stream, outcome);
            }
        }
    }

    fn count(&mut self, now: Time, stream: Stream, outcome: Outcome) {
        match outcome {
            Outcome::Answered(..) | Outcome::Lost { .. } => self.ended[stream.listener] += 1,
            Outcome::Repeated | Outcome::NotMade(_) => {}
        }
        let listener = &self.listeners[stream.listener];
        let loss = |kind, what, is_excused| Loss {
            kind,
            listener: listener.label.clone(),
            what,
            is_excused,
        };
        match outcome {
            Outcome::Repeated => self.tally.repeated += 1,
            Outcome::NotMade(why) => self.tally.not_made(&listener.label, &why),
            Outcome::Lost {
                kind,
                what,
                connected,
            } => {
                let is_excused = self
                    .kill
                    .is_some_and(|kill| kill.excuses(now, kind, connected));
                self.tally.lost(loss(kind, what, is_excused));
            }
            Outcome::Answered(answer, took) => {
                let right = self.right.iter_mut().find(|(of, _)| *of == stream);
                let is_right = right.is_some_and(|(_, right)| {
                    if self.is_learning {
                        right.learn(&answer)
                    } else {
                        right.accepts(&answer)
                    }
                });
                if is_right {
                    self.tally.answered(took);
                } else {
                    let what = format!("another answer: {}", plain_cut(&answer.shown(), SHOWN));
                    self.tally.lost(loss(Kind::Wrong, what, false));
                }
            }
        }
    }

    /// The load in words: `4 clients with a new connection each (GET /) and 2 with a kept one`.
    pub(super) fn describe(&self) -> String {
        let [(_, new), (_, kept)] = CLIENTS;
        let what = self.request.label();
        let mut text = format!("{new} clients, a new connection for each request ({what})");
        if self.request.kept.is_some() {
            text += &format!(", and {kept} that keep theirs");
        }
        text
    }
}

impl Kill {
    /// Whether this loss was accepted by the worker that was killed: its connection stood before
    /// the worker was gone, and broke in that moment. A connection that was refused is never
    /// excused, and neither is an answer that is whole and wrong, nor one that never came.
    fn excuses(self, now: Time, kind: Kind, connected: Option<Time>) -> bool {
        let broke = match kind {
            Kind::Reset | Kind::Empty | Kind::Wrong => true,
            Kind::Refused | Kind::Slow => false,
        };
        let gone = self.gone.unwrap_or(now);
        let stood = connected.is_some_and(|connected| connected <= gone);
        broke && stood && self.from <= now && now <= gone + MOMENT_OF_KILL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stood_at_the_kill_and_broke_then_is_excused() {
        let at = |millis: u64| Time(0) + Duration::from_millis(millis);
        let kill = Kill {
            from: at(100),
            gone: Some(at(110)),
        };
        let excuses = |now, kind, connected| kill.excuses(at(now), kind, connected);
        assert!(excuses(111, Kind::Reset, Some(at(90))));
        assert!(excuses(105, Kind::Empty, Some(at(104))));
        assert!(excuses(2000, Kind::Wrong, Some(at(110))));
        // It was connected later, broke later, or was never accepted.
        assert!(!excuses(112, Kind::Reset, Some(at(111))));
        assert!(!excuses(2111, Kind::Reset, Some(at(90))));
        assert!(!excuses(111, Kind::Refused, None));
        assert!(!excuses(111, Kind::Slow, Some(at(90))));
        let dying = Kill { gone: None, ..kill };
        assert!(dying.excuses(at(101), Kind::Reset, Some(at(100))));
    }
    #[test]
    fn a_load_without_connections_is_no_load() {
        // A file where a directory has to be, and a listener that refuses.
        let at = |place: &str| Loaded {
            label: place.into(),
            place: Place::Unix(place.into()),
            ends_request: false,
        };
        let request = Rc::new(Request::parse("who").expect("it is right"));
        let listeners = vec![at("/proc/none"), at("/proc/self/status/sock")];
        let mut load = Load::new(request, listeners, Time(0));
        assert_eq!(load.too_few(1), Some(("/proc/none", 0)));
        assert!(!load.is_enough(1));
        load.goes_on = true;
        load.turn(Time(0), &PollSet::new().all_ready());
        assert_eq!(load.too_few(1), Some(("/proc/self/status/sock", 0)));
        assert!(load.is_enough(1));
        let tally = load.end_step();
        let told = "4 connections could not be made; the first to /proc/self/status/sock: Not a \
                    directory, errno 20";
        assert_eq!(tally.all_not_made().as_deref(), Some(told));
        assert_eq!(tally.of(Kind::Refused), 4);
    }
}
