//! What a waiting command shows on stderr: a bar, plain lines, or nothing.

use std::cell::Cell;
use std::ffi::OsStr;
use std::io::Write;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::text::plain;
use crate::wire::control::Progress;

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A bar, for a terminal.
    Bar,
    /// One line for each event, for logs and pipes.
    Plain,
    /// Nothing.
    Quiet,
}

impl Style {
    /// The style of a command. `quiet`: --quiet was given; `terminal`: stderr is a terminal;
    /// `term`: the variable TERM.
    pub fn choose(quiet: bool, terminal: bool, term: Option<&OsStr>) -> Self {
        match (quiet, terminal) {
            (true, _) => Style::Quiet,
            (false, true) if term.is_none_or(|term| term != "dumb") => Style::Bar,
            (false, _) => Style::Plain,
        }
    }
}

/// The progress of one command. Dropping it clears the bar, so that an error gets a line of its
/// own.
#[derive(Debug)]
pub struct ProgressDisplay {
    style: Style,
    /// `pf-ctl: reload`
    who: String,
    /// Hidden unless the style is [`Style::Bar`], so that no caller has to check the style.
    bar: ProgressBar,
    /// The first event has come.
    is_shown: Cell<bool>,
}

impl ProgressDisplay {
    /// The display for `verb` of `program`.
    pub fn new(style: Style, program: &str, verb: &str) -> Self {
        let target = match style {
            Style::Bar => ProgressDrawTarget::stderr(),
            Style::Plain | Style::Quiet => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(None, target)
            .with_style(template("{prefix} {spinner} {elapsed} {wide_msg}"));
        bar.set_prefix(verb.to_owned());
        ProgressDisplay {
            style,
            who: format!("{program}: {verb}"),
            bar,
            is_shown: Cell::new(false),
        }
    }

    /// Whether [`tick`](Self::tick) has something to do.
    pub fn is_alive(&self) -> bool {
        self.style == Style::Bar
    }

    /// Draws the bar again, so that its clock goes on. The thread that waits calls this; one of the
    /// bar's own could not be started at a limit of processes.
    pub fn tick(&self) {
        if self.is_alive() && self.is_shown.get() {
            self.bar.tick();
        }
    }

    /// Shows a step of the operation.
    pub fn step(&self, progress: &Progress) {
        let (done, total) = (progress.done, progress.total);
        if total > 0 && self.bar.length().is_none() {
            self.bar.set_style(template(
                "{prefix} [{bar:30}] {pos}/{len} {elapsed} {wide_msg}",
            ));
        }
        if total > 0 {
            self.bar
                .set_length(u64::try_from(total).unwrap_or(u64::MAX));
        }
        self.bar
            .set_position(u64::try_from(done).unwrap_or(u64::MAX));
        let count = if total > 0 {
            format!(" ({done} of {total})")
        } else {
            String::new()
        };
        self.show(&progress.message, &count);
    }

    /// Shows what the command waits for, where the master reports no steps.
    pub fn show_wait(&self, what: &str) {
        self.show(what, "");
    }

    /// Prints a warning.
    pub fn warn(&self, warning: &str) {
        self.line(&format!("{}: warning: {}", self.who, plain(warning)));
    }

    /// Prints the last line: what was done.
    pub fn done(&self, program: &str, message: &str) {
        self.line(&format!("{program}: {}", plain(message)));
    }

    fn show(&self, message: &str, count: &str) {
        let message = plain(message);
        if self.style == Style::Plain && !message.is_empty() {
            self.line(&format!("{}: {message}{count}", self.who));
        }
        self.bar.set_message(message);
        // The bar starts at the first event, so that a short command shows no bar for a moment.
        self.is_shown.set(true);
        self.bar.tick();
    }

    fn line(&self, line: &str) {
        if self.style != Style::Quiet {
            // Where stderr cannot be written, there is no other place to report that.
            self.bar
                .suspend(|| drop(writeln!(std::io::stderr(), "{line}")));
        }
    }
}

impl Drop for ProgressDisplay {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn template(text: &str) -> ProgressStyle {
    ProgressStyle::with_template(text)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_style_depends_on_quiet_terminal_and_term() {
        let xterm = Some(OsStr::new("xterm"));
        assert_eq!(Style::choose(false, true, xterm), Style::Bar);
        assert_eq!(Style::choose(false, true, None), Style::Bar);
        assert_eq!(
            Style::choose(false, true, Some(OsStr::new("dumb"))),
            Style::Plain
        );
        assert_eq!(Style::choose(false, false, xterm), Style::Plain);
        assert_eq!(Style::choose(true, true, xterm), Style::Quiet);
    }

    #[test]
    fn the_templates_are_valid() {
        for text in [
            "{prefix} {spinner} {elapsed} {wide_msg}",
            "{prefix} [{bar:30}] {pos}/{len} {elapsed} {wide_msg}",
        ] {
            assert!(ProgressStyle::with_template(text).is_ok());
        }
    }
}
