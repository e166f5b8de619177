//! What becomes of a request at the door: a prefix or the tokens of languages, tokens to read, how the text is written.

use std::sync::Arc;

use sconce_core::task::{Message, Source, Write};
use sconce_core::{
    Ask, AskedDecoding, Dialogue, Generate, GenerateParams, Input, Job, Permit, Prompt, ServeError,
    Task,
};
use sconce_text::{ChatTemplate, Cut, Languages, Tokenizer};
use serde_json::json;

use crate::decoding::{Decoding, Limits};
use crate::describe::Seq2SeqDescription;
use crate::job::{Admitted, Way, blocks};
use crate::settings::Seq2SeqSettings;

/// Checks requests and makes tokens of them.
pub(crate) struct Door {
    task: Task,
    tokenizer: Arc<Tokenizer>,
    languages: Option<Languages>,
    /// How dialogues are written out for the model.
    template: Option<Arc<ChatTemplate>>,
    /// The languages that the task's name says.
    pair: Option<(String, String)>,
    /// What is put before each text.
    prefix: String,
    /// What task and checkpoint say of decoding.
    said: AskedDecoding,
    /// What prompts of the dialects of text generation hear of it.
    said_to_prompts: AskedDecoding,
    limits: Limits,
    max_read: usize,
    /// Blocks of the cache.
    blocks: usize,
}

impl Door {
    pub(crate) fn new(
        settings: &Seq2SeqSettings,
        description: &Seq2SeqDescription,
        blocks: usize,
    ) -> Self {
        let own = description.task.clone();
        let said = own.decoding.over(description.defaults.clone());
        let mut said_to_prompts = said.clone();
        if !settings.model_sampling {
            said_to_prompts.sampling = Default::default();
        }
        Self {
            task: settings.task,
            tokenizer: Arc::clone(&description.tokenizer),
            languages: description.languages.clone(),
            template: description.template.clone(),
            pair: settings.languages.clone(),
            prefix: own.prefix.unwrap_or_default(),
            said,
            said_to_prompts,
            limits: Limits {
                max_length: description.max_length,
                vocab: description.spec.vocab,
                max_rows: settings.max_rows,
            },
            max_read: description.max_read,
            blocks,
        }
    }

    pub(crate) fn admit(&self, job: Job, permit: Permit) -> Result<Admitted, ServeError> {
        let (read, decoding, way) = match job.input {
            Input::Task(Ask::Write(asked)) if asked.task == self.task => self.write(*asked)?,
            Input::Generate(Generate { prompt, params, .. }) => self.prompt(&prompt, params)?,
            Input::Task(ask) => {
                let task = ask.task();
                return Err(ServeError::Malformed(format!(
                    "this is a request for {task}, and the model does {}",
                    self.task
                )));
            }
            Input::Raw(_) => {
                let problem = "this model has no code of its own; send a text";
                return Err(ServeError::Malformed(problem.into()));
            }
        };
        self.require_room(&read, &decoding)?;
        Ok(Admitted {
            read,
            decoding,
            way,
            reply: job.reply,
            deadline: job.deadline,
            permit,
        })
    }

    fn write(&self, asked: Write) -> Result<(Vec<u32>, Decoding, Way), ServeError> {
        let mut decoding = asked.decoding.clone();
        let read = match (&asked.source, &self.languages, self.task) {
            (Source::Dialogue(messages), _, _) => self.dialogue(messages)?,
            (Source::Text(text), Some(languages), Task::Translation) => {
                let (read, first) = self.translated(&asked, text, languages)?;
                decoding.forced_bos_token_id = Some(first);
                read
            }
            (Source::Text(text), _, _) => {
                let text = format!("{}{text}", self.prefix);
                let mut found = self.tokens(&text, true)?;
                if asked.truncation.cut {
                    // What cannot be cut is refused for its length.
                    let _ = found.cut(self.cut_to(), Cut::Text(0));
                }
                found.tokens.iter().map(|token| token.id).collect()
            }
        };
        if let Some(stop) = &asked.stop_sequence {
            let found = self.tokens(stop, false)?;
            let Some(first) = found.tokens.first() else {
                let problem = "has no tokens; leave it out";
                return Err(ServeError::parameter("stop_sequence", stop, problem));
            };
            decoding.eos_token_id = Some(vec![first.id]);
        }
        let decoding = match self.task {
            Task::Conversational => Decoding::of_dialogue,
            _ => Decoding::of_task,
        }(decoding, self.said.clone(), self.limits)?;
        let clean_up = asked.clean_up;
        Ok((read, decoding, Way::Whole { clean_up }))
    }

    /// The tokens of a dialogue as the template writes it; those that begin and end a text are the template's too.
    fn dialogue(&self, messages: &[Message]) -> Result<Vec<u32>, ServeError> {
        let last = messages.last().map_or("", |said| &said.content);
        let Some(template) = &self.template else {
            let problem = "this model has no template of dialogues; send a text";
            return Err(ServeError::Malformed(problem.into()));
        };
        let said =
            |message: &Message| json!({ "role": message.role.name(), "content": message.content });
        let dialogue = Dialogue {
            messages: messages.iter().map(said).collect(),
            add_generation_prompt: true,
            ..Dialogue::default()
        };
        let text = template.render(&dialogue).map_err(|cause| {
            let problem =
                format!("cannot be written out with the checkpoint's chat_template: {cause}");
            ServeError::parameter("inputs", last, problem)
        })?;
        let found = self.tokens(&text, false)?;
        Ok(found.tokens.iter().map(|token| token.id).collect())
    }

    /// The tokens between those of the languages, and the token that the translation begins with.
    fn translated(
        &self,
        asked: &Write,
        text: &str,
        languages: &Languages,
    ) -> Result<(Vec<u32>, u32), ServeError> {
        let (from, to) = self.pair.clone().unzip();
        let token = |key: &str, language: Option<&String>| {
            let Some(language) = language else {
                return Err(ServeError::Malformed(format!(
                    "`{key}` is missing: this model translates between languages that a request names in `src_lang` and \
                     `tgt_lang`, or the name of the task, such as translation_{}",
                    languages.example()
                )));
            };
            languages.token(&self.tokenizer, language).ok_or_else(|| {
                let problem = format!(
                    "the tokenizer has no token {}; name languages as this model does, such as {}",
                    languages.spelled(language),
                    languages.example()
                );
                ServeError::parameter(key, language, problem)
            })
        };
        let source = token("src_lang", asked.src_lang.as_ref().or(from.as_ref()))?;
        let target = token("tgt_lang", asked.tgt_lang.as_ref().or(to.as_ref()))?;
        let found = self.tokens(text, false)?;
        let mut ids: Vec<u32> = found.tokens.iter().map(|token| token.id).collect();
        let (before, behind) = languages.frame(&self.tokenizer, source);
        if asked.truncation.cut {
            ids.truncate(self.cut_to().saturating_sub(before.len() + behind.len()));
        }
        Ok(([before, ids, behind].concat(), target))
    }

    fn prompt(
        &self,
        prompt: &Prompt,
        params: GenerateParams,
    ) -> Result<(Vec<u32>, Decoding, Way), ServeError> {
        let Prompt::Text(text) = prompt else {
            let problem = "this model reads texts; send one as `inputs`";
            return Err(ServeError::Malformed(problem.into()));
        };
        if let Some(asked) = &params.beams {
            let problem = "is for requests of the task itself, which are answered at once; set option.rolling_batch = \
                           disable, or leave it out";
            return Err(ServeError::parameter("num_beams", asked.beams, problem));
        }
        if let Some(guide) = &params.guide {
            let problem = "is kept to by models that continue texts only; leave it out";
            return Err(ServeError::parameter(guide.key, "set", problem));
        }
        let found = self.tokens(text, true)?;
        let mut read: Vec<u32> = found.tokens.iter().map(|token| token.id).collect();
        let surplus = params
            .truncate
            .map_or(0, |last| read.len().saturating_sub(last));
        read.drain(..surplus);
        let decoding = Decoding::of_prompt(&params, self.said_to_prompts.clone(), self.limits)?;
        Ok((read, decoding, Way::Told(Box::new(params))))
    }

    fn tokens(&self, text: &str, special: bool) -> Result<sconce_text::Encoded, ServeError> {
        let found = self.tokenizer.encode_with_places(text, None, special);
        found.map_err(|error| {
            ServeError::parameter("inputs", text, format!("cannot be tokenised: {error}"))
        })
    }

    /// Tokens that a text is cut to.
    fn cut_to(&self) -> usize {
        self.tokenizer
            .max_len()
            .unwrap_or(self.max_read)
            .min(self.max_read)
    }

    /// Fails on a text without tokens, on one that is too long, and on a request that the cache would never hold.
    fn require_room(&self, read: &[u32], decoding: &Decoding) -> Result<(), ServeError> {
        let (len, limit) = (read.len(), self.max_read);
        if len == 0 {
            let problem = "gives no token; send some text";
            return Err(ServeError::parameter("inputs", "empty", problem));
        }
        if len > limit {
            let problem = format!(
                "has {len} tokens with the special ones, and the model reads {limit}; shorten it, or set truncation=true"
            );
            return Err(ServeError::parameter("inputs", "the text", problem));
        }
        let wanted = blocks(len, decoding);
        if wanted > self.blocks {
            let problem = format!(
                "{len} tokens to read and {} texts of up to {} tokens take {wanted} blocks of the cache, which has {}; \
                 lower max_new_tokens or num_beams, shorten the text, or raise option.kv_cache_memory",
                decoding.rows(),
                decoding.kept(),
                self.blocks
            );
            return Err(ServeError::parameter("inputs", "the text", problem));
        }
        Ok(())
    }
}
