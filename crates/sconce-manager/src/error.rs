//! Why a model cannot be served.

use sconce_engine::EngineError;
use thiserror::Error;

/// The first cause that keeps a model from being ready.
#[derive(Debug, Error)]
pub enum ManagerError {
    /// The engine does not start.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The hub does not give what is asked for.
    #[error(
        "option.model_id = {id} (revision {revision}): {what}: {cause}; check the name, \
         HF_TOKEN and HF_ENDPOINT, or put the files into a directory and serve that"
    )]
    Hub {
        /// Name on the hub.
        id: String,
        /// Branch, tag or commit.
        revision: String,
        /// What was being done.
        what: String,
        /// The hub's or the network's answer.
        cause: String,
    },
    /// The repository on the hub holds no weights that can be read.
    #[error(
        "option.model_id = {id}: the repository has neither safetensors nor pytorch_model*.bin \
         files; it has: {files}"
    )]
    NoWeights {
        /// Name on the hub.
        id: String,
        /// Its files, shortened.
        files: String,
    },
    /// A library that loads failed in a way that it should not.
    #[error("loading panicked; the lines above say where")]
    Panic,
}
