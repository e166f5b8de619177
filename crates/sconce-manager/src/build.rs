//! From settings to a running backend.

use std::sync::Arc;

use sconce_config::ModelSettings;
use sconce_core::Backend;
use sconce_engine::{Engine, EngineSettings, Observer};

use crate::error::ManagerError;
use crate::store;

/// Fetches and loads a model; the observer is told of each phase.
pub(crate) fn backend(
    settings: &ModelSettings,
    observer: Arc<Observer>,
) -> Result<Arc<dyn Backend>, ManagerError> {
    let dir = store::directory(&settings.source, &*observer)?;
    let engine = Engine::start(engine_settings(settings, dir), observer)?;
    Ok(Arc::new(engine))
}
