//! The functions of a `model.py` beside a native engine: that they are found, and that they see and
//! make what they do under DJL Serving. `tests/formatters/record.py` recorded the latter.

use std::path::Path;

use sconce_core::{Backend, RawInput, ServeError};
use sconce_python::{Formatters, PythonError};
use serde_json::{Value, json};

use crate::support::{Answer, Model, python, says, submit_to};

/// What one request is asked.
#[derive(Clone, Copy)]
struct Asking<'a> {
    formatters: &'a Formatters,
    request: &'a str,
    dialect: &'a str,
}

impl Asking<'_> {
    fn ask(&self, function: &str, content: &[(&str, &str)]) -> Answer {
        let pair = |(key, value): &(&str, &str)| (key.to_string(), value.to_string());
        let properties = [
            ("handler", function),
            ("sconce_request", self.request),
            ("sconce_dialect", self.dialect),
            ("Content-Type", "application/json"),
        ];
        let input = RawInput {
            properties: properties.iter().map(pair).collect(),
            content: content
                .iter()
                .map(|(key, value)| (key.to_string(), value.to_string().into()))
                .collect(),
        };
        let asked = submit_to(self.formatters, input).unwrap();
        asked.answer().unwrap_or_else(|error| panic!("{error}"))
    }

    #[track_caller]
    fn text(&self, function: &str, content: &[(&str, &str)]) -> String {
        let answer = self.ask(function, content);
        let body = String::from_utf8(answer.body.to_vec()).unwrap();
        assert_eq!(answer.head.code, 200, "{body}");
        body
    }

    #[track_caller]
    fn failure(&self, function: &str, content: &[(&str, &str)]) -> String {
        let answer = self.ask(function, content);
        assert_eq!(answer.head.code, 424);
        String::from_utf8(answer.body.to_vec()).unwrap()
    }
}

fn start(code: &str, properties: &[(&str, &str)]) -> (Model, Result<Formatters, PythonError>) {
    let mut model = Model::new(code);
    let pair = |(key, value): &(&str, &str)| (key.to_string(), value.to_string());
    model.settings.properties = properties.iter().map(pair).collect();
    let formatters = Formatters::start(model.settings.clone());
    (model, formatters)
}

fn started(code: &str) -> (Model, Formatters) {
    let (model, formatters) = start(code, &[]);
    (model, formatters.unwrap_or_else(|error| panic!("{error}")))
}

#[test]
fn functions_for_answers_see_what_djl_s_own_package_shows_them() {
    if !python() {
        return;
    }
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formatters");
    let code = std::fs::read_to_string(here.join("model/model.py")).unwrap();
    let recorded = std::fs::read(here.join("recorded.json")).unwrap();
    let recorded: Value = serde_json::from_slice(&recorded).unwrap();
    let cases = recorded["cases"].as_array().unwrap();
    for (number, case) in cases.iter().enumerate() {
        let name = case["function"].as_str().unwrap();
        let (_model, formatters) = start(&code, &[("output_formatter", name)]);
        let formatters = formatters.unwrap();
        assert!(formatters.formats().output && !formatters.formats().input);
        let asking = Asking {
            formatters: &formatters,
            request: &number.to_string(),
            dialect: "rolling",
        };
        let parameters = case["parameters"].as_object().unwrap();
        let stream = parameters["stream"].clone();
        let parameters: serde_json::Map<_, _> = parameters
            .iter()
            .filter(|(name, _)| *name != "stream")
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let request = json!({"inputs": "Hi", "parameters": parameters, "stream": stream});
        let request = request.to_string();
        let tokens = recorded["tokens"].as_array().unwrap();
        let mut chunks = Vec::new();
        for (at, token) in tokens.iter().enumerate() {
            let last = at + 1 == tokens.len();
            let mut token = token.clone();
            token["last"] = last.into();
            let mut lines = format!("{}\n", json!({"token": token}));
            if last {
                let done = json!({"done": {
                    "text": "unused", "finish_reason": "eos_token", "matched": null,
                    "prompt_tokens": 2, "generated_tokens": 3, "prompt": recorded["prompt"],
                }});
                lines.push_str(&format!("{done}\n"));
            }
            let mut content = vec![("data", lines.as_str())];
            content.extend((at == 0).then_some(("request", request.as_str())));
            chunks.push(asking.text("write", &content));
        }
        let wanted: Vec<String> = serde_json::from_value(case["chunks"].clone()).unwrap();
        assert_eq!(chunks, wanted, "{name} {}", case["parameters"]);
    }
    assert!(cases.len() >= 7);
}

const BOTH: &str = r#"
from djl_python import Input
from djl_python.encode_decode import decode
from djl_python.input_parser import input_formatter
from djl_python.output_formatter import output_formatter
from djl_python.request_io import TextGenerationOutput, TextInput

class Mine(TextInput):
    trace = None

@input_formatter
def read(item: Input, **kwargs):
    got = decode(item, item.get_property("Content-Type"))
    if "fail" in got:
        raise KeyError(got["fail"])
    if "wrong" in got:
        return {"inputs": "no TextInput"}
    mine = Mine()
    mine.input_text = got["prompt"].upper()
    mine.parameters = {"max_new_tokens": got["length"], "stream": got.get("stream", False)}
    mine.trace = f"{got['trace']} {kwargs['configs'].nothing} {sorted(kwargs)}"
    return mine

@output_formatter
def write(output: TextGenerationOutput) -> str:
    sequence = output.sequences[0]
    token = sequence.get_next_token()[0]
    if output.input.trace.startswith("boom"):
        raise ValueError("boom")
    return f"[{output.input.trace}|{token.text}]"
"#;

const LINE: &str = "{\"token\":{\"id\":1,\"text\":\"a\",\"logprob\":-1.0,\"special\":false,\
                    \"last\":false,\"top\":[]}}\n";

#[test]
fn what_the_function_for_requests_keeps_the_one_for_answers_gets() {
    if !python() {
        return;
    }
    let (_model, formatters) = started(BOTH);
    assert!(formatters.formats().input && formatters.formats().output);
    let asking = Asking {
        formatters: &formatters,
        request: "r-1",
        dialect: "rolling",
    };
    let other = Asking {
        request: "r-2",
        ..asking
    };
    let body = r#"{"prompt": "hé", "length": 4, "trace": "t"}"#;
    let read = asking.text("read", &[("data", body)]);
    let wanted = json!({"inputs": "HÉ", "parameters": {"max_new_tokens": 4}, "stream": false});
    assert_eq!(serde_json::from_str::<Value>(&read).unwrap(), wanted);
    other.text("read", &[("data", &body.replace("\"t\"", "\"u\""))]);
    let first = |asking: &Asking<'_>| asking.text("write", &[("data", LINE), ("request", &read)]);
    assert_eq!(
        first(&asking),
        "[t None ['configs', 'is_rolling_batch', 'tokenizer']|a]"
    );
    assert_eq!(asking.text("write", &[("data", LINE)]), first(&asking));
    asking.text("forget", &[]);
    // Nothing is known of it any more, nor of its request.
    says(&asking.failure("write", &[("data", LINE)]), &["request"]);
    assert!(first(&other).starts_with("[u "));
}

#[test]
fn what_is_wrong_with_a_function_is_told() {
    if !python() {
        return;
    }
    let (_model, formatters) = started(BOTH);
    let asking = Asking {
        formatters: &formatters,
        request: "r",
        dialect: "rolling",
    };
    let read = |body: &str| asking.failure("read", &[("data", body)]);
    says(
        &read(r#"{"fail": "key"}"#),
        &["Input Parsing failed.", "Invalid Request Property: 'key'"],
    );
    says(
        &read(r#"{"wrong": 1}"#),
        &["must return a TextInput, not dict"],
    );
    says(
        &read("no JSON"),
        &["Input Parsing failed.", "Expecting value"],
    );
    let body = r#"{"prompt": "a", "length": 1, "trace": "boom"}"#;
    let request = asking.text("read", &[("data", body)]);
    let failed = asking.failure("write", &[("data", LINE), ("request", &request)]);
    assert_eq!(failed, "Custom formatter failed: ValueError: boom");
}

#[test]
fn functions_of_the_asynchronous_service_see_bodies_and_vllm_s_answers() {
    if !python() {
        return;
    }
    let code = r#"
import json
from djl_python.input_parser import input_formatter
from djl_python.output_formatter import output_formatter

@input_formatter
def read(payload, tokenizer=None):
    if payload.get("text"):
        return "a text"
    payload["inputs"] = payload.pop("inputPrompt")
    return payload

@output_formatter
def write(response):
    if isinstance(response, str):
        return response.upper()
    what = response.choices[0].text
    if what == "attributes":
        response.choices[0].text = "changed"
    elif what == "keys":
        response["generated_text"] += "!"
        response["more"] = True
    elif what == "own":
        return {"own": response.model, "usage": response.usage.total_tokens}
    return response
"#;
    let (_model, formatters) = started(code);
    let asking = Asking {
        formatters: &formatters,
        request: "r",
        dialect: "async",
    };
    let read = asking.text("read", &[("data", r#"{"inputPrompt": "ü", "x": 1}"#)]);
    assert_eq!(read, r#"{"x": 1, "inputs": "ü"}"#);
    let wrong = asking.failure("read", &[("data", r#"{"text": 1}"#)]);
    says(
        &wrong,
        &[
            "Custom formatter failed: TypeError",
            "must return a dict, not str",
        ],
    );
    let done = |text: &str| {
        format!(
            "{}\n",
            json!({"done": {"text": text, "finish_reason": "length", "matched": null,
                "prompt_tokens": 2, "generated_tokens": 1, "prompt": []}})
        )
    };
    let whole = |text: &str| {
        let content = [
            ("data", done(text)),
            ("request", r#"{"inputs": "ü"}"#.to_owned()),
        ];
        let content = content
            .each_ref()
            .map(|(key, value)| (*key, value.as_str()));
        let written = asking.text("write", &content);
        assert!(written.ends_with('\n'), "{written}");
        serde_json::from_str::<Value>(&written).unwrap()
    };
    let plain = whole("plain");
    assert_eq!(plain["object"], "text_completion");
    assert_eq!(plain["choices"][0]["text"], "plain");
    assert_eq!(plain["choices"][0]["finish_reason"], "length");
    assert_eq!(plain["usage"]["total_tokens"], 3);
    assert_eq!(whole("attributes")["choices"][0]["text"], "changed");
    assert_eq!(
        whole("keys"),
        json!({"generated_text": "keys!", "more": true})
    );
    assert_eq!(whole("own"), json!({"own": "lmi", "usage": 3}));
    let lines = LINE.to_owned() + &LINE.replace("false,\"top\"", "true,\"top\"") + &done("aa");
    let content = [("data", lines.as_str()), ("request", r#"{"stream": true}"#)];
    let streamed = asking.text("write", &content);
    let events: Vec<_> = streamed.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(events.len(), 3, "{streamed}");
    assert!(events[0].starts_with("DATA: {\"ID\""), "{streamed}");
    says(events[1], &["\"FINISH_REASON\": \"LENGTH\""]);
    assert_eq!(events[2], "DATA: [DONE]");
}

#[test]
fn a_worker_of_functions_that_dies_is_started_again() {
    if !python() {
        return;
    }
    let code = "import os\nfrom djl_python.input_parser import input_formatter\n\
                @input_formatter\ndef read(payload, **kwargs):\n    \
                if payload.get('die'):\n        os._exit(3)\n    return payload\n";
    let (_model, formatters) = started(code);
    let asking = Asking {
        formatters: &formatters,
        request: "r",
        dialect: "async",
    };
    let input = RawInput {
        properties: vec![
            ("handler".into(), "read".into()),
            ("sconce_dialect".into(), "async".into()),
        ],
        content: vec![("data".into(), "{\"die\": 1}".into())],
    };
    let lost = submit_to(&formatters, input).unwrap().answer();
    assert!(
        matches!(lost, Err(ServeError::WorkerLost { .. })),
        "{lost:?}"
    );
    assert_eq!(asking.text("read", &[("data", "{}")]), "{}");
    assert_eq!(formatters.failure(), None);
}

#[test]
fn scripts_without_functions_and_with_mistakes_do_not_start() {
    if !python() {
        return;
    }
    let refused = |code: &str| match start(code, &[]).1 {
        Ok(_) => panic!("it must not start"),
        Err(error) => error.to_string(),
    };
    says(
        &refused("x = 1\n"),
        &["@input_formatter", "@output_formatter"],
    );
    says(&refused("def f(:\n"), &["SyntaxError"]);
    let (_model, named) = start(
        "def mine(a, b):\n    return ''\n",
        &[("output_formatter", "mine")],
    );
    assert!(named.unwrap().formats().output);
}
