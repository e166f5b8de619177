//! InvokeEndpoint when all is well: what the container sees, what the client sees.

use axum::http::StatusCode;
use axum::response::IntoResponse;

use super::{Container, Emulator, error, json};

#[test]
fn a_call_reaches_the_container_as_the_platform_sends_it() {
    let container = Container::new(|_| {
        let headers = [
            ("content-type", "application/json"),
            ("x-amzn-sagemaker-custom-attributes", "answered=1"),
            ("x-request-id", "7"),
        ];
        (StatusCode::CREATED, headers, "{\"ok\":true}").into_response()
    });
    let emulator = Emulator::start(&container, |_| {});
    let headers = [
        ("content-type", "text/plain"),
        ("accept", "application/json"),
        ("authorization", "AWS4-HMAC-SHA256 Credential=any"),
        ("x-amz-date", "20260101T000000Z"),
        ("x-trace", "1"),
        ("x-amzn-sagemaker-custom-attributes", "trace=1"),
        ("x-amzn-sagemaker-target-variant", "AllTraffic"),
    ];
    let answer = emulator.invoke(&headers, "Grüße\0".as_bytes());
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (200, "{\"ok\":true}")
    );
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(
        answer.header("x-amzn-sagemaker-custom-attributes"),
        Some("answered=1")
    );
    assert_eq!(
        answer.header("x-amzn-invoked-production-variant"),
        Some("AllTraffic")
    );
    assert_eq!(answer.header("x-request-id"), None);
    assert_eq!(answer.header("x-amzn-requestid").map(str::len), Some(36));

    let [seen] = &container.seen()[..] else {
        panic!("{:?}", container.seen())
    };
    assert_eq!(
        (seen.method.as_str(), seen.path.as_str()),
        ("POST", "/invocations")
    );
    assert_eq!(&seen.body[..], "Grüße\0".as_bytes());
    let mut names: Vec<_> = seen.headers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    let wanted = [
        "accept",
        "content-length",
        "content-type",
        "host",
        "x-amzn-sagemaker-custom-attributes",
        "x-amzn-sagemaker-forwarded-api",
        "x-amzn-sagemaker-target-variant",
    ];
    assert_eq!(names, wanted);
    assert_eq!(
        seen.headers["x-amzn-sagemaker-forwarded-api"],
        "InvokeEndpoint"
    );
}

#[test]
fn any_endpoint_exists_unless_some_are_named() {
    let container = Container::new(|_| json(200, "1"));
    let any = Emulator::start(&container, |_| {});
    let path = |name: &str| format!("/endpoints/{name}/invocations");
    let ask = |emulator: &Emulator, name: &str| {
        emulator.client.post_bytes(&path(name), &[], b"x").unwrap()
    };
    assert_eq!(ask(&any, "whatever-1").status, 200);
    let answer = ask(&any, "a_b");
    assert_eq!((answer.status, error(&answer).1), (400, "ValidationError"));
    assert!(
        answer.text().contains("'endpointName'"),
        "{}",
        answer.text()
    );

    let one = Emulator::start(&container, |settings| {
        settings.endpoints = vec!["mine".into()]
    });
    assert_eq!(ask(&one, "mine").status, 200);
    let answer = ask(&one, "yours");
    let (status, name, body) = error(&answer);
    assert_eq!((status, name), (400, "ValidationError"));
    assert_eq!(
        body["Message"],
        "Endpoint yours of account 000000000000 not found."
    );
}

#[test]
fn sessions_are_opened_and_closed_under_the_client_s_names() {
    let container = Container::new(|seen| {
        let (name, value) = match seen.headers.get("x-amzn-sagemaker-session-id") {
            Some(id) if id == "NEW_SESSION" => (
                "x-amzn-sagemaker-session-id",
                "s-1; Expires=2026-01-02T03:04:05Z",
            ),
            _ => ("x-amzn-sagemaker-closed-session-id", "s-1"),
        };
        ([(name, value)], "{}").into_response()
    });
    let emulator = Emulator::start(&container, |_| {});
    let ask = |id| emulator.invoke(&[("x-amzn-sagemaker-session-id", id)], b"{}");
    assert_eq!(
        ask("NEW_SESSION").header("x-amzn-sagemaker-new-session-id"),
        Some("s-1; Expires=2026-01-02T03:04:05Z")
    );
    let closed = ask("s-1");
    assert_eq!(
        closed.header("x-amzn-sagemaker-closed-session-id"),
        Some("s-1")
    );
    assert_eq!(closed.header("x-amzn-sagemaker-new-session-id"), None);
}

#[test]
fn other_paths_and_methods_are_no_operations() {
    let container = Container::new(|_| json(200, "1"));
    let emulator = Emulator::start(&container, |_| {});
    for path in ["/invocations", "/endpoints/ep/async-invocations", "/"] {
        let answer = emulator.client.post_bytes(path, &[], b"x").unwrap();
        let (status, name, body) = error(&answer);
        assert_eq!((status, name), (404, "UnknownOperationException"));
        let message = body["Message"].as_str().unwrap();
        assert!(
            message.contains("POST /endpoints/NAME/invocations"),
            "{message}"
        );
    }
    let answer = emulator.client.get("/endpoints/ep/invocations").unwrap();
    assert_eq!(error(&answer).1, "UnknownOperationException");
    assert!(container.seen().is_empty());
}
