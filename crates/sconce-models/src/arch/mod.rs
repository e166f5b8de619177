//! The architectures, one file each: names, weights and a function from `config.json` to a spec.
//! A new one is such a file, a line in [`ARCHS`] and a folder in `models/tiny`.

mod albert;
mod bart;
mod bert;
mod bloom;
mod cohere;
mod common;
mod deberta;
mod distilbert;
mod electra;
mod encoders;
mod falcon;
mod gemma;
pub(crate) mod gguf;
mod gpt2;
mod gpt_bigcode;
mod gpt_neo;
mod gpt_neox;
mod gptj;
mod granite;
mod led;
mod llama;
mod m2m;
mod marian;
mod mistral;
mod mixtral;
mod modernbert;
mod mpnet;
mod mpt;
mod olmo;
mod opt;
mod pegasus;
mod phi;
mod phi3;
mod qwen2;
mod qwen3;
mod qwen_moe;
mod roberta;
mod seq2seqs;
mod smollm3;
mod stablelm;
mod starcoder2;
mod t5;

pub use encoders::{ENCODERS, EncoderArch, find_encoder};
pub use seq2seqs::{SEQ2SEQS, Seq2SeqArch, find_seq2seq};

use crate::config_error::ConfigError;
use crate::decoder::{Slot, Spec};
use crate::hf_config::HfConfig;
use crate::packing::packing;

/// All architectures that are built in.
pub const ARCHS: &[&Arch] = &[
    &llama::ARCH,
    &mistral::ARCH,
    &mixtral::ARCH,
    &qwen2::ARCH,
    &qwen3::ARCH,
    &qwen_moe::QWEN2,
    &qwen_moe::QWEN3,
    &gemma::GEMMA,
    &gemma::GEMMA2,
    &gemma::GEMMA3,
    &phi::ARCH,
    &phi3::ARCH,
    &stablelm::ARCH,
    &olmo::OLMO,
    &olmo::OLMO2,
    &granite::ARCH,
    &cohere::COHERE,
    &cohere::COHERE2,
    &smollm3::ARCH,
    &starcoder2::ARCH,
    &falcon::ARCH,
    &mpt::ARCH,
    &bloom::ARCH,
    &opt::ARCH,
    &gpt2::ARCH,
    &gpt_bigcode::ARCH,
    &gpt_neo::ARCH,
    &gpt_neox::ARCH,
    &gptj::GPTJ,
    &gptj::CODEGEN,
];

/// Slots and the names of their weights.
pub type Names = &'static [(Slot, &'static str)];

/// A family of decoders, as data.
#[derive(Debug)]
pub struct Arch {
    /// Values of `architectures` in `config.json`.
    pub names: &'static [&'static str],
    /// The token that ends a text when no file says so: the library's default, if there is one.
    pub eos: Option<u32>,
    /// Where the weights are, without `.weight` and `.bias`, as lists of which several families share some. `{}` is
    /// the layer, `{item}` the expert or head. A slot with several names has the first that the checkpoint has.
    pub weights: &'static [Names],
    /// Changes made once, while loading.
    pub fixes: &'static [(Slot, Fix)],
    /// Endings of the names of tensors that are known and not needed; any other that is not read is an error.
    pub ignore: &'static [&'static str],
    /// The decoder that a configuration describes.
    pub spec: fn(&HfConfig) -> Result<Spec, ConfigError>,
}

impl Arch {
    /// Where the weights of a slot may be, without `.weight` and `.bias`; nothing for a slot that the family lacks.
    pub(crate) fn names_of(&self, slot: Slot) -> impl Iterator<Item = &'static str> {
        let all = self.weights.iter().flat_map(|names| names.iter());
        all.filter(move |(listed, _)| *listed == slot)
            .map(|(_, name)| *name)
    }

    /// Whether each head or expert of a slot has a tensor of its own.
    pub(crate) fn is_itemised(&self, slot: Slot) -> bool {
        self.names_of(slot).any(|name| name.contains("{item}"))
    }
}

/// A change made to a weight while loading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fix {
    /// Stored as `[inputs, outputs]`, as transformers' Conv1D does.
    Transpose,
}

/// The architecture that the configuration names, if it is built in and its weights can be read.
pub fn find(config: &HfConfig) -> Result<&'static Arch, ConfigError> {
    let names = config.architectures()?;
    let known = |name: &&str| ARCHS.iter().find(|arch| arch.names.contains(name)).copied();
    let Some(arch) = names.iter().find_map(known) else {
        return Err(unknown(config, &names));
    };
    packing(config)?;
    Ok(arch)
}

fn unknown(config: &HfConfig, names: &[&str]) -> ConfigError {
    let all: Vec<&str> = ARCHS.iter().flat_map(|arch| arch.names).copied().collect();
    let supported = all.join(", ");
    if names.is_empty() {
        return config.absent(
            "architectures",
            "a list with the class name of the model, such as [\"LlamaForCausalLM\"]",
        );
    }
    let found = serde_json::Value::from(names);
    if config.has("auto_map") {
        let file = config.file().to_owned();
        return ConfigError::RemoteCode {
            file,
            found: found.to_string(),
            supported,
        };
    }
    config.unsupported("architectures", &found, &supported)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        let config = HfConfig::parse("config.json".into(), text.as_bytes()).expect("valid JSON");
        find(&config).expect_err("refused").to_string()
    }

    #[test]
    fn architectures_that_are_not_built_in_are_refused_with_the_list_of_those_that_are() {
        let names = ARCHS.iter().flat_map(|arch| arch.names);
        let supported = names.copied().collect::<Vec<_>>().join(", ");
        assert!(supported.starts_with("LlamaForCausalLM, "));
        assert_eq!(
            refusal(r#"{"architectures": ["MambaForCausalLM"]}"#),
            format!(
                "config.json: `architectures` = [\"MambaForCausalLM\"] is not supported; supported: {supported}"
            )
        );
        let code = refusal(
            r#"{"architectures": ["ChatGLMModel"], "auto_map": {"AutoModel": "m.ChatGLMModel"}}"#,
        );
        assert!(
            code.contains("code of its own (`auto_map`), which is not run; supported")
                && code.ends_with(&supported),
            "{code}"
        );
        assert!(refusal("{}").contains("`architectures` is absent"));
        let quantised = refusal(
            r#"{"architectures": ["LlamaForCausalLM"], "quantization_config": {"quant_method": "hqq"}}"#,
        );
        assert!(
            quantised.contains(r#"`quant_method` = "hqq" is not supported; supported: awq, gptq"#),
            "{quantised}"
        );
    }
}
