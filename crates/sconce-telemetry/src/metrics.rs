//! Metrics of all models, and the text in which Prometheus reads them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::prometheus_text;
use prometheus_client::registry::Registry;
use sconce_core::ModelStatus;

use crate::djl::Responses;
use crate::labels::OfModel;
use crate::meter::{Families, Meter};
use crate::state;

/// The type of the text: version 0.0.4, as DJL Serving answers.
pub use prometheus_text::CONTENT_TYPE;

/// Counters and histograms of the process and its models.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    families: Families,
    responses: Responses,
    meters: Mutex<HashMap<OfModel, Arc<Meter>>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let families = Families::new(&mut registry);
        let responses = Responses::new(&mut registry, env!("CARGO_PKG_VERSION"));
        Self {
            registry,
            families,
            responses,
            meters: Mutex::default(),
        }
    }
}

impl Metrics {
    /// Counts an answer.
    pub fn count_response(&self, status: u16) {
        self.responses.count(status);
    }

    /// The instruments of a model.
    pub(crate) fn meter(&self, model: &ModelStatus) -> Arc<Meter> {
        let mut meters = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || Meter::new(&self.families, model);
        Arc::clone(meters.entry(model.into()).or_insert_with(make))
    }

    /// All metrics, or those whose names are among `names`, if there are any; `models` are all that are there. Series of
    /// others end.
    pub fn text(&self, models: &[ModelStatus], names: &[String]) -> String {
        self.keep(models);
        let mut text = String::new();
        let now = state::registry(models);
        for registry in [&self.registry, &now] {
            prometheus_text::encode(&mut text, registry).expect("a string takes everything");
        }
        match names {
            [] => text,
            names => chosen(&text, names),
        }
    }

    fn keep(&self, models: &[ModelStatus]) {
        for model in models {
            self.meter(model);
        }
        let there: Vec<OfModel> = models.iter().map(OfModel::from).collect();
        let mut meters = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
        meters.retain(|model, meter| {
            let stays = there.contains(model);
            if !stays {
                meter.forget();
            }
            stays
        });
    }
}

/// The families of the text that have one of these names, or a sample of it.
fn chosen(text: &str, names: &[String]) -> String {
    let mut chosen = String::new();
    let mut takes = false;
    for line in text.split_inclusive('\n') {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let family = rest.split(' ').next().unwrap_or_default();
            takes = names.iter().any(|name| is_of(family, name.trim()));
        }
        if takes {
            chosen.push_str(line);
        }
    }
    chosen
}

fn is_of(family: &str, name: &str) -> bool {
    let rest = name.strip_prefix(family);
    rest.is_some_and(|rest| matches!(rest, "" | "_bucket" | "_sum" | "_count"))
        || family.strip_suffix("_total") == Some(name)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sconce_core::{Phase, ServeError};

    use super::*;
    use crate::meter::Parts;

    fn model(name: &str, version: Option<&str>) -> ModelStatus {
        ModelStatus {
            name: name.into(),
            version: version.map(str::to_owned),
            phase: Phase::Ready,
            ..ModelStatus::default()
        }
    }

    fn value(text: &str, series: &str) -> Option<f64> {
        let line = text.lines().find(|line| {
            line.strip_prefix(series)
                .is_some_and(|rest| rest.starts_with(' '))
        })?;
        line.rsplit(' ').next()?.parse().ok()
    }

    #[test]
    fn every_model_has_its_series_from_the_start() {
        let metrics = Metrics::default();
        let text = metrics.text(&[model("m", None)], &[]);
        for series in [
            "sconce_generation_tokens_total{model_name=\"m\",version=\"\"}",
            "sconce_time_to_first_token_seconds_count{model_name=\"m\",version=\"\"}",
            "sconce_num_requests_waiting{model_name=\"m\",version=\"\"}",
            "sconce_saturation{model_name=\"m\",version=\"\"}",
            "QueueTime_count{Model=\"m\"}",
        ] {
            assert_eq!(value(&text, series), Some(0.0), "{series} in\n{text}");
        }
        assert!(text.contains("DJLServingStart_total{Host="), "{text}");
    }

    #[test]
    fn what_is_counted_is_told_of_its_model_and_version() {
        let metrics = Metrics::default();
        let (one, two) = (model("m", Some("1")), model("m", Some("2")));
        let meter = metrics.meter(&one);
        meter.began(Duration::from_millis(20));
        meter.generated(5, 3, Some(Parts::default()));
        meter.ended("length", Duration::from_secs(2));
        meter.failed(&ServeError::Draining);
        metrics.count_response(200);
        metrics.count_response(503);
        let text = metrics.text(&[one, two], &[]);
        for (series, wanted) in [
            (
                "sconce_prompt_tokens_total{model_name=\"m\",version=\"1\"}",
                5.0,
            ),
            (
                "sconce_prompt_tokens_total{model_name=\"m\",version=\"2\"}",
                0.0,
            ),
            (
                "sconce_requests_total{model_name=\"m\",version=\"1\",finished_reason=\"length\"}",
                1.0,
            ),
            (
                "sconce_request_failures_total{model_name=\"m\",version=\"1\",reason=\"draining\"}",
                1.0,
            ),
            ("QueueTime_sum{Model=\"m:1\"}", 20_000.0),
            ("RequestLatency_sum{Model=\"m:1\"}", 2_000_000.0),
        ] {
            assert_eq!(value(&text, series), Some(wanted), "{series} in\n{text}");
        }
        let host = process_label(&text);
        for (name, wanted) in [
            ("Response_2XX", 1.0),
            ("WlmError", 1.0),
            ("ServerError", 0.0),
        ] {
            let series = format!("{name}_total{{{host}}}");
            assert_eq!(value(&text, &series), Some(wanted), "{series} in\n{text}");
        }
    }

    fn process_label(text: &str) -> String {
        let start = "Response_2XX_total{";
        let line = text.lines().find_map(|line| line.strip_prefix(start));
        line.unwrap().split('}').next().unwrap().to_owned()
    }

    #[test]
    fn a_model_that_is_gone_has_no_series_and_gets_none_by_its_last_job() {
        let metrics = Metrics::default();
        let meter = metrics.meter(&model("gone", None));
        meter.ended("stop", Duration::ZERO);
        meter.failed(&ServeError::Draining);
        assert!(metrics.text(&[model("gone", None)], &[]).contains("gone"));
        assert!(!metrics.text(&[model("m", None)], &[]).contains("gone"));
        meter.ended("stop", Duration::ZERO);
        meter.ended("abort", Duration::ZERO);
        meter.failed(&ServeError::UnknownRoute);
        assert!(!metrics.text(&[model("m", None)], &[]).contains("gone"));
    }

    #[test]
    fn names_choose_whole_families() {
        let metrics = Metrics::default();
        let name = |name: &str| vec![name.to_owned()];
        for asked in ["sconce_images_total", "sconce_images"] {
            let text = metrics.text(&[model("m", None)], &name(asked));
            assert!(text.starts_with("# HELP sconce_images_total"), "{text}");
            assert_eq!(text.lines().count(), 3, "{text}");
        }
        let text = metrics.text(&[model("m", None)], &name("QueueTime_bucket"));
        assert!(text.contains("QueueTime_sum") && !text.contains("RequestLatency"));
        assert_eq!(metrics.text(&[model("m", None)], &name("nothing")), "");
    }
}
