//! Why a request is not answered: failures of jobs, and what only HTTP can object to.

use sconce_core::{AdapterRefusal, RegistryError, ServeError};

/// A request that gets an error instead of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Refusal {
    /// Reading, queueing or computing failed.
    Job(ServeError),
    /// The server itself cannot use the request, whatever its body says.
    BadRequest(String),
    /// The body is compressed in this way.
    Encoded(String),
    /// There is no such thing, as the text says.
    NotFound(String),
    /// The adapters stay as they are.
    Adapters(AdapterRefusal),
    /// The models stay as they are.
    Registry(RegistryError),
    /// The request brings no key that opens; the text says what to bring.
    Unauthorized(&'static str),
    /// So many ask for the same already; the text says for what.
    Busy(&'static str),
    /// The client may not do that; the text says who may.
    Forbidden(&'static str),
    /// The route exists and takes only these methods.
    Method(&'static str),
    /// DJL Serving has the route and this server has not; the text says what it would do.
    Unsupported(&'static str),
    /// The handler panicked while it worked on the request of this id; the log has the message.
    Panicked(String),
}

impl From<ServeError> for Refusal {
    fn from(error: ServeError) -> Self {
        Self::Job(error)
    }
}

impl From<AdapterRefusal> for Refusal {
    fn from(refusal: AdapterRefusal) -> Self {
        Self::Adapters(refusal)
    }
}

impl From<RegistryError> for Refusal {
    fn from(error: RegistryError) -> Self {
        Self::Registry(error)
    }
}
