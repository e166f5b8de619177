//! Connections: accepting them, guarding them, and ending in an orderly way.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, error, info, warn};

use crate::app::{self, Models, Shared};
use crate::connections::{Patient, PlaceTaken, Places, Surplus};
use crate::limits::Drained;
use crate::management::Peer;
use crate::settings::HttpSettings;
use crate::tls::Tls;

/// After the last request has landed, so long its bytes may take to leave.
const FLUSH: Duration = Duration::from_secs(2);
/// Who is one too many has so long to say what it wants.
const SHORT: Duration = Duration::from_secs(5);
/// Pause after an error of accept, which is mostly a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves HTTP/1.1 on a bound listener until `shutdown` completes. Then no connection is accepted
/// any more, new requests on open connections get 503, those in flight may finish until
/// `drain_deadline`, and what is left is cut off, which their jobs see as clients that have gone.
pub async fn serve(
    listener: TcpListener,
    models: Models,
    settings: HttpSettings,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let shared = Shared::new(models, settings);
    let router = app::routes(Arc::clone(&shared));
    let places = Places::new(shared.settings.max_connections);
    let (end, ending) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => match accepted {
                Ok((socket, peer)) => {
                    let Some(place) = places.take() else {
                        debug!("a connection of {peer} is one too many");
                        continue;
                    };
                    let tls = shared.settings.tls.clone();
                    let patience = shared.settings.header_timeout;
                    let header_timeout = match place.is_surplus {
                        true => patience.min(SHORT),
                        false => patience,
                    };
                    let guest = Guest {
                        peer: Peer(peer),
                        router: router.clone(),
                        place,
                        header_timeout,
                        write_timeout: shared.settings.write_timeout,
                        ending: ending.clone(),
                    };
                    connections.spawn(admit(socket, tls, guest));
                }
                Err(cause) => {
                    warn!("cannot accept a connection: {cause}");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(ended) = connections.join_next() => report(ended),
        }
    }
    drop(listener);
    drain(&shared).await;
    // Nobody listens if there is no connection.
    let _ = end.send(true);
    let all = async {
        while let Some(ended) = connections.join_next().await {
            report(ended)
        }
    };
    if timeout(FLUSH, all).await.is_err() {
        debug!("{} connections are cut off", connections.len());
        connections.shutdown().await;
    }
    Ok(())
}

async fn drain(shared: &Shared) {
    let limit = shared.settings.drain_deadline;
    match shared.flights.count() {
        0 => {}
        count => info!(
            "{count} requests in flight may finish within {} s",
            limit.as_secs()
        ),
    }
    if timeout(limit, shared.flights.land()).await.is_err() {
        warn!(
            "{} requests did not finish in time and are cut off",
            shared.flights.count()
        );
    }
}

/// What a connection is served with.
struct Guest {
    peer: Peer,
    router: Router,
    place: PlaceTaken,
    header_timeout: Duration,
    write_timeout: Duration,
    ending: watch::Receiver<bool>,
}

/// Serves a connection, through TLS if that is configured.
async fn admit(socket: TcpStream, tls: Option<Tls>, guest: Guest) {
    // Tokens are small and must not wait for each other.
    if let Err(cause) = socket.set_nodelay(true) {
        debug!("TCP_NODELAY is not available: {cause}");
    }
    let Some(tls) = tls else {
        return connection(socket, guest).await;
    };
    // Who greets too slowly is sent away like one whose headers do not come.
    match timeout(guest.header_timeout, tls.acceptor().accept(socket)).await {
        Ok(Ok(stream)) => connection(stream, guest).await,
        Ok(Err(cause)) => debug!("a connection did not come to TLS: {cause}"),
        Err(_) => debug!("a connection did not come to TLS in time"),
    }
}

/// Serves one connection. When `ending` turns true, it is closed after the request in progress.
async fn connection(socket: impl AsyncRead + AsyncWrite + Unpin, guest: Guest) {
    let Guest {
        peer,
        router,
        place,
        header_timeout,
        write_timeout,
        mut ending,
    } = guest;
    let is_surplus = place.is_surplus;
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        if is_surplus {
            request.extensions_mut().insert(Surplus);
        }
        router.call(request.map(Drained::new))
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .serve_connection(TokioIo::new(Patient::new(socket, write_timeout)), service);
    let mut serving = pin!(serving);
    let ended = async { ending.wait_for(|ended| *ended).await.is_ok() };
    let served = tokio::select! {
        served = serving.as_mut() => served,
        _ = ended => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(cause) = served {
        // Clients leave, stall and talk nonsense; none of it is a fault of the server.
        debug!("a connection ended early: {cause}");
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(cause) = ended
        && cause.is_panic()
    {
        error!("a connection's task panicked: {cause}");
    }
}
