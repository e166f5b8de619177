//! What is measured and told: metrics for Prometheus, lines for CloudWatch, traces for OpenTelemetry.
//!
//! A job is measured where its answers pass: [`Telemetry::measure`] puts itself around its [`Reply`], notes when it
//! left the queue, when its tokens came and how it ended, and tells all of that at the end. So engines know nothing of
//! it, and a token costs two looks at the clock's time and no allocation. What engines count themselves comes with
//! [`sconce_core::Load`] and is read when somebody asks.
//!
//! Which of it is wanted is the configuration's, routes are HTTP's.

mod djl;
mod emf;
mod labels;
mod measured;
mod meter;
mod metrics;
mod post;
mod process;
mod state;
mod traces;

use std::sync::Arc;

use sconce_core::{JobId, ModelStatus, Reply, ServeError};

pub use emf::{Emf, Statuses};
pub use metrics::{CONTENT_TYPE, Metrics};
pub use state::saturation;
pub use traces::{Collector, Incoming, RequestTrace, TraceError, Traces};

use crate::measured::Measured;

/// All that watches requests.
#[derive(Debug, Default)]
pub struct Telemetry {
    /// Counters and histograms.
    pub metrics: Metrics,
    /// Lines for CloudWatch, if they are wanted.
    pub emf: Option<Emf>,
    /// Traces, if they are wanted.
    pub traces: Option<Traces>,
}

/// A request, as its jobs know it.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Its id.
    pub id: Arc<str>,
    /// Its trace, if there is one.
    pub trace: Option<RequestTrace>,
}

impl Telemetry {
    /// Measures a job of a request to a model: what becomes of it is noted as it is told to `reply`.
    pub fn measure(
        &self,
        reply: Box<dyn Reply>,
        job: JobId,
        model: &ModelStatus,
        request: &Request,
    ) -> Box<dyn Reply> {
        let meter = self.metrics.meter(model);
        Box::new(Measured::new(
            reply,
            job,
            meter,
            request.clone(),
            self.emf.clone(),
        ))
    }

    /// Notes that a model did not take a job.
    pub fn refused(&self, model: &ModelStatus, error: &ServeError) {
        self.metrics.meter(model).failed(error);
    }

    /// Sends what is left to be told, and waits for that a short while. Waits, so it is called where blocking is allowed.
    pub fn shutdown(&self) {
        if let Some(traces) = &self.traces {
            traces.shutdown();
        }
        if let Some(emf) = &self.emf {
            emf.shutdown();
        }
    }
}
