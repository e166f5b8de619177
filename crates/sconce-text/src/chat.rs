//! Templates of dialogues: the text that a model reads of a list of messages, as transformers' `apply_chat_template`
//! writes it.

use std::path::Path;

use minijinja::{Environment, Error, ErrorKind, context};
use sconce_core::task::Message;
use serde_json::{Map, Value};

use crate::error::TextError;
use crate::json::{JsonFile, read_map};

/// What Blenderbot's tokenizers have where the checkpoint brings no template (`default_chat_template` of transformers
/// 4.41, the last release with dialogues).
const BLENDERBOT: &str = "{% for message in messages %}{% if message['role'] == 'user' %}{{ ' ' }}{% endif %}\
                          {{ message['content'] }}{% if not loop.last %}{{ '  ' }}{% endif %}{% endfor %}{{ eos_token }}";

/// The name that a template has in its environment.
const NAME: &str = "chat";

/// The template of a checkpoint.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    /// `bos_token` and the like, by their names.
    tokens: Map<String, Value>,
}

impl ChatTemplate {
    /// The template in `tokenizer_config.json`, or that of the tokenizer's class; `None`: there is neither.
    pub fn read(dir: &Path) -> Result<Option<Self>, TextError> {
        let path = dir.join("tokenizer_config.json");
        let config = read_map(&path)?.unwrap_or_default();
        let file = JsonFile { path: &path };
        let wrong = |value: &Value| {
            file.wrong(
                "chat_template",
                value,
                "a text, or a list of objects with name and template",
            )
        };
        let own = match config.get("chat_template").filter(|own| !own.is_null()) {
            None => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(value) => Some(default_of(value).ok_or_else(|| wrong(value))?),
        };
        let class = config.get("tokenizer_class").and_then(Value::as_str);
        let is_blenderbot = class.is_some_and(|class| class.starts_with("Blenderbot"));
        let Some(text) = own.or_else(|| is_blenderbot.then(|| BLENDERBOT.into())) else {
            return Ok(None);
        };
        let mut tokens = read_map(&dir.join("special_tokens_map.json"))?.unwrap_or_default();
        tokens.extend(config);
        tokens.retain(|key, _| key.ends_with("_token"));
        let content = |value: &Value| {
            value
                .as_str()
                .or_else(|| value.get("content")?.as_str())
                .map(Value::from)
        };
        let tokens = tokens
            .iter()
            .filter_map(|(key, value)| Some((key.clone(), content(value)?)));
        Self::of(text, tokens.collect())
            .map(Some)
            .map_err(|cause| TextError::Template {
                path: path.clone(),
                cause: cause.to_string(),
            })
    }

    fn of(text: String, tokens: Map<String, Value>) -> Result<Self, Error> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |text: String| -> Result<String, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, text))
        });
        environment.add_template_owned(NAME, text)?;
        Ok(Self {
            environment,
            tokens,
        })
    }

    /// The text of a dialogue that an answer is to follow; an error is the template's own.
    pub fn render(&self, messages: &[Message]) -> Result<String, String> {
        let found = self.environment.get_template(NAME).and_then(|template| {
            let tokens = minijinja::Value::from_serialize(&self.tokens);
            let messages: Vec<_> = messages
                .iter()
                .map(|said| context! { role => said.role.name(), content => said.content })
                .collect();
            template.render(context! { messages, add_generation_prompt => true, ..tokens })
        });
        found.map_err(|error| error.to_string())
    }
}

/// The template named `default` of several.
fn default_of(listed: &Value) -> Option<String> {
    let mut named = listed.as_array()?.iter();
    let default = named.find(|item| item["name"] == "default")?;
    default["template"].as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use sconce_core::task::Role;

    use super::*;

    fn read(config: &str) -> Result<Option<ChatTemplate>, TextError> {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("tokenizer_config.json"), config).expect("a file");
        ChatTemplate::read(dir.path())
    }

    fn said(role: Role, content: &str) -> Message {
        Message {
            role,
            content: content.into(),
        }
    }

    /// What transformers 4.41 makes of them.
    #[test]
    fn templates_are_written_out_with_the_tokens_of_the_checkpoint() {
        let dialogue = [
            said(Role::User, "Hi."),
            said(Role::Assistant, "Hello!"),
            said(Role::User, "Who?"),
        ];
        let own =
            read(r#"{"tokenizer_class": "BlenderbotTokenizer", "eos_token": {"content": "</s>"}}"#);
        let own = own.expect("readable").expect("a template");
        assert_eq!(
            own.render(&dialogue).as_deref(),
            Ok(" Hi.  Hello!   Who?</s>")
        );
        let named = r#"{"chat_template": [{"name": "tools", "template": "x"}, {"name": "default", "template":
            "{% for m in messages %}\n  {% if m.role == 'user' %}\n{{ m.content.strip() | upper }}{{ sep_token }}{% endif %}\n{% endfor %}"}],
            "sep_token": "|"}"#;
        let named = read(named).expect("readable").expect("a template");
        assert_eq!(named.render(&dialogue).as_deref(), Ok("HI.|WHO?|"));
    }

    #[test]
    fn no_template_and_wrong_ones_are_told_apart() {
        assert!(
            read(r#"{"tokenizer_class": "T5Tokenizer"}"#)
                .expect("readable")
                .is_none()
        );
        let broken = read(r#"{"chat_template": "{% for"}"#)
            .expect_err("broken")
            .to_string();
        assert!(broken.contains("chat_template"), "{broken}");
        assert!(read(r#"{"chat_template": 5}"#).is_err());
        let strict = r#"{"chat_template": "{{ raise_exception('users first') }}"}"#;
        let strict = read(strict).expect("readable").expect("a template");
        assert!(
            strict
                .render(&[])
                .is_err_and(|cause| cause.contains("users first"))
        );
    }
}
