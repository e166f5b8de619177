//! Several requests as one message, and its answer as several: pure functions.
//!
//! A request by itself has its keys as they are. Of a batch, the property `batch_size` says how
//! many there are, and the keys and properties of the n-th begin with `batch_00n.`. Its answer has
//! one content for each, whose key begins with `batch_n.`; status, message and properties are
//! shared.

use bytes::Bytes;
use sconce_core::{RawHead, RawInput};

use crate::protocol::{Answer, Content, Request};

/// An answer to one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Single {
    pub(crate) head: RawHead,
    pub(crate) body: Bytes,
}

/// The message for one request or several.
pub(crate) fn compose(inputs: &[&RawInput], handler: &str) -> Request {
    let mut request = match inputs {
        [only] => Request {
            properties: distinct(&only.properties),
            content: only.content.clone(),
        },
        several => together(several),
    };
    if request.properties.iter().all(|(name, _)| name != "handler") {
        request.properties.push(("handler".into(), handler.into()));
    }
    request
}

fn together(inputs: &[&RawInput]) -> Request {
    let mut request = Request {
        properties: vec![("batch_size".into(), inputs.len().to_string())],
        content: vec![],
    };
    for (at, input) in inputs.iter().enumerate() {
        let name = |key: &str| format!("batch_{at:03}.{key}");
        let properties = distinct(&input.properties).into_iter();
        request
            .properties
            .extend(properties.map(|(key, value)| (name(&key), value)));
        let content = input.content.iter();
        request
            .content
            .extend(content.map(|(key, value)| (name(key), value.clone())));
    }
    request
}

/// Properties by name, whose case does not matter; of equal ones the last counts.
pub(crate) fn distinct(properties: &[(String, String)]) -> Vec<(String, String)> {
    let mut distinct: Vec<(String, String)> = Vec::with_capacity(properties.len());
    for (name, value) in properties {
        match distinct
            .iter_mut()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
        {
            Some(known) => *known = (name.clone(), value.clone()),
            None => distinct.push((name.clone(), value.clone())),
        }
    }
    distinct
}

/// The head of an answer.
pub(crate) fn head(answer: &Answer) -> Result<RawHead, String> {
    let code = u16::try_from(answer.code)
        .ok()
        .filter(|code| (100..=999).contains(code))
        .ok_or_else(|| {
            let code = answer.code;
            format!("the handler answered with code {code}, which is no HTTP status (100 to 999)")
        })?;
    Ok(RawHead {
        code,
        message: answer.message.clone().unwrap_or_default(),
        properties: answer.properties.clone(),
        streams: answer.content == Content::Stream,
    })
}

/// The body of an answer to one request: the content `data`, else the first.
pub(crate) fn body(content: &[(Option<String>, Bytes)]) -> Bytes {
    let data = content
        .iter()
        .find(|(key, _)| key.as_deref() == Some("data"));
    let (_, body) = data.or(content.first()).cloned().unwrap_or_default();
    body
}

/// The answers to `count` requests that went together, at least 2.
///
/// # Errors
/// What is wrong with the answer as one to so many requests.
pub(crate) fn split(answer: &Answer, count: usize) -> Result<Vec<Single>, String> {
    let head = head(answer)?;
    let content = match &answer.content {
        Content::Whole(content) => content,
        Content::Stream => {
            return Err(format!(
                "the handler answered {count} requests that came together with one stream; set \
                 batch_size=1 for answers that are streamed"
            ));
        }
    };
    let single = |body: Bytes| Single {
        head: head.clone(),
        body,
    };
    if head.code >= 300 {
        // A failure is everybody's.
        return Ok(vec![single(body(content)); count]);
    }
    if content.len() != count {
        let actual = content.len();
        return Err(format!(
            "Batch output size mismatch, expected: {count}, actual: {actual}; answer each request \
             of inputs.get_batches() with outputs.add(…, batch_index=i), or set batch_size=1"
        ));
    }
    let mut bodies: Vec<Option<Bytes>> = vec![None; count];
    for (key, value) in content {
        let key = key.as_deref().unwrap_or_default();
        let at = index(key).filter(|&at| at < count);
        let slot = at.and_then(|at| bodies.get_mut(at)).ok_or_else(|| {
            format!(
                "Unexpected batch output key: {key}; it must be batch_0 to batch_{}, a dot \
                     and a name, as outputs.add(…, batch_index=i) writes it",
                count - 1
            )
        })?;
        *slot = Some(value.clone());
    }
    let bodies = bodies.into_iter().enumerate();
    bodies
        .map(|(at, body)| {
            let body = body.ok_or_else(|| format!("request {at} of the batch was not answered"))?;
            Ok(single(body))
        })
        .collect()
}

/// The n of `batch_n.key`.
fn index(key: &str) -> Option<usize> {
    let (number, _) = key.strip_prefix("batch_")?.split_once('.')?;
    number.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(properties: &[(&str, &str)], content: &[(&str, &'static str)]) -> RawInput {
        let property = |(key, value): &(&str, &str)| (key.to_string(), value.to_string());
        let value = |(key, value): &(&str, &'static str)| (key.to_string(), (*value).into());
        RawInput {
            properties: properties.iter().map(property).collect(),
            content: content.iter().map(value).collect(),
        }
    }

    fn answer(code: i16, content: &[(&str, &'static str)]) -> Answer {
        let pair = |(key, value): &(&str, &'static str)| (Some(key.to_string()), (*value).into());
        Answer {
            code,
            message: Some("OK".into()),
            properties: vec![("Content-Type".into(), "text/plain".into())],
            content: Content::Whole(content.iter().map(pair).collect()),
        }
    }

    #[test]
    fn one_request_keeps_its_keys_and_gets_the_handler() {
        let one = input(
            &[("Accept", "a"), ("x", "1"), ("accept", "b")],
            &[("data", "{}"), ("file", "f")],
        );
        let request = compose(&[&one], "handle");
        let wanted = [("accept", "b"), ("x", "1"), ("handler", "handle")];
        assert_eq!(request.properties, input(&wanted, &[]).properties);
        assert_eq!(request.content, one.content);
    }

    #[test]
    fn several_requests_have_numbered_keys() {
        let first = input(&[("a", "1")], &[("data", "x")]);
        let second = input(&[], &[("data", "y"), ("more", "z")]);
        let request = compose(&[&first, &second], "handle");
        let wanted = input(
            &[
                ("batch_size", "2"),
                ("batch_000.a", "1"),
                ("handler", "handle"),
            ],
            &[
                ("batch_000.data", "x"),
                ("batch_001.data", "y"),
                ("batch_001.more", "z"),
            ],
        );
        assert_eq!(request.properties, wanted.properties);
        assert_eq!(request.content, wanted.content);
    }

    #[test]
    fn each_request_gets_its_content_whatever_the_order() {
        let both = answer(200, &[("batch_1.data", "b"), ("batch_000.data", "a")]);
        let bodies: Vec<_> = split(&both, 2)
            .unwrap()
            .into_iter()
            .map(|s| s.body)
            .collect();
        assert_eq!(bodies, ["a", "b"]);
        let failed = split(&answer(424, &[("", "sorry")]), 3).unwrap();
        assert_eq!(failed.len(), 3);
        assert!(
            failed
                .iter()
                .all(|s| s.head.code == 424 && s.body == "sorry")
        );
    }

    #[test]
    fn answers_that_do_not_fit_the_batch_are_named() {
        let says = |answer: &Answer, text: &str| {
            let problem = split(answer, 2).unwrap_err();
            assert!(problem.contains(text), "{problem}");
        };
        says(
            &answer(200, &[("data", "a")]),
            "Batch output size mismatch, expected: 2, actual: 1",
        );
        let stray = [("batch_0.data", "a"), ("data", "b")];
        says(&answer(200, &stray), "Unexpected batch output key: data");
        let twice = [("batch_0.data", "a"), ("batch_00.data", "b")];
        says(
            &answer(200, &twice),
            "request 1 of the batch was not answered",
        );
        says(&answer(7, &[]), "code 7, which is no HTTP status");
        let stream = Answer {
            content: Content::Stream,
            ..answer(200, &[])
        };
        says(&stream, "one stream");
    }

    #[test]
    fn the_body_is_data_or_else_the_first_content() {
        let Content::Whole(content) = answer(200, &[("a", "1"), ("data", "2")]).content else {
            panic!("it is whole")
        };
        assert_eq!(body(&content), "2");
        assert_eq!(body(&content[..1]), "1");
        assert_eq!(body(&[]), "");
    }
}
