//! When the service began, and what ends with its first readiness.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::model::Supervisor;
use crate::model::time::Time;
use crate::sys::machine::{clock, limits};
use crate::sys::process::daemon::Launcher;
use crate::sys::process::resident;

/// The start of the service, and of this image.
pub(in crate::driver) struct Startup {
    /// When the service was started, also by an image before this one.
    pub(in crate::driver) at: Time,
    /// The same moment as a date.
    pub(in crate::driver) date: SystemTime,
    /// The process that waits for the service to be up (`--daemonize`), until it was told.
    launcher: Option<Launcher>,
    /// This image has not seen all slots ready yet.
    in_progress: bool,
    /// The hard limit of open files that was last told to be lower than at the start.
    told_limit: Option<u64>,
}

impl Startup {
    /// The service starts now.
    pub(in crate::driver) fn now(launcher: Option<Launcher>) -> Self {
        Startup {
            at: clock::now(),
            date: clock::wall(),
            launcher,
            in_progress: true,
            told_limit: None,
        }
    }

    /// From the image before. The launcher was told by it: an upgrade is refused before the first
    /// rollout is done.
    pub(in crate::driver) fn taken_over(at: Time, nanos_since_1970: u64) -> Self {
        Startup {
            at,
            date: UNIX_EPOCH + Duration::from_nanos(nanos_since_1970),
            launcher: None,
            in_progress: true,
            told_limit: None,
        }
    }

    /// The hard limit of open files at the start and now, where it is lower now than was told
    /// before.
    pub(in crate::driver) fn lowered_limit(
        &mut self,
        given: Option<(u64, u64)>,
    ) -> Option<(u64, u64)> {
        let given = given?;
        let (_, present) = limits::at_most_present(given);
        let lowered = present < self.told_limit.unwrap_or(given.1);
        lowered.then(|| {
            self.told_limit = Some(present);
            (given.1, present)
        })
    }

    /// The date, for the next image.
    pub(in crate::driver) fn nanos_since_1970(&self) -> u64 {
        let since_1970 = self.date.duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Tells the launcher once the service is up.
    pub(in crate::driver) fn report(&mut self, supervisor: &Supervisor) {
        if supervisor.serves()
            && let Some(launcher) = self.launcher.take()
        {
            launcher.ready();
        }
    }

    /// Frees the memory that only a start needs, once all slots are ready.
    pub(in crate::driver) fn free_memory(&mut self, supervisor: &Supervisor) {
        if self.in_progress && supervisor.is_ready() {
            self.in_progress = false;
            resident::release_code_pages();
        }
    }
}
