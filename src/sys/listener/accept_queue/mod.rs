//! The accept queue of a listener.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `depth` | how many connections wait, how many can, how many were dropped; [`QueueReader`] |
//! | `wait` | how long they have waited: [`longest_wait`] |
//! | `netlink` | the words and attributes of a message of the kernel's socket diagnosis |

mod depth;
mod netlink;
mod wait;

pub use depth::{Depth, QueueReader, depth, drops};
pub use wait::longest as longest_wait;
