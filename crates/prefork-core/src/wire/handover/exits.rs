//! How workers ended, as JSON has it.

use serde::{Deserialize, Serialize};

use super::values::{Moment, SignalName};
use crate::model::exit::{Cause, ExitStatus, LastExit};
use crate::model::ids::WorkerId;

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum How {
    Exited(i32),
    Signaled(Option<SignalName>, bool),
}

/// How and why a slot's process ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KnownExit {
    worker: u64,
    cause: String,
    how: Option<How>,
    at: Moment,
}

impl From<&LastExit> for KnownExit {
    fn from(exit: &LastExit) -> Self {
        KnownExit {
            worker: exit.worker.0,
            cause: exit.cause.name().to_owned(),
            how: exit.ended.map(|ended| match ended {
                ExitStatus::Exited(code) => How::Exited(code),
                ExitStatus::Signaled(signal, core) => How::Signaled(signal.map(SignalName), core),
            }),
            at: exit.at.into(),
        }
    }
}

impl TryFrom<KnownExit> for LastExit {
    type Error = String;

    fn try_from(exit: KnownExit) -> Result<Self, String> {
        Ok(LastExit {
            worker: WorkerId(exit.worker),
            cause: cause(&exit.cause)?,
            ended: exit.how.map(|how| match how {
                How::Exited(code) => ExitStatus::Exited(code),
                How::Signaled(signal, core) => {
                    ExitStatus::Signaled(signal.map(|name| name.0), core)
                }
            }),
            at: exit.at.into(),
        })
    }
}

/// A cause by its word in the status document.
pub(super) fn cause(name: &str) -> Result<Cause, String> {
    let known = Cause::ALL.into_iter().find(|cause| cause.name() == name);
    known.ok_or_else(|| format!("unknown cause '{name}'"))
}
