//! Waits: poll(2) for the few descriptors that the master always has, and a nested epoll for those
//! that grow in number with the workers.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use crate::model::time::Time;
use crate::sys::machine::clock::now;

/// What to wait for. An error or a hang-up is always reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interest {
    /// There are bytes to read, or the end of file.
    pub read: bool,
    /// There is room to write.
    pub write: bool,
}

impl Interest {
    /// Only reading.
    pub const READ: Interest = Interest {
        read: true,
        write: false,
    };
    /// Only writing.
    pub const WRITE: Interest = Interest {
        read: false,
        write: true,
    };
    /// Both.
    pub const BOTH: Interest = Interest {
        read: true,
        write: true,
    };
    /// Neither: only that the other side closed.
    pub const NONE: Interest = Interest {
        read: false,
        write: false,
    };
}

/// What a descriptor is ready for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ready {
    /// A read will not block.
    pub read: bool,
    /// A write will not block.
    pub write: bool,
    /// The other side closed altogether, or the descriptor is broken. There may still be bytes to
    /// read.
    pub hangup: bool,
}

impl Ready {
    /// Whether any of the three is set.
    pub fn any(self) -> bool {
        self.read || self.write || self.hangup
    }
}

/// poll(2), with a result buffer that is used again.
#[derive(Debug, Default)]
pub struct Poller {
    ready: Vec<Ready>,
}

impl Poller {
    /// A poller.
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits until one of `fds` is ready or `deadline` has come. `None` waits for ever; a deadline
    /// in the past only looks. The result has one entry for each of `fds`, in their order; all are
    /// idle if the deadline came first. A signal ends the wait only through its own descriptor.
    ///
    /// # Errors
    /// As ppoll(2): ENOMEM, or EINVAL for more descriptors than RLIMIT_NOFILE.
    pub fn wait(
        &mut self,
        fds: &[(BorrowedFd<'_>, Interest)],
        deadline: Option<Time>,
    ) -> io::Result<&[Ready]> {
        let mut polled: Vec<PollFd<'_>> = fds
            .iter()
            .map(|(fd, interest)| PollFd::from_borrowed_fd(*fd, poll_flags(*interest)))
            .collect();
        loop {
            let timeout = deadline.filter(|time| time.0 != u64::MAX).map(left);
            match rustix::event::poll(&mut polled, timeout.as_ref()) {
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        self.ready.clear();
        self.ready
            .extend(polled.iter().map(|fd| poll_ready(fd.revents())));
        Ok(&self.ready)
    }
}

/// The descriptors of one wait, each under a key of the caller's, so that what is ready is looked
/// up by its key and not by its place in a list.
#[derive(Debug)]
pub struct PollSet<'fd, K> {
    keys: Vec<K>,
    fds: Vec<(BorrowedFd<'fd>, Interest)>,
}

impl<'fd, K: Copy + Ord> PollSet<'fd, K> {
    /// An empty set.
    pub fn new() -> Self {
        PollSet {
            keys: Vec::new(),
            fds: Vec::new(),
        }
    }

    /// Adds a descriptor. Each key is used once.
    pub fn add(&mut self, key: K, fd: BorrowedFd<'fd>, interest: Interest) {
        self.keys.push(key);
        self.fds.push((fd, interest));
    }

    /// As [`Poller::wait`]: what is ready, by key.
    ///
    /// # Errors
    /// The same.
    pub fn wait(&self, poller: &mut Poller, deadline: Option<Time>) -> io::Result<ReadySet<K>> {
        let ready = poller.wait(&self.fds, deadline)?;
        let all = self.keys.iter().copied().zip(ready.iter().copied());
        Ok(ReadySet(all.filter(|(_, ready)| ready.any()).collect()))
    }

    /// As if all descriptors were ready for what is waited for: for a caller whose wait has failed,
    /// and whose descriptors are non-blocking.
    pub fn all_ready(&self) -> ReadySet<K> {
        let all = self.keys.iter().copied().zip(&self.fds);
        let ready = all.map(|(key, (_, interest))| {
            let ready = Ready {
                read: interest.read,
                write: interest.write,
                hangup: false,
            };
            (key, ready)
        });
        ReadySet(ready.collect())
    }
}

impl<K: Copy + Ord> Default for PollSet<'_, K> {
    fn default() -> Self {
        Self::new()
    }
}

/// What a wait has found ready.
#[derive(Debug)]
pub struct ReadySet<K>(BTreeMap<K, Ready>);

impl<K: Ord> ReadySet<K> {
    /// What the descriptor under this key is ready for; nothing, if it was not in the set.
    pub fn of(&self, key: K) -> Ready {
        self.0.get(&key).copied().unwrap_or_default()
    }

    /// Whether there is anything to do for the descriptor under this key.
    pub fn is_ready(&self, key: K) -> bool {
        self.of(key).any()
    }
}

fn left(deadline: Time) -> Timespec {
    let left = deadline.since(now());
    Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: left.subsec_nanos().into(),
    }
}

fn poll_flags(interest: Interest) -> PollFlags {
    let mut flags = PollFlags::empty();
    flags.set(PollFlags::IN, interest.read);
    flags.set(PollFlags::OUT, interest.write);
    flags
}

fn poll_ready(flags: PollFlags) -> Ready {
    Ready {
        read: flags.intersects(PollFlags::IN),
        write: flags.intersects(PollFlags::OUT),
        hangup: flags.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL),
    }
}

/// The most events of one [`NestedEpoll::ready`]. The rest stays for the next turn of the loop, so
/// that a flood of events does not delay the other descriptors.
const BATCH: usize = 256;

/// A set of descriptors that is one descriptor for [`Poller`]. It is level-triggered: a descriptor
/// that stays ready is reported again.
pub struct NestedEpoll {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

impl NestedEpoll {
    /// An empty set.
    ///
    /// # Errors
    /// As epoll_create1(2).
    pub fn new() -> io::Result<Self> {
        Ok(NestedEpoll {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(BATCH),
        })
    }

    /// Readable when any of its descriptors is ready.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// Watches `fd`; its events carry `token`.
    ///
    /// # Errors
    /// As epoll_ctl(2): EEXIST, ENOMEM, ENOSPC, EPERM for a regular file.
    pub fn add(&self, fd: BorrowedFd<'_>, token: u64, interest: Interest) -> io::Result<()> {
        let data = epoll::EventData::new_u64(token);
        Ok(epoll::add(&self.epoll, fd, data, epoll_flags(interest))?)
    }

    /// Changes the interest or the token of `fd`.
    ///
    /// # Errors
    /// As epoll_ctl(2): ENOENT if it is not watched.
    pub fn modify(&self, fd: BorrowedFd<'_>, token: u64, interest: Interest) -> io::Result<()> {
        let data = epoll::EventData::new_u64(token);
        Ok(epoll::modify(&self.epoll, fd, data, epoll_flags(interest))?)
    }

    /// Stops watching `fd`. Call it before closing the descriptor: epoll watches the open file
    /// description, which stays open while a child has a copy of the descriptor.
    ///
    /// # Errors
    /// As epoll_ctl(2): ENOENT if it is not watched.
    pub fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, fd)?)
    }

    /// Replaces the content of `found` by the descriptors that are ready now, at most 256. Never
    /// waits.
    ///
    /// # Errors
    /// As epoll_wait(2).
    pub fn ready(&mut self, found: &mut Vec<(u64, Ready)>) -> io::Result<()> {
        found.clear();
        self.events.clear();
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        loop {
            let events = rustix::buffer::spare_capacity(&mut self.events);
            match epoll::wait(&self.epoll, events, Some(&now)) {
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        found.extend(self.events.iter().map(|event| {
            // Copied: the structure is packed, so a reference to a field may be unaligned.
            let (data, flags) = (event.data, event.flags);
            (data.u64(), epoll_ready(flags))
        }));
        Ok(())
    }
}

fn epoll_flags(interest: Interest) -> epoll::EventFlags {
    let mut flags = epoll::EventFlags::empty();
    flags.set(epoll::EventFlags::IN, interest.read);
    flags.set(epoll::EventFlags::OUT, interest.write);
    flags
}

fn epoll_ready(flags: epoll::EventFlags) -> Ready {
    Ready {
        read: flags.intersects(epoll::EventFlags::IN),
        write: flags.intersects(epoll::EventFlags::OUT),
        hangup: flags.intersects(epoll::EventFlags::HUP | epoll::EventFlags::ERR),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::*;

    const SOON: Duration = Duration::from_millis(20);

    #[test]
    fn a_deadline_ends_the_wait_and_a_byte_ends_it_sooner() {
        let (mut one, two) = UnixStream::pair().expect("a pair");
        let mut poller = Poller::new();
        let began = now();
        let fds = [(two.as_fd(), Interest::READ)];
        let ready = poller.wait(&fds, Some(began + SOON)).expect("poll");
        assert_eq!(ready, [Ready::default()]);
        assert!(now().since(began) >= SOON);
        one.write_all(b"x").expect("written");
        let ready = poller.wait(&fds, None).expect("poll");
        assert!(ready.iter().all(|ready| ready.read && !ready.write));
        // A deadline in the past still looks.
        let ready = poller.wait(&fds, Some(Time(0))).expect("poll");
        assert!(ready.iter().all(|ready| ready.read));
        drop(one);
        let fds = [(two.as_fd(), Interest::NONE)];
        let ready = poller.wait(&fds, Some(Time(u64::MAX))).expect("poll");
        assert!(ready.iter().all(|ready| ready.hangup));
    }

    #[test]
    fn what_is_ready_is_found_by_its_key() {
        let (mut one, two) = UnixStream::pair().expect("a pair");
        let (three, four) = UnixStream::pair().expect("a pair");
        one.write_all(b"x").expect("written");
        let mut set = PollSet::new();
        set.add("silent", four.as_fd(), Interest::READ);
        set.add("written", two.as_fd(), Interest::READ);
        set.add("room", three.as_fd(), Interest::WRITE);
        let ready = set.wait(&mut Poller::new(), None).expect("poll");
        assert!(ready.of("written").read && !ready.of("written").write);
        assert!(ready.of("room").write);
        assert!(!ready.is_ready("silent") && !ready.is_ready("not in the set"));
        let all = set.all_ready();
        assert!(all.of("silent").read && !all.of("silent").write);
        assert!(!all.is_ready("not in the set"));
    }

    #[test]
    fn a_nested_epoll_wakes_the_poller_and_returns_the_ready_tokens() {
        let mut nest = NestedEpoll::new().expect("epoll");
        let pairs: Vec<_> = (0..3)
            .map(|_| UnixStream::pair().expect("a pair"))
            .collect();
        for (token, (_, theirs)) in (0u64..).zip(&pairs) {
            nest.add(theirs.as_fd(), token + 10, Interest::READ)
                .expect("added");
        }
        let mut found = vec![(99, Ready::default())];
        nest.ready(&mut found).expect("looked");
        assert_eq!(found, []);
        for (ours, _) in pairs.iter().skip(1) {
            (&*ours).write_all(b"x").expect("written");
        }
        let mut poller = Poller::new();
        let ready = poller
            .wait(&[(nest.fd(), Interest::READ)], None)
            .expect("poll");
        assert!(ready.iter().all(|ready| ready.read));
        nest.ready(&mut found).expect("looked");
        let tokens: Vec<u64> = found.iter().map(|(token, _)| *token).collect();
        assert_eq!(tokens, [11, 12]);
        assert!(found.iter().all(|(_, ready)| ready.read && !ready.hangup));

        let (ours, theirs) = pairs.get(1).expect("the second");
        nest.modify(theirs.as_fd(), 7, Interest::NONE)
            .expect("modified");
        nest.remove(pairs.get(2).expect("the third").1.as_fd())
            .expect("removed");
        nest.ready(&mut found).expect("looked");
        assert_eq!(found, []);
        (&*theirs).read_exact(&mut [0]).expect("read");
        ours.shutdown(std::net::Shutdown::Both).expect("shut");
        nest.ready(&mut found).expect("looked");
        assert!(
            matches!(found.as_slice(), [(7, ready)] if ready.hangup),
            "{found:?}"
        );
    }
}
