//! Totals of what workers have done, and what of them the other master is to know.

use crate::model::counters::{Counters, Work};
use crate::model::ids::WorkerId;
use crate::model::peer::PeerMessage;
use crate::model::state::Supervisor;

impl Supervisor {
    /// A worker has done this since that was last told. What is left of a group may count on after
    /// its worker was forgotten.
    pub(crate) fn worked(&mut self, worker: WorkerId, work: &Work) {
        let counters = &mut self.counters;
        counters.requests = counters.requests.saturating_add(work.requests);
        counters.connections = counters.connections.saturating_add(work.connections);
        let slot = self.workers.get(&worker).map(|worker| worker.slot);
        let slot = slot.and_then(|slot| self.slots.get_mut(slot as usize));
        if let Some(slot) = slot {
            slot.totals.cpu = slot.totals.cpu.saturating_add(work.cpu);
        }
    }

    pub(crate) fn log_lines_lost(&mut self, lines: u64) {
        let lost = &mut self.counters.log_lines_lost;
        *lost = lost.saturating_add(lines);
    }

    /// What the other master of an upgrade by fork has to know before a client sees these totals:
    /// if it is the service in the end, it must not show less.
    pub fn counts_for_peer(&self) -> Option<PeerMessage> {
        let peer = self.peer.as_ref()?;
        let common: Counters = peer.counters_at_fork.and(&peer.counters_told);
        Some(PeerMessage::Counted(Box::new(self.counters.since(&common))))
    }
}
