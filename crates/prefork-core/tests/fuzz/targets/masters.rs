//! What only other masters of this package write: the hand-over of an upgrade in place, and what
//! two masters exchange during an upgrade by fork.

use prefork_core::model::Supervisor;
use prefork_core::model::peer::ForkState;
use prefork_core::wire::events::kept::EventMessage;
use prefork_core::wire::handover::service::Service;
use prefork_core::wire::handover::{Head, State, preflight};
use prefork_core::wire::peer::{self, ForkHandover, LONGEST, PeerState};

use super::assert_one_line;

/// The state of an image, and its answer to a check.
pub fn handover(document: &[u8]) {
    if let Some(result) = preflight::parse_result(document) {
        let line = preflight::render_result(&result);
        assert_eq!(preflight::parse_result(line.as_bytes()), Some(result));
    }
    if let Err(why) = Head::parse(document) {
        assert_one_line(&why);
    }
    let state = match State::parse(document) {
        Ok(state) => state,
        Err(why) => return assert_one_line(&why),
    };
    let written = state.render().expect("JSON");
    let again = State::parse(&written).expect("what was rendered is read");
    assert_eq!(again.render().expect("JSON"), written);
    assert_eq!(again.descriptors(), state.descriptors());
    match state.supervisor() {
        Ok(supervisor) => taken_over(&supervisor),
        Err(why) => assert_one_line(&why),
    }
}

/// A model that was accepted can be looked at, and handed over again.
fn taken_over(supervisor: &Supervisor) {
    let _ = (supervisor.snapshot(), supervisor.is_service());
    let Ok(state) = supervisor.hand_over() else {
        return;
    };
    let written = serde_json::to_string(&Service::from(&state)).expect("JSON");
    let read: Service = serde_json::from_str(&written).expect("what was written is read");
    let state = read.try_into().expect("what was written makes sense");
    let again = Supervisor::taken_over(state).expect("it was taken over before");
    let state = again.hand_over().expect("it was handed over before");
    let again = serde_json::to_string(&Service::from(&state)).expect("JSON");
    assert_eq!(again, written);
}

/// A message between two masters, or the document with which an upgrade by fork begins.
pub fn peer(message: &[u8]) {
    if let Some(read) = peer::parse(message) {
        let written = peer::render(&read);
        assert!(written.len() <= LONGEST, "{}", written.len());
        // A long text is cut, once.
        let again = peer::parse(&written).expect("what was rendered is read");
        assert_eq!(peer::render(&again), written);
        if message.len() <= LONGEST / 8 {
            assert_eq!(
                std::mem::discriminant(&again),
                std::mem::discriminant(&read)
            );
        }
    }
    if let Some(read) = EventMessage::parse(message) {
        assert_eq!(EventMessage::parse(&read.render()), Some(read));
    }
    let document = match ForkHandover::parse(message) {
        Ok(document) => document,
        Err(why) => return assert_one_line(&why),
    };
    let written = document.render().expect("JSON");
    let again = ForkHandover::parse(&written).expect("what was rendered is read");
    assert_eq!(again.render().expect("JSON"), written);
    fork_state(document.state);
}

/// The model of the new master knows what the document says, and nothing of it is lost on the way
/// to a third.
fn fork_state(state: PeerState) {
    let known = ForkState::from(state);
    let written = serde_json::to_string(&PeerState::from(&known)).expect("JSON");
    let read: PeerState = serde_json::from_str(&written).expect("what was written is read");
    let again = PeerState::from(&ForkState::from(read));
    assert_eq!(serde_json::to_string(&again).expect("JSON"), written);
}
