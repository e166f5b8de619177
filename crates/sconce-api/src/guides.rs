//! The forms that an answer may be asked to have, under the names of OpenAI, vLLM, LMI and TGI.

use std::sync::Arc;

use sconce_core::{Guide, Rule, ServeError};
use serde_json::Value;

use crate::fields::Fields;
use crate::parameters::{Neutral, refuse};

type Result<T> = std::result::Result<T, ServeError>;

/// Most texts of a choice.
const MOST_CHOICES: usize = 1024;

/// vLLM's way to say how a form is kept to: there is one way.
const BACKENDS: &[&str] = &[
    "guided_decoding_backend",
    "guided_decoding_disable_fallback",
];

/// Takes the one form that a request asks for.
pub(crate) fn guide(fields: &mut Fields) -> Result<Option<Guide>> {
    let found = [
        response_format(fields)?,
        schema(fields, "guided_json")?,
        text(fields, "guided_regex")?.map(|(key, text)| guide_of(key, Rule::Regex(text))),
        choice(fields, "guided_choice")?,
        text(fields, "guided_grammar")?.map(|(key, text)| guide_of(key, Rule::Grammar(text))),
        structured(fields)?,
        tgi(fields)?,
    ];
    for key in BACKENDS {
        fields.take(key);
    }
    refuse(fields, "guided_whitespace_pattern", &Neutral::Empty)?;
    let mut found = found.into_iter().flatten();
    let first = found.next();
    match (&first, found.next()) {
        (Some(first), Some(second)) => {
            let problem = format!(
                "and {} both say what the answer looks like; keep one",
                second.key
            );
            Err(ServeError::parameter(first.key, "set", problem))
        }
        _ => Ok(first),
    }
}

fn guide_of(key: &'static str, rule: Rule) -> Guide {
    Guide {
        key,
        rule: rule.into(),
    }
}

/// OpenAI's `response_format`, in TGI's form too.
fn response_format(fields: &mut Fields) -> Result<Option<Guide>> {
    const KEY: &str = "response_format";
    const WANTED: &str = "must be {\"type\": \"text\"}, {\"type\": \"json_object\"} or {\"type\": \"json_schema\", \
                          \"json_schema\": {\"name\": …, \"schema\": {…}}} and have no other members";
    let Some(format) = fields.take(KEY) else {
        return Ok(None);
    };
    let has_only = |object: &Value, known: &[&str]| {
        let mut members = object
            .as_object()
            .into_iter()
            .flat_map(|object| object.keys());
        members.all(|member| known.contains(&member.as_str()))
    };
    let known = has_only(&format, &["type", "json_schema", "schema", "value"])
        && has_only(
            &format["json_schema"],
            &["name", "description", "schema", "strict"],
        );
    let schema = [
        format["json_schema"].get("schema"),
        // As LMI and vLLM also take it.
        format.get("schema"),
    ];
    let schema = schema.into_iter().flatten().next();
    let rule = match (format["type"].as_str(), schema, format.get("value")) {
        _ if !known => None,
        (Some("text"), None, None) => return Ok(None),
        (Some("json_object"), None, None) => Some(Rule::Json),
        (Some("json_object" | "json_schema"), Some(schema), None) => of_schema(schema),
        (Some("json_object"), None, Some(value)) => of_schema(value),
        (Some(kind), None, Some(value)) => of_value(kind, value),
        _ => None,
    };
    match rule {
        Some(rule) => Ok(Some(guide_of(KEY, rule))),
        None => Err(ServeError::parameter(KEY, format, WANTED)),
    }
}

/// A schema, as an object or as a text of JSON.
fn of_schema(schema: &Value) -> Option<Rule> {
    match schema {
        Value::Object(_) => Some(Rule::Schema(schema.to_string())),
        Value::String(text) => Some(Rule::Schema(text.clone())),
        _ => None,
    }
}

fn schema(fields: &mut Fields, key: &'static str) -> Result<Option<Guide>> {
    let Some(value) = fields.take(key) else {
        return Ok(None);
    };
    match of_schema(&value) {
        Some(rule) => Ok(Some(guide_of(key, rule))),
        None => {
            let problem = "must be a JSON schema, as an object or as a text";
            Err(ServeError::parameter(key, value, problem))
        }
    }
}

fn text(fields: &mut Fields, key: &'static str) -> Result<Option<(&'static str, String)>> {
    let text = fields.text(key)?.filter(|text| !text.is_empty());
    Ok(text.map(|text| (key, text)))
}

fn choice(fields: &mut Fields, key: &'static str) -> Result<Option<Guide>> {
    let texts = fields.texts(key, MOST_CHOICES)?;
    Ok((!texts.is_empty()).then(|| guide_of(key, Rule::Choice(texts))))
}

/// vLLM's `structured_outputs`.
fn structured(fields: &mut Fields) -> Result<Option<Guide>> {
    const KEY: &str = "structured_outputs";
    let object = match fields.take(KEY) {
        None => return Ok(None),
        Some(Value::Object(object)) => object,
        Some(other) => {
            let problem = "must be an object with json, json_object, regex, choice or grammar";
            return Err(ServeError::parameter(KEY, other, problem));
        }
    };
    match rules(Fields::new(object)).map_err(|error| within(KEY, error))?[..] {
        [ref rule] => Ok(Some(Guide {
            key: KEY,
            rule: Arc::clone(rule),
        })),
        _ => {
            let problem = "must say one of json, json_object, regex, choice and grammar";
            Err(ServeError::parameter(KEY, "an object", problem))
        }
    }
}

/// The rules that `structured_outputs` names.
fn rules(mut inner: Fields) -> Result<Vec<Arc<Rule>>> {
    let is_object = inner.flag("json_object")?.unwrap_or(false);
    let rules = [
        is_object.then(|| Rule::Json.into()),
        schema(&mut inner, "json")?.map(|guide| guide.rule),
        text(&mut inner, "regex")?.map(|(_, text)| Rule::Regex(text).into()),
        choice(&mut inner, "choice")?.map(|guide| guide.rule),
        text(&mut inner, "grammar")?.map(|(_, text)| Rule::Grammar(text).into()),
    ];
    inner.finish(|_| Some("it has json, json_object, regex, choice and grammar only".into()))?;
    Ok(rules.into_iter().flatten().collect())
}

/// An error about a member of the object `key`, by the name of both.
fn within(key: &str, error: ServeError) -> ServeError {
    match error {
        ServeError::Parameter {
            key: member,
            value,
            problem,
        } => ServeError::parameter(format!("{key}.{member}"), value, problem),
        other => other,
    }
}

/// What a type and a value ask for at TGI.
fn of_value(kind: &str, value: &Value) -> Option<Rule> {
    match (kind, value) {
        ("json", _) => of_schema(value),
        ("json_schema", _) => value
            .get("schema")
            .and_then(of_schema)
            .or_else(|| of_schema(value)),
        ("regex", Value::String(text)) if !text.is_empty() => Some(Rule::Regex(text.clone())),
        _ => None,
    }
}

/// TGI's `grammar`: a type and a value.
pub(crate) fn tgi(fields: &mut Fields) -> Result<Option<Guide>> {
    const KEY: &str = "grammar";
    let Some(grammar) = fields.take(KEY) else {
        return Ok(None);
    };
    let kind = grammar["type"].as_str();
    match kind.and_then(|kind| of_value(kind, &grammar["value"])) {
        Some(rule) => Ok(Some(guide_of(KEY, rule))),
        None => {
            let problem = "must be {\"type\": \"json\", \"value\": a schema} or {\"type\": \"regex\", \"value\": an expression}";
            Err(ServeError::parameter(KEY, grammar, problem))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;

    fn read(value: Value) -> Result<Option<(&'static str, Rule)>> {
        let object: Map<String, Value> = value.as_object().cloned().expect("an object");
        let mut fields = Fields::new(object);
        let found = guide(&mut fields)?;
        fields.finish(|_| None)?;
        Ok(found.map(|guide| (guide.key, Rule::clone(&guide.rule))))
    }

    #[test]
    fn every_server_s_spelling_is_understood() {
        let schema = json!({"type": "object"});
        let rule = Rule::Schema(schema.to_string());
        for (asked, want) in [
            (json!({}), None),
            (json!({"response_format": {"type": "text"}}), None),
            (
                json!({"response_format": {"type": "json_object"}}),
                Some(("response_format", Rule::Json)),
            ),
            (
                json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": true}}}),
                Some(("response_format", rule.clone())),
            ),
            (
                json!({"response_format": {"type": "json_object", "value": schema}}),
                Some(("response_format", rule.clone())),
            ),
            (
                json!({"response_format": {"type": "json_object", "schema": schema}}),
                Some(("response_format", rule.clone())),
            ),
            (
                json!({"response_format": {"type": "json", "value": schema}}),
                Some(("response_format", rule.clone())),
            ),
            (
                json!({"response_format": {"type": "regex", "value": "a"}}),
                Some(("response_format", Rule::Regex("a".into()))),
            ),
            (
                json!({"guided_json": schema}),
                Some(("guided_json", rule.clone())),
            ),
            (
                json!({"guided_json": schema.to_string()}),
                Some(("guided_json", rule.clone())),
            ),
            (
                json!({"guided_regex": "a+", "guided_decoding_backend": "x"}),
                Some(("guided_regex", Rule::Regex("a+".into()))),
            ),
            (
                json!({"guided_choice": ["a", "b"]}),
                Some(("guided_choice", Rule::Choice(vec!["a".into(), "b".into()]))),
            ),
            (
                json!({"guided_grammar": "start: \"a\""}),
                Some(("guided_grammar", Rule::Grammar("start: \"a\"".into()))),
            ),
            (
                json!({"structured_outputs": {"json": schema}}),
                Some(("structured_outputs", rule.clone())),
            ),
            (
                json!({"grammar": {"type": "json", "value": schema}}),
                Some(("grammar", rule)),
            ),
            (
                json!({"grammar": {"type": "regex", "value": "a"}}),
                Some(("grammar", Rule::Regex("a".into()))),
            ),
        ] {
            assert_eq!(read(asked.clone()).expect("understood"), want, "{asked}");
        }
    }

    #[test]
    fn what_is_no_form_is_refused_by_name() {
        for (asked, part) in [
            (
                json!({"response_format": {"type": "xml"}}),
                "response_format",
            ),
            (
                json!({"response_format": {"type": "json_schema", "json_schema": {}}}),
                "json_schema",
            ),
            (
                json!({"response_format": {"type": "json_object", "regex": "a"}}),
                "no other members",
            ),
            (
                json!({"response_format": {"type": "json_schema", "json_schema": {"schema": {}, "other": 1}}}),
                "no other members",
            ),
            (json!({"guided_json": 5}), "guided_json"),
            (json!({"guided_choice": [""]}), "guided_choice"),
            (
                json!({"structured_outputs": {"json": {}, "regex": "a"}}),
                "one of json",
            ),
            (
                json!({"structured_outputs": {"structural_tag": "x"}}),
                "structured_outputs.structural_tag",
            ),
            (
                json!({"structured_outputs": {"grammar": false}}),
                "structured_outputs.grammar",
            ),
            (json!({"grammar": {"type": "regex"}}), "grammar"),
            (
                json!({"guided_regex": "a", "guided_choice": ["b"]}),
                "keep one",
            ),
        ] {
            let text = read(asked.clone()).expect_err("refused").to_string();
            assert!(text.contains(part), "{asked}: {text}");
        }
    }
}
