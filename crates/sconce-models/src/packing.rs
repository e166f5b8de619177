//! `quantization_config` in `config.json`: which packing of matrices the checkpoint has, or why it cannot be served.

use std::fmt;
use std::sync::Arc;

use sconce_nn::weights::{Packed, PackedKind, Unpacked, WeightError, WeightSource};

use crate::config_error::ConfigError;
use crate::hf_config::HfConfig;

/// The packings that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Of AutoAWQ.
    Awq,
    /// Of AutoGPTQ and GPTQModel.
    Gptq,
}

/// Where the key's values are.
const KEY: &str = "quantization_config";

/// What can be read, for messages.
const SUPPORTED: &str = "awq, gptq; or the checkpoint it was made from, with option.quantize=int4 or int8";

impl fmt::Display for Packing {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Awq => "awq",
            Self::Gptq => "gptq",
        })
    }
}

/// How the matrices of the checkpoint are packed; `None`: they are not.
pub fn packing(config: &HfConfig) -> Result<Option<(Packing, Packed)>, ConfigError> {
    if !config.has(KEY) {
        return Ok(None);
    }
    let keys = config.object(KEY)?;
    let method = keys.word("quant_method")?.unwrap_or_default();
    let bits = |supported: &[usize]| {
        let bits = keys.size("bits").or_else(|_| keys.size("w_bit"))?;
        if supported.contains(&bits) {
            return Ok(bits);
        }
        let supported: Vec<_> = supported.iter().map(usize::to_string).collect();
        keys.refuse("bits", &supported.join(", ")).map(|()| bits)
    };
    let packed = match method {
        "awq" => {
            keys.refuse_unless_absent("version", &["gemm", "GEMM"])?;
            keys.refuse_false("zero_point", "true: scales with zeros")?;
            Packed {
                kind: PackedKind::Awq,
                bits: bits(&[4])?,
                group: keys.group()?,
                symmetric: false,
            }
        }
        "gptq" => {
            keys.refuse_unless_absent("checkpoint_format", &["gptq", "gptq_v2"])?;
            let less_one = keys.word("checkpoint_format")? != Some("gptq_v2");
            Packed {
                kind: PackedKind::Gptq {
                    act_order: keys.flag("desc_act", false)?,
                    less_one,
                },
                bits: bits(&[4, 8])?,
                group: keys.group()?,
                symmetric: keys.flag("sym", true)?,
            }
        }
        _ => {
            let method = serde_json::Value::from(method);
            return Err(keys.unsupported("quant_method", &method, SUPPORTED));
        }
    };
    let packing = match packed.kind {
        PackedKind::Awq => Packing::Awq,
        PackedKind::Gptq { .. } => Packing::Gptq,
    };
    Ok(Some((packing, packed)))
}

/// The weights as the decoder asks for them: unpacked, where `config.json` says that they are packed.
pub fn unpacked(
    config: &HfConfig,
    source: Arc<dyn WeightSource>,
) -> Result<Arc<dyn WeightSource>, WeightError> {
    match packing(config) {
        Ok(Some((_, packed))) => Ok(Arc::new(Unpacked::new(source, packed)?)),
        // What is wrong with the configuration is said where it is read.
        Ok(None) | Err(_) => Ok(source),
    }
}

impl HfConfig {
    /// Inputs that share a scale; none when all do, which is written as -1.
    fn group(&self) -> Result<Option<usize>, ConfigError> {
        let key = if self.has("group_size") {
            "group_size"
        } else {
            "q_group_size"
        };
        match self.find(key) {
            Some((_, value)) if value.as_i64() == Some(-1) => Ok(None),
            _ => self.size_or(key, 128).map(Some),
        }
    }

    /// A name; none when absent.
    fn word(&self, key: &str) -> Result<Option<&str>, ConfigError> {
        match self.find(key) {
            None => Ok(None),
            Some((key, value)) => match value.as_str() {
                Some(word) => Ok(Some(word)),
                None => Err(self.wrong(key, value, "a name")),
            },
        }
    }

    /// Refuses a name that is not among those that are implemented.
    fn refuse_unless_absent(&self, key: &str, names: &[&str]) -> Result<(), ConfigError> {
        if self.has(key) {
            self.refuse_unless(key, names)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(keys: &str) -> Result<Option<(Packing, Packed)>, ConfigError> {
        let text = format!(r#"{{"quantization_config": {{{keys}}}}}"#);
        packing(&HfConfig::parse("config.json".into(), text.as_bytes()).unwrap())
    }

    #[test]
    fn what_tools_write_is_read() {
        let awq = r#""bits": 4, "group_size": 128, "modules_to_not_convert": null,
            "quant_method": "awq", "version": "gemm", "zero_point": true"#;
        let (packing, packed) = read(awq).unwrap().unwrap();
        assert_eq!((packing, packed.kind, packed.bits), (Packing::Awq, PackedKind::Awq, 4));
        assert_eq!((packed.group, packed.symmetric), (Some(128), false));
        let gptq = r#""bits": 8, "damp_percent": 0.1, "desc_act": true, "group_size": -1,
            "quant_method": "gptq", "sym": true, "true_sequential": true"#;
        let (packing, packed) = read(gptq).unwrap().unwrap();
        let kind = PackedKind::Gptq {
            act_order: true,
            less_one: true,
        };
        assert_eq!((packing, packed.kind, packed.bits), (Packing::Gptq, kind, 8));
        assert_eq!((packed.group, packed.symmetric), (None, true));
        let second = r#""bits": 4, "group_size": 32, "quant_method": "gptq", "sym": false,
            "checkpoint_format": "gptq_v2""#;
        let (_, packed) = read(second).unwrap().unwrap();
        assert!(matches!(packed.kind, PackedKind::Gptq { less_one: false, .. }));
        let plain = HfConfig::parse("config.json".into(), b"{}").unwrap();
        assert!(super::packing(&plain).unwrap().is_none());
    }

    #[test]
    fn other_methods_are_refused_by_name_with_the_cure() {
        for (keys, parts) in [
            (
                r#""quant_method": "bitsandbytes", "load_in_4bit": true"#,
                ["`quant_method` = \"bitsandbytes\"", "option.quantize=int4"],
            ),
            (r#""quant_method": "fp8""#, ["\"fp8\"", "option.quantize"]),
            (
                r#""quant_method": "compressed-tensors""#,
                ["\"compressed-tensors\"", "awq, gptq"],
            ),
            (
                r#""quant_method": "gptq", "bits": 3, "group_size": 128"#,
                ["`bits` = 3", "4, 8"],
            ),
            (
                r#""quant_method": "gptq", "bits": 4, "checkpoint_format": "marlin""#,
                ["`checkpoint_format` = \"marlin\"", "gptq, gptq_v2"],
            ),
            (
                r#""quant_method": "awq", "bits": 4, "version": "gemv""#,
                ["`version` = \"gemv\"", "gemm"],
            ),
            (
                r#""quant_method": "awq", "bits": 4, "zero_point": false"#,
                ["`zero_point` = false", "true"],
            ),
            (
                r#""quant_method": "gptq", "bits": 4, "group_size": 0"#,
                ["`group_size` = 0", "from 1"],
            ),
            (r#""quant_method": 5"#, ["`quant_method` = 5", "a name"]),
        ] {
            let message = read(keys).unwrap_err().to_string();
            assert!(parts.iter().all(|part| message.contains(part)), "{message}");
        }
    }
}
