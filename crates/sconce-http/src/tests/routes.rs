//! Routes, methods, models, and the headers of every answer.

use std::sync::{Arc, Mutex};

use sconce_core::{Gateway, Manner, ModelStatus, Phase, ServeError, Served};
use sconce_testkit::client::Answer;
use sconce_testkit::fakes::FakeGateway;
use serde_json::json;

use super::*;
use crate::{Cors, ErrorCodes, PingCodes};

fn greeting() -> (Arc<FakeGateway>, Server) {
    let gateway = Arc::new(FakeGateway::greeting());
    let server = Server::start(&gateway, HttpSettings::default());
    (gateway, server)
}

const ASK: &[u8] = br#"{"inputs": "Hi"}"#;

#[test]
fn all_inference_routes_give_the_same_answer_to_any_method() {
    let (gateway, server) = greeting();
    let paths = [
        "/invocations",
        "/invocations/",
        "/invocations/more",
        "/invocations?model_name=test",
        "/invocations?model_name=",
        "/v1/chat/completions",
        "/v1/chat/completions/?x=y",
        "/predictions/test",
        "/predictions/test/",
        "/predictions/test?x=y",
        "/models/test/invoke",
        "/models/test/invoke?x=y",
        "/predictions/te%73t",
    ];
    for path in paths {
        for method in ["POST", "PUT", "PATCH"] {
            let answer = server.client.request(method, path, &[], ASK).unwrap();
            let wanted = (200, r#"{"generated_text": "Hello world"}"#.to_owned());
            assert_eq!((answer.status, answer.text()), wanted, "{method} {path}");
            assert_eq!(answer.header("content-type"), Some("application/json"));
            assert_eq!(answer.header("content-length"), Some("33"));
        }
    }
    assert_eq!(gateway.jobs().len(), 3 * paths.len());
    assert!(
        gateway
            .jobs()
            .iter()
            .all(|asked| asked.prompt == "Hi".into())
    );
}

/// Models of any name, which answer nothing but that; none of them is the usual one.
#[derive(Default)]
struct Many(Mutex<Vec<String>>);

impl Gateway for Many {
    fn find(
        &self,
        name: Option<&str>,
        version: Option<&str>,
    ) -> Result<Arc<dyn Served>, ServeError> {
        let name = name.ok_or(ServeError::Unnamed)?;
        let label = match version {
            Some(version) => format!("{name}:{version}"),
            None => name.to_owned(),
        };
        self.0.lock().unwrap().push(label.clone());
        let refusal = ServeError::QueueFull {
            model: label,
            limit: 7,
        };
        let model = FakeGateway::refusing(refusal).spoken_to(name, Manner::default());
        model.find(Some(name), None)
    }

    fn manner(&self) -> Manner {
        Manner::default()
    }

    fn status(&self) -> Vec<ModelStatus> {
        let of = |name| FakeGateway::greeting().spoken_to(name, Manner::default());
        vec![of("a").status().remove(0), of("b").status().remove(0)]
    }
}

#[test]
fn tgi_is_told_of_a_model_of_the_start() {
    struct Started;
    impl Gateway for Started {
        fn find(&self, _: Option<&str>, _: Option<&str>) -> Result<Arc<dyn Served>, ServeError> {
            Err(ServeError::Unnamed)
        }
        fn manner(&self) -> Manner {
            Manner::default()
        }
        fn status(&self) -> Vec<ModelStatus> {
            let model = |name: &str, at_startup| ModelStatus {
                name: name.into(),
                at_startup,
                ..ModelStatus::default()
            };
            vec![model("a", false), model("b", true)]
        }
    }
    let server = Server::start(&Arc::new(Started), HttpSettings::default());
    let info = server.client.get("/info").unwrap().json().unwrap();
    assert_eq!(info["model_id"], "b");
}

/// Path, headers, body, and the model that they ask for.
type Asking<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [u8], &'a str);

#[test]
fn the_model_is_named_by_path_query_header_attribute_or_body_in_this_order() {
    let gateway = Arc::new(Many::default());
    let server = Server::start(&gateway, HttpSettings::default());
    let attributes = "X-Amzn-SageMaker-Custom-Attributes";
    let form = ("content-type", "application/x-www-form-urlencoded");
    let from_form: &[u8] = b"model_name=form&inputs=x";
    let header = ("model_name", "header");
    let attribute = (attributes, "a=1;model_name=attribute");
    let chat: &[u8] = br#"{"model": "body", "messages": [{"role": "user", "content": "x"}]}"#;
    let cases: [Asking<'_>; 13] = [
        ("/v1/chat/completions", &[], chat, "body"),
        (
            "/v1/completions",
            &[],
            br#"{"model": "m", "prompt": "x"}"#,
            "m",
        ),
        ("/v1/chat/completions", &[header], chat, "header"),
        ("/predictions/path?model_name=query", &[header], ASK, "path"),
        ("/invocations?model_name=query", &[header], ASK, "query"),
        ("/invocations", &[attribute, header], ASK, "header"),
        ("/invocations", &[attribute, form], from_form, "attribute"),
        ("/invocations", &[form], from_form, "form"),
        (
            "/models/m/invoke",
            &[("X-Amzn-SageMaker-Target-Model", "x.tar.gz")],
            ASK,
            "m",
        ),
        ("/predictions/m/v1", &[], ASK, "m:v1"),
        ("/invocations?model_name=m&model_version=2", &[], ASK, "m:2"),
        (
            "/invocations",
            &[form],
            b"model_name=m&model_version=3&inputs=x",
            "m:3",
        ),
        (
            "/predictions/m",
            &[form, ("model_version", "4")],
            b"model_name=other&model_version=5&inputs=x",
            "m:4",
        ),
    ];
    for (path, headers, body, model) in cases {
        let answer = server.client.post_bytes(path, headers, body).unwrap();
        let text = format!("exceeded for model: {model} (");
        assert!(answer.text().contains(&text), "{path}: {}", answer.text());
        // Versions take turns, so that a second look would skip one.
        let found = std::mem::take(&mut *gateway.0.lock().unwrap());
        assert_eq!(found, [model], "{path}");
    }
    let answer = server.client.post_bytes("/invocations", &[], ASK).unwrap();
    assert_eq!(answer.status, 400);
    let wanted = json!({
        "code": 400, "type": "BadRequestException", "message": "Parameter model_name is required."
    });
    assert_eq!(answer.json().unwrap(), wanted);
    let list = server
        .client
        .get("/models?limit=1")
        .unwrap()
        .json()
        .unwrap();
    assert_eq!(list["nextPageToken"], "1");
    let list = server
        .client
        .get("/models?limit=1&next_page_token=1")
        .unwrap();
    let wanted = json!({"models": [{
        "modelName": "b", "modelUrl": "file:/models/b", "status": "READY"
    }]});
    assert_eq!(list.json().unwrap(), wanted);
}

#[test]
fn preflight_requests_are_answered_where_a_model_is() {
    let (gateway, server) = greeting();
    let ask = |path: &str| server.client.request("OPTIONS", path, &[], b"").unwrap();
    for path in [
        "/",
        "/predictions/test",
        "/invocations",
        "/models/test/invoke",
    ] {
        let answer = ask(path);
        assert_eq!(
            (answer.status, answer.text()),
            (200, "{}\n".into()),
            "{path}"
        );
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
    for path in [
        "/predictions/nope",
        "/invocations?model_name=nope",
        "/nowhere",
    ] {
        assert_eq!(ask(path).status, 404, "{path}");
    }
    assert_eq!(ask("/ping").status, 200);
    assert!(gateway.jobs().is_empty());
}

#[test]
fn models_can_be_listed_and_described() {
    let (gateway, server) = greeting();
    let list = server.client.get("/models").unwrap();
    assert_eq!(
        (list.status, list.text()),
        (
            200,
            "{\n  \"models\": [\n    {\n      \"modelName\": \"test\",\n      \"modelUrl\": \
             \"file:/models/test\",\n      \"status\": \"READY\"\n    }\n  ]\n}\n"
                .into()
        )
    );
    gateway.set_phase(Phase::Failed("x".into()));
    let described = server.client.get("/models/test").unwrap().json().unwrap();
    assert_eq!(described[0]["models"][0]["status"], "FAILED");
    assert_eq!(described[0]["workflowName"], "test");
}

#[test]
fn batch_transform_is_told_the_limits() {
    let manner = Manner {
        concurrency: 4,
        ..Manner::default()
    };
    let gateway = Arc::new(FakeGateway::greeting().spoken_to("test", manner));
    let server = Server::start(&gateway, HttpSettings::default());
    let answer = server.client.get("/execution-parameters").unwrap();
    let wanted = json!({
        "MaxConcurrentTransforms": 4, "BatchStrategy": "SINGLE_RECORD", "MaxPayloadInMB": 6
    });
    assert_eq!((answer.status, answer.json().unwrap()), (200, wanted));
}

#[test]
fn every_answer_carries_the_headers_of_djl() {
    let (_gateway, server) = greeting();
    for path in ["/ping", "/nowhere"] {
        let answer = server.client.get(path).unwrap();
        assert_eq!(answer.header("pragma"), Some("no-cache"));
        let cache = "no-cache; no-store, must-revalidate, private";
        assert_eq!(answer.header("cache-control"), Some(cache));
        let expires = "Thu, 01 Jan 1970 00:00:00 UTC";
        assert_eq!(answer.header("expires"), Some(expires));
        assert_eq!(answer.header("x-request-id").map(str::len), Some(36));
        assert_eq!(answer.header("access-control-allow-origin"), None);
        let closes = (path == "/nowhere").then_some("close");
        assert_eq!(answer.header("connection"), closes);
    }
    let own = [
        ("x-request-id", "mine-1"),
        ("X-Amzn-SageMaker-Custom-Attributes", "trace=7"),
        ("X-Amzn-SageMaker-Forwarded-Api", "InvokeEndpoint"),
        ("X-Amzn-SageMaker-Session-Id", "s"),
    ];
    let answer = server.client.post_bytes("/invocations", &own, ASK).unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("x-request-id"), Some("mine-1"));
    assert_eq!(
        answer.header("X-Amzn-SageMaker-Custom-Attributes"),
        None,
        "no echo"
    );
}

#[test]
fn headers_and_codes_follow_the_settings() {
    let settings = HttpSettings {
        request_id_header: "X-Amzn-SageMaker-Inference-Id".parse().unwrap(),
        cors: Cors {
            origin: "*".parse().ok(),
            methods: "GET, POST".parse().ok(),
            headers: None,
        },
        codes: ErrorCodes {
            bad_request: 422.try_into().unwrap(),
            throttle_error: 429.try_into().unwrap(),
            wlm_error: 504.try_into().unwrap(),
            server_error: 599.try_into().unwrap(),
        },
        ping: PingCodes {
            multi_status: true,
            ..PingCodes::default()
        },
        ..HttpSettings::default()
    };
    let fails = |error: ServeError| {
        let gateway = Arc::new(FakeGateway::refusing(error));
        gateway.set_phase(Phase::Loading);
        let server = Server::start(&gateway, settings.clone());
        let id = [
            ("X-Amzn-SageMaker-Inference-Id", "i-1"),
            ("x-request-id", "no"),
        ];
        let answer = server.client.post_bytes("/invocations", &id, ASK).unwrap();
        assert_eq!(answer.header("x-request-id"), Some("i-1"));
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        assert_eq!(
            answer.header("access-control-allow-methods"),
            Some("GET, POST")
        );
        assert_eq!(answer.header("access-control-allow-headers"), None);
        let ping = server.client.get("/ping").unwrap();
        assert_eq!(ping.status, 207);
        let bad = [("handler", "other")];
        assert_eq!(
            server
                .client
                .post_bytes("/invocations", &bad, ASK)
                .unwrap()
                .status,
            422
        );
        let retry = answer.header("retry-after").map(str::to_owned);
        (answer.status, retry)
    };
    let model = || String::from("test");
    let full = ServeError::QueueFull {
        model: model(),
        limit: 1,
    };
    assert_eq!(fails(full), (429, Some("1".into())));
    let loading = ServeError::NotReady {
        model: model(),
        phase: "loading".into(),
    };
    assert_eq!(fails(loading), (504, Some("5".into())));
    assert_eq!(
        fails(ServeError::Timeout { seconds: 1 }),
        (504, Some("1".into()))
    );
    assert_eq!(fails(ServeError::Draining), (504, Some("5".into())));
    let engine = ServeError::Engine {
        model: model(),
        cause: "x".into(),
    };
    assert_eq!(fails(engine), (424, None));
}

#[test]
fn a_head_request_gets_the_head_of_the_answer() {
    let (gateway, server) = greeting();
    let mut raw = server.client.raw().unwrap();
    raw.send(
        b"HEAD /ping HTTP/1.1\r\nhost: x\r\n\r\nHEAD /invocations HTTP/1.1\r\nhost: x\r\n\r\n",
    )
    .unwrap();
    let answers = raw.read_to_end().unwrap();
    let heads: Vec<_> = answers.split_terminator("\r\n\r\n").collect();
    assert_eq!(heads.len(), 2, "{answers}");
    assert!(heads[0].starts_with("HTTP/1.1 200 OK"), "{answers}");
    assert!(heads[1].starts_with("HTTP/1.1 424"), "{answers}");
    assert!(gateway.jobs().is_empty());
}

#[test]
fn ping_tells_the_truth() {
    let (gateway, server) = greeting();
    let cases = [
        (Phase::Ready, 200, json!({"test": {"status": "Healthy"}})),
        (
            Phase::Loading,
            503,
            json!({"test": {
                "status": "PENDING", "phase": "loading", "bytes_done": 1, "bytes_total": 2, "elapsed_seconds": 0.0
            }}),
        ),
        (
            Phase::Stalled("step 7".into()),
            500,
            json!({"test": {"status": "Unhealthy", "cause": "step 7"}}),
        ),
        (
            Phase::Failed("no weights".into()),
            500,
            json!({"test": {"status": "FAILED", "cause": "no weights"}}),
        ),
    ];
    for (phase, status, body) in cases {
        gateway.set_phase(phase);
        let check = |answer: Answer| {
            assert_eq!(
                (answer.status, answer.json().unwrap()),
                (status, body.clone())
            );
        };
        check(server.client.get("/ping").unwrap());
        check(server.client.get("/ping?x=y").unwrap());
        check(server.client.get("/ping/more").unwrap());
        check(server.client.post("/ping", &json!({})).unwrap());
    }
}
