//! Models that come and go, as clients ask for it: who may, what the keeper is asked, and in which
//! words the answer comes.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::http::Request;
use sconce_core::{Registration, RegistryError};
use sconce_testkit::client::Answer;
use sconce_testkit::fakes::{Act, FakeGateway, Gate, PATIENCE, done, token};
use sconce_testkit::registry::Asked;
use serde_json::json;

use super::*;
use crate::app::Shared;
use crate::management::{Peer, allow};
use crate::{LogSwitch, Management};

fn start(registry: FakeRegistry, settings: HttpSettings) -> (Arc<FakeRegistry>, Server) {
    let registry = Arc::new(registry);
    let gateway = Arc::new(FakeGateway::greeting());
    let server = Server::managed(&gateway, &registry, settings);
    (registry, server)
}

fn told(answer: &Answer) -> (u16, String) {
    let json = answer.json().unwrap();
    (
        answer.status,
        json["status"].as_str().unwrap_or_default().into(),
    )
}

fn wanted(url: &str, name: Option<&str>) -> Registration {
    Registration {
        url: url.into(),
        name: name.map(str::to_owned),
        ..Registration::default()
    }
}

const JSON: (&str, &str) = ("content-type", "application/json");

#[test]
fn a_model_is_registered_by_query_or_body_and_waited_for_unless_nobody_wants_to() {
    let (registry, server) = start(FakeRegistry::default(), HttpSettings::default());
    let post = |path: &str, headers: &[_], body: &[u8]| {
        let answer = server.client.post_bytes(path, headers, body).unwrap();
        (told(&answer), registry.asked())
    };
    let there = |name: &str| (200, format!("Model \"{name}\" registered."));
    let waited = |wanted: Registration, name: &str| {
        let name = wanted.name.clone().unwrap_or_else(|| name.into());
        vec![Asked::Register(wanted), Asked::Wait(name)]
    };
    assert_eq!(
        post("/models?url=file%3A%2Fm%20x&model_name=m", &[], b""),
        (there("m"), waited(wanted("file:/m x", Some("m")), "m"))
    );
    assert_eq!(
        post("/models?url=/m", &[], b""),
        (there("of_url"), waited(wanted("/m", None), "of_url"))
    );
    let body = br#"{"model_name": "abc0", "url": "/opt/ml/models/abc0/model"}"#;
    let of_platform = wanted("/opt/ml/models/abc0/model", Some("abc0"));
    assert_eq!(
        post("/models", &[JSON], body),
        (there("abc0"), waited(of_platform, ""))
    );
    let full = Registration {
        version: Some("v1".into()),
        engine: Some("Python".into()),
        device: Some("-1".into()),
        batch_size: Some(4),
        job_queue_size: Some(5),
        max_batch_delay: Some(6),
        max_idle_time: Some(7),
        min_workers: Some(1),
        max_workers: Some(2),
        ..wanted("/m", Some("m"))
    };
    let path = "/models?url=/m&model_name=m&model_version=v1&engine=Python&device=-1&batch_size=4\
                &job_queue_size=5&max_batch_delay=6&max_idle_time=7&min_worker=1&max_worker=2\
                &synchronous=false";
    let scheduled = (202, "Model \"m\" registration scheduled.".into());
    assert_eq!(
        post(path, &[], b""),
        (
            scheduled,
            vec![Asked::Register(full), Asked::Watch("m".into())]
        )
    );
}

#[test]
fn models_are_scaled_and_removed_by_name_and_version() {
    let (registry, server) = start(FakeRegistry::default(), HttpSettings::default());
    let ask = |method: &str, path: &str| {
        let answer = server.client.request(method, path, &[], b"").unwrap();
        (told(&answer), registry.asked())
    };
    let scaled = |min: usize, max: usize| {
        let text = format!(
            "Workflow \"m\" worker scaled. New Worker configuration min workers:{min} max workers:{max}"
        );
        (200, text)
    };
    let scale = |version: Option<&str>, min, max| {
        vec![Asked::Scale("m".into(), version.map(Into::into), min, max)]
    };
    for (path, version) in [
        ("/models/m", None),
        ("/models/m/2", Some("2")),
        ("/workflows/m/2", Some("2")),
    ] {
        let asked = ask("PUT", &format!("{path}?min_worker=2&max_worker=3"));
        assert_eq!(asked, (scaled(2, 3), scale(version, Some(2), Some(3))));
        let asked = ask("PUT", &format!("{path}?min_worker=-1"));
        assert_eq!(asked, (scaled(1, 1), scale(version, None, None)));
        let gone = (200, "Model or workflow \"m\" unregistered".into());
        let unregister = Asked::Unregister("m".into(), version.map(Into::into));
        assert_eq!(ask("DELETE", path), (gone, vec![unregister]));
    }
    let (refused, asked) = ask("PUT", "/models/m?min_worker=two");
    assert_eq!((refused.0, asked), (400, vec![]));
}

/// A refusal, its status, what DJL Serving calls it, and what is said.
type Refused = (RegistryError, u16, &'static str, &'static str);

/// What is wrong with the request.
fn of_requests() -> [Refused; 6] {
    let not_found = "ModelNotFoundException";
    [
        (
            RegistryError::AlreadyThere("m".into()),
            409,
            "BadRequestException",
            "Workflow m is already registered.",
        ),
        (
            RegistryError::Unknown("m".into()),
            404,
            not_found,
            "Model or workflow not found: m",
        ),
        (
            RegistryError::Forbidden {
                url: "s3://b/p/".into(),
                problem: "no".into(),
            },
            404,
            not_found,
            "Permission denied: s3://b/p/: no",
        ),
        (
            RegistryError::Nowhere {
                url: "/x".into(),
                problem: "no such directory".into(),
            },
            404,
            not_found,
            "Invalid model url: /x: no such directory",
        ),
        (
            RegistryError::Parameter {
                name: "model_name",
                value: "a/b".into(),
                problem: "it has '/'".into(),
            },
            400,
            "BadRequestException",
            "Parameter model_name is \"a/b\": it has '/'",
        ),
        (
            RegistryError::Configuration("engine=MXNet".into()),
            400,
            "IllegalConfigurationException",
            "engine=MXNet",
        ),
    ]
}

/// What keeps a model that could be served from being so now.
fn of_models() -> [Refused; 6] {
    let model = || String::from("m");
    [
        (
            RegistryError::Memory {
                model: model(),
                problem: "it takes 5 bytes".into(),
            },
            507,
            "WlmOutOfMemoryException",
            "No enough memory to load the model. m: it takes 5 bytes",
        ),
        (
            RegistryError::Failed {
                model: model(),
                cause: "no weights".into(),
            },
            500,
            "EngineException",
            "model m cannot be served: no weights",
        ),
        (
            RegistryError::NotReady {
                model: model(),
                phase: "loading".into(),
            },
            503,
            "WlmException",
            "Model is not ready: m (loading)",
        ),
        (
            RegistryError::TooLate {
                model: model(),
                after: Duration::from_secs(7),
            },
            503,
            "WlmException",
            "model_loading_timeout = 7 s",
        ),
        (
            RegistryError::Withdrawn(model()),
            503,
            "WlmShutdownException",
            "unregistered while it was loading",
        ),
        (
            RegistryError::Ending,
            503,
            "ServiceUnavailableException",
            "shutting down",
        ),
    ]
}

#[test]
fn each_refusal_has_the_status_that_platforms_act_on() {
    for (error, status, kind, text) in of_requests().into_iter().chain(of_models()) {
        let (_, server) = start(FakeRegistry::refusing(error), HttpSettings::default());
        for (method, path) in [
            ("POST", "/models?url=/m"),
            ("PUT", "/models/m?min_worker=1"),
            ("DELETE", "/models/m"),
        ] {
            let answer = server.client.request(method, path, &[], b"").unwrap();
            let json = answer.json().unwrap();
            assert_eq!(
                (answer.status, json["type"].as_str(), &json["code"]),
                (status, Some(kind), &json!(status)),
                "{method}"
            );
            let message = json["message"].as_str().unwrap();
            assert!(message.contains(text), "{message}");
        }
    }
}

/// Path, headers and body of a request; the status of its answer and what it says.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [u8], u16, &'a str);

#[test]
fn registrations_that_cannot_be_meant_are_refused_before_anybody_is_asked() {
    let settings = HttpSettings {
        max_request_size: 1000,
        ..HttpSettings::default()
    };
    let (registry, server) = start(FakeRegistry::default(), settings);
    let long = vec![b' '; 2000];
    let cases: [Case<'_>; 9] = [
        ("/models", &[], b"", 400, "Parameter url is required."),
        ("/models?url=", &[], b"", 400, "Parameter url is required."),
        ("/models?url=/m&modelname=x", &[], b"", 400, "modelname"),
        (
            "/models?url=/m&batch_size=many",
            &[],
            b"",
            400,
            "a whole number",
        ),
        (
            "/models?url=/m&synchronous=maybe",
            &[],
            b"",
            400,
            "true or false",
        ),
        ("/models", &[JSON], b"{", 400, "no JSON"),
        ("/models", &[JSON], b"[1]", 400, "must be an object"),
        (
            "/models",
            &[JSON],
            br#"{"url": {}}"#,
            400,
            "Parameter url must be a text",
        ),
        ("/models", &[JSON], &long, 413, "max_request_size"),
    ];
    for (path, headers, body, status, text) in cases {
        let answer = server.client.post_bytes(path, headers, body).unwrap();
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert!(answer.text().contains(text), "{path}: {}", answer.text());
    }
    assert_eq!(registry.asked(), []);
}

#[test]
fn workflows_are_models_by_another_name_and_graphs_of_them_are_refused() {
    let (registry, server) = start(FakeRegistry::default(), HttpSettings::default());
    let list = server.client.get("/workflows").unwrap().json().unwrap();
    assert_eq!(list, json!({"workflows": [{"workflowName": "test"}]}));
    let described = server.client.get("/workflows/test").unwrap();
    assert_eq!(
        described.text(),
        server.client.get("/models/test").unwrap().text()
    );
    let graph = server
        .client
        .post_bytes("/workflows?url=/w.json", &[], b"")
        .unwrap();
    assert_eq!(graph.status, 501);
    assert!(graph.text().contains("register each model at /models"));
    assert_eq!(registry.asked(), []);
}

/// Every request that changes something, and whether SageMaker's contract for several models has it.
const CHANGES: [(&str, &str, bool); 4] = [
    ("POST", "/models?url=/m", true),
    ("DELETE", "/models/m", true),
    ("PUT", "/models/m?min_worker=1", false),
    ("POST", "/server/logging?level=info", false),
];

fn log() -> (Arc<Mutex<Vec<String>>>, LogSwitch) {
    let levels: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = Arc::clone(&levels);
    let switch = LogSwitch(Arc::new(move |level: &str| {
        kept.lock().unwrap().push(level.into());
        Ok(())
    }));
    (levels, switch)
}

#[test]
fn nobody_manages_where_nobody_may_but_the_platform_of_many_models() {
    for multi_model in [false, true] {
        let settings = HttpSettings {
            management: Management::Nobody,
            multi_model,
            log: Some(log().1),
            ..HttpSettings::default()
        };
        let (registry, server) = start(FakeRegistry::default(), settings);
        for (method, path, of_contract) in CHANGES {
            let answer = server.client.request(method, path, &[], b"").unwrap();
            let is_open = multi_model && of_contract;
            let status = if is_open { 200 } else { 403 };
            assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
            assert_eq!(registry.asked().is_empty(), !is_open, "{method} {path}");
            if !is_open {
                assert!(answer.text().contains("AccessDeniedException"));
                assert!(answer.text().contains("SCONCE_MANAGEMENT"));
            }
        }
        // What changes nothing is open.
        for path in ["/models", "/models/test", "/workflows", "/ping"] {
            assert_eq!(server.client.get(path).unwrap().status, 200, "{path}");
        }
    }
}

#[test]
fn clients_of_this_machine_are_known_by_their_address() {
    let settings = HttpSettings {
        management: Management::Loopback,
        log: Some(log().1),
        ..HttpSettings::default()
    };
    let (_, server) = start(FakeRegistry::default(), settings.clone());
    for (method, path, _) in CHANGES {
        let answer = server.client.request(method, path, &[], b"").unwrap();
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text());
    }
    let models = Models {
        gateway: Arc::new(FakeGateway::greeting()),
        registry: Arc::new(SharedRegistry(Arc::default())),
    };
    let shared = Shared::new(models, settings);
    for (peer, is_here) in [
        ("127.0.0.1:5", true),
        ("127.9.9.9:5", true),
        ("[::1]:5", true),
        ("[::ffff:127.0.0.1]:5", true),
        ("10.0.0.1:5", false),
        ("169.254.178.1:5", false),
        ("[fe80::1]:5", false),
    ] {
        let (mut parts, ()) = Request::new(()).into_parts();
        assert!(allow(&shared, &parts, false).is_err(), "nobody knows who");
        parts.extensions.insert(Peer(peer.parse().unwrap()));
        assert_eq!(allow(&shared, &parts, false).is_ok(), is_here, "{peer}");
    }
}

#[test]
fn the_level_of_the_log_is_changed_by_name() {
    let (levels, switch) = log();
    let settings = HttpSettings {
        log: Some(switch),
        ..HttpSettings::default()
    };
    let (_, server) = start(FakeRegistry::default(), settings);
    let ask = |path: &str| server.client.get(path).unwrap();
    assert_eq!(
        told(&ask("/server/logging?level=DEBUG")),
        (200, "OK".into())
    );
    assert_eq!(told(&ask("/server/logging")), (200, "OK".into()));
    for path in ["/server/logging?level=loud", "/server/logging?level="] {
        let answer = ask(path);
        assert_eq!(answer.status, 400);
        assert!(
            answer
                .text()
                .contains("one of trace, debug, info, warn, error")
        );
    }
    assert_eq!(*levels.lock().unwrap(), ["debug", "info"]);
    let (_, server) = start(FakeRegistry::default(), HttpSettings::default());
    let answer = server.client.get("/server/logging?level=debug").unwrap();
    assert_eq!(answer.status, 501);
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_model_is_held_until_the_last_byte_of_its_answer() {
    let gate = Gate::default();
    let script = vec![
        token(1, "a"),
        Act::Await(gate.clone()),
        token(2, "b"),
        done("ab", 2),
    ];
    let gateway = Arc::new(FakeGateway::new(move |_| script.clone()));
    let server = Server::start(&gateway, HttpSettings::default());
    let ask = json!({"inputs": "x", "stream": true});
    let mut stream = server.client.stream("/invocations", &ask).unwrap();
    stream.line().unwrap().unwrap();
    assert_eq!(gateway.held(), 1);
    // A client that fetches its answer later holds it too.
    let body = serde_json::to_vec(&json!({"inputs": "y"})).unwrap();
    let later = server
        .client
        .post_bytes("/invocations", &[("x-synchronous", "false")], &body)
        .unwrap();
    assert_eq!(later.status, 200);
    until("both are at it", || gateway.held() == 2);
    gate.open();
    stream.lines().unwrap();
    until("nobody holds it any more", || gateway.held() == 0);
    // Nor does who asks for nothing that can be answered, or leaves.
    let refused = server
        .client
        .post_bytes("/invocations", &[JSON], b"{")
        .unwrap();
    assert_eq!(refused.status, 424);
    until("a refusal holds nothing", || gateway.held() == 0);
    let leaving = Arc::new(FakeGateway::new(|_| vec![token(1, "a"), Act::UntilGone]));
    let server = Server::start(&leaving, HttpSettings::default());
    let mut stream = server.client.stream("/invocations", &ask).unwrap();
    stream.line().unwrap().unwrap();
    drop(stream);
    assert!(leaving.gone().wait());
    until("who leaves holds nothing", || leaving.held() == 0);
}
