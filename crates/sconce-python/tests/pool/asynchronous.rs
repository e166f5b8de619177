//! Handlers that are coroutines: requests run side by side in one worker.

use std::time::{Duration, Instant};

use sconce_core::{Event, RawEvent, ServeError};

use crate::support::{Model, ask, body, python, recovers, says, submit, text};

const CODE: &str = r#"
import asyncio, json, os
from djl_python import Input, Output

async def parts(count, properties):
    for i in range(count):
        await asyncio.sleep(0.2)
        output = Output()
        output.add_property("content-type", "application/jsonlines")
        last = i + 1 == count
        output.add(Output.binary_encode({"data": json.dumps({"n": i}) + "\n", "last": last}))
        yield output

async def handle(inputs: Input):
    if inputs.is_empty():
        return None
    what = inputs.get_as_string()
    if what == "stream":
        return parts(3, inputs.get_properties())
    if what == "error":
        raise ValueError("no luck")
    if what == "payload error":
        return Output().add(Output.binary_encode({"data": "", "last": True, "code": 424, "error": "too long"}))
    if what == "plain":
        return Output().add({"a": 1})
    if what == "nothing":
        return None
    if what == "wrong":
        return 7
    if what == "exit":
        os._exit(8)
    if what == "block":
        while True:
            pass
    await asyncio.sleep(float(what))
    return Output().add(Output.binary_encode({"data": "slept " + what, "last": True}))
"#;

fn model() -> Model {
    let mut model = Model::new(CODE);
    model.settings.asynchronous = true;
    model
}

#[test]
fn requests_run_side_by_side_and_end_in_any_order() {
    if !python() {
        return;
    }
    let model = model();
    let pool = model.pool();
    let began = Instant::now();
    let slow = submit(&pool, body("1.0")).unwrap();
    let quick: Vec<_> = (0..8)
        .map(|_| submit(&pool, body("0.3")).unwrap())
        .collect();
    for asked in &quick {
        assert_eq!(text(asked.answer()), "slept 0.3");
    }
    assert!(slow.events.try_recv().is_err());
    assert_eq!(text(slow.answer()), "slept 1.0");
    // One after the other they would take 3.4 s.
    assert!(
        began.elapsed() < Duration::from_millis(2900),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn parts_of_a_stream_come_as_they_are_made() {
    if !python() {
        return;
    }
    let model = model();
    let pool = model.pool();
    let asked = submit(&pool, body("stream")).unwrap();
    let Event::Raw(RawEvent::Head(head)) = asked.event() else {
        panic!("a head comes first")
    };
    assert!(head.streams);
    let property = (
        "content-type".to_owned(),
        "application/jsonlines".to_owned(),
    );
    assert!(head.properties.contains(&property), "{head:?}");
    assert_eq!(asked.answer_rest(), "{\"n\": 0}\n{\"n\": 1}\n{\"n\": 2}\n");
}

#[test]
fn failures_have_their_codes() {
    if !python() {
        return;
    }
    let model = model();
    let pool = model.pool();
    let error = ask(&pool, "error").unwrap();
    assert_eq!(error.head.code, 424);
    assert_eq!(error.head.message, "service.invoke_handler_async() failure");
    says(std::str::from_utf8(&error.body).unwrap(), &["no luck"]);
    let error = ask(&pool, "payload error").unwrap();
    assert_eq!(
        (error.head.code, error.head.message.as_str()),
        (424, "too long")
    );
    assert_eq!(error.body, r#"{"error":"too long","code":424}"#);
    assert_eq!(ask(&pool, "nothing").unwrap().head.code, 204);
    assert_eq!(ask(&pool, "wrong").unwrap().head.code, 424);
    // In DJL Serving an ordinary Output breaks the worker.
    assert_eq!(text(ask(&pool, "plain")), "{\n  \"a\":1\n}");
}

#[test]
fn a_worker_that_dies_or_blocks_is_started_again() {
    if !python() {
        return;
    }
    let mut model = model();
    model.settings.predict_timeout = Duration::from_secs(1);
    let pool = model.pool();
    let waits = submit(&pool, body("0.9")).unwrap();
    let Err(ServeError::WorkerLost { cause, .. }) = ask(&pool, "exit") else {
        panic!("its worker is gone")
    };
    says(&cause, &["ended with exit code 8"]);
    assert!(waits.answer().is_err());
    assert!(recovers(&pool, "0") < Duration::from_secs(8));
    assert_eq!(
        ask(&pool, "block").unwrap_err(),
        ServeError::Timeout { seconds: 1 }
    );
    assert!(recovers(&pool, "0") < Duration::from_secs(8));
}
