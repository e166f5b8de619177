//! Calls of tools in what a model writes, found while it is written.
//!
//! Models say in the form that they were trained on that they call a function:
//!
//! | form | |
//! | --- | --- |
//! | Hermes, Qwen | `<tool_call>{"name": …, "arguments": {…}}</tool_call>` |
//! | Mistral | `[TOOL_CALLS][{"name": …, "arguments": {…}}, …]`, newer ones `[TOOL_CALLS]name[ARGS]{…}` or `[TOOL_CALLS]name[CALL_ID]id[ARGS]{…}` |
//! | Llama 3 | `<\|python_tag\|>{"name": …, "parameters": {…}}; …`, or without the tag |
//! | JSON | an answer that is an object as above, or a list of them, and names a tool of the request |
//!
//! All of them are recognised by themselves. What is no call is text; the arguments of a call are passed on as they are
//! written. `object` takes one call apart.

mod object;

use object::{Object, Progress};

/// Begins calls between tags, one each.
const HERMES: &str = "<tool_call>";
const HERMES_END: &str = "</tool_call>";
/// Begins a list of calls.
const MISTRAL: &str = "[TOOL_CALLS]";
/// Stands between the name of a function and the id that the model gives the call.
const MISTRAL_ID: &str = "[CALL_ID]";
const MISTRAL_ARGUMENTS: &str = "[ARGS]";
/// Longest name of a function, as at OpenAI.
const LONGEST_NAME: usize = 64;
/// Begins calls that end with the answer.
const LLAMA: &str = "<|python_tag|>";
/// What may stand before a call in a text.
const MARKERS: [&str; 3] = [HERMES, MISTRAL, LLAMA];

/// Special tokens that say something about calls, though they are no part of the text.
pub(super) fn is_marker(token: &str) -> bool {
    let others = [HERMES_END, MISTRAL_ID, MISTRAL_ARGUMENTS];
    MARKERS.iter().chain(&others).any(|marker| *marker == token)
}

/// A part of what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Text outside of calls.
    Text(String),
    /// A call begins.
    Call(String),
    /// More of the arguments of the call that began last.
    Arguments(String),
}

/// Which tools may be called, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Calls {
    /// Whatever the model does.
    Free {
        /// The names of the tools.
        names: Vec<String>,
        /// So many calls are passed on.
        most: usize,
    },
    /// The whole answer is the arguments of this one.
    Fixed(String),
}

/// Takes one answer apart.
pub(super) struct Reader {
    calls: Calls,
    state: State,
    /// What was written and not understood yet.
    held: String,
    /// Whether anything but white space was written.
    begun: bool,
    /// Calls that there were.
    seen: usize,
    /// Calls that were passed on.
    found: usize,
}

enum State {
    /// Outside of calls.
    Text,
    /// Behind a marker, or between calls: an object comes, or something that ends the calls.
    Between(Form),
    /// Within an object.
    Within(Form, Object),
    /// Within arguments without an object around them.
    Bare(Object),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Hermes,
    Mistral,
    Llama,
    Json,
}

impl Reader {
    pub(super) fn new(calls: &Calls) -> Self {
        Self {
            calls: calls.clone(),
            state: State::Text,
            held: String::new(),
            begun: false,
            seen: 0,
            found: 0,
        }
    }

    /// Calls that were passed on so far.
    pub(super) fn found(&self) -> usize {
        self.found
    }

    /// Takes what was written next.
    pub(super) fn push(&mut self, text: &str) -> Vec<Part> {
        let mut parts = Vec::new();
        if let Calls::Fixed(name) = &self.calls {
            if self.found == 0 && !text.is_empty() {
                self.found = 1;
                parts.push(Part::Call(name.clone()));
            }
            if !text.is_empty() {
                parts.push(Part::Arguments(text.to_owned()));
            }
            return parts;
        }
        self.held.push_str(text);
        while self.step(&mut parts) {}
        parts
    }

    /// Takes the end; what was held back is text.
    pub(super) fn finish(&mut self) -> Vec<Part> {
        let mut rest = std::mem::take(&mut self.held);
        match std::mem::replace(&mut self.state, State::Text) {
            State::Within(_, object) if !object.is_call() => rest.insert_str(0, object.raw()),
            State::Within(..) | State::Bare(_) => rest.clear(),
            State::Between(Form::Mistral) => {
                rest = rest.trim_start_matches(separates).to_owned();
            }
            State::Between(_) if self.found > 0 => rest.clear(),
            State::Between(_) | State::Text => {}
        }
        match rest.is_empty() {
            true => Vec::new(),
            false => vec![Part::Text(rest)],
        }
    }

    /// Goes on with what is held; false: there is nothing to go on with.
    fn step(&mut self, parts: &mut Vec<Part>) -> bool {
        match &mut self.state {
            State::Text => self.text(parts),
            State::Between(form) => {
                let form = *form;
                self.between(form, parts)
            }
            State::Within(form, object) => {
                let form = *form;
                let progress = object.push(&mut self.held);
                self.told(form, progress, parts)
            }
            State::Bare(object) => {
                let progress = object.push(&mut self.held);
                self.told(Form::Mistral, progress, parts)
            }
        }
    }

    fn is_passed_on(&self) -> bool {
        match &self.calls {
            Calls::Free { most, .. } => self.seen <= *most,
            Calls::Fixed(_) => true,
        }
    }

    /// Passes on what an object told.
    fn told(&mut self, form: Form, progress: Progress, parts: &mut Vec<Part>) -> bool {
        if let Some(name) = progress.name {
            self.seen += 1;
            if self.is_passed_on() {
                self.found += 1;
                parts.push(Part::Call(name));
            }
        }
        if !progress.arguments.is_empty() && self.is_passed_on() {
            parts.push(Part::Arguments(progress.arguments));
        }
        if !progress.ended {
            return false;
        }
        let ended = std::mem::replace(&mut self.state, State::Between(form));
        if let State::Within(_, object) = ended
            && !object.is_call()
        {
            // JSON that calls nothing.
            parts.push(Part::Text(object.raw().to_owned()));
            self.state = State::Text;
        }
        true
    }

    fn text(&mut self, parts: &mut Vec<Part>) -> bool {
        let trimmed = self.held.trim_start();
        if !self.begun && trimmed.is_empty() {
            // White space before a call is no text.
            return false;
        }
        let names_something = !matches!(&self.calls, Calls::Free { names, .. } if names.is_empty());
        if !self.begun && names_something && trimmed.starts_with(['{', '[']) {
            let is_marker = MARKERS
                .iter()
                .any(|marker| marker.starts_with(trimmed) || trimmed.starts_with(marker));
            if trimmed.len() < MISTRAL.len() && MISTRAL.starts_with(trimmed) {
                return false;
            }
            if !is_marker {
                self.begun = true;
                self.held = trimmed.to_owned();
                self.state = State::Between(Form::Json);
                return true;
            }
        }
        let marked = MARKERS
            .iter()
            .filter_map(|marker| Some((self.held.find(marker)?, *marker)))
            .min();
        if let Some((at, marker)) = marked {
            let before = self.held[..at].trim_end().to_owned();
            self.held.drain(..at + marker.len());
            self.begun = true;
            self.tell(before, parts);
            self.state = State::Between(match marker {
                HERMES => Form::Hermes,
                MISTRAL => Form::Mistral,
                _ => Form::Llama,
            });
            return true;
        }
        let marker = kept(&self.held);
        // White space before a call is no text either.
        let before = &self.held[..self.held.len() - marker];
        let keeps = self.held.len() - before.trim_end().len();
        let text: String = self.held.drain(..self.held.len() - keeps).collect();
        self.begun |= !text.trim().is_empty();
        self.tell(text, parts);
        false
    }

    /// White space around calls is no text.
    fn tell(&self, text: String, parts: &mut Vec<Part>) {
        if !text.is_empty() && (self.found == 0 || !text.trim().is_empty()) {
            parts.push(Part::Text(text));
        }
    }

    fn between(&mut self, form: Form, parts: &mut Vec<Part>) -> bool {
        let skips: &[char] = match form {
            Form::Hermes => &[],
            Form::Mistral => &['[', ',', ']'],
            // Llama may write its own form without its marker.
            Form::Json => &['[', ',', ']', ';'],
            Form::Llama => &[';', ',', '['],
        };
        let skip = |c: char| c.is_whitespace() || skips.contains(&c);
        if form == Form::Mistral {
            let rest = self.held.trim_start_matches(separates);
            if let Some(more) = rest.strip_prefix(MISTRAL) {
                self.held = more.to_owned();
                return true;
            }
            if MISTRAL.starts_with(rest) {
                return false;
            }
        }
        let rest = self.held.trim_start_matches(skip).to_owned();
        if rest.is_empty() {
            if self.found == 0 && form == Form::Json {
                // It may turn out to be no call: nothing is given up yet.
                return false;
            }
            self.held.clear();
            return false;
        }
        if rest.starts_with('{') {
            let names = match (&self.calls, form) {
                (Calls::Free { names, .. }, Form::Json) => Some(names.clone()),
                _ => None,
            };
            let skipped = self.held[..self.held.len() - rest.len()].to_owned();
            self.held = rest;
            self.state = State::Within(form, Object::named(names, skipped));
            return true;
        }
        match form {
            Form::Hermes if rest.starts_with(HERMES_END) => {
                self.held = rest[HERMES_END.len()..].to_owned();
                self.state = State::Text;
                true
            }
            Form::Hermes if HERMES_END.starts_with(&rest) => false,
            Form::Mistral => self.mistral(&rest, parts),
            _ => {
                self.state = State::Text;
                self.begun = true;
                let text = std::mem::take(&mut self.held);
                self.tell(text, parts);
                true
            }
        }
    }

    /// Newer Mistral models write the name without JSON.
    fn mistral(&mut self, rest: &str, parts: &mut Vec<Part>) -> bool {
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        let behind = rest.trim_start_matches(is_name);
        let name = &rest[..rest.len() - behind.len()];
        let may_be_name = !name.is_empty() && name.len() <= LONGEST_NAME;
        // The id is told by nobody: ours has the answer's number in it.
        let (behind, begins) = match behind.strip_prefix(MISTRAL_ID) {
            Some(id) => (id.trim_start_matches(is_name), [MISTRAL_ARGUMENTS; 2]),
            None => (behind, [MISTRAL_ID, MISTRAL_ARGUMENTS]),
        };
        let arguments = behind.strip_prefix(MISTRAL_ARGUMENTS).unwrap_or(behind);
        if may_be_name && arguments.starts_with('{') {
            self.state = State::Bare(Object::bare(name));
            self.held = arguments.to_owned();
            return true;
        }
        let may_go_on = begins.iter().any(|marker| marker.starts_with(arguments));
        if may_be_name && may_go_on {
            self.held = rest.to_owned();
            return false;
        }
        self.state = State::Text;
        self.begun = true;
        self.held.clear();
        self.tell(rest.to_owned(), parts);
        true
    }
}

/// What may stand between Mistral's calls.
fn separates(c: char) -> bool {
    c.is_whitespace() || matches!(c, ',' | ']')
}

/// Bytes at the end of a text that may begin a marker.
fn kept(text: &str) -> usize {
    let begins = |marker: &&str| {
        let lengths = (1..marker.len().min(text.len() + 1)).rev();
        lengths
            .into_iter()
            .find(|&len| text.is_char_boundary(text.len() - len) && text.ends_with(&marker[..len]))
    };
    MARKERS.iter().filter_map(begins).max().unwrap_or(0)
}

#[cfg(test)]
mod tests;
