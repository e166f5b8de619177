//! Forms, encoded in either of the two ways, become the JSON of a request.
//!
//! A field `data` or `json` is the whole request. Otherwise each field is a key of it: `inputs` is
//! text (several are a list), `parameters` is JSON, and of the others `true`, numbers and the like
//! are what they look like. Fields that say where the request goes are kept apart.

use bytes::Bytes;
use futures_util::{FutureExt, stream};
use mime::Mime;
use sconce_core::ServeError;
use serde_json::{Map, Value};

use super::{Content, ROUTING, single, to_json};

/// A field of a form.
struct Field {
    name: String,
    /// The Content-Type of a part; fields of other forms have none.
    kind: Option<Mime>,
    value: Vec<u8>,
}

impl Field {
    fn new(name: &str, value: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind: None,
            value: value.as_bytes().to_vec(),
        }
    }

    fn text(&self) -> Result<&str, ServeError> {
        std::str::from_utf8(&self.value).map_err(|error| {
            ServeError::Malformed(format!(
                "the form's field `{}` is not UTF-8: {error}",
                self.name
            ))
        })
    }

    fn json(&self) -> Result<Value, ServeError> {
        serde_json::from_slice(&self.value).map_err(|error| {
            ServeError::Malformed(format!(
                "the form's field `{}` is not JSON: {error}",
                self.name
            ))
        })
    }

    fn is_json(&self) -> bool {
        let essence = self.kind.as_ref().map(Mime::essence_str);
        essence == Some("application/json")
    }
}

/// The parameters of a query, for a request without a body.
pub(super) fn from_query(query: &[(String, String)]) -> Result<Content<'static>, ServeError> {
    let fields = query.iter().map(|(name, value)| Field::new(name, value));
    assemble(fields.collect())
}

/// `application/x-www-form-urlencoded`, which curl says of every body unless told otherwise. DJL
/// Serving answers JSON that is so called with 204 and nothing; here it is taken for what it is.
pub(super) fn urlencoded(body: &[u8]) -> Result<Content<'_>, ServeError> {
    if begins_json(body) {
        return Ok(Content {
            json: body.into(),
            routing: Vec::new(),
        });
    }
    let pairs = form_urlencoded::parse(body);
    let fields: Vec<_> = pairs
        .map(|(name, value)| Field::new(&name, &value))
        .collect();
    match fields.as_slice() {
        [only] if only.value.is_empty() && begins_json(only.name.as_bytes()) => Ok(Content {
            json: only.name.clone().into_bytes().into(),
            routing: Vec::new(),
        }),
        _ => assemble(fields),
    }
}

/// The fields of such a form, as they are.
pub(super) fn urlencoded_fields(body: &[u8]) -> Vec<(String, Bytes)> {
    let pairs = form_urlencoded::parse(body).into_owned();
    pairs.map(|(name, value)| (name, value.into())).collect()
}

/// The parts of such a form, as they are.
pub(super) fn multipart_fields(
    body: &[u8],
    content_type: &str,
) -> Result<Vec<(String, Bytes)>, ServeError> {
    let fields = parts(body, content_type)?.into_iter();
    Ok(fields
        .map(|field| (field.name, field.value.into()))
        .collect())
}

/// An encoded form never begins so, because these characters would be escaped.
pub(super) fn begins_json(body: &[u8]) -> bool {
    matches!(body.trim_ascii_start().first(), Some(b'{' | b'['))
}

/// `multipart/form-data`.
pub(super) fn multipart(body: &[u8], content_type: &str) -> Result<Content<'static>, ServeError> {
    assemble(parts(body, content_type)?)
}

fn parts(body: &[u8], content_type: &str) -> Result<Vec<Field>, ServeError> {
    let wrong =
        |error: multer::Error| ServeError::Malformed(format!("the {content_type} body: {error}"));
    let boundary = multer::parse_boundary(content_type).map_err(wrong)?;
    let chunk = Ok::<_, std::convert::Infallible>(body.to_vec());
    let mut parts = multer::Multipart::new(stream::iter([chunk]), boundary);
    let read = async {
        let mut fields = Vec::new();
        while let Some(part) = parts.next_field().await? {
            fields.push(Field {
                name: part.name().unwrap_or_default().to_owned(),
                kind: part.content_type().cloned(),
                value: part.bytes().await?.to_vec(),
            });
        }
        Ok(fields)
    };
    // All bytes are here, so that there is nothing to wait for.
    let fields = read
        .now_or_never()
        .unwrap_or(Err(multer::Error::IncompleteStream));
    fields.map_err(wrong)
}

fn assemble(fields: Vec<Field>) -> Result<Content<'static>, ServeError> {
    let (routing, fields): (Vec<_>, Vec<_>) = fields
        .into_iter()
        .partition(|field| ROUTING.contains(&field.name.as_str()));
    let routing: Result<Vec<_>, ServeError> = routing
        .iter()
        .map(|field| Ok((field.name.clone(), field.text()?.to_owned())))
        .collect();
    let is_whole = |field: &&Field| matches!(field.name.as_str(), "data" | "json");
    let json = match fields.iter().find(is_whole) {
        _ if fields.is_empty() => Vec::new(),
        Some(whole) => match fields.iter().find(|field| field.name != whole.name) {
            None if fields.len() == 1 => of_part(whole)?,
            other => {
                let other = other.map_or(&whole.name, |field| &field.name);
                return Err(ServeError::Malformed(format!(
                    "the form's field `{}` is a whole request, and `{other}` comes beside it; \
                     put that inside, or name the prompt's field `inputs`",
                    whole.name
                )));
            }
        },
        None => to_json(&Value::Object(object(&fields)?)),
    };
    Ok(Content {
        json: json.into(),
        routing: routing?,
    })
}

/// The request that a part is; without a Content-Type it is JSON if it looks so, else the prompt.
fn of_part(part: &Field) -> Result<Vec<u8>, ServeError> {
    let kind = match &part.kind {
        None if !begins_json(&part.value) => Some(mime::TEXT_PLAIN),
        kind => kind.clone(),
    };
    single(kind.as_ref(), &part.value, true).map(std::borrow::Cow::into_owned)
}

fn object(fields: &[Field]) -> Result<Map<String, Value>, ServeError> {
    let mut request = Map::new();
    let inputs: Vec<_> = fields
        .iter()
        .filter(|field| field.name == "inputs")
        .collect();
    let prompts: Result<Vec<_>, _> = inputs.iter().map(|field| prompt(field)).collect();
    match prompts?.as_slice() {
        [] => return Err(no_inputs(fields)),
        [one] => request.insert("inputs".into(), one.clone()),
        several => request.insert("inputs".into(), several.into()),
    };
    for field in fields.iter().filter(|field| field.name != "inputs") {
        let value = match field.name.as_str() {
            "parameters" => field.json()?,
            _ if field.is_json() => field.json()?,
            _ => field
                .json()
                .or_else(|_| Ok::<_, ServeError>(field.text()?.into()))?,
        };
        if request.insert(field.name.clone(), value).is_some() {
            return Err(ServeError::Malformed(format!(
                "the form has the field `{}` twice",
                field.name
            )));
        }
    }
    Ok(request)
}

fn prompt(field: &Field) -> Result<Value, ServeError> {
    match &field.kind {
        Some(_) if field.is_json() => field.json(),
        // Refuses what is not text.
        Some(kind) if kind.type_() != mime::TEXT => {
            single(Some(kind), &field.value, true)?;
            Ok(field.text()?.into())
        }
        _ => Ok(field.text()?.into()),
    }
}

fn no_inputs(fields: &[Field]) -> ServeError {
    const SHOWN: usize = 5;
    let mut names: Vec<_> = fields
        .iter()
        .map(|field| field.name.chars().take(40).collect::<String>())
        .collect();
    names.truncate(SHOWN);
    ServeError::Malformed(format!(
        "the form has the fields {names:?} and no `inputs`; if the body is not a form, curl's \
         default Content-Type, application/x-www-form-urlencoded, has spoilt it: send JSON with -H \
         'Content-Type: application/json'"
    ))
}
