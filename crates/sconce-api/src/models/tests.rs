//! Bodies of the management of models, as clients read them.

use std::time::{Duration, UNIX_EPOCH};

use sconce_core::{Batching, Crew, Load};

use super::*;

fn model(name: &str, phase: Phase) -> ModelStatus {
    ModelStatus {
        name: name.into(),
        url: format!("file:/models/{name}"),
        phase,
        at_startup: true,
        load: Load {
            queued: 3,
            ..Load::default()
        },
        ..ModelStatus::default()
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
        ModelStatus {
            version: Some("v1".into()),
            ..model("c", Phase::Failed("x".into()))
        },
    ];
    let page = |noun, start, limit| read(&list(noun, &models, start, limit));
    let item = |name, status| json!({"modelName": name, "modelUrl": format!("file:/models/{name}"), "status": status});
    let first = json!({"nextPageToken": "2", "models": [item("a", "READY"), item("b", "PENDING")]});
    assert_eq!(page(Noun::Model, 0, 2), first);
    let mut third = item("c", "FAILED");
    third["version"] = json!("v1");
    assert_eq!(page(Noun::Model, 2, 2), json!({"models": [third]}));
    assert_eq!(page(Noun::Model, 9, usize::MAX), json!({"models": []}));
    let workflows = json!({"nextPageToken": "1", "workflows": [{"workflowName": "a"}]});
    assert_eq!(page(Noun::Workflow, 0, 1), workflows);
    let last = json!({"workflows": [{"workflowName": "c", "version": "v1"}]});
    assert_eq!(page(Noun::Workflow, 2, 1), last);
}

#[test]
fn a_description_has_an_entry_for_each_version() {
    let since = UNIX_EPOCH + Duration::from_millis(1_795_423_845_702);
    let full = ModelStatus {
        crew: Crew {
            min: 1,
            max: 2,
            workers: vec![Worker {
                id: 1,
                since,
                is_ready: true,
            }],
        },
        batching: Batching {
            size: 1,
            max_delay: Duration::from_millis(100),
            max_idle: Duration::from_secs(60),
            queue: 1000,
        },
        ..model("slow", Phase::Ready)
    };
    let second = ModelStatus {
        version: Some("2".into()),
        phase: Phase::Failed("no weights".into()),
        ..full.clone()
    };
    let described = read(&describe(&[full, second]));
    let wanted = json!({"workflowName": "slow", "models": [{
        "modelName": "slow", "modelUrl": "file:/models/slow", "batchSize": 1, "maxBatchDelayMillis": 100,
        "maxIdleSeconds": 60, "queueSize": 1000, "requestInQueue": 3, "requestRunning": 0, "status": "Healthy",
        "loadedAtStartup": true,
        "workerGroups": [{"device": {"deviceType": "cpu", "deviceId": -1}, "minWorkers": 1, "maxWorkers": 2,
          "workers": [{"id": 1, "startTime": "2026-11-23T08:50:45.702Z", "status": "READY"}]}]}]});
    assert_eq!(described[0], wanted);
    assert_eq!(described[1]["version"], "2");
    assert_eq!(described[1]["models"][0]["status"], "FAILED");
    assert_eq!(described[1]["models"][0]["cause"], "no weights");
}

#[test]
fn missing_workers_are_told() {
    let crew = Crew {
        min: 2,
        max: 2,
        workers: vec![],
    };
    let short = ModelStatus {
        crew,
        ..model("m", Phase::Ready)
    };
    let described = read(&describe(&[short]));
    assert_eq!(described[0]["models"][0]["status"], "Unhealthy");
}

#[test]
fn a_registration_is_read_from_a_query_or_from_json() {
    let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()));
        pairs.collect()
    };
    let query = pairs(&[
        ("url", "file:/m"),
        ("model_name", "m"),
        ("batch_size", "-1"),
        ("max_worker", "2"),
        ("synchronous", "False"),
    ]);
    let json = br#"{"url": "file:/m", "model_name": "m", "batch_size": -1, "max_worker": 2, "synchronous": false}"#;
    assert_eq!(parameters(json).unwrap(), {
        let mut same = query.clone();
        same[4].1 = "false".into();
        same
    });
    let (wanted, synchronous) = registration(&query).unwrap();
    assert!(!synchronous);
    let expected = Registration {
        url: "file:/m".into(),
        name: Some("m".into()),
        max_workers: Some(2),
        ..Registration::default()
    };
    assert_eq!(wanted, expected);
    for (name, value, problem) in [
        ("min_worker", "two", "a whole number"),
        ("max_worker", "-2", "a whole number"),
        ("synchronous", "maybe", "true or false"),
        ("modelname", "m", "no such parameter"),
    ] {
        let (told, said, why) = registration(&pairs(&[(name, value)])).unwrap_err();
        assert_eq!((told.as_str(), said.as_str()), (name, value));
        assert!(why.contains(problem), "{why}");
    }
    for (body, problem) in [
        (&b"{"[..], "no JSON"),
        (b"[]", "must be an object"),
        (br#"{"url": []}"#, "Parameter url must be a text"),
    ] {
        let told = parameters(body).unwrap_err();
        assert!(told.contains(problem), "{told}");
    }
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
