//! Templates within bounds of memory.
//!
//! Fuel bounds the steps of a template, and one step may double a text. So each instruction that makes a value is followed
//! by a check here: no value is larger than a prompt may be, and all that were made are not larger together than a few of
//! them. A check comes after its instruction, which makes of values within bounds one of twice the bound at most; where it
//! could make more (filters and methods that repeat, fill or split), `guarded` looks at the arguments before. Text between
//! the tags is written as values are, since what is captured is memory too. Other templates are not included, since
//! their instructions have no checks; transformers has no way to include any either.

use std::borrow::Cow;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use minijinja::machinery::{
    CodeGenerator, Instruction, Instructions, Vm, WhitespaceConfig, make_string_output, parse,
};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Object, Rest, Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State};

use super::LONGEST;
use super::environment::text_of;
use super::values::weight_of;

/// Bytes of all values that a template makes.
const BUDGET: usize = 4 * LONGEST;
/// Longest text that is split into its parts, each of which takes more than it has bytes.
const LONGEST_SPLIT: usize = 8 << 20;
/// Values that are looked at, those within others each time: seconds at most.
const MOST_LOOKS: usize = 32 << 20;
/// Lists within lists.
const DEEPEST: usize = 100;
/// Greatest width of what is filled up, and parts that something is cut into.
const WIDEST: usize = 10_000;

// No template can call by these names what checks it, nor replace it.
const MADE: &str = "(made)";
const JOINED: &str = "(joined)";

/// What a template has made so far, and how many values were looked at for it.
#[derive(Debug, Default)]
struct Made {
    bytes: AtomicUsize,
    looks: AtomicUsize,
}

impl Object for Made {}

/// Whitespace around tags, as transformers has it.
pub(super) const WHITESPACE: WhitespaceConfig = WhitespaceConfig {
    keep_trailing_newline: false,
    lstrip_blocks: true,
    trim_blocks: true,
};

/// Writes a template out.
pub(super) fn render(
    environment: &Environment<'_>,
    (name, source): (&str, &str),
    context: Value,
) -> Result<String, Error> {
    let tree = parse(source, name, SyntaxConfig, WHITESPACE)?;
    let mut generator = CodeGenerator::new(name, source);
    generator.compile_stmt(&tree);
    let (whole, blocks) = generator.finish();
    let whole = checked(&whole, (name, source))?;
    let blocks = blocks
        .iter()
        .map(|(block, instructions)| Ok((*block, checked(instructions, (name, source))?)))
        .collect::<Result<_, Error>>()?;
    let mut text = String::new();
    let mut output = make_string_output(&mut text);
    let machine = Vm::new(environment);
    let written = machine.eval(&whole, context, &blocks, &mut output, AutoEscape::None);
    written.map(|_| ())?;
    Ok(text)
}

/// The same instructions with checks behind those that make values.
fn checked<'source>(
    plain: &Instructions<'source>,
    (name, source): (&'source str, &'source str),
) -> Result<Instructions<'source>, Error> {
    let all = (0..plain.len() as u32).map(|at| plain.get(at).expect("there are so many"));
    let all: Vec<_> = all.collect();
    // Where each instruction goes; what jumps behind the last one too.
    let mut places = Vec::with_capacity(all.len() + 1);
    let mut place = 0;
    for instruction in &all {
        places.push(place);
        place += if is_followed(instruction) { 2 } else { 1 };
    }
    places.push(place);
    let moved = |target: u32| places.get(target as usize).copied().unwrap_or(place);
    let mut checked = Instructions::new(name, source);
    for (at, instruction) in all.into_iter().enumerate() {
        let line = plain.get_line(at as u32).unwrap_or(0) as u16;
        let mut add = |instruction| checked.add_with_line(instruction, line);
        match instruction {
            Instruction::Iterate(target) => add(Instruction::Iterate(moved(*target))),
            Instruction::Jump(target) => add(Instruction::Jump(moved(*target))),
            Instruction::JumpIfFalse(target) => add(Instruction::JumpIfFalse(moved(*target))),
            Instruction::JumpIfFalseOrPop(target) => {
                add(Instruction::JumpIfFalseOrPop(moved(*target)))
            }
            Instruction::JumpIfTrueOrPop(target) => {
                add(Instruction::JumpIfTrueOrPop(moved(*target)))
            }
            Instruction::BuildMacro(name, target, flags) => {
                add(Instruction::BuildMacro(name, moved(*target), *flags))
            }
            Instruction::EmitRaw(text) => {
                add(Instruction::LoadConst(Value::from(*text)));
                add(Instruction::Emit)
            }
            Instruction::Include(_) | Instruction::LoadBlocks => {
                let problem =
                    "a chat template stands alone and can include, import or extend no other";
                return Err(Error::new(ErrorKind::InvalidOperation, problem));
            }
            Instruction::StringConcat => add(Instruction::CallFunction(JOINED, Some(2))),
            other if is_followed(other) => {
                add(other.clone());
                add(Instruction::CallFunction(MADE, Some(1)))
            }
            other => add(other.clone()),
        };
    }
    Ok(checked)
}

/// Whether it becomes two instructions.
fn is_followed(instruction: &Instruction<'_>) -> bool {
    matches!(
        instruction,
        Instruction::EmitRaw(_)
            | Instruction::Add
            | Instruction::Mul
            | Instruction::Slice
            | Instruction::BuildList(_)
            | Instruction::BuildMap(_)
            | Instruction::ApplyFilter(..)
            | Instruction::CallFunction(..)
            | Instruction::CallMethod(..)
            | Instruction::CallObject(_)
    )
}

/// Gives an environment what checked instructions call, and guards what makes much of little.
pub(super) fn guard(environment: &mut Environment<'static>) {
    environment.add_function(MADE, |state: &State<'_, '_>, value: Value| {
        made(state, &value)?;
        Ok::<_, Error>(value)
    });
    environment.add_function(JOINED, |state: &State<'_, '_>, one: Value, other: Value| {
        let mut text = text_of(&one);
        text.push_str(&text_of(&other));
        let text = Value::from(text);
        made(state, &text)?;
        Ok::<_, Error>(text)
    });
    // It would show all there is.
    environment.remove_global("debug");
    use minijinja::filters;
    environment.add_filter("(replace)", filters::replace);
    environment.add_filter("(join)", filters::join);
    environment.add_filter("(indent)", filters::indent);
    environment.add_filter("(format)", filters::format);
    environment.add_filter("(slice)", filters::slice);
    environment.add_filter("(batch)", filters::batch);
    environment.add_filter("(list)", filters::list);
    environment.add_filter("(split)", filters::split);
    environment.add_filter("(lines)", filters::lines);
    for (name, original) in [
        ("replace", "(replace)"),
        ("join", "(join)"),
        ("indent", "(indent)"),
        ("format", "(format)"),
        ("slice", "(slice)"),
        ("batch", "(batch)"),
        ("list", "(list)"),
        ("split", "(split)"),
        ("lines", "(lines)"),
    ] {
        environment.add_filter(
            name,
            move |state: &State<'_, '_>, arguments: Rest<Value>| {
                guarded(name, &arguments)?;
                let value = state.apply_filter(original, &arguments)?;
                made(state, &value)?;
                Ok::<_, Error>(value)
            },
        );
    }
}

/// Fails where a filter, or a method of a text, would make much more than it is given.
pub(super) fn guarded(name: &str, arguments: &[Value]) -> Result<(), Error> {
    let text = |at: usize| match arguments.get(at) {
        None => Cow::Borrowed(""),
        Some(value) => match value.as_str() {
            Some(text) => Cow::Borrowed(text),
            None => Cow::Owned(value.to_string()),
        },
    };
    let number = |key: &str| {
        let own = arguments.get(1);
        let named = arguments.last().and_then(|last| last.get_attr(key).ok());
        own.and_then(Value::as_usize)
            .or_else(|| named?.as_usize())
            .unwrap_or(0)
    };
    let most = match name {
        "replace" => {
            let found = text(0).matches(&*text(1)).count();
            found.saturating_mul(text(2).len())
        }
        // As a method the text stands between the items, as a filter behind them.
        "join" => {
            let lists = arguments.iter().filter(|one| one.as_str().is_none());
            let count = |list: &Value| match list.len() {
                Some(len) => len,
                None => list.try_iter().map_or(0, Iterator::count),
            };
            let items = lists.map(count).max();
            let between = text(0).len().max(text(1).len());
            items.unwrap_or(text(0).len()).saturating_mul(between)
        }
        "indent" => {
            let lines = text(0).matches('\n').count() + 1;
            lines.saturating_mul(number("width").max(4))
        }
        "slice" | "batch" if number("count") > WIDEST => usize::MAX,
        "format" if is_wide(&text(0)) => usize::MAX,
        // A form may have the same argument in many places.
        "format" => {
            let places = text(0).matches(['{', '%']).count();
            let mut longest = 0;
            for argument in arguments.iter().skip(1) {
                longest = longest.max(weight(argument, 0, &mut 0)?);
            }
            text(0).len().saturating_add(places.saturating_mul(longest))
        }
        "list" | "split" | "lines" | "splitlines" if text(0).len() > LONGEST_SPLIT => usize::MAX,
        _ => 0,
    };
    if most > LONGEST {
        return Err(too_much(&format!("{name} would make")));
    }
    Ok(())
}

/// Whether a form asks for widths of many digits: within `{…}`, or behind `%` or `%(name)`.
fn is_wide(form: &str) -> bool {
    let wide = |text: &str| {
        let digits = WIDEST.ilog10() as usize;
        text.split(|letter: char| !letter.is_ascii_digit())
            .any(|run| run.len() > digits)
    };
    let braces = form.split('{').skip(1);
    let percents = form.split('%').skip(1).map(|rest| {
        let named = rest.strip_prefix('(').and_then(|rest| rest.split_once(')'));
        let rest = named.map_or(rest, |(_, rest)| rest);
        rest.split(|letter: char| letter.is_ascii_alphabetic())
            .next()
    });
    braces
        .map(|rest| rest.split('}').next())
        .chain(percents)
        .flatten()
        .any(wide)
}

/// Counts a value that was made.
pub(super) fn made(state: &State<'_, '_>, value: &Value) -> Result<(), Error> {
    let mut looks = 0;
    let size = weight(value, 0, &mut looks)?;
    let made = so_far(state);
    if made.looks.fetch_add(looks, Relaxed) + looks > MOST_LOOKS {
        return Err(too_much("the template gathers, again and again,"));
    }
    // A list has its items from elsewhere.
    let own = match value.kind() {
        ValueKind::String | ValueKind::Bytes => size,
        ValueKind::Seq | ValueKind::Map | ValueKind::Iterable => value.len().unwrap_or(0) * 16,
        _ => 16,
    };
    wrote(state, own)
}

/// Counts bytes that were made.
pub(super) fn wrote(state: &State<'_, '_>, bytes: usize) -> Result<(), Error> {
    match so_far(state).bytes.fetch_add(bytes, Relaxed) + bytes > BUDGET {
        true => Err(too_much("the template makes, step by step,")),
        false => Ok(()),
    }
}

fn so_far(state: &State<'_, '_>) -> Arc<Made> {
    state.get_or_set_temp_object("(made)", Made::default)
}

/// About as many bytes as the text of a value has; fails above the limit. Counts the values that it looks at.
fn weight(value: &Value, depth: usize, looks: &mut usize) -> Result<usize, Error> {
    *looks += 1;
    if depth > DEEPEST {
        let problem = format!("the template puts more than {DEEPEST} lists into each other");
        return Err(Error::new(ErrorKind::InvalidOperation, problem));
    }
    if let Some(known) = weight_of(value) {
        return Ok(known);
    }
    let mut total = 2;
    match value.kind() {
        ValueKind::String => total = value.as_str().map_or(0, str::len),
        ValueKind::Bytes => total = value.as_bytes().map_or(0, <[u8]>::len),
        ValueKind::Seq | ValueKind::Iterable => {
            if value.len().is_some_and(|len| len > LONGEST) {
                return Err(too_much("the template makes a list of"));
            }
            for item in value.try_iter().into_iter().flatten() {
                total += 2 + weight(&item, depth + 1, looks)?;
                require(total)?;
            }
        }
        ValueKind::Map => {
            for key in value.try_iter().into_iter().flatten() {
                let member = value.get_item(&key).unwrap_or_default();
                total += 4 + weight(&key, depth + 1, looks)?;
                total += weight(&member, depth + 1, looks)?;
                require(total)?;
            }
        }
        _ => {}
    }
    require(total)?;
    Ok(total)
}

fn require(total: usize) -> Result<(), Error> {
    match total > LONGEST {
        true => Err(too_much("the template makes a value of")),
        false => Ok(()),
    }
}

fn too_much(what: &str) -> Error {
    let most = LONGEST >> 20;
    let problem = format!("{what} more than a prompt may have, {most} MiB, or many times that");
    Error::new(ErrorKind::InvalidOperation, problem)
}
