//! The control socket and its connections, from one image of the master to the next.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};

use super::{Conn, ControlSocket};
use crate::sys::io::fd;
use crate::wire::handover::{Client, Control};
use crate::wire::text::Text;

impl ControlSocket {
    /// For the next image.
    pub fn handed_over(&self) -> Control {
        Control {
            fd: self.listener.as_raw_fd(),
            path: self.path.as_path().into(),
            inode: self.inode,
            mode: self.mode,
            owner: self.owner,
        }
    }

    /// From the image before.
    ///
    /// # Errors
    /// The descriptor is not open.
    pub fn taken_over(control: &Control) -> io::Result<Self> {
        Ok(ControlSocket {
            listener: UnixListener::from(fd::duplicate_raw(control.fd)?),
            path: control.path.clone().into_path(),
            inode: control.inode,
            mode: control.mode,
            owner: control.owner,
        })
    }
}

impl Conn {
    /// Writes down what was read and not answered, and what the client has not taken yet.
    pub fn hand_over(&self, to: &mut Client) {
        let rest =
            |bytes: &[u8], from: usize| Text::from(bytes.get(from..).unwrap_or_default().to_vec());
        to.fd = self.stream.as_raw_fd();
        to.peer = self.peer;
        to.partial = self.partial.clone().into();
        to.unread = rest(&self.chunk, self.looked_at);
        to.skipping = self.skipping;
        to.ended = self.ended;
        to.output = rest(&self.output, self.written);
    }

    /// From the image before.
    ///
    /// # Errors
    /// The descriptor is not open.
    pub fn taken_over(client: &Client) -> io::Result<Self> {
        Ok(Conn {
            stream: UnixStream::from(fd::duplicate_raw(client.fd)?),
            peer: client.peer,
            chunk: client.unread.clone().into_bytes(),
            looked_at: 0,
            partial: client.partial.clone().into_bytes(),
            skipping: client.skipping,
            ended: client.ended,
            output: client.output.clone().into_bytes(),
            written: 0,
        })
    }
}
