//! Contents in parts: some templates walk through them, others want one text.

use std::borrow::Cow;

use sconce_core::Dialogue;
use serde_json::{Value, json};

use super::ChatTemplate;

/// A text that no template writes by itself.
const PROBE: &str = "\u{2063}part of a content\u{2063}";

impl ChatTemplate {
    /// The dialogue with contents as its template reads them. Parts stay parts where the template writes the texts of
    /// parts; elsewhere they become one text, a line each, as vLLM does.
    pub fn adapted<'a>(&self, dialogue: &'a Dialogue) -> Cow<'a, Dialogue> {
        let has_parts = dialogue
            .messages
            .iter()
            .any(|said| said["content"].is_array());
        if !has_parts || self.walks_parts(dialogue) {
            return Cow::Borrowed(dialogue);
        }
        let mut dialogue = dialogue.clone();
        for said in &mut dialogue.messages {
            let text = said["content"].as_array().map(|parts| joined(parts));
            if let Some(text) = text {
                said["content"] = json!(text);
            }
        }
        Cow::Owned(dialogue)
    }

    /// Whether the template that the dialogue is written with makes the same of a part as of a text. It is asked once:
    /// that is the template's habit, whatever else a dialogue has.
    fn walks_parts(&self, dialogue: &Dialogue) -> bool {
        let Ok(name) = self.choose(dialogue) else {
            return false;
        };
        let habit = self.names.iter().position(|known| known == name);
        habit.is_some_and(|at| *self.walks[at].get_or_init(|| self.probe(dialogue)))
    }

    fn probe(&self, dialogue: &Dialogue) -> bool {
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

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::OnceLock;

    use super::*;

    fn said(content: &Value) -> Dialogue {
        Dialogue {
            messages: vec![json!({"role": "user", "content": content})],
            ..Dialogue::default()
        }
    }

    #[test]
    fn a_template_is_asked_once_and_only_what_changes_is_copied() {
        let texts = "{% for m in messages %}{{ m.content | trim }}{% endfor %}";
        let walks = "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}\
                     {% for p in m.content %}{{ p.text }}{% endfor %}{% endif %}{% endfor %}";
        let parts = said(&json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]));
        for (text, walks) in [(texts, false), (walks, true)] {
            let template = ChatTemplate::of(Path::new("x"), &[("default", text)], &[]).unwrap();
            let plain = said(&json!("a"));
            assert!(matches!(template.adapted(&plain), Cow::Borrowed(_)));
            assert_eq!(template.walks[0].get(), None, "nothing to ask");
            for _ in 0..2 {
                let adapted = template.adapted(&parts);
                assert_eq!(matches!(adapted, Cow::Borrowed(_)), walks);
                let content = &adapted.messages[0]["content"];
                assert_eq!(*content == json!("a\nb"), !walks, "{content}");
            }
            assert_eq!(template.walks[0].get(), Some(&walks));
        }
        let broken = ChatTemplate::of(Path::new("x"), &[("other", texts)], &[]).unwrap();
        assert!(matches!(broken.adapted(&parts), Cow::Owned(_)));
        assert_eq!(
            broken.walks.iter().map(OnceLock::get).collect::<Vec<_>>(),
            [None]
        );
    }
}
