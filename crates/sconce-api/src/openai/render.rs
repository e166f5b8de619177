//! Whole answers, and the parts that streams are made of too.

use std::hash::{DefaultHasher, Hash, Hasher};

use sconce_core::{FinishReason, PromptToken, Token, TopToken};
use serde_json::{Value, json};

use super::Habit;
use super::calls::{Calls, Part, Reader, is_marker};
use super::parameters::Header;
use crate::dialect::{Finished, Whole};
use crate::{json as layout, rolling};

/// An answer to messages.
pub(super) struct Chat {
    pub(super) header: Header,
    pub(super) habit: Habit,
    pub(super) logprobs: bool,
    /// So many alternatives beside each token of the prompt; `None`: these are not told.
    pub(super) prompt_logprobs: Option<usize>,
    /// How calls are found in it, if there may be some.
    pub(super) calls: Option<Calls>,
}

/// Answers to prompts.
pub(super) struct Completions {
    pub(super) header: Header,
    pub(super) habit: Habit,
    /// So many alternatives beside each token; `None`: no log-probabilities.
    pub(super) logprobs: Option<usize>,
    /// The same for the prompt; `None`: its tokens are not told.
    pub(super) prompt_logprobs: Option<usize>,
    /// Answers to each prompt that are told.
    pub(super) n: usize,
    /// Answers to each prompt that are made.
    pub(super) best_of: usize,
    /// Jobs that make them: one each, or a search one for all.
    pub(super) jobs: usize,
    /// Whether the prompt stands before the answer.
    pub(super) echo: bool,
}

impl Whole for Chat {
    fn content_type(&self) -> &'static str {
        "application/json"
    }

    fn keeps_tokens(&self) -> bool {
        self.logprobs || self.calls.is_some()
    }

    fn body(&self, finished: &[Finished]) -> Vec<u8> {
        let choice = |(index, one): (usize, &Finished)| {
            let (content, calls) = self.said(index, one);
            let mut message = json!({ "role": "assistant", "content": content });
            let finish = match calls.is_empty() {
                true => finish_reason(one.output.finish, self.habit),
                false => called(one.output.finish, self.habit),
            };
            if !calls.is_empty() {
                message["tool_calls"] = calls.into();
            }
            if self.habit != Habit::Rolling {
                message["refusal"] = Value::Null;
            }
            let logprobs = match self.logprobs {
                true => chat_logprobs(&one.tokens, self.habit),
                false => Value::Null,
            };
            json!({
                "index": index,
                "message": message,
                "logprobs": logprobs,
                "finish_reason": finish,
            })
        };
        let texts = finished.iter().flat_map(Finished::texts);
        let choices: Vec<_> = texts.enumerate().map(choice).collect();
        let mut body = headed(&self.header, self.habit, "chat.completion");
        body["choices"] = choices.into();
        body["usage"] = usage(finished, finished.len());
        if let (Some(top), Some(first)) = (self.prompt_logprobs, finished.first()) {
            body["prompt_logprobs"] = prompt_logprobs(&first.output.prompt, top);
        }
        whole(self.habit, &body)
    }
}

impl Chat {
    /// The text of an answer and the calls in it.
    fn said(&self, index: usize, one: &Finished) -> (Value, Vec<Value>) {
        let Some(calls) = &self.calls else {
            return (json!(one.output.text), Vec::new());
        };
        let mut reader = Reader::new(calls);
        let mut parts: Vec<_> = one
            .tokens
            .iter()
            .flat_map(|token| reader.push(&written(token)))
            .collect();
        parts.extend(reader.finish());
        let (mut text, mut found) = (String::new(), Vec::<(String, String)>::new());
        for part in parts {
            match part {
                Part::Text(more) => text.push_str(&more),
                Part::Call(name) => found.push((name, String::new())),
                Part::Arguments(more) => {
                    if let Some((_, arguments)) = found.last_mut() {
                        arguments.push_str(&more);
                    }
                }
            }
        }
        let content = match text.is_empty() && !found.is_empty() {
            true => Value::Null,
            false => json!(text),
        };
        let calls = found
            .into_iter()
            .enumerate()
            .map(|(at, (name, arguments))| {
                json!({
                    "id": call_id(&self.header, index, at),
                    "type": "function",
                    "function": {"name": name, "arguments": arguments},
                })
            });
        (content, calls.collect())
    }
}

/// What a token says about calls: its text, or its spelling if it marks something and is no part of the text.
pub(super) fn written(token: &Token) -> String {
    match token.special && is_marker(&token.spelled) && !token.text.contains(&token.spelled) {
        true => format!("{}{}", token.spelled, token.text),
        false => token.text.clone(),
    }
}

/// Names a call: nine letters and digits, since some templates want just so many.
pub(super) fn call_id(header: &Header, choice: usize, call: usize) -> String {
    const DIGITS: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut hasher = DefaultHasher::new();
    (&header.id, choice, call).hash(&mut hasher);
    let mut left = hasher.finish();
    let mut id = String::new();
    for _ in 0..9 {
        id.push(char::from(DIGITS[(left % 36) as usize]));
        left /= 36;
    }
    id
}

/// Why an answer with calls ended.
pub(super) fn called(finish: FinishReason, habit: Habit) -> &'static str {
    match finish {
        FinishReason::Length => finish_reason(finish, habit),
        _ => "tool_calls",
    }
}

impl Whole for Completions {
    fn content_type(&self) -> &'static str {
        "application/json"
    }

    fn keeps_tokens(&self) -> bool {
        self.logprobs.is_some() || self.best_of > self.n
    }

    fn body(&self, finished: &[Finished]) -> Vec<u8> {
        let mut choices = Vec::new();
        for group in finished.chunks(self.jobs) {
            for one in best(group, self.n) {
                choices.push(self.choice(choices.len(), one, &group[0].output.prompt));
            }
        }
        let mut body = headed(&self.header, self.habit, "text_completion");
        body["choices"] = choices.into();
        body["usage"] = usage(finished, self.jobs);
        whole(self.habit, &body)
    }
}

impl Completions {
    fn choice(&self, index: usize, one: &Finished, prompt: &[PromptToken]) -> Value {
        let echo = match self.echo {
            true => one.output.echo.as_str(),
            false => "",
        };
        let logprobs = self.logprobs.map(|count| {
            let mut lists = Lists::default();
            if self.echo {
                for token in prompt {
                    let top = &token.top[..token.top.len().min(count)];
                    lists.push(&token.text, token.logprob, top);
                }
            }
            for token in &one.tokens {
                lists.push(&token.spelled, Some(token.logprob), &token.top);
            }
            lists.json()
        });
        let mut choice = json!({
            "text": format!("{echo}{}", one.output.text),
            "index": index,
            "logprobs": logprobs,
            "finish_reason": finish_reason(one.output.finish, self.habit),
        });
        if let Some(top) = self.prompt_logprobs {
            choice["prompt_logprobs"] = prompt_logprobs(prompt, top);
        }
        choice
    }
}

/// vLLM's member of that name: for each token of the prompt an object with it and the likeliest ones, by their ids.
fn prompt_logprobs(prompt: &[PromptToken], count: usize) -> Value {
    // JSON has no infinity; this is what vLLM has in its place.
    const IMPOSSIBLE: f32 = -9999.0;
    let one = |text: &str, logprob: f32, rank: usize| json!({"logprob": logprob.max(IMPOSSIBLE), "rank": rank, "decoded_token": text});
    let told = |token: &PromptToken| {
        let (Some(logprob), Some(rank)) = (token.logprob, token.rank) else {
            return Value::Null;
        };
        let mut listed = serde_json::Map::new();
        listed.insert(token.id.to_string(), one(&token.text, logprob, rank));
        for (at, top) in token.top.iter().take(count).enumerate() {
            listed.insert(top.id.to_string(), one(&top.text, top.logprob, at + 1));
        }
        listed.into()
    };
    prompt.iter().map(told).collect()
}

/// The answers whose tokens are likeliest on average, best first; of equals the first. Those of a search come in the order
/// of their scores.
fn best(group: &[Finished], n: usize) -> Vec<&Finished> {
    let mut ranked: Vec<_> = group.iter().flat_map(Finished::texts).collect();
    if n < group.len() {
        let mean = |one: &Finished| {
            let sum: f32 = one.tokens.iter().map(|token| token.logprob).sum();
            sum / one.tokens.len().max(1) as f32
        };
        ranked.sort_by(|one, other| mean(other).total_cmp(&mean(one)));
        ranked.truncate(n);
    }
    ranked
}

/// The lists of `logprobs` in completions: four entries for each token.
#[derive(Default)]
pub(super) struct Lists {
    tokens: Vec<String>,
    logprobs: Vec<Option<f32>>,
    top: Vec<Value>,
    offsets: Vec<usize>,
    /// Characters before the next token.
    at: usize,
}

impl Lists {
    /// Lists that begin behind so many characters.
    pub(super) fn after(at: usize) -> Self {
        Self {
            at,
            ..Self::default()
        }
    }

    pub(super) fn push(&mut self, text: &str, logprob: Option<f32>, top: &[TopToken]) {
        self.tokens.push(text.to_owned());
        self.logprobs.push(logprob);
        self.offsets.push(self.at);
        self.at += text.chars().count();
        let mut listed = serde_json::Map::new();
        for other in top {
            // Two tokens may spell the same; the likelier one comes first.
            listed
                .entry(other.text.clone())
                .or_insert_with(|| json!(other.logprob));
        }
        self.top.push(match (logprob, listed.is_empty()) {
            (None, _) | (_, true) => Value::Null,
            (Some(logprob), false) => {
                listed
                    .entry(text.to_owned())
                    .or_insert_with(|| json!(logprob));
                listed.into()
            }
        });
    }

    /// The number of characters before the next token.
    pub(super) fn end(&self) -> usize {
        self.at
    }

    pub(super) fn json(self) -> Value {
        json!({
            "tokens": self.tokens,
            "token_logprobs": self.logprobs,
            "top_logprobs": self.top,
            "text_offset": self.offsets,
        })
    }
}

/// `logprobs` of a chat.
pub(super) fn chat_logprobs(tokens: &[Token], habit: Habit) -> Value {
    let content: Vec<_> = tokens.iter().map(|token| told(token, habit)).collect();
    match habit {
        Habit::Rolling => json!({ "content": content }),
        Habit::OpenAi | Habit::Async => json!({ "content": content, "refusal": null }),
    }
}

fn told(token: &Token, habit: Habit) -> Value {
    let one = |text: &str, logprob: f32| json!({ "token": text, "logprob": logprob, "bytes": bytes(text, habit) });
    let mut told = one(&token.spelled, token.logprob);
    told["top_logprobs"] = match habit {
        // DJL Serving lists the token itself, whatever was asked for.
        Habit::Rolling => json!([one(&token.spelled, token.logprob)]),
        Habit::OpenAi | Habit::Async => token
            .top
            .iter()
            .map(|top| one(&top.text, top.logprob))
            .collect(),
    };
    told
}

/// The bytes of a token, unless it is a part of a character, which has no text. DJL Serving has code points in their
/// place.
fn bytes(text: &str, habit: Habit) -> Value {
    match habit {
        _ if text.is_empty() || text.contains(char::REPLACEMENT_CHARACTER) => Value::Null,
        Habit::Rolling => text.chars().map(u32::from).collect(),
        Habit::OpenAi | Habit::Async => json!(text.as_bytes()),
    }
}

/// Why an answer ended.
pub(super) fn finish_reason(finish: FinishReason, habit: Habit) -> &'static str {
    match (habit, finish) {
        (Habit::Rolling, finish) => rolling::finish_reason(finish),
        (_, FinishReason::Length) => "length",
        (_, FinishReason::EosToken | FinishReason::StopSequence) => "stop",
    }
}

/// The number of tokens; `each` jobs share a prompt.
fn usage(finished: &[Finished], each: usize) -> Value {
    let (mut prompts, mut written) = (0, 0);
    for (at, Finished { output, .. }) in finished.iter().enumerate() {
        if at % each.max(1) == 0 {
            prompts += output.prompt_tokens;
        }
        written += output.all_generated();
    }
    counted(prompts, written)
}

pub(super) fn counted(prompts: usize, written: usize) -> Value {
    json!({
        "prompt_tokens": prompts,
        "completion_tokens": written,
        "total_tokens": prompts + written,
    })
}

/// An object with what all have.
pub(super) fn headed(header: &Header, habit: Habit, object: &str) -> Value {
    let mut body = json!({ "id": header.id, "object": object, "created": header.created });
    if habit != Habit::Rolling {
        body["model"] = json!(header.model);
    }
    body
}

fn whole(habit: Habit, body: &Value) -> Vec<u8> {
    let mut bytes = bare(habit, body);
    if habit == Habit::Async {
        bytes.push(b'\n');
    }
    bytes
}

/// The bytes of an object.
pub(super) fn bare(habit: Habit, body: &Value) -> Vec<u8> {
    match habit {
        Habit::Rolling => layout::spaced(body),
        Habit::OpenAi | Habit::Async => body.to_string().into_bytes(),
    }
}
