//! What the recorded conversations do not have.

use sconce_core::{ServeError, Token};

use crate::{Accepted, Answer, Dialect, Formatter, Incoming, Wire};

fn accept(wire: &Wire, body: &str) -> Result<Accepted, ServeError> {
    wire.accept(&Incoming {
        body: body.as_bytes(),
        ..Incoming::default()
    })
}

fn wire(formatter: Option<Formatter>) -> Wire {
    Wire {
        dialect: Dialect::Rolling2023,
        formatter,
        ..Wire::default()
    }
}

fn token(text: &str) -> Token {
    Token {
        id: 1,
        text: text.into(),
        logprob: -1.0,
        spelled: String::new(),
        special: false,
        last: false,
        top: vec![],
    }
}

fn pieces(formatter: Option<Formatter>) -> (String, String) {
    let accepted = accept(&wire(formatter), r#"{"inputs": "x"}"#).expect("valid");
    let Answer::Stream(mut stream) = accepted.answer else {
        panic!("every answer is streamed")
    };
    let mut bytes = stream.token(0, token("a\"é"));
    bytes.extend(stream.fail(&ServeError::Draining, 500));
    let text = String::from_utf8(bytes).unwrap();
    (stream.content_type().into(), text)
}

#[test]
fn a_failure_is_appended_to_what_was_sent() {
    let error =
        "{\"code\": 500, \"error\": \"the server is shutting down and takes no new requests\"}";
    assert_eq!(
        pieces(None),
        (
            "application/json".into(),
            format!("{{\"generated_text\": \"a\\\"é{error}")
        )
    );
    assert_eq!(
        pieces(Some(Formatter::Text)),
        ("text/plain".into(), format!("a\"é{error}"))
    );
}

#[test]
fn details_are_accepted_without_effect_and_lists_are_refused() {
    let body = r#"{"inputs": "x", "parameters": {"details": true, "top_n_tokens": 3, "decoder_input_details": true}}"#;
    let accepted = accept(&wire(None), body).expect("valid");
    let report = &accepted.prompts[0].params.report;
    assert!(report.top_n_tokens == 0 && !report.prompt_logprobs);
    let Err(error) = accept(&wire(None), r#"{"inputs": ["x", "y"]}"#) else {
        panic!("one prompt only")
    };
    let body = String::from_utf8(wire(None).failure(&error, 424)).unwrap();
    assert!(
        body.starts_with("{\"code\": 424, \"error\": \"parameter `inputs` is a list of 2"),
        "{body}"
    );
}
