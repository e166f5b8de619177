//! Serving on a port until the end, and the end itself.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::app::{self, Shared};
use crate::health::NeverHealthy;
use crate::settings::Settings;

/// So long the last answers may take to leave.
const FLUSH: Duration = Duration::from_secs(2);

/// The stand-in for one endpoint.
pub struct Emulator {
    shared: Arc<Shared>,
}

impl Emulator {
    /// Nothing happens yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            shared: Shared::new(settings),
        }
    }

    /// Pings the container until it is healthy.
    pub async fn wait_until_healthy(&self, limit: Duration) -> Result<(), NeverHealthy> {
        self.shared.health.wait(limit).await
    }

    /// Serves the runtime API on a bound listener until `shutdown` completes. Then no connection is
    /// accepted any more, calls in flight have `Settings::drain`, and what is left is told that this
    /// is the end: ServiceUnavailable, or InternalStreamFailure in a stream.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let shared = self.shared;
        let mut watching = JoinSet::new();
        let watched = Arc::clone(&shared);
        watching.spawn(async move { watched.health.watch().await });

        let (tell, told) = oneshot::channel();
        let ending = async move {
            shutdown.await;
            // The receiver lives as long as the server.
            let _ = tell.send(());
        };
        // Parts are small and must not wait for each other.
        let listener = listener.tap_io(|socket| {
            if let Err(cause) = socket.set_nodelay(true) {
                debug!("TCP_NODELAY is not available: {cause}");
            }
        });
        let serving = axum::serve(listener, app::routes(Arc::clone(&shared)))
            .with_graceful_shutdown(ending)
            .into_future();
        let mut serving = pin!(serving);
        let drained = async {
            if told.await.is_ok() {
                sleep(shared.settings.drain).await;
            }
        };
        tokio::select! {
            served = &mut serving => return served,
            () = drained => {}
        }
        warn!(
            "calls in flight did not end within {} s and are cut off",
            shared.settings.drain.as_secs()
        );
        shared.cut.send_replace(true);
        match timeout(FLUSH, serving).await {
            Ok(served) => served,
            // A client that does not read its answer is not waited for.
            Err(_) => Ok(()),
        }
    }
}
