//! The built program with a checkpoint and a `model.py` whose functions change requests or answers:
//! the native engine computes. Without a python3 these tests say so and pass.

use std::fs;

use sconce_testkit::client::Client;
use sconce_testkit::server::{Launch, Server};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::python_mode::python;
use crate::support::{PROGRAM, answer_of_the_folder, copy_checkpoint};

const PROMPT: &str = "The quick brown fox";

struct Serving {
    server: Server,
    _dir: TempDir,
}

fn folder(properties: &str, code: &str) -> (TempDir, Launch<'static>) {
    let dir = TempDir::new().unwrap();
    let model = copy_checkpoint("llama", dir.path());
    fs::write(model.join("serving.properties"), properties).unwrap();
    fs::write(model.join("model.py"), code).unwrap();
    let launch = Launch::serve(PROGRAM, &model);
    (dir, launch)
}

fn ready(properties: &str, code: &str) -> Serving {
    let (dir, launch) = folder(properties, code);
    let mut server = launch.start().unwrap();
    server.wait_for_log("is ready after").unwrap();
    Serving { server, _dir: dir }
}

impl Serving {
    fn client(&self) -> Client {
        Client::new(self.server.address())
    }
}

/// The text that the engine generates is the same whoever formats it.
fn request(stream: bool) -> Value {
    let parameters = json!({"max_new_tokens": 12, "do_sample": false});
    json!({"inputs": PROMPT, "parameters": parameters, "stream": stream})
}

const ROLLING: &str = r#"
import json
from djl_python import Input
from djl_python.encode_decode import decode
from djl_python.input_parser import input_formatter
from djl_python.output_formatter import output_formatter
from djl_python.request_io import TextGenerationOutput, TextInput

class Asked(TextInput):
    trace = None

@input_formatter
def read(item: Input, **kwargs) -> Asked:
    got = decode(item, item.get_property("Content-Type"))
    asked = Asked()
    asked.input_text = got["ask"]
    asked.parameters = {"max_new_tokens": got["length"], "do_sample": False,
                        "stream": got.get("stream", False)}
    asked.trace = item.get_property("X-Trace")
    return asked

@output_formatter
def write(output: TextGenerationOutput) -> str:
    sequence = output.sequences[output.best_sequence_index]
    token, index, first, last = sequence.get_next_token()
    if output.input.trace == "boom" and index == 2:
        raise ValueError("boom")
    if output.input.parameters["stream"]:
        end = {"why": sequence.finish_reason, "trace": output.input.trace} if last else {}
        return json.dumps({"t": token.text, "at": index, **end}) + "\n"
    if not output.finished:
        return ""
    text = "".join(t.text for t in sequence.tokens)
    return json.dumps({"text": text, "count": index + 1, "trace": output.input.trace})
"#;

#[test]
fn a_rolling_batch_is_asked_and_answers_as_the_functions_say() {
    if !python() {
        return;
    }
    let text = answer_of_the_folder();
    let serving = ready("option.rolling_batch=vllm\n", ROLLING);
    let client = serving.client();
    let asked = |stream: bool| json!({"ask": PROMPT, "length": 12, "stream": stream}).to_string();
    let trace = |value: &'static str| [("content-type", "application/json"), ("x-trace", value)];
    let post = |stream: bool, value: &'static str| {
        let body = asked(stream);
        client
            .post_bytes("/invocations", &trace(value), body.as_bytes())
            .unwrap()
    };
    let whole = post(false, "t-1");
    assert_eq!(whole.status, 200, "{}", whole.text());
    // As in DJL Serving, only the function knows what its answer is.
    assert_eq!(whole.header("content-type"), None);
    let wanted = json!({"text": text, "count": 12, "trace": "t-1"});
    assert_eq!(whole.json().unwrap(), wanted);
    let streamed = post(true, "t-2").text();
    let lines: Vec<Value> = streamed
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let pieces: String = lines
        .iter()
        .map(|line| line["t"].as_str().unwrap())
        .collect();
    assert_eq!((pieces.as_str(), lines.len()), (text.as_str(), 12));
    let last = lines.last().unwrap();
    assert_eq!(
        (&last["why"], &last["trace"]),
        (&json!("length"), &json!("t-2"))
    );
    // A function that fails before anything is sent has a status, later it ends the stream.
    let failed = post(false, "boom");
    assert_eq!(failed.status, 424, "{}", failed.text());
    let wanted = json!({"error": "Custom formatter failed: ValueError: boom", "code": 424});
    assert_eq!(failed.json().unwrap(), wanted);
    let broken = post(true, "boom");
    let last = broken.text().lines().last().map(str::to_owned).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&last).unwrap(), wanted);
    let wrong = client.post("/invocations", &request(false)).unwrap();
    assert_eq!(wrong.status, 424);
    assert!(
        wrong.text().contains("Input Parsing failed"),
        "{}",
        wrong.text()
    );
    assert!(
        wrong.text().contains("Invalid Request Property: 'ask'"),
        "{}",
        wrong.text()
    );
    // What the native engine refuses of the function's request is told as ever.
    let long = json!({"ask": PROMPT, "length": 100_000}).to_string();
    let long = client
        .post_bytes("/invocations", &trace("t"), long.as_bytes())
        .unwrap();
    assert!(
        long.status == 424 && long.text().contains("max_new_tokens"),
        "{}",
        long.text()
    );
}

#[test]
fn a_function_of_the_old_signature_is_named_by_an_option() {
    if !python() {
        return;
    }
    let text = answer_of_the_folder();
    let code = "def mine(token, first_token, last_token, details, generated_text, id):\n    \
                return f'<{token.text}>' + ('|' + generated_text if last_token else '')\n";
    let properties = "option.rolling_batch=vllm\noption.output_formatter=mine\n";
    let serving = ready(properties, code);
    let client = serving.client();
    let answer = client.post("/invocations", &request(true)).unwrap().text();
    assert!(
        answer.starts_with('<') && answer.ends_with(&format!("|{text}")),
        "{answer}"
    );
    // A request that names a form gets it.
    let mut plain = request(false);
    plain["parameters"]["output_formatter"] = json!("json");
    let plain = client.post("/invocations", &plain).unwrap();
    assert_eq!(plain.json().unwrap(), json!({"generated_text": text}));
    let mut several = request(false);
    several["inputs"] = json!(["a", "b"]);
    let several = client.post("/invocations", &several).unwrap();
    assert!(
        several.status == 424 && several.text().contains("one string"),
        "{}",
        several.text()
    );
}

const ASYNCHRONOUS: &str = r#"
import os, time
from djl_python.input_parser import input_formatter
from djl_python.output_formatter import output_formatter

@input_formatter
def read(payload: dict, tokenizer=None, **kwargs) -> dict:
    if payload.get("exit"):
        os._exit(7)
    if "inputPrompt" in payload:
        payload["inputs"] = payload.pop("inputPrompt")
    payload.setdefault("parameters", {}).setdefault("max_new_tokens", 12)
    payload["parameters"]["do_sample"] = False
    return payload

@output_formatter
def write(output):
    if hasattr(output, "choices"):
        return {"custom_formatter_applied": True, "generated_text": output.choices[0].text,
                "model": output.model}
    return output.replace("data: ", "event ")
"#;

#[test]
fn the_asynchronous_service_is_asked_and_answers_as_the_functions_say() {
    if !python() {
        return;
    }
    let text = answer_of_the_folder();
    let properties = "option.entryPoint=djl_python.lmi_vllm.vllm_async_service\n\
                      option.async_mode=true\n";
    let serving = ready(properties, ASYNCHRONOUS);
    let client = serving.client();
    let asked = json!({"inputPrompt": PROMPT});
    let whole = client.post("/invocations", &asked).unwrap();
    assert_eq!(whole.status, 200, "{}", whole.text());
    assert_eq!(whole.header("content-type"), Some("application/json"));
    let wanted = json!({"custom_formatter_applied": true, "generated_text": text, "model": "lmi"});
    assert_eq!(whole.json().unwrap(), wanted);
    let mut stream = client
        .stream(
            "/invocations",
            &json!({"inputPrompt": PROMPT, "stream": true}),
        )
        .unwrap();
    assert_eq!(stream.headers["content-type"], "application/jsonlines");
    let lines = stream.lines().unwrap();
    let events: Vec<_> = lines
        .iter()
        .filter_map(|(_, line)| line.strip_prefix("event "))
        .collect();
    assert_eq!(events.last(), Some(&"[DONE]"));
    let pieces: String = events[..events.len() - 1]
        .iter()
        .map(|event| {
            let event: Value = serde_json::from_str(event).unwrap();
            event["choices"][0]["text"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(pieces, text);
    // The worker of the functions may die; the engine goes on, and so do both.
    let lost = client
        .post("/invocations", &json!({"inputs": "a", "exit": 1}))
        .unwrap();
    assert_eq!(lost.status, 503, "{}", lost.text());
    assert_eq!(
        client.post("/invocations", &asked).unwrap().json().unwrap(),
        wanted
    );
    let log = serving.server.log();
    assert!(
        log.contains("its own functions change requests and answers"),
        "{log}"
    );
}

#[test]
fn scripts_that_cannot_be_run_end_the_start_and_distrust_refuses_them() {
    if !python() {
        return;
    }
    let decorated = "from djl_python.input_parser import input_formatter\n\
                     @input_formatter\ndef read(payload, **kwargs):\n    invalid syntax here\n";
    let (_dir, launch) = folder("", decorated);
    let (status, log) = launch.run().unwrap();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("SyntaxError"), "{log}");
    let (_dir, launch) = folder("option.trust_python=false\n", decorated);
    let (status, log) = launch.run().unwrap();
    assert!(
        !status.success() && log.contains("option.trust_python=false forbids it"),
        "{log}"
    );
}
