//! The metrics of DJL Serving, by its names. Its times are in microseconds, so that here buckets are too.
//!
//! Not here is what can only happen before the port is open or after it is closed (`ConfigurationError`, `CmdError`,
//! `StartupFailed`), and what this server has none of.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use sconce_core::{ModelStatus, Phase};

use crate::labels::{DjlModel, OfModel as Labels};
use crate::meter::Histograms;
use crate::process;

/// From 100 µs to 15 minutes.
fn microseconds() -> Histogram {
    Histogram::new(exponential_buckets(100.0, 2.0, 24))
}

/// Times of requests.
#[derive(Clone, Debug)]
pub(crate) struct Times {
    queue: Histograms<DjlModel>,
    request: Histograms<DjlModel>,
}

/// Those of one model.
#[derive(Debug)]
pub(crate) struct OfModel {
    queue: Histogram,
    request: Histogram,
}

impl Times {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let new = || Histograms::new_with_constructor(microseconds as fn() -> Histogram);
        let times = Self {
            queue: new(),
            request: new(),
        };
        let help = ": prometheus histogram metric, unit: Microseconds";
        registry.register("QueueTime", help, times.queue.clone());
        registry.register("RequestLatency", help, times.request.clone());
        times
    }

    pub(crate) fn of(&self, model: &DjlModel) -> OfModel {
        OfModel {
            queue: self.queue.get_or_create_owned(model),
            request: self.request.get_or_create_owned(model),
        }
    }

    pub(crate) fn forget(&self, model: &DjlModel) {
        self.queue.remove(model);
        self.request.remove(model);
    }
}

impl OfModel {
    pub(crate) fn queue(&self, time: Duration) {
        self.queue.observe(time.as_micros() as f64);
    }

    pub(crate) fn request(&self, time: Duration) {
        self.request.observe(time.as_micros() as f64);
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[expect(non_snake_case, reason = "the label is called so")]
struct OfVersion {
    Version: String,
}

/// Counters of answers, labelled with the machine.
#[derive(Debug)]
pub(crate) struct Responses {
    /// By hundreds from 200 on.
    classes: [Counter; 4],
    wlm_error: Counter,
    server_error: Counter,
}

impl Responses {
    pub(crate) fn new(registry: &mut Registry, version: &str) -> Self {
        let host = process::host_name();
        let registry = registry.sub_registry_with_label(("Host".into(), host.into()));
        let help = ": prometheus counter metric, unit: Count";
        let mut counter = |name: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let responses = Self {
            classes: [
                counter("Response_2XX"),
                counter("Response_3XX"),
                counter("Response_4XX"),
                counter("Response_5XX"),
            ],
            wlm_error: counter("WlmError"),
            server_error: counter("ServerError"),
        };
        let starts = Family::<OfVersion, Counter>::default();
        registry.register("DJLServingStart", help, starts.clone());
        let version = OfVersion {
            Version: version.into(),
        };
        starts.get_or_create(&version).inc();
        responses
    }

    pub(crate) fn count(&self, status: u16) {
        let class = usize::from(status / 100).wrapping_sub(2);
        if let Some(counter) = self.classes.get(class) {
            counter.inc();
        }
        match status {
            503 => self.wlm_error.inc(),
            500.. => self.server_error.inc(),
            _ => 0,
        };
    }
}

/// What follows from the state of the models.
pub(crate) fn register_states(registry: &mut Registry, models: &[ModelStatus]) {
    let gauges = || Family::<DjlModel, Gauge>::default();
    let (loading, fetching) = (gauges(), gauges());
    let errors = Family::<DjlModel, Counter>::default();
    for model in models {
        let label = DjlModel::from(&Labels::from(model));
        let errors = errors.get_or_create_owned(&label);
        if matches!(model.phase, Phase::Failed(_)) {
            errors.inc();
        }
        if !model.phase.is_coming() {
            let micros = |time: Duration| time.as_micros() as i64;
            let times = model.times;
            let own = times.total.saturating_sub(times.fetching);
            loading.get_or_create(&label).set(micros(own));
            fetching.get_or_create(&label).set(micros(times.fetching));
        }
    }
    let help = ": prometheus gauge metric, unit: Microseconds";
    registry.register("LoadModel", help, loading);
    registry.register("DownloadModel", help, fetching);
    let help = ": prometheus counter metric, unit: Count";
    registry.register("ModelLoadingError", help, errors);
}
