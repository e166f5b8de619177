//! GPT-BigCode (SantaCoder, StarCoder): GPT-2 with linear layers that are not transposed, and one key/value head for
//! all queries unless `multi_query` is false.
//! Reference: transformers `models/gpt_bigcode/modeling_gpt_bigcode.py`.

use sconce_nn::Act;

use super::{Arch, gpt2};
use crate::config_error::ConfigError;
use crate::decoder::{Qkv, Spec};
use crate::hf_config::HfConfig;

pub(super) const ARCH: Arch = Arch {
    names: &["GPTBigCodeForCausalLM"],
    eos: Some(50_256),
    weights: &[gpt2::WEIGHTS],
    fixes: &[],
    ignore: &["attn.bias", "attn.masked_bias"],
    spec,
};

fn spec(c: &HfConfig) -> Result<Spec, ConfigError> {
    let mut spec = gpt2::common(c, Act::GeluTanh)?;
    if c.flag("multi_query", true)? {
        spec.dims.kv_heads = 1;
    } else {
        spec.qkv = Qkv::PerGroup;
    }
    Ok(spec)
}
