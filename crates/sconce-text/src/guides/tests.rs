//! Rules on a small vocabulary.

use super::*;
use crate::testing::byte_level;

#[test]
fn rules_that_cannot_be_kept_say_why() {
    let tokenizer = byte_level();
    let guides = Guides::new(&tokenizer, tokenizer.vocab_size(), &[0]).expect("a trie");
    let refused = |rule: Rule| guides.follow(&rule.into()).err().expect("refused");
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
            .follow(&Rule::Choice(choices.to_vec()).into())
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

/// Each nests as deeply as its longest text allows. The caller's stack is a small one, as those of requests are.
#[test]
fn the_deepest_grammars_and_schemas_end_no_thread() {
    let within = |open: &str, inner: &str, close: &str, most: usize| {
        let times = (most - inner.len()) / (open.len() + close.len());
        format!("{}{inner}{}", open.repeat(times), close.repeat(times))
    };
    let grammar = |rule: String| Rule::Grammar(format!("start: {rule}"));
    let most = LONGEST_GRAMMAR - 16;
    let rules = [
        grammar(within("(", "\"a\"", ")", most)),
        grammar(within("[", "\"a\"", "]", most)),
        grammar(within("(", "\"a\"", ")*", most)),
        grammar(within("(\"b\"|", "\"a\"", ")", most)),
        grammar(format!("T\nT: {}", within("(", "\"a\"", ")?", most))),
        grammar(format!("T\nT: {}", within("~(", "\"a\"", ")", most))),
        grammar(format!("/{}/", within("(", "a", ")", most))),
        Rule::Regex(within("(", "a", ")", LONGEST)),
        Rule::Regex(within("(?:a|", "a", ")", LONGEST)),
        Rule::Schema(within("{\"not\":", "{}", "}", LONGEST)),
        Rule::Schema(within("{\"items\":", "{}", "}", 900)),
        Rule::Schema(chained(LONGEST)),
    ];
    let small = std::thread::Builder::new().stack_size(256 << 10);
    let thread = small.spawn(move || {
        let tokenizer = byte_level();
        let guides = Guides::new(&tokenizer, tokenizer.vocab_size(), &[0]).expect("a trie");
        for rule in rules {
            if let Err(cause) = guides.follow(&rule.into()) {
                assert!(!cause.is_empty());
            }
        }
    });
    thread.expect("a thread").join().expect("no panic");
}

/// Definitions that each refer to the next.
fn chained(most: usize) -> String {
    let count = most / 40;
    let next = |at: usize| format!("\"{at}\":{{\"$ref\":\"#/$defs/{}\"}}", at + 1);
    let defs: Vec<_> = (0..count).map(next).collect();
    format!(
        "{{\"$ref\":\"#/$defs/0\",\"$defs\":{{{},\"{count}\":{{}}}}}}",
        defs.join(",")
    )
}

#[test]
fn a_form_that_is_complete_leaves_nothing_but_the_end() {
    let tokenizer = byte_level();
    let vocab = tokenizer.vocab_size();
    let guides = Guides::new(&tokenizer, vocab, &[0]).expect("a trie");
    let id = |text: &str| tokenizer.encode_bare(text).expect("tokens")[0];
    for (form, fits) in [("a", Fits::End), ("a+", Fits::Words)] {
        let mut follower = guides
            .follow(&Rule::Regex(form.into()).into())
            .expect("a rule");
        let mut scores = vec![0.0; vocab];
        assert_eq!(follower.restrict(&mut scores), Ok(Fits::Words));
        follower.take(id("a")).expect("a step");
        let mut scores = vec![0.0; vocab];
        assert_eq!(follower.restrict(&mut scores), Ok(fits), "{form}");
        assert_eq!(scores[0], 0.0, "it may end");
    }
}
