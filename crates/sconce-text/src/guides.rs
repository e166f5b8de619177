//! Guided decoding: which tokens may come next so that an answer keeps to a form.
//!
//! The crate `llguidance` compiles rules and walks through them; here are the bytes of the vocabulary, what is compiled
//! already, and limits; `bytes` spells tokens, `depth` compiles with room for deep rules. A follower belongs to one answer and depends on nothing else.

mod bytes;
mod depth;

use std::sync::{Arc, Mutex, PoisonError};

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use sconce_core::guide::Rule;
use serde_json::{Value, json};

use crate::tokenizer::Tokenizer;

/// Longest rule, in bytes.
const LONGEST: usize = 256 << 10;
/// Longest grammar, in bytes. Whoever compiles it calls itself for each thing within another, so this bounds how deep.
const LONGEST_GRAMMAR: usize = 8 << 10;
/// Rules that stay compiled.
const KEPT: usize = 64;
/// White space between two things in JSON: enough for a line and its indentation. Without a bound a model may write
/// nothing else.
const SPACE: &str = r"[\x20\x0A\x0D\x09]{1,32}";

/// Compiles rules for one vocabulary.
pub struct Guides {
    factory: ParserFactory,
    /// Those used last are at the end.
    compiled: Mutex<Vec<(Arc<Rule>, Arc<Fresh>)>>,
    ends: Arc<[u32]>,
}

/// A compiled rule that no answer has followed yet; copies are made of it.
struct Fresh(Mutex<Matcher>);

/// Follows a rule along one answer.
pub struct Follower {
    matcher: Matcher,
    /// The tokens that end a text.
    ends: Arc<[u32]>,
}

/// What may come next in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fits {
    /// Something that goes on with it.
    Words,
    /// Nothing but its end.
    End,
}

impl Guides {
    /// For a model with so many rows of logits, whose answers end with one of the tokens `ends`.
    pub fn new(tokenizer: &Tokenizer, vocab: usize, ends: &[u32]) -> Result<Self, String> {
        let mut known: Vec<u32> = Vec::new();
        for &id in ends {
            if (id as usize) < vocab && !known.contains(&id) {
                known.push(id);
            }
        }
        let ends = known;
        let Some(&end) = ends.first() else {
            return Err(
                "the model has no token that ends a text, so that no answer could end".into(),
            );
        };
        let size = u32::try_from(vocab).map_err(|_| "the vocabulary is too large".to_owned())?;
        let words = bytes::all(tokenizer, vocab);
        let trie = TokTrie::from(&TokRxInfo::new(size, end), &words).with_eos_tokens(&ends);
        let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let slices = llguidance::earley::SlicedBiasComputer::general_slices();
        let mut factory =
            ParserFactory::new(&environment, InferenceCapabilities::default(), &slices)
                .map_err(|error| error.to_string())?;
        factory.quiet().limits_mut().verbose_errors = false;
        Ok(Self {
            factory,
            compiled: Mutex::new(Vec::new()),
            ends: ends.into(),
        })
    }

    /// Whoever follows a rule from its beginning; an error says what is wrong with it. Compiles a rule that is new, which
    /// may take milliseconds.
    pub fn follow(&self, rule: &Arc<Rule>) -> Result<Follower, String> {
        let known = self.known(rule);
        let fresh = match known {
            Some(fresh) => fresh,
            None => {
                let matcher = depth::with_room(|| self.compile(rule))?;
                let fresh = Arc::new(Fresh(Mutex::new(matcher)));
                let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
                if compiled.len() >= KEPT {
                    compiled.remove(0);
                }
                compiled.push((Arc::clone(rule), Arc::clone(&fresh)));
                fresh
            }
        };
        let matcher = fresh.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Follower {
            matcher: matcher.deep_clone(),
            ends: Arc::clone(&self.ends),
        })
    }

    fn known(&self, rule: &Arc<Rule>) -> Option<Arc<Fresh>> {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        let at = compiled.iter().position(|(other, _)| other == rule)?;
        let found = compiled.remove(at);
        let fresh = Arc::clone(&found.1);
        compiled.push(found);
        Some(fresh)
    }

    fn compile(&self, rule: &Rule) -> Result<Matcher, String> {
        let longest = match rule {
            Rule::Grammar(_) => LONGEST_GRAMMAR,
            _ => LONGEST,
        };
        if rule.len() > longest {
            return Err(format!(
                "it has {} bytes, and {longest} are the most; shorten it",
                rule.len()
            ));
        }
        let grammar = grammar(rule)?;
        let parser = self
            .factory
            .create_parser(grammar)
            .map_err(|error| told(&error.to_string()))?;
        let mut matcher = Matcher::new(Ok(parser));
        // Some rules only turn out to be impossible when the first token is asked for.
        matcher
            .compute_mask_or_eos()
            .map_err(|error| told(&error.to_string()))?;
        Ok(matcher)
    }
}

impl Clone for Follower {
    /// Follows the rule from the same place, by itself.
    fn clone(&self) -> Self {
        Self {
            matcher: self.matcher.deep_clone(),
            ends: Arc::clone(&self.ends),
        }
    }
}

impl Follower {
    /// Makes all tokens impossible but those that may come next, and says which these are.
    pub fn restrict(&mut self, scores: &mut [f32]) -> Result<Fits, String> {
        let mask = self
            .matcher
            .compute_mask_or_eos()
            .map_err(|error| told(&error.to_string()))?;
        // Of most words of the mask all tokens are impossible, or none is.
        for (word, scores) in mask.as_slice().iter().zip(scores.chunks_mut(32)) {
            match *word {
                u32::MAX => {}
                0 => scores.fill(f32::NEG_INFINITY),
                word => {
                    let bits = scores.iter_mut().enumerate();
                    bits.filter(|(bit, _)| word >> bit & 1 == 0)
                        .for_each(|(_, score)| *score = f32::NEG_INFINITY);
                }
            }
        }
        let ends = self.ends.iter().filter(|&&end| mask.is_allowed(end));
        Ok(match mask.num_set() > ends.count() {
            true => Fits::Words,
            false => Fits::End,
        })
    }

    /// Goes on with the token that was picked.
    pub fn take(&mut self, token: u32) -> Result<(), String> {
        if self.matcher.is_stopped() {
            // The token that ends the text comes behind the end of the rule.
            return Ok(());
        }
        self.matcher
            .consume_token(token)
            .map_err(|error| told(&error.to_string()))
    }
}

fn grammar(rule: &Rule) -> Result<TopLevelGrammar, String> {
    Ok(match rule {
        Rule::Json => TopLevelGrammar::from_json_schema(spaced(json!({ "type": "object" }))),
        Rule::Schema(text) => {
            let schema: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
            if !schema.is_object() {
                return Err("a JSON schema must be an object".into());
            }
            refuse_remote(&schema)?;
            TopLevelGrammar::from_json_schema(spaced(schema))
        }
        Rule::Regex(text) => TopLevelGrammar::from_regex(text),
        Rule::Choice(texts) => {
            let quoted: Vec<String> = texts.iter().map(|text| json!(text).to_string()).collect();
            TopLevelGrammar::from_lark(format!("start: {}", quoted.join(" | ")))
        }
        Rule::Grammar(text) => TopLevelGrammar::from_lark(text.clone()),
    })
}

/// With a bound on white space, whatever the schema says of it.
fn spaced(mut schema: Value) -> Value {
    schema["x-guidance"] = json!({ "whitespace_pattern": SPACE });
    schema
}

/// Fails on references to other documents: nothing is fetched.
fn refuse_remote(schema: &Value) -> Result<(), String> {
    match schema {
        Value::Object(members) => {
            if let Some(Value::String(reference)) = members.get("$ref")
                && !reference.starts_with('#')
            {
                return Err(format!(
                    "its $ref {reference:?} is another document, which is not fetched; put it under $defs and refer to it as \
                     \"#/$defs/…\""
                ));
            }
            members.values().try_for_each(refuse_remote)
        }
        Value::Array(items) => items.iter().try_for_each(refuse_remote),
        _ => Ok(()),
    }
}

/// What the crate says, in one line.
fn told(text: &str) -> String {
    const LONGEST: usize = 300;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines.collect::<Vec<_>>().join("; ");
    match line.char_indices().nth(LONGEST) {
        None => line,
        Some((end, _)) => format!("{}…", &line[..end]),
    }
}

#[cfg(test)]
mod suite;
#[cfg(test)]
mod tests;
