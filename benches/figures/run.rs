//! A manager at work: its process, its workers as they report themselves, and its end.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::stat::Mode;
use prefork::model::time::Time;
use prefork::sys::io::poll::{Interest, Poller};
use prefork::sys::machine::clock;
use prefork::sys::process::descendants;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, pidfd_send_signal, waitpid,
};

use super::Outcome;
use super::programs::Stage;

/// No step takes longer; gunicorn with many workers comes near.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long after a word to stop a manager and its workers may go on.
const STOP: Duration = Duration::from_secs(5);

/// A record is a pid, four bytes of nothing, and a time.
const RECORD: usize = 16;

/// How long the reports are left unread.
const SELDOM: Duration = Duration::from_millis(4);

/// How often it is asked whether the manager lives at all.
const LIVENESS: Duration = Duration::from_millis(500);

static SERIAL: AtomicU32 = AtomicU32::new(0);

/// How reports are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Every few milliseconds: who looks takes time from those that are measured.
    Rarely,
    /// As each comes.
    AtOnce,
}

/// A worker that has said that it is about to accept.
pub struct Worker {
    pub pid: i32,
    /// Just before its first accept, by its own clock, which is ours.
    pub ready_at: Time,
    /// Readable once it has ended.
    pub handle: OwnedFd,
}

/// A running manager; ended when dropped.
pub struct Run {
    child: Child,
    /// When it was about to be executed.
    pub began: Time,
    fifo: File,
    path: PathBuf,
    unread: Vec<u8>,
    /// All that have ever reported, in their order.
    pub workers: Vec<Worker>,
}

impl Run {
    /// Starts a manager whose workers report to this run. Its output is discarded.
    pub fn start(stage: &Stage, mut command: Command) -> Outcome<Run> {
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let path = stage.dir().join(format!("ready.{serial}"));
        nix::unistd::mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR)?;
        // Open for writing too, so that the end of one writer is not the end of all.
        let fifo = File::options()
            .read(true)
            .write(true)
            .custom_flags(nix::libc::O_NONBLOCK)
            .open(&path)?;
        command
            .env("BENCH_FIFO", &path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let began = clock::now();
        let child = command.spawn()?;
        Ok(Run {
            child,
            began,
            fifo,
            path,
            unread: Vec::new(),
            workers: Vec::new(),
        })
    }

    /// The manager's pid.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Takes the reports that have come.
    pub fn look(&mut self) -> Outcome {
        let mut chunk = [0; 4096];
        loop {
            match self.fifo.read(&mut chunk) {
                Ok(length) => self
                    .unread
                    .extend_from_slice(chunk.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        while let Some((record, rest)) = self.unread.split_first_chunk::<RECORD>() {
            let [a, b, c, d, _, _, _, _, at @ ..] = *record;
            let pid = i32::from_ne_bytes([a, b, c, d]);
            let worker = Pid::from_raw(pid).ok_or("a worker without a pid")?;
            // A process that has ended and was reaped needs no wait.
            if let Ok(handle) = pidfd_open(worker, PidfdFlags::empty()) {
                self.workers.push(Worker {
                    pid,
                    ready_at: Time(u64::from_ne_bytes(at)),
                    handle,
                });
            }
            self.unread = rest.to_vec();
        }
        Ok(())
    }

    /// Waits until `count` workers have reported since the run began.
    pub fn await_workers(&mut self, count: usize, look: Look) -> Outcome {
        let limit = clock::now() + PATIENCE;
        let mut poller = Poller::new();
        loop {
            self.look()?;
            if self.workers.len() >= count {
                return Ok(());
            }
            // A master that exited 0 has left the service to another one (an upgrade by fork).
            if let Some(status) = self.child.try_wait()?.filter(|status| !status.success()) {
                return Err(format!("the manager ended: {status}").into());
            }
            if clock::now() > limit {
                let have = self.workers.len();
                return Err(
                    format!("{have} of {count} workers reported within {PATIENCE:?}").into(),
                );
            }
            match look {
                Look::Rarely => clock::pause(SELDOM),
                Look::AtOnce => {
                    let soon = Some(clock::now() + LIVENESS);
                    poller.wait(&[(self.fifo.as_fd(), Interest::READ)], soon)?;
                }
            }
        }
    }

    /// Waits until `count` workers have reported in all, and all of `leaving` have ended; returns
    /// when each was seen.
    pub fn await_change(&mut self, count: usize, leaving: &[usize]) -> Outcome<(Time, Time)> {
        self.await_workers(count, Look::AtOnce)?;
        let ready = self.workers.iter().map(|worker| worker.ready_at).max();
        let mut poller = Poller::new();
        for worker in leaving.iter().filter_map(|at| self.workers.get(*at)) {
            let limit = Some(clock::now() + PATIENCE);
            let ended = poller.wait(&[(worker.handle.as_fd(), Interest::READ)], limit)?;
            if !ended.iter().any(|ready| ready.any()) {
                return Err(format!("worker {} did not leave", worker.pid).into());
            }
        }
        Ok((ready.unwrap_or(self.began), clock::now()))
    }

    /// From the start to the readiness of the last worker, in milliseconds.
    pub fn took(&self) -> f64 {
        let last = self.workers.iter().map(|worker| worker.ready_at).max();
        millis(last.unwrap_or(self.began).since(self.began))
    }

    /// Sends the manager a signal.
    pub fn signal(&self, signal: Signal) -> Outcome {
        Ok(kill_process(self.pid(), signal)?)
    }

    /// Every process of the run but the workers: the manager and its helpers.
    pub fn managing(&self) -> Vec<i32> {
        let workers: BTreeSet<i32> = self.workers.iter().map(|worker| worker.pid).collect();
        let mut all = descendants::descendants(self.pid().as_raw_pid());
        all.push(self.pid().as_raw_pid());
        all.retain(|pid| !workers.contains(pid));
        all
    }

    /// Ends everything that belongs to the run. What the manager leaves behind has become ours.
    fn end(&mut self) {
        let handle = |pid: i32| {
            let pid = Pid::from_raw(pid)?;
            Some((pid, pidfd_open(pid, PidfdFlags::empty()).ok()?))
        };
        let rest: Vec<(Pid, OwnedFd)> = descendants::descendants(self.pid().as_raw_pid())
            .into_iter()
            .filter_map(handle)
            .collect();
        let _ = self.signal(Signal::TERM);
        let limit = clock::now() + STOP;
        while matches!(self.child.try_wait(), Ok(None)) && clock::now() < limit {
            clock::pause(Duration::from_millis(1));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        for (_, handle) in &rest {
            let _ = pidfd_send_signal(handle, Signal::KILL);
        }
        for worker in &self.workers {
            let _ = pidfd_send_signal(&worker.handle, Signal::KILL);
        }
        let workers = self
            .workers
            .iter()
            .filter_map(|worker| Pid::from_raw(worker.pid));
        for pid in rest.iter().map(|(pid, _)| *pid).chain(workers) {
            // It is ours, or the manager has reaped it.
            let _ = waitpid(Some(pid), WaitOptions::empty());
        }
        let _ = fs::remove_file(&self.path);
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.end();
    }
}

/// A duration as the tables have it.
pub fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
