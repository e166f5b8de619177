//! Faulty requests: exactly this status and this message, and no job.

use std::sync::Arc;

use sconce_testkit::fakes::FakeGateway;

use super::*;

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const ATTRIBUTES: &str = "X-Amzn-SageMaker-Custom-Attributes";
const UUID: &str = "00000000-0000-4000-8000-000000000000";

/// Method, path, headers, body; then status and a part of the message.
type Case<'a> = (
    &'a str,
    &'a str,
    &'a [(&'a str, &'a str)],
    &'a [u8],
    u16,
    &'a str,
);

fn check(cases: &[Case<'_>]) {
    let gateway = Arc::new(FakeGateway::greeting());
    let settings = HttpSettings {
        max_request_size: 1000,
        ..HttpSettings::default()
    };
    let server = Server::start(&gateway, settings);
    for (method, path, headers, body, status, text) in cases {
        let answer = server.client.request(method, path, headers, body).unwrap();
        let shown = String::from_utf8_lossy(body);
        let request = format!("{method} {path} {headers:?} {shown}");
        assert_eq!(answer.status, *status, "{request}: {}", answer.text());
        assert_eq!(
            answer.header("content-type"),
            Some("application/json"),
            "{request}"
        );
        assert_eq!(answer.header("connection"), Some("close"), "{request}");
        let json = answer.json().unwrap();
        // OpenAI's form has all within `error`.
        let told = match json["error"].is_object() {
            true => &json["error"],
            false => &json,
        };
        assert_eq!(told["code"], *status, "{request}");
        let message = told["message"].as_str().or(told["error"].as_str()).unwrap();
        assert!(message.contains(text), "{request}: {message}");
    }
    assert!(gateway.jobs().is_empty());
}

#[test]
fn bodies_that_are_no_request() {
    let post: fn(&'static [u8], &'static str) -> Case<'static> =
        |body, text| ("POST", "/invocations", &[], body, 424, text);
    check(&[
        post(b"", "Received payload is empty"),
        post(
            b"{\"inputs\": \"x\"",
            "EOF while parsing an object at line 1 column 14",
        ),
        post(b"[1]", "should be a json object"),
        post(b"\"x\"", "should be a json object"),
        post(b"{}", "specifying the 'inputs' field"),
        post(b"{\"inputs\": 5}", "Received type <class 'int'>"),
        post(b"{\"inputs\": \"\"}", "does not contain any content"),
        post(b"{\"inputs\": []}", "does not contain any content"),
        post(b"{\"inputs\": [1]}", "Received type <class 'int'>"),
        post(b"\x1f\x8b\x08", "not valid JSON"),
        post(b"{\"inputs\": \"\xff\"}", "invalid unicode"),
        post(
            b"{\"inputs\": \"x\", \"parameters\": 1}",
            "must be provided as an object",
        ),
        post(
            b"{\"inputs\": \"x\", \"parameters\": {\"max_tokens\": 5}}",
            "did you mean `max_new_tokens`?",
        ),
        post(
            b"{\"inputs\": \"x\", \"parameters\": {\"max_new_tokens\": 0}}",
            "must be an integer from 1",
        ),
        post(
            b"{\"inputs\": \"x\", \"parameters\": {\"temperature\": -1}}",
            "0 means greedy",
        ),
        post(
            b"{\"inputs\": \"x\", \"max_new_tokens\": 5}",
            "belongs inside `parameters`",
        ),
        post(b"{\"inputs\": \"x\", \"stream\": \"yes\"}", "`stream`"),
        post(b"{\"messages\": []}", "at least one"),
        (
            "GET",
            "/invocations",
            &[],
            b"",
            424,
            "Received payload is empty",
        ),
        (
            "DELETE",
            "/predictions/test",
            &[],
            b"",
            424,
            "Received payload is empty",
        ),
        (
            "POST",
            "/v1/chat/completions",
            &[],
            b"{\"messages\": []}",
            400,
            "at least one",
        ),
    ]);
}

#[test]
fn content_that_is_no_text() {
    let post: fn(&'static str, &'static [u8], &'static str) -> Case<'static> =
        |kind, body, text| {
            let headers: &'static [(&str, &str)] = Box::leak(Box::new([("content-type", kind)]));
            ("POST", "/invocations", headers, body, 424, text)
        };
    check(&[
        post(FORM.1, b"hello", "-H 'Content-Type: application/json'"),
        post(
            FORM.1,
            b"inputs=x&parameters=5%",
            "`parameters` is not JSON",
        ),
        post(FORM.1, b"inputs=x&seed=1&seed=2", "`seed` twice"),
        post("multipart/form-data", b"", "boundary"),
        post("multipart/form-data; boundary=B", b"--B\r\n", "incomplete"),
        post(
            "application/x-npy",
            b"\x93NUMPY",
            "application/x-npy is not text",
        ),
        post("application/x-npz", b"PK", "application/x-npz is not text"),
        post("tensor/ndlist", b"x", "text/csv with a column `inputs`"),
        post("tensor/npz", b"x", "tensor/npz is not text"),
        post("image/jpeg", b"x", "image/jpeg is not text"),
        post("audio/wav", b"x", "audio/wav is not text"),
        post(
            "application/json; charset=utf-16",
            b"{}",
            "charset=utf-16; send UTF-8",
        ),
        post("text/plain", b"\xff", "not UTF-8"),
        post("text/csv", b"question\nx\n", "takes a column `inputs`"),
        post("text/csv", b"inputs\n", "no rows"),
        post(
            "application/jsonlines",
            b"{\"inputs\":1}\n{}\n",
            "has 2 lines",
        ),
        (
            "POST",
            "/invocations",
            &[("content-encoding", "gzip")],
            b"x",
            415,
            "Content-Encoding: gzip",
        ),
        (
            "POST",
            "/invocations",
            &[("content-encoding", "br")],
            b"x",
            415,
            "send the body as it is",
        ),
        (
            "POST",
            "/invocations",
            &[],
            &[b' '; 1001],
            413,
            "max_request_size = 1000 bytes",
        ),
    ]);
}

const ASK: &[u8] = br#"{"inputs": "x"}"#;

#[test]
fn places_that_are_not_there() {
    let route = "Requested resource is not found, please refer to API document.";
    let model = "Model or workflow not found: nope";
    let post: fn(&'static str, &'static str) -> Case<'static> =
        |path, text| ("POST", path, &[], ASK, 404, text);
    check(&[
        post("/v1/embeddings", "the task of the model is text-generation"),
        post("/v1/models", route),
        post("/predictions", route),
        post("/predictions/", route),
        post("/server/other", route),
        post("/v2/models/test/infer", route),
        ("GET", "/v2/models/nope/ready", &[], b"", 404, model),
        (
            "GET",
            "/v2/models/test/versions/2/ready",
            &[],
            b"",
            404,
            "not found: test",
        ),
        post("/predictions/nope", model),
        post("/models/nope/invoke", model),
        post("/invocations?model_name=nope", model),
        post("/predictions/test/2", "Model or workflow not found: test"),
        post(
            "/invocations?model_version=2",
            "Model or workflow not found: test",
        ),
        post(
            "/predictions/%ff",
            "Model or workflow not found: /predictions/%ff",
        ),
        (
            "POST",
            "/invocations",
            &[(ATTRIBUTES, "model_name=nope")],
            ASK,
            404,
            model,
        ),
        (
            "POST",
            "/invocations",
            &[FORM],
            b"model_name=nope&inputs=x",
            404,
            model,
        ),
        ("GET", "/models/nope", &[], b"", 404, model),
        ("GET", "/models/test/1", &[], b"", 404, "not found: test"),
        ("OPTIONS", "/predictions/nope", &[], b"", 404, model),
        ("DELETE", "/", &[], b"", 404, route),
    ]);
}

#[test]
fn methods_and_changes_that_are_not_allowed() {
    let method = "Requested method is not allowed, please refer to API document.";
    check(&[
        ("DELETE", "/models", &[], b"", 405, method),
        ("PATCH", "/models/test", &[], b"", 405, method),
        ("POST", "/models/test", &[], b"", 405, method),
        ("PUT", "/workflows", &[], b"", 405, method),
        ("POST", "/workflows/w", &[], b"", 405, method),
        ("POST", "/server/metrics", &[], b"", 405, method),
        ("POST", "/execution-parameters", &[], b"", 405, method),
        ("POST", "/metrics", &[], b"", 405, method),
        ("POST", "/v2/health/ready", &[], b"", 405, method),
        ("GET", "/adapters", &[], b"", 400, "LoRA is not enabled."),
        (
            "POST",
            "/models/test/adapters?name=a&src=b",
            &[],
            b"",
            400,
            "LoRA is not enabled.",
        ),
        (
            "GET",
            "/models?limit=x",
            &[],
            b"",
            400,
            "Parameter limit is \"x\"",
        ),
        (
            "GET",
            "/models?next_page_token=-2",
            &[],
            b"",
            400,
            "must be a whole number",
        ),
    ]);
}

#[test]
fn properties_that_cannot_be_followed() {
    let overridden = "The handler can't be overridden in a request";
    let adapter = "The adapter a has not been registered";
    let long = format!("{UUID}99999999999999999999999");
    let post: fn(&'static [(&str, &str)], u16, &'static str) -> Case<'static> =
        |headers, status, text| ("POST", "/invocations", headers, ASK, status, text);
    check(&[
        post(&[("handler", "other")], 400, overridden),
        post(&[(ATTRIBUTES, "handler=other")], 400, overridden),
        (
            "POST",
            "/invocations?handler=other",
            &[],
            ASK,
            400,
            overridden,
        ),
        post(
            &[("X-Amzn-SageMaker-Adapter-Identifier", "a")],
            424,
            adapter,
        ),
        ("POST", "/invocations?adapter=a", &[], ASK, 424, adapter),
        post(
            &[("x-synchronous", "maybe")],
            400,
            "x-synchronous: maybe is neither true nor false",
        ),
        post(
            &[("x-starting-token", "t")],
            400,
            "Invalid x-starting-token: t",
        ),
        post(
            &[("x-starting-token", UUID)],
            400,
            "Invalid x-starting-token: 00000000-",
        ),
        post(
            &[(ATTRIBUTES, "x-starting-token=")],
            400,
            "Invalid x-starting-token: ",
        ),
        (
            "POST",
            "/invocations",
            &[("x-starting-token", &long)],
            b"",
            400,
            "Invalid x-starting-token",
        ),
        post(
            &[("x-starting-token", UUID), ("x-max-items", "0")],
            400,
            "must be a number from 1",
        ),
        post(
            &[("x-starting-token", UUID), ("x-max-items", "all")],
            400,
            "x-max-items: all",
        ),
    ]);
}

#[test]
fn what_is_no_http_is_told_so_and_closed() {
    let gateway = Arc::new(FakeGateway::greeting());
    let server = Server::start(&gateway, HttpSettings::default());
    let huge = format!(
        "GET /ping HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n",
        "y".repeat(1_000_000)
    );
    let cases = [
        ("NONSENSE\r\n\r\n", "HTTP/1.1 400"),
        ("GET /ping HTTP/9.9\r\n\r\n", "HTTP/1.1 400"),
        ("GET /ping HTTP/1.1\r\nbad header\r\n\r\n", "HTTP/1.1 400"),
        (
            "POST /ping HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
            "HTTP/1.1 400",
        ),
        (
            "POST /invocations HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n",
            "HTTP/1.1 424",
        ),
        (&huge, "HTTP/1.1 431"),
    ];
    for (request, wanted) in cases {
        let mut raw = server.client.raw().unwrap();
        // A server that refuses early may close before all is sent.
        let _ = raw.send(request.as_bytes());
        let answer = raw.read_to_end().unwrap();
        assert!(answer.starts_with(wanted), "{}: {answer}", &request[..20]);
    }
}
