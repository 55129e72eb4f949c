//! Hands the control socket and its connections over to the next image of the master.

use std::collections::VecDeque;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};

use super::connection::Conn;
use super::descriptors::{Arrived, Attached};
use super::socket::ControlSocket;
use crate::sys::io::left_open::LeftOpen;
use crate::wire::handover::{Client, Control};
use crate::wire::text::Text;

impl ControlSocket {
    /// The state that the next image gets.
    pub fn handed_over(&self) -> Control {
        Control {
            fd: self.listener.as_raw_fd(),
            path: self.path.as_path().into(),
            inode: self.inode,
            mode: self.mode,
            owner: self.owner,
            group: self.group,
        }
    }

    /// The state that the previous image handed over.
    ///
    /// # Errors
    /// The descriptor is not open.
    pub fn taken_over(control: &Control, left: &mut LeftOpen) -> io::Result<Self> {
        Ok(ControlSocket {
            listener: UnixListener::from(left.take(control.fd)?),
            path: control.path.clone().into_path(),
            inode: control.inode,
            mode: control.mode,
            owner: control.owner,
            group: control.group,
        })
    }
}

impl Conn {
    /// Stores the bytes that were read and not answered, and the replies that are not sent yet.
    pub fn hand_over(&self, to: &mut Client) {
        let rest =
            |bytes: &[u8], from: usize| Text::from(bytes.get(from..).unwrap_or_default().to_vec());
        to.fd = self.stream.as_raw_fd();
        to.peer = self.peer;
        to.partial = self.partial.clone().into();
        to.unread = rest(&self.chunk, self.split_to);
        to.skipping = self.skipping;
        to.ended = self.ended;
        to.output = rest(&self.output, self.written);
        let attached = self.attached.0.iter();
        to.attached = attached
            .map(|(at, lot)| {
                let lot = lot.iter().map(AsRawFd::as_raw_fd).collect();
                (at.saturating_sub(self.written), lot)
            })
            .collect();
        let arrived = self.arrived.fds.iter();
        to.arrived = arrived
            .map(|(line, fd)| (line.saturating_sub(self.arrived.lines), fd.as_raw_fd()))
            .collect();
        let missing = self.arrived.missing_of();
        to.missing = missing.map(|line| line.saturating_sub(self.arrived.lines));
    }

    /// The state that the previous image handed over.
    ///
    /// # Errors
    /// The descriptor is not open.
    pub fn taken_over(client: &Client, left: &mut LeftOpen) -> io::Result<Self> {
        let mut attached = ManuallyDrop::new(VecDeque::new());
        for (at, lot) in &client.attached {
            let mut taken = ManuallyDrop::new(Vec::new());
            for number in lot {
                taken.push(left.take(*number)?);
            }
            attached.push_back((*at, ManuallyDrop::into_inner(taken)));
        }
        let mut arrived = ManuallyDrop::new(Vec::new());
        for (line, number) in &client.arrived {
            arrived.push((*line, left.take(*number)?));
        }
        Ok(Conn {
            stream: UnixStream::from(left.take(client.fd)?),
            peer: client.peer,
            chunk: client.unread.clone().into_bytes(),
            split_to: 0,
            partial: client.partial.clone().into_bytes(),
            skipping: client.skipping,
            ended: client.ended,
            output: client.output.clone().into_bytes(),
            written: 0,
            arrived: Arrived::taken_over(ManuallyDrop::into_inner(arrived), client.missing),
            attached: Attached(ManuallyDrop::into_inner(attached)),
        })
    }
}
