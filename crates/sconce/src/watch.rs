//! From the configuration to what watches requests.

use std::sync::Arc;
use std::time::Duration;

use sconce_config::{Observed, TraceSettings};
use sconce_core::Gateway;
use sconce_manager::Manager;
use sconce_telemetry::{Collector, Emf, Telemetry, Traces};
use tracing::{error, info};

/// The state of the models is written so often to CloudWatch.
const PAUSE: Duration = Duration::from_secs(60);

/// Starts what is wanted. A collector that cannot be used is told, and costs nobody an answer.
pub(crate) fn start(observed: &Observed) -> std::io::Result<Arc<Telemetry>> {
    let emf = observed.emf_namespace.as_deref();
    let emf = emf.map(|namespace| Emf::start(namespace, std::io::stdout(), PAUSE));
    let traces = &observed.traces;
    let traces = traces.are_wanted().then(|| start_traces(traces)).flatten();
    Ok(Arc::new(Telemetry {
        emf: emf.transpose()?,
        traces,
        ..Telemetry::default()
    }))
}

fn start_traces(settings: &TraceSettings) -> Option<Traces> {
    let collector = Collector {
        timeout: settings.timeout,
        service: settings.service.clone(),
    };
    match Traces::start(&collector) {
        Ok(traces) => {
            let address = settings
                .traces_endpoint
                .as_ref()
                .or(settings.endpoint.as_ref());
            info!(
                "traces are sent to {}",
                address.map_or("the collector", String::as_str)
            );
            Some(traces)
        }
        Err(cause) => {
            error!("there are no traces: {cause}; see OTEL_EXPORTER_OTLP_ENDPOINT");
            None
        }
    }
}

/// Has the state of the models told, too.
pub(crate) fn follow(telemetry: &Telemetry, manager: &Manager) {
    if let Some(emf) = &telemetry.emf {
        let manager = manager.clone();
        emf.follow(Box::new(move || manager.status()));
    }
}
