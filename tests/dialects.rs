//! Conversations that `fixtures/djl/record.py` had with DJL Serving's own handlers, held again
//! with the built program: status, content type and body; of a refusal all but its sentence.

use std::collections::BTreeMap;
use std::path::Path;

use sconce_testkit::client::Client;
use serde::Deserialize;
use serde_json::Value;

use crate::support::ready_with;

#[derive(Deserialize)]
struct Recorded {
    conversations: Vec<Conversation>,
}

#[derive(Deserialize)]
struct Conversation {
    dialect: String,
    model: String,
    options: BTreeMap<String, String>,
    request: Value,
    status: u16,
    content_type: String,
    body: String,
}

impl Conversation {
    /// `serving.properties` that have the dialect and the options.
    fn properties(&self) -> String {
        // The dialect is named outright: which configuration means which is tested elsewhere.
        let options = self
            .options
            .iter()
            .filter(|(key, _)| *key != "rolling_batch");
        let lines = options.map(|(key, value)| format!("option.{key}={value}\n"));
        format!(
            "option.api_version={}\n{}",
            self.dialect,
            lines.collect::<String>()
        )
    }
}

fn recorded() -> Vec<Conversation> {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/djl/conversations.json");
    let text = std::fs::read_to_string(file).unwrap();
    let recorded: Recorded = serde_json::from_str(&text).unwrap();
    recorded.conversations
}

/// A body cut at its numbers with a fraction: what lies between has to be equal, they themselves
/// nearly, because both sides compute them.
fn cut(body: &str) -> (Vec<&str>, Vec<f64>) {
    let (mut texts, mut numbers, mut from) = (Vec::new(), Vec::new(), 0);
    let is_part = |c: char| c.is_ascii_digit() || "+-.e".contains(c);
    let mut at = 0;
    while let Some(start) = body[at..].find(is_part).map(|found| at + found) {
        let rest = &body[start..];
        let length = rest.find(|c: char| !is_part(c)).unwrap_or(rest.len());
        let word = &rest[..length];
        at = start + length;
        if let (true, Ok(number)) = (word.contains('.'), word.parse()) {
            texts.push(&body[from..start]);
            numbers.push(number);
            from = at;
        }
    }
    texts.push(&body[from..]);
    (texts, numbers)
}

fn assert_equal(which: &str, got: &str, want: &str) {
    let ((texts, numbers), (want_texts, want_numbers)) = (cut(got), cut(want));
    assert_eq!(texts, want_texts, "{which}");
    for (got, want) in numbers.iter().zip(&want_numbers) {
        assert!((got - want).abs() < 1e-3, "{which}: {got} is not {want}");
    }
}

#[test]
fn conversations_with_djl_s_handlers_repeat_themselves() {
    let mut servers: BTreeMap<(String, String), Vec<Conversation>> = BTreeMap::new();
    for conversation in recorded() {
        let key = (conversation.model.clone(), conversation.properties());
        servers.entry(key).or_default().push(conversation);
    }
    let mut held = 0;
    for ((model, properties), conversations) in servers {
        let server = ready_with(&model, &[("serving.properties", &properties)]);
        let client = Client::new(server.address());
        for conversation in conversations {
            let which = format!(
                "{} {} {}",
                conversation.dialect, model, conversation.request
            );
            let answer = client.post("/invocations", &conversation.request).unwrap();
            assert_eq!(
                answer.status,
                conversation.status,
                "{which}: {}",
                answer.text()
            );
            let content_type = answer.header("content-type");
            assert_eq!(
                content_type,
                Some(conversation.content_type.as_str()),
                "{which}"
            );
            let (got, want) = (answer.text(), conversation.body);
            if conversation.status == 200 {
                assert_equal(&which, &got, &want);
            } else {
                // The sentence is ours: it names what has to be changed.
                let until = |body: &str| body.split("\"error\"").next().map(str::to_owned);
                assert_eq!(until(&got), until(&want), "{which}");
            }
            held += 1;
        }
    }
    assert!(held > 40, "{held} conversations only");
}
