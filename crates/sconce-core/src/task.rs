//! What models are asked besides continuing a text, and what they answer: one request, one answer.
//!
//! The names and defaults are those of transformers' pipelines. How they are written on the wire is
//! a dialect's matter, how they are computed `sconce-tasks`'s.

use std::fmt;

use crate::decoding::AskedDecoding;
use crate::draw::{Draw, Picture};

/// What a model does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Task {
    /// Continue a text.
    #[default]
    TextGeneration,
    /// Name the classes of a text or of a pair of texts.
    TextClassification,
    /// Name the class of each token, or of each word.
    TokenClassification,
    /// Find the answer to a question within a text.
    QuestionAnswering,
    /// Find the masked words of a text.
    FillMask,
    /// Rank labels that the request names.
    ZeroShotClassification,
    /// A vector for each token.
    FeatureExtraction,
    /// One vector for a text.
    TextEmbedding,
    /// How alike a text is to others.
    SentenceSimilarity,
    /// How well texts answer a query.
    TextRanking,
    /// Write a text that answers another.
    Text2TextGeneration,
    /// Shorten a text.
    Summarization,
    /// Write a text in another language.
    Translation,
    /// Answer the last message of a dialogue.
    Conversational,
    /// Make a picture of a text.
    TextToImage,
}

impl Task {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::TextGeneration,
        Self::TextClassification,
        Self::TokenClassification,
        Self::QuestionAnswering,
        Self::FillMask,
        Self::ZeroShotClassification,
        Self::FeatureExtraction,
        Self::TextEmbedding,
        Self::SentenceSimilarity,
        Self::TextRanking,
        Self::Text2TextGeneration,
        Self::Summarization,
        Self::Translation,
        Self::Conversational,
        Self::TextToImage,
    ];

    /// The name that `option.task` has for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::TextGeneration => "text-generation",
            Self::TextClassification => "text-classification",
            Self::TokenClassification => "token-classification",
            Self::QuestionAnswering => "question-answering",
            Self::FillMask => "fill-mask",
            Self::ZeroShotClassification => "zero-shot-classification",
            Self::FeatureExtraction => "feature-extraction",
            Self::TextEmbedding => "text-embedding",
            Self::SentenceSimilarity => "sentence-similarity",
            Self::TextRanking => "text-ranking",
            Self::Text2TextGeneration => "text2text-generation",
            Self::Summarization => "summarization",
            Self::Translation => "translation",
            Self::Conversational => "conversational",
            Self::TextToImage => "text-to-image",
        }
    }

    /// Whether a text is read and another one written.
    pub fn reads_and_writes(self) -> bool {
        matches!(
            self,
            Self::Text2TextGeneration
                | Self::Summarization
                | Self::Translation
                | Self::Conversational
        )
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A request of one of the tasks.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// The classes of a text.
    Classify(Classify),
    /// The classes of its tokens.
    Tag(Tag),
    /// The answer to a question.
    Find(Find),
    /// Masked words.
    Fill(Fill),
    /// The ranking of named labels.
    Choose(Choose),
    /// A vector for each token.
    Features(Features),
    /// One vector.
    Embed(Embed),
    /// The likeness of a text to others.
    Compare(Compare),
    /// The ranking of texts by a query.
    Rank(Rank),
    /// A text of another.
    Write(Box<Write>),
    /// Pictures of texts.
    Draw(Box<Draw>),
}

impl Ask {
    /// The task that it belongs to.
    pub fn task(&self) -> Task {
        match self {
            Self::Classify(_) => Task::TextClassification,
            Self::Tag(_) => Task::TokenClassification,
            Self::Find(_) => Task::QuestionAnswering,
            Self::Fill(_) => Task::FillMask,
            Self::Choose(_) => Task::ZeroShotClassification,
            Self::Features(_) => Task::FeatureExtraction,
            Self::Embed(_) => Task::TextEmbedding,
            Self::Compare(_) => Task::SentenceSimilarity,
            Self::Rank(_) => Task::TextRanking,
            Self::Write(asked) => asked.task,
            Self::Draw(_) => Task::TextToImage,
        }
    }
}

/// What becomes of logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// Each class by itself.
    Sigmoid,
    /// All classes together add up to 1.
    Softmax,
    /// They stay as they are.
    None,
}

/// What happens to a text that is too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Truncation {
    /// It is cut; else it is refused.
    pub cut: bool,
    /// The longest text in tokens, if it is shorter than what the model takes.
    pub max_len: Option<usize>,
}

/// A text, or two that belong together, to be classified.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Classify {
    /// The text.
    pub text: String,
    /// The second text.
    pub pair: Option<String>,
    /// What becomes of the logits; `None`: what the checkpoint says.
    pub function: Option<Function>,
    /// So many classes, best first; `None`: all.
    pub top_k: Option<usize>,
    /// Classes stay in the model's order, all of them.
    pub unsorted: bool,
    /// What happens to a text that is too long.
    pub truncation: Truncation,
}

/// A class with its score.
#[derive(Clone, Debug, PartialEq)]
pub struct Label {
    /// The name that the checkpoint or the request has for it.
    pub label: String,
    /// Its score, larger is better.
    pub score: f32,
}

/// How the tokens of an entity become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Aggregation {
    /// Not at all.
    #[default]
    None,
    /// Neighbours of one class, by the prefixes `B-` and `I-`.
    Simple,
    /// Words have the class of their first token.
    First,
    /// Words have the best class of the mean of their tokens' scores.
    Average,
    /// Words have the class of the token with the highest score.
    Max,
}

/// A text whose tokens are to be classified.
#[derive(Clone, Debug, PartialEq)]
pub struct Tag {
    /// The text.
    pub text: String,
    /// How tokens become entities.
    pub aggregation: Aggregation,
    /// Classes that are left out, usually `O`.
    pub ignore_labels: Vec<String>,
    /// Long texts are computed in pieces that overlap by so many tokens; `None`: they are cut.
    pub stride: Option<usize>,
}

/// A token or a group of tokens with a class.
#[derive(Clone, Debug, PartialEq)]
pub struct Entity {
    /// The class.
    pub class: String,
    /// Its probability.
    pub score: f32,
    /// The token's index, counted with special tokens; `None` for groups.
    pub index: Option<usize>,
    /// Its text.
    pub word: String,
    /// Its first character in the text.
    pub start: usize,
    /// The character behind its last.
    pub end: usize,
}

/// A question about a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Find {
    /// The question.
    pub question: String,
    /// The text with the answer.
    pub context: String,
    /// So many answers at most, best first.
    pub top_k: usize,
    /// Tokens that windows over a long text have in common; `None`: half of a window, at most 128.
    pub doc_stride: Option<usize>,
    /// Tokens of the longest answer.
    pub max_answer_len: usize,
    /// Tokens of a window with the question; `None`: 384, or what the model takes.
    pub max_seq_len: Option<usize>,
    /// Whether no answer is an answer.
    pub handle_impossible_answer: bool,
    /// Whether answers begin and end with words.
    pub align_to_words: bool,
}

/// A part of a text that answers a question; empty for no answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Probability.
    pub score: f32,
    /// Its first character in the text.
    pub start: usize,
    /// The character behind its last.
    pub end: usize,
    /// The text.
    pub answer: String,
}

/// A text with masked words.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fill {
    /// The text.
    pub text: String,
    /// So many words for each mask, best first.
    pub top_k: usize,
    /// Words that are compared; empty: all.
    pub targets: Vec<String>,
    /// What happens to a text that is too long.
    pub truncation: Truncation,
}

/// A word for a mask.
#[derive(Clone, Debug, PartialEq)]
pub struct Filled {
    /// Probability.
    pub score: f32,
    /// Its id in the vocabulary.
    pub token: u32,
    /// Its text.
    pub word: String,
    /// The text with it in place of the mask.
    pub sequence: String,
}

/// A text and labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Choose {
    /// The text.
    pub text: String,
    /// The labels.
    pub labels: Vec<String>,
    /// The sentence that is tested for each label, which stands for `{}`.
    pub template: String,
    /// Whether each label is true or false by itself.
    pub multi_label: bool,
}

/// A text whose tokens' vectors are wanted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Features {
    /// The text.
    pub text: String,
    /// What happens to a text that is too long.
    pub truncation: Truncation,
}

/// A text whose vector is wanted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Embed {
    /// The text.
    pub text: Subject,
    /// Whether the vector has the length 1; `None`: as the checkpoint says.
    pub normalize: Option<bool>,
    /// Only its first numbers, brought to the length 1 again if they had it (Matryoshka).
    pub dimensions: Option<usize>,
    /// Name of a text in the checkpoint's `prompts` that is put before.
    pub prompt_name: Option<String>,
    /// What happens to a text that is too long; `None`: it is cut, as sentence-transformers does.
    pub truncation: Option<Truncation>,
}

/// A text as characters or as its tokens.
#[derive(Clone, Debug, PartialEq)]
pub enum Subject {
    /// Characters.
    Text(String),
    /// Ids with the special tokens.
    Tokens(Vec<u32>),
}

impl Default for Subject {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

/// How the vectors of tokens become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The first token's.
    First,
    /// The largest of each number.
    Max,
    /// The mean.
    Mean,
    /// The sum over the root of the number of tokens.
    MeanSqrt,
    /// The mean with the token's place as its weight.
    Weighted,
    /// The last token's.
    Last,
}

/// A text and others to compare it with.
#[derive(Clone, Debug, PartialEq)]
pub struct Compare {
    /// The text.
    pub source: String,
    /// The others.
    pub sentences: Vec<String>,
}

/// A query and texts that may answer it.
#[derive(Clone, Debug, PartialEq)]
pub struct Rank {
    /// Query and text, each pair.
    pub pairs: Vec<(String, String)>,
    /// What becomes of the logits; `None`: what the checkpoint says.
    pub function: Option<Function>,
    /// What happens to texts that are too long.
    pub truncation: Truncation,
}

/// What a text is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Another text.
    Text(String),
    /// The messages of a dialogue, in order.
    Dialogue(Vec<Message>),
}

/// A message of a dialogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who said it.
    pub role: Role,
    /// What was said.
    pub content: String,
}

/// Who speaks in a dialogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Whoever asks.
    User,
    /// The model.
    Assistant,
    /// Whoever tells the model how to be.
    System,
}

impl Role {
    /// As templates of dialogues call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::System => "system",
        }
    }
}

/// A text of which another one is to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// The task, one of those that write.
    pub task: Task,
    /// What is read.
    pub source: Source,
    /// Its language, as the tokenizer of the model names it.
    pub src_lang: Option<String>,
    /// The language to translate it to.
    pub tgt_lang: Option<String>,
    /// How the text is written.
    pub decoding: AskedDecoding,
    /// A text whose first token ends what is written.
    pub stop_sequence: Option<String>,
    /// What happens to a text that is too long.
    pub truncation: Truncation,
    /// Whether spaces before punctuation are taken out of what is written.
    pub clean_up: bool,
}

/// The answer to an [`Ask`], and how many tokens were read for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// What was found.
    pub answer: TaskAnswer,
    /// Tokens of all texts, special ones included.
    pub tokens: usize,
}

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub enum TaskAnswer {
    /// Classes with scores.
    Labels(Vec<Label>),
    /// Tokens, words or groups with classes.
    Entities(Vec<Entity>),
    /// Parts of the text.
    Spans(Vec<Span>),
    /// Words for each mask.
    Masks(Vec<Vec<Filled>>),
    /// A vector for each token.
    Vectors(Vec<Vec<f32>>),
    /// One vector.
    Vector(Vec<f32>),
    /// A score for each text, in the order of the request.
    Scores(Vec<f32>),
    /// What was written, best first.
    Texts(Vec<Written>),
    /// Pictures, those of the first text first.
    Pictures(Vec<Picture>),
}

/// A text that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The text, without special tokens.
    pub text: String,
    /// Its tokens, special ones included, without the one that the decoder begins with.
    pub tokens: Vec<u32>,
}
