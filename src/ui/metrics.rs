//! The status document as metrics, in the text format of OpenMetrics 1.0.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
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
pub fn text(services: &[Service]) -> Result<String, fmt::Error> {
    let mut families = families();
    for service in services {
        let labels = if services.len() > 1 {
            vec![("service", plain(&service.name))]
        } else {
            Vec::new()
        };
        let samples = samples(service);
        for (family, samples) in families.iter_mut().zip(samples) {
            for (label, value) in samples {
                let all = labels.iter().cloned().chain(label);
                family.samples.push((all.collect(), value));
            }
        }
    }
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

/// All families, in the order of [`samples`].
fn families() -> Vec<Family> {
    use MetricType::{Counter, Gauge};
    let bytes = Some(Unit::Bytes);
    let seconds = Some(Unit::Seconds);
    [
        ("pf_up", None, Gauge, "Whether the master runs and answers."),
        (
            "pf_start_time",
            seconds.clone(),
            Gauge,
            "When the service was started, since 1970.",
        ),
        ("pf_generation", None, Gauge, "The generation that serves."),
        (
            "pf_workers",
            None,
            Gauge,
            "Slots and workers without a slot, by state.",
        ),
        (
            "pf_worker_exits",
            None,
            Counter,
            "Workers that ended, by cause.",
        ),
        (
            "pf_worker_restarts",
            None,
            Counter,
            "Workers of the slot that died by themselves.",
        ),
        (
            "pf_rollouts",
            None,
            Counter,
            "Rollouts that ended, by result.",
        ),
        (
            "pf_requests",
            None,
            Counter,
            "Requests that workers have finished.",
        ),
        (
            "pf_connections",
            None,
            Counter,
            "Connections that workers have had.",
        ),
        (
            "pf_listener_queued",
            None,
            Gauge,
            "Connections that wait to be accepted.",
        ),
        (
            "pf_listener_backlog",
            None,
            Gauge,
            "Connections that can wait to be accepted.",
        ),
        (
            "pf_listener_drops",
            None,
            Counter,
            "What the kernel dropped as the queue was full.",
        ),
        (
            "pf_worker_rss",
            bytes,
            Gauge,
            "Resident memory of the slot's workers.",
        ),
        (
            "pf_worker_cpu",
            seconds,
            Counter,
            "Processor time of all workers of the slot so far.",
        ),
        (
            "pf_log_lines_lost",
            None,
            Counter,
            "Log lines that could not be written.",
        ),
    ]
    .into_iter()
    .map(|(name, unit, kind, help)| Family {
        name,
        unit,
        kind,
        help,
        samples: Vec::new(),
    })
    .collect()
}

/// The samples of one service, a list for each family.
fn samples(service: &Service) -> Vec<Vec<Sample>> {
    let up = alone(u64::from(service.status.is_ok()));
    let Ok(status) = &service.status else {
        return vec![up];
    };
    let counters = &status.counters;
    let rollouts = [
        ("done", counters.rollouts),
        ("rolled-back", counters.rolled_back),
    ];
    let exits = counters.exits.iter();
    let listeners = |value: fn(&Listener) -> Option<u32>| -> Vec<Sample> {
        let labels = listener_labels(&status.listeners).into_iter();
        let known = labels
            .zip(&status.listeners)
            .filter_map(|(label, listener)| {
                let value = Value::Whole(value(listener)?.into());
                Some((Some(("listener", label)), value))
            });
        known.collect()
    };
    vec![
        up,
        started(status).into_iter().map(|at| (None, at)).collect(),
        alone(status.generation),
        by("state", workers(status)),
        by("cause", exits.map(|(cause, count)| (plain(cause), *count))),
        by(
            "slot",
            status.slots.iter().map(|slot| (slot.slot, slot.restarts)),
        ),
        by("result", rollouts),
        alone(counters.requests),
        alone(counters.connections),
        listeners(|listener| listener.queued),
        listeners(|listener| listener.backlog),
        listeners(|listener| listener.drops),
        by("slot", memory(status)),
        cpu(status),
        alone(counters.log_lines_lost),
    ]
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
