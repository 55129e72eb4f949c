//! The model's refusals and outcomes as replies on the wire.

use serde_json::Value;

use crate::model::action::Refusal;
use crate::model::ids::{Generation, OpId};
use crate::model::operation::Outcome;
use crate::wire::control::{Code, Failure, Reply};

/// The wire's code of a refusal.
pub(in crate::driver) fn code_of(refusal: Refusal) -> Code {
    match refusal {
        Refusal::Busy => Code::Busy,
        Refusal::Senseless => Code::Refused,
        Refusal::Usage => Code::Usage,
    }
}

/// How an operation ended, and what was seen besides.
pub(in crate::driver) struct KnownOutcome {
    /// As the model has it.
    pub(in crate::driver) outcome: Outcome,
    /// What a person should know, whether it was done or not.
    pub(in crate::driver) notes: Vec<String>,
    /// The generation that serves.
    pub(in crate::driver) generation: Generation,
}

/// The reply about an operation that has ended.
pub(in crate::driver) fn reply_of(op: OpId, known: &KnownOutcome, id: Option<Value>) -> Reply {
    let op = Some(op.to_string());
    let generation = Some(known.generation.0);
    let (code, message) = match &known.outcome {
        Outcome::Done(message, warnings) => {
            let message = Some(message.clone());
            let warnings = [warnings.as_slice(), &known.notes].concat();
            return Reply {
                ok: true,
                op,
                message,
                warnings,
                generation,
                id,
                ..Reply::default()
            };
        }
        Outcome::Failed(message) | Outcome::RolledBack(message) => (Code::Failed, message),
        Outcome::Aborted(message) => (Code::Aborted, message),
        Outcome::Lost(message) => (Code::MasterDied, message),
    };
    let error = Some(Failure {
        code,
        message: message.clone(),
    });
    Reply {
        ok: false,
        error,
        op,
        warnings: known.notes.clone(),
        generation,
        id,
        ..Reply::default()
    }
}
