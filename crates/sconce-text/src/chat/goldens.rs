//! Real templates against what transformers makes of them (`tests/fixtures/chat/make.py`).

use std::io::Read;
use std::path::Path;

use chrono::NaiveDateTime;
use flate2::read::GzDecoder;
use serde_json::{Map, Value};

use super::*;

fn golden() -> Value {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/chat/goldens.json.gz");
    let mut text = String::new();
    GzDecoder::new(std::fs::File::open(path).expect("a file"))
        .read_to_string(&mut text)
        .expect("packed text");
    serde_json::from_str(&text).expect("JSON")
}

/// The time that the goldens were written at.
fn then() -> NaiveDateTime {
    "2024-07-26T09:05:03".parse().expect("a time")
}

fn dialogue(said: &Value) -> Dialogue {
    let list = |key: &str| said[key].as_array().cloned();
    let flag = |key: &str| said[key].as_bool().unwrap_or(false);
    Dialogue {
        messages: list("messages").expect("messages"),
        tools: list("tools"),
        documents: list("documents"),
        add_generation_prompt: flag("add_generation_prompt"),
        continue_final_message: flag("continue_final_message"),
        template: None,
        arguments: said["kwargs"].as_object().cloned().unwrap_or_default(),
        now: None,
    }
}

fn open(name: &str, text: &str, tokens: &Map<String, Value>) -> ChatTemplate {
    let named = vec![Named::of(DEFAULT, text, Path::new(name))];
    let mut template = ChatTemplate::of_named(named, tokens).expect(name);
    environment::set_clock(&mut template.environment, then);
    template
}

/// Jinja escapes for HTML what is put behind a text that went through `safe`; here a tool's description stays as it is.
const ESCAPED: &str = "llama.cpp/meetkai-functionary-medium-v3.1";

#[test]
fn real_templates_write_what_transformers_writes() {
    let golden = golden();
    assert_eq!(golden["now"], then().format("%FT%T").to_string());
    let tokens = golden["tokens"].as_object().expect("tokens");
    let dialogues: Vec<_> = golden["dialogues"]
        .as_array()
        .expect("dialogues")
        .iter()
        .map(dialogue)
        .collect();
    let templates = golden["templates"].as_array().expect("templates");
    assert!(templates.len() >= 140, "{}", templates.len());
    let mut wrong = Vec::new();
    let mut compared = 0;
    for item in templates {
        let name = item["name"].as_str().expect("a name");
        let template = open(name, item["template"].as_str().expect("a text"), tokens);
        let rendered = item["rendered"].as_array().expect("texts");
        for (at, (dialogue, want)) in dialogues.iter().zip(rendered).enumerate() {
            let got = template.render(dialogue);
            let fits = match (&got, want["text"].as_str(), want["raised"].as_str()) {
                (Ok(got), Some(want), _) => got == want,
                (Err(got), _, Some(want)) => got == want,
                // Types that Python does not add or iterate (a content of None): a template may do more here.
                (_, None, None) => continue,
                _ => false,
            };
            let is_escaped = name == ESCAPED && dialogue.tools.is_some();
            compared += 1;
            if fits == is_escaped {
                wrong.push(format!(
                    "{name}, dialogue {at}:\n  got  {got:?}\n  want {want:?}"
                ));
            }
        }
    }
    assert!(compared > 2500, "{compared}");
    assert!(
        wrong.is_empty(),
        "{} of {compared}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
