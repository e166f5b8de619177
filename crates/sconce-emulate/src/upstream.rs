//! The container: where it is, and one HTTP/1.1 exchange with it.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::http::header::HOST;
use axum::http::response::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, Request, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tracing::{debug, warn};

/// So long the platform waits until a connection is accepted.
const ACCEPT: Duration = Duration::from_millis(250);
/// So long this stand-in waits: machines for development are slower, and a warning does.
const PATIENCE: Duration = Duration::from_secs(2);

/// The address of a container, `http://HOST[:PORT]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    host: String,
    port: u16,
    authority: HeaderValue,
}

/// Why an address cannot be that of a container.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BadUpstream {
    /// It is no URL.
    #[error("{0:?} is no URL: {1}; write http://HOST:PORT, for example http://127.0.0.1:8080")]
    NotAUrl(String, String),
    /// It has another scheme, or none.
    #[error("{0:?} does not begin with http://: SageMaker speaks plain HTTP to containers")]
    Scheme(String),
    /// It has more than host and port.
    #[error("{0:?} has {1}: name host and port only, the paths are those of the contract")]
    TooMuch(String, &'static str),
}

/// How an exchange failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Lost {
    /// There was no connection.
    #[error("cannot connect to {0}: {1}")]
    Unreachable(String, String),
    /// The connection broke before the answer began.
    #[error("the container at {0} closed the connection without an answer: {1}")]
    Unanswered(String, String),
}

/// An answer whose body is still to come. Dropping it closes the connection, which tells the
/// container that nobody listens any more.
pub(crate) struct Answer {
    pub(crate) parts: Parts,
    pub(crate) body: Incoming,
    pub(crate) connection: Connection,
}

/// The task that moves the bytes of one connection; it ends with this.
pub(crate) struct Connection(#[expect(dead_code, reason = "it is held to be dropped")] JoinSet<()>);

impl FromStr for Upstream {
    type Err = BadUpstream;

    fn from_str(text: &str) -> Result<Self, BadUpstream> {
        let too_much = |what| Err(BadUpstream::TooMuch(text.into(), what));
        let no_url = |cause: String| BadUpstream::NotAUrl(text.into(), cause);
        let Some((scheme, _)) = text.split_once("://") else {
            return Err(BadUpstream::Scheme(text.into()));
        };
        if scheme != "http" {
            return Err(BadUpstream::Scheme(text.into()));
        }
        let uri: Uri = text.parse().map_err(|cause| no_url(format!("{cause}")))?;
        let Some(authority) = uri.authority() else {
            return Err(no_url("it names no host".into()));
        };
        if authority.as_str().contains('@') {
            return too_much("a user");
        }
        if uri.query().is_some() || uri.path() != "/" || text.contains('#') {
            return too_much("a path or query");
        }
        let port = match authority.as_str()[authority.host().len()..].strip_prefix(':') {
            None => 80,
            Some(port) => port
                .parse()
                .ok()
                .filter(|port| *port > 0)
                .ok_or_else(|| no_url(format!("{port:?} is no port from 1 to 65535")))?,
        };
        if authority.host().is_empty() {
            return Err(no_url("it names no host".into()));
        }
        let shown = HeaderValue::from_str(authority.as_str());
        Ok(Self {
            host: authority.host().into(),
            port,
            authority: shown.map_err(|cause| no_url(cause.to_string()))?,
        })
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}", self.host, self.port)
    }
}

impl Upstream {
    /// Sends one request over a connection of its own and waits for the head of the answer.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Answer, Lost> {
        let socket = self.connect().await?;
        let unanswered = |cause: hyper::Error| Lost::Unanswered(self.to_string(), chain(&cause));
        let (mut sender, connection) = http1::handshake(TokioIo::new(socket))
            .await
            .map_err(unanswered)?;
        let mut task = JoinSet::new();
        task.spawn(async move {
            if let Err(cause) = connection.await {
                debug!("a connection to the container ended early: {cause}");
            }
        });
        let mut request = Request::new(Body::from(body));
        *request.method_mut() = method;
        *request.uri_mut() = Uri::from_str(path).map_err(|cause| {
            // Paths are made here from parts that were checked.
            Lost::Unanswered(self.to_string(), format!("{path:?} is no path: {cause}"))
        })?;
        *request.headers_mut() = headers;
        request.headers_mut().insert(HOST, self.authority.clone());
        let answer = sender.send_request(request).await.map_err(unanswered)?;
        let (parts, body) = answer.into_parts();
        Ok(Answer {
            parts,
            body,
            connection: Connection(task),
        })
    }

    async fn connect(&self) -> Result<TcpStream, Lost> {
        let began = Instant::now();
        let unreachable = |cause: String| Lost::Unreachable(self.to_string(), cause);
        // Brackets of an IPv6 address are part of the host here, as in the URL.
        let address = format!("{}:{}", self.host, self.port);
        let socket = tokio::time::timeout(PATIENCE, TcpStream::connect(address))
            .await
            .map_err(|_| unreachable(format!("no connection within {} s", PATIENCE.as_secs())))?
            .map_err(|cause| unreachable(cause.to_string()))?;
        let took = began.elapsed();
        if took > ACCEPT {
            warn!(
                "the container took {} ms to accept a connection; SageMaker waits for {} ms",
                took.as_millis(),
                ACCEPT.as_millis()
            );
        }
        if let Err(cause) = socket.set_nodelay(true) {
            debug!("TCP_NODELAY is not available: {cause}");
        }
        Ok(socket)
    }
}

/// An error with its causes: hyper's own text names only the stage.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_containers_are_understood() {
        for (text, shown) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://localhost:8080/", "http://localhost:8080"),
            ("http://box", "http://box:80"),
            ("http://[::1]:9000", "http://[::1]:9000"),
        ] {
            assert_eq!(text.parse::<Upstream>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn other_addresses_are_refused_with_what_is_wrong() {
        for (text, part) in [
            ("localhost:8080", "does not begin with http://"),
            ("127.0.0.1:8080", "does not begin with http://"),
            ("https://127.0.0.1:8080", "plain HTTP"),
            ("ftp://x", "does not begin with http://"),
            ("", "does not begin with http://"),
            ("http://", "is no URL"),
            ("http://:8080", "is no URL"),
            ("http://a b", "is no URL"),
            ("http://x:0", "no port from 1 to 65535"),
            ("http://x:70000", "is no URL"),
            ("http://x:", "no port"),
            ("http://u:p@x", "a user"),
            ("http://x/invocations", "a path or query"),
            ("http://x?y", "a path or query"),
        ] {
            let error = text.parse::<Upstream>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
