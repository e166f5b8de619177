//! Each Content-Type, good and bad.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn read(content_type: &str, body: &[u8]) -> Result<Value, String> {
    let raw = Raw {
        body,
        content_type: (!content_type.is_empty()).then_some(content_type),
        query: &[],
        ..Raw::default()
    };
    let content = decode(&raw).map_err(|error| error.to_string())?;
    serde_json::from_slice(&content.json).map_err(|error| error.to_string())
}

const FORM: &str = "application/x-www-form-urlencoded";
const MULTIPART: &str = "multipart/form-data; boundary=XX";

fn parts(parts: &[(&str, &str)]) -> Vec<u8> {
    let mut body = String::new();
    for (head, value) in parts {
        body += &format!("--XX\r\nContent-Disposition: form-data; {head}\r\n\r\n{value}\r\n");
    }
    (body + "--XX--\r\n").into_bytes()
}

#[test]
fn json_stays_as_it_is() {
    let body = br#"{"inputs": "x"}"#;
    for kind in [
        "",
        "application/json",
        "Application/JSON; charset=UTF-8",
        "application/octet-stream",
        "application/jsonlines",
        "no type at all",
        FORM,
    ] {
        assert_eq!(read(kind, body).unwrap(), json!({"inputs": "x"}), "{kind}");
    }
    let raw = Raw {
        body,
        ..Raw::default()
    };
    assert!(matches!(decode(&raw).unwrap().json, Cow::Borrowed(_)));
}

#[test]
fn text_is_a_prompt_and_a_column_is_a_list_of_them() {
    let text = "one, \"two\"\nthree ü";
    let wanted = json!({"inputs": text});
    assert_eq!(read("text/plain", text.as_bytes()).unwrap(), wanted);
    assert_eq!(
        read("text/plain; charset=utf-8", text.as_bytes()).unwrap(),
        wanted
    );
    let csv = "\u{feff}id,inputs\n1,\"a, b\"\n2,\"c\nd\"\n";
    let wanted = json!({"inputs": ["a, b", "c\nd"]});
    assert_eq!(read("text/csv", csv.as_bytes()).unwrap(), wanted);
}

#[test]
fn forms_become_requests() {
    let wanted = json!({"inputs": "a b&c", "parameters": {"top_k": 5}, "stream": false});
    let body = "inputs=a+b%26c&parameters=%7B%22top_k%22%3A5%7D&stream=false";
    assert_eq!(read(FORM, body.as_bytes()).unwrap(), wanted);
    let body = parts(&[
        ("name=\"inputs\"", "a b&c"),
        ("name=\"parameters\"", "{\"top_k\": 5}"),
        ("name=\"stream\"", "false"),
    ]);
    assert_eq!(read(MULTIPART, &body).unwrap(), wanted);
    assert_eq!(
        read(FORM, b"inputs=1&inputs=2").unwrap(),
        json!({"inputs": ["1", "2"]}),
        "a prompt is text, even where it looks like a number"
    );
    let escaped: String = form_urlencoded::byte_serialize(br#"{"inputs": "x"}"#).collect();
    assert_eq!(
        read(FORM, escaped.as_bytes()).unwrap(),
        json!({"inputs": "x"})
    );
}

#[test]
fn a_part_can_be_the_whole_request() {
    let whole = json!({"inputs": "x"});
    let request = r#"{"inputs": "x"}"#;
    let cases = [
        ("name=\"data\"", request),
        (
            "name=\"json\"; filename=\"a.json\"\r\nContent-Type: application/json",
            request,
        ),
        ("name=\"data\"", "x"),
        ("name=\"data\"\r\nContent-Type: text/plain", "x"),
        (
            "name=\"inputs\"\r\nContent-Type: application/octet-stream",
            "x",
        ),
        ("name=\"inputs\"\r\nContent-Type: application/json", "\"x\""),
    ];
    for (head, value) in cases {
        assert_eq!(
            read(MULTIPART, &parts(&[(head, value)])).unwrap(),
            whole,
            "{head}"
        );
    }
}

#[test]
fn rows_of_questions_are_objects_where_a_task_may_take_them() {
    let raw = Raw {
        body: b"context,question\n\"It is, cold.\",How?\n",
        content_type: Some("text/csv"),
        tables: true,
        ..Raw::default()
    };
    let wanted = json!({"inputs": [{"question": "How?", "context": "It is, cold."}]});
    let content = decode(&raw).unwrap();
    assert_eq!(
        serde_json::from_slice::<Value>(&content.json).unwrap(),
        wanted
    );
}

#[test]
fn fields_that_route_are_kept_apart_and_queries_fill_empty_bodies() {
    let raw = Raw {
        body: b"model_name=m&inputs=x",
        content_type: Some(FORM),
        query: &[],
        ..Raw::default()
    };
    let content = decode(&raw).unwrap();
    assert_eq!(content.routing, [("model_name".to_owned(), "m".to_owned())]);
    assert_eq!(content.json, br#"{"inputs":"x"}"#.as_slice());
    let query = [("inputs".to_owned(), "x".to_owned())];
    let raw = Raw {
        query: &query,
        ..Raw::default()
    };
    assert_eq!(decode(&raw).unwrap().json, br#"{"inputs":"x"}"#.as_slice());
}

#[test]
fn what_cannot_be_used_is_named_with_the_cure() {
    let image = parts(&[("name=\"inputs\"\r\nContent-Type: image/png", "x")]);
    let both = parts(&[("name=\"data\"", "x"), ("name=\"seed\"", "1")]);
    let twice = parts(&[("name=\"data\"", "x"), ("name=\"data\"", "y")]);
    let cut = &parts(&[("name=\"inputs\"", "x")])[..60];
    let cases: &[(&str, &[u8], &str)] = &[
        (
            "application/x-npy",
            b"\x93NUMPY",
            "Content-Type application/x-npy is not text",
        ),
        ("tensor/ndlist", b"", "send application/json"),
        ("tensor/npz", b"", "tensor/npz"),
        ("image/png", b"", "image/png"),
        ("audio/wav", b"", "audio/wav"),
        (
            "application/json; charset=latin1",
            b"{}",
            "charset=latin1; send UTF-8",
        ),
        ("text/plain", b"\xff", "not UTF-8"),
        (
            "text/csv",
            b"question,context\na,b\n",
            "\"question,context\" and this model takes",
        ),
        ("text/csv", b"", "column `inputs`"),
        ("text/csv", b"inputs\n", "no rows"),
        ("text/csv", b"inputs,b\n1\n", "CSV error"),
        (
            "application/jsonlines",
            b"{\"inputs\": \"a\"}\n{\"inputs\": \"b\"}\n",
            "has 2 lines",
        ),
        (FORM, b"hello world", "-H 'Content-Type: application/json'"),
        (FORM, b"inputs=x&parameters=5%", "`parameters` is not JSON"),
        (FORM, b"inputs=x&seed=1&seed=2", "`seed` twice"),
        (FORM, b"inputs=%ff&x=1", "\u{fffd}"),
        (MULTIPART, &image, "image/png is not text"),
        (MULTIPART, &both, "`seed` comes beside it"),
        (MULTIPART, &twice, "`data` comes beside it"),
        (MULTIPART, cut, "incomplete"),
        ("multipart/form-data", b"", "boundary"),
    ];
    for (kind, body, text) in cases {
        let shown = match read(kind, body) {
            Err(error) => error,
            Ok(value) => value.to_string(),
        };
        assert!(shown.contains(text), "{kind} {body:?}: {shown}");
    }
}

proptest! {
    #[test]
    fn no_body_of_any_type_is_more_than_an_error(
        kind in prop::sample::select(vec![FORM, MULTIPART, "text/csv", "text/plain", "application/jsonlines"]),
        body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let _ = read(kind, &body);
    }

    #[test]
    fn a_prompt_survives_both_kinds_of_form(text in "[^\r\n\0]{1,40}") {
        prop_assume!(!text.contains("--XX"));
        let encoded = form_urlencoded::Serializer::new(String::new()).append_pair("inputs", &text).finish();
        prop_assert_eq!(read(FORM, encoded.as_bytes()).unwrap(), json!({"inputs": &text}));
        let body = parts(&[("name=\"inputs\"", &text)]);
        prop_assert_eq!(read(MULTIPART, &body).unwrap(), json!({"inputs": &text}));
    }
}
