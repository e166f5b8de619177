//! The decoder, the encoder, the encoder-decoder, and their architectures.
//!
//! `config.json` ([`HfConfig`]) names an [`Arch`], which turns it into a [`Spec`]; the spec and a checkpoint make a
//! [`Decoder`], which turns steps into logits. [`EncoderArch`], [`encoder::EncoderSpec`] and [`encoder::Encoder`] are
//! the same for models that read texts as a whole, [`Seq2SeqArch`] and [`seq2seq`] for those that read one and write
//! another, and [`diffusion`] has what makes pictures. A GGUF file is read as the configuration that it was made from
//! ([`GgufModel`]). Layers and kernels are `sconce-nn`'s, batching is the engine's.

pub mod adapter;
pub mod arch;
mod config_error;
pub mod decoder;
pub mod diffusion;
pub mod encoder;
mod generation_config;
pub mod gguf;
mod hf_config;
mod layers;
mod model;
mod packing;
mod rope_config;
pub mod seq2seq;
mod stop_tokens;

pub use adapter::{Adapter, AdapterError, AdapterLoader, adapter_rank};
pub use arch::{
    ARCHS, Arch, ENCODERS, EncoderArch, SEQ2SEQS, Seq2SeqArch, find, find_encoder, find_seq2seq,
};
pub use config_error::ConfigError;
pub use decoder::{Decoder, Footprint, LoadError, LoadOptions, Quantisation, Spec, Working};
pub use generation_config::{length_default, sampling_defaults};
pub use gguf::GgufModel;
pub use hf_config::HfConfig;
pub use model::Model;
pub use packing::{Packing, packing, unpacked};
pub use rope_config::RopeDefaults;
pub use stop_tokens::eos_token_ids;
