//! Requests whose meaning only a model's own code knows: their bytes, in DJL Serving's form.
//!
//! | Content-Type | contents, after those of the query |
//! | --- | --- |
//! | `multipart/form-data` | each part under its name, as it is |
//! | `application/x-www-form-urlencoded` | each field under its name; JSON under this type is `data` |
//! | any other, or none | the body under `data`, also when it is empty |
//!
//! curl says of every body that it is a form unless told otherwise. JSON that is so called would be
//! one field without a value, and a handler would answer 204; it is passed on as what it is.

use bytes::Bytes;
use sconce_core::ServeError;

use crate::content::{self, Raw};

/// What a request's body holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// By key, in their order.
    pub pairs: Vec<(String, Bytes)>,
    /// Whether the body is JSON, whatever its Content-Type says.
    pub is_json: bool,
}

/// Reads a body without understanding it; `body` are the bytes of `raw`.
///
/// # Errors
/// [`ServeError::Malformed`] if a form cannot be taken apart.
pub fn contents(raw: &Raw<'_>, body: &Bytes) -> Result<Contents, ServeError> {
    let query = raw.query.iter();
    let mut pairs: Vec<_> = query
        .map(|(key, value)| (key.clone(), Bytes::from(value.clone())))
        .collect();
    let mut is_json = false;
    match content::fields(raw)? {
        Some(fields) => pairs.extend(fields),
        None => {
            is_json = content::is_mistyped_json(raw);
            pairs.push(("data".into(), body.clone()));
        }
    }
    Ok(Contents { pairs, is_json })
}

/// The fields of a form that say where a request goes, as text; `None`: the body is no form.
///
/// # Errors
/// [`ServeError::Malformed`] if a form cannot be taken apart.
pub fn routing(raw: &Raw<'_>) -> Result<Option<Vec<(String, String)>>, ServeError> {
    let routing = |(key, _): &&(String, Bytes)| content::ROUTING.contains(&key.as_str());
    let text =
        |(key, value): &(String, Bytes)| (key.clone(), String::from_utf8_lossy(value).into_owned());
    let fields = content::fields(raw)?;
    Ok(fields.map(|fields| fields.iter().filter(routing).map(text).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &'static str, kind: Option<&str>, query: &[(&str, &str)]) -> Contents {
        let query: Vec<_> = query
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect();
        let raw = Raw {
            body: body.as_bytes(),
            content_type: kind,
            query: &query,
            tables: false,
        };
        contents(&raw, &Bytes::from_static(body.as_bytes())).unwrap()
    }

    fn pairs(pairs: &[(&str, &'static str)]) -> Vec<(String, Bytes)> {
        let pair = |(key, value): &(&str, &'static str)| (key.to_string(), (*value).into());
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn a_body_is_data_after_the_query() {
        let got = read("{}", Some("application/json"), &[("a", "1"), ("a", "2")]);
        assert_eq!(got.pairs, pairs(&[("a", "1"), ("a", "2"), ("data", "{}")]));
        assert!(!got.is_json);
        for kind in [None, Some("image/png"), Some("no type at all")] {
            assert_eq!(read("", kind, &[]).pairs, pairs(&[("data", "")]));
        }
    }

    #[test]
    fn forms_are_taken_apart_and_nothing_else_is_done_to_them() {
        let form = "application/x-www-form-urlencoded";
        let got = read("a=1&b=%7B%7D&model_name=m", Some(form), &[]);
        assert_eq!(
            got.pairs,
            pairs(&[("a", "1"), ("b", "{}"), ("model_name", "m")])
        );
        let named = |body: &str, kind| {
            routing(&Raw {
                body: body.as_bytes(),
                content_type: Some(kind),
                ..Raw::default()
            })
        };
        let fields = vec![("model_name".to_owned(), "m".to_owned())];
        assert_eq!(named("a=1&model_name=m", form), Ok(Some(fields)));
        assert_eq!(named("a=1&model_name=m", "text/plain"), Ok(None));
        let body = "--x\r\nContent-Disposition: form-data; name=\"img\"; filename=\"a.png\"\r\n\
                    Content-Type: image/png\r\n\r\n\u{1}\u{2}\r\n--x\r\n\
                    Content-Disposition: form-data; name=\"json\"\r\n\r\n{}\r\n--x--\r\n";
        let got = read(body, Some("multipart/form-data; boundary=x"), &[]);
        assert_eq!(got.pairs, pairs(&[("img", "\u{1}\u{2}"), ("json", "{}")]));
    }

    #[test]
    fn json_that_is_called_a_form_is_data() {
        let form = "application/x-www-form-urlencoded; charset=utf-8";
        let got = read("{\"inputs\": \"a&b=c\"}", Some(form), &[]);
        assert_eq!(got.pairs, pairs(&[("data", "{\"inputs\": \"a&b=c\"}")]));
        assert!(got.is_json);
    }

    #[test]
    fn a_broken_form_is_refused_by_name() {
        let body = b"--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1";
        let raw = Raw {
            body,
            content_type: Some("multipart/form-data; boundary=x"),
            query: &[],
            tables: false,
        };
        let error = contents(&raw, &Bytes::from_static(body)).unwrap_err();
        assert!(error.to_string().contains("multipart/form-data"), "{error}");
    }
}
