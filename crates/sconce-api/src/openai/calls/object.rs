//! One call, taken apart while it is written: `{"name": …, "arguments": …}`, or the arguments alone.

use serde_json::Value;

/// What more text told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// The name, when it has become known.
    pub(super) name: Option<String>,
    /// What can be passed on of the arguments.
    pub(super) arguments: String,
    /// Whether the object is complete; what follows it was not taken.
    pub(super) ended: bool,
}

/// An object on its way.
pub(super) struct Object {
    /// What was written, with what stood before it.
    raw: String,
    depth: usize,
    in_text: bool,
    escaped: bool,
    /// Where the last text of the outermost level begins.
    text_from: usize,
    /// The key whose value comes.
    key: Option<String>,
    /// Where its value begins.
    value_from: Option<usize>,
    name: Option<String>,
    arguments: Span,
    /// Functions that there are; `None`: any name is one.
    names: Option<Vec<String>>,
    told_name: bool,
    /// Arguments that were passed on end here.
    told: usize,
}

/// Where the arguments lie.
#[derive(Clone, Copy, Default)]
struct Span {
    from: Option<usize>,
    to: Option<usize>,
}

impl Object {
    /// An object with a name, of these if any are given; `before` is what stood before it.
    pub(super) fn named(names: Option<Vec<String>>, before: String) -> Self {
        Self {
            raw: before,
            depth: 0,
            in_text: false,
            escaped: false,
            text_from: 0,
            key: None,
            value_from: None,
            name: None,
            arguments: Span::default(),
            names,
            told_name: false,
            told: 0,
        }
    }

    /// The arguments of the function of this name, without more around them.
    pub(super) fn bare(name: &str) -> Self {
        Self {
            name: Some(name.to_owned()),
            arguments: Span {
                from: Some(0),
                to: None,
            },
            ..Self::named(None, String::new())
        }
    }

    /// Whether it calls something.
    pub(super) fn is_call(&self) -> bool {
        self.told_name
    }

    /// What was written.
    pub(super) fn raw(&self) -> &str {
        &self.raw
    }

    /// Takes from `text` what belongs to it.
    pub(super) fn push(&mut self, text: &mut String) -> Progress {
        let mut taken = 0;
        let mut ended = false;
        for (at, character) in text.char_indices() {
            taken = at + character.len_utf8();
            self.raw.push(character);
            self.take(character, self.raw.len() - character.len_utf8());
            if self.depth == 0 {
                ended = true;
                break;
            }
        }
        text.drain(..taken);
        if ended && self.arguments.from.is_some() && self.arguments.to.is_none() {
            self.arguments.to = Some(self.raw.len());
        }
        self.tell(ended)
    }

    /// Takes a character, which stands at `at`.
    fn take(&mut self, character: char, at: usize) {
        if self.in_text {
            match character {
                _ if self.escaped => self.escaped = false,
                '\\' => self.escaped = true,
                '"' => {
                    self.in_text = false;
                    self.end_text(at + 1);
                }
                _ => {}
            }
            return;
        }
        if self.depth == 1 && self.is_value_start(character) {
            self.value_from = Some(at);
            if self.is_arguments() {
                self.arguments.from = Some(at);
            }
        }
        match character {
            '"' => {
                self.in_text = true;
                if self.depth == 1 {
                    self.text_from = at;
                }
            }
            '{' | '[' => self.depth += 1,
            '}' | ']' => {
                if self.depth == 1 {
                    self.end_value(at);
                }
                self.depth = self.depth.saturating_sub(1);
            }
            ',' if self.depth == 1 => self.end_value(at),
            _ => {}
        }
    }

    fn is_value_start(&self, character: char) -> bool {
        self.key.is_some()
            && self.value_from.is_none()
            && !character.is_whitespace()
            && character != ':'
    }

    fn is_arguments(&self) -> bool {
        // A bare object has its arguments from its beginning on.
        matches!(self.key.as_deref(), Some("arguments" | "parameters")) && self.name_is_open()
    }

    fn name_is_open(&self) -> bool {
        self.arguments.from.is_none()
    }

    /// A text of the outermost level ends: a key, or a value.
    fn end_text(&mut self, end: usize) {
        if self.depth != 1 {
            return;
        }
        let text: Option<String> = serde_json::from_str(&self.raw[self.text_from..end]).ok();
        match &self.key {
            None => self.key = text,
            Some(key) if key == "name" && self.name.is_none() => self.name = text,
            Some(_) => {}
        }
    }

    fn end_value(&mut self, at: usize) {
        if let (Some(from), Some(value)) = (self.arguments.from, self.value_from)
            && from == value
        {
            self.arguments.to = Some(at);
        }
        self.key = None;
        self.value_from = None;
    }

    fn tell(&mut self, ended: bool) -> Progress {
        let mut progress = Progress {
            ended,
            ..Progress::default()
        };
        let Some(name) = &self.name else {
            return progress;
        };
        let known = self.names.as_ref().is_none_or(|names| names.contains(name));
        let has_arguments = self.arguments.from.is_some();
        if !known || !(has_arguments || ended) {
            return progress;
        }
        if !self.told_name {
            self.told_name = true;
            progress.name = Some(name.clone());
            self.told = self.arguments.from.unwrap_or(self.raw.len());
        }
        progress.arguments = self.more();
        if ended && !has_arguments {
            progress.arguments = "{}".into();
        }
        progress
    }

    /// Arguments that were not passed on yet. Where they are a text of JSON, they are passed on in one piece.
    fn more(&mut self) -> String {
        let Some(from) = self.arguments.from else {
            return String::new();
        };
        let end = self.arguments.to.unwrap_or(self.raw.len());
        if self.raw[from..].starts_with('"') {
            let is_whole = self.arguments.to.is_some() && self.told == from;
            if !is_whole {
                return String::new();
            }
            self.told = end;
            let text = self.raw[from..end].trim();
            return match serde_json::from_str(text) {
                Ok(Value::String(inner)) => inner,
                _ => text.to_owned(),
            };
        }
        // White space at the end may stand behind the arguments.
        let end = from + self.raw[from..end].trim_end().len();
        let more = self.raw[self.told.min(end)..end].to_owned();
        self.told = self.told.max(end);
        more
    }
}
