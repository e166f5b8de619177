//! From a request to what an engine is asked, task by task: the arguments of transformers' pipelines, with their
//! defaults.

use sconce_core::task::{
    Aggregation, Choose, Classify, Compare, Embed, Features, Fill, Find, Function, Rank, Subject,
    Tag, Truncation,
};
use sconce_core::{Ask, ServeError};
use serde_json::{Map, Value};

use super::AcceptedTask;
use super::read::{MOST_TEXTS, Request, members, nothing, text, truncation};
use super::render::{
    Choices, Entities, Fillings, Labels, Ranking, Similarity, Spans, TokenVectors, Vectors,
};
use crate::fields::Fields;

type Result<T> = std::result::Result<T, ServeError>;

/// A number of things of which there is at least one.
fn positive(parameters: &mut Fields, key: &'static str) -> Result<Option<usize>> {
    let problem = "must be a whole number of at least 1";
    let found = parameters.integer(key, 1..=i128::from(u32::MAX), problem)?;
    Ok(found.map(|number| number as usize))
}

/// `function_to_apply`, whose names transformers takes in any case.
fn function(parameters: &mut Fields) -> Result<Option<Function>> {
    let Some(name) = parameters.text("function_to_apply")? else {
        return Ok(None);
    };
    match name.to_lowercase().as_str() {
        "sigmoid" => Ok(Some(Function::Sigmoid)),
        "softmax" => Ok(Some(Function::Softmax)),
        "none" => Ok(Some(Function::None)),
        "default" => Ok(None),
        _ => {
            let problem = "must be sigmoid, softmax, none or default";
            Err(ServeError::parameter("function_to_apply", name, problem))
        }
    }
}

pub(super) fn classification(mut request: Request) -> Result<AcceptedTask> {
    let items = request.items()?;
    let parameters = &mut request.parameters;
    // `null` asks for all classes, which is not the same as to say nothing.
    let all = parameters.is_null("top_k");
    let top_k = positive(parameters, "top_k")?;
    let every = parameters.flag("return_all_scores")?.unwrap_or(false);
    let function = function(parameters)?;
    let truncation = request.truncation()?;
    request.finish()?;
    let ranked = all || top_k.is_some();
    let (top_k, unsorted) = match (ranked, every) {
        (true, _) => (top_k, false),
        (false, true) => (None, true),
        (false, false) => (Some(1), false),
    };
    let ask = |item| {
        let (text, pair) = match item {
            Value::Object(object) => with_pair(object)?,
            other => (text(other)?, None),
        };
        Ok(Ask::Classify(Classify {
            text,
            pair,
            function,
            top_k,
            unsorted,
            truncation,
        }))
    };
    let asks = items.into_iter().map(ask).collect::<Result<_>>()?;
    let nested = ranked || every;
    Ok(AcceptedTask::new(asks, Labels { nested }))
}

/// `{"text": …, "text_pair": …}`, of which the second may be missing.
fn with_pair(object: Map<String, Value>) -> Result<(String, Option<String>)> {
    let whole = Value::Object(object.clone());
    let mut fields = Fields::new(object);
    let (text, pair) = (fields.text("text")?, fields.text("text_pair")?);
    fields.finish(|_| None)?;
    let wanted = "must be an object {\"text\": \"…\"}, or with \"text_pair\" too";
    let text = text.ok_or_else(|| ServeError::parameter("inputs", whole, wanted))?;
    Ok((text, pair))
}

pub(super) fn tokens(mut request: Request) -> Result<AcceptedTask> {
    let texts = request.texts()?;
    let parameters = &mut request.parameters;
    let named = parameters.text("aggregation_strategy")?;
    let grouped = parameters.flag("grouped_entities")?.unwrap_or(false);
    let aggregation = match named.as_deref().map(str::to_lowercase).as_deref() {
        None if grouped => Aggregation::Simple,
        None | Some("none") => Aggregation::None,
        Some("simple") => Aggregation::Simple,
        Some("first") => Aggregation::First,
        Some("average") => Aggregation::Average,
        Some("max") => Aggregation::Max,
        Some(other) => {
            let problem = "must be none, simple, first, average or max";
            return Err(ServeError::parameter(
                "aggregation_strategy",
                other,
                problem,
            ));
        }
    };
    let listed = parameters.has("ignore_labels");
    let ignored = parameters.texts("ignore_labels", MOST_TEXTS)?;
    let problem = "must be a number of tokens of at least 0";
    let stride = parameters.integer("stride", 0..=i128::from(u32::MAX), problem)?;
    request.finish()?;
    let ask = |text| {
        Ask::Tag(Tag {
            text,
            aggregation,
            ignore_labels: if listed {
                ignored.clone()
            } else {
                vec!["O".into()]
            },
            stride: stride.map(|stride| stride as usize),
        })
    };
    let asks = texts.into_iter().map(ask).collect();
    let groups = aggregation != Aggregation::None;
    Ok(AcceptedTask::new(asks, Entities { groups }))
}

pub(super) fn questions(mut request: Request) -> Result<AcceptedTask> {
    let items = request.items()?;
    let parameters = &mut request.parameters;
    let older = positive(parameters, "topk")?;
    let top_k = positive(parameters, "top_k")?.or(older).unwrap_or(1);
    let problem = "must be a number of tokens of at least 0";
    let doc_stride = parameters.integer("doc_stride", 0..=i128::from(u32::MAX), problem)?;
    let max_answer_len = positive(parameters, "max_answer_len")?.unwrap_or(15);
    let max_seq_len = positive(parameters, "max_seq_len")?;
    // Fast tokenizers never cut questions, whatever it says.
    positive(parameters, "max_question_len")?;
    let impossible = parameters.flag("handle_impossible_answer")?;
    let align = parameters.flag("align_to_words")?;
    parameters.take("padding");
    request.finish()?;
    let ask = |item| {
        let [question, context] = question(item)?;
        Ok(Ask::Find(Find {
            question,
            context,
            top_k,
            doc_stride: doc_stride.map(|stride| stride as usize),
            max_answer_len,
            max_seq_len,
            handle_impossible_answer: impossible.unwrap_or(false),
            align_to_words: align.unwrap_or(true),
        }))
    };
    let asks = items.into_iter().map(ask).collect::<Result<_>>()?;
    Ok(AcceptedTask::new(asks, Spans))
}

/// A question and its context, which DJL's translators call a paragraph; neither may be empty.
fn question(item: Value) -> Result<[String; 2]> {
    let found = if item.get("paragraph").is_some() {
        members(item, ["question", "paragraph"])?
    } else {
        members(item, ["question", "context"])?
    };
    for (key, text) in ["question", "context"].into_iter().zip(&found) {
        if text.is_empty() {
            return Err(ServeError::parameter(key, "\"\"", "cannot be empty"));
        }
    }
    Ok(found)
}

pub(super) fn masks(mut request: Request) -> Result<AcceptedTask> {
    let texts = request.texts()?;
    let parameters = &mut request.parameters;
    let top_k = positive(parameters, "top_k")?.unwrap_or(5);
    let targets = parameters.texts("targets", MOST_TEXTS)?;
    let mut inner = object(parameters, "tokenizer_kwargs")?;
    let truncation = truncation(&mut inner)?;
    inner.finish(|_| None)?;
    request.finish()?;
    let ask = |text| {
        Ask::Fill(Fill {
            text,
            top_k,
            targets: targets.clone(),
            truncation,
        })
    };
    let asks = texts.into_iter().map(ask).collect();
    Ok(AcceptedTask::new(asks, Fillings))
}

/// An object inside; empty when absent.
fn object(parameters: &mut Fields, key: &'static str) -> Result<Fields> {
    match parameters.take(key) {
        None => Ok(Fields::new(Map::new())),
        Some(Value::Object(map)) => Ok(Fields::new(map)),
        Some(other) => Err(ServeError::parameter(key, other, "must be an object")),
    }
}

pub(super) fn zero_shot(mut request: Request) -> Result<AcceptedTask> {
    // The form of DJL's translator: everything in one object.
    if let Value::Object(object) = &request.inputs {
        let mut object = object.clone();
        let text = object
            .shift_remove("text")
            .or_else(|| object.shift_remove("sequences"));
        request.inputs = text.ok_or_else(nothing)?;
        request.parameters = Fields::new(object);
    }
    let texts = request.texts()?;
    let parameters = &mut request.parameters;
    let labels = labels(parameters)?;
    let older = parameters.flag("multi_class")?;
    let multi_label = parameters.flag("multi_label")?.or(older).unwrap_or(false);
    let template = parameters.text("hypothesis_template")?;
    let template = template.unwrap_or_else(|| "This example is {}.".into());
    // The text is always cut where it has to be, never the label.
    request.truncation()?;
    request.finish()?;
    if !template.contains("{}") || template.replace("{}", "").contains(['{', '}']) {
        let problem = "must contain {} where the label is to stand, and no other braces";
        return Err(ServeError::parameter(
            "hypothesis_template",
            template,
            problem,
        ));
    }
    let ask = |text: &String| {
        Ask::Choose(Choose {
            text: text.clone(),
            labels: labels.clone(),
            template: template.clone(),
            multi_label,
        })
    };
    let asks = texts.iter().map(ask).collect();
    Ok(AcceptedTask::new(asks, Choices { texts }))
}

/// `candidate_labels`: a list, or names between commas.
fn labels(parameters: &mut Fields) -> Result<Vec<String>> {
    const KEY: &str = "candidate_labels";
    let listed = match parameters.take(KEY) {
        Some(Value::String(names)) => {
            let names = names.split(',').map(str::trim);
            names
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect()
        }
        Some(Value::Array(items)) => items
            .into_iter()
            .map(|item| match item {
                Value::String(name) => Ok(name),
                other => Err(ServeError::parameter(KEY, other, "must hold strings only")),
            })
            .collect::<Result<Vec<_>>>()?,
        Some(other) => {
            let problem = "must be a list of labels, or labels between commas";
            return Err(ServeError::parameter(KEY, other, problem));
        }
        None => Vec::new(),
    };
    if listed.is_empty() || listed.len() > MOST_TEXTS {
        let value = format!("{} labels", listed.len());
        let problem = format!("must name 1 to {MOST_TEXTS} labels");
        return Err(ServeError::parameter(KEY, value, problem));
    }
    Ok(listed)
}

pub(super) fn features(mut request: Request) -> Result<AcceptedTask> {
    let texts = request.texts()?;
    let mut inner = object(&mut request.parameters, "tokenize_kwargs")?;
    let inside = truncation(&mut inner)?;
    inner.finish(|_| None)?;
    let outside = request.truncation()?;
    request.parameters.flag("return_tensors")?;
    request.finish()?;
    let truncation = Truncation {
        cut: inside.cut || outside.cut,
        max_len: inside.max_len.or(outside.max_len),
    };
    let ask = |text| Ask::Features(Features { text, truncation });
    let asks = texts.into_iter().map(ask).collect();
    Ok(AcceptedTask::new(asks, TokenVectors))
}

pub(super) fn embedding(mut request: Request) -> Result<AcceptedTask> {
    let texts = request.texts()?;
    let parameters = &mut request.parameters;
    let normalize = parameters.flag("normalize")?;
    let dimensions = positive(parameters, "dimensions")?;
    let prompt_name = parameters.text("prompt_name")?;
    let cut = parameters.flag("truncate")?;
    request.finish()?;
    let truncation = cut.map(|cut| Truncation { cut, max_len: None });
    let ask = |text| {
        Ask::Embed(Embed {
            text: Subject::Text(text),
            normalize,
            dimensions,
            prompt_name: prompt_name.clone(),
            truncation,
        })
    };
    let asks = texts.into_iter().map(ask).collect();
    Ok(AcceptedTask::new(asks, Vectors))
}

pub(super) fn similarity(request: Request) -> Result<AcceptedTask> {
    let wanted = "must be an object {\"source_sentence\": \"…\", \"sentences\": [\"…\"]}";
    let Value::Object(object) = request.inputs else {
        return Err(ServeError::parameter("inputs", request.inputs, wanted));
    };
    request.parameters.finish(|_| None)?;
    let mut fields = Fields::new(object);
    let source = fields.text("source_sentence")?;
    let sentences = strings(&mut fields, "sentences")?;
    fields.finish(|_| None)?;
    match (source, sentences.is_empty()) {
        (Some(source), false) => {
            let asks = vec![Ask::Compare(Compare { source, sentences })];
            Ok(AcceptedTask::new(asks, Similarity))
        }
        _ => Err(ServeError::Malformed(format!("inputs {wanted}"))),
    }
}

/// A list of strings, which may be empty ones.
pub(super) fn strings(fields: &mut Fields, key: &'static str) -> Result<Vec<String>> {
    let items = match fields.take(key) {
        None => return Ok(Vec::new()),
        Some(Value::Array(items)) if items.len() <= MOST_TEXTS => items,
        Some(Value::Array(items)) => {
            let value = format!("a list of {}", items.len());
            let problem = format!("may hold at most {MOST_TEXTS} texts; send several requests");
            return Err(ServeError::parameter(key, value, problem));
        }
        Some(other) => {
            return Err(ServeError::parameter(
                key,
                other,
                "must be a list of strings",
            ));
        }
    };
    let string = |item| match item {
        Value::String(text) => Ok(text),
        other => Err(ServeError::parameter(key, other, "must hold strings only")),
    };
    items.into_iter().map(string).collect()
}

pub(super) fn ranking(mut request: Request) -> Result<AcceptedTask> {
    let parameters = &mut request.parameters;
    let function = function(parameters)?;
    let raw = parameters.flag("raw_scores")?.unwrap_or(false);
    let truncation = match parameters.has("truncation") {
        true => request.truncation()?,
        // As sentence-transformers does.
        false => Truncation {
            cut: true,
            max_len: request.truncation()?.max_len,
        },
    };
    let pairs = pairs(&mut request)?;
    request.finish()?;
    let ask = Ask::Rank(Rank {
        pairs,
        function: if raw { Some(Function::None) } else { function },
        truncation,
    });
    Ok(AcceptedTask::new(vec![ask], Ranking))
}

/// One query with many texts, or pairs under the names of transformers or of DJL.
fn pairs(request: &mut Request) -> Result<Vec<(String, String)>> {
    if let Value::Object(object) = &request.inputs
        && object.contains_key("query")
    {
        let mut fields = Fields::new(object.clone());
        let query = fields.text("query")?.unwrap_or_default();
        let texts = strings(&mut fields, "texts")?;
        fields.finish(|_| None)?;
        if texts.is_empty() {
            return Err(ServeError::Malformed(
                "`texts` is empty: there is nothing to rank".into(),
            ));
        }
        return Ok(texts
            .into_iter()
            .map(|text| (query.clone(), text))
            .collect());
    }
    let pair = |item: Value| {
        let [query, text] = if item.get("key").is_some() {
            members(item, ["key", "value"])?
        } else {
            members(item, ["text", "text_pair"])?
        };
        Ok((query, text))
    };
    request.items()?.into_iter().map(pair).collect()
}
