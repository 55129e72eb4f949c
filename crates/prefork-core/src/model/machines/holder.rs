//! What `pf-listen --hold` decides, as a small pure machine of its own.
//!
//! `pf-listen --hold` runs it (`cmd::listen::hold`): the holder keeps the listeners open and runs
//! COMMAND, usually `pf-master`, as its child. The machine decides two things: whether COMMAND is
//! started again after it has exited ([`HoldDecider::command_exited`]), and whether COMMAND gets
//! a signal that the holder received ([`HoldDecider::signal_received`]).

use std::time::Duration;

use crate::model::backoff::{Backoff, Dice};
use crate::model::signal::{Sender, Signal};
use crate::model::time::Time;

/// The shortest and the longest wait before COMMAND is started again: the defaults of the
/// master's own `--backoff`.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// COMMAND's first run failed at once if it ended within this time with one of [`CANNOT_RUN`].
const FIRST_MOMENTS: Duration = Duration::from_secs(10);

/// Exit codes by which a program says that it cannot run as it was called: wrong usage, could
/// not set up, not executable, not found.
const CANNOT_RUN: [i32; 4] = [2, 111, 126, 127];

/// How COMMAND ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandExit {
    /// It exited with this code.
    Exited(i32),
    /// This signal ended it; `None`: a signal that [`Signal`] does not name.
    Signaled(Option<Signal>),
    /// Its exec failed; the code is 126 or 127.
    NotExecuted(i32),
}

/// What the holder does after COMMAND has exited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterExit {
    /// End in the same way as COMMAND.
    End,
    /// Start COMMAND again after this time.
    StartIn(Duration),
}

/// What the holder does with a signal that it received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalDecision {
    /// Nothing: COMMAND has it already, or it does not concern COMMAND.
    Keep,
    /// Send it to COMMAND.
    PassOn,
    /// Send this signal to COMMAND instead.
    PassOnAs(Signal),
}

/// What decides whether a signal is meant for COMMAND, and whether it has reached COMMAND already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignalContext {
    /// The signal was ignored when the holder started, so COMMAND was started ignoring it too.
    pub ignored_at_start: bool,
    /// The holder leads its session: of a hang-up the kernel then signals only the holder.
    pub leads_session: bool,
    /// COMMAND is still in the holder's process group, which the terminal signals as a whole.
    pub same_group: bool,
    /// The sender is the leader of the holder's session, and another process: a shell, which
    /// passes a hang-up on to its jobs in this way.
    pub sent_by_session_leader: bool,
    /// The holder itself caused it: the kernel reports a broken pipe or a full file so.
    pub is_own: bool,
}

/// The machine: what it remembers between events.
#[derive(Debug)]
pub struct HoldDecider {
    backoff: Backoff,
    dice: Dice,
    started: Time,
    runs: u64,
    end_requested: bool,
    /// A shell has sent HUP for a hang-up. COMMAND may catch it and go on, as without a holder.
    shell_hung_up: bool,
}

impl HoldDecider {
    /// The state before the first start. `seed` is for the jitter of the waits.
    pub fn new(seed: u64) -> Self {
        HoldDecider {
            backoff: Backoff::new(BACKOFF),
            dice: Dice::new(seed),
            started: Time::default(),
            runs: 0,
            end_requested: false,
            shell_hung_up: false,
        }
    }

    /// COMMAND was started.
    pub fn command_started(&mut self, now: Time) {
        self.started = now;
        self.runs = self.runs.saturating_add(1);
    }

    /// Whether a signal has asked for the end.
    pub fn is_end_requested(&self) -> bool {
        self.end_requested
    }

    /// COMMAND could not be started (fork failed): returns the wait before the next try.
    pub fn start_failed(&mut self) -> Duration {
        self.backoff.take(&mut self.dice)
    }

    /// COMMAND has exited: decides whether it is started again, and when.
    pub fn command_exited(&mut self, now: Time, exit: CommandExit) -> AfterExit {
        let lived = now.since(self.started);
        let at_first = self.runs <= 1 && lived <= FIRST_MOMENTS;
        let cannot_run = match exit {
            CommandExit::NotExecuted(_) => true,
            CommandExit::Exited(code) => CANNOT_RUN.contains(&code),
            CommandExit::Signaled(_) => false,
        };
        let hung_up = self.shell_hung_up && exit == CommandExit::Signaled(Some(Signal::Hup));
        // After an exit with 0 COMMAND is done, or was asked to stop in a way that the holder
        // does not see (`pf-ctl stop`).
        let is_over = self.end_requested || hung_up || exit == CommandExit::Exited(0);
        if is_over || (at_first && cannot_run) {
            return AfterExit::End;
        }
        let has_run = !matches!(exit, CommandExit::NotExecuted(_));
        AfterExit::StartIn(if has_run && lived > self.backoff.current() {
            self.backoff.reset();
            Duration::ZERO
        } else {
            self.backoff.take(&mut self.dice)
        })
    }

    /// The holder received a signal (`None`: one that [`Signal`] does not name): decides whether
    /// COMMAND gets it.
    pub fn signal_received(
        &mut self,
        signal: Option<Signal>,
        sender: Sender,
        context: SignalContext,
    ) -> SignalDecision {
        match (sender, signal) {
            (Sender::Process, _) => self.signal_from_process(signal, context),
            (Sender::Terminal, Some(signal)) => self.signal_from_terminal(signal, context),
            (Sender::Terminal, None) => SignalDecision::Keep,
        }
    }

    fn signal_from_process(
        &mut self,
        signal: Option<Signal>,
        context: SignalContext,
    ) -> SignalDecision {
        // These are about the holder's own children and writes.
        if signal == Some(Signal::Chld) || context.is_own {
            return SignalDecision::Keep;
        }
        // HUP from a process asks a server to reload, not to end.
        self.end_requested |= matches!(signal, Some(Signal::Term | Signal::Int | Signal::Quit));
        self.shell_hung_up |= signal == Some(Signal::Hup) && context.sent_by_session_leader;
        SignalDecision::PassOn
    }

    /// The terminal signals its whole foreground group, COMMAND included. COMMAND does not get
    /// the signal in two cases: a hang-up goes to the leader of the session alone, and COMMAND
    /// may have left the holder's group.
    fn signal_from_terminal(&mut self, signal: Signal, context: SignalContext) -> SignalDecision {
        let asks_for_end = matches!(signal, Signal::Int | Signal::Quit | Signal::Hup);
        if !asks_for_end || context.ignored_at_start {
            return SignalDecision::Keep;
        }
        self.end_requested = true;
        let is_hangup = signal == Signal::Hup;
        if is_hangup && context.leads_session {
            // HUP from a process would mean "reload".
            SignalDecision::PassOnAs(Signal::Term)
        } else if !is_hangup && !context.same_group {
            SignalDecision::PassOn
        } else {
            SignalDecision::Keep
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KILLED: CommandExit = CommandExit::Signaled(Some(Signal::Kill));

    const USUAL: SignalContext = SignalContext {
        ignored_at_start: false,
        leads_session: false,
        same_group: true,
        sent_by_session_leader: false,
        is_own: false,
    };

    fn at(millis: u64) -> Time {
        Time(millis * 1_000_000)
    }

    /// A holder whose COMMAND has run before, and was started again at 0.
    fn later() -> HoldDecider {
        let mut hold = HoldDecider::new(1);
        hold.command_started(at(0));
        hold.command_exited(at(1), KILLED);
        hold.backoff.reset();
        hold.command_started(at(0));
        hold
    }

    #[track_caller]
    fn waits(next: AfterExit, millis: u64) {
        let AfterExit::StartIn(wait) = next else {
            panic!("the holder ends");
        };
        let range = millis..=millis + millis / 10;
        let wait = u64::try_from(wait.as_millis()).expect("short");
        assert!(range.contains(&wait), "{wait} in {range:?}");
    }

    #[test]
    fn restart_is_immediate_after_a_long_run_else_backs_off() {
        let mut hold = later();
        for wait in [
            100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000,
        ] {
            waits(hold.command_exited(at(50), CommandExit::Exited(1)), wait);
            hold.command_started(at(0));
        }
        assert_eq!(
            hold.command_exited(at(30_001), KILLED),
            AfterExit::StartIn(Duration::ZERO)
        );
        hold.command_started(at(0));
        waits(hold.command_exited(at(100), KILLED), 100);
    }

    #[test]
    fn exit_zero_or_requested_end_is_not_restarted() {
        assert_eq!(
            later().command_exited(at(1), CommandExit::Exited(0)),
            AfterExit::End
        );
        for signal in [Signal::Term, Signal::Int, Signal::Quit] {
            let mut hold = later();
            let context = SignalContext {
                ignored_at_start: true,
                leads_session: true,
                same_group: false,
                sent_by_session_leader: false,
                is_own: false,
            };
            assert_eq!(
                hold.signal_received(Some(signal), Sender::Process, context),
                SignalDecision::PassOn
            );
            assert_eq!(hold.command_exited(at(1), KILLED), AfterExit::End);
        }
        let mut hold = later();
        let context = USUAL;
        for signal in [
            Signal::Hup,
            Signal::Usr1,
            Signal::Usr2,
            Signal::Winch,
            Signal::Ttou,
            Signal::Segv,
            Signal::Pipe,
            Signal::Xfsz,
        ] {
            assert_eq!(
                hold.signal_received(Some(signal), Sender::Process, context),
                SignalDecision::PassOn
            );
        }
        let own = SignalContext {
            is_own: true,
            ..USUAL
        };
        assert_eq!(
            hold.signal_received(Some(Signal::Pipe), Sender::Process, own),
            SignalDecision::Keep
        );
        assert_eq!(
            hold.signal_received(None, Sender::Process, context),
            SignalDecision::PassOn
        );
        assert_eq!(
            hold.signal_received(Some(Signal::Chld), Sender::Process, context),
            SignalDecision::Keep
        );
        waits(hold.command_exited(at(1), KILLED), 100);
    }

    #[test]
    fn death_by_hup_from_the_shell_is_not_restarted() {
        let shell = SignalContext {
            sent_by_session_leader: true,
            ..USUAL
        };
        let hup = CommandExit::Signaled(Some(Signal::Hup));
        for (context, how, ends) in [
            (shell, hup, true),
            (shell, KILLED, false),
            (USUAL, hup, false),
        ] {
            let mut hold = later();
            let answer = hold.signal_received(Some(Signal::Hup), Sender::Process, context);
            assert_eq!(answer, SignalDecision::PassOn);
            assert_eq!(
                hold.command_exited(at(1), how) == AfterExit::End,
                ends,
                "{how:?}"
            );
        }
    }

    #[test]
    fn first_run_that_cannot_run_is_not_restarted() {
        let first = |how, after| {
            let mut hold = HoldDecider::new(1);
            hold.command_started(at(0));
            hold.command_exited(at(after), how)
        };
        for how in CANNOT_RUN
            .map(CommandExit::Exited)
            .into_iter()
            .chain([CommandExit::NotExecuted(126), CommandExit::NotExecuted(127)])
        {
            assert_eq!(first(how, 5), AfterExit::End, "{how:?}");
        }
        waits(first(CommandExit::Exited(1), 5), 100);
        waits(first(CommandExit::Signaled(None), 5), 100);
        assert_eq!(
            first(CommandExit::Exited(2), 10_001),
            AfterExit::StartIn(Duration::ZERO)
        );
        waits(later().command_exited(at(5), CommandExit::Exited(2)), 100);
        // The time that a fork takes does not count: COMMAND never ran.
        waits(
            later().command_exited(at(5000), CommandExit::NotExecuted(127)),
            100,
        );
    }

    #[test]
    fn terminal_signals_are_passed_on_only_if_command_missed_them() {
        let usual = USUAL;
        let ignored = SignalContext {
            ignored_at_start: true,
            ..usual
        };
        let leader = SignalContext {
            leads_session: true,
            ..usual
        };
        let apart = SignalContext {
            same_group: false,
            ..usual
        };
        for (signal, context, answer, asked) in [
            (Signal::Int, usual, SignalDecision::Keep, true),
            (Signal::Quit, usual, SignalDecision::Keep, true),
            (Signal::Hup, usual, SignalDecision::Keep, true),
            (Signal::Winch, usual, SignalDecision::Keep, false),
            (Signal::Tstp, usual, SignalDecision::Keep, false),
            (Signal::Ttin, apart, SignalDecision::Keep, false),
            (Signal::Int, ignored, SignalDecision::Keep, false),
            (Signal::Hup, ignored, SignalDecision::Keep, false),
            (
                Signal::Hup,
                leader,
                SignalDecision::PassOnAs(Signal::Term),
                true,
            ),
            (Signal::Int, leader, SignalDecision::Keep, true),
            (Signal::Int, apart, SignalDecision::PassOn, true),
            (Signal::Quit, apart, SignalDecision::PassOn, true),
            (Signal::Hup, apart, SignalDecision::Keep, true),
        ] {
            let mut hold = later();
            assert_eq!(
                hold.signal_received(Some(signal), Sender::Terminal, context),
                answer,
                "{signal} {context:?}"
            );
            assert_eq!(hold.is_end_requested(), asked, "{signal} {context:?}");
        }
    }
}
