//! Which model a request is for.

use std::sync::Arc;

use sconce_core::{Gateway, Served};

use crate::properties::Properties;
use crate::refusal::Refusal;

/// The handler that answers; DJL Serving lets a request name another one only if told to.
const HANDLER: &str = "handle";

/// What a path says of the model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// The model that the path names.
    pub(crate) model: Option<String>,
    /// The version that the path names.
    pub(crate) version: Option<String>,
}

/// Finds the model; without a name it is the only one of the start. Of `model_name` and
/// `model_version` counts the path, then the query, then header or custom attribute, then the
/// field of a form or, on OpenAI's routes, the body's `model`.
pub(crate) fn find(
    gateway: &dyn Gateway,
    place: &Place,
    properties: &Properties<'_>,
    form: &[(String, String)],
) -> Result<Arc<dyn Served>, Refusal> {
    let field = |name: &str| {
        let found = form.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    };
    let named = |name: &str| {
        let asked = properties.asked(name).or_else(|| properties.get(name));
        asked
            .or_else(|| field(name))
            .filter(|value| !value.is_empty())
    };
    if named("handler").is_some_and(|handler| handler != HANDLER) {
        let text = "The handler can't be overridden in a request";
        return Err(Refusal::BadRequest(text.into()));
    }
    let model = place.model.as_deref().or_else(|| named("model_name"));
    let version = place.version.as_deref().or_else(|| named("model_version"));
    Ok(gateway.find(model, version)?)
}
