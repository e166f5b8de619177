//! What fewer bits cost: the default model reads a fixed text in every format of `option.quantize`, and its logits are
//! compared with those of f32 weights.
//!
//! `cargo bench --bench quality`; the table goes into `benches/results/quality.md`. The text is the beginning of "The Time Machine" by H. G. Wells
//! (1895), in windows of 512 tokens, of which the second half is judged, as llama.cpp's `llama-perplexity` does.
#![allow(clippy::panic, clippy::print_stdout, unreachable_pub, missing_docs)]

mod common;

use candle_core::Device;
use common::model_dir;
use sconce_models::{Arch, Decoder, HfConfig, LoadOptions, Model, Quantisation, Spec, find};
use sconce_nn::weights::{self, BlockFormat, StoredDtype, WeightSource};
use sconce_nn::{BLOCK, KvCache, KvDtype, Solo, Step, StepRow};
use sconce_text::Tokenizer;

const TEXT: &str = include_str!("quality/text.txt");
const WINDOW: usize = 512;
/// Tokens of a window from which on predictions are judged.
const JUDGED_FROM: usize = WINDOW / 2;

struct Rig {
    arch: &'static Arch,
    spec: Spec,
    source: Box<dyn WeightSource>,
    windows: Vec<Vec<u32>>,
}

/// What the model says after each judged token: logits, and the token that comes next.
struct Said {
    logits: Vec<Vec<f32>>,
    next: Vec<u32>,
}

/// How far from the reference.
#[derive(Default)]
struct Distance {
    /// Sum of the negative logarithms of the probabilities of the text's tokens.
    surprise: f64,
    /// Sum of the divergences from the reference's distributions.
    divergence: f64,
    absolute: f64,
    largest: f32,
    numbers: usize,
    agreed: usize,
    tokens: usize,
}

fn main() {
    let Some(rig) = Rig::open() else {
        println!("the default model is not fetched: see README.md");
        return;
    };
    let full = LoadOptions {
        dtype: Some(StoredDtype::F32),
        ..LoadOptions::default()
    };
    let reference = rig.read(&full);
    println!(
        "SmolLM2-135M-Instruct, {} tokens of text judged.\n",
        reference.next.len()
    );
    println!(
        "| format | MB of weights | bits per weight | perplexity | against f32 | mean divergence | \
         logit error, mean | largest | same best token |"
    );
    println!("| --- | --: | --: | --: | --: | --: | --: | --: | --: |");
    let base = distance(&reference, &reference).perplexity();
    let blocks = |format| LoadOptions {
        quantise: Some(Quantisation::Blocks(format)),
        ..LoadOptions::default()
    };
    let halved = LoadOptions {
        cache: KvDtype::BF16,
        ..LoadOptions::default()
    };
    let rounded = LoadOptions {
        dtype: Some(StoredDtype::BF16),
        ..halved
    };
    let mut cases = vec![
        ("f32".to_owned(), full),
        ("bf16 (as stored)".to_owned(), LoadOptions::default()),
        ("with a cache in bf16".to_owned(), halved),
        ("dtype=bf16".to_owned(), rounded),
    ];
    for format in [
        BlockFormat::Q8_0,
        BlockFormat::Q8Row,
        BlockFormat::Q6K,
        BlockFormat::Q5_1,
        BlockFormat::Q5K,
        BlockFormat::Q5_0,
        BlockFormat::Q4_1,
        BlockFormat::Q4K,
        BlockFormat::Q4_0,
    ] {
        cases.push((format.to_string(), blocks(format)));
    }
    let int4 = LoadOptions {
        quantise: Some(Quantisation::Int4),
        ..LoadOptions::default()
    };
    cases.push(("int4".to_owned(), int4));
    for (name, options) in cases {
        let bytes = rig.bytes(&options);
        let off = distance(&rig.read(&options), &reference);
        println!(
            "| {name} | {:.0} | {:.2} | {:.3} | {:+.2} % | {:.4} | {:.3} | {:.2} | {:.1} % |",
            bytes as f64 / 1e6,
            bytes as f64 * 8.0 / rig.parameters() as f64,
            off.perplexity(),
            (off.perplexity() / base - 1.0) * 100.0,
            off.divergence / off.tokens as f64,
            off.absolute / off.numbers as f64,
            off.largest,
            off.agreed as f64 * 100.0 / off.tokens as f64,
        );
    }
}

impl Rig {
    /// `None` where the model has not been fetched.
    fn open() -> Option<Self> {
        let dir = model_dir();
        if !dir.join("model.safetensors").exists() {
            return None;
        }
        let config = HfConfig::read(&dir).expect("a configuration");
        let arch = find(&config).expect("a known architecture");
        let ids = Tokenizer::open(&dir).and_then(|tokenizer| tokenizer.encode(TEXT));
        let ids = ids.expect("the text is tokenised");
        Some(Self {
            arch,
            spec: (arch.spec)(&config).expect("a supported configuration"),
            source: weights::open(&dir).expect("a checkpoint"),
            windows: ids.chunks_exact(WINDOW).map(<[u32]>::to_vec).collect(),
        })
    }

    fn bytes(&self, options: &LoadOptions) -> u64 {
        let survey = Decoder::survey(self.arch, &self.spec, &*self.source, 1, options);
        survey.expect("loadable").weights
    }

    /// A tied embedding counts once, as it is kept.
    fn parameters(&self) -> u64 {
        let names = self.source.names();
        let elements = |name: &String| self.source.get(name).expect("a tensor").elements() as u64;
        names.iter().map(elements).sum()
    }

    /// Reads all windows with the weights of that kind.
    fn read(&self, options: &LoadOptions) -> Said {
        let (spec, source) = (&self.spec, &*self.source);
        let solo = Box::new(Solo);
        let model = Decoder::load(self.arch, spec, source, solo, options, &mut |_, _| {});
        let mut model = model.expect("loadable");
        let blocks = WINDOW.div_ceil(BLOCK);
        let mut cache = KvCache::new(model.kv_shape(), blocks, &Device::Cpu).expect("memory");
        let mut said = Said {
            logits: Vec::new(),
            next: Vec::new(),
        };
        for window in &self.windows {
            let step = step(window);
            let logits = model.forward(&step, &[], &mut cache).expect("computable");
            said.logits.extend(logits.to_vec2::<f32>().expect("f32"));
            said.next.extend(&window[JUDGED_FROM + 1..]);
        }
        said
    }
}

impl Distance {
    fn perplexity(&self) -> f64 {
        (self.surprise / self.tokens as f64).exp()
    }
}

/// A whole window at once, with logits for all judged tokens but the last, whose successor is unknown.
fn step(window: &[u32]) -> Step {
    let all = 0..window.len() as u32;
    Step {
        ids: window.to_vec(),
        positions: all.clone().collect(),
        slots: all.collect(),
        rows: vec![StepRow {
            q_start: 0,
            q_len: window.len(),
            k_len: window.len(),
            known: window.len(),
            blocks: (0..window.len().div_ceil(BLOCK) as u32).collect(),
        }],
        sampled: (JUDGED_FROM as u32..window.len() as u32 - 1).collect(),
        ..Step::default()
    }
}

fn distance(said: &Said, reference: &Said) -> Distance {
    let mut distance = Distance::default();
    let pairs = said.logits.iter().zip(&reference.logits);
    for ((got, wanted), &next) in pairs.zip(&said.next) {
        let (got_log, wanted_log) = (logarithms(got), logarithms(wanted));
        distance.surprise -= got_log[next as usize];
        for (got, wanted) in got_log.iter().zip(&wanted_log) {
            distance.divergence += wanted.exp() * (wanted - got);
        }
        for (got, wanted) in got.iter().zip(wanted) {
            let off = (got - wanted).abs();
            distance.absolute += f64::from(off);
            distance.largest = distance.largest.max(off);
        }
        distance.numbers += got.len();
        distance.agreed += usize::from(best(got) == best(wanted));
        distance.tokens += 1;
    }
    distance
}

/// Logarithms of the probabilities.
fn logarithms(logits: &[f32]) -> Vec<f64> {
    let most = logits
        .iter()
        .fold(f32::NEG_INFINITY, |most, &x| most.max(x));
    let sum: f64 = logits.iter().map(|&x| f64::from(x - most).exp()).sum();
    let norm = f64::from(most) + sum.ln();
    logits.iter().map(|&x| f64::from(x) - norm).collect()
}

fn best(logits: &[f32]) -> usize {
    let all = logits.iter().enumerate();
    all.max_by(|one, other| one.1.total_cmp(other.1))
        .map_or(0, |(index, _)| index)
}
