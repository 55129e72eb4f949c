//! The heartbeat: a page that is shared with the master (U23).

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::sys::heartbeat::page;
use crate::sys::io::fd;
use crate::sys::machine::environment;
use crate::wire::heartbeat::{BEATS, BEGUN, FINISHED, MAGIC, OPEN, Page};
use crate::wire::service_manager;

/// Names the page's descriptor.
const VARIABLE: &str = "PF_HEARTBEAT_FD";

/// How a worker says that it lives, and what it has served: by numbers in a page of memory that the master looks at. Each call is one atomic
/// instruction, and none a system call. Where there is no master, every call does nothing.
///
/// ```no_run
/// # fn main() -> prefork::error::Result<()> {
/// let heartbeat = prefork::Heartbeat::inherit()?;
/// loop {
///     heartbeat.beat();
///     // wait for work, but not for longer than heartbeat.interval()
///     let request = heartbeat.request(); // counts as begun now, and as finished when it is dropped
///     drop(request);
/// #   return Ok(());
/// }
/// # }
/// ```
///
/// A worker that never beats is never missed; one that does must go on within the master's `--timeout`. A copy is the same page.
#[derive(Debug, Clone, Copy, Default)]
pub struct Heartbeat {
    numbers: Option<&'static page::Numbers>,
    interval: Option<Duration>,
}

impl Heartbeat {
    /// The page that this process was given (`PF_HEARTBEAT_FD`), whoever asks and however often. Without one, a heartbeat that does nothing.
    ///
    /// The variable is removed and its descriptor becomes close-on-exec, if this is the one thread of the process; else children may beat as well.
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
            numbers: given()?,
            interval: interval(),
        };
        Ok(*inherited.insert(heartbeat))
    }

    /// One that does nothing.
    pub fn none() -> Heartbeat {
        Heartbeat::default()
    }

    /// The page in this file.
    ///
    /// # Errors
    /// It is none.
    pub fn of(file: impl AsFd) -> Result<Heartbeat> {
        Ok(Heartbeat {
            numbers: Some(page_in(file, "this file")?),
            interval: None,
        })
    }

    /// Whether anybody looks at it.
    pub fn is_active(&self) -> bool {
        self.numbers.is_some()
    }

    /// How often to beat: half of what the master bears (`WATCHDOG_USEC`, see sd_watchdog_enabled(3)). None: it bears any silence. Somebody else than
    /// `pf-master` may want a heartbeat too, and give no page: it is told by [`notify::watchdog`](super::notify::watchdog).
    pub fn interval(&self) -> Option<Duration> {
        self.interval
    }

    /// This worker lives.
    #[inline]
    pub fn beat(&self) {
        self.add(BEATS, 1);
    }

    /// A request begins: it is finished when what is returned is dropped. Counts as two beats.
    pub fn request(&self) -> Request {
        self.add(BEGUN, 1);
        self.beat();
        Request(*self)
    }

    /// A connection has been accepted: it is open until what is returned is dropped.
    pub fn connection(&self) -> OpenConnection {
        self.add(OPEN, 1);
        OpenConnection(*self)
    }

    /// What has been counted so far.
    pub fn counts(&self) -> Page {
        let number = |offset| self.at(offset).map_or(0, |it| it.load(Ordering::Relaxed));
        Page {
            beats: number(BEATS),
            begun: number(BEGUN),
            finished: number(FINISHED),
            open: number(OPEN),
        }
    }

    #[inline]
    fn at(&self, offset: usize) -> Option<&'static AtomicU64> {
        self.numbers?.get(offset / size_of::<u64>())
    }

    #[inline]
    fn add(&self, offset: usize, difference: i8) {
        // Numbers on their own: nothing else hangs on when they are seen. Threads may count at the same time.
        if let Some(number) = self.at(offset) {
            number.fetch_add(i64::from(difference).cast_unsigned(), Ordering::Relaxed);
        }
    }
}

/// A request that is being served.
#[derive(Debug)]
#[must_use = "dropped, it is finished"]
pub struct Request(Heartbeat);

impl Drop for Request {
    fn drop(&mut self) {
        self.0.add(FINISHED, 1);
        self.0.beat();
    }
}

/// A connection that is open.
#[derive(Debug)]
#[must_use = "dropped, it is closed"]
pub struct OpenConnection(Heartbeat);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.add(OPEN, -1);
    }
}

fn given() -> Result<Option<&'static page::Numbers>> {
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
        // It has just been seen to be open; and where it were not, there would be nothing to hide.
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
        let why = "it is no heartbeat page";
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

    fn page(beats: u64, [begun, finished, open]: [u64; 3]) -> Page {
        Page {
            beats,
            begun,
            finished,
            open,
        }
    }

    #[test]
    fn u23_what_is_counted_is_what_the_master_sees() {
        let mut master = HeartbeatFile::create().expect("made");
        let heartbeat = Heartbeat::of(master.fd()).expect("a page");
        assert!(heartbeat.is_active());
        heartbeat.beat();
        let (one, two) = (heartbeat.connection(), heartbeat.connection());
        let request = heartbeat.request();
        drop(one);
        assert!(master.check_for_beat().expect("looked"));
        let expected = page(2, [1, 0, 1]);
        assert_eq!((master.page(), heartbeat.counts()), (expected, expected));
        drop((two, request));
        assert!(master.check_for_beat().expect("looked"));
        assert_eq!(master.page(), page(3, [1, 1, 0]));
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
        assert_eq!(master.page(), page(8000, [4000, 4000, 0]));
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
    fn what_is_no_page_is_told() {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(4096).expect("long enough");
        let error = Heartbeat::of(&file).expect_err("no magic").to_string();
        assert_eq!(error, "cannot use this file: it is no heartbeat page");
        file.set_len(8).expect("cut");
        assert!(Heartbeat::of(&file).is_err());
    }
}
