//! What a handler gets and what it may answer.

use std::time::Duration;

use sconce_core::{RawInput, ServeError};

use crate::support::{Model, ask, body, python, says, submit, text};

const ECHO: &str = r#"
from djl_python import Input, Output

def handle(inputs):
    if inputs.is_empty():
        return None
    if inputs.contains_key("exception"):
        raise ValueError(inputs.get_as_string("exception"))
    if inputs.contains_key("typeerror"):
        return "a text"
    if inputs.contains_key("nothing"):
        return None
    if inputs.contains_key("memory"):
        raise MemoryError("no room left")
    outputs = Output()
    outputs.add_property("content-type", inputs.get_property("content-type"))
    if inputs.is_batch():
        for i, item in enumerate(inputs.get_batches()):
            outputs.add(item.get_as_bytes(), key="data", batch_index=i)
    else:
        outputs.add(inputs.get_as_bytes(), key="data")
    return outputs
"#;

fn with_key(key: &str, value: &str) -> RawInput {
    let mut input = body("");
    input
        .content
        .insert(0, (key.into(), value.to_owned().into()));
    input
}

#[test]
fn bytes_go_through_untouched() {
    if !python() {
        return;
    }
    let model = Model::new(ECHO);
    let pool = model.pool();
    let mut input = body("");
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    input.content[0].1 = bytes.clone().into();
    let answer = submit(&pool, input).unwrap().answer().unwrap();
    assert_eq!(answer.body, bytes);
    assert_eq!(
        (answer.head.code, answer.head.message.as_str()),
        (200, "OK")
    );
    let property = ("content-type".to_owned(), "text/plain".to_owned());
    assert_eq!(answer.head.properties, [property]);
    assert!(!answer.head.streams);
}

#[test]
fn failures_of_a_handler_are_answers() {
    if !python() {
        return;
    }
    let model = Model::new(ECHO);
    let pool = model.pool();
    let answer = |input| submit(&pool, input).unwrap().answer().unwrap();
    let failed = answer(with_key("exception", "boom"));
    assert_eq!(failed.head.code, 424);
    assert_eq!(failed.head.message, "invoke handler failure");
    // The bytes that the package of DJL Serving was seen to send.
    let wanted = "{\n  \"code\":424,\n  \"message\":\"invoke handler failure\",\n  \
                  \"error\":\"boom\"\n}";
    assert_eq!(failed.body, wanted);
    let wrong = answer(with_key("typeerror", "1"));
    assert_eq!(wrong.head.code, 424);
    says(
        std::str::from_utf8(&wrong.body).unwrap(),
        &["Invalid output type: <class 'str'>"],
    );
    let nothing = answer(with_key("nothing", "1"));
    assert_eq!(nothing.head.code, 204);
    assert_eq!(nothing.head.message, "No content");
    assert!(nothing.body.is_empty());
    let short = answer(with_key("memory", "1"));
    assert_eq!(short.head.code, 507);
    assert_eq!(short.head.message, "no room left");
    // The process is still the same.
    assert_eq!(text(ask(&pool, "still here")), "still here");
}

#[test]
fn requests_that_come_together_are_answered_together() {
    if !python() {
        return;
    }
    let mut model = Model::new(&format!(
        "{ECHO}\nreal = handle\ndef handle(inputs):\n    output = real(inputs)\n    if output:\n        \
         output.add_property('size', inputs.get_batch_size())\n    return output\n"
    ));
    model.settings.batch_size = 3;
    model.settings.max_batch_delay = Duration::from_secs(30);
    let pool = model.pool();
    let asked: Vec<_> = ["a", "b", "c"]
        .map(|t| submit(&pool, body(t)).unwrap())
        .into();
    for (asked, wanted) in asked.iter().zip(["a", "b", "c"]) {
        let answer = asked.answer().unwrap();
        assert_eq!(answer.body, wanted);
        let size = ("size".to_owned(), "3".to_owned());
        assert!(answer.head.properties.contains(&size), "{answer:?}");
    }
    // What does not fit is everybody's failure, and by name.
    let mut model = Model::new(
        "from djl_python import Output\n\
         def handle(inputs):\n    return Output().add('one') if not inputs.is_empty() else None\n",
    );
    model.settings.batch_size = 2;
    model.settings.max_batch_delay = Duration::from_secs(30);
    let pool = model.pool();
    let asked: Vec<_> = ["a", "b"].map(|t| submit(&pool, body(t)).unwrap()).into();
    for asked in asked {
        let Err(ServeError::BadAnswer { problem }) = asked.answer() else {
            panic!("the answer does not fit")
        };
        says(
            &problem,
            &["Batch output size mismatch, expected: 2, actual: 1"],
        );
    }
}

#[test]
fn a_lone_request_of_a_batch_waits_for_the_delay_only() {
    if !python() {
        return;
    }
    let mut model = Model::new(ECHO);
    model.settings.batch_size = 8;
    model.settings.max_batch_delay = Duration::from_millis(50);
    let pool = model.pool();
    assert_eq!(text(ask(&pool, "alone")), "alone");
}

#[test]
fn the_first_call_gets_the_settings_and_no_other() {
    if !python() {
        return;
    }
    let mut model = Model::new(
        r#"
import json, os
from djl_python import Output
seen = None

def answer(inputs):
    global seen
    if inputs.is_empty():
        seen = inputs.get_properties()
        return None
    return Output().add({
        "seen": seen, "now": inputs.get_properties(), "cwd": os.getcwd(),
        "variable": os.environ["MINE"], "function": inputs.get_function_name(),
    })
"#,
    );
    model.settings.handler = "answer".into();
    model.settings.properties = vec![("model_id".into(), "x/y".into())];
    model.settings.interpreter.environment = vec![("MINE".into(), "1".into())];
    let answer = text(ask(&model.pool(), "?"));
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    let dir = model.settings.dir.to_string_lossy();
    assert_eq!(answer["seen"]["model_id"], "x/y");
    assert_eq!(answer["seen"]["model_dir"], *dir);
    assert_eq!(answer["seen"]["device_id"], "-1");
    assert_eq!(answer["seen"]["cluster_size"], 1);
    assert_eq!(answer["now"].get("model_id"), None);
    assert_eq!(answer["now"]["Content-Type"], "text/plain");
    assert_eq!(answer["cwd"], *dir);
    assert_eq!(answer["variable"], "1");
    assert_eq!(answer["function"], "answer");
}

#[test]
fn a_code_that_is_no_status_and_an_output_that_cannot_be_written_are_named() {
    if !python() {
        return;
    }
    let model = Model::new(
        "from djl_python import Output\n\
         def handle(inputs):\n    \
         if inputs.is_empty():\n        return None\n    \
         return Output(code=eval(inputs.get_as_string()))\n",
    );
    let pool = model.pool();
    for wrong in ["7", "'200'", "70000"] {
        let answer = ask(&pool, wrong).unwrap();
        assert_eq!(answer.head.code, 424, "{wrong}");
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        says(&text, &["must be an HTTP status, a number, not"]);
    }
    assert_eq!(ask(&pool, "201").unwrap().head.code, 201);
}
