//! What can be said of a checkpoint and a task from headers alone: whether they fit, which head is needed, what it
//! takes in memory.

use std::path::Path;
use std::sync::Arc;

use sconce_core::Task;
use sconce_engine::{
    TaskMemory, TaskOverview, check_context, check_packing, check_vocabulary, parameters,
};
use sconce_models::encoder::{Encoder, EncoderSpec, HeadKind, HeadSpec, Labels};
use sconce_models::{ENCODERS, EncoderArch, Footprint, HfConfig};
use sconce_nn::weights::WeightSource;
use sconce_text::Tokenizer;

use crate::error::StartError;
use crate::modules::Modules;
use crate::settings::TaskSettings;

/// A checkpoint that does a task; no weight has been read.
pub struct TaskDescription {
    pub(crate) arch: &'static EncoderArch,
    pub(crate) spec: EncoderSpec,
    pub(crate) head: Option<HeadSpec>,
    pub(crate) labels: Labels,
    pub(crate) tokenizer: Arc<Tokenizer>,
    pub(crate) weights: Arc<dyn WeightSource>,
    pub(crate) modules: Modules,
    /// Longest text in tokens.
    pub(crate) max_len: usize,
    config: HfConfig,
}

impl TaskDescription {
    /// Reads configuration, tokenizer and the headers of the weights.
    pub fn read(settings: &TaskSettings) -> Result<Self, StartError> {
        let (dir, task) = (settings.dir.as_path(), settings.task);
        let config = HfConfig::read(dir)?;
        let (arch, class) = family(&config, task)?;
        let kind = kind_of(task);
        require_head(&config, task, class, kind)?;
        let spec = (arch.spec)(&config)?;
        let head = kind.map(|kind| (arch.head)(&config, kind)).transpose()?;
        let labels = Labels::read(&config)?;
        require_labels(&config, task, &labels)?;
        let tokenizer = Arc::new(Tokenizer::open(dir)?);
        check_vocabulary(dir, &tokenizer, spec.dims.vocab)?;
        let modules = match kind {
            None => Modules::read(dir, spec.dims.width, settings.vectors)?,
            Some(_) => Modules::default(),
        };
        let context = check_context(settings.max_len, spec.dims.context)?;
        let max_len = tokenizer.max_len().unwrap_or(context).min(context);
        let packing = sconce_models::packing(&config)?.map(|(packing, _)| packing);
        check_packing(settings.packing, packing)?;
        let weights: Arc<dyn WeightSource> = Arc::from(sconce_nn::weights::open(dir)?);
        let weights = sconce_models::unpacked(&config, weights)?;
        Ok(Self {
            arch,
            spec,
            head,
            labels,
            tokenizer,
            weights,
            modules,
            max_len,
            config,
        })
    }

    /// What loading would keep in memory; fails as loading would.
    pub fn survey(&self, settings: &TaskSettings) -> Result<Footprint, StartError> {
        let options = settings.load_options();
        let (arch, head) = (self.arch, self.head.as_ref());
        Ok(Encoder::survey(
            arch,
            &self.spec,
            head,
            &*self.weights,
            &options,
        )?)
    }

    /// The model in some numbers.
    pub fn overview(&self, settings: &TaskSettings) -> Result<TaskOverview, StartError> {
        Ok(TaskOverview {
            architecture: self.arch.family,
            layers: self.spec.layers.len(),
            heads: self.spec.dims.heads,
            context: self.max_len,
            stored_bytes: self.weights.total_bytes(),
            parameters: parameters(&*self.weights),
            memory: TaskMemory::Batch {
                weights: self.survey(settings)?.weights,
                activations: self.activations(settings),
            },
        })
    }

    /// Bytes that a full batch takes beside the weights.
    pub(crate) fn activations(&self, settings: &TaskSettings) -> u64 {
        let outputs = self.head.as_ref().map_or(0, |head| head.outputs);
        // A single text may be longer than a batch.
        self.spec
            .working(settings.max_batch_tokens.max(self.max_len), outputs)
    }

    /// Whether a text has a row for each token, rather than one.
    pub(crate) fn gives_rows_per_token(&self) -> bool {
        let over = self.head.as_ref().map(|head| head.over);
        over.is_none_or(|over| over == sconce_models::encoder::Over::Each)
    }

    /// The configuration.
    pub(crate) fn config(&self) -> &HfConfig {
        &self.config
    }
}

/// Whether the model in `dir` is an encoder, by its `config.json`.
pub fn is_encoder(dir: &Path) -> bool {
    let found =
        HfConfig::read(dir).and_then(|config| Ok(sconce_models::find_encoder(&config)?.is_some()));
    found.unwrap_or(false)
}

/// The head that a task needs.
pub(crate) fn kind_of(task: Task) -> Option<HeadKind> {
    match task {
        Task::TextClassification | Task::ZeroShotClassification | Task::TextRanking => {
            Some(HeadKind::Sequence)
        }
        Task::TokenClassification => Some(HeadKind::Tokens),
        Task::QuestionAnswering => Some(HeadKind::Span),
        Task::FillMask => Some(HeadKind::Mask),
        Task::TextGeneration
        | Task::Text2TextGeneration
        | Task::Summarization
        | Task::Translation
        | Task::Conversational
        | Task::TextToImage
        | Task::FeatureExtraction
        | Task::TextEmbedding
        | Task::SentenceSimilarity => None,
    }
}

fn family(
    config: &HfConfig,
    task: Task,
) -> Result<(&'static EncoderArch, Option<HeadKind>), StartError> {
    if let Some(found) = sconce_models::find_encoder(config)? {
        return Ok(found);
    }
    let kind = kind_of(task);
    let does = |arch: &&EncoderArch, class: &String| match arch.class(class) {
        Some(head) => kind.is_none() || head == kind,
        None => false,
    };
    let classes = ENCODERS.iter().flat_map(|arch| {
        let classes = arch.classes();
        classes.filter(move |class| does(arch, class))
    });
    let names = config.architectures()?;
    Err(StartError::NoEncoder {
        task,
        class: if names.is_empty() {
            "no class".into()
        } else {
            names.join(", ")
        },
        supported: classes.collect::<Vec<_>>().join(", "),
    })
}

/// Fails when the checkpoint's class has another head than the task needs.
fn require_head(
    config: &HfConfig,
    task: Task,
    class: Option<HeadKind>,
    needed: Option<HeadKind>,
) -> Result<(), StartError> {
    if needed.is_none() || needed == class {
        return Ok(());
    }
    let does = |task: &Task| {
        let needed = kind_of(*task);
        let makes = matches!(task, Task::TextGeneration | Task::TextToImage);
        !makes && !task.reads_and_writes() && (needed.is_none() || needed == class)
    };
    Err(StartError::Misfit {
        class: config
            .architectures()?
            .first()
            .copied()
            .unwrap_or("a model without a head")
            .into(),
        task,
        fits: Task::ALL.into_iter().filter(does).collect(),
    })
}

fn require_labels(config: &HfConfig, task: Task, labels: &Labels) -> Result<(), StartError> {
    let wanted = match task {
        Task::ZeroShotClassification if labels.entailment.is_none() => {
            "a class whose name begins with entail"
        }
        Task::ZeroShotClassification if labels.names.len() < 2 => "a class for contradiction too",
        Task::TextRanking if labels.names.len() != 1 => "one class, the score",
        _ => return Ok(()),
    };
    Err(StartError::Labels {
        file: config.file().into(),
        task,
        wanted,
        found: labels.names.join(", "),
    })
}
