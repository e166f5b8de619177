//! Adapters of a model: small changes of its weights that requests choose between by name.

use thiserror::Error;

/// An adapter as it is registered, in the words of DJL Serving's API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterInfo {
    /// Its name in requests.
    pub name: String,
    /// Its folder, absolute or within the model's.
    pub src: String,
    /// Whether it is loaded at once, not when it is asked for first.
    pub preload: bool,
    /// Whether it stays in memory.
    pub pin: bool,
}

/// Why the adapters of a model stay as they are.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AdapterRefusal {
    /// The model takes none.
    #[error("LoRA is not enabled.")]
    NotEnabled,
    /// There is no such adapter.
    #[error("The adapter {0} was not found")]
    Unknown(String),
    /// The name is taken.
    #[error("The adapter {0} already exists. Remove it first, or update it.")]
    Exists(String),
    /// It is not a folder of this machine.
    #[error("URL adapters are not currently supported: {0}; name a folder")]
    Url(String),
    /// The folder is no adapter of this model.
    #[error("The adapter {name} cannot be used: {cause}")]
    Unusable {
        /// Its name.
        name: String,
        /// What is wrong with it.
        cause: String,
    },
    /// No memory is left for it.
    #[error(
        "{most} adapters are in memory, all pinned or in use; remove one, retry later or raise \
         option.max_cpu_loras"
    )]
    Full {
        /// `option.max_cpu_loras`, or `option.max_loras` if that is more.
        most: usize,
    },
}

/// The adapters of one model, which come and go while it answers.
pub trait Adapters: Send + Sync {
    /// All of them, by name.
    fn list(&self) -> Vec<AdapterInfo>;

    /// The one of that name.
    fn find(&self, name: &str) -> Option<AdapterInfo> {
        self.list().into_iter().find(|adapter| adapter.name == name)
    }

    /// Adds one.
    fn register(&self, adapter: AdapterInfo) -> Result<(), AdapterRefusal>;

    /// Replaces one; requests that have begun go on with what it was.
    fn update(&self, adapter: AdapterInfo) -> Result<(), AdapterRefusal>;

    /// Takes one away; requests that have begun go on.
    fn remove(&self, name: &str) -> Result<(), AdapterRefusal>;
}
