//! File descriptors: waits on them, and moves bytes and other descriptors through them.
//!
//! Nothing here blocks but [`poll::Poller::wait`]. In reading order:
//!
//! | file | what is in it |
//! | --- | --- |
//! | [`fd`] | descriptors by number: take over inherited ones, place them for an exec |
//! | [`left_open`] | the descriptors that the previous image of this process handed over |
//! | [`lifeline`] | a descriptor whose other end is held by those who own the service |
//! | [`poll`] | [`poll::Poller`], the wait of the loop; [`poll::NestedEpoll`] for many fds |
//! | [`wakeup`] | an eventfd that wakes a thread in its wait |
//! | [`nonblocking`] | accept, read and write on a socket whose O_NONBLOCK is not ours to set |
//! | [`place`] | where a stream listener can be reached |
//! | [`dial`] | connects there without waiting |
//! | [`cmsg`] | recvmsg(2) with the sender's credentials and descriptors |
//! | [`seqpacket`] | [`seqpacket::Link`], the connection between two masters |
//! | [`terminal`] | how much fits on a terminal |
//! | [`log_sink`] | [`log_sink::LogWriter`], which drops bytes rather than block |
//!
//! The way of one event: a descriptor is added to a [`poll::NestedEpoll`] under a token; the loop
//! waits in [`poll::Poller::wait`]; [`poll::NestedEpoll::ready`] returns the tokens that are ready;
//! the owner of the descriptor then reads with [`cmsg`], [`nonblocking`] or [`seqpacket`].

pub mod cmsg;
pub mod dial;
pub mod fd;
pub mod left_open;
pub mod lifeline;
pub mod log_sink;
pub mod nonblocking;
pub mod place;
pub mod poll;
pub mod seqpacket;
pub mod terminal;
pub mod wakeup;
