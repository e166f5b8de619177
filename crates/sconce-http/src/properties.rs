//! What a request says beside its body: headers, custom attributes, query.

use axum::http::request::Parts;
use axum::http::{HeaderMap, Uri};

/// SageMaker passes no other header of a client on; DJL Serving reads it as `k1=v1;k2=v2`.
pub(crate) const ATTRIBUTES: &str = "x-amzn-sagemaker-custom-attributes";

/// Headers, custom attributes and query of a request. DJL Serving calls the first two
/// "properties".
pub(crate) struct Properties<'a> {
    headers: &'a HeaderMap,
    attributes: Vec<(&'a str, &'a str)>,
    query: Vec<(String, String)>,
}

impl<'a> Properties<'a> {
    /// Reads them.
    pub(crate) fn new(parts: &'a Parts) -> Self {
        let values = parts.headers.get_all(ATTRIBUTES).iter();
        let attributes = values
            .filter_map(|value| value.to_str().ok())
            .flat_map(attributes)
            .collect();
        Self {
            headers: &parts.headers,
            attributes,
            query: query(&parts.uri),
        }
    }

    /// A property: the header, else the custom attribute. Names have no case.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let header = || self.headers.get(name)?.to_str().ok();
        let attribute = || {
            let mut all = self.attributes.iter().rev();
            Some(all.find(|(key, _)| key.eq_ignore_ascii_case(name))?.1)
        };
        header().or_else(attribute)
    }

    /// All of them, as a handler is told: of equal names the last counts, in whatever case.
    pub(crate) fn all(&self) -> Vec<(String, String)> {
        let headers = self.headers.iter().filter(|(name, _)| *name != ATTRIBUTES);
        let headers = headers.map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (title_case(name.as_str()), value)
        });
        let attributes = self.attributes.iter();
        let attributes = attributes.map(|(name, value)| (name.to_string(), value.to_string()));
        headers.chain(attributes).collect()
    }

    /// A parameter of the query.
    pub(crate) fn asked(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// All parameters of the query, in their order.
    pub(crate) fn query(&self) -> &[(String, String)] {
        &self.query
    }
}

/// Headers have no case on their way here; handlers that look them up in a dictionary know them
/// as SageMaker sends them.
fn title_case(name: &str) -> String {
    let mut upper = true;
    let letter = |c: char| {
        let cased = if upper { c.to_ascii_uppercase() } else { c };
        upper = c == '-';
        cased
    };
    let name: String = name.chars().map(letter).collect();
    name.replace("Sagemaker", "SageMaker")
}

/// `k1=v1; k2=v2`; what has no `=` is skipped, as DJL Serving does.
fn attributes(value: &str) -> impl Iterator<Item = (&str, &str)> {
    value
        .split(';')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key.trim(), value.trim()))
}

fn query(uri: &Uri) -> Vec<(String, String)> {
    form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
        .into_owned()
        .collect()
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    #[test]
    fn headers_come_before_attributes_and_names_have_no_case() {
        let request = Request::get("/x?model_name=q%20r&flag&model_name=2")
            .header("Model_Name", "header")
            .header(
                ATTRIBUTES,
                "model_name=attribute; X-Synchronous = false;;junk;a=b=c",
            )
            .header(ATTRIBUTES, "late=1;a=d")
            .body(())
            .unwrap();
        let (parts, ()) = request.into_parts();
        let properties = Properties::new(&parts);
        for (name, value) in [
            ("model_name", Some("header")),
            ("x-synchronous", Some("false")),
            ("a", Some("d")),
            ("late", Some("1")),
            ("junk", None),
        ] {
            assert_eq!(properties.get(name), value, "{name}");
        }
        assert_eq!(properties.asked("model_name"), Some("q r"));
        assert_eq!(properties.asked("flag"), Some(""));
        assert_eq!(properties.query().len(), 3);
        let all = properties.all();
        let value = |name: &str| {
            let mut found = all.iter().rev().filter(|(key, _)| key == name);
            found.next().map(|(_, value)| value.as_str())
        };
        assert_eq!(value("Model_name"), Some("header"));
        assert_eq!(value("model_name"), Some("attribute"));
        assert_eq!(value("a"), Some("d"));
        assert_eq!(title_case("content-type"), "Content-Type");
        assert_eq!(
            title_case("x-amzn-sagemaker-session-id"),
            "X-Amzn-SageMaker-Session-Id"
        );
    }
}
