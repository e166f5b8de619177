//! The bodies of `GET /models`, `GET /models/{name}` and `GET /execution-parameters`.
//!
//! Model bodies are DJL's, with the keys that mean something here: there are no worker groups to
//! count, and no address from which a model could be loaded again.

use sconce_core::{ModelStatus, Phase};
use serde_json::{Map, Value, json};

use crate::json;

/// Most models on a page, and as many as there are on one if nobody asks.
pub const LONGEST_PAGE: usize = 100;

/// `{"models": […], "nextPageToken": "…"}`: the models from `start` on, at most `limit`; the token
/// only if there are more.
pub fn list(models: &[ModelStatus], start: usize, limit: usize) -> Vec<u8> {
    let end = start
        .saturating_add(limit.min(LONGEST_PAGE))
        .min(models.len());
    let page = models.get(start..end).unwrap_or_default();
    let item = |model: &ModelStatus| {
        let status = match model.phase {
            Phase::Ready => "READY",
            Phase::Failed(_) => "FAILED",
            _ => "PENDING",
        };
        json!({"modelName": model.name, "status": status})
    };
    let mut body = Map::new();
    if end < models.len() {
        body.insert("nextPageToken".into(), end.to_string().into());
    }
    body.insert("models".into(), page.iter().map(item).collect());
    json::gson(&body)
}

/// `[{"workflowName": …, "models": [{…}]}]`: one model.
pub fn describe(model: &ModelStatus) -> Vec<u8> {
    let status = match model.phase {
        Phase::Ready => "Healthy",
        Phase::Failed(_) => "FAILED",
        _ => "PENDING",
    };
    let described = json!({
        "modelName": model.name,
        "requestInQueue": model.load.queued,
        "requestRunning": model.load.running,
        "status": status,
        "loadedAtStartup": true,
    });
    json::gson(&json!([{"workflowName": model.name, "models": [described]}]))
}

/// OpenAI's list of models; `since` is when they began to be served, in seconds since 1970.
pub fn openai_list(models: &[ModelStatus], since: u64) -> Vec<u8> {
    let data: Vec<_> = models.iter().map(|model| openai(model, since)).collect();
    json!({ "object": "list", "data": data })
        .to_string()
        .into_bytes()
}

/// One of them.
pub fn openai_one(model: &ModelStatus, since: u64) -> Vec<u8> {
    openai(model, since).to_string().into_bytes()
}

fn openai(model: &ModelStatus, since: u64) -> Value {
    json!({ "id": model.name, "object": "model", "created": since, "owned_by": "sconce" })
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
mod tests {
    use sconce_core::{Load, Progress};

    use super::*;

    fn model(name: &str, phase: Phase) -> ModelStatus {
        ModelStatus {
            name: name.into(),
            phase,
            progress: Progress::default(),
            load: Load {
                queued: 3,
                ..Load::default()
            },
            task: None,
        }
    }

    fn read(body: &[u8]) -> Value {
        serde_json::from_slice(body).unwrap()
    }

    #[test]
    fn pages_follow_each_other_until_no_token_is_left() {
        let models = [
            model("a", Phase::Ready),
            model("b", Phase::Loading),
            model("c", Phase::Failed("x".into())),
        ];
        let first = json!({
            "nextPageToken": "2",
            "models": [
                {"modelName": "a", "status": "READY"},
                {"modelName": "b", "status": "PENDING"},
            ],
        });
        assert_eq!(read(&list(&models, 0, 2)), first);
        let last = json!({"models": [{"modelName": "c", "status": "FAILED"}]});
        assert_eq!(read(&list(&models, 2, 2)), last);
        assert_eq!(read(&list(&models, 9, usize::MAX)), json!({"models": []}));
    }

    #[test]
    fn a_description_is_a_list_of_one() {
        let wanted = json!([{"workflowName": "a", "models": [{
            "modelName": "a", "requestInQueue": 3, "requestRunning": 0, "status": "Healthy",
            "loadedAtStartup": true,
        }]}]);
        assert_eq!(read(&describe(&model("a", Phase::Ready))), wanted);
    }

    #[test]
    fn batch_transform_gets_limits_that_the_platform_takes() {
        let megabyte = 1024 * 1024;
        let cases = [
            (32, 64 * megabyte, 16, 6),
            (8, 64 * megabyte, 8, 6),
            (0, 1000, 1, 1),
        ];
        for (concurrency, size, transforms, payload) in cases {
            let wanted = json!({
                "MaxConcurrentTransforms": transforms,
                "BatchStrategy": "SINGLE_RECORD",
                "MaxPayloadInMB": payload,
            });
            assert_eq!(read(&execution_parameters(concurrency, size)), wanted);
        }
    }
}
