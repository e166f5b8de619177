//! The end, and who is told of it.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use axum::response::IntoResponse;
use tokio::runtime::Runtime;

use super::{Container, Emulator, chunks, error, port, upstream};
use crate::Settings;

#[test]
fn an_idle_server_ends_at_once() {
    let emulator = Emulator::start(&Container::new(|_| "1".into_response()), |_| {});
    assert_eq!(emulator.invoke(&[], b"x").status, 200);
    let began = Instant::now();
    emulator.end();
    emulator.join();
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn calls_that_outlast_the_drain_are_told_that_this_is_the_end() {
    let container = Container::new(|_| chunks(&["one\n"], false).into_response());
    let emulator = Emulator::start(&container, |settings| {
        settings.drain = Duration::from_millis(100);
    });
    std::thread::scope(|scope| {
        let whole = scope.spawn(|| emulator.invoke(&[], b"x"));
        let mut stream = emulator.client.raw().expect("a connection");
        let request = "POST /endpoints/ep/invocations-response-stream HTTP/1.1\r\nhost: x\r\n\
                       content-length: 1\r\n\r\nx";
        stream.send(request.as_bytes()).unwrap();
        stream.read_until("one\n").unwrap();
        while container.seen().len() < 2 {
            std::thread::yield_now();
        }
        emulator.end();
        let answer = whole.join().expect("an answer");
        assert_eq!(
            (answer.status, error(&answer).1),
            (503, "ServiceUnavailable")
        );
        let rest = stream.read_to_end().unwrap();
        assert!(rest.contains("InternalStreamFailure"), "{rest}");
    });
    emulator.join();
}

#[test]
fn waiting_ends_when_ping_gives_two_hundred_or_with_the_last_reason() {
    let runtime = Runtime::new().unwrap();
    let container = Container::new(|_| "1".into_response());
    let healthy = container.listen(&runtime);
    let emulator = crate::Emulator::new(Settings::new(healthy));
    let waited = runtime.block_on(emulator.wait_until_healthy(Duration::from_secs(20)));
    assert!(waited.is_ok(), "{waited:?}");

    let listener = port(&runtime);
    let address = listener.local_addr().unwrap();
    let sick = axum::Router::new()
        .fallback(|| async { (StatusCode::SERVICE_UNAVAILABLE, "weights: 40 %") });
    runtime.spawn(async move { axum::serve(listener, sick).await });
    let limit = Duration::from_millis(300);
    let emulator = crate::Emulator::new(Settings::new(upstream(address)));
    let waited = runtime.block_on(emulator.wait_until_healthy(limit));
    let message = waited.unwrap_err().to_string();
    assert!(
        message.ends_with("GET /ping gave 503, and only 200 counts: weights: 40 %"),
        "{message}"
    );
}
