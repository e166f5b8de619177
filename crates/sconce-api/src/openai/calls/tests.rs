//! What models write, in pieces of every size.

use super::*;

fn tools() -> Calls {
    Calls::Free {
        names: vec!["get_weather".into(), "now".into()],
        most: 9,
    }
}

/// Text, and calls with their arguments, put together again.
fn read(calls: &Calls, text: &str, piece: usize) -> (String, Vec<(String, String)>) {
    let mut reader = Reader::new(calls);
    let characters: Vec<char> = text.chars().collect();
    let pieces = characters.chunks(piece).map(String::from_iter);
    let mut parts: Vec<Part> = pieces
        .flat_map(|piece: String| reader.push(&piece))
        .collect();
    parts.extend(reader.finish());
    let (mut said, mut found) = (String::new(), Vec::<(String, String)>::new());
    for part in parts {
        match part {
            Part::Text(text) => said.push_str(&text),
            Part::Call(name) => found.push((name, String::new())),
            Part::Arguments(more) => found.last_mut().expect("a call").1.push_str(&more),
        }
    }
    assert_eq!(reader.found(), found.len());
    (said, found)
}

fn check(text: &str, said: &str, calls: &[(&str, &str)]) {
    let wanted: Vec<_> = calls
        .iter()
        .map(|(name, arguments)| ((*name).to_owned(), (*arguments).to_owned()))
        .collect();
    for piece in [1, 2, 3, 7, 1000] {
        let got = read(&tools(), text, piece);
        assert_eq!(
            got,
            (said.to_owned(), wanted.clone()),
            "{text:?} in pieces of {piece}"
        );
    }
}

#[test]
fn hermes_and_qwen_call_between_tags() {
    let one = "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Zürich\"}}\n</tool_call>";
    check(one, "", &[("get_weather", "{\"city\": \"Zürich\"}")]);
    let two = format!(
        "Let me see.\n{one}\n<tool_call>\n{{\"arguments\": {{}}, \"name\": \"now\"}}\n</tool_call>"
    );
    check(
        &two,
        "Let me see.",
        &[("get_weather", "{\"city\": \"Zürich\"}"), ("now", "{}")],
    );
    check(
        "<tool_call>{\"name\": \"x\", \"arguments\": {\"a\": \"}\\\"{\", \"b\": [1, {\"c\": null}]} }</tool_call> Done.",
        " Done.",
        &[("x", "{\"a\": \"}\\\"{\", \"b\": [1, {\"c\": null}]}")],
    );
}

#[test]
fn mistral_calls_in_a_list_or_by_name() {
    check(
        "[TOOL_CALLS] [{\"name\": \"now\", \"arguments\": {\"a\": 1}}, {\"name\": \"x\", \"arguments\": {}}]",
        "",
        &[("now", "{\"a\": 1}"), ("x", "{}")],
    );
    check(
        "Well.[TOOL_CALLS]now[ARGS]{\"a\": 1}",
        "Well.",
        &[("now", "{\"a\": 1}")],
    );
    check(
        "[TOOL_CALLS]now{\"a\": 1}[TOOL_CALLS]x{\"b\": {}}",
        "",
        &[("now", "{\"a\": 1}"), ("x", "{\"b\": {}}")],
    );
    check(
        "[TOOL_CALLS]now[CALL_ID]abcdefghi[ARGS]{\"a\": 1}[TOOL_CALLS]x[CALL_ID]0123456ab[ARGS]{}",
        "",
        &[("now", "{\"a\": 1}"), ("x", "{}")],
    );
}

/// A brace somewhere in a text begins no call.
#[test]
fn what_mistral_writes_behind_its_mark_that_is_no_call_is_text() {
    for text in [
        "I would call {\"a\": 1} here.",
        "now {\"a\": 1}",
        "now[ARGS] {\"a\": 1}",
        "now[ARG]{\"a\": 1}",
        "{}",
        "now",
        "now[ARGS",
        "now[CALL_ID",
        "now[CALL_ID]abc and more",
        "Größe{\"a\": 1}",
    ] {
        check(&format!("[TOOL_CALLS]{text}"), text, &[]);
    }
    let long = format!("{}{{}}", "a".repeat(LONGEST_NAME + 1));
    check(&format!("[TOOL_CALLS]{long}"), &long, &[]);
    let longest = "a".repeat(LONGEST_NAME);
    check(
        &format!("[TOOL_CALLS]{longest}{{}}"),
        "",
        &[(&longest, "{}")],
    );
    check(
        "[TOOL_CALLS]now{\"a\": 1} and more {text}",
        "and more {text}",
        &[("now", "{\"a\": 1}")],
    );
    check(
        "[TOOL_CALLS]now{\"a\": 1}\nnow",
        "now",
        &[("now", "{\"a\": 1}")],
    );
}

#[test]
fn llama_calls_behind_its_tag_or_without() {
    check(
        "<|python_tag|>{\"name\": \"now\", \"parameters\": {\"a\": 1}}; {\"name\": \"x\", \"parameters\": {}}",
        "",
        &[("now", "{\"a\": 1}"), ("x", "{}")],
    );
    check(
        "{\"name\": \"now\", \"parameters\": {\"a\": 1}}",
        "",
        &[("now", "{\"a\": 1}")],
    );
    check(
        "{\"name\": \"now\", \"parameters\": {\"a\": 1}}; {\"name\": \"get_weather\", \"parameters\": {}}",
        "",
        &[("now", "{\"a\": 1}"), ("get_weather", "{}")],
    );
    check("<|python_tag|>print(1)", "print(1)", &[]);
}

#[test]
fn json_is_a_call_only_if_it_names_a_tool() {
    check(
        " [{\"name\": \"now\", \"arguments\": \"{\\\"a\\\": 1}\"}, {\"name\": \"get_weather\"}]",
        "",
        &[("now", "{\"a\": 1}"), ("get_weather", "{}")],
    );
    check(
        "{\"name\": \"Ann\", \"arguments\": {}}",
        "{\"name\": \"Ann\", \"arguments\": {}}",
        &[],
    );
    check("{\"answer\": 42}", "{\"answer\": 42}", &[]);
    check("[1, 2]", "[1, 2]", &[]);
    check(
        "The object {\"name\": \"now\"} is text.",
        "The object {\"name\": \"now\"} is text.",
        &[],
    );
}

#[test]
fn what_is_no_call_is_text_to_the_last_character() {
    for text in [
        "",
        "Hello.",
        " a <tool_ b [TOOL",
        "a < b && c <|x|>",
        "ends with <tool_cal",
        "[TOOL_CALL",
    ] {
        for piece in [1, 3, 100] {
            let (said, calls) = read(&tools(), text, piece);
            assert_eq!(
                (said.trim_start(), calls.len()),
                (text.trim_start(), 0),
                "{piece}"
            );
        }
    }
    check(
        "{\"name\": \"now\", \"argu",
        "{\"name\": \"now\", \"argu",
        &[],
    );
    // Cut off by the length: what was passed on stays.
    check(
        "<tool_call>{\"name\": \"x\", \"arguments\": {\"a\": ",
        "",
        &[("x", "{\"a\":")],
    );
}

#[test]
fn a_fixed_call_is_all_arguments() {
    let got = read(&Calls::Fixed("now".into()), "{\"a\": 1}", 2);
    assert_eq!(
        got,
        (String::new(), vec![("now".into(), "{\"a\": 1}".into())])
    );
}

#[test]
fn arguments_are_passed_on_as_they_are_written() {
    let mut reader = Reader::new(&tools());
    let mut parts = Vec::new();
    for piece in [
        "<tool_call>{\"name\": \"now\", \"arg",
        "uments\": {\"a\"",
        ": [1,",
        " 2]}",
        "}</tool_call>",
    ] {
        parts.push(reader.push(piece));
    }
    let wanted = [
        vec![],
        vec![Part::Call("now".into()), Part::Arguments("{\"a\"".into())],
        vec![Part::Arguments(": [1,".into())],
        vec![Part::Arguments(" 2]}".into())],
        vec![],
    ];
    assert_eq!(parts, wanted);
}

#[test]
fn no_more_calls_are_passed_on_than_asked_for() {
    let one = Calls::Free {
        names: vec!["now".into()],
        most: 1,
    };
    let text =
        "[{\"name\": \"now\", \"arguments\": {\"a\": 1}}, {\"name\": \"now\", \"arguments\": {}}]";
    assert_eq!(
        read(&one, text, 3).1,
        [("now".to_owned(), "{\"a\": 1}".to_owned())]
    );
}
