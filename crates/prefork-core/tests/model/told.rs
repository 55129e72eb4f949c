//! What those who follow the events are told, over all masters of a life: each rollout that began
//! ends once, each worker too, and the service stops once.

use std::collections::BTreeMap;

use prefork_core::model::fact::Fact;
use prefork_core::wire::events::render;

/// The events of one life.
#[derive(Default)]
pub struct Told {
    /// The events of each operation: the master, and what it tells.
    rollouts: BTreeMap<String, Vec<(usize, String)>>,
    /// The events of each worker, by master and pid.
    workers: BTreeMap<(usize, String), Vec<String>>,
    /// Which masters tell of the stop.
    stops: Vec<usize>,
}

impl Told {
    /// A master tells a fact.
    pub fn hear(&mut self, master: usize, fact: &Fact) {
        let Some(text) = render(fact, String::new) else {
            return;
        };
        // Cut out of the text: a tree of each would take longer than all else in a life.
        let field = |name: &str| {
            let (_, rest) = text.split_once(&format!("\"{name}\":"))?;
            let end = rest.find([',', '}'])?;
            rest.get(..end)
                .map(|value| value.trim_matches('"').to_owned())
        };
        let name = field("event").expect("a name");
        if name == "stopping" {
            self.stops.push(master);
        }
        if let Some(op) = field("op") {
            let told = self.rollouts.entry(op).or_default();
            told.push((master, name));
        } else if let Some(pid) = field("pid").filter(|pid| pid != "null") {
            let worker = (master, pid);
            self.workers.entry(worker).or_default().push(name);
        }
    }

    /// What was told that cannot have been.
    pub fn wrong(&self) -> Option<String> {
        let order = [
            "worker-started",
            "worker-ready",
            "worker-retiring",
            "worker-exited",
        ];
        let place = |name: &String| order.iter().position(|known| known == name);
        let stray = self.workers.iter().find(|(_, told)| {
            let in_order = told.windows(2).all(|two| place(&two[0]) < place(&two[1]));
            !in_order || told.first().is_none_or(|first| first != order[0])
        });
        if let Some(((master, pid), told)) = stray {
            return Some(format!(
                "worker {pid} of master {master} is told as {told:?}"
            ));
        }
        // Two masters may tell one end at the same moment, and the first to be numbered counts.
        let rollout = self.rollouts.iter().find(|(_, told)| {
            let is_start = |name: &str| name == "rollout-started";
            let starts = told.iter().filter(|(_, name)| is_start(name)).count();
            let mut enders: Vec<usize> = told
                .iter()
                .filter(|(_, name)| !is_start(name))
                .map(|(master, _)| *master)
                .collect();
            let ends = enders.len();
            enders.dedup();
            let begins_so = starts == 0 || is_start(&told[0].1);
            starts > 1 || !begins_so || enders.len() < ends
        });
        if let Some((op, told)) = rollout {
            return Some(format!("operation {op} is told as {told:?}"));
        }
        let stops = &self.stops;
        (stops
            .iter()
            .any(|at| stops.iter().filter(|other| *other == at).count() > 1))
        .then(|| format!("the service stops in {stops:?}"))
    }

    /// The operations whose rollout was never told to have ended.
    pub fn open(&self) -> Vec<&str> {
        let open =
            |told: &[(usize, String)]| told.iter().all(|(_, name)| name == "rollout-started");
        let all = self.rollouts.iter().filter(|(_, told)| open(told));
        all.map(|(op, _)| op.as_str()).collect()
    }
}
