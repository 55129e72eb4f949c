//! The status document as metrics, in the text format of OpenMetrics 1.0.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType::{self, Counter, Gauge};
use prometheus_client::registry::{Registry, Unit};

use super::services::Service;
use super::text::plain;
use crate::wire::status::{Listener, Slot, Status};

/// Every state of a slot, so that a state without a worker is 0 and not unknown.
const STATES: [&str; 7] = [
    "starting", "ready", "held", "stopping", "backoff", "down", "empty",
];

/// The metrics of these services. Those of several have the label `service`. A service that does
/// not answer has only `pf_up`, which is 0.
pub fn text(services: &[Service<'_>]) -> Result<String, fmt::Error> {
    let families = FAMILIES.iter().map(|(name, unit, kind, help, samples)| {
        let all = services.iter().flat_map(|service| {
            let label = (services.len() > 1).then(|| ("service", plain(&service.name)));
            let samples = samples(service).into_iter();
            samples.map(move |(own, value)| (label.clone().into_iter().chain(own).collect(), value))
        });
        Family {
            name,
            unit: unit.clone(),
            kind: *kind,
            help,
            samples: all.collect(),
        }
    });
    let mut families: Vec<Family> = families.collect();
    families.retain(|family| !family.samples.is_empty());
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Metrics(families)));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

/// A name, and the samples that have it.
#[derive(Debug)]
struct Family {
    /// Without its unit, and without the `_total` of a counter: the encoder adds both.
    name: &'static str,
    unit: Option<Unit>,
    kind: MetricType,
    help: &'static str,
    samples: Vec<(Vec<Label>, Value)>,
}

type Label = (&'static str, String);

/// The sample of one service in one family: at most one label besides the service's.
type Sample = (Option<Label>, Value);

#[derive(Debug, Clone, Copy)]
enum Value {
    Whole(u64),
    Real(f64),
}

/// What one family is: its name, unit, kind and help, and the samples of one service.
type Known = (
    &'static str,
    Option<Unit>,
    MetricType,
    &'static str,
    fn(&Service<'_>) -> Vec<Sample>,
);

/// All families.
const FAMILIES: [Known; 16] = [
    (
        "pf_up",
        None,
        Gauge,
        "Whether the master runs and answers.",
        |service| alone(u64::from(service.status.is_ok())),
    ),
    (
        "pf_start_time",
        Some(Unit::Seconds),
        Gauge,
        "When the service was started, since 1970.",
        |service| {
            of(service, |status| {
                started(status).into_iter().map(|at| (None, at)).collect()
            })
        },
    ),
    (
        "pf_generation",
        None,
        Gauge,
        "The generation that serves.",
        |service| of(service, |status| alone(status.generation)),
    ),
    (
        "pf_workers",
        None,
        Gauge,
        "Slots and workers without a slot, by state.",
        |service| of(service, |status| by("state", workers(status))),
    ),
    (
        "pf_worker_exits",
        None,
        Counter,
        "Workers that ended, by cause.",
        |service| {
            of(service, |status| {
                let exits = status.counters.exits.iter();
                by("cause", exits.map(|(cause, count)| (plain(cause), *count)))
            })
        },
    ),
    (
        "pf_worker_restarts",
        None,
        Counter,
        "Workers of the slot that died by themselves.",
        |service| {
            of(service, |status| {
                let slots = status.slots.iter();
                by("slot", slots.map(|slot| (slot.slot, slot.restarts)))
            })
        },
    ),
    (
        "pf_rollouts",
        None,
        Counter,
        "Rollouts that ended, by result.",
        |service| {
            of(service, |status| {
                let counters = &status.counters;
                let ended = [
                    ("done", counters.rollouts),
                    ("rolled-back", counters.rolled_back),
                ];
                by("result", ended)
            })
        },
    ),
    (
        "pf_requests",
        None,
        Counter,
        "Requests that workers have finished.",
        |service| of(service, |status| alone(status.counters.requests)),
    ),
    (
        "pf_connections",
        None,
        Counter,
        "Connections that workers have had.",
        |service| of(service, |status| alone(status.counters.connections)),
    ),
    (
        "pf_listener_queued",
        None,
        Gauge,
        "Connections that wait to be accepted.",
        |service| of(service, |status| listeners(status, |it| whole(it.queued))),
    ),
    (
        "pf_listener_backlog",
        None,
        Gauge,
        "Connections that can wait to be accepted.",
        |service| of(service, |status| listeners(status, |it| whole(it.backlog))),
    ),
    (
        "pf_listener_wait",
        Some(Unit::Seconds),
        Gauge,
        "How long the oldest one in the queue has waited.",
        |service| {
            of(service, |status| {
                listeners(status, |it| {
                    Some(Value::Real(it.longest_wait?.as_secs_f64()))
                })
            })
        },
    ),
    (
        "pf_listener_drops",
        None,
        Counter,
        "What the kernel dropped as the queue was full.",
        |service| of(service, |status| listeners(status, |it| whole(it.drops))),
    ),
    (
        "pf_worker_rss",
        Some(Unit::Bytes),
        Gauge,
        "Resident memory of the slot's workers.",
        |service| of(service, |status| by("slot", memory(status))),
    ),
    (
        "pf_worker_cpu",
        Some(Unit::Seconds),
        Counter,
        "Processor time of all workers of the slot so far.",
        |service| of(service, cpu),
    ),
    (
        "pf_log_lines_lost",
        None,
        Counter,
        "Log lines that could not be written.",
        |service| of(service, |status| alone(status.counters.log_lines_lost)),
    ),
];

/// Samples that only a service has which answers.
fn of(service: &Service<'_>, samples: impl Fn(&Status) -> Vec<Sample>) -> Vec<Sample> {
    let status = service.status.as_ref();
    status.map_or_else(|_| Vec::new(), |status| samples(status))
}

fn listeners(status: &Status, value: fn(&Listener) -> Option<Value>) -> Vec<Sample> {
    let labels = listener_labels(&status.listeners).into_iter();
    let known = labels
        .zip(&status.listeners)
        .filter_map(|(label, listener)| Some((Some(("listener", label)), value(listener)?)));
    known.collect()
}

fn whole(value: Option<u32>) -> Option<Value> {
    Some(Value::Whole(value?.into()))
}

fn alone(value: u64) -> Vec<Sample> {
    vec![(None, Value::Whole(value))]
}

fn by<K: ToString>(name: &'static str, counts: impl IntoIterator<Item = (K, u64)>) -> Vec<Sample> {
    let counts = counts.into_iter();
    counts
        .map(|(key, count)| (Some((name, key.to_string())), Value::Whole(count)))
        .collect()
}

/// When the service was started, in seconds since 1970.
fn started(status: &Status) -> Option<Value> {
    let at = humantime::parse_rfc3339(status.started_at.as_deref()?).ok()?;
    let since = at.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(Value::Real(since.as_secs_f64()))
}

/// Every worker: those that have a slot, those that are to have one, those that had one.
fn all_workers(status: &Status) -> impl Iterator<Item = &Slot> {
    let without_slot = status.starting.iter().chain(&status.retiring);
    status.slots.iter().chain(without_slot)
}

fn workers(status: &Status) -> impl Iterator<Item = (&'static str, u64)> {
    STATES.into_iter().map(|state| {
        let count = all_workers(status)
            .filter(|worker| worker.state == state)
            .count();
        (state, u64::try_from(count).unwrap_or(u64::MAX))
    })
}

fn memory(status: &Status) -> BTreeMap<u32, u64> {
    let mut sums: BTreeMap<u32, u64> = BTreeMap::new();
    for worker in all_workers(status) {
        if let Some(bytes) = worker.rss_bytes {
            let sum = sums.entry(worker.slot).or_default();
            *sum = sum.saturating_add(bytes);
        }
    }
    sums
}

fn cpu(status: &Status) -> Vec<Sample> {
    let slots = status.slots.iter();
    slots
        .map(|slot| {
            let label = ("slot", slot.slot.to_string());
            (Some(label), Value::Real(slot.cpu_total_s))
        })
        .collect()
}

/// A label for each listener: its name, else its address. What several have gets the fd behind it:
/// two samples with the same labels are no metrics.
fn listener_labels(listeners: &[Listener]) -> Vec<String> {
    let label = |listener: &Listener| plain(listener.name.as_ref().unwrap_or(&listener.address));
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for listener in listeners {
        *counts.entry(label(listener)).or_default() += 1;
    }
    let distinct = listeners.iter().map(|listener| {
        let label = label(listener);
        match counts.get(&label) {
            Some(1) => label,
            _ => format!("{label} fd={}", listener.fd),
        }
    });
    distinct.collect()
}

/// The families, for the encoder.
#[derive(Debug)]
struct Metrics(Vec<Family>);

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in &self.0 {
            let (unit, kind) = (family.unit.as_ref(), family.kind);
            let mut metric = encoder.encode_descriptor(family.name, family.help, unit, kind)?;
            for (labels, value) in &family.samples {
                if labels.is_empty() {
                    value.encode(kind, &mut metric)?;
                } else {
                    value.encode(kind, &mut metric.encode_family(labels)?)?;
                }
            }
        }
        Ok(())
    }
}

impl Value {
    fn encode(self, kind: MetricType, metric: &mut MetricEncoder<'_>) -> fmt::Result {
        match (self, kind) {
            (Value::Whole(value), MetricType::Counter) => {
                metric.encode_counter::<NoLabelSet, _, u64>(&value, None)
            }
            (Value::Real(value), MetricType::Counter) => {
                metric.encode_counter::<NoLabelSet, _, u64>(&value, None)
            }
            (Value::Whole(value), _) => metric.encode_gauge(&value),
            (Value::Real(value), _) => metric.encode_gauge(&value),
        }
    }
}

#[cfg(test)]
mod tests;
