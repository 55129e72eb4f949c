//! What a worker tells the master, and the master the service manager above it.

use prefork_core::model::machines::service_manager::ServiceNotice;
use prefork_core::model::time::Time;
use prefork_core::wire::einhorn::{self, EinhornCommand};
use prefork_core::wire::heartbeat::{BEATS, BEGUN, CONNECTIONS, FINISHED, OPEN, Page};
use prefork_core::wire::notify::{self, MAX_STATUS, Message};
use prefork_core::wire::service_manager;

use super::assert_one_line;

/// A datagram on `NOTIFY_SOCKET`.
pub fn notify(datagram: &[u8]) {
    let messages = notify::parse(datagram);
    let lines = datagram.split(|byte| *byte == b'\n').count();
    assert!(messages.len() <= lines);
    for message in &messages {
        match message {
            Message::Status(text) => {
                assert_one_line(text);
                assert!(text.len() <= MAX_STATUS);
            }
            Message::MainPid(pid) => assert!(*pid > 0),
            Message::Ready
            | Message::Stopping
            | Message::Reloading
            | Message::Watchdog
            | Message::WatchdogTrigger
            | Message::WatchdogUsec(_)
            | Message::ExtendTimeoutUsec(_)
            | Message::Barrier => {}
        }
    }
    let written: Vec<String> = messages.iter().map(written).collect();
    assert_eq!(notify::parse(written.join("\n").as_bytes()), messages);
}

fn written(message: &Message) -> String {
    match message {
        Message::Ready => "READY=1".to_owned(),
        Message::Stopping => "STOPPING=1".to_owned(),
        Message::Reloading => "RELOADING=1".to_owned(),
        Message::Status(text) => format!("STATUS={text}"),
        Message::Watchdog => "WATCHDOG=1".to_owned(),
        Message::WatchdogTrigger => "WATCHDOG=trigger".to_owned(),
        Message::WatchdogUsec(usec) => format!("WATCHDOG_USEC={usec}"),
        Message::ExtendTimeoutUsec(usec) => format!("EXTEND_TIMEOUT_USEC={usec}"),
        Message::MainPid(pid) => format!("MAINPID={pid}"),
        Message::Barrier => "BARRIER=1".to_owned(),
    }
}

/// A line on einhorn's command socket.
pub fn einhorn(line: &[u8]) {
    let request = match einhorn::parse(line) {
        Ok(request) => request,
        Err(why) => {
            assert!(why.len() < 1024, "{why}");
            return assert_one_line(&why);
        }
    };
    assert!(request.pid > 0);
    let command = match request.command {
        EinhornCommand::Ack => "worker:ack",
        EinhornCommand::Ping => "worker:ping",
    };
    let pid = request.pid;
    for written in [
        format!(r#"{{"command":"{command}","pid":{pid}}}"#),
        format!("---%0Acommand: {command}%0Apid: {pid}%0A"),
    ] {
        assert_eq!(einhorn::parse(written.as_bytes()), Ok(request.clone()));
    }
}

/// The heartbeat page: each field is where it belongs, and one that is cut off is 0.
pub fn heartbeat(bytes: &[u8]) {
    let page = Page::read(bytes);
    for (offset, field) in [
        (BEATS, page.beats),
        (BEGUN, page.begun),
        (FINISHED, page.finished),
        (OPEN, page.open),
        (CONNECTIONS, page.connections),
    ] {
        match bytes.get(offset..offset + 8) {
            Some(there) => assert_eq!(there, field.to_ne_bytes()),
            None => assert_eq!(field, 0),
        }
    }
}

/// What a service manager is told: a line for each notice, which a reader of the protocol reads
/// back. The input is the text of a status, and the variables of the manager's watchdog.
pub fn service_manager(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let number = input.len() as u64;
    let notices = [
        ServiceNotice::MainPid(7),
        ServiceNotice::Status(text.to_string()),
        ServiceNotice::Reloading(Time(number)),
        ServiceNotice::Watchdog,
    ];
    let rendered = service_manager::render(&notices);
    let lines: Vec<&str> = rendered.split('\n').collect();
    assert_eq!(lines.len(), notices.len() + 1, "RELOADING has two lines");
    lines.iter().for_each(|line| assert_one_line(line));
    let read = notify::parse(rendered.as_bytes());
    let [Message::MainPid(7), Message::Status(status), rest @ ..] = read.as_slice() else {
        panic!("{read:?}");
    };
    assert_eq!(rest, [Message::Reloading, Message::Watchdog]);
    let kept = text.chars().filter(|letter| *letter == 'x').count();
    let told = status.chars().filter(|letter| *letter == 'x').count();
    assert!(told == kept || status.len() > MAX_STATUS - 4);

    let mut words = text.split('\n');
    let (usec, of) = (words.next(), words.next());
    if let Some(limit) = service_manager::watchdog_usec(usec, of, 7) {
        assert!(limit > 0 && limit < u64::MAX);
        let digits = |text: &str| text.parse::<u64>().ok();
        assert_eq!(usec.and_then(digits), Some(limit));
        assert!(of.is_none_or(|of| digits(of) == Some(7)));
    }
}
