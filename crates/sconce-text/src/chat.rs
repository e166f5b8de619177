//! Templates of dialogues: the text that a model reads of a list of messages, as transformers' `apply_chat_template`
//! writes it.
//!
//! Which templates a checkpoint has is read here, and which of them a dialogue is written with; `environment` is what a
//! template can call, `dumps` JSON as Python spells it.

mod bounded;
mod dumps;
mod environment;
#[cfg(test)]
mod goldens;
mod parts;
mod values;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use minijinja::{Environment, Error, ErrorKind};
use sconce_core::dialogue::Dialogue;
use serde_json::{Map, Value, json};

use crate::error::TextError;
use crate::json::{JsonFile, read_bytes, read_map};

/// What Blenderbot's tokenizers have where the checkpoint brings no template (`default_chat_template` of transformers
/// 4.41, the last release with dialogues).
const BLENDERBOT: &str = "{% for message in messages %}{% if message['role'] == 'user' %}{{ ' ' }}{% endif %}\
                          {{ message['content'] }}{% if not loop.last %}{{ '  ' }}{% endif %}{% endfor %}{{ eos_token }}";

/// The template that is used where nothing says another.
const DEFAULT: &str = "default";
/// The template that is used for dialogues with tools, of checkpoints that have one of that name.
const TOOL_USE: &str = "tool_use";
/// Stands behind a message that the answer goes on with, until the prompt is cut there.
const TAG: &str = "CONTINUE_FINAL_MESSAGE_TAG ";
/// Longest prompt that a template may write, in bytes: many times the longest context.
const LONGEST: usize = 64 << 20;

/// The templates of a checkpoint.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    /// The names of the templates, in order.
    names: Vec<String>,
    /// Whether each walks through contents in parts, once that was asked.
    walks: Vec<OnceLock<bool>>,
    /// `bos_token` and the like, by their names.
    tokens: Map<String, Value>,
}

impl ChatTemplate {
    /// The templates of a folder; `None`: it has none, and its tokenizer's class neither.
    ///
    /// In transformers' order: `chat_template.jinja` with the named ones in `additional_chat_templates`, then the key
    /// `chat_template` of `tokenizer_config.json`, then that of `chat_template.json`, which processors write.
    pub fn read(dir: &Path) -> Result<Option<Self>, TextError> {
        let path = dir.join("tokenizer_config.json");
        let config = read_map(&path)?.unwrap_or_default();
        let class = config.get("tokenizer_class").and_then(Value::as_str);
        let is_blenderbot = class.is_some_and(|class| class.starts_with("Blenderbot"));
        let mut found = files(dir)?;
        if found.is_empty() {
            found = listed(&path, &config)?;
        }
        if found.is_empty() {
            let path = dir.join("chat_template.json");
            found = listed(&path, &read_map(&path)?.unwrap_or_default())?;
        }
        if found.is_empty() && is_blenderbot {
            found.push(Named::of(DEFAULT, BLENDERBOT, &path));
        }
        if found.is_empty() {
            return Ok(None);
        }
        let mut tokens = read_map(&dir.join("special_tokens_map.json"))?.unwrap_or_default();
        tokens.extend(config);
        Self::of_named(found, &tokens).map(Some)
    }

    /// The template in a file of its own, with the special tokens of the folder `dir`.
    pub fn read_file(path: &Path, dir: &Path) -> Result<Self, TextError> {
        let mut tokens = read_map(&dir.join("special_tokens_map.json"))?.unwrap_or_default();
        tokens.extend(read_map(&dir.join("tokenizer_config.json"))?.unwrap_or_default());
        let text = text_of(path)?.ok_or_else(|| TextError::Missing {
            path: path.into(),
            cure: "option.chat_template names it".into(),
        })?;
        Self::of_named(vec![Named::of(DEFAULT, &text, path)], &tokens)
    }

    /// The templates that a file beside other things holds, by their names, with tokens such as `bos_token`.
    pub fn of(
        path: &Path,
        templates: &[(&str, &str)],
        tokens: &[(&str, String)],
    ) -> Result<Self, TextError> {
        let named = |&(name, text): &(&str, &str)| Named::of(name, text, path);
        let tokens = tokens
            .iter()
            .map(|(key, token)| ((*key).to_owned(), json!(token)));
        Self::of_named(templates.iter().map(named).collect(), &tokens.collect())
    }

    fn of_named(found: Vec<Named>, tokens: &Map<String, Value>) -> Result<Self, TextError> {
        let mut environment = environment::new(environment::now);
        let mut names = Vec::new();
        for Named { name, text, path } in found {
            let text = environment::without_generation(&text);
            environment
                .add_template_owned(name.clone(), text)
                .map_err(|cause| TextError::Template {
                    path,
                    cause: cause.to_string(),
                })?;
            names.push(name);
        }
        let content = |value: &Value| {
            value
                .as_str()
                .or_else(|| value.get("content")?.as_str())
                .map(Value::from)
        };
        let tokens = tokens
            .iter()
            .filter(|(key, _)| key.ends_with("_token"))
            .filter_map(|(key, value)| Some((key.clone(), content(value)?)));
        Ok(Self {
            environment,
            walks: names.iter().map(|_| OnceLock::new()).collect(),
            names,
            tokens: tokens.collect(),
        })
    }

    /// The text of a dialogue; an error is the template's own, or says what stands in the way.
    pub fn render(&self, dialogue: &Dialogue) -> Result<String, String> {
        let name = self.choose(dialogue)?;
        let mut messages = dialogue.messages.clone();
        let continued = match dialogue.continue_final_message {
            true if dialogue.add_generation_prompt => {
                return Err(
                    "continue_final_message and add_generation_prompt exclude each other; leave \
                     one out"
                        .into(),
                );
            }
            true => Some(mark(&mut messages)?),
            false => None,
        };
        let text = self
            .write(name, dialogue, messages)
            .map_err(|error| told(&error))?;
        match continued {
            Some(last) => cut(text, &last),
            None => Ok(text),
        }
    }

    fn choose(&self, dialogue: &Dialogue) -> Result<&str, String> {
        let find = |wanted: &str| self.names.iter().find(|name| *name == wanted);
        let listed = || self.names.join(", ");
        if let Some(wanted) = &dialogue.template {
            return find(wanted).map(String::as_str).ok_or_else(|| {
                format!(
                    "the checkpoint has no chat template {wanted:?}, only {}",
                    listed()
                )
            });
        }
        let with_tools = dialogue.tools.as_ref().and_then(|_| find(TOOL_USE));
        let found = with_tools.or_else(|| find(DEFAULT));
        found.map(String::as_str).ok_or_else(|| {
            format!(
                "the checkpoint has several chat templates and none is the default; name one of {}",
                listed()
            )
        })
    }

    fn write(
        &self,
        name: &str,
        dialogue: &Dialogue,
        messages: Vec<Value>,
    ) -> Result<String, Error> {
        let mut context: BTreeMap<String, minijinja::Value> = BTreeMap::new();
        let known = [
            ("messages", json!(messages)),
            ("tools", json!(dialogue.tools)),
            ("documents", json!(dialogue.documents)),
            (
                "add_generation_prompt",
                json!(dialogue.add_generation_prompt),
            ),
        ];
        let known = known.map(|(key, value)| (key.to_owned(), value));
        let arguments = self
            .tokens
            .clone()
            .into_iter()
            .chain(dialogue.arguments.clone());
        for (key, value) in arguments.chain(known) {
            context.insert(key, values::of_json(value));
        }
        if let Some(seconds) = dialogue.now {
            let clock = environment::clock_at(environment::at(seconds));
            context.insert("strftime_now".into(), clock);
        }
        let template = self.environment.get_template(name)?;
        let context = minijinja::Value::from_iter(context);
        let text = bounded::render(&self.environment, (name, template.source()), context)?;
        match text.len() > LONGEST {
            true => {
                let problem = format!("the prompt is longer than {LONGEST} bytes");
                Err(Error::new(ErrorKind::WriteFailure, problem))
            }
            false => Ok(text),
        }
    }
}

/// A template and where it stands.
struct Named {
    name: String,
    text: String,
    path: PathBuf,
}

impl Named {
    fn of(name: &str, text: &str, path: &Path) -> Self {
        Self {
            name: name.into(),
            text: text.into(),
            path: path.into(),
        }
    }
}

/// The templates that have files of their own.
fn files(dir: &Path) -> Result<Vec<Named>, TextError> {
    let path = dir.join("chat_template.jinja");
    let Some(text) = text_of(&path)? else {
        return Ok(Vec::new());
    };
    let mut found = vec![Named::of(DEFAULT, &text, &path)];
    let more = std::fs::read_dir(dir.join("additional_chat_templates"));
    let more = more
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()));
    let mut more: Vec<_> = more
        .filter(|path| path.extension().is_some_and(|kind| kind == "jinja"))
        .collect();
    more.sort();
    for path in more {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        if let Some(text) = text_of(&path)? {
            found.push(Named::of(&name, &text, &path));
        }
    }
    Ok(found)
}

fn text_of(path: &Path) -> Result<Option<String>, TextError> {
    let Some(bytes) = read_bytes(path)? else {
        return Ok(None);
    };
    let text = String::from_utf8(bytes).map_err(|error| TextError::Template {
        path: path.into(),
        cause: format!("it is not UTF-8: {error}"),
    })?;
    // Python reads text files with line feeds, whatever they have.
    Ok(Some(text.replace("\r\n", "\n")))
}

/// The templates under the key `chat_template` of a file: a text, or a list of objects with names.
fn listed(path: &Path, map: &Map<String, Value>) -> Result<Vec<Named>, TextError> {
    const WANTED: &str = "a text, or a list of objects with name and template";
    let wrong = |value: &Value| JsonFile { path }.wrong("chat_template", value, WANTED);
    match map.get("chat_template") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![Named::of(DEFAULT, text, path)]),
        Some(Value::Array(items)) => {
            let named = items.iter().map(|item| {
                let (name, text) = (item["name"].as_str()?, item["template"].as_str()?);
                Some(Named::of(name, text, path))
            });
            named
                .collect::<Option<_>>()
                .ok_or_else(|| wrong(&map["chat_template"]))
        }
        Some(other) => Err(wrong(other)),
    }
}

/// Puts the tag behind the text of the last message; that text.
fn mark(messages: &mut [Value]) -> Result<String, String> {
    const NOTHING: &str =
        "continue_final_message is set, but the last message has no text to go on with";
    let content = messages
        .last_mut()
        .and_then(|last| last.get_mut("content"))
        .ok_or(NOTHING)?;
    let text = match content {
        Value::Array(parts) => parts
            .iter_mut()
            .rev()
            .find_map(|part| part.get_mut("text"))
            .ok_or(NOTHING)?,
        text => text,
    };
    let last = text.as_str().ok_or(NOTHING)?.to_owned();
    *text = json!(format!("{last}{TAG}"));
    Ok(last)
}

/// The prompt up to where the last message ends.
fn cut(mut text: String, last: &str) -> Result<String, String> {
    let bare = TAG.trim_end();
    let at = text.rfind(bare).filter(|_| text.contains(last.trim()));
    let at = at.ok_or(
        "continue_final_message is set, but the template leaves out the last message, or parts of \
         it",
    )?;
    let keeps_spaces = text[at..].starts_with(TAG);
    text.truncate(at);
    if !keeps_spaces {
        text.truncate(text.trim_end().len());
    }
    Ok(text)
}

/// What a template said with `raise_exception`, or what it could not do and where.
fn told(error: &Error) -> String {
    if let Some(raised) = environment::raised(error) {
        return raised;
    }
    if error.kind() == ErrorKind::OutOfFuel {
        return "the template takes too many steps; it may loop for ever".into();
    }
    error.to_string()
}

#[cfg(test)]
mod tests;
