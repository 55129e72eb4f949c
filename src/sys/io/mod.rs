//! Descriptors: waiting on them and moving bytes and other descriptors through them.

pub mod cmsg;
pub mod fd;
pub mod log_sink;
pub mod nonblocking;
pub mod poll;
pub mod seqpacket;
pub mod wakeup;
