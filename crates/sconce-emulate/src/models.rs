//! Multi-model endpoints: loads a model with `POST /models` when it is first asked for, unloads
//! the one that was asked longest ago when the container has no memory for it (507).
//!
//! A load goes on after its call has run out of time, which gets ModelNotReadyException, as the
//! guide describes it. Archives are not unpacked here: the container has to find the model.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, Method};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use http_body_util::BodyExt;
use serde_json::json;
use tracing::info;

use crate::failure::Failure;
use crate::settings::ModelFolder;
use crate::upstream::Upstream;

/// A load may take so long; a call waits no longer than its own limit.
const LOAD: Duration = Duration::from_secs(360);

type Load = Shared<BoxFuture<'static, Result<(), Failure>>>;

/// The models of the container.
#[derive(Clone)]
pub(crate) struct Models {
    upstream: Upstream,
    folder: ModelFolder,
    entries: Arc<Mutex<HashMap<String, Entry>>>,
}

struct Entry {
    load: Load,
    used: Instant,
}

impl Models {
    pub(crate) fn new(upstream: Upstream, folder: ModelFolder) -> Self {
        Self {
            upstream,
            folder,
            entries: Arc::default(),
        }
    }

    /// The path that asks a model, loaded.
    pub(crate) async fn path(&self, target: &str) -> Result<String, Failure> {
        let name = name(target);
        let url = self.url(&name, target)?;
        let load = self.entry(&name, target, url);
        if let Err(failure) = load.clone().await {
            let mut entries = self.lock();
            // Another call may have begun a new load meanwhile.
            if entries
                .get(&name)
                .is_some_and(|entry| entry.load.ptr_eq(&load))
            {
                entries.remove(&name);
            }
            return Err(failure);
        }
        Ok(format!("/models/{name}/invoke"))
    }

    /// The container does not know this model any more: the next call loads it again.
    pub(crate) fn forget(&self, target: &str) {
        self.lock().remove(&name(target));
    }

    /// The load of a model, begun now unless it was before.
    fn entry(&self, name: &str, target: &str, url: String) -> Load {
        let mut entries = self.lock();
        let entry = entries.entry(name.to_owned()).or_insert_with(|| {
            let (models, name) = (self.clone(), name.to_owned());
            let target = target.to_owned();
            let task = tokio::spawn(async move { models.load(&name, &target, &url).await });
            let ended = task.map(|ended| {
                ended.unwrap_or_else(|cause| Err(Failure::Internal(cause.to_string())))
            });
            Entry {
                load: ended.boxed().shared(),
                used: Instant::now(),
            }
        });
        entry.used = Instant::now();
        entry.load.clone()
    }

    async fn load(&self, name: &str, target: &str, url: &str) -> Result<(), Failure> {
        let loading = async {
            loop {
                let body = json!({"model_name": name, "url": url});
                let (status, text) = self.ask(Method::POST, "/models", body.to_string()).await?;
                match status {
                    // 409: it was loaded before this process began.
                    200..=299 | 409 => {
                        info!("model {target} is loaded as {name} from {url}");
                        return Ok(());
                    }
                    507 if self.unload_another(name).await? => {}
                    status => {
                        return Err(Failure::Model {
                            status,
                            message: text,
                        });
                    }
                }
            }
        };
        tokio::time::timeout(LOAD, loading)
            .await
            .unwrap_or_else(|_| Err(Failure::timed_out()))
    }

    /// Unloads the model that was used longest ago; false if there is none but this.
    async fn unload_another(&self, name: &str) -> Result<bool, Failure> {
        let oldest = {
            let mut entries = self.lock();
            let others = entries.iter().filter(|(other, entry)| {
                *other != name && entry.load.peek().is_some_and(Result::is_ok)
            });
            let oldest = others
                .min_by_key(|(_, entry)| entry.used)
                .map(|(name, _)| name.clone());
            oldest.inspect(|oldest| {
                entries.remove(oldest);
            })
        };
        let Some(oldest) = oldest else {
            return Ok(false);
        };
        info!("the container has no memory for {name}: unloading {oldest}");
        let path = format!("/models/{oldest}");
        let (status, message) = self.ask(Method::DELETE, &path, String::new()).await?;
        match status {
            200..=299 | 404 => Ok(true),
            status => Err(Failure::Model { status, message }),
        }
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: String,
    ) -> Result<(u16, String), Failure> {
        let json = HeaderValue::from_static("application/json");
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, json)]);
        let internal = |cause: String| Failure::Internal(cause);
        let sent = self.upstream.send(method, path, headers, Bytes::from(body));
        let answer = sent.await.map_err(|lost| internal(lost.to_string()))?;
        let status = answer.parts.status.as_u16();
        let body = answer.body.collect().await;
        let body = body.map_err(|cause| internal(cause.to_string()))?;
        Ok((
            status,
            String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        ))
    }

    /// Where the container finds the model.
    fn url(&self, name: &str, target: &str) -> Result<String, Failure> {
        let ModelFolder::Below(folder) = &self.folder else {
            return Ok(format!("/opt/ml/models/{name}/model"));
        };
        let file = target.trim_start_matches('/').trim_end_matches(".tar.gz");
        if file.is_empty() || file.split('/').any(|part| part == "..") {
            return Err(Failure::Validation(format!(
                "TargetModel {target} is no path below {folder}"
            )));
        }
        Ok(format!("{}/{file}", folder.trim_end_matches('/')))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name under which the container knows a model: opaque, the same for the same target.
fn name(target: &str) -> String {
    let mut hasher = DefaultHasher::new();
    target.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_lie_where_the_platform_puts_them_or_below_a_folder() {
        let upstream: Upstream = "http://127.0.0.1:1".parse().unwrap();
        let models = |folder| Models::new(upstream.clone(), folder);
        let url = models(ModelFolder::Platform).url("a1", "m.tar.gz").unwrap();
        assert_eq!(url, "/opt/ml/models/a1/model");
        let below = models(ModelFolder::Below("/srv/models/".into()));
        assert_eq!(below.url("a1", "/x/m.tar.gz").unwrap(), "/srv/models/x/m");
        for bad in ["../etc", "x/../../y", "/", ".tar.gz"] {
            assert!(below.url("a1", bad).is_err(), "{bad}");
        }
        assert_ne!(name("a"), name("b"));
    }
}
