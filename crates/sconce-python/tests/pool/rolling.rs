//! Handlers with a rolling batch of their own: requests that join and leave at every step.

use std::time::Duration;

use sconce_core::{Backend, RawInput, ServeError};

use crate::support::{Asked, Model, body, python, recovers, rests, says, submit};

/// Gives as many words as it is asked for, one in each step; keeps a list of what it works on, as
/// rolling batches do.
const WORDS: &str = r#"
import json, os, time
from djl_python import Output

rows = []

class Row:
    def __init__(self, item):
        asked = item.get_as_json()
        self.asked = asked
        self.left = asked["words"]
        self.seed = int(item.get_as_string("seed"))
        self.kind = item.get_property("Content-Type")

def note(text):
    with open("notes", "a") as f:
        f.write(text + "\n")

def handle(inputs):
    if inputs.is_empty():
        return None
    if inputs.get_property("reset_rollingbatch"):
        note(f"reset of {len(rows)}")
        rows.clear()
    batch = inputs.get_batches()
    for i, item in enumerate(batch):
        if i >= len(rows):
            rows.append(Row(item))
        elif item.get_as_bytes() != b"" or item.get_properties():
            raise ValueError("a request came twice")
    note(f"{len(batch)}")
    time.sleep(0.05)
    outputs = Output()
    for i, row in enumerate(rows):
        what = row.asked.get("what")
        if what == "raise":
            raise ValueError("no step")
        if what == "error":
            return Output().error("all fail", code=503)
        if what == "stream":
            return Output().add_stream_content(iter(["a", "b"]), None)
        if what == "few":
            return Output()
        if what == "exit":
            os._exit(5)
        row.left -= 1
        data = {"data": "" if what == "quiet" and row.left else f"w{row.left} ", "last": row.left == 0}
        if what == "code" and row.left == 0:
            data["code"], data["error"] = 418, "no tea"
        payload = b"none" if what == "payload" else Output.binary_encode(data)
        outputs.add(payload, key="data", batch_index=i)
        outputs.add_property(f"batch_{i}_Content-Type", row.kind)
        outputs.add_property(f"batch_{i}_seeded", str(0 <= row.seed < 2**31))
    rows[:] = [row for row in rows if row.left]
    return outputs
"#;

fn model() -> Model {
    let mut model = Model::new(WORDS);
    model.settings.rolling = Some(3);
    model
}

fn words(count: usize, what: &str) -> RawInput {
    body(&format!("{{\"words\": {count}, \"what\": \"{what}\"}}"))
}

fn text(asked: &Asked) -> String {
    let answer = asked.answer().unwrap_or_else(|error| panic!("{error}"));
    String::from_utf8(answer.body.to_vec()).unwrap()
}

fn steps(model: &Model) -> Vec<String> {
    let notes = std::fs::read_to_string(model.path("notes")).unwrap();
    notes.lines().map(str::to_owned).collect()
}

#[test]
fn requests_share_steps_and_each_gets_its_own_words() {
    if !python() {
        return;
    }
    let model = model();
    let pool = model.pool();
    let asked: Vec<_> = [4, 2, 6, 1]
        .map(|count| submit(&pool, words(count, "")).unwrap())
        .into();
    assert_eq!(text(&asked[0]), "w3 w2 w1 w0 ");
    assert_eq!(text(&asked[1]), "w1 w0 ");
    assert_eq!(text(&asked[2]), "w5 w4 w3 w2 w1 w0 ");
    let last = asked[3].answer().unwrap();
    assert_eq!((last.head.code, &last.body[..]), (200, &b"w0 "[..]));
    assert!(!last.head.streams, "its first part is its last");
    let header = |name: &str| {
        let mut properties = last.head.properties.iter();
        Some(properties.find(|(key, _)| key == name)?.1.clone())
    };
    assert_eq!(header("Content-Type").as_deref(), Some("text/plain"));
    assert_eq!(header("seeded").as_deref(), Some("True"));
    let steps = steps(&model);
    // Thirteen words, at most three at once; one by one it would be thirteen steps.
    assert!(steps.len() <= 9, "{steps:?}");
    assert!(
        steps
            .iter()
            .all(|step| ["1", "2", "3"].contains(&step.as_str()))
    );
    assert!(steps.contains(&"3".to_owned()), "{steps:?}");
    rests(&pool);
}

#[test]
fn parts_come_as_they_are_made_and_quiet_answers_at_once() {
    if !python() {
        return;
    }
    let model = model();
    let pool = model.pool();
    let streamed = submit(&pool, words(3, "")).unwrap();
    let answer = streamed.answer().unwrap();
    assert!(answer.head.streams);
    let quiet = submit(&pool, words(3, "quiet")).unwrap().answer().unwrap();
    assert_eq!((quiet.head.streams, &quiet.body[..]), (false, &b"w0 "[..]));
    let coded = submit(&pool, words(1, "code")).unwrap().answer().unwrap();
    assert_eq!(
        (coded.head.code, coded.head.message.as_str()),
        (418, "no tea")
    );
    assert_eq!(&coded.body[..], b"{\"error\":\"no tea\",\"code\":418}");
}

#[test]
fn a_client_that_leaves_keeps_its_place_to_the_end() {
    if !python() {
        return;
    }
    let model = model();
    let pool = model.pool();
    let gone = submit(&pool, words(8, "")).unwrap();
    let stays = submit(&pool, words(8, "")).unwrap();
    // Both have begun.
    gone.event();
    stays.event();
    gone.gone.store(true, std::sync::atomic::Ordering::SeqCst);
    assert!(stays.answer_rest().ends_with("w1 w0 "));
    assert!(!steps(&model).iter().any(|step| step.starts_with("reset")));
    assert_eq!(text(&submit(&pool, words(1, "")).unwrap()), "w0 ");
}

#[test]
fn a_step_that_fails_fails_all_its_requests_and_the_next_begins_anew() {
    if !python() {
        return;
    }
    let model = model();
    let pool = model.pool();
    for (what, wanted) in [
        ("raise", "no step"),
        ("error", "all fail"),
        ("stream", "with a stream"),
        ("few", "Batch output size mismatch, expected: "),
        ("payload", "Output.binary_encode"),
    ] {
        let other = submit(&pool, words(50, "quiet")).unwrap();
        let wrong = submit(&pool, words(1, what)).unwrap();
        for asked in [other, wrong] {
            let told = match asked.answer() {
                Ok(answer) => {
                    assert!(answer.head.code > 400, "{what}");
                    String::from_utf8(answer.body.to_vec()).unwrap()
                }
                Err(error) => error.to_string(),
            };
            says(&told, &[wanted]);
        }
        assert_eq!(
            text(&submit(&pool, words(2, "")).unwrap()),
            "w1 w0 ",
            "{what}"
        );
    }
    let resets = steps(&model);
    let resets = resets
        .iter()
        .filter(|step| step.starts_with("reset"))
        .count();
    assert_eq!(resets, 5);
    assert_eq!(pool.failure(), None);
}

#[test]
fn a_worker_that_dies_within_a_step_is_named_and_started_again() {
    if !python() {
        return;
    }
    let model = model();
    let pool = model.pool();
    let other = submit(&pool, words(50, "quiet")).unwrap();
    let dying = submit(&pool, words(1, "exit")).unwrap();
    for asked in [other, dying] {
        let Err(ServeError::WorkerLost { cause, .. }) = asked.answer() else {
            panic!("it must be lost")
        };
        says(&cause, &["exit code 5"]);
    }
    let again = recovers(&pool, "{\"words\": 1}");
    assert!(again < Duration::from_secs(20), "{again:?}");
    rests(&pool);
}
