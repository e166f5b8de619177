//! Dialogues, as DJL Serving's handler had them up to 0.27: the last text with what was said before, and the answer with
//! the dialogue that it ends. The messages of transformers' pipeline are read too.

use sconce_core::task::{Message, Role, Source, Write};
use sconce_core::{Answered, Ask, ServeError, Task, TaskAnswer};
use serde_json::{Map, Value, json};

use super::read::{Request, nothing};
use super::{AcceptedTask, TaskForm, write};
use crate::fields::Fields;
use crate::json;

type Result<T> = std::result::Result<T, ServeError>;

/// Most messages of a dialogue.
const MOST_MESSAGES: usize = 4096;

const WANTED: &str = "must be an object {\"text\": \"…\"}, with \"past_user_inputs\" and \"generated_responses\" if \
                      something was said before, or a list of objects with \"role\" and \"content\"";

/// A request for the next answer of a dialogue, or of several.
pub(super) fn dialogues(mut request: Request) -> Result<AcceptedTask> {
    let inputs = std::mem::take(&mut request.inputs);
    let one = is_dialogue(&inputs);
    let items = match inputs {
        Value::Array(items) if !one && items.is_empty() => return Err(nothing()),
        Value::Array(items) if !one => items,
        Value::Null => return Err(nothing()),
        dialogue => vec![dialogue],
    };
    let dialogues: Vec<Vec<Message>> = items.into_iter().map(dialogue).collect::<Result<_>>()?;
    let like = write::arguments(Task::Conversational, request)?;
    let ask = |messages: &Vec<Message>| {
        Ask::Write(Box::new(Write {
            source: Source::Dialogue(messages.clone()),
            ..like.clone()
        }))
    };
    let asks = dialogues.iter().map(ask).collect();
    Ok(AcceptedTask::new(asks, Dialogues { dialogues, one }))
}

/// Whether the input is one dialogue: anything but a list, or a list of messages.
fn is_dialogue(inputs: &Value) -> bool {
    match inputs {
        Value::Array(items) => items.iter().any(|item| item.get("role").is_some()),
        _ => true,
    }
}

fn dialogue(value: Value) -> Result<Vec<Message>> {
    let messages = match value {
        Value::String(text) => vec![said(Role::User, text)],
        Value::Object(object) => turns(object)?,
        Value::Array(items) if items.len() > MOST_MESSAGES => {
            let found = format!("a list of {}", items.len());
            let problem =
                format!("may hold at most {MOST_MESSAGES} messages; leave out the first ones");
            return Err(ServeError::parameter("inputs", found, problem));
        }
        Value::Array(items) => items.into_iter().map(message).collect::<Result<_>>()?,
        other => return Err(ServeError::parameter("inputs", other, WANTED)),
    };
    match messages.last() {
        Some(Message {
            role: Role::User, ..
        }) => Ok(messages),
        Some(last) => {
            let problem = "must end with a message of the user, which is to be answered";
            Err(ServeError::parameter("inputs", &last.content, problem))
        }
        None => Err(nothing()),
    }
}

/// What users and the model said by turns, and the text that comes last.
fn turns(object: Map<String, Value>) -> Result<Vec<Message>> {
    let whole = Value::Object(object.clone());
    let mut fields = Fields::new(object);
    let text = fields.text("text")?;
    let mut asked = said_before(&mut fields, "past_user_inputs")?.into_iter();
    let mut answered = said_before(&mut fields, "generated_responses")?.into_iter();
    fields.finish(|_| None)?;
    let Some(text) = text else {
        return Err(ServeError::parameter("inputs", whole, WANTED));
    };
    let mut messages = Vec::new();
    loop {
        let turn = [
            asked.next().map(|text| said(Role::User, text)),
            answered.next().map(|text| said(Role::Assistant, text)),
        ];
        if turn.iter().all(Option::is_none) {
            break;
        }
        messages.extend(turn.into_iter().flatten());
    }
    messages.push(said(Role::User, text));
    Ok(messages)
}

fn said_before(fields: &mut Fields, key: &'static str) -> Result<Vec<String>> {
    let problem = format!("must be a list of at most {MOST_MESSAGES} strings");
    let items = match fields.take(key) {
        None => return Ok(Vec::new()),
        Some(Value::Array(items)) if items.len() <= MOST_MESSAGES => items,
        Some(other) => return Err(ServeError::parameter(key, other, problem)),
    };
    let text = |item| match item {
        Value::String(text) => Ok(text),
        other => Err(ServeError::parameter(key, other, &*problem)),
    };
    items.into_iter().map(text).collect()
}

fn message(value: Value) -> Result<Message> {
    let Value::Object(object) = value else {
        return Err(ServeError::parameter("inputs", value, WANTED));
    };
    let whole = Value::Object(object.clone());
    let mut fields = Fields::new(object);
    let (role, content) = (fields.text("role")?, fields.text("content")?);
    fields.finish(|_| None)?;
    let roles = [Role::User, Role::Assistant, Role::System];
    let found = roles
        .into_iter()
        .find(|known| role.as_deref() == Some(known.name()));
    match (role, found, content) {
        (_, Some(role), Some(content)) => Ok(said(role, content)),
        (Some(role), None, _) => {
            let problem = "must be user, assistant or system";
            Err(ServeError::parameter("role", role, problem))
        }
        _ => Err(ServeError::parameter("inputs", whole, WANTED)),
    }
}

fn said(role: Role, content: String) -> Message {
    Message { role, content }
}

/// What was answered, with the dialogues that it ends.
struct Dialogues {
    dialogues: Vec<Vec<Message>>,
    /// The request was one dialogue, and no list.
    one: bool,
}

impl TaskForm for Dialogues {
    fn body(&self, answers: &[Answered]) -> Vec<u8> {
        let pairs = self.dialogues.iter().zip(answers);
        let bodies: Vec<Value> = pairs
            .map(|(messages, answered)| {
                let text = match &answered.answer {
                    TaskAnswer::Texts(texts) => texts.first().map_or("", |best| &best.text),
                    _ => "",
                };
                let of = |role| {
                    let said = messages.iter().filter(move |said| said.role == role);
                    said.map(|said| said.content.as_str())
                };
                let asked: Vec<&str> = of(Role::User).collect();
                let told: Vec<&str> = of(Role::Assistant).chain([text]).collect();
                let conversation = json!({"past_user_inputs": asked, "generated_responses": told});
                json!({"generated_text": text, "conversation": conversation})
            })
            .collect();
        match bodies.as_slice() {
            [only] if self.one => json::indented(only),
            all => json::indented(all),
        }
    }
}
