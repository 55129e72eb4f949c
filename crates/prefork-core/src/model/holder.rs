//! What `pf-listen --hold` decides: whether COMMAND is started again when it has ended, and what becomes of a signal.

use std::time::Duration;

use super::backoff::{Backoff, Dice};
use super::signal::{Sender, Signal};
use super::time::Time;

/// The wait before COMMAND is started again, as the master's own default for its workers.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// A first run that ends within this, with one of [`CANNOT`], has not begun its work.
const BEGINNING: Duration = Duration::from_secs(10);

/// How a program says that it will not run as it was called: wrong usage, could not set up, not executable, not found.
const CANNOT: [i32; 4] = [2, 111, 126, 127];

/// How COMMAND ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this status.
    Exited(i32),
    /// By this signal; `None`: one that has no name here.
    Signaled(Option<Signal>),
    /// It was never executed; 126 or 127.
    NotExecuted(i32),
}

/// What follows an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The holder ends in the same way.
    End,
    /// COMMAND is started again after this.
    StartIn(Duration),
}

/// What becomes of a signal that the holder got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Nothing: COMMAND has it already, or it is none of its business.
    Keep,
    /// COMMAND gets it.
    PassOn,
    /// COMMAND gets this one in its place.
    PassOnAs(Signal),
}

/// Where holder and COMMAND stand, which decides whom the terminal's signals reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The signal was ignored when the holder was started, so COMMAND was started ignoring it too.
    pub ignored: bool,
    /// The holder leads its session: a hang-up is told to nobody else.
    pub leads_session: bool,
    /// COMMAND is (still) in the holder's process group.
    pub same_group: bool,
    /// The signal was sent by the leader of the holder's session, another process: a shell, which so tells its jobs of a hang-up.
    pub by_leader: bool,
}

/// The holder's memory.
#[derive(Debug)]
pub struct Hold {
    backoff: Backoff,
    dice: Dice,
    started: Time,
    runs: u64,
    asked: bool,
    /// A shell has told of a hang-up. Whoever catches that goes on, as without a holder.
    hung_up: bool,
}

impl Hold {
    /// Before the first start. `seed` is for the jitter of the waits.
    pub fn new(seed: u64) -> Self {
        Hold {
            backoff: Backoff::new(BACKOFF),
            dice: Dice::new(seed),
            started: Time::default(),
            runs: 0,
            asked: false,
            hung_up: false,
        }
    }

    /// COMMAND was started.
    pub fn started(&mut self, now: Time) {
        self.started = now;
        self.runs = self.runs.saturating_add(1);
    }

    /// Whether somebody has asked for the end.
    pub fn is_asked(&self) -> bool {
        self.asked
    }

    /// COMMAND could not even be started: how long to wait until the next try.
    pub fn not_started(&mut self) -> Duration {
        self.backoff.take(&mut self.dice)
    }

    /// COMMAND has ended.
    pub fn ended(&mut self, now: Time, how: Ended) -> Next {
        let lived = now.since(self.started);
        let at_first = self.runs <= 1 && lived <= BEGINNING;
        let cannot = match how {
            Ended::NotExecuted(_) => true,
            Ended::Exited(code) => CANNOT.contains(&code),
            Ended::Signaled(_) => false,
        };
        // Who ends well was asked to by other ways than ours (`pf-ctl stop`), or is done.
        let hung_up = self.hung_up && how == Ended::Signaled(Some(Signal::Hup));
        if self.asked || hung_up || how == Ended::Exited(0) || (at_first && cannot) {
            return Next::End;
        }
        let ran = !matches!(how, Ended::NotExecuted(_));
        Next::StartIn(if ran && lived > self.backoff.current() {
            self.backoff.reset();
            Duration::ZERO
        } else {
            self.backoff.take(&mut self.dice)
        })
    }

    /// The holder got a signal; `None`: one that has no name here.
    pub fn signalled(
        &mut self,
        signal: Option<Signal>,
        sender: Sender,
        standing: Standing,
    ) -> Answer {
        match sender {
            Sender::Process => self.process_says(signal, standing),
            Sender::Terminal => {
                signal.map_or(Answer::Keep, |signal| self.terminal_says(signal, standing))
            }
        }
    }

    fn process_says(&mut self, signal: Option<Signal>, standing: Standing) -> Answer {
        // About the holder's own children and writes.
        if matches!(signal, Some(Signal::Chld | Signal::Xfsz | Signal::Pipe)) {
            return Answer::Keep;
        }
        // HUP is not among these: it asks a server to reload.
        self.asked |= matches!(signal, Some(Signal::Term | Signal::Int | Signal::Quit));
        self.hung_up |= signal == Some(Signal::Hup) && standing.by_leader;
        Answer::PassOn
    }

    /// The terminal has told the whole foreground group, COMMAND included; but for a hang-up, which it tells the leader of the session alone,
    /// and whoever has left the group.
    fn terminal_says(&mut self, signal: Signal, standing: Standing) -> Answer {
        let asks = matches!(signal, Signal::Int | Signal::Quit | Signal::Hup);
        if !asks || standing.ignored {
            return Answer::Keep;
        }
        self.asked = true;
        match (signal == Signal::Hup, standing) {
            // From a process HUP would mean "reload".
            (
                true,
                Standing {
                    leads_session: true,
                    ..
                },
            ) => Answer::PassOnAs(Signal::Term),
            (
                false,
                Standing {
                    same_group: false, ..
                },
            ) => Answer::PassOn,
            _ => Answer::Keep,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KILLED: Ended = Ended::Signaled(Some(Signal::Kill));

    const USUAL: Standing = Standing {
        ignored: false,
        leads_session: false,
        same_group: true,
        by_leader: false,
    };

    fn at(millis: u64) -> Time {
        Time(millis * 1_000_000)
    }

    /// A holder whose COMMAND has run before, and was started again at 0.
    fn later() -> Hold {
        let mut hold = Hold::new(1);
        hold.started(at(0));
        hold.ended(at(1), KILLED);
        hold.backoff.reset();
        hold.started(at(0));
        hold
    }

    #[track_caller]
    fn waits(next: Next, millis: u64) {
        let Next::StartIn(wait) = next else {
            panic!("it ends");
        };
        let range = millis..=millis + millis / 10;
        let wait = u64::try_from(wait.as_millis()).expect("short");
        assert!(range.contains(&wait), "{wait} in {range:?}");
    }

    #[test]
    fn a_death_is_followed_by_a_start_at_once_or_by_a_wait_that_doubles() {
        let mut hold = later();
        for wait in [
            100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000,
        ] {
            waits(hold.ended(at(50), Ended::Exited(1)), wait);
            hold.started(at(0));
        }
        assert_eq!(
            hold.ended(at(30_001), KILLED),
            Next::StartIn(Duration::ZERO)
        );
        hold.started(at(0));
        waits(hold.ended(at(100), KILLED), 100);
    }

    #[test]
    fn what_ends_well_or_was_asked_to_is_not_started_again() {
        assert_eq!(later().ended(at(1), Ended::Exited(0)), Next::End);
        for signal in [Signal::Term, Signal::Int, Signal::Quit] {
            let mut hold = later();
            let standing = Standing {
                ignored: true,
                leads_session: true,
                same_group: false,
                by_leader: false,
            };
            assert_eq!(
                hold.signalled(Some(signal), Sender::Process, standing),
                Answer::PassOn
            );
            assert_eq!(hold.ended(at(1), KILLED), Next::End);
        }
        let mut hold = later();
        let standing = USUAL;
        for signal in [
            Signal::Hup,
            Signal::Usr1,
            Signal::Usr2,
            Signal::Winch,
            Signal::Ttou,
        ] {
            assert_eq!(
                hold.signalled(Some(signal), Sender::Process, standing),
                Answer::PassOn
            );
        }
        assert_eq!(
            hold.signalled(None, Sender::Process, standing),
            Answer::PassOn
        );
        assert_eq!(
            hold.signalled(Some(Signal::Chld), Sender::Process, standing),
            Answer::Keep
        );
        waits(hold.ended(at(1), KILLED), 100);
    }

    #[test]
    fn who_dies_of_a_hangup_that_a_shell_has_told_is_not_started_again() {
        let shell = Standing {
            by_leader: true,
            ..USUAL
        };
        let hup = Ended::Signaled(Some(Signal::Hup));
        for (standing, how, ends) in [
            (shell, hup, true),
            (shell, KILLED, false),
            (USUAL, hup, false),
        ] {
            let mut hold = later();
            let answer = hold.signalled(Some(Signal::Hup), Sender::Process, standing);
            assert_eq!(answer, Answer::PassOn);
            assert_eq!(hold.ended(at(1), how) == Next::End, ends, "{how:?}");
        }
    }

    #[test]
    fn a_first_run_that_says_that_it_cannot_is_the_last() {
        let first = |how, after| {
            let mut hold = Hold::new(1);
            hold.started(at(0));
            hold.ended(at(after), how)
        };
        for how in CANNOT
            .map(Ended::Exited)
            .into_iter()
            .chain([Ended::NotExecuted(126), Ended::NotExecuted(127)])
        {
            assert_eq!(first(how, 5), Next::End, "{how:?}");
        }
        waits(first(Ended::Exited(1), 5), 100);
        waits(first(Ended::Signaled(None), 5), 100);
        assert_eq!(
            first(Ended::Exited(2), 10_001),
            Next::StartIn(Duration::ZERO)
        );
        waits(later().ended(at(5), Ended::Exited(2)), 100);
        // However long the fork took: it never ran.
        waits(later().ended(at(5000), Ended::NotExecuted(127)), 100);
    }

    #[test]
    fn the_terminals_signals_are_passed_on_only_to_whom_it_did_not_tell() {
        let usual = USUAL;
        let ignored = Standing {
            ignored: true,
            ..usual
        };
        let leader = Standing {
            leads_session: true,
            ..usual
        };
        let apart = Standing {
            same_group: false,
            ..usual
        };
        for (signal, standing, answer, asked) in [
            (Signal::Int, usual, Answer::Keep, true),
            (Signal::Quit, usual, Answer::Keep, true),
            (Signal::Hup, usual, Answer::Keep, true),
            (Signal::Winch, usual, Answer::Keep, false),
            (Signal::Tstp, usual, Answer::Keep, false),
            (Signal::Ttin, apart, Answer::Keep, false),
            (Signal::Int, ignored, Answer::Keep, false),
            (Signal::Hup, ignored, Answer::Keep, false),
            (Signal::Hup, leader, Answer::PassOnAs(Signal::Term), true),
            (Signal::Int, leader, Answer::Keep, true),
            (Signal::Int, apart, Answer::PassOn, true),
            (Signal::Quit, apart, Answer::PassOn, true),
            (Signal::Hup, apart, Answer::Keep, true),
        ] {
            let mut hold = later();
            assert_eq!(
                hold.signalled(Some(signal), Sender::Terminal, standing),
                answer,
                "{signal} {standing:?}"
            );
            assert_eq!(hold.is_asked(), asked, "{signal} {standing:?}");
        }
    }
}
