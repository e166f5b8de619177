//! Bytes that arrive in pieces: GPT-2's spelling of bytes as characters, and UTF-8 cut anywhere.

use std::sync::LazyLock;

/// Highest character of the spelling, plus one.
const END: usize = 324;

/// Character → byte, the inverse of `bytes_to_unicode` in GPT-2's `encoder.py`.
static BYTE_OF: LazyLock<[Option<u8>; END]> = LazyLock::new(|| {
    let mut byte_of = [None; END];
    let mut shifted = 256;
    for byte in 0..=u8::MAX {
        let printable = matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
        let at = if printable {
            usize::from(byte)
        } else {
            shifted
        };
        shifted += usize::from(!printable);
        byte_of[at] = Some(byte);
    }
    byte_of
});

/// How GPT-2 spells a byte.
pub(crate) fn character_of(byte: u8) -> char {
    let found = BYTE_OF.iter().position(|spelled| *spelled == Some(byte));
    let found = found.and_then(|at| char::from_u32(at as u32));
    found.expect("every byte is spelled")
}

/// Appends the bytes that a byte-level token spells; a token with any other character (an added
/// token) stands for its own UTF-8.
pub(crate) fn spell(token: &str, bytes: &mut Vec<u8>) {
    let start = bytes.len();
    for character in token.chars() {
        match BYTE_OF.get(character as usize).copied().flatten() {
            Some(byte) => bytes.push(byte),
            None => {
                bytes.truncate(start);
                bytes.extend_from_slice(token.as_bytes());
                return;
            }
        }
    }
}

/// Moves what can be decided from `bytes` to a text: whole characters, and U+FFFD for each
/// maximal invalid part, as `String::from_utf8_lossy` does. At most 3 bytes stay, which may be
/// the beginning of a character.
pub(crate) fn take_characters(bytes: &mut Vec<u8>) -> String {
    let mut text = String::new();
    let mut done = 0;
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        done += chunk.valid().len();
        let invalid = chunk.invalid();
        if invalid.is_empty() || may_continue(invalid, done + invalid.len() == bytes.len()) {
            break;
        }
        text.push(char::REPLACEMENT_CHARACTER);
        done += invalid.len();
    }
    bytes.drain(..done);
    text
}

fn may_continue(part: &[u8], last: bool) -> bool {
    // No error length: the part is right as far as it goes.
    last && std::str::from_utf8(part).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokenizers::Decoder;
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    #[test]
    fn every_byte_has_one_spelling_and_it_is_gpt_2s() {
        let spelled: Vec<u8> = BYTE_OF.iter().flatten().copied().collect();
        assert_eq!(spelled.len(), 256);
        for character in ByteLevel::alphabet() {
            assert!(
                BYTE_OF[character as usize].is_some(),
                "{character} spells no byte"
            );
        }
        let mut bytes = Vec::new();
        spell("ĠAĊ", &mut bytes);
        assert_eq!(bytes, b" A\n");
    }

    proptest! {
        #[test]
        fn pieces_of_any_bytes_join_to_the_lossy_text(
            bytes in proptest::collection::vec(
                prop_oneof![any::<u8>(), 0x80u8..0xC0, 0xE0u8..0xF5, Just(b'a')], 0..40),
            cut in 1usize..5,
        ) {
            let (mut pending, mut text) = (Vec::new(), String::new());
            for part in bytes.chunks(cut) {
                pending.extend_from_slice(part);
                text.push_str(&take_characters(&mut pending));
                prop_assert!(pending.len() < 4);
            }
            text.push_str(&String::from_utf8_lossy(&pending));
            prop_assert_eq!(text, String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn tokens_spell_what_the_byte_level_decoder_reads(token in "[Ġ-ńa-z é世]{0,6}") {
            let mut bytes = Vec::new();
            spell(&token, &mut bytes);
            let read = ByteLevel::default().decode_chain(vec![token]).unwrap();
            prop_assert_eq!(String::from_utf8_lossy(&bytes), read.concat());
        }
    }
}
