//! What can be said of a checkpoint and a task from headers alone: whether they fit, what it takes in memory.

use std::path::Path;
use std::sync::Arc;

use sconce_core::{AskedDecoding, Task};
use sconce_engine::{
    Needs, TaskMemory, TaskOverview, check_context, check_packing, check_vocabulary, parameters,
};
use sconce_models::seq2seq::{
    Seq2Seq, Seq2SeqSpec, TaskDecoding, decoding_defaults, task_decoding,
};
use sconce_models::{Footprint, HfConfig, SEQ2SEQS, Seq2SeqArch};
use sconce_nn::weights::WeightSource;
use sconce_text::{ChatTemplate, Languages, Tokenizer};

use crate::error::Seq2SeqError;
use crate::settings::Seq2SeqSettings;

/// Longest text in tokens of models that know distances instead of positions, where nobody says more: they compute any
/// length, and memory has to be planned.
const UNBOUNDED: usize = 2048;

/// A checkpoint that reads and writes; no weight has been read.
pub struct Seq2SeqDescription {
    pub(crate) arch: &'static Seq2SeqArch,
    pub(crate) spec: Seq2SeqSpec,
    pub(crate) tokenizer: Arc<Tokenizer>,
    pub(crate) languages: Option<Languages>,
    /// How dialogues are written out, of models that have some.
    pub(crate) template: Option<Arc<ChatTemplate>>,
    pub(crate) weights: Arc<dyn WeightSource>,
    /// What the checkpoint says of decoding.
    pub(crate) defaults: AskedDecoding,
    /// What it says for the task.
    pub(crate) task: TaskDecoding,
    /// Longest text that is read, in tokens.
    pub(crate) max_read: usize,
    /// Longest text that is written, the first token included.
    pub(crate) max_length: usize,
}

impl Seq2SeqDescription {
    /// Reads configuration, tokenizer and the headers of the weights.
    pub fn read(settings: &Seq2SeqSettings) -> Result<Self, Seq2SeqError> {
        let (dir, task) = (settings.dir.as_path(), settings.task);
        let config = HfConfig::read(dir)?;
        let arch = family(&config, task)?;
        let spec = (arch.spec)(&config)?;
        let tokenizer = Tokenizer::open(dir)?;
        check_vocabulary(dir, &tokenizer, spec.vocab)?;
        let languages = Languages::read(dir)?;
        require_languages(settings, languages.as_ref(), &tokenizer)?;
        let template = match task {
            Task::Conversational => Some(Arc::new(template(dir)?)),
            _ => None,
        };
        let defaults = decoding_defaults(dir, &config)?;
        require_tokens(dir, &defaults, spec.vocab)?;
        let own = task_decoding(&config, &task_name(settings))?;
        check_context(settings.max_len, spec.encoder.context.unwrap_or(usize::MAX))?;
        let longest = spec.encoder.context.unwrap_or(UNBOUNDED);
        let max_read = settings.max_len.unwrap_or(longest);
        let written = spec.decoder.context.unwrap_or(usize::MAX);
        let packing = sconce_models::packing(&config)?.map(|(packing, _)| packing);
        check_packing(settings.packing, packing)?;
        let weights: Arc<dyn WeightSource> = Arc::from(sconce_nn::weights::open(dir)?);
        let weights = sconce_models::unpacked(&config, weights)?;
        Ok(Self {
            arch,
            max_length: max_read.min(written).saturating_add(1),
            spec,
            tokenizer: Arc::new(tokenizer),
            languages,
            template,
            weights,
            defaults,
            task: own,
            max_read,
        })
    }

    /// What loading would keep in memory; fails as loading would.
    fn survey(&self, settings: &Seq2SeqSettings) -> Result<Footprint, Seq2SeqError> {
        let options = settings.load_options();
        Ok(Seq2Seq::survey(
            self.arch,
            &self.spec,
            &*self.weights,
            settings.ranks,
            &options,
        )?)
    }

    /// What it needs in memory: a sequence is a text that is read and one that is written.
    pub fn needs(&self, settings: &Seq2SeqSettings) -> Result<Needs, Seq2SeqError> {
        let read = settings.max_read_tokens.max(self.max_read);
        Ok(Needs {
            adapters: 0,
            draft: None,
            weights: self.survey(settings)?,
            activations: self.spec.working(read, settings.max_rows, settings.ranks),
            packed_inputs: 0,
            rotations: 0,
            kv: self
                .spec
                .kv_shape(settings.load_options().cache, settings.ranks),
            ranks: settings.ranks,
            max_len: 2 * self.max_read.next_multiple_of(sconce_nn::BLOCK),
            may_shorten: settings.max_len.is_none(),
            max_rows: settings.max_rows,
            wanted_cache: settings.kv_cache_bytes,
        })
    }

    /// The model in some numbers.
    pub fn overview(&self, settings: &Seq2SeqSettings) -> Result<TaskOverview, Seq2SeqError> {
        Ok(TaskOverview {
            architecture: self.arch.name,
            layers: self.spec.encoder.layers + self.spec.decoder.layers,
            heads: self.spec.decoder.heads,
            context: self.max_read,
            stored_bytes: self.weights.total_bytes(),
            parameters: parameters(&*self.weights),
            memory: TaskMemory::Cached(self.needs(settings)?),
        })
    }
}

/// The template without which there is no dialogue.
fn template(dir: &Path) -> Result<ChatTemplate, Seq2SeqError> {
    let dir = dir.to_path_buf();
    ChatTemplate::read(&dir)?.ok_or(Seq2SeqError::NoTemplate { dir })
}

/// Whether the model in `dir` reads and writes, by its `config.json`.
pub fn is_seq2seq(dir: &Path) -> bool {
    let found =
        HfConfig::read(dir).and_then(|config| Ok(sconce_models::find_seq2seq(&config)?.is_some()));
    found.unwrap_or(false)
}

/// The name of the task in `task_specific_params`.
fn task_name(settings: &Seq2SeqSettings) -> String {
    match &settings.languages {
        Some((from, to)) => format!("{}_{from}_to_{to}", settings.task),
        None => settings.task.name().to_owned(),
    }
}

fn family(config: &HfConfig, task: Task) -> Result<&'static Seq2SeqArch, Seq2SeqError> {
    if let Some(found) = sconce_models::find_seq2seq(config)? {
        return Ok(found);
    }
    let names = config.architectures()?;
    let decoder = sconce_models::find(config).is_ok();
    let supported: Vec<&str> = SEQ2SEQS.iter().map(|arch| arch.name).collect();
    Err(Seq2SeqError::NotSeq2Seq {
        task,
        class: if names.is_empty() {
            "no class".into()
        } else {
            names.join(", ")
        },
        fits: decoder.then_some(Task::TextGeneration),
        supported: supported.join(", "),
    })
}

/// Fails when the task's name says languages that the tokenizer does not know, of models that have tokens for them.
fn require_languages(
    settings: &Seq2SeqSettings,
    languages: Option<&Languages>,
    tokenizer: &Tokenizer,
) -> Result<(), Seq2SeqError> {
    let (Some((from, to)), Some(languages)) = (&settings.languages, languages) else {
        return Ok(());
    };
    for language in [from, to] {
        if languages.token(tokenizer, language).is_none() {
            return Err(Seq2SeqError::Language {
                dir: settings.dir.clone(),
                language: language.clone(),
                token: languages.spelled(language),
            });
        }
    }
    Ok(())
}

fn require_tokens(dir: &Path, said: &AskedDecoding, vocab: usize) -> Result<(), Seq2SeqError> {
    let one = |id: Option<u32>| id.into_iter().collect::<Vec<u32>>();
    let words = said.bad_words_ids.clone().unwrap_or_default().concat();
    for (key, ids) in [
        ("decoder_start_token_id", one(said.decoder_start_token_id)),
        ("forced_bos_token_id", one(said.forced_bos_token_id)),
        (
            "eos_token_id",
            said.eos_token_id.clone().unwrap_or_default(),
        ),
        (
            "forced_eos_token_id",
            said.forced_eos_token_id.clone().unwrap_or_default(),
        ),
        ("bad_words_ids", words),
    ] {
        if let Some(id) = ids.into_iter().find(|id| *id as usize >= vocab) {
            let dir = dir.into();
            return Err(Seq2SeqError::Token {
                dir,
                key,
                id,
                vocab,
            });
        }
    }
    Ok(())
}
