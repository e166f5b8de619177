//! What can be said of a checkpoint from its headers: the parts of a description are read apart,
//! so that `sconce check` tells all that is wrong at once, and the engine the first of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sconce_core::{AdapterRefusal, Dialogue, MaxTokens, Sampling, Task};
use sconce_models::{AdapterLoader, Arch, Decoder, GgufModel, HfConfig, Packing, Spec};
use sconce_nn::head_on_gpu;
use sconce_nn::weights::gguf::{self, Gguf};
use sconce_nn::weights::{Numbers, StoredDtype, WeightSource};
use sconce_text::{ChatTemplate, TextError, Tokenizer};
use serde_json::json;

use crate::error::EngineError;
use crate::memory::Needs;
use crate::settings::EngineSettings;
use crate::vocabulary;

/// The parts of a checkpoint, each as far as it can be had; no weight is read.
pub struct Description {
    dir: PathBuf,
    /// What `config.json`, or the keys of a GGUF file, and `generation_config.json` say.
    pub(crate) model: Result<Described, EngineError>,
    pub(crate) tokenizer: Result<Arc<Tokenizer>, EngineError>,
    /// Templates of dialogues, or why there are none. A model without any still continues texts.
    pub(crate) templates: Result<Arc<ChatTemplate>, String>,
    pub(crate) weights: Result<Arc<dyn WeightSource>, EngineError>,
}

/// Model, tokenizer and weights.
pub(crate) type Parts = (Described, Arc<Tokenizer>, Arc<dyn WeightSource>);

/// A model without its weights.
pub(crate) struct Described {
    pub(crate) arch: &'static Arch,
    pub(crate) spec: Spec,
    /// How `config.json` says that matrices are packed.
    pub(crate) packing: Option<Packing>,
    /// Whether it is a GGUF file.
    is_gguf: bool,
    pub(crate) eos: Vec<u32>,
    pub(crate) sampling: Sampling,
    pub(crate) length: MaxTokens,
}

/// A model in some numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overview {
    /// The class name of transformers.
    pub architecture: &'static str,
    /// Decoder layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Longest sequence that the model takes, in tokens.
    pub context: usize,
    /// Rows of the embedding.
    pub vocab: usize,
    /// The numbers of ranks among which the heads can be divided.
    pub possible_ranks: Vec<usize>,
}

/// The weight files in some numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Numbers in all tensors.
    pub parameters: u64,
    /// Bytes of all tensors.
    pub bytes: u64,
    /// The type that most bytes have.
    pub dtype: StoredDtype,
    /// File or index, with the number of shards.
    pub files: String,
}

impl Description {
    /// Reads configuration, tokenizer and the headers of the weights. `gguf_file` and
    /// `model_sampling` as in [`EngineSettings`].
    pub fn read(dir: &Path, gguf_file: Option<&str>, model_sampling: bool) -> Self {
        Self::read_with(dir, gguf_file, model_sampling, None)
    }

    /// The same of a folder whose weight files may have headers alone, and who has the numbers then.
    pub(crate) fn read_with(
        dir: &Path,
        gguf_file: Option<&str>,
        model_sampling: bool,
        numbers: Option<&Arc<dyn Numbers>>,
    ) -> Self {
        let file = match gguf::find(dir, gguf_file) {
            Ok(None) => return Self::of_folder(dir, model_sampling, numbers),
            Ok(Some(path)) => Gguf::open(&path).map(|file| match numbers {
                Some(numbers) => file.elsewhere(dir, numbers),
                None => file,
            }),
            Err(error) => Err(error),
        };
        match file {
            Ok(file) => Self::of_gguf(dir, Arc::new(file), model_sampling),
            Err(error) => Self {
                dir: dir.into(),
                model: Err(EngineError::Unopened),
                tokenizer: Err(EngineError::Unopened),
                templates: Err("its file cannot be opened".into()),
                weights: Err(error.into()),
            },
        }
    }

    fn of_folder(dir: &Path, model_sampling: bool, numbers: Option<&Arc<dyn Numbers>>) -> Self {
        let config = HfConfig::read(dir);
        let weights = match numbers {
            Some(numbers) => sconce_nn::weights::open_elsewhere(dir, numbers),
            None => sconce_nn::weights::open(dir),
        };
        let weights = weights.map(Arc::from);
        let weights = match &config {
            Ok(config) => weights.and_then(|source| sconce_models::unpacked(config, source)),
            Err(_) => weights,
        };
        let config = config.map_err(EngineError::from);
        Self {
            dir: dir.into(),
            model: config.and_then(|config| Described::of_folder(dir, config, model_sampling)),
            tokenizer: Tokenizer::open(dir).map(Arc::new).map_err(Into::into),
            templates: found(ChatTemplate::read(dir)),
            weights: weights.map_err(Into::into),
        }
    }

    /// A GGUF file has it all. A `tokenizer.json` beside it wins over the file's own vocabulary,
    /// which does not tell everything; a `config.json` beside it is of another checkpoint's form.
    fn of_gguf(dir: &Path, file: Arc<Gguf>, model_sampling: bool) -> Self {
        let tokenizer = if dir.join("tokenizer.json").exists() {
            Tokenizer::open(dir).map_err(Into::into)
        } else {
            vocabulary::tokenizer(file.metadata())
        };
        Self {
            dir: dir.into(),
            model: Described::of_gguf(dir, &file, model_sampling),
            tokenizer: tokenizer.map(Arc::new),
            templates: match ChatTemplate::read(dir) {
                Ok(None) => found(vocabulary::templates(file.metadata())),
                beside => found(beside),
            },
            weights: Ok(Arc::new(sconce_models::gguf::weights(file))),
        }
    }

    /// With another template than the checkpoint's own.
    pub fn with_template(self, path: &Path) -> Result<Self, EngineError> {
        let template = ChatTemplate::read_file(path, &self.dir)?;
        Ok(Self {
            templates: Ok(Arc::new(template)),
            ..self
        })
    }

    /// With the tokenizer and the templates that an adapter was saved with, if it was.
    pub fn with_adapter(self, dir: Option<&Path>) -> Self {
        let Some(dir) = dir else {
            return self;
        };
        let has = |name: &str| dir.join(name).is_file();
        let has_tokenizer = has("tokenizer.json") || has("tokenizer_config.json");
        let templates = found(ChatTemplate::read(dir));
        Self {
            tokenizer: match has_tokenizer {
                true => Tokenizer::open(dir).map(Arc::new).map_err(Into::into),
                false => self.tokenizer,
            },
            templates: match &templates {
                Err(cause) if cause == NO_TEMPLATE => self.templates,
                _ => templates,
            },
            ..self
        }
    }

    /// What is wrong with the template of dialogues, though the model starts all the same: it cannot be read, or it fails on
    /// a dialogue of one message. `None`: nothing, or there is none.
    pub fn template_problem(&self) -> Option<String> {
        let templates = match &self.templates {
            Ok(templates) => templates,
            Err(cause) if cause == NO_TEMPLATE => return None,
            Err(cause) => return Some(format!("dialogues are refused: {cause}")),
        };
        let probe = Dialogue {
            messages: vec![json!({"role": "user", "content": "Hello"})],
            add_generation_prompt: true,
            ..Dialogue::default()
        };
        let told = templates.render(&templates.adapted(&probe)).err()?;
        Some(format!(
            "the chat template cannot write out a dialogue of one message of the user: {told}"
        ))
    }

    /// What is wrong with each part, and between tokenizer and model.
    pub fn problems(&self) -> Vec<&EngineError> {
        let parts = [
            self.model.as_ref().err(),
            self.tokenizer.as_ref().err(),
            self.weights.as_ref().err(),
        ];
        let unopened = |error: &&EngineError| matches!(error, EngineError::Unopened);
        let problems = parts.into_iter().flatten();
        problems.filter(|error| !unopened(error)).collect()
    }

    /// All parts, or the first problem.
    pub(crate) fn parts(self) -> Result<Parts, EngineError> {
        match (self.model, self.weights) {
            // The file that has all parts cannot be opened.
            (Err(EngineError::Unopened), Err(cause)) => Err(cause),
            (model, weights) => Ok((model?, self.tokenizer?, weights?)),
        }
    }

    /// Fails when the tokenizer makes ids that the model has no embedding for.
    pub fn check_vocabulary(&self) -> Result<(), EngineError> {
        match (&self.tokenizer, &self.model) {
            (Ok(tokenizer), Ok(model)) => {
                check_vocabulary(&self.dir, tokenizer, model.spec.dims.vocab)
            }
            _ => Ok(()),
        }
    }

    /// Fails when the model is to answer dialogues and nothing says how they are written out.
    pub fn check_dialogues(&self, task: Task) -> Result<(), EngineError> {
        match (&self.templates, task) {
            (Err(cause), Task::Conversational) => Err(EngineError::NoTemplate {
                dir: self.dir.clone(),
                cause: cause.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// The model, if `config.json` describes one.
    pub fn overview(&self) -> Option<Overview> {
        let Described { arch, spec, .. } = self.model.as_ref().ok()?;
        Some(Overview {
            architecture: arch.names[0],
            layers: spec.dims.layers,
            heads: spec.dims.heads,
            kv_heads: spec.dims.kv_heads,
            context: spec.dims.context,
            vocab: spec.dims.vocab,
            possible_ranks: spec.possible_worlds(),
        })
    }

    /// The weights, if their headers can be read.
    pub fn stored(&self) -> Option<Stored> {
        let source = self.weights.as_ref().ok()?;
        let (mut parameters, mut bytes) = (0, BTreeMap::new());
        for tensor in source
            .names()
            .iter()
            .filter_map(|name| source.outline(name).ok())
        {
            parameters += tensor.elements() as u64;
            let entry = bytes.entry(tensor.dtype().name());
            let entry = entry.or_insert((0, tensor.dtype()));
            entry.0 += tensor.byte_len() as u64;
        }
        let most = bytes.values().max_by_key(|(bytes, _)| *bytes);
        Some(Stored {
            parameters,
            bytes: source.total_bytes(),
            dtype: most.map_or(StoredDtype::F32, |(_, dtype)| *dtype),
            files: source.describe(),
        })
    }

    /// What the settings need in memory; fails as loading would. `None`: a part is missing.
    pub fn needs(&self, settings: &EngineSettings) -> Option<Result<Needs, EngineError>> {
        let (model, weights) = (self.model.as_ref().ok()?, self.weights.as_ref().ok()?);
        Some(model.needs(&**weights, settings))
    }

    /// Bytes that a step of `tokens` sequences reads of the weights at least, on one rank.
    pub fn read_by(&self, needs: &Needs, tokens: usize) -> u64 {
        let spec = self.model.as_ref().ok().map(|model| &model.spec);
        spec.map_or(0, |spec| needs.weights.read_by(spec, tokens))
    }
}

/// Why there are no templates, where nothing is wrong with that.
const NO_TEMPLATE: &str = "the checkpoint has no chat template";

fn found(read: Result<Option<ChatTemplate>, TextError>) -> Result<Arc<ChatTemplate>, String> {
    match read {
        Ok(Some(templates)) => Ok(Arc::new(templates)),
        Ok(None) => Err(NO_TEMPLATE.into()),
        Err(error) => Err(error.to_string()),
    }
}

impl Described {
    fn of_folder(dir: &Path, config: HfConfig, model_sampling: bool) -> Result<Self, EngineError> {
        let arch = sconce_models::find(&config)?;
        let spec = (arch.spec)(&config)?;
        Self::with(dir, (arch, spec, config), model_sampling)
    }

    fn of_gguf(dir: &Path, file: &Gguf, model_sampling: bool) -> Result<Self, EngineError> {
        let GgufModel { arch, spec, config } = GgufModel::read(file)?;
        let model = Self::with(dir, (arch, spec, config), model_sampling)?;
        Ok(Self {
            is_gguf: true,
            ..model
        })
    }

    /// With what `generation_config.json` says, which may stand beside either.
    fn with(
        dir: &Path,
        (arch, spec, config): (&'static Arch, Spec, HfConfig),
        model_sampling: bool,
    ) -> Result<Self, EngineError> {
        let eos = sconce_models::eos_token_ids(dir, &config)?;
        let sampling = if model_sampling {
            sconce_models::sampling_defaults(dir)?
        } else {
            Sampling::default()
        };
        let packing = sconce_models::packing(&config)?.map(|(packing, _)| packing);
        Ok(Self {
            arch,
            spec,
            packing,
            is_gguf: false,
            eos,
            sampling,
            length: sconce_models::length_default(dir)?,
        })
    }

    /// What loads the adapters that the settings ask for, if they do.
    pub(crate) fn adapters(
        &self,
        settings: &EngineSettings,
    ) -> Result<Option<AdapterLoader>, EngineError> {
        match &settings.lora {
            Some(lora) if lora.most > 0 => self.loader(settings, lora.max_rank).map(Some),
            _ => Ok(None),
        }
    }

    /// What loads the adapter that all requests have, if they do.
    pub(crate) fn own_adapter(
        &self,
        settings: &EngineSettings,
    ) -> Result<Option<AdapterLoader>, EngineError> {
        let own = settings.lora.as_ref().and_then(|lora| lora.own.as_ref());
        let loader = |dir: &PathBuf| {
            let rank = sconce_models::adapter_rank(dir).map_err(|error| {
                EngineError::Adapter(AdapterRefusal::Unusable {
                    name: dir.display().to_string(),
                    cause: error.to_string(),
                })
            })?;
            self.loader(settings, rank)
        };
        own.map(loader).transpose()
    }

    fn loader(
        &self,
        settings: &EngineSettings,
        most_rank: usize,
    ) -> Result<AdapterLoader, EngineError> {
        if self.is_gguf {
            return Err(EngineError::AdaptersOfGguf);
        }
        let dtype = settings.lora_dtype();
        let (arch, ranks) = (self.arch, settings.ranks);
        Ok(AdapterLoader::new(
            arch, &self.spec, ranks, dtype, most_rank,
        )?)
    }

    pub(crate) fn needs(
        &self,
        weights: &dyn WeightSource,
        settings: &EngineSettings,
    ) -> Result<Needs, EngineError> {
        let (spec, ranks) = (&self.spec, settings.ranks);
        check_packing(settings.packing, self.packing)?;
        let options = settings.load_options();
        let cache = Decoder::cache_dtype(self.arch, weights, &options);
        let mut kv = spec.kv_shape(ranks, cache)?;
        if options.for_gpu {
            // Heads that are too large are refused when the cache is made.
            kv.head_dim = head_on_gpu(kv.head_dim).unwrap_or(kv.head_dim);
        }
        let footprint = Decoder::survey(self.arch, spec, weights, ranks, &options)?;
        let working = spec.working(settings.max_step_tokens, ranks);
        let most = settings.lora.as_ref().map_or(0, |lora| lora.most as u64);
        let several = self.adapters(settings)?.map(|loader| loader.most_bytes());
        let own = self
            .own_adapter(settings)?
            .map(|loader| loader.most_bytes());
        Ok(Needs {
            weights: footprint,
            activations: working.activations,
            packed_inputs: working.packed_inputs,
            rotations: working.rotations,
            adapters: most * several.unwrap_or(0) + own.unwrap_or(0),
            draft: None,
            kv,
            ranks,
            max_len: check_context(settings.max_model_len, spec.dims.context)?,
            may_shorten: settings.max_model_len.is_none(),
            max_rows: settings.max_rows,
            wanted_cache: settings.kv_cache_bytes,
        })
    }
}

/// The longest sequence that is served: as many tokens as are wanted, or all that the model takes.
pub fn check_context(wanted: Option<usize>, context: usize) -> Result<usize, EngineError> {
    match wanted {
        Some(wanted) if wanted > context => Err(EngineError::Context { wanted, context }),
        wanted => Ok(wanted.unwrap_or(context)),
    }
}

/// Fails when a checkpoint is not packed as is said.
pub fn check_packing(wanted: Option<Packing>, found: Option<Packing>) -> Result<(), EngineError> {
    match wanted.filter(|&wanted| found != Some(wanted)) {
        Some(wanted) => Err(EngineError::Packing { wanted, found }),
        None => Ok(()),
    }
}

/// Fewer entries than embeddings are usual (padding); more would index outside.
pub fn check_vocabulary(
    dir: &Path,
    tokenizer: &Tokenizer,
    model: usize,
) -> Result<(), EngineError> {
    let entries = tokenizer.vocab_size();
    if entries > model {
        return Err(EngineError::Vocabulary {
            dir: dir.into(),
            tokenizer: entries,
            model,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn llama() -> PathBuf {
        [env!("CARGO_MANIFEST_DIR"), "../../models/tiny/llama"]
            .iter()
            .collect()
    }

    fn settings(max_model_len: Option<usize>) -> EngineSettings {
        EngineSettings {
            name: "llama".into(),
            dir: llama(),
            task: Default::default(),
            gguf_file: None,
            dtype: None,
            quantise: None,
            packing: None,
            threads: None,
            ranks: 1,
            gpus: Vec::new(),
            eager: false,
            collective_timeout: std::time::Duration::from_secs(8),
            max_model_len,
            max_rows: 8,
            max_step_tokens: 48,
            prefix_sharing: true,
            model_sampling: false,
            chat_template: None,
            kv_dtype: None,
            kv_cache_bytes: None,
            room: None,
            speculation: None,
            lora: None,
            queue: 1,
            predict_timeout: 1,
        }
    }

    #[test]
    fn a_checkpoint_is_described_by_its_headers() {
        let description = Description::read(&llama(), None, false);
        assert!(description.problems().is_empty());
        description.check_vocabulary().unwrap();
        let overview = description.overview().unwrap();
        assert_eq!((overview.heads, overview.kv_heads), (6, 2));
        assert_eq!((overview.context, overview.vocab), (256, 307));
        let stored = description.stored().unwrap();
        assert_eq!(stored.dtype, StoredDtype::F32);
        assert_eq!(stored.bytes, stored.parameters * 4);
        let needs = description.needs(&settings(None)).unwrap().unwrap();
        assert_eq!(needs.weights.weights, stored.bytes);
        assert_eq!(needs.max_len, 256);
    }

    #[test]
    fn a_sequence_beyond_the_context_is_refused() {
        let needs = Description::read(&llama(), None, false).needs(&settings(Some(257)));
        assert!(matches!(
            needs,
            Some(Err(EngineError::Context {
                wanted: 257,
                context: 256
            }))
        ));
    }

    #[test]
    fn a_folder_without_anything_has_three_problems() {
        let dir = tempfile::tempdir().unwrap();
        let description = Description::read(dir.path(), None, false);
        let codes: Vec<_> = description.problems().iter().map(|e| e.code()).collect();
        assert_eq!(codes, ["unreadable", "no-tokenizer", "weights-missing"]);
        assert!(description.needs(&settings(None)).is_none());
    }

    /// Hundreds of files with changed bytes before their numbers: each is described, or what is wrong is said.
    #[test]
    fn changed_gguf_files_never_panic() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/gguf");
        let mut random = fastrand::Rng::with_seed(11);
        let dir = tempfile::tempdir().unwrap();
        let (mut good, mut bad) = (0, 0);
        for name in ["qwen2_moe", "gemma2", "phi3-longrope", "tokenizers/llama"] {
            let whole = std::fs::read(fixtures.join(name).with_extension("gguf")).unwrap();
            let header = whole.len().min(6000);
            for _ in 0..150 {
                let mut bytes = whole.clone();
                for _ in 0..random.usize(1..4) {
                    let at = random.usize(24..header);
                    bytes[at] = match random.u8(..3) {
                        0 => bytes[at] ^ (1 << random.u8(..8)),
                        1 => random.u8(..),
                        _ => random.choice([0, 1, 127, 255]).unwrap_or_default(),
                    };
                }
                std::fs::write(dir.path().join("m.gguf"), bytes).unwrap();
                let description = Description::read(dir.path(), None, false);
                let settings = settings(None);
                let needs = description.needs(&settings).transpose();
                let fine = description.problems().is_empty() && needs.is_ok();
                *(if fine { &mut good } else { &mut bad }) += 1;
            }
        }
        assert!(good > 50 && bad > 50, "{good} are good, {bad} are bad");
    }
}
