//! In tests: how many slots and workers were looked at. So a test can tell whether an event costs
//! more where there are more workers, without a clock.

#[cfg(test)]
thread_local! {
    static LOOKS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// This many are looked at now.
pub(super) fn add(count: usize) {
    #[cfg(test)]
    LOOKS.set(LOOKS.get() + count);
    #[cfg(not(test))]
    let _ = count;
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::LOOKS;
    use crate::model::Supervisor;
    use crate::model::action::{Action, PinSource, SignalTarget};
    use crate::model::event::{Command, Event, WorkerMessage};
    use crate::model::exit::ExitStatus;
    use crate::model::ids::Ticket;
    use crate::model::policy::{Canary, Policy, Readiness, Surge};
    use crate::model::releases::PinnedRelease;
    use crate::model::signal::Signal;
    use crate::model::time::Time;

    /// A service whose workers do at once what is asked of them.
    struct Service {
        supervisor: Supervisor,
        policy: Rc<Policy>,
        finished: usize,
    }

    impl Service {
        fn feed(&mut self, event: Event) {
            let mut events = vec![event];
            while let Some(event) = events.pop() {
                let mut actions = Vec::new();
                self.supervisor.step(Time(1), event, &mut actions);
                for action in actions {
                    self.obey(action, &mut events);
                }
                // What the driver asks in each turn.
                let _ = (self.supervisor.deadline(), self.supervisor.is_ready());
                let _ = self.supervisor.service_summary();
            }
        }

        fn obey(&mut self, action: Action, events: &mut Vec<Event>) {
            let leader = SignalTarget::Leader;
            if let Action::Spawn { worker, .. } = action {
                events.insert(0, Event::Executed(worker));
                events.insert(0, Event::Said(worker, WorkerMessage::Ready));
            } else if let Action::Signal(worker, Signal::Term, to) = action
                && to == leader
            {
                let event = Event::Exited {
                    worker,
                    ended: ExitStatus::Exited(0),
                    rest: false,
                };
                events.insert(0, event);
            } else if let Action::Pin(generation, PinSource::Asked { .. }) = action {
                let policy = Rc::clone(&self.policy);
                let release = PinnedRelease::default();
                events.push(Event::Pinned(generation, policy, release));
            } else if let Action::Finished(..) = action {
                self.finished += 1;
            }
        }
    }

    /// How many looks a start and a reload of this many workers take.
    fn looks(workers: usize, surge: Surge) -> usize {
        let policy = Rc::new(Policy {
            ready: Readiness::Notify,
            canary: Canary::Off,
            surge,
            ..Policy::default()
        });
        let mut service = Service {
            supervisor: Supervisor::new(workers, Rc::clone(&policy), 1),
            policy,
            finished: 0,
        };
        LOOKS.set(0);
        service.feed(Event::Start(PinnedRelease::default()));
        let reload = Command::Reload { renewed: false };
        service.feed(Event::Command(Ticket(1), reload));
        assert_eq!(service.finished, 2, "both are over");
        LOOKS.get()
    }

    #[test]
    fn twice_the_workers_are_twice_the_looks() {
        for surge in [
            Surge::Workers(0),
            Surge::Workers(1),
            Surge::Percent(50),
            Surge::Percent(100),
        ] {
            let (few, many) = (looks(200, surge), looks(400, surge));
            assert!(many <= 2 * few + 100, "{surge:?}: {few}, then {many}");
            assert!(many < 100 * 400, "{surge:?}: {many}");
        }
    }
}
