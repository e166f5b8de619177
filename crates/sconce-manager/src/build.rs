//! From settings to a running backend.

use std::path::PathBuf;
use std::sync::Arc;

use sconce_config::{Dtype, ModelSettings};
use sconce_core::Backend;
use sconce_engine::{Engine, EngineSettings, Observer, StoredDtype};

use crate::error::ManagerError;
use crate::store;
use crate::task;

/// Fetches and loads a model; the observer is told of each phase.
pub(crate) fn backend(
    settings: &ModelSettings,
    observer: Arc<Observer>,
) -> Result<Arc<dyn Backend>, ManagerError> {
    let dir = store::directory(&settings.source, &*observer)?;
    task::require_served(&dir, task::named(settings))?;
    let engine = Engine::start(engine_settings(settings, dir), observer)?;
    Ok(Arc::new(engine))
}

pub(crate) fn engine_settings(settings: &ModelSettings, dir: PathBuf) -> EngineSettings {
    EngineSettings {
        name: settings.name.clone(),
        dir,
        dtype: stored_dtype(settings.dtype),
        threads: settings.threads,
        ranks: settings.ranks,
        max_model_len: settings.max_model_len,
        max_rows: settings.max_rolling_batch_size,
        max_step_tokens: settings.max_batched_tokens,
        prefix_sharing: settings.prefix_caching,
        model_sampling: settings.model_sampling,
        kv_cache_bytes: settings.kv_cache_bytes,
        queue: settings.job_queue_size,
        predict_timeout: settings.predict_timeout.as_secs(),
    }
}

fn stored_dtype(dtype: Dtype) -> Option<StoredDtype> {
    match dtype {
        Dtype::Auto => None,
        Dtype::F32 => Some(StoredDtype::F32),
        Dtype::F16 => Some(StoredDtype::F16),
        Dtype::Bf16 => Some(StoredDtype::BF16),
    }
}
