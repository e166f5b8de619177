//! Which model a request is for.

use sconce_core::{ModelStatus, ServeError};

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

/// The model's name; `None`: the only one there is. Of `model_name` counts the path, then the
/// query, then header or custom attribute, then the field of a form.
pub(crate) fn model(
    place: &Place,
    properties: &Properties<'_>,
    form: &[(String, String)],
    models: &[ModelStatus],
) -> Result<Option<String>, Refusal> {
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
    let adapter = properties.get("x-amzn-sagemaker-adapter-identifier");
    if let Some(adapter) = adapter.or_else(|| properties.asked("adapter")) {
        let text = format!("The adapter {adapter} has not been registered: LoRA is not enabled");
        return Err(ServeError::Malformed(text).into());
    }
    let model = place.model.as_deref().or_else(|| named("model_name"));
    if let Some(version) = place.version.as_deref().or_else(|| named("model_version")) {
        // Models have no versions, so that none can be asked for by one.
        let only = || models.first().map_or(version, |model| &model.name);
        let model = model.unwrap_or_else(only);
        return Err(ServeError::UnknownModel(model.to_owned()).into());
    }
    if model.is_none() && models.len() > 1 {
        let text = "Parameter model_name is required.";
        return Err(Refusal::BadRequest(text.into()));
    }
    Ok(model.map(str::to_owned))
}
