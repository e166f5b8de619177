//! LED: BART with an encoder that looks only so far, and longer tables of positions. Tokens that see all others, and that
//! all see, are not served: the pipelines name none, so that their weights are not needed.
//! Reference: transformers `models/led/modeling_led.py`.

use sconce_nn::Act;
use serde_json::Value;

use super::seq2seqs::{BartForm, Seq2SeqArch};
use crate::config_error::ConfigError;
use crate::encoder::Order;
use crate::hf_config::HfConfig;
use crate::seq2seq::{Positions, Seat, SeatNames, Seq2SeqSpec};

/// BART's names in a base model of another name.
const NAMES: SeatNames = &[
    (Seat::Shared, "led.shared"),
    (Seat::Shared, "led.encoder.embed_tokens"),
    (Seat::Shared, "led.decoder.embed_tokens"),
    (Seat::Head, "lm_head"),
    (Seat::LogitsBias, "final_logits_bias"),
    (Seat::Positions, "led.{side}.embed_positions"),
    (Seat::EmbedNorm, "led.{side}.layernorm_embedding"),
    (Seat::FinalNorm, "led.{side}.layer_norm"),
    (Seat::Query, "led.{side}.layers.{}.self_attn.q_proj"),
    (Seat::Key, "led.{side}.layers.{}.self_attn.k_proj"),
    (Seat::Value, "led.{side}.layers.{}.self_attn.v_proj"),
    (Seat::Out, "led.{side}.layers.{}.self_attn.out_proj"),
    (Seat::AttnNorm, "led.{side}.layers.{}.self_attn_layer_norm"),
    (
        Seat::CrossQuery,
        "led.decoder.layers.{}.encoder_attn.q_proj",
    ),
    (Seat::CrossKey, "led.decoder.layers.{}.encoder_attn.k_proj"),
    (
        Seat::CrossValue,
        "led.decoder.layers.{}.encoder_attn.v_proj",
    ),
    (
        Seat::CrossOut,
        "led.decoder.layers.{}.encoder_attn.out_proj",
    ),
    (
        Seat::CrossNorm,
        "led.decoder.layers.{}.encoder_attn_layer_norm",
    ),
    (Seat::Up, "led.{side}.layers.{}.fc1"),
    (Seat::Down, "led.{side}.layers.{}.fc2"),
    (Seat::MlpNorm, "led.{side}.layers.{}.final_layer_norm"),
];

/// The names of the encoder where they differ.
const LOCAL_NAMES: SeatNames = &[
    (
        Seat::Query,
        "led.encoder.layers.{}.self_attn.longformer_self_attn.query",
    ),
    (
        Seat::Key,
        "led.encoder.layers.{}.self_attn.longformer_self_attn.key",
    ),
    (
        Seat::Value,
        "led.encoder.layers.{}.self_attn.longformer_self_attn.value",
    ),
    (Seat::Out, "led.encoder.layers.{}.self_attn.output"),
];

pub(super) const ARCH: Seq2SeqArch = Seq2SeqArch {
    name: "LEDForConditionalGeneration",
    weights: &[NAMES],
    encoder: LOCAL_NAMES,
    decoder: &[],
    ignore: &[
        "query_global.weight",
        "query_global.bias",
        "key_global.weight",
        "key_global.bias",
        "value_global.weight",
        "value_global.bias",
    ],
    spec,
};

fn spec(c: &HfConfig) -> Result<Seq2SeqSpec, ConfigError> {
    let form = BartForm {
        positions: Positions::Learned { offset: 0 },
        scaled: false,
        embed_norm: true,
        order: Order::Post,
        context: 1024,
        act: Act::Gelu,
    };
    let mut spec = form.spec(c)?;
    spec.encoder.context = Some(c.size_or("max_encoder_position_embeddings", 16_384)?);
    spec.decoder.context = Some(c.size_or("max_decoder_position_embeddings", 1024)?);
    spec.reaches = reaches(c, spec.encoder.layers)?;
    Ok(spec)
}

/// Half of `attention_window`: one number, or one for each layer.
fn reaches(c: &HfConfig, layers: usize) -> Result<Vec<usize>, ConfigError> {
    const KEY: &str = "attention_window";
    let default = Value::from(512);
    let said = c.find(KEY).map_or(&default, |(_, said)| said);
    let windows = match said {
        Value::Array(windows) if windows.len() == layers => windows.clone(),
        Value::Array(_) => {
            let wanted = format!("one number for each of {layers} layers");
            return Err(c.wrong(KEY, said, &wanted));
        }
        one => vec![one.clone(); layers],
    };
    let half = |window: &Value| {
        let even = window.as_u64().filter(|size| *size > 0 && size % 2 == 0);
        let wrong = || c.wrong(KEY, window, "an even number above 0");
        even.map(|size| size as usize / 2).ok_or_else(wrong)
    };
    windows.iter().map(half).collect()
}
