//! What predictions of a request depend on: its texts as the encoders read them, once, before the first step.

use candle_core::{Device, Result, Tensor};
use sconce_models::diffusion::unet::guidance_waves;
use sconce_models::diffusion::{ClipText, TextStates};
use sconce_nn::join_channels;

use crate::description::DiffusionDescription;
use crate::drawing::{Drawing, Opposite, Words};
use crate::models::Models;

/// Of every row of a request: those of the opposite before those of the texts.
#[derive(Clone, Debug)]
pub(crate) struct RowConditions {
    /// `[rows * tokens, width]`.
    pub(crate) states: Tensor,
    /// A vector for each row and its numbers, of SDXL.
    pub(crate) added: Option<(Tensor, Vec<f32>)>,
    /// `[rows, width]`, of UNets that are told the guidance.
    pub(crate) guidance: Option<Tensor>,
}

/// What encoders make of one text.
struct Read {
    /// `[tokens, width]`.
    states: Tensor,
    /// `[1, projection]`.
    vector: Option<Tensor>,
}

/// Reads the texts of a request.
pub(crate) fn read(
    models: &Models,
    description: &DiffusionDescription,
    drawing: &Drawing,
) -> Result<RowConditions> {
    let read = |words: &Words| text(models, description, words, None);
    // What is led away from is read to the last layer all the same.
    let prompts = drawing
        .prompts
        .iter()
        .map(|words| text(models, description, words, drawing.clip_skip))
        .collect::<Result<Vec<_>>>()?;
    let mut rows: Vec<&Read> = Vec::new();
    let opposites = match &drawing.opposite {
        Opposite::Unguided => Vec::new(),
        Opposite::Words(all) => all.iter().map(read).collect::<Result<Vec<_>>>()?,
        Opposite::Zeros => prompts.iter().map(zeros).collect::<Result<Vec<_>>>()?,
    };
    for read in opposites.iter().chain(&prompts) {
        rows.extend(std::iter::repeat_n(read, drawing.images_per_prompt));
    }
    let states: Vec<&Tensor> = rows.iter().map(|row| &row.states).collect();
    let vectors: Option<Vec<&Tensor>> = rows.iter().map(|row| row.vector.as_ref()).collect();
    let added = match (&drawing.numbers, vectors) {
        (Some([own, other]), Some(vectors)) => {
            let count = drawing.images();
            let others = if drawing.is_guided() { count } else { 0 };
            let numbers = [other.repeat(others), own.repeat(count)].concat();
            Some((Tensor::cat(&vectors, 0)?, numbers))
        }
        _ => None,
    };
    let guidance = description.unet.spec.guidance.map(|width| {
        let scales = vec![drawing.guidance as f32; rows.len()];
        guidance_waves(&scales, width)
    });
    Ok(RowConditions {
        states: Tensor::cat(&states, 0)?,
        added,
        guidance: guidance.transpose()?,
    })
}

fn zeros(read: &Read) -> Result<Read> {
    let of = |tensor: &Tensor| Tensor::zeros(tensor.dims(), tensor.dtype(), &Device::Cpu);
    Ok(Read {
        states: of(&read.states)?,
        vector: read.vector.as_ref().map(of).transpose()?,
    })
}

fn text(
    models: &Models,
    description: &DiffusionDescription,
    words: &Words,
    skip: Option<usize>,
) -> Result<Read> {
    let mut states: Option<Tensor> = None;
    let mut vector = None;
    for (encoder, ids) in models.texts.iter().zip(&words.ids) {
        let read = encoder.forward(ids, 1)?;
        let own = match description.is_xl {
            true => before_last(&read, skip.unwrap_or(0))?,
            false => last(encoder, &read, skip)?,
        };
        states = Some(match states {
            Some(others) => join_channels(&others, &own)?,
            None => own,
        });
        vector = read.pooled;
    }
    let Some(states) = states else {
        candle_core::bail!("the pipeline has no text encoder");
    };
    Ok(Read { states, vector })
}

/// SDXL's: states before the last layer and those that are left out.
fn before_last(read: &TextStates, skip: usize) -> Result<Tensor> {
    let at = read.hidden.len().checked_sub(skip + 2);
    match at.and_then(|at| read.hidden.get(at)) {
        Some(states) => Ok(states.clone()),
        None => candle_core::bail!("the text encoder has too few layers"),
    }
}

/// The last states, or those before layers that are left out, normalised.
fn last(encoder: &ClipText, read: &TextStates, skip: Option<usize>) -> Result<Tensor> {
    let Some(skip) = skip else {
        return Ok(read.last.clone());
    };
    match read.hidden.len().checked_sub(skip + 1) {
        Some(at) => encoder.normalised(&read.hidden[at]),
        None => candle_core::bail!("the text encoder has too few layers"),
    }
}
