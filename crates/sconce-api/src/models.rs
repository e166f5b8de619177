//! The bodies of the routes that manage models, in DJL Serving's shape, and of
//! `GET /execution-parameters`.

use sconce_core::{ModelStatus, Phase, Registration, Scaled, Worker};
use serde_json::{Map, Value, json};

use crate::json;

/// Most models on a page, and as many as there are on one if nobody asks.
pub const LONGEST_PAGE: usize = 100;

/// What is asked of the models as a whole: DJL Serving calls a model that stands alone a workflow
/// too, and answers in the words of the route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noun {
    /// `/models`.
    Model,
    /// `/workflows`.
    Workflow,
}

/// `{"models": […], "nextPageToken": "…"}`: the models from `start` on, at most `limit`; the token
/// only if there are more. DJL Serving has the same for workflows, with other names.
pub fn list(noun: Noun, models: &[ModelStatus], start: usize, limit: usize) -> Vec<u8> {
    let end = start
        .saturating_add(limit.min(LONGEST_PAGE))
        .min(models.len());
    let page = models.get(start..end).unwrap_or_default();
    let mut body = Map::new();
    if end < models.len() {
        body.insert("nextPageToken".into(), end.to_string().into());
    }
    let (key, item): (_, fn(&ModelStatus) -> Value) = match noun {
        Noun::Model => ("models", model_item),
        Noun::Workflow => ("workflows", workflow_item),
    };
    body.insert(key.into(), page.iter().map(item).collect());
    json::gson(&body)
}

fn model_item(model: &ModelStatus) -> Value {
    let status = match model.phase {
        Phase::Ready | Phase::Stalled(_) => "READY",
        Phase::Failed(_) => "FAILED",
        Phase::Unloading => "UNLOADING",
        _ => "PENDING",
    };
    let mut item = Map::new();
    item.insert("modelName".into(), json!(model.name));
    if let Some(version) = &model.version {
        item.insert("version".into(), json!(version));
    }
    item.insert("modelUrl".into(), json!(model.url));
    item.insert("status".into(), json!(status));
    item.into()
}

fn workflow_item(model: &ModelStatus) -> Value {
    match &model.version {
        Some(version) => json!({"workflowName": model.name, "version": version}),
        None => json!({"workflowName": model.name}),
    }
}

/// `{"live": true}`.
pub fn live() -> Vec<u8> {
    json::gson(&json!({"live": true}))
}

/// `{"ready": …}`.
pub fn ready(ready: bool) -> Vec<u8> {
    json::gson(&json!({"ready": ready}))
}

/// `{"name": …, "ready": …}`, with `phase` where it is not, and how long that may still take if it is known.
pub fn model_ready(model: &ModelStatus) -> Vec<u8> {
    let mut body = Map::new();
    body.insert("name".into(), json!(model.name));
    if let Some(version) = &model.version {
        body.insert("version".into(), json!(version));
    }
    body.insert("ready".into(), json!(model.is_ready()));
    if !model.is_ready() {
        body.insert("phase".into(), json!(model.phase.to_string()));
    }
    if let Some(left) = model.times.left {
        body.insert("eta_seconds".into(), json!(left.as_secs()));
    }
    json::gson(&body)
}

/// `[{"workflowName": …, "models": [{…}]}]`: one entry for each of these versions of a model.
pub fn describe(versions: &[ModelStatus]) -> Vec<u8> {
    let described: Vec<Value> = versions.iter().map(description).collect();
    json::gson(&described)
}

fn description(model: &ModelStatus) -> Value {
    let status = match &model.phase {
        Phase::Ready if model.lacks_workers() => "Unhealthy",
        Phase::Stalled(_) => "Unhealthy",
        Phase::Ready => "Healthy",
        Phase::Failed(_) => "FAILED",
        Phase::Unloading => "UNLOADING",
        _ => "PENDING",
    };
    let workers: Vec<Value> = model.crew.workers.iter().map(worker).collect();
    let mut described = json!({
        "modelName": model.name,
        "modelUrl": model.url,
        "batchSize": model.batching.size,
        "maxBatchDelayMillis": model.batching.max_delay.as_millis() as u64,
        "maxIdleSeconds": model.batching.max_idle.as_secs(),
        "queueSize": model.batching.queue,
        "requestInQueue": model.load.queued,
        "requestRunning": model.load.running,
        "status": status,
        "loadedAtStartup": model.at_startup,
        "workerGroups": [{
            "device": {"deviceType": "cpu", "deviceId": -1},
            "minWorkers": model.crew.min,
            "maxWorkers": model.crew.max,
            "workers": workers,
        }],
    });
    if let Some(task) = model.task {
        described["task"] = json!(task.name());
    }
    if let Phase::Failed(cause) | Phase::Stalled(cause) = &model.phase {
        described["cause"] = json!(cause);
    }
    let mut workflow = Map::new();
    workflow.insert("workflowName".into(), json!(model.name));
    if let Some(version) = &model.version {
        workflow.insert("version".into(), json!(version));
    }
    workflow.insert("models".into(), json!([described]));
    workflow.into()
}

fn worker(worker: &Worker) -> Value {
    let status = match worker.is_ready {
        true => "READY",
        false => "PENDING",
    };
    let since = humantime::format_rfc3339_millis(worker.since).to_string();
    json!({"id": worker.id, "startTime": since, "status": status})
}

/// A number among parameters; -1 is how DJL Serving spells "not said".
///
/// # Errors
/// What it must be.
pub fn number(text: &str) -> Result<Option<usize>, &'static str> {
    match text {
        "" | "-1" => Ok(None),
        digits => digits
            .parse()
            .map(Some)
            .map_err(|_| "it must be a whole number, or -1 for what is configured"),
    }
}

/// What a model is registered with: the members of a JSON body, or the parameters of a query. The
/// second value tells whether the answer waits for the model (`synchronous`).
///
/// # Errors
/// Name, value and problem of a parameter that cannot be used; unknown ones are among them.
pub fn registration(
    parameters: &[(String, String)],
) -> Result<(Registration, bool), (String, String, &'static str)> {
    let mut wanted = Registration::default();
    let mut synchronous = true;
    for (name, value) in parameters {
        let wrong = |problem| (name.clone(), value.clone(), problem);
        let given = Some(value.clone()).filter(|value| !value.is_empty());
        let number = || number(value).map_err(wrong);
        match name.as_str() {
            "url" => wanted.url.clone_from(value),
            "model_name" => wanted.name = given,
            "model_version" => wanted.version = given,
            "engine" => wanted.engine = given,
            "device" => wanted.device = given,
            "batch_size" => wanted.batch_size = number()?,
            "job_queue_size" => wanted.job_queue_size = number()?,
            "max_batch_delay" => wanted.max_batch_delay = number()?,
            "max_idle_time" => wanted.max_idle_time = number()?,
            "min_worker" => wanted.min_workers = number()?,
            "max_worker" => wanted.max_workers = number()?,
            "synchronous" => {
                synchronous = flag(value).ok_or_else(|| wrong("it must be true or false"))?
            }
            _ => return Err(wrong("no such parameter is known here; remove it")),
        }
    }
    Ok((wanted, synchronous))
}

fn flag(value: &str) -> Option<bool> {
    match value {
        _ if value.eq_ignore_ascii_case("true") => Some(true),
        _ if value.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// The members of a JSON body as parameters; numbers and truths may be so or be texts.
///
/// # Errors
/// What is wrong with the body.
pub fn parameters(body: &[u8]) -> Result<Vec<(String, String)>, String> {
    let value: Value =
        serde_json::from_slice(body).map_err(|error| format!("the body is no JSON: {error}"))?;
    let Value::Object(members) = value else {
        return Err("the body must be an object such as {\"model_name\": …, \"url\": …}".into());
    };
    let text = |(name, value): (String, Value)| match value {
        Value::String(text) => Ok((name, text)),
        Value::Number(_) | Value::Bool(_) => Ok((name, value.to_string())),
        Value::Null => Ok((name, String::new())),
        Value::Array(_) | Value::Object(_) => Err(format!(
            "Parameter {name} must be a text, a number or a truth"
        )),
    };
    members.into_iter().map(text).collect()
}

/// The answer to a change: `{"status": "…"}`.
pub fn status(text: &str) -> Vec<u8> {
    json::gson(&json!({ "status": text }))
}

/// A model that answers from now on, or will.
pub fn registered(name: &str, is_ready: bool) -> Vec<u8> {
    let what = match is_ready {
        true => "registered",
        false => "registration scheduled",
    };
    status(&format!("Model \"{name}\" {what}."))
}

/// A model with these workers from now on, one entry for each of its versions.
pub fn scaled(name: &str, versions: &[Scaled]) -> Vec<u8> {
    let sentence = |scaled: &Scaled| {
        format!(
            "Workflow \"{name}\" worker scaled. New Worker configuration min workers:{} max \
             workers:{}",
            scaled.min, scaled.max
        )
    };
    let sentences: Vec<_> = versions.iter().map(sentence).collect();
    status(&sentences.join("\n"))
}

/// A model that is gone.
pub fn unregistered(name: &str) -> Vec<u8> {
    status(&format!("Model or workflow \"{name}\" unregistered"))
}

/// What OpenAI's clients ask by a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The name.
    pub id: String,
    /// The model that it changes, if it is an adapter.
    pub parent: Option<String>,
}

/// OpenAI's list of models; `since` is when they began to be served, in seconds since 1970.
pub fn openai_list(models: &[Named], since: u64) -> Vec<u8> {
    let data: Vec<_> = models.iter().map(|model| openai(model, since)).collect();
    json!({ "object": "list", "data": data })
        .to_string()
        .into_bytes()
}

/// One of them.
pub fn openai_one(model: &Named, since: u64) -> Vec<u8> {
    openai(model, since).to_string().into_bytes()
}

fn openai(model: &Named, since: u64) -> Value {
    let mut described =
        json!({ "id": model.id, "object": "model", "created": since, "owned_by": "sconce" });
    if let Some(parent) = &model.parent {
        described["parent"] = json!(parent);
    }
    described
}

/// What SageMaker's batch transform may send: one request in each body, so many at once, each at
/// most so large. `concurrency` and `max_request_size` (in bytes) are the server's limits; the
/// platform wants the product of the two below 100 MB, and prompts are small.
pub fn execution_parameters(concurrency: usize, max_request_size: usize) -> Vec<u8> {
    const MEGABYTE: usize = 1024 * 1024;
    const USUAL: usize = 6;
    const PRODUCT: usize = 100;
    let payload = (max_request_size / MEGABYTE).clamp(1, USUAL);
    let body: Value = json!({
        "MaxConcurrentTransforms": concurrency.clamp(1, PRODUCT / payload),
        "BatchStrategy": "SINGLE_RECORD",
        "MaxPayloadInMB": payload,
    });
    json::gson(&body)
}

#[cfg(test)]
mod tests;
