//! What a template can call: Jinja as transformers sets it up, with the methods of Python's texts, lists and
//! dictionaries, and within limits.

use chrono::NaiveDateTime;
use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State};

use super::values::Repr;
use super::{bounded, dumps};

/// Instructions that a template may take: what real templates take for dialogues of ten thousand messages, less than a second.
const FUEL: u64 = 8_000_000;
/// Begins the text of an error that the template raised itself.
const RAISED: &str = "raised by the template: ";

/// Tells the time for `strftime_now`.
pub(super) type Clock = fn() -> NaiveDateTime;

/// The local time.
pub(super) fn now() -> NaiveDateTime {
    chrono::Local::now().naive_local()
}

/// An environment without templates.
pub(super) fn new(clock: Clock) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_trim_blocks(bounded::WHITESPACE.trim_blocks);
    environment.set_lstrip_blocks(bounded::WHITESPACE.lstrip_blocks);
    environment.set_fuel(Some(FUEL));
    environment.set_unknown_method_callback(method);
    environment.add_function("raise_exception", |text: String| -> Result<String, Error> {
        Err(Error::new(
            ErrorKind::InvalidOperation,
            format!("{RAISED}{text}"),
        ))
    });
    set_clock(&mut environment, clock);
    environment.add_filter("tojson", dumps::tojson);
    environment.add_filter("items", items);
    environment.add_filter("string", |value: &Value| text_of(value));
    environment.set_formatter(|out, state, value| {
        // What a template builds itself is shown as Python does too.
        let text = text_of(value);
        bounded::wrote(state, text.len())?;
        out.write_str(&text).map_err(Error::from)
    });
    bounded::guard(&mut environment);
    environment.add_test("sequence", |value: &Value| {
        matches!(
            value.kind(),
            ValueKind::Seq | ValueKind::String | ValueKind::Map | ValueKind::Undefined
        )
    });
    environment.add_test("iterable", |value: &Value| {
        value.is_undefined() || (!value.is_none() && value.try_iter().is_ok())
    });
    environment
}

/// Where `strftime_now` has the time from.
pub(super) fn set_clock(environment: &mut Environment<'static>, clock: Clock) {
    environment.add_function("strftime_now", move |format: String| {
        strftime(&format, clock())
    });
}

/// The local time so many seconds after 1970 began; the present where that is no time.
pub(super) fn at(seconds: u64) -> NaiveDateTime {
    let seconds = i64::try_from(seconds).ok();
    let time = seconds.and_then(|seconds| chrono::DateTime::from_timestamp(seconds, 0));
    time.map_or_else(now, |time| time.with_timezone(&chrono::Local).naive_local())
}

/// `strftime_now` of that time.
pub(super) fn clock_at(time: NaiveDateTime) -> Value {
    Value::from_function(move |format: String| strftime(&format, time))
}

/// The template's own words, of an error that it raised.
pub(super) fn raised(error: &Error) -> Option<String> {
    let detail = error.detail()?.strip_prefix(RAISED)?;
    Some(detail.to_owned())
}

/// `{% generation %}` marks what the model said, for training; a prompt is the same without it, but what is set within
/// stays within.
pub(super) fn without_generation(template: &str) -> String {
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at + 2);
        text.push_str(before);
        let inner = tag.trim_start_matches(['-', '+']);
        let skipped = inner.len() - inner.trim_start().len() + (tag.len() - inner.len());
        let word = tag[skipped..]
            .split(|c: char| !c.is_ascii_alphabetic())
            .next();
        let other = match word {
            Some("generation") => Some("with"),
            Some("endgeneration") => Some("endwith"),
            _ => None,
        };
        rest = match (word, other) {
            (Some(word), Some(other)) => {
                text.push_str(&tag[..skipped]);
                text.push_str(other);
                &tag[skipped + word.len()..]
            }
            _ => tag,
        };
    }
    text.push_str(rest);
    text
}

fn strftime(format: &str, now: NaiveDateTime) -> Result<String, Error> {
    use std::fmt::Write as _;

    let mut text = String::new();
    write!(text, "{}", now.format(format)).map_err(|_| {
        let problem = format!("strftime_now does not know the format {format:?}");
        Error::new(ErrorKind::InvalidOperation, problem)
    })?;
    Ok(text)
}

/// Python's `str`.
pub(super) fn text_of(value: &Value) -> String {
    match value.kind() {
        ValueKind::Seq | ValueKind::Map | ValueKind::Number => Repr(value).to_string(),
        _ => value.to_string(),
    }
}

/// The pairs of a dictionary; none of what is not defined.
fn items(value: &Value) -> Result<Value, Error> {
    if value.is_undefined() {
        return Ok(Value::from(Vec::<Value>::new()));
    }
    minijinja::filters::items(value)
}

/// Methods of Python's types.
fn method(state: &State, value: &Value, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    if value.kind() == ValueKind::String {
        let all: Vec<Value> = std::iter::once(value).chain(arguments).cloned().collect();
        bounded::guarded(name, &all)?;
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, name, arguments)
}
