//! `config.json` as typed reads, each with the family's own default for an absent key.
//! Which keys a family has is told by its file in `arch/`; rotary settings are read in `rope_config`.

use std::path::{Path, PathBuf};

use sconce_nn::Act;
use serde_json::{Map, Value};

use crate::config_error::ConfigError;
use crate::decoder::{Dims, Head};

/// The keys as this crate names them, and how older families spell them.
const ALIASES: &[(&str, &[&str])] = &[
    ("hidden_size", &["n_embd", "d_model", "n_embed", "dim"]),
    ("num_hidden_layers", &["n_layer", "num_layers", "n_layers"]),
    ("num_attention_heads", &["n_head", "num_heads", "n_heads"]),
    ("num_key_value_heads", &["num_kv_heads", "n_head_kv"]),
    (
        "intermediate_size",
        &["n_inner", "ffn_dim", "ffn_hidden_size", "hidden_dim"],
    ),
    (
        "max_position_embeddings",
        &["n_positions", "n_ctx", "max_seq_len"],
    ),
    (
        "hidden_act",
        &["activation_function", "activation", "hidden_activation"],
    ),
    (
        "layer_norm_eps",
        &["layer_norm_epsilon", "norm_epsilon", "norm_eps"],
    ),
    ("num_experts", &["num_local_experts", "n_routed_experts"]),
    ("rope_theta", &["rotary_emb_base"]),
    ("partial_rotary_factor", &["rotary_pct"]),
];

/// The largest size that is believed: no model comes near, and products of two stay exact.
const LARGEST_SIZE: u64 = 1 << 31;

/// The parsed `config.json` of a checkpoint. `null` counts as absent everywhere.
#[derive(Clone, Debug)]
pub struct HfConfig {
    file: PathBuf,
    keys: Map<String, Value>,
}

impl HfConfig {
    /// Reads `config.json` in `dir`.
    pub fn read(dir: &Path) -> Result<Self, ConfigError> {
        Self::read_file(dir.join("config.json"))
    }

    pub(crate) fn read_file(file: PathBuf) -> Result<Self, ConfigError> {
        match std::fs::read(&file) {
            Ok(bytes) => Self::parse(file, &bytes),
            Err(cause) => Err(ConfigError::Read { file, cause }),
        }
    }

    /// Parses the text of a configuration; `file` is only for messages.
    pub fn parse(file: PathBuf, bytes: &[u8]) -> Result<Self, ConfigError> {
        match serde_json::from_slice(bytes) {
            Ok(keys) => Ok(Self { file, keys }),
            Err(_) if sconce_nn::weights::is_lfs_pointer(bytes) => {
                Err(ConfigError::LfsPointer { file })
            }
            Err(cause) => Err(ConfigError::NotJson { file, cause }),
        }
    }

    /// A configuration of keys at hand; `file` is what they were read from.
    pub(crate) fn of(file: PathBuf, keys: Map<String, Value>) -> Self {
        Self { file, keys }
    }

    /// The class names under `architectures`; empty when absent.
    pub fn architectures(&self) -> Result<Vec<&str>, ConfigError> {
        let Some((key, value)) = self.find("architectures") else {
            return Ok(Vec::new());
        };
        let names = value
            .as_array()
            .and_then(|all| all.iter().map(Value::as_str).collect());
        names.ok_or_else(|| self.wrong(key, value, "a list of class names"))
    }

    /// A whole number of at least 1 that has no default.
    pub fn size(&self, key: &str) -> Result<usize, ConfigError> {
        const WANTED: &str = "a whole number from 1 to 2147483648";
        let (key, value) = self.find(key).ok_or_else(|| self.absent(key, WANTED))?;
        let number = value
            .as_u64()
            .filter(|number| (1..=LARGEST_SIZE).contains(number));
        number
            .map(|number| number as usize)
            .ok_or_else(|| self.wrong(key, value, WANTED))
    }

    /// A whole number of at least 1; `default` when absent.
    pub fn size_or(&self, key: &str, default: usize) -> Result<usize, ConfigError> {
        if self.has(key) {
            self.size(key)
        } else {
            Ok(default)
        }
    }

    /// A whole number of at least 1; none when null, `default` when the key is not written down.
    pub fn optional_size(
        &self,
        key: &str,
        default: Option<usize>,
    ) -> Result<Option<usize>, ConfigError> {
        if self.has(key) {
            return self.size(key).map(Some);
        }
        Ok(default.filter(|_| !self.mentions(key)))
    }

    /// A finite number above 0; none when null, `default` when the key is not written down.
    pub fn optional_float(
        &self,
        key: &str,
        default: Option<f64>,
    ) -> Result<Option<f64>, ConfigError> {
        if self.has(key) {
            return self.float(key, 1.0).map(Some);
        }
        Ok(default.filter(|_| !self.mentions(key)))
    }

    /// A finite number above 0; `default` when absent.
    pub fn float(&self, key: &str, default: f64) -> Result<f64, ConfigError> {
        let Some((key, value)) = self.find(key) else {
            return Ok(default);
        };
        positive(value).ok_or_else(|| self.wrong(key, value, "a number above 0"))
    }

    /// True or false; `default` when absent.
    pub fn flag(&self, key: &str, default: bool) -> Result<bool, ConfigError> {
        let Some((key, value)) = self.find(key) else {
            return Ok(default);
        };
        value
            .as_bool()
            .ok_or_else(|| self.wrong(key, value, "true or false"))
    }

    /// An activation by its transformers name; `default` when absent.
    pub fn act(&self, key: &str, default: Act) -> Result<Act, ConfigError> {
        let Some((key, value)) = self.find(key) else {
            return Ok(default);
        };
        let name = value
            .as_str()
            .ok_or_else(|| self.wrong(key, value, "a name"))?;
        let supported = || Act::names().collect::<Vec<_>>().join(", ");
        Act::parse(name).ok_or_else(|| self.unsupported(key, value, &supported()))
    }

    /// The sizes that all families share, for plain attention over as many key/value heads as heads.
    /// `context` is the default of `max_position_embeddings`; the inner width defaults to four widths.
    pub fn dims(&self, context: usize) -> Result<Dims, ConfigError> {
        let width = self.size("hidden_size")?;
        let heads = self.size("num_attention_heads")?;
        if !self.has("head_dim") {
            self.multiple("hidden_size", width, "num_attention_heads", heads)?;
        }
        let context = self.size_or("max_position_embeddings", context)?;
        Ok(Dims {
            layers: self.size("num_hidden_layers")?,
            width,
            embed: width,
            heads,
            kv_heads: heads,
            head: width / heads,
            inner: self.size_or("intermediate_size", 4 * width)?,
            vocab: self.size("vocab_size")?,
            context,
            positions: context,
            ..Dims::default()
        })
    }

    /// The same with `num_key_value_heads` (as many as heads, when absent) and `head_dim`.
    pub fn grouped_dims(&self, context: usize) -> Result<Dims, ConfigError> {
        let plain = self.dims(context)?;
        let kv_heads = self.size_or("num_key_value_heads", plain.heads)?;
        let (key, divisor) = ("num_attention_heads", "num_key_value_heads");
        self.multiple(key, plain.heads, divisor, kv_heads)?;
        Ok(Dims {
            kv_heads,
            head: self.size_or("head_dim", plain.head)?,
            ..plain
        })
    }

    /// The window of each layer: `window` tokens in [windowed layers](Self::windowed_layers), none in the others.
    pub fn windows(
        &self,
        layers: usize,
        window: Option<usize>,
        by_default: impl Fn(usize) -> bool,
    ) -> Result<Vec<Option<usize>>, ConfigError> {
        let windowed = self.windowed_layers(layers, by_default)?.into_iter();
        Ok(windowed
            .map(|windowed| window.filter(|_| windowed))
            .collect())
    }

    /// Whether each layer sees only a window: as `layer_types` says, else as `by_default` says of its index.
    pub fn windowed_layers(
        &self,
        layers: usize,
        by_default: impl Fn(usize) -> bool,
    ) -> Result<Vec<bool>, ConfigError> {
        let listed = self.layer_types(layers)?;
        Ok(listed.unwrap_or_else(|| (0..layers).map(by_default).collect()))
    }

    /// `sliding_window`, when `use_sliding_window` switches it on; `default` is that of the first.
    pub fn switched_window(&self, default: Option<usize>) -> Result<Option<usize>, ConfigError> {
        if self.flag("use_sliding_window", false)? {
            self.optional_size("sliding_window", default)
        } else {
            Ok(None)
        }
    }

    /// Whether each layer has a window, as `layer_types` says, if it does.
    fn layer_types(&self, layers: usize) -> Result<Option<Vec<bool>>, ConfigError> {
        const SUPPORTED: &str =
            "a list of \"full_attention\" and \"sliding_attention\", one for each layer";
        let Some((key, value)) = self.find("layer_types") else {
            return Ok(None);
        };
        let windowed = |kind: &Value| match kind.as_str()? {
            "full_attention" => Some(false),
            "sliding_attention" => Some(true),
            _ => None,
        };
        let types: Option<Vec<bool>> = value
            .as_array()
            .and_then(|all| all.iter().map(windowed).collect());
        match types {
            Some(types) if types.len() == layers => Ok(Some(types)),
            _ => Err(self.unsupported(key, value, SUPPORTED)),
        }
    }

    /// A list of layers by their index, counted from 0; empty when absent.
    pub fn layer_list(&self, key: &str) -> Result<Vec<usize>, ConfigError> {
        let Some((key, value)) = self.find(key) else {
            return Ok(Vec::new());
        };
        let index = |value: &Value| value.as_u64().map(|index| index as usize);
        let list: Option<Vec<usize>> = value
            .as_array()
            .and_then(|all| all.iter().map(index).collect());
        list.ok_or_else(|| self.wrong(key, value, "a list of layers, counted from 0"))
    }

    /// Whether the output projection is the embedding, `tied` being the family's default.
    pub fn head(&self, tied: bool) -> Result<Head, ConfigError> {
        Ok(if self.flag("tie_word_embeddings", tied)? {
            Head::Tied
        } else {
            Head::Own
        })
    }

    /// Checks that `value`, read from `key`, is a multiple of `by`, read from `divisor`.
    pub fn multiple(
        &self,
        key: &str,
        value: usize,
        divisor: &str,
        by: usize,
    ) -> Result<(), ConfigError> {
        if value.is_multiple_of(by) {
            return Ok(());
        }
        let spelled = |key: &str| {
            self.find(key)
                .map_or(key, |(spelled, _)| spelled)
                .to_owned()
        };
        Err(ConfigError::NotMultiple {
            file: self.file.clone(),
            key: spelled(key),
            value,
            divisor: spelled(divisor),
            by,
        })
    }

    /// Refuses a value other than those that are implemented.
    pub fn refuse(&self, key: &str, supported: &str) -> Result<(), ConfigError> {
        match self.find(key) {
            Some((key, value)) => Err(self.unsupported(key, value, supported)),
            None => Ok(()),
        }
    }

    /// Refuses true for a feature that is not implemented; false is the default.
    pub fn refuse_true(&self, key: &str, supported: &str) -> Result<(), ConfigError> {
        match self.flag(key, false)? {
            true => self.refuse(key, supported),
            false => Ok(()),
        }
    }

    /// Refuses false for a feature that cannot be left out; true is the default.
    pub fn refuse_false(&self, key: &str, supported: &str) -> Result<(), ConfigError> {
        match self.flag(key, true)? {
            true => Ok(()),
            false => self.refuse(key, supported),
        }
    }

    /// Refuses a name that is not among those that are implemented; absent is fine.
    pub fn refuse_unless(&self, key: &str, names: &[&str]) -> Result<(), ConfigError> {
        match self.find(key) {
            Some((_, Value::String(name))) if names.contains(&name.as_str()) => Ok(()),
            _ => self.refuse(key, &names.join(", ")),
        }
    }

    /// The keys of an object inside; none when it is absent.
    pub fn object(&self, key: &str) -> Result<Self, ConfigError> {
        let keys = match self.find(key) {
            None => Map::new(),
            Some((_, Value::Object(keys))) => keys.clone(),
            Some((key, value)) => return Err(self.wrong(key, value, "an object")),
        };
        let file = self.file.clone();
        Ok(Self { file, keys })
    }

    /// An even number of at least 2 and at most `limit`; `default` when absent.
    pub fn even_size(&self, key: &str, default: usize, limit: usize) -> Result<usize, ConfigError> {
        let size = self.size_or(key, default)?;
        if size % 2 == 0 && size <= limit {
            return Ok(size);
        }
        let wanted = format!("an even number, at most the {limit} numbers of a head");
        Err(self.wrong(key, &Value::from(size), &wanted))
    }

    /// How many experts a token uses, at most all `experts`; `default` when absent.
    pub fn picked_experts(&self, default: usize, experts: usize) -> Result<usize, ConfigError> {
        let key = "num_experts_per_tok";
        let picked = self.size_or(key, default)?;
        if picked <= experts {
            return Ok(picked);
        }
        let wanted = format!("at most the number of experts, {experts}");
        Err(self.wrong(key, &Value::from(picked), &wanted))
    }

    /// A whole number that may be 0; `default` when absent.
    pub fn count(&self, key: &str, default: usize) -> Result<usize, ConfigError> {
        match self.find(key) {
            Some((_, value)) if value.as_u64() == Some(0) => Ok(0),
            _ => self.size_or(key, default),
        }
    }

    /// The same with another value of a key.
    pub fn with(mut self, key: &str, value: Value) -> Self {
        self.keys.insert(key.to_owned(), value);
        self
    }

    /// A list, if the key is there and is one.
    pub fn list(&self, key: &str) -> Option<&[Value]> {
        self.keys.get(key)?.as_array().map(Vec::as_slice)
    }

    /// A number of any sign, if the key is there and is one.
    pub fn find_number(&self, key: &str) -> Option<f64> {
        self.keys.get(key)?.as_f64()
    }

    /// What is said of a value from elsewhere that does not go with the keys.
    pub fn out_of_range(&self, key: &str, value: usize, wanted: String) -> ConfigError {
        self.wrong(key, &Value::from(value), &wanted)
    }

    /// A string, if the key is there and is one.
    pub fn text(&self, key: &str) -> Option<String> {
        let (_, value) = self.find(key)?;
        value.as_str().map(str::to_owned)
    }

    /// Whether the key is there under any spelling and not null.
    pub fn has(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    /// The file that was read.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The value and its spelling in the file: the key itself, else the first alias that is there.
    pub(crate) fn find<'a>(&'a self, key: &'a str) -> Option<(&'a str, &'a Value)> {
        let aliases = ALIASES
            .iter()
            .find(|(name, _)| *name == key)
            .map_or(&[][..], |(_, aliases)| aliases);
        std::iter::once(key)
            .chain(aliases.iter().copied())
            .filter_map(|name| self.keys.get(name).map(|value| (name, value)))
            .find(|(_, value)| !value.is_null())
    }

    /// Whether the key is written down, be it with null.
    pub(crate) fn mentions(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }

    /// What is said of a key that has no default and is not there.
    pub fn absent(&self, key: &str, wanted: &'static str) -> ConfigError {
        let aliases = ALIASES
            .iter()
            .find(|(name, _)| *name == key)
            .map_or(&[][..], |(_, aliases)| aliases);
        let spellings: Vec<&str> = std::iter::once(key)
            .chain(aliases.iter().copied())
            .collect();
        ConfigError::Absent {
            file: self.file.clone(),
            key: spellings.join("` or `"),
            wanted,
        }
    }

    pub(crate) fn wrong(&self, key: &str, value: &Value, wanted: &str) -> ConfigError {
        ConfigError::Value {
            file: self.file.clone(),
            key: key.to_owned(),
            value: shortened(value),
            wanted: wanted.to_owned(),
        }
    }

    pub(crate) fn unsupported(&self, key: &str, value: &Value, supported: &str) -> ConfigError {
        ConfigError::Unsupported {
            file: self.file.clone(),
            key: key.to_owned(),
            value: shortened(value),
            supported: supported.to_owned(),
        }
    }
}

/// A finite number above 0.
pub(crate) fn positive(value: &Value) -> Option<f64> {
    value
        .as_f64()
        .filter(|number| number.is_finite() && *number > 0.0)
}

/// JSON text of at most 120 characters.
pub(crate) fn shortened(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(120) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> HfConfig {
        HfConfig::parse(PathBuf::from("/m/config.json"), text.as_bytes()).expect("valid JSON")
    }

    #[test]
    fn reads_take_either_spelling_and_null_as_absent() {
        let c = config(
            r#"{"n_embd": 12, "n_inner": null, "n_layer": 2, "n_head": 3, "vocab_size": 5}"#,
        );
        let dims = c.dims(1024).expect("complete");
        assert_eq!(
            (dims.width, dims.head, dims.inner, dims.context),
            (12, 4, 48, 1024)
        );
        assert!(!c.has("intermediate_size") && c.mentions("n_inner"));
    }

    #[test]
    fn every_refusal_names_the_file_the_key_the_value_and_what_is_wanted() {
        let c = config(
            r#"{"n_embd": 10, "n_head": 3, "num_hidden_layers": 0, "vocab_size": "many", "eps": -1, "act": "swoosh", "tie": 1}"#,
        );
        let message = |result: Result<(), ConfigError>| result.expect_err("refused").to_string();
        let size = |key: &str| message(c.size(key).map(drop));
        assert_eq!(
            message(c.dims(1).map(drop)),
            "/m/config.json: `n_embd` = 10 is not a multiple of `n_head` = 3"
        );
        let range = "it must be a whole number from 1 to 2147483648";
        assert_eq!(
            size("num_hidden_layers"),
            format!("/m/config.json: `num_hidden_layers` = 0; {range}")
        );
        assert_eq!(
            size("vocab_size"),
            format!("/m/config.json: `vocab_size` = \"many\"; {range}")
        );
        assert_eq!(
            size("max_position_embeddings"),
            format!(
                "/m/config.json: `max_position_embeddings` or `n_positions` or `n_ctx` or `max_seq_len` is absent; {range}"
            )
        );
        let eps = message(c.float("eps", 1.0).map(drop));
        assert_eq!(
            eps,
            "/m/config.json: `eps` = -1; it must be a number above 0"
        );
        let tie = message(c.flag("tie", true).map(drop));
        assert_eq!(tie, "/m/config.json: `tie` = 1; it must be true or false");
        let act = message(c.act("act", Act::Gelu).map(drop));
        assert!(
            act.starts_with("/m/config.json: `act` = \"swoosh\" is not supported; supported: gelu"),
            "{act}"
        );
    }

    #[test]
    fn files_that_are_no_configuration_are_named() {
        let absent = HfConfig::read(Path::new("/nonexistent"))
            .expect_err("no file")
            .to_string();
        assert!(
            absent.starts_with("cannot read /nonexistent/config.json: "),
            "{absent}"
        );
        for text in ["", "[]", "{\"a\": NaN}"] {
            let error =
                HfConfig::parse(PathBuf::from("c"), text.as_bytes()).expect_err("not an object");
            assert!(error.to_string().starts_with("c is not JSON: "), "{error}");
        }
    }
}
