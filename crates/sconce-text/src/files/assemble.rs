//! The parts of a tokenizer, put together with the special and added tokens, as
//! `PreTrainedTokenizerFast.__init__` of transformers 4 does.

use std::collections::{HashMap, HashSet};

use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{
    AddedToken, DecoderWrapper, ModelWrapper, NormalizerWrapper, PreTokenizerWrapper, Tokenizer,
};

use crate::error::TextError;
use crate::files::class::Class;
use crate::files::folder::Folder;
use crate::files::roles::{Named, Roles};
use crate::guard::guarded;
use crate::source::Source;

/// What a kind makes of its files.
pub(super) struct Parts {
    pub(super) model: ModelWrapper,
    /// Tokens of the vocabulary that are found before the text is cut.
    pub(super) tokens: Vec<AddedToken>,
    pub(super) normalizer: Option<NormalizerWrapper>,
    pub(super) pre_tokenizer: Option<PreTokenizerWrapper>,
    pub(super) decoder: DecoderWrapper,
    pub(super) frame: Option<Frame>,
    /// `additional_special_tokens`, with those that the class adds.
    pub(super) additional: Vec<Named>,
    /// What cuts texts, where that is not `model`: its tokens are looked up there by their spelling.
    pub(super) source: Option<Tokenizer>,
}

/// The tokens around a text and around a pair of texts.
pub(super) struct Frame {
    single: Vec<String>,
    pair: Vec<String>,
}

impl Frame {
    /// In the notation of the `tokenizers` crate: `$A` and `$B` are the texts; the type of a
    /// token may follow it as `:0`, `:1`.
    pub(super) fn new(single: &[&str], pair: &[&str]) -> Self {
        let owned = |pieces: &[&str]| pieces.iter().map(ToString::to_string).collect();
        Self {
            single: owned(single),
            pair: owned(pair),
        }
    }

    /// The tokens that occur.
    fn tokens(&self) -> HashSet<&str> {
        let pieces = self.single.iter().chain(&self.pair);
        let tokens = pieces.filter(|piece| !piece.starts_with('$'));
        tokens.map(|piece| untyped(piece)).collect()
    }
}

/// A piece without its type.
fn untyped(piece: &str) -> &str {
    match piece.rsplit_once(':') {
        Some((token, kind)) if !token.is_empty() && kind.parse::<u32>().is_ok() => token,
        _ => piece,
    }
}

/// Builds the tokenizer of a folder, and what cuts texts for it if that is another.
pub(super) fn assemble(
    folder: &Folder,
    class: &Class,
) -> Result<(Tokenizer, Option<Source>), TextError> {
    let roles = Roles::read(folder, class.roles)?;
    let parts = (class.parts)(folder, &roles)?;
    let file = class
        .files
        .first()
        .copied()
        .unwrap_or("tokenizer_config.json");
    let broken = |cause| folder.damaged(file, cause);
    let mut inner = Tokenizer::new(parts.model);
    if let Some(pre_tokenizer) = parts.pre_tokenizer {
        inner.with_pre_tokenizer(Some(pre_tokenizer));
    }
    inner.with_decoder(Some(parts.decoder));
    let named = roles.all(&parts.additional);
    guarded(|| {
        if let Some(normalizer) = parts.normalizer {
            inner.with_normalizer(Some(normalizer))?;
        }
        inner.add_tokens(parts.tokens)?;
        let more = added(&inner, folder, &roles, &named);
        inner.add_tokens(more)
    })
    .map_err(broken)?;
    check_added(&inner, folder)?;
    if let Some(frame) = parts.frame {
        let frame = template(&inner, &frame, &roles).map_err(|token| {
            folder.damaged(
                file,
                format!("it has no token {token:?}, which goes around every text"),
            )
        })?;
        inner.with_post_processor(Some(frame.map_err(|error| broken(error.to_string()))?));
    }
    let source = parts
        .source
        .map(|cutter| Source::new(cutter, &inner, roles.get("unk_token")))
        .transpose()
        .map_err(broken)?;
    Ok((inner, source))
}

/// The added tokens by id, then those with a role.
fn added(inner: &Tokenizer, folder: &Folder, roles: &Roles, named: &[Named]) -> Vec<AddedToken> {
    let special: HashSet<&str> = named.iter().map(|n| n.token.content.as_str()).collect();
    let mut tokens: Vec<AddedToken> = Vec::new();
    for (_, token) in &folder.added {
        let mut token = token.clone();
        if !folder.decoder {
            // Of added_tokens.json; normalised unless the configuration gives it a role.
            token.normalized = !roles.configured.contains(&token.content);
        }
        token.special |= special.contains(token.content.as_str());
        tokens.push(token);
    }
    let known: HashSet<String> = {
        let vocabulary = inner.get_added_vocabulary().get_vocab().keys().cloned();
        let added = tokens.iter().map(|token| token.content.clone());
        vocabulary.chain(added).collect()
    };
    let named = named
        .iter()
        .filter(|n| !(n.yields && known.contains(&n.token.content)));
    tokens.extend(named.map(|n| n.token.clone()));
    keep_first_form(inner, &mut tokens);
    tokens
}

/// A token that is added again stays matched before or after the text is normalised, as it was
/// first: so does tokenizers below 0.23, where the last of its forms counts in newer ones.
fn keep_first_form(inner: &Tokenizer, tokens: &mut [AddedToken]) {
    let known = inner.get_added_vocabulary().get_added_tokens_decoder();
    let known = known.values().map(|t| (t.content.clone(), t.normalized));
    let mut first: HashMap<String, bool> = known.collect();
    for token in tokens {
        let form = first.entry(token.content.clone());
        token.normalized = *form.or_insert(token.normalized);
    }
}

/// Added tokens get the ids after the vocabulary, in order. Where the files say other ids, the
/// vocabulary is not the one that the model was trained with.
fn check_added(inner: &Tokenizer, folder: &Folder) -> Result<(), TextError> {
    for (id, token) in &folder.added {
        let is = inner.token_to_id(&token.content);
        if is != Some(*id) && !token.content.is_empty() {
            let is = is.map_or("nothing".into(), |is| is.to_string());
            return Err(folder.damaged(
                folder.added_name(),
                format!(
                    "it gives {:?} the id {id}, but with this vocabulary and the tokens before \
                     it that is {is}",
                    token.content
                ),
            ));
        }
    }
    Ok(())
}

/// The post-processor of a frame; `Err` is a token that is not there.
fn template<'f>(
    inner: &Tokenizer,
    frame: &'f Frame,
    roles: &Roles,
) -> Result<tokenizers::Result<TemplateProcessing>, &'f str> {
    // A name without an id has the unknown token's, as in `convert_tokens_to_ids`.
    let unknown = || inner.token_to_id(roles.get("unk_token")?);
    let mut tokens = Vec::new();
    for token in frame.tokens() {
        let id = inner.token_to_id(token).or_else(unknown).ok_or(token)?;
        tokens.push((token.to_owned(), id));
    }
    let build = || {
        let template = TemplateProcessing::builder()
            .try_single(frame.single.clone())?
            .try_pair(frame.pair.clone())?
            .special_tokens(tokens)
            .build()?;
        Ok(template)
    };
    Ok(build())
}
