//! Answers that come in parts.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sconce_core::{Event, RawEvent};

use crate::support::{Model, ask, body, python, says, submit, text};

const STREAM: &str = r#"
import time
from djl_python import Output

def count(pause, most):
    try:
        for i in range(most):
            yield f"t-{i}\n"
            time.sleep(pause)
    finally:
        open("ended", "w").close()

def broken():
    yield "a"
    raise ValueError("half way")

def handle(inputs):
    if inputs.is_empty():
        return None
    what = inputs.get_as_string()
    if what == "tokens":
        return Output().add_stream_content(iter(["a", "b"]))
    if what == "broken":
        return Output().add_stream_content(broken(), None)
    if what == "list":
        return Output().add_stream_content([b"x", "y", {"z": 1}], None)
    if what == "endless":
        return Output().add_stream_content(count(0.05, 10**9), None)
    if what == "count":
        return Output().add_stream_content(count(0.3, 3), None)
    return Output().add(what)
"#;

#[test]
fn parts_come_as_they_are_made() {
    if !python() {
        return;
    }
    let model = Model::new(STREAM);
    let pool = model.pool();
    let asked = submit(&pool, body("count")).unwrap();
    let Event::Raw(RawEvent::Head(head)) = asked.event() else {
        panic!("a head comes first")
    };
    assert!(head.streams);
    let began = Instant::now();
    let chunk = Event::Raw(RawEvent::Chunk("t-0\n".into()));
    assert_eq!(asked.event(), chunk);
    let first = began.elapsed();
    assert_eq!(asked.answer_rest(), "t-1\nt-2\n");
    let rest = began.elapsed() - first;
    assert!(rest >= Duration::from_millis(550), "{rest:?}");
}

#[test]
fn formatters_and_failures_of_a_stream_are_as_in_djl() {
    if !python() {
        return;
    }
    let model = Model::new(STREAM);
    let pool = model.pool();
    let tokens = "{\"outputs\": \"a\"}\n{\"outputs\": \"b\"}\n";
    assert_eq!(text(ask(&pool, "tokens")), tokens);
    assert_eq!(text(ask(&pool, "broken")), "ahalf way");
    assert_eq!(text(ask(&pool, "list")), "xy{\n  \"z\":1\n}");
    assert_eq!(text(ask(&pool, "plain")), "plain");
}

#[test]
fn a_stream_whose_client_leaves_ends_and_its_worker_stays() {
    if !python() {
        return;
    }
    let model = Model::new(STREAM);
    let pool = model.pool();
    let asked = submit(&pool, body("endless")).unwrap();
    for _ in 0..3 {
        asked.event();
    }
    asked.gone.store(true, Ordering::SeqCst);
    let began = Instant::now();
    assert_eq!(text(ask(&pool, "next")), "next");
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    // The generator's own end was reached.
    assert!(model.path("ended").exists());
}

#[test]
fn a_stream_that_stalls_ends_its_worker() {
    if !python() {
        return;
    }
    let mut model = Model::new(
        "import time\nfrom djl_python import Output\n\
         def parts():\n    yield 'a'\n    time.sleep(600)\n\
         def handle(inputs):\n    \
         if inputs.is_empty():\n        return None\n    \
         if inputs.get_as_string() == 'stall':\n        \
         return Output().add_stream_content(parts(), None)\n    \
         return Output().add('ok')\n",
    );
    model.settings.predict_timeout = Duration::from_secs(1);
    let pool = model.pool();
    let error = ask(&pool, "stall").unwrap_err().to_string();
    says(&error, &["predict_timeout = 1 s"]);
    assert_eq!(text(ask(&pool, "x")), "ok");
}
