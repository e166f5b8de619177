//! Tokenizer, incremental text, stop sequences.
//!
//! [`Tokenizer`] turns text into the ids that transformers' fast tokenizers give, and back.
//! [`TextStream`] does the way back token by token: no piece splits a code point, the pieces end
//! to end are exactly what decoding all ids at once gives, and text that might begin a stop
//! sequence waits. [`Guides`] says which tokens keep an answer to a form. [`Encoded`] is a text with where each token came from. What ends a job (end-of-text ids, lengths) is decided in `sconce-engine`.

mod bytes;
mod chat;
mod encoded;
mod error;
mod files;
mod guard;
mod guides;
mod json;
mod languages;
mod roles;
mod settings;
mod source;
mod stages;
mod stop;
mod stream;
#[cfg(test)]
mod testing;
mod tokenizer;

pub use chat::ChatTemplate;
pub use encoded::{Cut, Encoded, Encoding, TooShort};
pub use error::TextError;
pub use files::{TokenKind, Vocabulary, VocabularyModel};
pub use guides::{Fits, Follower, Guides};
pub use languages::Languages;
pub use roles::Role;
pub use stream::{Piece, TextStream};
pub use tokenizer::Tokenizer;
