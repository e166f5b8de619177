//! The model's numbers are those of transformers, within 1e-4, alone and in one batch, whatever the type of weights.

use sconce_models::encoder::{Batch, Encoder, HeadKind};
use sconce_models::{HfConfig, LoadOptions, find_encoder};
use sconce_nn::weights::{self, StoredDtype};
use sconce_testkit::close::{Tolerance, difference};
use sconce_text::Tokenizer;

use super::{FOLDERS, Golden, Run};

fn load(golden: &Golden, dtype: Option<StoredDtype>) -> Encoder {
    let options = LoadOptions {
        dtype,
        ..LoadOptions::default()
    };
    load_with(golden, options)
}

fn load_with(golden: &Golden, options: LoadOptions) -> Encoder {
    let dir = FOLDERS.root().join(&golden.name);
    let config = HfConfig::read(&dir).unwrap();
    let (arch, head) = find_encoder(&config).unwrap().expect("an encoder");
    let spec = (arch.spec)(&config).unwrap();
    let head = head.map(|kind| (arch.head)(&config, kind).unwrap());
    let source = weights::open(&dir).unwrap();
    let survey = Encoder::survey(arch, &spec, head.as_ref(), &*source, &options);
    assert!(survey.unwrap().weights > 0);
    let load = Encoder::load(
        arch,
        &spec,
        head.as_ref(),
        &*source,
        &options,
        &mut |_, _| {},
    );
    load.unwrap_or_else(|error| panic!("{}: {error}", golden.name))
}

/// The runs in one batch; segments count where the model has several.
fn batch(golden: &Golden, runs: &[&Run]) -> Batch {
    let config = HfConfig::read(&FOLDERS.root().join(&golden.name)).unwrap();
    let (arch, _) = find_encoder(&config).unwrap().expect("an encoder");
    let types = (arch.spec)(&config).unwrap().dims.types;
    let of = |run: &&Run| {
        run.types
            .iter()
            .map(|segment| if types > 1 { *segment } else { 0 })
            .collect::<Vec<_>>()
    };
    Batch {
        ids: runs.iter().flat_map(|run| run.ids.clone()).collect(),
        types: runs.iter().flat_map(of).collect(),
        lens: runs.iter().map(|run| run.ids.len()).collect(),
        wanted: None,
    }
}

#[test]
fn logits_equal_the_reference_alone_and_together() {
    for golden in FOLDERS.goldens::<Run>() {
        let encoder = load(&golden, None);
        let mut alone = Vec::new();
        for run in &golden.logits {
            let rows = encoder.forward(&batch(&golden, &[run])).unwrap();
            let want: Vec<f32> = run.rows.iter().flatten().copied().collect();
            if let Some(difference) = difference(&rows.numbers, &want, Tolerance::F32) {
                panic!("{}, {:?}: {difference}", golden.name, run.text);
            }
            alone.extend(rows.numbers);
        }
        let all: Vec<&Run> = golden.logits.iter().collect();
        let together = encoder.forward(&batch(&golden, &all)).unwrap();
        assert_eq!(together.numbers, alone, "{}", golden.name);
    }
}

#[test]
fn tokens_are_those_of_transformers() {
    for golden in FOLDERS.goldens::<Run>() {
        let tokenizer = Tokenizer::open(&FOLDERS.root().join(&golden.name)).unwrap();
        for run in &golden.logits {
            let found = tokenizer
                .encode_with_places(&run.text, run.pair.as_deref(), true)
                .unwrap();
            let ids: Vec<u32> = found.tokens.iter().map(|token| token.id).collect();
            assert_eq!(ids, run.ids, "{}: {:?}", golden.name, run.text);
        }
    }
}

#[test]
fn other_types_of_weights_compute_nearly_the_same() {
    for golden in FOLDERS
        .goldens::<Run>()
        .into_iter()
        .filter(|golden| golden.name.ends_with("-text-classification"))
    {
        let run = &golden.logits[0];
        let want: Vec<f32> = run.rows.iter().flatten().copied().collect();
        for (dtype, limit) in [(StoredDtype::F32, 1e-4), (StoredDtype::BF16, 0.2)] {
            let rows = load(&golden, Some(dtype))
                .forward(&batch(&golden, &[run]))
                .unwrap();
            for (got, want) in rows.numbers.iter().zip(&want) {
                assert!(
                    (got - want).abs() < limit * want.abs().max(1.0),
                    "{}, {dtype}: {got}, not {want}",
                    golden.name
                );
            }
        }
    }
}

#[test]
fn quantised_weights_give_what_transformers_gives_with_rounded_ones() {
    let mut compared = 0;
    for golden in FOLDERS.goldens::<Run>() {
        for rounded in &golden.rounded {
            let run = &rounded.run;
            let encoder = load_with(&golden, rounded.options());
            let got = encoder.forward(&batch(&golden, &[run])).unwrap().numbers;
            let mut wholes = golden.logits.iter();
            let whole = wholes.find(|whole| whole.ids == run.ids).unwrap();
            rounded.compare(&golden.name, &got, &run.rows, &whole.rows);
            compared += 1;
        }
    }
    assert!(compared >= 6, "only {compared} runs");
}

#[test]
fn only_the_wanted_tokens_have_rows() {
    for name in [
        "bert-fill-mask",
        "modernbert-fill-mask",
        "bert-feature-extraction",
    ] {
        let golden = FOLDERS.golden::<Run>(name);
        let encoder = load(&golden, None);
        let runs: Vec<&Run> = golden.logits.iter().collect();
        let all = encoder.forward(&batch(&golden, &runs)).unwrap();
        let some = Batch {
            wanted: Some(vec![2, 0]),
            ..batch(&golden, &runs)
        };
        let some = encoder.forward(&some).unwrap();
        let row = |at: usize| all.numbers[at * all.width..][..all.width].to_vec();
        assert_eq!(some.numbers, [row(2), row(0)].concat(), "{name}");
    }
}

#[test]
fn every_family_has_a_folder_for_every_head() {
    for arch in sconce_models::ENCODERS {
        for kind in [
            None,
            Some(HeadKind::Sequence),
            Some(HeadKind::Tokens),
            Some(HeadKind::Span),
            Some(HeadKind::Mask),
        ] {
            let found = FOLDERS.goldens::<Run>().into_iter().any(|golden| {
                let config = HfConfig::read(&FOLDERS.root().join(&golden.name)).unwrap();
                let found = find_encoder(&config).unwrap();
                found.is_some_and(|(found, head)| found.family == arch.family && head == kind)
            });
            assert!(
                found,
                "{} with {kind:?} has no folder in models/tasks",
                arch.family
            );
        }
    }
}
