//! ModernBERT: rotary positions, windows in most layers, norms before attention and MLP, a gated MLP.
//! Reference: transformers `models/modernbert/modeling_modernbert.py`.

use sconce_nn::Act;

use super::encoders::{EncoderArch, classes, spans};
use crate::config_error::ConfigError;
use crate::decoder::{Affine, NormKind};
use crate::encoder::{
    Dense, EncoderDims, EncoderMlp, EncoderSpec, HeadKind, HeadSpec, Order, Out, Over, Place,
};
use crate::hf_config::HfConfig;
use crate::rope_config::RopeDefaults;

pub(super) const ARCH: EncoderArch = EncoderArch {
    family: "ModernBert",
    model_type: "modernbert",
    weights: &[&[
        (Place::Embed, "model.embeddings.tok_embeddings"),
        (Place::EmbedNorm, "model.embeddings.norm"),
        (Place::AttnNorm, "model.layers.{}.attn_norm"),
        (Place::Qkv, "model.layers.{}.attn.Wqkv"),
        (Place::AttnOut, "model.layers.{}.attn.Wo"),
        (Place::MlpNorm, "model.layers.{}.mlp_norm"),
        (Place::GateUp, "model.layers.{}.mlp.Wi"),
        (Place::Down, "model.layers.{}.mlp.Wo"),
        (Place::FinalNorm, "model.final_norm"),
    ]],
    heads: &["head", "decoder", "classifier"],
    ignore: &[],
    spec,
    head,
};

fn spec(c: &HfConfig) -> Result<EncoderSpec, ConfigError> {
    let sizes = c.dims(8192)?;
    let dims = EncoderDims {
        width: sizes.width,
        embed: sizes.width,
        heads: sizes.heads,
        inner: c.size_or("intermediate_size", 1152)?,
        vocab: sizes.vocab,
        positions: 0,
        types: 0,
        context: sizes.context,
    };
    let every = c.size_or("global_attn_every_n_layers", 3)?;
    let windowed = c.windowed_layers(sizes.layers, |layer| layer % every != 0)?;
    let reach = c.size_or("local_attention", 128)? / 2;
    let global = c.float("global_rope_theta", 160_000.0)?;
    let local = c.float("local_rope_theta", 10_000.0)?;
    let mut spec = EncoderSpec::plain(dims, sizes.layers, norm(c)?, Act::Gelu);
    spec.order = Order::Pre;
    spec.stacked_qkv = true;
    spec.attention_biases = c.flag("attention_bias", false)?;
    spec.mlp = EncoderMlp::Gated {
        act: c.act("hidden_activation", Act::Gelu)?,
        biases: c.flag("mlp_bias", false)?,
    };
    spec.final_norm = true;
    spec.ropes = vec![
        c.rope_of("full_attention", &sizes, RopeDefaults::whole(global))?,
        c.rope_of("sliding_attention", &sizes, RopeDefaults::whole(local))?,
    ];
    for (index, layer) in spec.layers.iter_mut().enumerate() {
        layer.reach = windowed[index].then_some(reach);
        layer.rope = Some(usize::from(windowed[index]));
        layer.attn_norm = index > 0;
    }
    Ok(spec)
}

fn norm(c: &HfConfig) -> Result<NormKind, ConfigError> {
    Ok(NormKind::Layer {
        eps: c.float("norm_eps", 1e-5)?,
        affine: if c.flag("norm_bias", false)? {
            Affine::Full
        } else {
            Affine::Weight
        },
    })
}

/// All heads begin with the same projection and norm.
fn head(c: &HfConfig, kind: HeadKind) -> Result<HeadSpec, ConfigError> {
    let dense = Some(Dense {
        name: "head.dense",
        bias: c.flag("classifier_bias", false)?,
        act: c.act("classifier_activation", Act::Gelu)?,
        width: c.size("hidden_size")?,
    });
    let spec = match kind {
        HeadKind::Sequence => {
            c.refuse_unless("classifier_pooling", &["cls", "mean"])?;
            let pooling = c.find("classifier_pooling");
            let mean = pooling.is_some_and(|(_, value)| value == "mean");
            let over = if mean { Over::Mean } else { Over::First };
            classes(c, over, dense, "classifier")?
        }
        HeadKind::Tokens => classes(c, Over::Each, dense, "classifier")?,
        HeadKind::Span => HeadSpec {
            dense,
            ..spans("classifier")
        },
        HeadKind::Mask => HeadSpec {
            over: Over::Each,
            dense,
            norm: None,
            out: Out::Tied {
                name: "decoder",
                biases: if c.flag("decoder_bias", true)? {
                    &["decoder.bias"]
                } else {
                    &[]
                },
            },
            outputs: c.size("vocab_size")?,
            keys: "vocab_size, hidden_size",
        },
    };
    Ok(HeadSpec {
        norm: Some(("head.norm", norm(c)?)),
        ..spec
    })
}
