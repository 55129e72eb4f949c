//! The name under which a descriptor is watched in the nested epoll.

use crate::model::ids::WorkerId;

/// What a watched descriptor is. In the order in which a turn reads them: a worker's program runs
/// before it sends anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// The pipe that reports whether a worker's program was executed.
    SpawnOutcome,
    /// A worker's notification socket.
    NotifySocket,
    /// A worker's ready pipe (`--ready fd=N`).
    ReadyPipe,
    /// Einhorn's socket, at which new connections arrive.
    AckSocket,
    /// A connection to einhorn's socket.
    AckConnection,
    /// The epoll of the workers' pidfds.
    Exits,
}

const SOURCES: [Source; 6] = [
    Source::SpawnOutcome,
    Source::NotifySocket,
    Source::ReadyPipe,
    Source::AckSocket,
    Source::AckConnection,
    Source::Exits,
];

/// How many bits of a packed token the source takes.
const SOURCE_BITS: u32 = 8;

/// A descriptor's source, and the number of what it belongs to: a worker or a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Token {
    // The first field decides the order of tokens.
    pub(super) source: Source,
    number: u64,
}

impl Token {
    pub(super) fn of_worker(id: WorkerId, source: Source) -> Token {
        Token {
            source,
            number: id.0,
        }
    }

    pub(super) fn of_ack_connection(number: u64) -> Token {
        Token {
            source: Source::AckConnection,
            number,
        }
    }

    /// For a source that is there once.
    pub(super) fn of_all(source: Source) -> Token {
        Token { source, number: 0 }
    }

    /// The worker, if the source is a worker's.
    pub(super) fn worker(self) -> WorkerId {
        WorkerId(self.number)
    }

    /// As the kernel keeps it.
    pub(super) fn pack(self) -> u64 {
        self.number << SOURCE_BITS | self.source as u64
    }

    /// None: no token packs to this number.
    pub(super) fn unpack(packed: u64) -> Option<Token> {
        let source = usize::try_from(packed & ((1 << SOURCE_BITS) - 1)).ok()?;
        Some(Token {
            source: *SOURCES.get(source)?,
            number: packed >> SOURCE_BITS,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_unpacks_to_itself() {
        for (place, source) in SOURCES.into_iter().enumerate() {
            assert_eq!(source as usize, place);
            for number in [0, 1, 255, 256, u64::MAX >> SOURCE_BITS] {
                let token = Token { source, number };
                assert_eq!(Token::unpack(token.pack()), Some(token));
            }
        }
    }

    #[test]
    fn an_unknown_source_is_no_token() {
        for packed in [6, 255, u64::MAX] {
            assert_eq!(Token::unpack(packed), None);
        }
    }

    #[test]
    fn tokens_are_ordered_by_source_first() {
        let outcome = Token::of_worker(WorkerId(9), Source::SpawnOutcome);
        let notify = Token::of_worker(WorkerId(1), Source::NotifySocket);
        let ready = Token::of_worker(WorkerId(1), Source::ReadyPipe);
        assert!(outcome < notify && notify < ready);
    }
}
