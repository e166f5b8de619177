//! TGI's routes beside those of DJL Serving.

use std::sync::Arc;

use sconce_core::{Dialect, Manner, Phase, ServeError};
use sconce_testkit::fakes::{FakeGateway, done, token};
use serde_json::{Value, json};

use super::*;

fn start(gateway: FakeGateway) -> (Arc<FakeGateway>, Server) {
    let manner = Manner {
        model_id: Some("org/name".into()),
        max_total_tokens: Some(64),
        ..Manner::default()
    };
    let gateway = Arc::new(gateway.spoken_to("test", manner));
    let server = Server::start(&gateway, HttpSettings::default());
    (gateway, server)
}

#[test]
fn each_route_has_its_shape() {
    let (_gateway, server) = start(FakeGateway::greeting());
    let ask = json!({"inputs": "x", "parameters": {"max_new_tokens": 2}});
    let post = |path: &str| server.client.post(path, &ask).unwrap();
    let text = json!({"generated_text": "Hello world"});
    assert_eq!(post("/generate").json().unwrap(), text);
    assert_eq!(post("/").json().unwrap(), json!([text]));
    let stream = post("/generate_stream");
    assert_eq!(stream.header("content-type"), Some("text/event-stream"));
    let first = stream.text();
    assert!(first.starts_with("data:{\"index\":1,"), "{first}");
    let streaming = json!({"inputs": "x", "stream": true});
    let answer = server.client.post("/", &streaming).unwrap();
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
}

#[test]
fn failures_are_told_in_words_and_statuses_of_tgi() {
    let cases = [
        (json!({"inputs": ""}), 422, "validation"),
        (
            json!({"inputs": "x", "parameters": {"temperature": -1.0}}),
            422,
            "validation",
        ),
        (json!({}), 422, "validation"),
    ];
    let (gateway, server) = start(FakeGateway::greeting());
    for (body, status, kind) in cases {
        let answer = server.client.post("/generate", &body).unwrap();
        assert_eq!(
            (answer.status, &answer.json().unwrap()["error_type"]),
            (status, &json!(kind))
        );
    }
    assert_eq!(server.client.get("/generate").unwrap().status, 405);
    assert_eq!(
        server
            .client
            .request("OPTIONS", "/generate", &[], b"")
            .unwrap()
            .status,
        200
    );
    assert!(gateway.jobs().is_empty());

    let full = ServeError::QueueFull {
        model: "test".into(),
        limit: 1,
    };
    let (_, server) = start(FakeGateway::refusing(full));
    let answer = server
        .client
        .post("/generate", &json!({"inputs": "x"}))
        .unwrap();
    let wanted = json!({"error": "Model is overloaded", "error_type": "overloaded"});
    assert_eq!((answer.status, answer.json().unwrap()), (429, wanted));
    assert_eq!(answer.header("retry-after"), Some("1"));
}

#[test]
fn health_and_info_tell_of_the_model() {
    let (gateway, server) = start(FakeGateway::greeting());
    let health = server.client.get("/health").unwrap();
    assert_eq!((health.status, health.text()), (200, String::new()));
    gateway.set_phase(Phase::Loading);
    let health = server.client.get("/health").unwrap();
    assert_eq!(health.status, 503);
    assert_eq!(health.json().unwrap()["error_type"], "healthcheck");
    let info = server.client.get("/info").unwrap().json().unwrap();
    assert_eq!(info["model_id"], "org/name");
    assert_eq!(info["max_total_tokens"], 64);
    assert_eq!(info["max_input_tokens"], 63);
    assert_eq!(info["model_sha"], Value::Null);
}

#[test]
fn the_model_can_speak_tgi_on_the_routes_of_djl_too() {
    let manner = Manner {
        dialect: Dialect::Tgi,
        ..Manner::default()
    };
    let gateway = FakeGateway::new(|_| vec![token(1, "a"), done("a", 1)]);
    let gateway = Arc::new(gateway.spoken_to("test", manner));
    let server = Server::start(&gateway, HttpSettings::default());
    let answer = server
        .client
        .post("/invocations", &json!({"inputs": "x"}))
        .unwrap();
    assert_eq!(answer.json().unwrap(), json!([{"generated_text": "a"}]));
    let answer = server.client.post("/invocations", &json!({})).unwrap();
    assert_eq!(answer.status, 422);
}
