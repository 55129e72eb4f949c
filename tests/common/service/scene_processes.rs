//! Every process of a scene, also those whose parent has ended; they are killed when the test ends.

use nix::sys::signal::Signal;

use super::{Scene, process, until};

/// Every process of a scene: master, guard, workers and all that they started, also after their
/// parents have ended. They are found by a variable that only this scene's environment has.
/// Dropping this value kills those that are left.
pub(crate) struct SceneProcesses {
    mark: Vec<u8>,
}

impl SceneProcesses {
    pub(crate) fn of(scene: &Scene) -> Self {
        let mark = format!("PF_TEST_SAY={}", scene.path("say").display());
        SceneProcesses {
            mark: mark.into_bytes(),
        }
    }

    /// Those that live.
    pub(crate) fn all(&self) -> Vec<i32> {
        let mut pids: Vec<i32> = std::fs::read_dir("/proc")
            .expect("/proc")
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|pid| self.is_ours(*pid))
            .collect();
        pids.sort_unstable();
        pids
    }

    fn is_ours(&self, pid: i32) -> bool {
        std::fs::read(format!("/proc/{pid}/environ")).is_ok_and(|text| {
            text.split(|byte| *byte == 0)
                .any(|variable| variable == self.mark)
        }) && process::alive(pid)
    }

    /// Waits until nothing of it lives.
    #[track_caller]
    pub(crate) fn gone(&self) {
        until("nothing of the service is left", || {
            let left = self.all();
            left.is_empty().then_some(())
        });
    }

    fn kill(&self) {
        for pid in self.all() {
            process::signal(pid, Signal::SIGKILL);
        }
    }
}

impl Drop for SceneProcesses {
    fn drop(&mut self) {
        // A process that forks during the search is found in the next round.
        for _ in 0..50 {
            self.kill();
            if self.all().is_empty() {
                return;
            }
            prefork::sys::machine::clock::pause(std::time::Duration::from_millis(2));
        }
    }
}

/// The guard of this master.
#[track_caller]
pub(crate) fn guard_of(master: i32) -> i32 {
    until("there is a guard", || {
        children(master)
            .into_iter()
            .find(|pid| process::name(*pid) == "pf-guard")
    })
}

/// The children of a process that live.
pub(crate) fn children(parent: i32) -> Vec<i32> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    // Gone, or a kernel without that list.
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .filter(|pid| process::alive(*pid))
        .collect()
}
