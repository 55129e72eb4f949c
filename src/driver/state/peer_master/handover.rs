//! The old master that still drains, from one image of this master to the next: a stop after an
//! upgrade in place is still one of both masters.

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::{LINK, OldPaths, PROCESS, PeerMaster};
use crate::sys::io::left_open::LeftOpen;
use crate::sys::io::poll::{Interest, NestedEpoll};
use crate::sys::io::seqpacket::Link;
use crate::wire::handover;
use crate::wire::text::Text;

impl PeerMaster {
    /// The old master that still drains, as the next image is to have it.
    pub(in crate::driver) fn handed_over(&self) -> handover::DrainingMaster {
        let path = |path: &Option<PathBuf>| path.as_deref().map(Text::from);
        handover::DrainingMaster {
            link: self.link.as_fd().as_raw_fd(),
            unsent: self
                .link
                .waiting()
                .map(|text| text.to_vec().into())
                .collect(),
            pid: self.pid,
            process: self.process.as_ref().map(AsRawFd::as_raw_fd),
            pid_file: path(&self.old_paths.pid_file),
            control: path(&self.old_paths.control),
        }
    }

    /// The other side of [`PeerMaster::handed_over`]. On an error nothing is closed.
    ///
    /// # Errors
    /// A descriptor is not there, or epoll refuses.
    pub(in crate::driver) fn taken_over(
        known: handover::DrainingMaster,
        left: &mut LeftOpen,
    ) -> io::Result<ManuallyDrop<PeerMaster>> {
        let unsent = known.unsent.into_iter().map(|text| text.0.into_vec());
        let link = ManuallyDrop::new(Link::taken_over(left.take(known.link)?, unsent));
        let process = known.process.map(|fd| left.take(fd)).transpose()?;
        let process = ManuallyDrop::new(process);
        let epoll = NestedEpoll::new()?;
        epoll.add(link.as_fd(), LINK, Interest::READ)?;
        if let Some(process) = &*process {
            epoll.add(process.as_fd(), PROCESS, Interest::READ)?;
        }
        let old_paths = OldPaths {
            pid_file: known.pid_file.map(Text::into_path),
            control: known.control.map(Text::into_path),
        };
        let (link, process) = (
            ManuallyDrop::into_inner(link),
            ManuallyDrop::into_inner(process),
        );
        Ok(ManuallyDrop::new(PeerMaster {
            pid: known.pid,
            process,
            is_up: true,
            old_paths,
            ..PeerMaster::over(link, epoll)
        }))
    }
}
