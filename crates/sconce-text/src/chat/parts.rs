//! Contents in parts: some templates walk through them, others want one text.

use sconce_core::Dialogue;
use serde_json::{Value, json};

use super::ChatTemplate;

/// A text that no template writes by itself.
const PROBE: &str = "\u{2063}part of a content\u{2063}";

impl ChatTemplate {
    /// The dialogue with contents as its template reads them. Parts stay parts where the template writes the texts of
    /// parts; elsewhere they become one text, a line each, as vLLM does.
    pub fn adapted(&self, dialogue: &Dialogue) -> Dialogue {
        let mut dialogue = dialogue.clone();
        let has_parts = dialogue
            .messages
            .iter()
            .any(|said| said["content"].is_array());
        if has_parts && !self.walks_parts(&dialogue) {
            for said in &mut dialogue.messages {
                let text = said["content"].as_array().map(|parts| joined(parts));
                if let Some(text) = text {
                    said["content"] = json!(text);
                }
            }
        }
        dialogue
    }

    /// Whether the template that the dialogue is written with makes the same of a part as of a text.
    fn walks_parts(&self, dialogue: &Dialogue) -> bool {
        let written = |content: Value| {
            let probe = Dialogue {
                messages: vec![json!({ "role": "user", "content": content })],
                add_generation_prompt: true,
                continue_final_message: false,
                ..dialogue.clone()
            };
            self.render(&probe)
        };
        let parts = written(json!([{ "type": "text", "text": PROBE }]));
        match (parts, written(json!(PROBE))) {
            (Ok(parts), Ok(text)) => parts == text,
            // Takes nothing but parts.
            (Ok(parts), Err(_)) => parts.contains(PROBE),
            (Err(_), _) => false,
        }
    }
}

fn joined(parts: &[Value]) -> String {
    let texts: Vec<_> = parts
        .iter()
        .filter_map(|part| part["text"].as_str())
        .collect();
    texts.join("\n")
}
