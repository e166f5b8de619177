//! Hostile and broken connections, and the end of the server.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use sconce_core::{Gateway, Job, Manner, ModelStatus, ServeError, Served, Task};
use sconce_testkit::fakes::{Act, FakeGateway, Gate, done, token};
use serde_json::json;

use super::*;

const SMALL: usize = 1000;

fn small() -> (Arc<FakeGateway>, Server) {
    let gateway = Arc::new(FakeGateway::greeting());
    let settings = HttpSettings {
        max_request_size: SMALL,
        ..HttpSettings::default()
    };
    let server = Server::start(&gateway, settings);
    (gateway, server)
}

#[test]
fn bodies_above_the_limit_are_refused_with_and_without_a_length() {
    let (gateway, server) = small();
    // More than sockets buffer, so that the client is still writing when the answer is sent.
    let large = vec![b' '; 20_000_000];
    let answer = server
        .client
        .post_bytes("/invocations", &[], &large)
        .unwrap();
    assert_eq!(answer.status, 413);
    assert!(
        answer
            .text()
            .contains("max_request_size \\u003d 1000 bytes"),
        "{}",
        answer.text()
    );

    let mut raw = server.client.raw().unwrap();
    raw.send(b"POST /invocations HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        .unwrap();
    for _ in 0..3 {
        raw.send(format!("190\r\n{}\r\n", " ".repeat(0x190)).as_bytes())
            .unwrap();
    }
    let answer = raw.read_until("\r\n\r\n").unwrap();
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");

    let exact = format!("{{\"inputs\": \"{}\"}}", "x".repeat(SMALL - 14));
    assert_eq!(exact.len(), SMALL);
    let answer = server
        .client
        .post_bytes("/invocations", &[], exact.as_bytes())
        .unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(gateway.jobs().len(), 1);
}

#[test]
fn half_a_request_harms_nobody_else() {
    let (gateway, server) = small();
    let head = b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{\"inp";
    for half in [&head[..20], &head[..]] {
        let mut raw = server.client.raw().unwrap();
        raw.send(half).unwrap();
        raw.finish().unwrap();
        let rest = raw.read_to_end().unwrap();
        assert!(!rest.contains("HTTP/1.1 200"), "{rest}");
        let mut raw = server.client.raw().unwrap();
        raw.send(half).unwrap();
        drop(raw);
    }
    let mut raw = server.client.raw().unwrap();
    raw.send(b"NONSENSE\r\n\r\n").unwrap();
    assert!(raw.read_to_end().unwrap().starts_with("HTTP/1.1 400"));
    assert_eq!(server.client.get("/ping").unwrap().status, 200);
    assert!(gateway.jobs().is_empty());
}

#[test]
fn clients_that_never_finish_are_not_waited_for() {
    let gateway = Arc::new(FakeGateway::greeting());
    let settings = HttpSettings {
        header_timeout: Duration::from_millis(50),
        body_timeout: Duration::from_millis(50),
        ..HttpSettings::default()
    };
    let server = Server::start(&gateway, settings);
    let mut raw = server.client.raw().unwrap();
    raw.send(b"POST /invocations HTTP/1.1\r\nhost").unwrap();
    raw.read_to_end().unwrap();
    let mut raw = server.client.raw().unwrap();
    raw.send(b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{")
        .unwrap();
    let answer = raw.read_to_end().unwrap();
    assert!(
        answer.contains("424") && answer.contains("stalled after 1 bytes"),
        "{answer}"
    );
}

#[test]
fn a_panic_in_a_handler_is_an_answer() {
    #[derive(Clone, Default)]
    struct Panicking(Manner);
    impl Served for Panicking {
        fn status(&self) -> ModelStatus {
            ModelStatus {
                task: Some(Task::TextGeneration),
                ..ModelStatus::default()
            }
        }
        fn manner(&self) -> &Manner {
            &self.0
        }
        fn submit(&self, _: Job) -> Result<(), ServeError> {
            panic!("on purpose")
        }
    }
    impl Gateway for Panicking {
        fn find(&self, _: Option<&str>, _: Option<&str>) -> Result<Arc<dyn Served>, ServeError> {
            Ok(Arc::new(self.clone()))
        }
        fn manner(&self) -> Manner {
            self.0.clone()
        }
        fn status(&self) -> Vec<ModelStatus> {
            vec![]
        }
    }
    let server = Server::start(&Arc::new(Panicking::default()), HttpSettings::default());
    let answer = server
        .client
        .post("/invocations", &json!({"inputs": "x"}))
        .unwrap();
    assert_eq!(answer.status, 500);
    assert!(
        answer
            .text()
            .contains("internal error while handling request"),
        "{}",
        answer.text()
    );
    assert_eq!(server.client.get("/ping").unwrap().text(), "{}\n");
}

#[test]
fn draining_finishes_what_runs_and_refuses_what_comes() {
    let gate = Gate::default();
    let script = vec![
        token(1, "a"),
        token(2, "b"),
        Act::Await(gate.clone()),
        done("ab", 2),
    ];
    let gateway = Arc::new(FakeGateway::new(move |_| script.clone()));
    let mut server = Server::start(&gateway, HttpSettings::default());
    let ping = b"GET /ping HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut kept = server.client.raw().unwrap();
    kept.send(ping).unwrap();
    assert!(
        kept.read_until("\r\n\r\n")
            .unwrap()
            .starts_with("HTTP/1.1 200")
    );
    kept.read_until("}\n}\n").unwrap();
    let mut stream = server
        .client
        .stream("/invocations", &json!({"inputs": "x", "stream": true}))
        .unwrap();
    stream.line().unwrap().unwrap();

    server.end();
    while TcpStream::connect(server.address).is_ok() {
        std::thread::yield_now();
    }
    kept.send(ping).unwrap();
    let refused = kept.read_to_end().unwrap();
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(refused.contains("shutting down"), "{refused}");

    gate.open();
    let lines = stream.lines().unwrap();
    assert!(
        lines[0].1.contains(r#""generated_text": "ab""#),
        "{lines:?}"
    );
    server.join();
}

#[test]
fn what_outlives_the_drain_deadline_is_cut_off() {
    let gateway = Arc::new(FakeGateway::new(|_| {
        vec![token(1, "a"), token(2, "b"), Act::UntilGone]
    }));
    let settings = HttpSettings {
        drain_deadline: Duration::from_millis(20),
        ..HttpSettings::default()
    };
    let mut server = Server::start(&gateway, settings);
    let mut stream = server
        .client
        .stream("/invocations", &json!({"inputs": "x", "stream": true}))
        .unwrap();
    stream.line().unwrap().unwrap();
    server.end();
    server.join();
    assert!(gateway.gone().wait());
    assert!(
        stream.lines().is_err(),
        "the end of the stream is missing, and the client sees it"
    );
}

#[test]
fn a_client_that_takes_nothing_of_its_answer_is_left() {
    let long = "x".repeat(1 << 20);
    let gateway = Arc::new(FakeGateway::new(move |_| {
        let mut script: Vec<Act> = (1..100).map(|id| token(id, &long)).collect();
        script.push(Act::UntilGone);
        script
    }));
    let settings = HttpSettings {
        write_timeout: Duration::from_millis(50),
        ..HttpSettings::default()
    };
    let server = Server::start(&gateway, settings);
    let mut raw = server.client.raw().unwrap();
    let body = br#"{"inputs": "x", "stream": true, "parameters": {"max_new_tokens": 200}}"#;
    let head = format!(
        "POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    raw.send(head.as_bytes()).unwrap();
    raw.send(body).unwrap();
    assert!(gateway.gone().wait());
}

#[test]
fn who_is_one_too_many_is_told_so_and_may_still_ask_for_health() {
    let gateway = Arc::new(FakeGateway::greeting());
    let settings = HttpSettings {
        max_connections: 2,
        ..HttpSettings::default()
    };
    let server = Server::start(&gateway, settings);
    let ping = b"GET /ping HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut kept: Vec<_> = (0..2).map(|_| server.client.raw().unwrap()).collect();
    for raw in &mut kept {
        raw.send(ping).unwrap();
        raw.read_until("}\n}\n").unwrap();
    }
    let answer = server.client.post("/invocations", &json!({"inputs": "x"}));
    let answer = answer.unwrap();
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert!(
        answer.text().contains("max_connections"),
        "{}",
        answer.text()
    );
    let answer = server.client.get("/ping").unwrap();
    assert_eq!(
        (answer.status, answer.header("connection")),
        (200, Some("close"))
    );
    assert!(gateway.jobs().is_empty());
    // Those that are there are served as ever, and make room when they go.
    kept[0].send(ping).unwrap();
    kept[0].read_until("}\n}\n").unwrap();
    drop(kept);
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    let served = || {
        let answer = server.client.post("/invocations", &json!({"inputs": "x"}));
        answer.is_ok_and(|answer| answer.status == 200)
    };
    while !served() {
        assert!(std::time::Instant::now() < deadline, "nobody makes room");
    }
}
