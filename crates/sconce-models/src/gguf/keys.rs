//! The keys of a GGUF file as those of the `config.json` that it was made from. What llama.cpp does not write down,
//! because it computes so for all models of an architecture, is the family's default here as well.

use sconce_nn::weights::gguf::{Gguf, Metadata};
use sconce_nn::weights::{HostTensor, WeightSource};
use serde_json::{Map, Value, json};

use super::stops;
use crate::config_error::ConfigError;
use crate::hf_config::HfConfig;

/// Whole numbers that are the same thing under another name.
const SIZES: &[(&str, &str)] = &[
    ("embedding_length", "hidden_size"),
    ("block_count", "num_hidden_layers"),
    ("feed_forward_length", "intermediate_size"),
    ("attention.head_count", "num_attention_heads"),
    ("attention.head_count_kv", "num_key_value_heads"),
    ("attention.key_length", "head_dim"),
    ("expert_count", "num_experts"),
    ("expert_used_count", "num_experts_per_tok"),
    ("context_length", "max_position_embeddings"),
];

/// Sizes without which there is no decoder.
const NEEDED: &[&str] = &[
    "embedding_length",
    "block_count",
    "attention.head_count",
    "context_length",
];

/// Other numbers, left out where they are 0, which is how such files say "none".
const NUMBERS: &[(&str, &str)] = &[
    ("attention.layer_norm_epsilon", "layer_norm_eps"),
    ("attention.layer_norm_rms_epsilon", "rms_norm_eps"),
    ("rope.freq_base", "rope_theta"),
    ("logit_scale", "logit_scale"),
];

/// Numbers that are null where they are absent or 0: families have defaults for absent ones.
const NULLABLE: &[(&str, &str)] = &[
    ("attention.clamp_kqv", "clip_qkv"),
    ("attn_logit_softcapping", "attn_logit_softcapping"),
    ("final_logit_softcapping", "final_logit_softcapping"),
];

/// Rotated pairs of a head, more than any model has.
const MOST_PAIRS: usize = 1 << 16;

/// The keys of one architecture in a file, and what has been made of them so far.
pub(crate) struct Keys<'a> {
    file: &'a Gguf,
    metadata: &'a Metadata,
    architecture: &'a str,
    names: Vec<String>,
    config: Map<String, Value>,
}

impl<'a> Keys<'a> {
    pub(super) fn new(file: &'a Gguf, architecture: &'a str) -> Self {
        Self {
            file,
            metadata: file.metadata(),
            architecture,
            names: file.names(),
            config: Map::new(),
        }
    }

    pub(super) fn into_config(self) -> HfConfig {
        HfConfig::of(self.metadata.path().to_owned(), self.config)
    }

    /// Writes a key of `config.json`.
    pub(crate) fn put(&mut self, key: &str, value: impl Into<Value>) {
        self.config.insert(key.to_owned(), value.into());
    }

    /// Whether the file has a tensor of that full name.
    pub(crate) fn has_tensor(&self, name: &str) -> bool {
        let found = self
            .names
            .binary_search_by(|known| known.as_str().cmp(name));
        found.is_ok()
    }

    /// A whole number of the architecture, if the key is there. Where each layer has its own, they must be equal.
    pub(crate) fn whole(&self, key: &str) -> Result<Option<u64>, ConfigError> {
        let key = &self.full(key);
        if !self.metadata.is_list(key) {
            return Ok(self.metadata.whole(key)?);
        }
        const WANTED: &str = "one whole number, or a list in which all layers have the same";
        let mut numbers = self.metadata.numbers(key)?.into_iter().flatten();
        let first = numbers.next();
        match first {
            Some(first) if first >= 0.0 && numbers.all(|number| number == first) => {
                Ok(Some(first as u64))
            }
            _ => Err(self.metadata.refuse(key, WANTED).into()),
        }
    }

    /// A number of the architecture, if the key is there.
    pub(crate) fn number(&self, key: &str) -> Result<Option<f64>, ConfigError> {
        Ok(self.metadata.number(&self.full(key))?)
    }

    /// An error about a key of the architecture.
    pub(crate) fn refuse(&self, key: &str, wanted: &str) -> ConfigError {
        self.metadata.refuse(&self.full(key), wanted).into()
    }

    /// Numbers of a head.
    pub(crate) fn head(&self) -> Result<Option<u64>, ConfigError> {
        if let Some(head) = self.whole("attention.key_length")? {
            return Ok(Some(head));
        }
        let (width, heads) = (
            self.whole("embedding_length")?,
            self.whole("attention.head_count")?,
        );
        Ok(width
            .zip(heads)
            .and_then(|(width, heads)| width.checked_div(heads)))
    }

    /// What means the same in all architectures; `class` is that of transformers.
    pub(super) fn common(&mut self, class: &str) -> Result<(), ConfigError> {
        self.put("architectures", json!([class]));
        self.sizes()?;
        for (key, name) in NUMBERS {
            if let Some(number) = self.number(key)?.filter(|number| *number != 0.0) {
                self.put(name, number);
            }
        }
        for (key, name) in NULLABLE {
            let number = self.number(key)?.filter(|number| *number != 0.0);
            self.put(name, number);
        }
        if let Some(parallel) = self.metadata.flag(&self.full("use_parallel_residual"))? {
            self.put("use_parallel_residual", parallel);
        }
        // Converters leave the head out where it is the embedding.
        self.put("tie_word_embeddings", !self.has_tensor("output.weight"));
        let normalised = self.has_tensor("blk.0.attn_q_norm.weight");
        self.put("use_qk_norm", normalised);
        self.put("qk_layernorm", normalised);
        self.windows()?;
        self.experts()?;
        self.rotation()?;
        let stops = stops::ids(self.metadata)?;
        self.put("eos_token_id", stops);
        Ok(())
    }

    fn sizes(&mut self) -> Result<(), ConfigError> {
        for key in NEEDED {
            if self.whole(key)?.is_none() {
                return Err(self.refuse(key, "a whole number of at least 1"));
            }
        }
        // Lists with an entry for each layer are made from here on.
        let tensors = self.names.len() as u64;
        if self
            .whole("block_count")?
            .is_some_and(|layers| layers > tensors)
        {
            let wanted = format!("at most the number of tensors, {tensors}");
            return Err(self.refuse("block_count", &wanted));
        }
        for (key, name) in SIZES {
            if let Some(size) = self.whole(key)? {
                self.put(name, size);
            }
        }
        let rows = self.file.get("token_embd.weight").ok();
        let rows = rows.and_then(|embedding| Some(*embedding.shape().first()? as u64));
        if let Some(vocabulary) = rows.or(self.whole("vocab_size")?) {
            self.put("vocab_size", vocabulary);
        }
        Ok(())
    }

    fn layers(&self) -> Result<u64, ConfigError> {
        Ok(self.whole("block_count")?.unwrap_or(0))
    }

    /// Which layers see a window only: as the file says, else, with a window, as the family has it.
    fn windows(&mut self) -> Result<(), ConfigError> {
        const PATTERN: &str = "attention.sliding_window_pattern";
        let window = self
            .whole("attention.sliding_window")?
            .filter(|window| *window > 0);
        self.put("sliding_window", window);
        let layers = self.layers()?;
        let key = self.full(PATTERN);
        let windowed: Vec<bool> = if window.is_none() {
            (0..layers).map(|_| false).collect()
        } else if self.metadata.is_list(&key)
            && let Some(flags) = self.metadata.numbers(&key)?
        {
            if flags.len() as u64 != layers {
                let wanted = format!("a list with a flag for each of the {layers} layers");
                return Err(self.refuse(PATTERN, &wanted));
            }
            flags.map(|flag| flag != 0.0).collect()
        } else if let Some(every) = self.whole(PATTERN)?.filter(|every| *every > 0) {
            // The last layer of so many is whole.
            (0..layers).map(|layer| layer % every < every - 1).collect()
        } else {
            return Ok(());
        };
        let name = |windowed| match windowed {
            true => "sliding_attention",
            false => "full_attention",
        };
        let types: Vec<&str> = windowed.into_iter().map(name).collect();
        self.put("layer_types", types);
        Ok(())
    }

    /// Sizes of experts, and the layers without any.
    fn experts(&mut self) -> Result<(), ConfigError> {
        if self
            .whole("expert_count")?
            .is_none_or(|experts| experts == 0)
        {
            return Ok(());
        }
        for (key, name, tensor, dim) in [
            (
                "expert_feed_forward_length",
                "moe_intermediate_size",
                "ffn_gate_exps",
                1,
            ),
            (
                "expert_shared_feed_forward_length",
                "shared_expert_intermediate_size",
                "ffn_gate_shexp",
                0,
            ),
        ] {
            // Files before 2024 do not say it.
            let stored = self.first_layer(tensor);
            let stored = stored.and_then(|tensor| Some(*tensor.shape().get(dim)? as u64));
            if let Some(size) = self.whole(key)?.filter(|size| *size > 0).or(stored) {
                self.put(name, size);
            }
        }
        let dense = (0..self.layers()?)
            .filter(|layer| !self.has_tensor(&format!("blk.{layer}.ffn_gate_inp.weight")));
        let dense: Vec<u64> = dense.collect();
        self.put("mlp_only_layers", dense);
        Ok(())
    }

    /// A weight of the first layer that has it.
    fn first_layer(&self, slot: &str) -> Option<HostTensor> {
        let end = format!(".{slot}.weight");
        let name = self.names.iter().find(|name| name.ends_with(&end))?;
        self.file.get(name).ok()
    }

    fn rotation(&mut self) -> Result<(), ConfigError> {
        if let (Some(head), rotated) = (self.head()?, self.whole("rope.dimension_count")?)
            && head > 0
        {
            let rotated = rotated.unwrap_or(head);
            self.put("partial_rotary_factor", share(rotated, head));
        }
        let original = self.whole("rope.scaling.original_context_length")?;
        if let Some(original) = original.filter(|length| *length > 0) {
            self.put("original_max_position_embeddings", original);
        }
        if let Some(scaling) = self.scaling()? {
            self.put("rope_scaling", scaling);
        }
        Ok(())
    }

    /// The object `rope_scaling`. Divisors of frequencies are tensors in such files, Llama 3's included, which have no
    /// key that names their kind.
    fn scaling(&self) -> Result<Option<Value>, ConfigError> {
        const TYPE: &str = "rope.scaling.type";
        if let Some(divisors) = self.divisors("rope_freqs.weight")? {
            return Ok(Some(json!({
                "rope_type": "longrope",
                "short_factor": divisors,
                "long_factor": divisors,
                "attention_factor": 1.0,
            })));
        }
        if let Some(long) = self.divisors("rope_factors_long.weight")? {
            return Ok(Some(json!({
                "rope_type": "longrope",
                "short_factor": self.divisors("rope_factors_short.weight")?,
                "long_factor": long,
                "attention_factor": self.number("rope.scaling.attn_factor")?,
            })));
        }
        let kind = self.metadata.text(&self.full(TYPE))?;
        let factor = self.number("rope.scaling.factor")?;
        let linear = factor.or(self.number("rope.scale_linear")?);
        match kind {
            None if linear.is_none_or(|factor| factor == 1.0) => Ok(None),
            Some("none") => Ok(None),
            // Files of 2023 have the factor alone.
            None | Some("linear") => Ok(Some(json!({ "rope_type": "linear", "factor": linear }))),
            Some("yarn") => Ok(Some(json!({
                "rope_type": "yarn",
                "factor": factor,
                "attention_factor": self.number("rope.scaling.yarn_attn_factor")?,
                "beta_fast": self.number("rope.scaling.yarn_beta_fast")?,
                "beta_slow": self.number("rope.scaling.yarn_beta_slow")?,
            }))),
            // Without divisors, as in models of short context.
            Some("longrope") => Ok(None),
            Some(_) => Err(self.refuse(TYPE, "none, linear, yarn or longrope")),
        }
    }

    /// The numbers of a tensor of divisors, one for each rotated pair.
    fn divisors(&self, name: &str) -> Result<Option<Vec<f64>>, ConfigError> {
        if !self.has_tensor(name) {
            return Ok(None);
        }
        let tensor = self.file.get(name)?;
        if tensor.elements() > MOST_PAIRS {
            return Err(ConfigError::Value {
                file: self.metadata.path().to_owned(),
                key: name.to_owned(),
                value: format!("a tensor of {} numbers", tensor.elements()),
                wanted: format!(
                    "at most {MOST_PAIRS} numbers, one for each rotated pair of a head"
                ),
            });
        }
        // The shortest decimal, which is what the configuration had.
        let decimal = |number: f32| number.to_string().parse().unwrap_or(f64::from(number));
        let numbers = tensor.to_vec_f32()?;
        Ok(Some(numbers.into_iter().map(decimal).collect()))
    }

    fn full(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }
}

/// The share of a head that is rotated, such that the head times the share is no less than what is rotated.
fn share(rotated: u64, head: u64) -> f64 {
    let share = rotated as f64 / head as f64;
    if (head as f64 * share) as u64 == rotated {
        share
    } else {
        share.next_up()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_heads_give_back_what_is_rotated() {
        for head in 2..=256u64 {
            for rotated in 1..=head {
                let share = share(rotated, head);
                assert_eq!((head as f64 * share) as u64, rotated, "{rotated} of {head}");
            }
        }
    }
}
