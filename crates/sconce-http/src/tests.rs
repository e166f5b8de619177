//! The server on a real port, with a scripted gateway behind it and a real client before it.

mod access;
mod console;
mod deferred;
mod faults;
mod lifecycle;
mod management;
mod observed;
mod raw;
mod requests;
mod routes;
mod streaming;
mod tgi;

use std::net::SocketAddr;
use std::sync::Arc;

use sconce_core::Gateway;
use sconce_testkit::client::Client;
use sconce_testkit::registry::{FakeRegistry, SharedRegistry};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::{HttpSettings, Models, serve};

/// A server in a runtime of its own, so that tests may block.
struct Server {
    client: Client,
    address: SocketAddr,
    runtime: Runtime,
    serving: JoinHandle<std::io::Result<()>>,
    end: Option<oneshot::Sender<()>>,
}

impl Server {
    fn start(gateway: &Arc<impl Gateway + 'static>, settings: HttpSettings) -> Self {
        Self::managed(gateway, &Arc::default(), settings)
    }

    fn managed(
        gateway: &Arc<impl Gateway + 'static>,
        registry: &Arc<FakeRegistry>,
        settings: HttpSettings,
    ) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let listener = runtime
            .block_on(TcpListener::bind("127.0.0.1:0"))
            .expect("a port");
        let address = listener.local_addr().expect("a bound listener");
        let (end, ended) = oneshot::channel();
        let shutdown = async move { drop(ended.await) };
        let models = Models {
            gateway: Arc::clone(gateway) as Arc<dyn Gateway>,
            registry: Arc::new(SharedRegistry(Arc::clone(registry))),
        };
        let serving = runtime.spawn(serve(listener, models, settings, shutdown));
        Self {
            client: Client::new(address),
            address,
            runtime,
            serving,
            end: Some(end),
        }
    }

    /// Begins the shutdown.
    fn end(&mut self) {
        let _ = self.end.take().expect("only once").send(());
    }

    /// Waits for the end of the shutdown.
    fn join(self) {
        self.runtime
            .block_on(self.serving)
            .expect("no panic")
            .expect("no error");
    }
}
