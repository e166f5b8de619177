//! What tells one time series from another.

use prometheus_client::encoding::EncodeLabelSet;
use sconce_core::ModelStatus;

/// A model. Without a version that is empty, which to Prometheus is the same as no label.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
pub(crate) struct OfModel {
    pub(crate) model_name: String,
    pub(crate) version: String,
}

impl From<&ModelStatus> for OfModel {
    fn from(model: &ModelStatus) -> Self {
        Self {
            model_name: model.name.clone(),
            version: model.version.clone().unwrap_or_default(),
        }
    }
}

/// A model, and why jobs ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Ended {
    #[prometheus(flatten)]
    pub(crate) model: OfModel,
    pub(crate) finished_reason: &'static str,
}

/// A model, and why jobs failed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Failed {
    #[prometheus(flatten)]
    pub(crate) model: OfModel,
    pub(crate) reason: &'static str,
}

/// A model as DJL Serving names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[expect(non_snake_case, reason = "the label is called so")]
pub(crate) struct DjlModel {
    pub(crate) Model: String,
}

impl From<&OfModel> for DjlModel {
    fn from(model: &OfModel) -> Self {
        Self {
            Model: match model.version.as_str() {
                "" => model.model_name.clone(),
                version => format!("{}:{version}", model.model_name),
            },
        }
    }
}
