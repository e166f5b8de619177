//! Rules on a small vocabulary.

use super::*;
use crate::testing::byte_level;

#[test]
fn rules_that_cannot_be_kept_say_why() {
    let tokenizer = byte_level();
    let guides = Guides::new(&tokenizer, tokenizer.vocab_size(), &[0]).expect("a trie");
    let refused = |rule: Rule| guides.follow(&rule).err().expect("refused");
    let remote = json!({"properties": {"a": {"$ref": "http://example.com/a.json"}}});
    for (rule, part) in [
        (Rule::Schema(remote.to_string()), "is not fetched"),
        (Rule::Schema("[]".into()), "must be an object"),
        (Rule::Schema("{".into()), "EOF"),
        (
            Rule::Schema(json!({"type": "string", "minLength": 3, "maxLength": 1}).to_string()),
            "nsatisf",
        ),
        (Rule::Regex("a".repeat(1 << 20)), "1048576 bytes"),
        (Rule::Regex("(".into()), ""),
        (Rule::Grammar("start: missing".into()), "missing"),
    ] {
        let text = refused(rule);
        assert!(text.contains(part) && !text.is_empty(), "{text}");
    }
    assert!(Guides::new(&tokenizer, tokenizer.vocab_size(), &[]).is_err());
}

/// Whatever is picked among what is possible, the text fits; picks are pseudo-random.
#[test]
fn whatever_is_picked_keeps_to_the_rule() {
    let tokenizer = byte_level();
    let vocab = tokenizer.vocab_size();
    let guides = Guides::new(&tokenizer, vocab, &[0]).expect("a trie");
    let choices = ["yes".to_owned(), "no".to_owned(), "Größe\n\"".to_owned()];
    for seed in 0..50u64 {
        let mut follower = guides
            .follow(&Rule::Choice(choices.to_vec()))
            .expect("a rule");
        let mut written = Vec::new();
        for step in 0..64 {
            let mut scores = vec![0.0; vocab];
            follower.restrict(&mut scores).expect("a mask");
            let fits: Vec<u32> = (0..vocab as u32)
                .filter(|&id| scores[id as usize] == 0.0)
                .collect();
            let hash = (seed * 64 + step).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33;
            let token = fits[hash as usize % fits.len()];
            follower.take(token).expect("a step");
            if token == 0 {
                break;
            }
            written.push(token);
        }
        let text = tokenizer.decode(&written, true).expect("text");
        assert!(choices.contains(&text), "{text:?}");
    }
}
