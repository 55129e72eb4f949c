//! The heartbeat and the counters of a worker, in a page that it shares with the master (U23).

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::sys::heartbeat::page;
use crate::sys::io::fd;
use crate::sys::machine::environment;
use crate::wire::heartbeat::{BEATS, BEGUN, CONNECTIONS, FINISHED, MAGIC, OPEN, Page};
use crate::wire::service_manager;

/// The variable with the descriptor of the page.
const VARIABLE: &str = "PF_HEARTBEAT_FD";

/// The heartbeat and the counters of a worker: numbers in a page of memory that the master reads.
/// Each number changes by one atomic instruction, without a system call. Without a master, every
/// call does nothing.
///
/// ```no_run
/// # fn main() -> prefork::error::Result<()> {
/// let heartbeat = prefork::Heartbeat::inherit()?;
/// loop {
///     heartbeat.beat();
///     // wait for work, but not for longer than heartbeat.interval()
///     let request = heartbeat.request(); // counts as begun now, and as finished when it is
///     drop(request);
/// #   return Ok(());
/// }
/// # }
/// ```
///
/// A worker that never beats has no heartbeat timeout. After its first beat, it must beat again
/// within the master's `--timeout`, each time. A copy is the same page.
#[derive(Debug, Clone, Copy, Default)]
pub struct Heartbeat {
    numbers: Option<&'static page::Numbers>,
    interval: Option<Duration>,
}

impl Heartbeat {
    /// The page that this process inherited (`PF_HEARTBEAT_FD`). Every call returns the same page.
    /// Without a page, the heartbeat does nothing.
    ///
    /// If this is the only thread of the process, the variable is removed and the descriptor
    /// becomes close-on-exec. Otherwise both stay, and child processes may beat as well.
    ///
    /// # Errors
    /// The variable does not name a heartbeat page.
    pub fn inherit() -> Result<Heartbeat> {
        static INHERITED: Mutex<Option<Heartbeat>> = Mutex::new(None);
        let mut inherited = INHERITED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(heartbeat) = *inherited {
            return Ok(heartbeat);
        }
        let heartbeat = Heartbeat {
            numbers: inherited_page()?,
            interval: interval(),
        };
        Ok(*inherited.insert(heartbeat))
    }

    /// A heartbeat that does nothing.
    pub fn none() -> Heartbeat {
        Heartbeat::default()
    }

    /// The heartbeat page in this file.
    ///
    /// # Errors
    /// The file is no heartbeat page.
    pub fn of(file: impl AsFd) -> Result<Heartbeat> {
        Ok(Heartbeat {
            numbers: Some(page_in(file, "this file")?),
            interval: None,
        })
    }

    /// Whether there is a page, which a master reads.
    pub fn is_active(&self) -> bool {
        self.numbers.is_some()
    }

    /// How often to beat: half of the heartbeat timeout (`WATCHDOG_USEC`, see
    /// sd_watchdog_enabled(3)). `None`: there is no timeout.
    ///
    /// Another service manager than `pf-master` may want a heartbeat without giving a page. For
    /// that manager, send [`notify::watchdog`](super::notify::watchdog).
    pub fn interval(&self) -> Option<Duration> {
        self.interval
    }

    /// Beats: this worker is alive.
    #[inline]
    pub fn beat(&self) {
        self.add(BEATS, 1);
    }

    /// Counts a request as begun, and as finished when the returned value is dropped. Each of the
    /// two is a beat as well.
    pub fn request(&self) -> Request {
        self.add(BEGUN, 1);
        self.beat();
        Request(*self)
    }

    /// Counts a connection, and counts it as open until the returned value is dropped.
    pub fn connection(&self) -> OpenConnection {
        self.add(CONNECTIONS, 1);
        self.add(OPEN, 1);
        OpenConnection(*self)
    }

    /// The counts so far.
    pub fn counts(&self) -> Page {
        let number = |offset| self.at(offset).map_or(0, |it| it.load(Ordering::Relaxed));
        Page {
            beats: number(BEATS),
            begun: number(BEGUN),
            finished: number(FINISHED),
            open: number(OPEN),
            connections: number(CONNECTIONS),
        }
    }

    #[inline]
    fn at(&self, offset: usize) -> Option<&'static AtomicU64> {
        self.numbers?.get(offset / size_of::<u64>())
    }

    #[inline]
    fn add(&self, offset: usize, difference: i8) {
        // Relaxed: no other data depends on when the number is seen. fetch_add: threads may count
        // at the same time.
        if let Some(number) = self.at(offset) {
            number.fetch_add(i64::from(difference).cast_unsigned(), Ordering::Relaxed);
        }
    }
}

/// A request that is being served.
#[derive(Debug)]
#[must_use = "dropping it finishes the request"]
pub struct Request(Heartbeat);

impl Drop for Request {
    fn drop(&mut self) {
        self.0.add(FINISHED, 1);
        self.0.beat();
    }
}

/// A connection that is open.
#[derive(Debug)]
#[must_use = "dropping it closes the connection"]
pub struct OpenConnection(Heartbeat);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.add(OPEN, -1);
    }
}

fn inherited_page() -> Result<Option<&'static page::Numbers>> {
    let Some(text) = std::env::var_os(VARIABLE) else {
        return Ok(None);
    };
    let text = text.to_string_lossy().into_owned();
    let what = format!("{VARIABLE}={}", text.escape_default());
    let number: i32 = text
        .parse()
        .map_err(|_| Error::system(format!("cannot use {what}"), "it is not a number"))?;
    let copy = fd::duplicate(number)
        .map_err(|error| Error::system(format!("cannot use {what}"), error))?;
    let numbers = page_in(&copy, &what)?;
    if environment::remove_variables(|name| name == VARIABLE) {
        // This cannot fail: the descriptor was just duplicated.
        let _ = fd::set_cloexec(number, true);
    }
    Ok(Some(numbers))
}

fn page_in(file: impl AsFd, what: &str) -> Result<&'static page::Numbers> {
    let numbers =
        page::map(file).map_err(|error| Error::system(format!("cannot map {what}"), error))?;
    let magic = numbers.first().map(|it| it.load(Ordering::Relaxed));
    if magic.map(u64::to_ne_bytes) == Some(MAGIC) {
        Ok(numbers)
    } else {
        let why = "it is not a heartbeat page";
        Err(Error::system(format!("cannot use {what}"), why))
    }
}

fn interval() -> Option<Duration> {
    let variable = |name| std::env::var(name).ok();
    let (usec, of) = (variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"));
    let usec = service_manager::watchdog_usec(usec.as_deref(), of.as_deref(), std::process::id())?;
    Some(Duration::from_micros(usec / 2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::heartbeat::file::HeartbeatFile;

    fn page(beats: u64, [begun, finished, open, connections]: [u64; 4]) -> Page {
        Page {
            beats,
            begun,
            finished,
            open,
            connections,
        }
    }

    #[test]
    fn u23_the_master_sees_what_was_counted() {
        let mut master = HeartbeatFile::create().expect("made");
        let heartbeat = Heartbeat::of(master.fd()).expect("a page");
        assert!(heartbeat.is_active());
        heartbeat.beat();
        let (one, two) = (heartbeat.connection(), heartbeat.connection());
        let request = heartbeat.request();
        drop(one);
        assert!(master.check_for_beat().expect("looked"));
        let expected = page(2, [1, 0, 1, 2]);
        assert_eq!((master.page(), heartbeat.counts()), (expected, expected));
        drop((two, request));
        assert!(master.check_for_beat().expect("looked"));
        assert_eq!(master.page(), page(3, [1, 1, 0, 2]));
    }

    #[test]
    fn threads_count_every_request() {
        let mut master = HeartbeatFile::create().expect("made");
        let heartbeat = Heartbeat::of(master.fd()).expect("a page");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    (0..1000).for_each(|_| drop((heartbeat.connection(), heartbeat.request())))
                });
            }
        });
        assert!(master.check_for_beat().expect("looked"));
        assert_eq!(master.page(), page(8000, [4000, 4000, 0, 4000]));
    }

    #[test]
    fn without_a_page_nothing_happens() {
        let heartbeat = Heartbeat::none();
        heartbeat.beat();
        drop((heartbeat.request(), heartbeat.connection()));
        assert!(!heartbeat.is_active());
        assert_eq!(heartbeat.counts(), Page::default());
    }

    #[test]
    fn a_file_without_a_page_is_an_error() {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(4096).expect("long enough");
        let error = Heartbeat::of(&file).expect_err("no magic").to_string();
        assert_eq!(error, "cannot use this file: it is not a heartbeat page");
        file.set_len(8).expect("cut");
        assert!(Heartbeat::of(&file).is_err());
    }
}
