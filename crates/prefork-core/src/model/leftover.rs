//! A process that a worker left behind outside its group, as the driver describes it.

use super::ids::{LeftoverId, WorkerId, WorkerLabel};

/// A process outside every worker's group, which descends from a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftBehind {
    /// Its name here.
    pub id: LeftoverId,
    /// Its pid, a label.
    pub pid: i32,
    /// Its process group, a label.
    pub group: i32,
    /// What it is called.
    pub name: String,
    /// The slot of the worker that left it behind, if that is known.
    pub slot: Option<u32>,
    /// Who left it behind.
    pub left_by: LeftBy,
    /// What it holds of the service.
    pub holds: Holds,
}

impl LeftBehind {
    /// Whether it is a process of this worker, which was given up.
    pub fn is_of(&self, worker: &WorkerLabel) -> bool {
        worker
            .pid
            .is_some_and(|pid| pid == self.pid || pid == self.group)
    }
}

/// Who left a process behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftBy {
    /// This worker, which lives as far as the driver knows.
    Worker(WorkerId),
    /// A worker that is gone.
    GoneWorker,
    /// A worker of another master, which has ended: the new one during an upgrade by fork.
    OtherMaster,
    /// Nothing tells.
    Unknown,
}

/// Which listeners of the service a process holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holds {
    /// None.
    Nothing,
    /// These.
    Listeners(Vec<String>),
    /// Its descriptors may not be read: these, if any.
    Perhaps(Vec<String>),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::Generation;

    #[test]
    fn a_process_is_of_the_worker_whose_leader_or_group_it_is() {
        let left = LeftBehind {
            id: LeftoverId(1),
            pid: 10,
            group: 20,
            name: "daemon".to_owned(),
            slot: None,
            left_by: LeftBy::Unknown,
            holds: Holds::Nothing,
        };
        let worker = |pid| WorkerLabel {
            slot: 0,
            pid,
            generation: Generation(1),
        };
        assert!(left.is_of(&worker(Some(10))));
        assert!(left.is_of(&worker(Some(20))));
        assert!(!left.is_of(&worker(Some(30))));
        assert!(!left.is_of(&worker(None)));
    }
}
