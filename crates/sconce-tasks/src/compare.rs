//! `sentence-similarity`: the cosines of a text's vector with those of others.

use std::sync::Arc;

use sconce_core::task::{Compare, Embed, Subject};
use sconce_core::{Ask, ServeError, TaskAnswer};
use sconce_models::encoder::Rows;

use crate::embed::{Vectors, pooled};
use crate::modules::normalize;
use crate::work::{Task, Work, misplaced};

/// The task, for one model.
pub(crate) struct Comparer {
    pub(crate) vectors: Vectors,
}

impl Task for Comparer {
    fn prepare(&self, ask: Ask) -> Result<Work, ServeError> {
        let Ask::Compare(Compare { source, sentences }) = ask else {
            return Err(misplaced(&ask, sconce_core::Task::SentenceSimilarity));
        };
        let all = std::iter::once(source).chain(sentences);
        let texts: Vec<_> = all
            .map(|text| {
                self.vectors.text(&Embed {
                    text: Subject::Text(text),
                    ..Embed::default()
                })
            })
            .collect::<Result<_, _>>()?;
        let (texts, prompts): (Vec<_>, Vec<_>) = texts.into_iter().unzip();
        let modules = Arc::clone(&self.vectors.modules);
        Ok(Work::new(texts, move |rows| {
            let vector = |(rows, prompt): (&Rows, &usize)| {
                let mut vector = pooled(&modules, rows, *prompt, None)?;
                normalize(&mut vector);
                Ok(vector)
            };
            let vectors = rows.iter().zip(&prompts).map(vector);
            let vectors: Vec<Vec<f32>> = vectors.collect::<Result<_, ServeError>>()?;
            let cosine = |other: &Vec<f32>| {
                let terms = vectors[0].iter().zip(other);
                terms.map(|(one, other)| one * other).sum()
            };
            Ok(TaskAnswer::Scores(
                vectors[1..].iter().map(cosine).collect(),
            ))
        }))
    }
}
