//! Answers that come token by token, of several prompts at the same time.

use sconce_core::{Output, ServeError, Token};
use serde_json::{Value, json};

use super::Habit;
use super::calls::{Calls, Part, Reader};
use super::parameters::{Framing, Header};
use super::render::{
    self, Lists, bare, call_id, called, chat_logprobs, counted, finish_reason, headed, written,
};
use crate::dialect::Stream;
use crate::tasks::openai;

/// What both kinds of streams have.
struct Chunks {
    header: Header,
    framing: Framing,
    object: &'static str,
    /// Answers that have not ended.
    left: usize,
    /// Answers to each prompt.
    each: usize,
    prompts: usize,
    written: usize,
}

impl Chunks {
    fn content_type(&self) -> &'static str {
        match self.framing.habit {
            Habit::OpenAi | Habit::Rolling => "text/event-stream",
            Habit::Async => "application/jsonlines",
        }
    }

    fn chunk(&self, choice: Value) -> Vec<u8> {
        let habit = self.framing.habit;
        let mut body = headed(&self.header, habit, self.object);
        body["choices"] = json!([choice]);
        if self.framing.usage {
            body["usage"] = Value::Null;
        }
        self.frame(&bare(habit, &body))
    }

    fn frame(&self, json: &[u8]) -> Vec<u8> {
        match self.framing.habit {
            Habit::OpenAi | Habit::Rolling => [b"data: ", json, b"\n\n"].concat(),
            Habit::Async => [json, b"\n"].concat(),
        }
    }

    /// Counts an ended answer; what the stream ends with if it was the last.
    fn end(&mut self, index: usize, output: &Output) -> Vec<u8> {
        self.left = self.left.saturating_sub(1);
        if index.is_multiple_of(self.each) {
            self.prompts += output.prompt_tokens;
        }
        self.written += output.generated_tokens;
        if self.left > 0 {
            return Vec::new();
        }
        let mut bytes = Vec::new();
        if self.framing.usage {
            let habit = self.framing.habit;
            let mut body = headed(&self.header, habit, self.object);
            body["choices"] = json!([]);
            body["usage"] = counted(self.prompts, self.written);
            bytes = self.frame(&bare(habit, &body));
        }
        bytes.extend(self.mark());
        bytes
    }

    fn mark(&self) -> &'static [u8] {
        match self.framing.habit {
            Habit::OpenAi | Habit::Rolling => b"data: [DONE]\n\n",
            Habit::Async => b"",
        }
    }

    fn fail(&self, error: &ServeError, code: u16) -> Vec<u8> {
        let mut bytes = self.frame(&openai::failure(error, code));
        bytes.extend(self.mark());
        bytes
    }
}

/// The stream of an answer to messages.
pub(super) struct Chat {
    chunks: Chunks,
    logprobs: bool,
    /// Whether an answer has begun.
    begun: Vec<bool>,
    /// Find calls in each answer, if there may be some.
    readers: Vec<Reader>,
}

impl Chat {
    /// A stream of `n` answers.
    pub(super) fn new(
        header: Header,
        framing: Framing,
        (logprobs, calls): (bool, Option<Calls>),
        n: usize,
    ) -> Self {
        let readers = calls
            .iter()
            .flat_map(|calls| (0..n).map(|_| Reader::new(calls)));
        Self {
            readers: readers.collect(),
            chunks: Chunks {
                header,
                framing,
                object: "chat.completion.chunk",
                left: n,
                each: n,
                prompts: 0,
                written: 0,
            },
            logprobs,
            begun: vec![false; n],
        }
    }

    fn delta(&self, index: usize, delta: Value, logprobs: Value, finish: Option<&str>) -> Vec<u8> {
        self.chunks.chunk(json!({
            "index": index,
            "delta": delta,
            "logprobs": logprobs,
            "finish_reason": finish,
        }))
    }

    /// The chunk that names the speaker, once for each answer.
    fn begin(&mut self, index: usize) -> Vec<u8> {
        match self.begun.get_mut(index) {
            Some(begun) if !*begun => *begun = true,
            _ => return Vec::new(),
        }
        let delta = json!({ "role": "assistant", "content": "" });
        self.delta(index, delta, Value::Null, None)
    }

    /// The deltas of parts; so many calls were told before them.
    fn told(&self, index: usize, before: usize, parts: Vec<Part>) -> Vec<Value> {
        let mut found = before;
        let delta = |part: Part| match part {
            Part::Text(text) => json!({ "content": text }),
            Part::Call(name) => {
                found += 1;
                json!({ "tool_calls": [{
                    "index": found - 1,
                    "id": call_id(&self.chunks.header, index, found - 1),
                    "type": "function",
                    "function": {"name": name, "arguments": ""},
                }] })
            }
            Part::Arguments(more) => json!({ "tool_calls": [{
                "index": found.saturating_sub(1),
                "function": {"arguments": more},
            }] }),
        };
        parts.into_iter().map(delta).collect()
    }

    fn logprobs(&self, token: &Token) -> Value {
        let habit = self.chunks.framing.habit;
        let mut told = match self.logprobs {
            true => chat_logprobs(std::slice::from_ref(token), habit),
            false => return Value::Null,
        };
        if habit == Habit::Rolling {
            // DJL Serving's own: a list of one, and the number in place of the text.
            told["content"][0]["top_logprobs"][0]["token"] = json!(token.logprob);
            told = json!([told]);
        }
        told
    }
}

impl Stream for Chat {
    fn content_type(&self) -> &'static str {
        self.chunks.content_type()
    }

    fn token(&mut self, index: usize, token: Token) -> Vec<u8> {
        let mut bytes = self.begin(index);
        let mut deltas = match self.readers.get_mut(index) {
            Some(reader) => {
                let before = reader.found();
                let parts = reader.push(&written(&token));
                self.told(index, before, parts)
            }
            None if token.text.is_empty() => Vec::new(),
            None => vec![json!({ "content": token.text })],
        };
        if deltas.is_empty() && self.logprobs {
            deltas.push(json!({ "content": "" }));
        }
        let mut logprobs = self.logprobs(&token);
        for delta in deltas {
            bytes.extend(self.delta(index, delta, std::mem::take(&mut logprobs), None));
        }
        bytes
    }

    fn done(&mut self, index: usize, output: &Output) -> Vec<u8> {
        let mut bytes = self.begin(index);
        let habit = self.chunks.framing.habit;
        let mut finish = finish_reason(output.finish, habit);
        if let Some(reader) = self.readers.get_mut(index) {
            let parts = reader.finish();
            let found = reader.found();
            if found > 0 {
                finish = called(output.finish, habit);
            }
            for delta in self.told(index, found, parts) {
                bytes.extend(self.delta(index, delta, Value::Null, None));
            }
        }
        bytes.extend(self.delta(index, json!({}), Value::Null, Some(finish)));
        bytes.extend(self.chunks.end(index, output));
        bytes
    }

    fn fail(&mut self, error: &ServeError, code: u16) -> Vec<u8> {
        self.chunks.fail(error, code)
    }
}

/// The stream of answers to prompts.
pub(super) struct Completions {
    chunks: Chunks,
    logprobs: bool,
    /// What stands before each answer, until it was told.
    echoes: Vec<String>,
    /// Characters of each answer that were told in lists of log-probabilities.
    told: Vec<usize>,
}

impl Completions {
    /// A stream of `count` answers in all.
    pub(super) fn new(
        form: render::Completions,
        framing: Framing,
        (count, echoes): (usize, Vec<String>),
    ) -> Self {
        Self {
            chunks: Chunks {
                header: form.header,
                framing,
                object: "text_completion",
                left: count,
                each: form.best_of,
                prompts: 0,
                written: 0,
            },
            logprobs: form.logprobs.is_some(),
            echoes,
            told: vec![0; count],
        }
    }

    fn choice(&self, index: usize, text: &str, logprobs: Value, finish: Option<&str>) -> Vec<u8> {
        self.chunks.chunk(json!({
            "index": index,
            "text": text,
            "logprobs": logprobs,
            "finish_reason": finish,
        }))
    }

    fn echo(&mut self, index: usize) -> String {
        self.echoes
            .get_mut(index)
            .map(std::mem::take)
            .unwrap_or_default()
    }

    fn logprobs(&mut self, index: usize, token: &Token) -> Value {
        let Some(told) = self.told.get_mut(index).filter(|_| self.logprobs) else {
            return Value::Null;
        };
        let mut lists = Lists::after(*told);
        lists.push(&token.spelled, Some(token.logprob), &token.top);
        *told = lists.end();
        lists.json()
    }
}

impl Stream for Completions {
    fn content_type(&self) -> &'static str {
        self.chunks.content_type()
    }

    fn token(&mut self, index: usize, token: Token) -> Vec<u8> {
        let text = self.echo(index) + &token.text;
        if text.is_empty() && !self.logprobs {
            return Vec::new();
        }
        let logprobs = self.logprobs(index, &token);
        self.choice(index, &text, logprobs, None)
    }

    fn done(&mut self, index: usize, output: &Output) -> Vec<u8> {
        let text = self.echo(index);
        let finish = finish_reason(output.finish, self.chunks.framing.habit);
        let mut bytes = self.choice(index, &text, Value::Null, Some(finish));
        bytes.extend(self.chunks.end(index, output));
        bytes
    }

    fn fail(&mut self, error: &ServeError, code: u16) -> Vec<u8> {
        self.chunks.fail(error, code)
    }
}
