//! Who is let in: a walk along all routes, with a key and without.

use std::collections::BTreeSet;
use std::path::Path;

use sconce_testkit::client::Answer;
use sconce_testkit::fakes::FakeGateway;

use super::*;
use crate::auth::PUBLIC;
use crate::{ApiKeys, Cors};

const KEY: (&str, &str) = ("authorization", "Bearer the-key");
const METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];

fn locked() -> (Arc<FakeGateway>, Server) {
    let gateway = Arc::new(FakeGateway::greeting());
    let settings = HttpSettings {
        api_keys: ApiKeys::new(&["the-key".into(), "the-next-key".into()]),
        cors: Cors {
            origin: Some("https://app".parse().unwrap()),
            ..Cors::default()
        },
        ..HttpSettings::default()
    };
    let server = Server::start(&gateway, settings);
    (gateway, server)
}

/// All paths that this crate gives to a router, with something in the place of each variable part.
fn paths() -> BTreeSet<String> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = BTreeSet::new();
    for file in std::fs::read_dir(sources).unwrap() {
        let file = file.unwrap().path();
        let Ok(text) = std::fs::read_to_string(&file) else {
            continue;
        };
        for after in text.split(".route(").skip(1) {
            let Some(path) = after.split('"').nth(1).filter(|path| path.starts_with('/')) else {
                panic!("a route without a literal path in {}", file.display());
            };
            let parts = path.split('/').map(|part| match part {
                variable if variable.starts_with('{') => "test",
                // `format!` adds `/`, and more after it.
                more => more.trim_end_matches("{more}"),
            });
            paths.insert(parts.collect::<Vec<_>>().join("/"));
        }
    }
    paths
}

fn is_public(path: &str) -> bool {
    let below = |public: &&str| {
        let rest = path.strip_prefix(*public);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    PUBLIC.iter().any(below)
}

#[test]
fn every_route_is_public_by_list_or_asks_for_the_key() {
    let (gateway, server) = locked();
    let paths = paths();
    for known in [
        "/invocations",
        "/ping",
        "/models",
        "/server/logging",
        "/v1/models",
    ] {
        assert!(paths.contains(known), "{known} is not among {paths:?}");
    }
    let ask = |method: &str, path: &str, headers: &[(&str, &str)]| -> Answer {
        let body = br#"{"inputs": "Hi"}"#;
        server.client.request(method, path, headers, body).unwrap()
    };
    for path in paths
        .iter()
        .map(String::as_str)
        .chain(["/none", "/v1/none"])
    {
        for method in METHODS {
            let answer = ask(method, path, &[]);
            if is_public(path) {
                assert_ne!(answer.status, 401, "{method} {path}");
                continue;
            }
            assert_eq!(answer.status, 401, "{method} {path}: {}", answer.text());
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
            let with_wrong = ask(method, path, &[("authorization", "Bearer the-ke")]);
            assert_eq!(with_wrong.status, 401, "{method} {path}");
        }
    }
    assert!(gateway.jobs().is_empty(), "no model was asked");
    for path in &paths {
        for method in METHODS {
            let answer = ask(method, path, &[KEY]);
            assert_ne!(answer.status, 401, "{method} {path}: {}", answer.text());
        }
    }
    assert!(!gateway.jobs().is_empty());
}

#[test]
fn what_is_missing_is_told_in_the_words_of_the_route() {
    let (_, server) = locked();
    let told = server
        .client
        .post_bytes("/invocations", &[], b"{}")
        .unwrap();
    let body = told.json().unwrap();
    assert_eq!(body["code"], 401);
    assert!(
        body["message"]
            .as_str()
            .unwrap()
            .contains("Authorization: Bearer KEY")
    );
    assert_eq!(told.header("x-request-id").map(str::len), Some(36));
    let told = server
        .client
        .post_bytes("/v1/chat/completions", &[], b"{}")
        .unwrap();
    assert_eq!(told.json().unwrap()["error"]["code"], "invalid_api_key");
    for key in [KEY, ("x-api-key", "the-next-key")] {
        let answer = server
            .client
            .post_bytes("/invocations", &[key], br#"{"inputs": "Hi"}"#);
        assert_eq!(answer.unwrap().status, 200);
    }
}

#[test]
fn a_large_body_without_a_key_is_told_and_not_kept() {
    let (gateway, server) = locked();
    // More than sockets buffer, so that the client is still writing when the answer is sent.
    let large = vec![b' '; 20_000_000];
    let answer = server
        .client
        .post_bytes("/invocations", &[], &large)
        .unwrap();
    assert_eq!(answer.status, 401);
    assert!(gateway.jobs().is_empty());
}

#[test]
fn browsers_may_ask_what_they_may_send() {
    let (_, server) = locked();
    let headers = [
        ("origin", "https://app"),
        ("access-control-request-method", "POST"),
    ];
    let asked = server
        .client
        .request("OPTIONS", "/invocations", &headers, b"")
        .unwrap();
    assert_eq!(asked.status, 200);
    assert_eq!(
        asked.header("access-control-allow-origin"),
        Some("https://app")
    );
    let plain = server
        .client
        .request("OPTIONS", "/invocations", &headers[..1], b"")
        .unwrap();
    assert_eq!(plain.status, 401);
}

#[test]
fn only_so_many_models_change_at_once() {
    let gateway = Arc::new(FakeGateway::greeting());
    let server = Server::start(&gateway, HttpSettings::default());
    let gate = sconce_testkit::fakes::Gate::default();
    let registry: Arc<FakeRegistry> = Arc::new(FakeRegistry::waiting(&gate));
    let slow = Server::managed(&gateway, &registry, HttpSettings::default());
    drop(server);
    std::thread::scope(|scope| {
        let ask = || slow.client.post_bytes("/models?url=/m", &[], b"").unwrap();
        let asking: Vec<_> = (0..64).map(|_| scope.spawn(ask)).collect();
        while registry.count() < 64 {
            std::thread::yield_now();
        }
        let refused = ask();
        assert_eq!(refused.status, 503, "{}", refused.text());
        assert_eq!(refused.header("retry-after"), Some("1"));
        // Nobody else waits.
        let answer = slow
            .client
            .post_bytes("/invocations", &[], br#"{"inputs": "Hi"}"#);
        assert_eq!(answer.unwrap().status, 200);
        gate.open();
        for asked in asking {
            assert_eq!(asked.join().unwrap().status, 200);
        }
    });
}
