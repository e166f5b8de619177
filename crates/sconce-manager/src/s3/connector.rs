//! Carries the requests of `object_store` over the HTTP client that the hub is fetched with, so
//! that the program has one HTTP client and one TLS library.
//!
//! Bodies are read whole: requests are for a listing or for a part of an object. What S3 says of
//! a refusal is kept as a value, which the library would only keep as text.

use std::error::Error as _;
use std::time::Duration;

use async_trait::async_trait;
use object_store::ClientConfigKey;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use thiserror::Error;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, http};

/// Longest wait for the beginning of an answer.
const ANSWER: Duration = Duration::from_secs(20);
/// Longest wait for the next bytes of an answer.
const READ: Duration = Duration::from_secs(20);
/// Longest wait for all bytes of an answer, at most those of one part of an object.
const BODY: Duration = Duration::from_secs(300);

/// Why a request was refused, in the service's own words.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{code} (status {status}): {message}")]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    /// Such as `NoSuchBucket`.
    pub(crate) code: String,
    pub(crate) message: String,
    /// Where the bucket is, if the service says so.
    pub(crate) region: Option<String>,
}

impl Refusal {
    /// The refusal at the bottom of an error of the library, if there is one.
    pub(crate) fn within(error: &object_store::Error) -> Option<&Self> {
        let mut cause = error.source();
        while let Some(error) = cause {
            if let Some(refusal) = error.downcast_ref() {
                return Some(refusal);
            }
            cause = error.source();
        }
        None
    }

    /// The refusal that a response is, if it has the form of S3's.
    fn of(response: &http::Response<Vec<u8>>) -> Option<Self> {
        let status = response.status().as_u16();
        if response.status().is_success() {
            return None;
        }
        let body = String::from_utf8_lossy(response.body());
        let field = |name: &str| {
            let (_, rest) = body.split_once(&format!("<{name}>"))?;
            let (text, _) = rest.split_once(&format!("</{name}>"))?;
            Some(text.trim().to_owned())
        };
        let header = response.headers().get("x-amz-bucket-region");
        let region = header.and_then(|region| Some(region.to_str().ok()?.to_owned()));
        body.contains("<Error>").then(|| Self {
            status,
            code: field("Code").unwrap_or_else(|| "an error without a code".into()),
            message: field("Message").unwrap_or_default(),
            region: region.or_else(|| field("Region")),
        })
    }

    /// Whether it may be over soon.
    pub(crate) fn is_passing(&self) -> bool {
        let is_busy = matches!(self.code.as_str(), "SlowDown" | "RequestTimeout");
        is_busy || matches!(self.status, 408 | 429 | 500..)
    }
}

/// Makes clients; each has its own time to connect.
#[derive(Debug, Default)]
pub(crate) struct Connector {
    /// Trusted instead of the public ones; empty: those.
    certificates: Vec<Certificate<'static>>,
}

impl Connector {
    /// Trusts the certificates of a file in PEM form only.
    pub(crate) fn trusting(pem: &[u8]) -> Result<Self, ureq::Error> {
        let mut certificates = Vec::new();
        for item in parse_pem(pem) {
            if let PemItem::Certificate(certificate) = item? {
                certificates.push(certificate);
            }
        }
        Ok(Self { certificates })
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let wanted = options.get_config_value(&ClientConfigKey::ConnectTimeout);
        let connect = wanted.and_then(|time| humantime::parse_duration(&time).ok());
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            // Where a redirect leads, the signature is wrong: the refusal tells the region.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("sconce/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(connect)
            .timeout_recv_response(Some(ANSWER))
            .timeout_per_read(Some(READ))
            .timeout_recv_body(Some(BODY));
        // Only what gives credentials to this machine may go without TLS, by the library's will:
        // it is next to the machine, and no proxy leads there.
        let is_local = options.get_config_value(&ClientConfigKey::AllowHttp);
        if is_local.as_deref() == Some("true") {
            config = config.proxy(None);
        }
        if !self.certificates.is_empty() {
            let roots = RootCerts::new_with_certs(&self.certificates);
            config = config.tls_config(TlsConfig::builder().root_certs(roots).build());
        }
        Ok(HttpClient::new(Client(config.build().into())))
    }
}

#[derive(Debug)]
struct Client(Agent);

#[async_trait]
impl HttpService for Client {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let agent = self.0.clone();
        let (head, body) = request.into_parts();
        let body = body.as_bytes().cloned().unwrap_or_default();
        let answer = tokio::task::spawn_blocking(move || {
            if body.is_empty() {
                exchange(&agent, http::Request::from_parts(head, ()))
            } else {
                exchange(&agent, http::Request::from_parts(head, &body[..]))
            }
        });
        let answer = answer
            .await
            .map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        let response = answer.map_err(|error| HttpError::new(kind(&error), error))?;
        match Refusal::of(&response) {
            // The library asks again after errors of the kind Request, with growing pauses.
            Some(refusal) if refusal.is_passing() => {
                Err(HttpError::new(HttpErrorKind::Request, refusal))
            }
            Some(refusal) => Err(HttpError::new(HttpErrorKind::Unknown, refusal)),
            None => Ok(response.map(Into::into)),
        }
    }
}

fn exchange<B: ureq::AsSendBody>(
    agent: &Agent,
    request: http::Request<B>,
) -> Result<http::Response<Vec<u8>>, ureq::Error> {
    let (head, mut body) = agent.run(request)?.into_parts();
    let body = body.with_config().limit(u64::MAX).read_to_vec()?;
    Ok(http::Response::from_parts(head, body))
}

/// What the library makes of an error: it asks again unless it is unknown.
fn kind(error: &ureq::Error) -> HttpErrorKind {
    match error {
        ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve)
        | ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed => HttpErrorKind::Connect,
        ureq::Error::Timeout(_) => HttpErrorKind::Timeout,
        ureq::Error::Io(cause) if cause.kind() == std::io::ErrorKind::ConnectionRefused => {
            HttpErrorKind::Connect
        }
        ureq::Error::Io(_) | ureq::Error::Protocol(_) => HttpErrorKind::Interrupted,
        _ => HttpErrorKind::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, region: Option<&str>, body: &str) -> Option<Refusal> {
        let mut response = http::Response::builder().status(status);
        if let Some(region) = region {
            response = response.header("x-amz-bucket-region", region);
        }
        Refusal::of(&response.body(body.as_bytes().to_vec()).unwrap())
    }

    #[test]
    fn refusals_of_s3_are_read() {
        let moved = "<?xml version=\"1.0\"?>\n<Error><Code>AuthorizationHeaderMalformed</Code>\
                     <Message>the region 'a' is wrong</Message><Region>b</Region></Error>";
        let found = refusal(400, None, moved).unwrap();
        assert_eq!(found.code, "AuthorizationHeaderMalformed");
        assert_eq!(found.message, "the region 'a' is wrong");
        assert_eq!(found.region.as_deref(), Some("b"));
        assert!(!found.is_passing());
        let found = refusal(
            301,
            Some("c"),
            "<Error><Code>PermanentRedirect</Code></Error>",
        );
        assert_eq!(found.unwrap().region.as_deref(), Some("c"));
        let busy = refusal(503, None, "<Error><Code>SlowDown</Code></Error>").unwrap();
        assert!(busy.is_passing());
    }

    #[test]
    fn answers_of_others_are_left_to_the_library() {
        assert_eq!(refusal(200, None, "<Error><Code>x</Code></Error>"), None);
        assert_eq!(refusal(404, None, "<html>Not Found</html>"), None);
    }
}
