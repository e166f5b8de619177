//! OpenAI's Python client against a served checkpoint with a chat template. Skipped where `tests/fetch_clients.py` has not
//! been able to fetch it. What LMI does with the same bodies is asked without it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use sconce_testkit::client::Client;
use serde_json::{Value, json};

use crate::support::{Serving, ready_with};

/// Roles must alternate, as in many templates.
const TEMPLATE: &str = "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}\n\n{% else %}\
    {% if (m.role == 'user') != (loop.index0 % 2 == (1 if messages[0].role == 'system' else 0)) %}\
    {{ raise_exception('roles must alternate') }}{% endif %}{{ m.role }}: {{ m.content }}\n{% endif %}{% endfor %}\
    {% if add_generation_prompt %}assistant:{% endif %}";
/// What it makes of the client's dialogue, without the token that the tokenizer puts before a text.
pub(crate) const RENDERED: &str = "Be brief.\n\nuser: Who are you?\nassistant:";

pub(crate) fn serve(properties: &str) -> Serving {
    let files = [
        ("serving.properties", properties),
        ("chat_template.jinja", TEMPLATE),
    ];
    ready_with("llama", &files)
}

#[test]
fn openai_s_own_client_is_answered() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let package = root.join("target/openai");
    if !package.is_dir() {
        println!("skipped: target/openai is not there; `make sdk` fetches it");
        return;
    }
    let serving = serve("option.rolling_batch=auto\n");
    let output = Command::new("python3")
        .args(["-W", "ignore"])
        .arg(root.join("tests/openai/drive.py"))
        .args([format!("http://{}", serving.address()), RENDERED.into()])
        .env("PYTHONPATH", &package)
        .env("NO_PROXY", "127.0.0.1")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}{}\n{}",
        String::from_utf8_lossy(&output.stderr),
        serving.log()
    );
    println!("{said}");
}

fn ask(serving: &Serving, path: &str, body: &Value) -> (u16, String) {
    ask_at(serving.address(), path, body)
}

fn ask_at(address: SocketAddr, path: &str, body: &Value) -> (u16, String) {
    let answer = Client::new(address).post(path, body).unwrap();
    (answer.status, answer.text())
}

/// The dialogue of the client, and more.
fn asked(more: Value) -> Value {
    let mut body = json!({
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who are you?"}],
        "max_tokens": 6, "temperature": 0,
    });
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

#[test]
fn lmi_answers_the_same_bodies_at_its_own_routes() {
    let rolling = serve("option.rolling_batch=auto\n");
    let (status, text) = ask(&rolling, "/v1/chat/completions", &asked(json!({})));
    assert_eq!(status, 200, "{text}");
    let openai: Value = serde_json::from_str(&text).unwrap();
    let content = &openai["choices"][0]["message"]["content"];
    let (status, text) = ask(&rolling, "/invocations", &asked(json!({})));
    let own: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (status, &own["choices"][0]["message"]["content"]),
        (200, content),
        "{text}"
    );
    assert_eq!(own["choices"][0]["finish_reason"], "length");
    let (_, text) = ask(&rolling, "/invocations", &asked(json!({"stream": true})));
    assert!(
        text.starts_with("data: {\"id\": ") && text.ends_with("data: [DONE]\n\n"),
        "{text}"
    );
    // DJL Serving's other name for /invocations.
    let inputs = json!({"inputs": "Hi", "parameters": {"max_new_tokens": 2}});
    let (status, text) = ask(&rolling, "/v1/chat/completions", &inputs);
    assert_eq!(
        (status, text.starts_with("{\"generated_text\"")),
        (200, true),
        "{text}"
    );
    let (status, text) = ask(&rolling, "/invocations", &asked(json!({"n": 0})));
    assert_eq!(
        (status, text.contains("Input Parsing failed")),
        (424, true),
        "{text}"
    );
}

#[test]
fn the_asynchronous_mode_answers_in_lines() {
    let serving = serve("option.api_version=async\n");
    let (status, text) = ask(
        &serving,
        "/predictions/llama",
        &asked(json!({"stream": true})),
    );
    assert_eq!(status, 200, "{text}");
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(
        lines
            .iter()
            .all(|line| line["object"] == "chat.completion.chunk")
    );
    let body = json!({"prompt": RENDERED, "max_tokens": 6, "temperature": 0});
    let (status, text) = ask(&serving, "/invocations", &body);
    assert_eq!((status, text.ends_with("}\n")), (200, true), "{text}");
    let whole: Value = serde_json::from_str(&text).unwrap();
    let streamed: String = lines
        .iter()
        .filter_map(|line| line["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(whole["choices"][0]["text"], streamed);
}

#[test]
fn a_checkpoint_without_a_template_says_so() {
    let serving = ready_with("llama", &[]);
    let (status, text) = ask(&serving, "/v1/chat/completions", &asked(json!({})));
    assert_eq!(status, 400, "{text}");
    assert!(
        text.contains("has no chat template") && text.contains("invalid_request_error"),
        "{text}"
    );
}

/// Random weights write anything, so that what fits does so by the form alone.
#[test]
fn answers_keep_to_a_form_on_all_routes_alone_and_beside_others() {
    let serving = serve("option.rolling_batch=auto\n");
    let choice = ["yes", "no", "perhaps"];
    let parameters =
        json!({"guided_choice": choice, "max_new_tokens": 40, "do_sample": true, "seed": 3});
    let body = json!({"inputs": "Is it?", "parameters": parameters});
    let (status, text) = ask(&serving, "/invocations", &body);
    let written: Value = serde_json::from_str(&text).unwrap();
    let written = written["generated_text"].as_str().unwrap();
    assert!(status == 200 && choice.contains(&written), "{text}");
    let grammar = json!({"type": "regex", "value": "[ab]{4}"});
    let body =
        json!({"inputs": "Is it?", "parameters": {"grammar": grammar, "max_new_tokens": 40}});
    let (status, text) = ask(&serving, "/generate", &body);
    let written: Value = serde_json::from_str(&text).unwrap();
    let written = written["generated_text"].as_str().unwrap();
    let fits = written.len() == 4 && written.chars().all(|c| "ab".contains(c));
    assert!(status == 200 && fits, "{text}");

    // A form that is complete ends, though a longer answer is asked for.
    let body =
        json!({"prompt": "Is it?", "guided_choice": ["yes"], "min_tokens": 20, "max_tokens": 40});
    let (status, text) = ask(&serving, "/v1/completions", &body);
    assert!(
        status == 200 && text.contains("\"text\":\"yes\""),
        "{status} {text}"
    );

    let asked = |seed: u64| {
        let schema = json!({"type": "array", "items": {"enum": ["a", 1, null]}, "minItems": 2, "maxItems": 4});
        json!({"prompt": "Once", "seed": seed, "temperature": 1.0, "max_tokens": 60, "guided_json": schema})
    };
    let address = serving.address();
    let content = |seed: u64| {
        let (status, text) = ask_at(address, "/v1/completions", &asked(seed));
        assert_eq!(status, 200, "{text}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        answer["choices"][0]["text"].as_str().unwrap().to_owned()
    };
    let alone: Vec<String> = (0..6).map(content).collect();
    let together: Vec<String> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..6)
            .map(|seed| {
                scope.spawn({
                    let content = &content;
                    move || content(seed)
                })
            })
            .collect();
        asking.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(alone, together);
    for text in &alone {
        let read: Result<Vec<Value>, _> = serde_json::from_str(text);
        assert!(
            read.is_ok_and(|items| (2..=4).contains(&items.len())),
            "{text}"
        );
    }
}

#[test]
fn forms_that_cannot_be_kept_to_are_refused_before_anything_is_computed() {
    let serving = serve("option.rolling_batch=auto\n");
    let mut body = asked(json!({}));
    for (key, value, part) in [
        (
            "response_format",
            json!({"type": "json_schema", "json_schema": {"schema": {"$ref": "http://x/y"}}}),
            "is not fetched",
        ),
        (
            "guided_grammar",
            json!("start: nothing"),
            "`guided_grammar` is start: nothing: cannot",
        ),
        (
            "guided_grammar",
            json!(format!("start: {}", "(".repeat(20_000))),
            "8192 are the most",
        ),
        ("guided_regex", json!("("), "guided_regex"),
        ("guided_json", json!("{"), "guided_json"),
    ] {
        body[key] = value;
        let (status, text) = ask(&serving, "/v1/chat/completions", &body);
        assert!(status == 400 && text.contains(part), "{status} {text}");
        body.as_object_mut().unwrap().shift_remove(key);
    }
    body["ignore_eos"] = json!(true);
    body["guided_choice"] = json!(["a"]);
    let (status, text) = ask(&serving, "/v1/chat/completions", &body);
    assert!(
        status == 400 && text.contains("ignore_eos"),
        "{status} {text}"
    );
}
