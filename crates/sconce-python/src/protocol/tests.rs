//! The bytes that DJL Serving's own server and worker were seen to exchange, and hostile ones.

use proptest::prelude::*;

use super::*;

const LIMIT: usize = 1 << 20;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().filter(char::is_ascii_hexdigit).collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn text(text: &str) -> Vec<u8> {
    let mut out = (text.len() as i32).to_be_bytes().to_vec();
    out.extend(text.as_bytes());
    out
}

fn read(bytes: &[u8]) -> Result<Answer> {
    read_answer(&mut &*bytes, LIMIT)
}

#[test]
fn an_error_reply_of_djl_is_understood() {
    let body = r#"{"code":424,"message":"invoke handler failure","error":"boom bang"}"#;
    let mut bytes = hex("01a8 00000016");
    bytes.extend(b"invoke handler failure");
    bytes.extend(hex("0001 0000000c"));
    bytes.extend(b"content-type");
    bytes.extend(hex("00000010"));
    bytes.extend(b"application/json");
    bytes.extend(hex("0001 ffffffff"));
    bytes.extend(text(body));
    let answer = read(&bytes).unwrap();
    assert_eq!(answer.code, 424);
    assert_eq!(answer.message.as_deref(), Some("invoke handler failure"));
    let property = ("content-type".to_owned(), "application/json".to_owned());
    assert_eq!(answer.properties, [property]);
    assert_eq!(answer.content, Content::Whole(vec![(None, body.into())]));
}

#[test]
fn a_stream_of_djl_is_understood_frame_by_frame() {
    let bytes = hex("00c8 00000002 4f4b 0000 ffff 01 00000001 61 01 00000001 62 00 00000000");
    let mut rest = &bytes[..];
    let answer = read_answer(&mut rest, LIMIT).unwrap();
    assert_eq!((answer.code, answer.content), (200, Content::Stream));
    let frame = |last, data: &'static [u8]| Frame {
        last,
        data: data.into(),
    };
    for wanted in [frame(false, b"a"), frame(false, b"b"), frame(true, b"")] {
        assert_eq!(read_frame(&mut rest, LIMIT), Ok(wanted));
    }
    assert!(rest.is_empty());
}

#[test]
fn a_request_has_the_bytes_that_a_worker_reads() {
    let request = Request {
        properties: vec![("handler".into(), "handle".into())],
        content: vec![("data".into(), Bytes::from_static(b"{}"))],
    };
    let wanted = hex(
        "0001 00000007 68616e646c6572 00000006 68616e646c65 0001 00000004 64617461 00000002 7b7d",
    );
    assert_eq!(request.encode().unwrap(), wanted);
    assert_eq!(Request::default().encode().unwrap(), [0; 4]);
}

#[test]
fn payloads_of_the_asynchronous_mode_are_told_from_other_bytes() {
    let mut payload = hex("0002");
    for part in ["data", "Hi", "last", "True"] {
        payload.extend(text(part));
    }
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let wanted = vec![pair("data", "Hi"), pair("last", "True")];
    assert_eq!(read_payload(&payload), Some(wanted));
    payload.push(b'!');
    assert_eq!(read_payload(&payload), None);
    for other in [&b"{\n  \"a\":1\n}"[..], b"", b"\0", b"\xff\xff"] {
        assert_eq!(read_payload(other), None, "{other:?}");
    }
}

#[test]
fn numbers_without_a_meaning_are_named() {
    let head = "00c8 00000002 4f4b";
    let cases = [
        (format!("{head} ffff"), "the number of properties is -1"),
        (format!("{head} 0000 fffe"), "the number of contents is -2"),
        (
            format!("{head} 0000 0001 ffffffff ffffffff"),
            "the length of a content is -1",
        ),
        ("00c8 fffffffe".to_owned(), "the message is -2"),
    ];
    for (bytes, wanted) in cases {
        assert_eq!(read(&hex(&bytes)).unwrap_err().to_string(), wanted);
    }
    let frame = read_frame(&mut &hex("02 00000000")[..], LIMIT).unwrap_err();
    assert_eq!(
        frame.to_string(),
        "the first byte of a part of a stream is 2"
    );
}

#[test]
fn a_length_above_the_limit_takes_no_memory() {
    let bytes = hex("00c8 00000002 4f4b 0000 0001 ffffffff 7fffffff");
    let error = read(&bytes).unwrap_err().to_string();
    assert!(
        error.contains("2147483647 bytes exceeds the limit of 1048576 bytes"),
        "{error}"
    );
    let cut = hex("00c8 00000002 4f4b 0000 0001 ffffffff 00000010 61");
    let error = read(&cut).unwrap_err().to_string();
    assert!(
        error.contains("after 1 of 16 bytes of a content"),
        "{error}"
    );
}

#[test]
fn more_values_than_the_counter_can_say_are_refused() {
    let pair = (String::new(), Bytes::new());
    let request = Request {
        content: vec![pair; MOST_VALUES + 1],
        ..Request::default()
    };
    let error = request.encode().unwrap_err().to_string();
    assert!(error.starts_with("32768 contents"), "{error}");
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes);
        let _ = read_frame(&mut &bytes[..], LIMIT);
        let _ = read_payload(&bytes);
    }

    #[test]
    fn every_cut_of_an_answer_is_an_error(cut in 0_usize..37) {
        let bytes = hex("00c8 00000002 4f4b 0001 00000001 61 00000001 62 0001 00000004 64617461 \
                         00000003 616263");
        prop_assert_eq!(bytes.len(), 37);
        prop_assert!(read(&bytes).is_ok());
        prop_assert!(read(&bytes[..cut]).is_err());
    }
}

/// An answer as a worker writes it.
fn written(answer: &Answer) -> Vec<u8> {
    let optional = |value: &Option<String>| match value {
        Some(value) => text(value),
        None => hex("ffffffff"),
    };
    let mut bytes = answer.code.to_be_bytes().to_vec();
    bytes.extend(optional(&answer.message));
    bytes.extend((answer.properties.len() as i16).to_be_bytes());
    for (key, value) in &answer.properties {
        bytes.extend([text(key), text(value)].concat());
    }
    match &answer.content {
        Content::Stream => bytes.extend(hex("ffff")),
        Content::Whole(content) => {
            bytes.extend((content.len() as i16).to_be_bytes());
            for (key, value) in content {
                bytes.extend(optional(key));
                bytes.extend((value.len() as i32).to_be_bytes());
                bytes.extend_from_slice(value);
            }
        }
    }
    bytes
}

fn any_answer() -> impl Strategy<Value = Answer> {
    let value = proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
    let content = proptest::collection::vec((any::<Option<String>>(), value), 0..4);
    let content = proptest::option::of(content);
    let properties = proptest::collection::vec((any::<String>(), any::<String>()), 0..4);
    let parts = (any::<i16>(), any::<Option<String>>(), properties, content);
    parts.prop_map(|(code, message, properties, content)| Answer {
        code,
        message,
        properties,
        content: content.map_or(Content::Stream, Content::Whole),
    })
}

proptest! {
    #[test]
    fn what_was_written_is_read_again(answer in any_answer(), more in any::<u8>()) {
        let mut bytes = written(&answer);
        bytes.push(more);
        let mut rest = &bytes[..];
        prop_assert_eq!(read_answer(&mut rest, LIMIT).unwrap(), answer);
        // Nothing of what comes next is taken.
        prop_assert_eq!(rest, [more]);
    }

    #[test]
    fn answers_that_are_cut_or_changed_never_panic(
        answer in any_answer(), cut in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut bytes = written(&answer);
        let at = cut.index(bytes.len());
        prop_assert!(read(&bytes[..at]).is_err());
        bytes[at] = byte;
        let _ = read(&bytes);
    }
}
