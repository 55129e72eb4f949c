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

/// The reply about an operation that has ended.
pub(in crate::driver) fn reply_of(
    op: OpId,
    outcome: &Outcome,
    generation: Generation,
    id: Option<Value>,
) -> Reply {
    let op = Some(op.to_string());
    let generation = Some(generation.0);
    let (code, message) = match outcome {
        Outcome::Done(message, warnings) => {
            let (message, warnings) = (Some(message.clone()), warnings.clone());
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
        generation,
        id,
        ..Reply::default()
    }
}
