use super::*;

#[test]
fn a_message_received_before_is_read_first() {
    let (mut old, new) = Link::pair().expect("a pair");
    let (first, second) = (
        PeerMessage::Back("first".to_owned()),
        PeerMessage::Back("second".to_owned()),
    );
    old.send(render(&second)).expect("sent");
    let early = Message {
        text: render(&first),
        fds: Vec::new(),
    };
    let pid = i32::try_from(std::process::id()).expect("a pid");
    let process = pidfd::open_process(pid).expect("a pidfd");
    let mut peer = PeerMaster::old_master(
        (Link::new(new), Some(early)),
        (pid, Some(process)),
        OldPaths::default(),
    )
    .expect("watched");
    assert_eq!(peer.deadline(), Some(Time(0)));
    let messages = [PeerEvent::Said(first), PeerEvent::Said(second)];
    assert_eq!(peer.read(Time(1)), messages);
    assert_eq!(peer.deadline(), None);
}
