//! Why a model cannot be served.

use sconce_engine::EngineError;
use thiserror::Error;

use crate::hub_error::HubError;
use crate::s3::S3Error;

/// The first cause that keeps a model from being ready.
#[derive(Debug, Error)]
pub enum ManagerError {
    /// The engine does not start.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The hub does not give what is asked for.
    #[error(transparent)]
    Hub(#[from] Box<HubError>),
    /// S3 does not give what is asked for.
    #[error(transparent)]
    S3(#[from] Box<S3Error>),
    /// A library that loads failed in a way that it should not.
    #[error("loading panicked; the lines above say where")]
    Panic,
}
