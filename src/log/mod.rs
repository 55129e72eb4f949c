//! The master's log. Writing it never blocks supervision: what cannot be written at once is counted, and the count is told
//! in the next line that gets through.

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::path::PathBuf;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::sys::io::log_sink::LogWriter;
use crate::sys::machine::clock::{rfc3339, wall};
use crate::sys::process::daemon::output_to;

/// The longest message, in bytes; with the rest of the line it stays below what a pipe takes in one piece.
const MAX_MESSAGE: usize = 3072;

/// Where the log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sink {
    /// Stderr.
    Stderr,
    /// A file, appended to.
    File(PathBuf),
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people: `pf-master: message`, in a file with time and pid before it.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Something failed.
    Error,
    /// Something is not as it should be.
    Warn,
    /// What happens.
    Info,
    /// What happens inside.
    Debug,
}

/// Whom a line is about: fields of its JSON form.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct About {
    /// The slot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<u32>,
    /// The worker's pid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker_pid: Option<i32>,
    /// The generation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
}

/// A log.
#[derive(Debug)]
pub struct Log {
    program: &'static str,
    sink: Sink,
    format: Format,
    least: Level,
    out: RefCell<LogWriter>,
    lost: Cell<u64>,
    untold: Cell<u64>,
    /// The last line was cut short: the next begins a new one.
    cut: Cell<bool>,
    /// Stdout and stderr go to the log's file, too.
    with_output: Cell<bool>,
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    level: Level,
    program: &'a str,
    pid: u32,
    message: &'a str,
    #[serde(flatten)]
    about: About,
}

impl Log {
    /// Opens the log. `verbosity` is how often `-v` was given less how often `-q`: 0 shows `info` and above, 1 `debug`, -1
    /// `warn`, -2 `error` alone.
    ///
    /// # Errors
    /// Exit 111: the file cannot be opened.
    pub fn new(program: &'static str, sink: Sink, format: Format, verbosity: i8) -> Result<Log> {
        let least = match verbosity {
            1.. => Level::Debug,
            0 => Level::Info,
            -1 => Level::Warn,
            _ => Level::Error,
        };
        Ok(Log {
            program,
            out: RefCell::new(open(&sink)?),
            sink,
            format,
            least,
            lost: Cell::new(0),
            untold: Cell::new(0),
            cut: Cell::new(false),
            with_output: Cell::new(false),
        })
    }

    /// Has stdout and stderr, and so the workers', go to the log's file too, from now on and whenever it is reopened (`--daemonize`).
    ///
    /// # Errors
    /// Exit 111: the file cannot be opened.
    pub fn take_output(&self) -> Result<()> {
        if let Sink::File(path) = &self.sink {
            output_to(path).map_err(|error| {
                Error::system(format!("cannot open log file {}", path.display()), error)
            })?;
            self.with_output.set(true);
        }
        Ok(())
    }

    /// Opens the log's file anew, after it was rotated (U15, U30). Stderr stays.
    ///
    /// # Errors
    /// Exit 111: the file cannot be opened; the old one is then kept.
    pub fn reopen(&self) -> Result<()> {
        if matches!(self.sink, Sink::File(_)) {
            let out = open(&self.sink)?;
            self.out.replace(out);
            self.cut.set(false);
            if self.with_output.get() {
                self.take_output()?;
            }
        }
        Ok(())
    }

    /// How many lines could not be written since the log was opened first.
    pub fn lost(&self) -> u64 {
        self.lost.get()
    }

    /// Something failed.
    pub fn error(&self, message: impl Display) {
        self.write(Level::Error, About::default(), message);
    }

    /// Something is not as it should be.
    pub fn warn(&self, message: impl Display) {
        self.write(Level::Warn, About::default(), message);
    }

    /// What happens.
    pub fn info(&self, message: impl Display) {
        self.write(Level::Info, About::default(), message);
    }

    /// What happens inside.
    pub fn debug(&self, message: impl Display) {
        self.write(Level::Debug, About::default(), message);
    }

    /// Writes a line about a slot, a worker, a generation, if its level is shown.
    pub fn write(&self, level: Level, about: About, message: impl Display) {
        if level > self.least {
            return;
        }
        let mut message = clean(&message.to_string());
        match self.untold.get() {
            0 => {}
            1 => message.push_str(" (1 line lost before this)"),
            lost => message.push_str(&format!(" ({lost} lines lost before this)")),
        }
        let mut line = self.line(level, about, &message);
        if self.cut.get() {
            line.insert(0, '\n');
        }
        let written = self.out.borrow().write(line.as_bytes());
        if written == line.len() {
            self.untold.set(0);
            self.cut.set(false);
        } else {
            self.lost.set(self.lost.get().saturating_add(1));
            self.untold.set(self.untold.get().saturating_add(1));
            // A stream that was in the middle of a line still is, if nothing more got through.
            self.cut.set(self.cut.get() || written > 0);
        }
    }

    fn line(&self, level: Level, about: About, message: &str) -> String {
        let (program, pid) = (self.program, std::process::id());
        let mut line = match (self.format, &self.sink) {
            (Format::Text, Sink::Stderr) => format!("{program}: {message}"),
            (Format::Text, Sink::File(_)) => {
                format!("{} {program}[{pid}]: {message}", rfc3339(wall()))
            }
            (Format::Json, _) => serde_json::to_string(&Line {
                time: rfc3339(wall()),
                level,
                program,
                pid,
                message,
                about,
            })
            // Strings and numbers always have a JSON form.
            .unwrap_or_default(),
        };
        line.push('\n');
        line
    }
}

/// One line, harmless on a terminal, and not too long.
fn clean(message: &str) -> String {
    let mut clean = String::with_capacity(message.len().min(MAX_MESSAGE));
    for letter in message.chars() {
        if clean.len() + letter.len_utf8() > MAX_MESSAGE {
            clean.push_str("...");
            break;
        }
        clean.push(if letter.is_control() { ' ' } else { letter });
    }
    clean
}

fn open(sink: &Sink) -> Result<LogWriter> {
    match sink {
        Sink::Stderr => LogWriter::stderr()
            .map_err(|error| Error::system("cannot use stderr for the log", error)),
        Sink::File(path) => LogWriter::append(path).map_err(|error| {
            Error::system(format!("cannot open log file {}", path.display()), error)
        }),
    }
}

#[cfg(test)]
mod tests;
