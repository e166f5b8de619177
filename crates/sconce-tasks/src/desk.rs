//! Which tasks an engine does: that of its model, and those that the same head serves, so that several routes can ask
//! one model. Vectors of tokens and of texts go together, and so do classes, named labels and ranks.

use std::sync::Arc;

use sconce_core::task::Function;
use sconce_core::{Ask, ServeError, Task as Kind};
use sconce_models::encoder::HeadKind;
use sconce_text::Role;

use crate::choose::Chooser;
use crate::classify::Classifier;
use crate::compare::Comparer;
use crate::describe::{TaskDescription, kind_of};
use crate::embed::{Embedder, Vectors};
use crate::error::StartError;
use crate::features::Extractor;
use crate::fill::Filler;
use crate::find::Finder;
use crate::rank::Ranker;
use crate::reader::Reader;
use crate::settings::TaskSettings;
use crate::tag::Tagger;
use crate::work::{Task, Work, misplaced};

/// The task's part before and after the encoder.
pub(crate) fn task(
    description: &TaskDescription,
    settings: &TaskSettings,
) -> Result<Box<dyn Task>, StartError> {
    let reader = Reader {
        tokenizer: Arc::clone(&description.tokenizer),
        max_len: description.max_len,
        segments: description.spec.dims.types > 1,
    };
    let kind = settings.task;
    Ok(match kind_of(kind) {
        Some(HeadKind::Sequence) => Box::new(classes(description, reader, kind)),
        Some(HeadKind::Tokens) => Box::new(Tagger {
            reader,
            classes: description.labels.names.clone().into(),
        }),
        Some(HeadKind::Span) => Box::new(Finder { reader }),
        Some(HeadKind::Mask) => {
            let mask = reader.tokenizer.role(Role::Mask);
            let mask = mask.ok_or_else(|| StartError::NoToken {
                dir: settings.dir.clone(),
                token: "mask token",
                task: kind,
            })?;
            Box::new(Filler { reader, mask })
        }
        None => Box::new(vectors(description, settings, reader)),
    })
}

/// Whatever a head of classes does.
struct Classes {
    kind: Kind,
    classifier: Classifier,
    /// Where a class stands for entailment.
    chooser: Option<Chooser>,
    /// Where there is one class.
    ranker: Option<Ranker>,
}

fn classes(description: &TaskDescription, reader: Reader, kind: Kind) -> Classes {
    let labels = &description.labels;
    let count = labels.names.len();
    let chooser = labels
        .entailment
        .filter(|_| count > 1)
        .map(|entailment| Chooser {
            reader: reader.clone(),
            entailment,
            classes: count,
        });
    let ranker = (count == 1).then(|| Ranker {
        reader: reader.clone(),
        function: rank_function(description),
    });
    Classes {
        kind,
        classifier: Classifier {
            reader,
            labels: labels.clone(),
        },
        chooser,
        ranker,
    }
}

/// What a cross-encoder makes of its logit: `sentence_transformers.activation_fn`, else the sigmoid.
fn rank_function(description: &TaskDescription) -> Function {
    let config = description.config();
    let own = config.object("sentence_transformers").ok();
    let named = own.as_ref().and_then(|own| own.text("activation_fn"));
    let older = config.text("sbert_ce_default_activation_function");
    match named.or(older) {
        Some(name) if name.ends_with("Identity") => Function::None,
        _ => Function::Sigmoid,
    }
}

impl Task for Classes {
    fn prepare(&self, ask: Ask) -> Result<Work, ServeError> {
        match (&ask, &self.chooser, &self.ranker) {
            (Ask::Classify(_), _, _) => self.classifier.prepare(ask),
            (Ask::Choose(_), Some(chooser), _) => chooser.prepare(ask),
            (Ask::Rank(_), _, Some(ranker)) => ranker.prepare(ask),
            (Ask::Rank(_), _, None) => Err(ServeError::Malformed(format!(
                "the model has {} classes, and ranking needs one, the score",
                self.classifier.labels.names.len()
            ))),
            _ => Err(misplaced(&ask, self.kind)),
        }
    }
}

/// Whatever an encoder without a head does.
struct Headless {
    kind: Kind,
    extractor: Extractor,
    embedder: Embedder,
    comparer: Comparer,
}

fn vectors(description: &TaskDescription, settings: &TaskSettings, reader: Reader) -> Headless {
    let limit = description.modules.max_len.unwrap_or(reader.max_len);
    let vectors = Vectors {
        reader: Reader {
            max_len: reader.max_len.min(limit),
            ..reader.clone()
        },
        modules: Arc::new(description.modules.clone()),
        width: description.spec.dims.width,
        vocab: description.spec.dims.vocab,
    };
    Headless {
        kind: settings.task,
        extractor: Extractor {
            reader,
            wish: settings.vectors,
        },
        embedder: Embedder {
            vectors: vectors.clone(),
        },
        comparer: Comparer { vectors },
    }
}

impl Task for Headless {
    fn prepare(&self, ask: Ask) -> Result<Work, ServeError> {
        match ask {
            Ask::Features(_) => self.extractor.prepare(ask),
            Ask::Embed(_) => self.embedder.prepare(ask),
            Ask::Compare(_) => self.comparer.prepare(ask),
            other => Err(misplaced(&other, self.kind)),
        }
    }
}
