//! Random lives of two masters: both are asked for things all the time, workers get stuck, one of
//! the masters is killed, or is frozen (it answers nothing until it is killed or thawed).
//!
//! In every life, every request is answered once, every operation ends once in the master that
//! began it, and the one that stays knows how it ended. If both behave from some moment on, it
//! comes to rest, with one service.
//!
//! `PF_UPGRADES=N` sets how many are run, `PF_SEED=S` runs one again.

use std::time::Duration;

use prefork_core::model::event::{Command, Event, Rehearsal, Scale};
use prefork_core::model::ids::{OpId, Ticket};
use prefork_core::model::peer::{PeerEvent, PeerMessage};
use prefork_core::model::policy::StopSeverity;
use prefork_core::model::releases::PinnedRelease;

use super::two_masters::{Answer, World, for_each_seed};

/// How long the world misbehaves, in steps, and how long it may take to come to rest after that.
const WILD: u64 = 120;
const CALM: usize = 6_000;

struct Life {
    world: World,
    tickets: u64,
    manual: bool,
    /// A stop was asked for: there may be no service in the end.
    stopped: bool,
    /// The link is lost.
    lost: bool,
}

impl Life {
    fn new(seed: u64) -> Life {
        let mut world = World::new(seed);
        world.policy.graceful_timeout = Duration::from_secs(3);
        world.policy.start_timeout = Some(Duration::from_secs(6));
        world.step(0, Event::Start(PinnedRelease::default()));
        while !world.masters[0].supervisor.is_ready() {
            let happened = world.happens();
            world.check("the service starts", happened);
        }
        let manual = world.roll(5) == 0;
        Life {
            world,
            tickets: 0,
            manual,
            stopped: false,
            lost: false,
        }
    }

    fn ask(&mut self, at: usize, command: Command) {
        if self.world.masters[at].ended.is_some() || self.world.masters[at].frozen {
            return;
        }
        // With `--manual`, a rollback asked of the old master stops the new one.
        let calls_back = self.manual && command == Command::Rollback(None);
        self.stopped |= calls_back || matches!(command, Command::Stop(_));
        self.tickets += 1;
        let event = Event::Command(Ticket(self.tickets), command);
        self.world.step(at, event);
    }

    fn random_command(&mut self) -> Command {
        match self.world.roll(24) {
            0..6 => Command::Rollback(None),
            6..12 => Command::Scale(Scale::To(self.world.roll(3) as usize + 2)),
            12..14 => Command::Reload { renewed: false },
            14 => match self.world.roll(2) {
                0 => Command::AddListeners { new: true },
                _ => Command::RemoveListeners,
            },
            15 => Command::Rehearse(Rehearsal::Reload),
            16 => Command::Pause,
            17..19 => Command::Resume,
            19 => Command::Stop(StopSeverity::Graceful),
            20 => Command::Stop(StopSeverity::Quick),
            // While there are two, another one is refused; this world has no third.
            21 if self.alive().len() == 2 => Command::Fork { manual: false },
            _ => Command::RestartWorker(self.world.roll(3) as u32),
        }
    }

    /// Something that nothing forces.
    fn misbehave(&mut self) {
        let at = self.world.roll(2) as usize;
        match self.world.roll(60) {
            0..5 => {
                let command = self.random_command();
                self.ask(at, command);
            }
            // One thing at a time: a new master whose link is lost leaves the service to the old
            // one, and a frozen one cannot save it.
            5 if !self.lost && self.all_awake() && self.world.roll(3) == 0 => self.world.kill(at),
            6 if !self.lost && self.all_awake() => self.freeze(at),
            7 => self.thaw(),
            8 => self.lose_link(at),
            _ => {}
        }
    }

    /// Whether each master could save the service without the other: a stop is never taken back.
    fn all_awake(&self) -> bool {
        let mut all = self.world.masters.iter();
        all.all(|master| {
            let stops = master.supervisor.stopping().is_some() && !self.stopped;
            master.ended.is_none() && !master.frozen && !stops
        })
    }

    fn freeze(&mut self, at: usize) {
        self.world.story.push(format!("{at} is frozen"));
        self.world.masters[at].frozen = true;
    }

    fn thaw(&mut self) {
        for (at, master) in self.world.masters.iter_mut().enumerate() {
            if std::mem::take(&mut master.frozen) {
                self.world.story.push(format!("{at} is thawed"));
            }
        }
    }

    /// The link fails at one end, and nothing comes or goes there any more.
    fn lose_link(&mut self, at: usize) {
        if self.all_awake() && !self.lost && self.world.roll(6) == 0 {
            let lost = PeerEvent::LinkLost("cannot send to it".to_owned());
            self.world.masters[at].inbox.push_back(lost);
            self.lost = true;
        }
    }

    /// The masters that live.
    fn alive(&self) -> Vec<usize> {
        (0..self.world.masters.len())
            .filter(|at| self.world.masters[*at].ended.is_none())
            .collect()
    }

    /// Whether nothing is under way any more.
    fn rests(&self) -> bool {
        let alive = self.alive();
        if alive.len() > 1 && !self.manual {
            return false;
        }
        alive.iter().all(|at| {
            let master = &self.world.masters[*at];
            let supervisor = &master.supervisor;
            let paused = supervisor.service_state().name() == "paused";
            !master.frozen
                && master.inbox.is_empty()
                && supervisor.operations().running().next().is_none()
                && (supervisor.is_ready() || (paused && master.processes.is_empty()))
        })
    }

    fn check_end(&self) {
        let world = &self.world;
        let alive = self.alive();
        self.check_told();
        world.check("one service is left", !alive.is_empty() || self.stopped);
        if let [at] = alive[..] {
            world.check("it has its names", world.names == [at]);
        }
        for (at, master) in world.masters.iter().enumerate() {
            for (ticket, answers) in &master.answers {
                let what = format!("{ticket:?} is answered once: {answers:?}");
                world.check(&what, answers.len() == 1);
                if let [Answer::Began(op)] = answers[..] {
                    self.check_operation(at, op, &alive);
                }
            }
            for (op, times) in &master.finished {
                world.check(&format!("operation {op} ended once in {at}"), *times == 1);
            }
        }
    }

    /// What both masters tell is one story. A master that was killed may have told the end of an
    /// upgrade which the other then undid, and with `--manual` they are two services.
    fn check_told(&self) {
        let world = &self.world;
        let killed = world.masters.iter().any(|master| master.ended == Some(137));
        if killed || self.manual || self.lost {
            return;
        }
        let wrong = world.told.wrong();
        world.check(&format!("events in order: {wrong:?}"), wrong.is_none());
        let open = world.told.open();
        world.check(&format!("rollouts end: {open:?}"), open.is_empty());
    }

    fn check_operation(&self, at: usize, op: OpId, alive: &[usize]) {
        let world = &self.world;
        let died = world.masters[at].ended == Some(137);
        let ended = world.masters[at].finished.contains_key(&op);
        world.check(
            &format!("operation {op} of {at} ended there"),
            ended || died,
        );
        for survivor in alive {
            let known = world.masters[*survivor].supervisor.operation(op);
            let text = format!("operation {op} of {at} is known in {survivor}: {known:?}");
            let over = known.is_some_and(|known| known.ended.is_some());
            // What a master did not tell before it was killed is known to none.
            world.check(&text, over || (known.is_none() && died));
        }
    }
}

fn live(seed: u64) {
    let mut life = Life::new(seed);
    let fork = Command::Fork {
        manual: life.manual,
    };
    life.ask(0, fork);
    if life.world.masters.len() < 2 {
        life.world.check("it forks", false);
    }
    life.world.masters[1].bad = life.world.roll(3) == 0;
    life.world.stuck = [0, 0, 12][life.world.roll(3) as usize];
    life.world.step(1, Event::Start(PinnedRelease::default()));
    let hello = PeerEvent::Said(PeerMessage::Hello(60));
    life.world.masters[0].inbox.push_front(hello);
    for _ in 0..life.world.roll(WILD) {
        life.misbehave();
        life.world.happens();
    }
    life.world.stuck = 0;
    life.world.story.push("all behave from here".to_owned());
    for master in &mut life.world.masters {
        master.bad = false;
    }
    for _ in 0..CALM {
        if let [at] = life.alive()[..]
            && (life.stopped || life.manual || life.world.took == Some(at))
        {
            // The other one has ended as it was told to, or after this one had said that it has the
            // service. What freezes a lone master is not its business.
            life.thaw();
        }
        if life.rests() {
            return life.check_end();
        }
        if !life.world.happens() {
            break;
        }
    }
    life.world.check("it comes to rest", life.rests());
    life.check_end();
}

#[test]
fn u16_u19_u20_every_life_of_two_masters_comes_to_rest() {
    for_each_seed(5_000, live);
}
