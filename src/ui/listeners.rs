//! The table of listeners.

use comfy_table::Row;

use super::columns::layout;
use super::text::plain;
use crate::wire::status::Listener;

/// A row for each listener: name, address, fd in the workers, and the accept queue as
/// `queued/backlog`. An unknown value is `-`. Every line ends with a newline.
pub fn table(listeners: &[Listener]) -> String {
    let rows = listeners.iter().map(|listener| {
        Row::from([
            listener
                .name
                .as_deref()
                .map_or_else(|| "-".to_owned(), plain),
            plain(&listener.address),
            listener.fd.to_string(),
            queue(listener),
        ])
    });
    layout(&["NAME", "ADDRESS", "FD", "QUEUE"], &[0, 1], rows)
}

fn queue(listener: &Listener) -> String {
    let part = |value: Option<u32>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    match (listener.queued, listener.backlog) {
        (None, None) => "-".to_owned(),
        (queued, backlog) => format!("{}/{}", part(queued), part(backlog)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_listener_has_a_row() {
        let listeners = [
            Listener {
                name: Some("http".into()),
                address: "tcp:127.0.0.1:8080".into(),
                fd: 3,
                queued: Some(2),
                backlog: Some(4096),
                ..Listener::default()
            },
            Listener {
                name: None,
                address: "udp:127.0.0.1:53".into(),
                fd: 4,
                ..Listener::default()
            },
        ];
        assert_eq!(
            table(&listeners),
            "NAME  ADDRESS             FD   QUEUE\n\
             http  tcp:127.0.0.1:8080   3  2/4096\n\
             -     udp:127.0.0.1:53     4       -\n"
        );
    }
}
