//! The architectures, one file each: names, weights and a function from `config.json` to a spec.
//! A new one is such a file, a line in [`ARCHS`] and a folder in `models/tiny`.

mod gpt2;
mod gpt_neox;
mod llama;

use crate::config_error::ConfigError;
use crate::decoder::{Slot, Spec};
use crate::hf_config::HfConfig;

/// All architectures that are built in.
pub const ARCHS: &[&Arch] = &[&llama::ARCH, &gpt2::ARCH, &gpt_neox::ARCH];

/// A family of decoders, as data.
#[derive(Debug)]
pub struct Arch {
    /// Values of `architectures` in `config.json`.
    pub names: &'static [&'static str],
    /// The token that ends a text when no file says so: the library's default.
    pub eos: u32,
    /// Where the weights are, without `.weight` and `.bias`; `{}` is the layer.
    pub weights: &'static [(Slot, &'static str)],
    /// Changes made once, while loading.
    pub fixes: &'static [(Slot, Fix)],
    /// Endings of the names of tensors that are known and not needed; any other that is not read is an error.
    pub ignore: &'static [&'static str],
    /// The decoder that a configuration describes.
    pub spec: fn(&HfConfig) -> Result<Spec, ConfigError>,
}

impl Arch {
    /// Where the weights of a slot are, without `.weight` and `.bias`.
    ///
    /// # Panics
    /// When the family's spec asks for a slot that its list lacks; a test loads every family.
    pub(crate) fn weight_name(&self, slot: Slot) -> &'static str {
        let entry = self.weights.iter().find(|(listed, _)| *listed == slot);
        entry
            .expect("a family lists all slots that its spec asks for")
            .1
    }
}

/// A change made to a weight while loading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fix {
    /// Stored as `[inputs, outputs]`, as transformers' Conv1D does.
    Transpose,
}

/// The architecture that the configuration names, if it is built in and its weights are plain.
pub fn find(config: &HfConfig) -> Result<&'static Arch, ConfigError> {
    let names = config.architectures()?;
    let known = |name: &&str| ARCHS.iter().find(|arch| arch.names.contains(name)).copied();
    let Some(arch) = names.iter().find_map(known) else {
        return Err(unknown(config, &names));
    };
    config.refuse(
        "quantization_config",
        "weights stored as float32, float16 or bfloat16, without this key",
    )?;
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
        let supported = "LlamaForCausalLM, GPT2LMHeadModel, GPTNeoXForCausalLM";
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
                && code.ends_with(supported),
            "{code}"
        );
        assert!(refusal("{}").contains("`architectures` is absent"));
        let quantised = refusal(
            r#"{"architectures": ["LlamaForCausalLM"], "quantization_config": {"quant_method": "gptq"}}"#,
        );
        assert!(
            quantised
                .contains(r#"`quantization_config` = {"quant_method":"gptq"} is not supported"#),
            "{quantised}"
        );
    }
}
