//! What models say of themselves when somebody asks: gauges, and counters that engines keep.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use sconce_core::{ModelStatus, Spread};

use crate::labels::OfModel;
use crate::{djl, process};

type Ratio = Gauge<f64, AtomicU64>;

/// How much of a model's capacity is asked for, from 0 to 1: the larger of the share of its places that jobs have or
/// wait for, and the share of its key/value cache that is in use. Where it is 1, who comes waits. `None`: it does not
/// answer.
pub fn saturation(model: &ModelStatus) -> Option<f64> {
    if !model.is_ready() {
        return None;
    }
    let load = model.load;
    let places = model.batching.size.max(1) * model.crew.max.max(1);
    let asked = (load.running + load.queued) as f64 / places as f64;
    Some(asked.max(cache_usage(model).unwrap_or(0.0)).min(1.0))
}

fn cache_usage(model: &ModelStatus) -> Option<f64> {
    let load = model.load;
    (load.total_blocks > 0).then(|| load.used_blocks as f64 / load.total_blocks as f64)
}

/// A registry of what is so now.
pub(crate) fn registry(models: &[ModelStatus]) -> Registry {
    let mut registry = Registry::default();
    let r = &mut registry;
    whole(
        r,
        models,
        "num_requests_running",
        "Requests that are computed",
        |model| Some(model.load.running),
    );
    whole(
        r,
        models,
        "num_requests_waiting",
        "Requests that wait",
        |model| Some(model.load.queued),
    );
    whole(
        r,
        models,
        "batch_size",
        "Requests of the last step, 0 while there is nothing to do",
        |model| Some(model.load.batch),
    );
    whole(
        r,
        models,
        "workers",
        "Workers that take requests",
        |model| Some(model.ready_workers()),
    );
    whole(
        r,
        models,
        "model_ready",
        "Whether the model answers: 1, or 0 while it loads, stands still or has failed",
        |model| Some(usize::from(model.is_ready())),
    );
    ratio(
        r,
        models,
        "kv_cache_usage_ratio",
        "Share of the key/value cache's blocks that requests use",
        cache_usage,
    );
    ratio(
        r,
        models,
        "saturation",
        "How much of the model's capacity is asked for, from 0 to 1; for autoscaling",
        saturation,
    );
    ratio(
        r,
        models,
        "model_load_seconds",
        "From the beginning of loading to readiness, or until now",
        |model| Some(model.times.total.as_secs_f64()),
    );
    steps(r, models);
    djl::register_states(r, models);
    process::register(r);
    registry
}

/// What is counted of steps.
fn steps(r: &mut Registry, models: &[ModelStatus]) {
    count(
        r,
        models,
        "engine_steps",
        "Steps that were computed",
        |model| model.load.steps,
    );
    count(
        r,
        models,
        "prefix_cache_queries",
        "Tokens of requests that were looked for in the cache",
        |model| model.load.prefix_queries,
    );
    count(
        r,
        models,
        "prefix_cache_hits",
        "Tokens of requests that were found in the cache",
        |model| model.load.prefix_hits,
    );
    count(
        r,
        models,
        "num_preemptions",
        "How often a request gave its part of the cache back, to be computed again",
        |model| model.load.preemptions,
    );
    spread(
        r,
        models,
        "step_batch_size",
        "Requests of a step",
        |model| model.load.batches,
    );
    spread(
        r,
        models,
        "iteration_tokens_total",
        "Tokens of a step",
        |model| model.load.tokens,
    );
}

fn whole(
    registry: &mut Registry,
    models: &[ModelStatus],
    name: &str,
    help: &str,
    value: impl Fn(&ModelStatus) -> Option<usize>,
) {
    let family = Family::<OfModel, Gauge>::default();
    for model in models {
        if let Some(value) = value(model) {
            family.get_or_create(&model.into()).set(value as i64);
        }
    }
    registry.register(format!("sconce_{name}"), help, family);
}

fn ratio(
    registry: &mut Registry,
    models: &[ModelStatus],
    name: &str,
    help: &str,
    value: impl Fn(&ModelStatus) -> Option<f64>,
) {
    let family = Family::<OfModel, Ratio>::default();
    for model in models {
        if let Some(value) = value(model) {
            family.get_or_create(&model.into()).set(value);
        }
    }
    registry.register(format!("sconce_{name}"), help, family);
}

fn spread(
    registry: &mut Registry,
    models: &[ModelStatus],
    name: &str,
    help: &str,
    value: impl Fn(&ModelStatus) -> Spread,
) {
    let of = |model: &ModelStatus| (OfModel::from(model), value(model));
    let spreads = Spreads(models.iter().map(of).collect());
    registry.register(format!("sconce_{name}"), help, spreads);
}

/// Histograms that engines have counted.
#[derive(Debug)]
struct Spreads(Vec<(OfModel, Spread)>);

impl EncodeMetric for Spreads {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> std::fmt::Result {
        let limits = Spread::LIMITS.iter().map(|&limit| limit as f64);
        let limits: Vec<f64> = limits.chain([f64::MAX]).collect();
        for (model, spread) in &self.0 {
            let counts = spread.counts.iter().copied();
            let buckets: Vec<(f64, u64)> = limits.iter().copied().zip(counts.clone()).collect();
            encoder
                .encode_family(model)?
                .encode_histogram::<NoLabelSet>(spread.sum as f64, counts.sum(), &buckets, None)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

fn count(
    registry: &mut Registry,
    models: &[ModelStatus],
    name: &str,
    help: &str,
    value: impl Fn(&ModelStatus) -> u64,
) {
    let family = Family::<OfModel, Counter>::default();
    for model in models {
        family.get_or_create(&model.into()).inc_by(value(model));
    }
    registry.register(format!("sconce_{name}"), help, family);
}

#[cfg(test)]
mod tests {
    use sconce_core::{Batching, Load, Phase};

    use super::*;

    fn model(running: usize, queued: usize, used_blocks: usize) -> ModelStatus {
        ModelStatus {
            phase: Phase::Ready,
            load: Load {
                running,
                queued,
                used_blocks,
                total_blocks: 10,
                ..Load::default()
            },
            batching: Batching {
                size: 8,
                ..Batching::default()
            },
            ..ModelStatus::default()
        }
    }

    #[test]
    fn saturation_is_the_scarcer_of_places_and_cache() {
        for (running, queued, used, wanted) in [
            (0, 0, 0, 0.0),
            (2, 0, 1, 0.25),
            (2, 2, 1, 0.5),
            (1, 0, 9, 0.9),
            (8, 0, 0, 1.0),
            (8, 100, 10, 1.0),
        ] {
            let value = saturation(&model(running, queued, used));
            assert_eq!(value, Some(wanted), "{running} {queued} {used}");
        }
    }

    #[test]
    fn a_model_that_does_not_answer_has_no_saturation() {
        for phase in [
            Phase::Loading,
            Phase::Failed("x".into()),
            Phase::Stalled("x".into()),
        ] {
            let model = ModelStatus {
                phase,
                ..model(8, 8, 8)
            };
            assert_eq!(saturation(&model), None);
        }
    }

    #[test]
    fn workers_multiply_the_places_of_a_handler() {
        let mut model = model(4, 0, 0);
        model.crew.max = 2;
        assert_eq!(saturation(&model), Some(0.25));
    }
}
