//! Models in GGUF files: their keys as the `config.json` that they were made from, their weights as a decoder takes
//! them. Which families there are and how they are stored is told in `arch/gguf`; the file itself is read by
//! `sconce-nn`, and the tokenizer in it by `sconce-text`.

mod keys;
mod source;
mod stops;

use std::sync::Arc;

use sconce_nn::weights::WeightSource;
use sconce_nn::weights::gguf::{Gguf, Metadata};

use crate::arch::Arch;
use crate::arch::gguf::{FAMILIES, find};
use crate::config_error::ConfigError;
use crate::decoder::Spec;
use crate::hf_config::HfConfig;

pub(crate) use keys::Keys;
pub use source::Unstacked;

/// The key that names the architecture.
pub(crate) const ARCHITECTURE: &str = "general.architecture";

/// A decoder as a GGUF file describes it.
#[derive(Debug)]
pub struct GgufModel {
    /// The family, with the names that the file's tensors have.
    pub arch: &'static Arch,
    /// The decoder.
    pub spec: Spec,
    /// What a `config.json` would have said.
    pub config: HfConfig,
}

impl GgufModel {
    /// Reads the keys and the shapes of some tensors; no weight.
    pub fn read(file: &Gguf) -> Result<Self, ConfigError> {
        let metadata = file.metadata();
        let name = metadata.text(ARCHITECTURE)?.ok_or_else(|| {
            metadata.refuse(ARCHITECTURE, "a name, such as \"llama\"; is it a model?")
        })?;
        let experts = metadata.whole(&format!("{name}.expert_count"))?;
        let Some(family) = find(name, experts.is_some_and(|experts| experts > 0)) else {
            return Err(unknown(metadata, name));
        };
        let mut keys = Keys::new(file, name);
        keys.common(family.arch.names[0])?;
        (family.settings)(&mut keys)?;
        let config = keys.into_config();
        let spec = (family.arch.spec)(&config)?;
        let names = file.names();
        let has = |name: &str| {
            names
                .binary_search_by(|known| known.as_str().cmp(name))
                .is_ok()
        };
        Ok(Self {
            arch: &family.arch,
            spec: family.stored(spec, has),
            config,
        })
    }
}

/// The weights of a file as a decoder takes them: experts one by one.
pub fn weights(file: Arc<Gguf>) -> impl WeightSource {
    Unstacked::new(file)
}

fn unknown(metadata: &Metadata, name: &str) -> ConfigError {
    let mut supported: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
    supported.retain(|name| !name.contains(' '));
    ConfigError::Unsupported {
        file: metadata.path().to_owned(),
        key: ARCHITECTURE.to_owned(),
        value: format!("{name:?}"),
        supported: supported.join(", "),
    }
}
