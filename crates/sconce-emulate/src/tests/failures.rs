//! What boto3 is told when something goes wrong.

use std::time::Duration;

use axum::response::IntoResponse;
use tokio::runtime::Runtime;

use super::{Container, Emulator, chunks, error, json, port, upstream};

#[test]
fn a_container_s_failure_is_a_model_error_with_its_status_and_body() {
    let container = Container::new(|seen| match &seen.body[..] {
        b"503" => json(503, "{\"code\":503}"),
        b"302" => json(302, ""),
        _ => json(400, "{\"error\":\"bad \\\"inputs\\\"\"}"),
    });
    let emulator = Emulator::start(&container, |_| {});
    for stream in [false, true] {
        let ask = |body: &[u8]| match stream {
            false => emulator.invoke(&[], body),
            true => emulator.stream(&[], body),
        };
        let answer = ask(b"400");
        let (status, name, body) = error(&answer);
        assert_eq!((status, name), (424, "ModelError"));
        assert_eq!(body["OriginalStatusCode"], 400);
        assert_eq!(
            body["OriginalMessage"],
            "{\"error\":\"bad \\\"inputs\\\"\"}"
        );
        assert_eq!(
            body["Message"],
            "Received client error (400) from primary with message \"{\"error\":\"bad \\\"inputs\\\"\"}\""
        );
        let log = body["LogStreamArn"].as_str().unwrap();
        assert!(
            log.ends_with(":log-group:/aws/sagemaker/Endpoints/ep"),
            "{log}"
        );

        let body = ask(b"503").json().unwrap();
        let message = body["Message"].as_str().unwrap();
        assert!(
            message.starts_with("Received server error (503)"),
            "{message}"
        );
        assert_eq!(ask(b"302").json().unwrap()["OriginalStatusCode"], 302);
    }
}

#[test]
fn too_late_is_said_in_the_service_s_words() {
    let container = Container::new(|_| chunks(&["{"], false).into_response());
    let emulator = Emulator::start(&container, |settings| {
        settings.invoke_timeout = Duration::from_millis(500);
    });
    let answer = emulator.invoke(&[], b"x");
    let (status, name, body) = error(&answer);
    assert_eq!((status, name), (424, "ModelError"));
    assert_eq!(body["OriginalStatusCode"], 0);
    let message = body["Message"].as_str().unwrap();
    let words = "Received server error (0) from primary with message \"Your invocation timed out \
                 while waiting for a response from container primary.";
    assert!(message.starts_with(words), "{message}");
}

#[test]
fn payloads_have_a_limit_both_ways() {
    let container = Container::new(|seen| "y".repeat(seen.body.len() * 2).into_response());
    let emulator = Emulator::start(&container, |settings| settings.max_payload = 1000);
    assert_eq!(emulator.invoke(&[], &[b'x'; 500]).body.len(), 1000);
    let answer = emulator.invoke(&[], &[b'x'; 501]);
    assert_eq!((answer.status, error(&answer).1), (424, "ModelError"));
    assert!(
        answer.text().contains("more than 1000 bytes"),
        "{}",
        answer.text()
    );
    assert_eq!(emulator.stream(&[], &[b'x'; 501]).status, 200);

    // Larger than what fits into the buffers of a socket.
    let answer = emulator.invoke(&[], &vec![b'x'; 20_000_000]);
    assert_eq!((answer.status, error(&answer).1), (400, "ValidationError"));
    let wanted = "Member must have length less than or equal to 1000";
    assert!(answer.text().contains(wanted), "{}", answer.text());
    assert_eq!(container.seen().len(), 3, "the container has not seen it");
}

#[test]
fn wrong_headers_are_refused_before_the_container_sees_them() {
    let container = Container::new(|_| json(200, "1"));
    let emulator = Emulator::start(&container, |_| {});
    for (header, value, part) in [
        (
            "x-amzn-sagemaker-target-variant",
            "Other",
            "Variant Other not found on endpoint ep",
        ),
        ("x-amzn-sagemaker-target-model", "m.tar.gz", "--multi-model"),
        ("x-amzn-sagemaker-session-id", "a_b", "'sessionId'"),
    ] {
        let answer = emulator.invoke(&[(header, value)], b"x");
        let (status, name, body) = error(&answer);
        assert_eq!((status, name), (400, "ValidationError"), "{header}");
        let message = body["Message"].as_str().unwrap();
        assert!(message.contains(part), "{message}");
    }
    assert!(container.seen().is_empty());
}

#[test]
fn a_container_that_is_not_there_is_not_ready() {
    let runtime = Runtime::new().unwrap();
    let address = port(&runtime).local_addr().unwrap();
    let emulator = Emulator::before(runtime, upstream(address), |_| {});
    let answer = emulator.invoke(&[], b"x");
    let (status, name, body) = error(&answer);
    assert_eq!((status, name), (429, "ModelNotReadyException"));
    let message = body["Message"].as_str().unwrap();
    assert!(
        message.contains(&format!("cannot connect to http://{address}")),
        "{message}"
    );
}

#[test]
fn a_container_that_hangs_up_has_failed_and_one_that_is_gone_is_an_internal_failure() {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let container = std::thread::spawn(move || {
        // Healthy once, then it hangs up on one call, then it is gone.
        loop {
            let (mut socket, _) = listener.accept().unwrap();
            let mut head = [0; 4096];
            let length = socket.read(&mut head).unwrap();
            if !head[..length].starts_with(b"GET /ping") {
                return;
            }
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            socket.write_all(answer).unwrap();
        }
    });
    let emulator = Emulator::before(Runtime::new().unwrap(), upstream(address), |_| {});
    let answer = emulator.invoke(&[], b"x");
    let (status, name, body) = error(&answer);
    assert_eq!((status, name), (424, "ModelError"));
    assert_eq!(body["OriginalStatusCode"], 0);
    let message = body["Message"].as_str().unwrap();
    assert!(
        message.contains("closed the connection without an answer"),
        "{message}"
    );
    container.join().unwrap();
    let answer = emulator.invoke(&[], b"x");
    assert_eq!((answer.status, error(&answer).1), (500, "InternalFailure"));
    // Now that this is known, it is not ready.
    assert_eq!(emulator.invoke(&[], b"x").status, 429);
}
