//! The tasks of DJL Serving's handlers, of transformers' pipelines and of vLLM, by all their names.

use crate::value::{Rejection, Value, guess};

/// What a model is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Continue a prompt (`text-generation`, vLLM's `generate`).
    TextGeneration,
    /// Answer a text with a text (`text2text-generation`).
    Text2TextGeneration,
    /// Shorten a text.
    Summarization,
    /// Translate a text, with both languages where the name says them (`translation_en_to_fr`).
    Translation(Option<(String, String)>),
    /// Answer the last turn of a dialogue, up to 0.27.
    Conversational,
    /// Name the class of a text (`text-classification`, `sentiment-analysis`, vLLM's `classify`).
    TextClassification,
    /// Name the class of each token (`token-classification`, `ner`).
    TokenClassification,
    /// Find an answer within a text.
    QuestionAnswering,
    /// Find an answer within a table.
    TableQuestionAnswering,
    /// Find the masked word.
    FillMask,
    /// Pick one of several continuations.
    MultipleChoice,
    /// Classes that are named in the request.
    ZeroShotClassification,
    /// A vector for each token.
    FeatureExtraction,
    /// One vector for a text (`text-embedding`, vLLM's `embed`).
    TextEmbedding,
    /// How alike two texts are.
    SentenceSimilarity,
    /// How well a text answers a query (reranking; vLLM's `score`).
    TextRanking,
    /// A picture from a text (Stable Diffusion).
    TextToImage,
    /// Any task whose input or output is a picture or a film, under transformers' name.
    Vision(&'static str),
    /// Any task whose input or output is sound, under transformers' name.
    Audio(&'static str),
}

/// Names without parameters; those of pictures and of sound stand in their own lists.
const NAMES: &[(&str, Task)] = &[
    ("text-generation", Task::TextGeneration),
    ("generate", Task::TextGeneration),
    ("text2text-generation", Task::Text2TextGeneration),
    ("summarization", Task::Summarization),
    ("translation", Task::Translation(None)),
    ("conversational", Task::Conversational),
    ("text-classification", Task::TextClassification),
    ("sentiment-analysis", Task::TextClassification),
    ("classify", Task::TextClassification),
    ("token-classification", Task::TokenClassification),
    ("ner", Task::TokenClassification),
    ("question-answering", Task::QuestionAnswering),
    ("table-question-answering", Task::TableQuestionAnswering),
    ("fill-mask", Task::FillMask),
    ("multiple-choice", Task::MultipleChoice),
    ("zero-shot-classification", Task::ZeroShotClassification),
    ("feature-extraction", Task::FeatureExtraction),
    ("text-embedding", Task::TextEmbedding),
    ("embedding", Task::TextEmbedding),
    ("embed", Task::TextEmbedding),
    ("sentence-similarity", Task::SentenceSimilarity),
    ("text-ranking", Task::TextRanking),
    ("score", Task::TextRanking),
    ("reward", Task::TextRanking),
    ("text-to-image", Task::TextToImage),
];

const VISION: &[&str] = &[
    "any-to-any",
    "depth-estimation",
    "document-question-answering",
    "image-classification",
    "image-feature-extraction",
    "image-segmentation",
    "image-text-to-text",
    "image-to-image",
    "image-to-text",
    "keypoint-matching",
    "mask-generation",
    "object-detection",
    "video-classification",
    "visual-question-answering",
    "vqa",
    "zero-shot-image-classification",
    "zero-shot-object-detection",
];

const AUDIO: &[&str] = &[
    "audio-classification",
    "automatic-speech-recognition",
    "text-to-audio",
    "text-to-speech",
    "transcription",
    "zero-shot-audio-classification",
];

impl Task {
    /// Reads a name; underscores count as hyphens, as DJL's Java translators have them. `auto` is
    /// `None`: the checkpoint says.
    pub(crate) fn parse(value: &str) -> Value<Option<Self>> {
        if value == "auto" {
            return Ok(None);
        }
        if let Some(languages) = value.strip_prefix("translation_") {
            let pair = languages
                .split_once("_to_")
                .filter(|(from, to)| !from.is_empty() && !to.is_empty());
            let (from, to) = pair.ok_or_else(|| {
                let form = "must name both languages, as in translation_en_to_fr";
                Rejection::Invalid(form.into())
            })?;
            return Ok(Some(Self::Translation(Some((from.into(), to.into())))));
        }
        let name = value.replace('_', "-");
        let listed = NAMES.iter().find(|(known, _)| *known == name);
        let found = listed
            .map(|(_, task)| task.clone())
            .or_else(|| find(VISION, &name).map(Self::Vision))
            .or_else(|| find(AUDIO, &name).map(Self::Audio));
        found.map(Some).ok_or_else(|| {
            let known = NAMES.iter().map(|(name, _)| *name);
            let known = known.chain(VISION.iter().chain(AUDIO).copied());
            Rejection::Invalid(format!(
                "must be a task of transformers' pipelines, such as text-generation, or auto{}",
                guess(value, known)
            ))
        })
    }

    /// What this build does of it; `None`: nothing.
    pub fn served(&self) -> Option<sconce_core::Task> {
        use sconce_core::Task as Served;
        Some(match self {
            Self::TextGeneration => Served::TextGeneration,
            Self::TextClassification => Served::TextClassification,
            Self::TokenClassification => Served::TokenClassification,
            Self::QuestionAnswering => Served::QuestionAnswering,
            Self::FillMask => Served::FillMask,
            Self::ZeroShotClassification => Served::ZeroShotClassification,
            Self::FeatureExtraction => Served::FeatureExtraction,
            Self::TextEmbedding => Served::TextEmbedding,
            Self::SentenceSimilarity => Served::SentenceSimilarity,
            Self::TextRanking => Served::TextRanking,
            Self::Text2TextGeneration => Served::Text2TextGeneration,
            Self::Summarization => Served::Summarization,
            Self::Translation(_) => Served::Translation,
            Self::TextToImage => Served::TextToImage,
            Self::Conversational => Served::Conversational,
            Self::TableQuestionAnswering
            | Self::MultipleChoice
            | Self::Vision(_)
            | Self::Audio(_) => return None,
        })
    }

    /// The languages that its name says, from and to.
    pub fn languages(&self) -> Option<(String, String)> {
        match self {
            Self::Translation(languages) => languages.clone(),
            _ => None,
        }
    }

    /// Refuses a task that is not served yet.
    pub(crate) fn check(&self) -> Value<()> {
        if self.served().is_some() {
            return Ok(());
        }
        let what = match self {
            Self::Vision(_) => "tasks that look at pictures are",
            Self::Audio(_) => "tasks with sound are",
            Self::TableQuestionAnswering => {
                "tables, which need TAPAS and its reading of numbers and dates in cells, are"
            }
            _ => "this task is",
        };
        let served: Vec<&str> = sconce_core::Task::ALL
            .iter()
            .map(|task| task.name())
            .collect();
        Err(Rejection::Unsupported(format!(
            "{what} not served yet, only {}",
            served.join(", ")
        )))
    }
}

fn find(names: &[&'static str], name: &str) -> Option<&'static str> {
    names.iter().copied().find(|known| *known == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_names_of_a_task_mean_it() {
        for (name, task) in [
            ("generate", Task::TextGeneration),
            ("sentiment-analysis", Task::TextClassification),
            ("ner", Task::TokenClassification),
            ("text_embedding", Task::TextEmbedding),
            ("vqa", Task::Vision("vqa")),
            (
                "automatic-speech-recognition",
                Task::Audio("automatic-speech-recognition"),
            ),
            (
                "translation_en_to_fr",
                Task::Translation(Some(("en".into(), "fr".into()))),
            ),
        ] {
            assert_eq!(Task::parse(name), Ok(Some(task)), "{name}");
        }
        assert_eq!(Task::parse("auto"), Ok(None));
    }

    #[test]
    fn wrong_names_are_answered_with_the_nearest() {
        let Err(Rejection::Invalid(must)) = Task::parse("text-generaton") else {
            panic!("it is no task")
        };
        assert!(must.ends_with("did you mean text-generation?"), "{must}");
        assert!(Task::parse("translation_en").is_err());
    }

    #[test]
    fn what_is_not_served_says_so() {
        assert_eq!(Task::TextGeneration.check(), Ok(()));
        assert_eq!(Task::FillMask.check(), Ok(()));
        for (task, part) in [
            (
                Task::MultipleChoice,
                "this task is not served yet, only text-generation, text-cl",
            ),
            (
                Task::TableQuestionAnswering,
                "TAPAS and its reading of numbers and dates in cells, are not served yet",
            ),
            (Task::Vision("image-classification"), "look at pictures"),
            (Task::Audio("text-to-speech"), "with sound"),
        ] {
            let Err(Rejection::Unsupported(reason)) = task.check() else {
                panic!("{task:?} is not served")
            };
            assert!(reason.contains(part), "{reason}");
        }
    }
}
