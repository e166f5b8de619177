//! Which adapters a request asks for, and the bodies of the routes that manage them, in DJL Serving's shape.

use std::sync::Arc;

use sconce_core::{AdapterInfo, ServeError};
use serde_json::{Map, Value, json};

use crate::dialect::Accepted;
use crate::fields::Fields;
use crate::json;
use crate::models::LONGEST_PAGE;

const KEY: &str = "adapters";

/// Takes the member `adapters`: a name, or one for each input. A text without letters stands for none.
pub(crate) fn take(fields: &mut Fields) -> Result<Vec<String>, ServeError> {
    const WANTED: &str = "must be the name of an adapter, or a list with one for each input";
    let name = |value: &Value| match value {
        Value::String(name) => Ok(name.clone()),
        Value::Null => Ok(String::new()),
        other => Err(ServeError::parameter(KEY, other, WANTED)),
    };
    match fields.take(KEY) {
        None => Ok(Vec::new()),
        Some(Value::Array(names)) => names.iter().map(name).collect(),
        Some(one) => Ok(vec![name(&one)?]),
    }
}

/// Gives each prompt its adapter; a single one is for all.
pub(crate) fn assign(names: &[String], accepted: &mut Accepted) -> Result<(), ServeError> {
    let prompts = &mut accepted.prompts;
    if names.len() > 1 && names.len() != prompts.len() {
        let value = format!("a list of {}", names.len());
        let problem = format!(
            "Number of adapters is not equal to the number of inputs: there are {}; send one for each, or one for all",
            prompts.len()
        );
        return Err(ServeError::parameter(KEY, value, problem));
    }
    for (prompt, name) in prompts.iter_mut().zip(names.iter().cycle()) {
        if !name.trim().is_empty() {
            prompt.params.adapter = Some(Arc::from(name.as_str()));
        }
    }
    Ok(())
}

/// The parameters of a query that registers or changes an adapter.
///
/// # Errors
/// What is wrong with one of them.
pub fn registration(
    name: Option<&str>,
    parameters: &[(String, String)],
    before: Option<AdapterInfo>,
) -> Result<AdapterInfo, String> {
    let (mut src, mut preload, mut pin) = match before {
        Some(known) => (Some(known.src), known.preload, known.pin),
        None => (None, true, false),
    };
    let mut named = name.map(str::to_owned);
    for (key, value) in parameters {
        let flag = || match value.to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(format!(
                "Parameter {key} is {value:?}: it must be true or false"
            )),
        };
        match key.as_str() {
            "name" if name.is_none() => named = Some(value.clone()),
            "src" => src = Some(value.clone()),
            "preload" => preload = flag()?,
            "pin" => pin = flag()?,
            _ => {
                return Err(format!(
                    "Parameter {key} is {value:?}: no such parameter is known here; remove it"
                ));
            }
        }
    }
    let required = |value: Option<String>, key: &str| {
        let value = value.filter(|value| !value.is_empty());
        value.ok_or_else(|| format!("The parameter {key} is required"))
    };
    Ok(AdapterInfo {
        name: required(named, "name")?,
        src: required(src, "src")?,
        preload,
        pin,
    })
}

/// `{"adapters": […], "nextPageToken": "…"}`: those from `start` on, at most `limit`; the token only if there are more.
pub fn list(adapters: &[AdapterInfo], start: usize, limit: usize) -> Vec<u8> {
    let end = start
        .saturating_add(limit.clamp(1, LONGEST_PAGE))
        .min(adapters.len());
    let mut body = Map::new();
    if end < adapters.len() {
        body.insert("nextPageToken".into(), end.to_string().into());
    }
    let page = adapters.get(start..end).unwrap_or_default();
    body.insert("adapters".into(), page.iter().map(item).collect());
    json::gson(&body)
}

/// One of them.
pub fn describe(adapter: &AdapterInfo) -> Vec<u8> {
    json::gson(&item(adapter))
}

fn item(adapter: &AdapterInfo) -> Value {
    let AdapterInfo {
        name,
        src,
        preload,
        pin,
    } = adapter;
    json!({"name": name, "src": src, "preload": preload, "pin": pin})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::{Incoming, Wire};

    fn asked(body: &Value) -> Result<Vec<Option<String>>, ServeError> {
        let body = body.to_string();
        let accepted = Wire::default().accept(&Incoming {
            body: body.as_bytes(),
            ..Incoming::default()
        })?;
        let name = |adapter: &Arc<str>| adapter.to_string();
        let adapters = accepted
            .prompts
            .iter()
            .map(|prompt| prompt.params.adapter.as_ref().map(name));
        Ok(adapters.collect())
    }

    #[test]
    fn adapters_are_one_for_all_inputs_or_one_for_each() {
        let some = |name: &str| Some(name.to_owned());
        for (body, wanted) in [
            (json!({"inputs": "a"}), vec![None]),
            (json!({"inputs": "a", "adapters": "x"}), vec![some("x")]),
            (
                json!({"inputs": ["a", "b"], "adapters": "x"}),
                vec![some("x"), some("x")],
            ),
            (
                json!({"inputs": ["a", "b"], "adapters": ["", "y"]}),
                vec![None, some("y")],
            ),
            (
                json!({"messages": [{"role": "user", "content": "a"}], "n": 2, "adapters": "x"}),
                vec![some("x"), some("x")],
            ),
        ] {
            assert_eq!(asked(&body), Ok(wanted), "{body}");
        }
        for (body, part) in [
            (
                json!({"inputs": ["a", "b"], "adapters": ["x", "y", "z"]}),
                "not equal to the number of inputs",
            ),
            (json!({"inputs": "a", "adapters": 5}), "must be the name"),
        ] {
            let text = asked(&body).expect_err("refused").to_string();
            assert!(text.contains(part), "{body}: {text}");
        }
    }

    #[test]
    fn a_registration_needs_name_and_source() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let read = |pairs: &[(String, String)]| registration(None, pairs, None);
        let wanted = AdapterInfo {
            name: "a".into(),
            src: "b".into(),
            preload: false,
            pin: true,
        };
        let all = [
            pair("name", "a"),
            pair("src", "b"),
            pair("preload", "False"),
            pair("pin", "true"),
        ];
        assert_eq!(read(&all), Ok(wanted.clone()));
        assert_eq!(
            read(&all[1..]),
            Err("The parameter name is required".into())
        );
        assert_eq!(read(&all[..1]), Err("The parameter src is required".into()));
        assert!(read(&[pair("pin", "x")]).is_err_and(|text| text.contains("true or false")));
        assert!(read(&[pair("rank", "8")]).is_err_and(|text| text.contains("no such parameter")));
        let changed = registration(Some("a"), &[pair("src", "c")], Some(wanted.clone()));
        let wanted = AdapterInfo {
            src: "c".into(),
            ..wanted
        };
        assert_eq!(changed, Ok(wanted));
    }

    #[test]
    fn lists_are_cut_into_pages() {
        let adapter = |name: &str| AdapterInfo {
            name: name.into(),
            src: "s".into(),
            preload: true,
            pin: false,
        };
        let all = [adapter("a"), adapter("b"), adapter("c")];
        let read = |body: Vec<u8>| -> Value { serde_json::from_slice(&body).expect("JSON") };
        let first = read(list(&all, 0, 2));
        assert_eq!(first["nextPageToken"], "2");
        assert_eq!(
            first["adapters"][1],
            json!({"name": "b", "src": "s", "preload": true, "pin": false})
        );
        let last = read(list(&all, 2, 2));
        assert_eq!(last, json!({"adapters": [read(describe(&all[2]))]}));
        assert_eq!(read(list(&all, 9, 2)), json!({"adapters": []}));
    }
}
