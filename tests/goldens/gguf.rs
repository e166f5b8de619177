//! GGUF files of every family, made by llama.cpp's converter, against what transformers computes with the checkpoints
//! that they were made from. `tests/fixtures/gguf/make.py` made both.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sconce_models::{GgufModel, LoadError, LoadOptions, gguf};
use sconce_nn::weights::WeightSource;
use sconce_nn::weights::gguf::Gguf;
use sconce_nn::{Communicator, Solo};
use sconce_testkit::close::{Tolerance, difference};
use sconce_testkit::golden::Golden;
use sconce_testkit::reference::Reference;

use super::player::{Player, on_ranks};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/gguf")
}

/// What a file in the folder holds.
fn bytes(name: &str) -> Vec<u8> {
    let path = folder().join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names of all files of models, without their ending.
fn cases() -> Vec<String> {
    let entries = fs::read_dir(folder()).expect("the folder of fixtures");
    let mut cases: Vec<String> = entries
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("a name")
        })
        .filter_map(|name| name.strip_suffix(".gguf").map(str::to_owned))
        .filter(|name| !["quantised", "tiny-llama"].contains(&name.as_str()))
        .collect();
    cases.sort();
    assert!(cases.len() > 30, "{cases:?}");
    cases
}

fn open(case: &str) -> Arc<Gguf> {
    let path = folder().join(format!("{case}.gguf"));
    Arc::new(Gguf::open(&path).unwrap_or_else(|error| panic!("{case}: {error}")))
}

fn player(case: &str) -> Player {
    rank(case, Box::new(Solo)).unwrap_or_else(|error| panic!("{case}: {error}"))
}

fn rank(case: &str, comm: Box<dyn Communicator + Send>) -> Result<Player, LoadError> {
    let file = open(case);
    let model = GgufModel::read(&file).unwrap_or_else(|error| panic!("{case}: {error}"));
    let source = gguf::weights(file);
    let options = LoadOptions::default();
    Player::of(model.arch, &model.spec, &source, comm, &options)
}

fn golden(name: &str) -> Reference {
    Reference::open(&folder().join(name)).expect("goldens")
}

#[test]
fn logits_and_greedy_tokens_equal_those_of_the_checkpoint() {
    let golden = golden("golden.safetensors");
    for case in cases() {
        let mut player = player(&case);
        let prompt = golden.ids(&format!("prompt.{case}")).unwrap();
        let want = golden.numbers(&format!("logits.{case}")).unwrap();
        let got = player.logits(&prompt, &[prompt.len()]);
        if let Some(difference) = difference(&got, &want, Tolerance::F32) {
            panic!("{case}: {difference}");
        }
        let greedy = golden.ids(&format!("greedy.{case}")).unwrap();
        assert_eq!(player.greedy(&prompt, greedy.len()), greedy, "{case}");
    }
}

#[test]
fn two_ranks_equal_the_checkpoint() {
    let golden = golden("golden.safetensors");
    let mut played = Vec::new();
    for case in cases() {
        let prompt = golden.ids(&format!("prompt.{case}")).unwrap();
        let want = golden.numbers(&format!("logits.{case}")).unwrap();
        let ranks = on_ranks(2, |comm| match rank(&case, Box::new(comm)) {
            Ok(mut player) => Some(player.logits(&prompt, &[prompt.len()])),
            Err(LoadError::Ranks { .. }) => None,
            Err(error) => panic!("{case}: {error}"),
        });
        for got in ranks.iter().flatten() {
            if let Some(difference) = difference(got, &want, Tolerance::F32) {
                panic!("{case}: {difference}");
            }
            played.push(case.clone());
        }
    }
    played.dedup();
    assert!(played.len() > 25, "{played:?}");
}

#[test]
fn a_tiny_model_in_a_file_equals_its_own_goldens() {
    let golden = Golden::tiny("llama").expect("goldens");
    let mut player = player("tiny-llama");
    for run in &golden.runs {
        let got = player.logits(&run.ids, &[run.ids.len()]);
        if let Some(difference) = difference(&got, &run.logits, Tolerance::F32) {
            panic!("{}: {difference}", run.prompt);
        }
        assert_eq!(
            player.greedy(&run.ids, run.greedy.len()),
            run.greedy,
            "{}",
            run.prompt
        );
    }
}

#[test]
fn quantised_matrices_are_what_gguf_py_reads() {
    let golden = golden("quantised.safetensors");
    let file = open("quantised");
    assert_eq!(file.names().len(), 10);
    for name in file.names() {
        let tensor = file.get(&name).expect("a readable type");
        assert!(!tensor.is_owned());
        let got = tensor.to_vec_f32().expect("numbers");
        let want = golden.numbers(&name).unwrap();
        let largest = want
            .iter()
            .fold(0f32, |largest, number| largest.max(number.abs()));
        for (index, (got, want)) in got.iter().zip(&want).enumerate() {
            // gguf-py computes with numpy, whose products are rounded in another order.
            let close = (got - want).abs() <= 1e-6 * largest;
            assert!(close, "{name}, number {index}: {got} is not {want}");
        }
        assert_eq!(got.len(), want.len());
    }
}

/// What is said of the tiny Llama with these bytes behind the first place where `find` stands.
fn refusal(find: &[u8], with: &[u8]) -> String {
    let mut changed = bytes("llama.gguf");
    let place = changed
        .windows(find.len())
        .position(|window| window == find);
    let at = place.expect("the bytes") + find.len();
    changed[at..at + with.len()].copy_from_slice(with);
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("m.gguf");
    fs::write(&path, changed).expect("written");
    let file = Gguf::open(&path).expect("a file");
    GgufModel::read(&file).expect_err("refused").to_string()
}

#[test]
fn architectures_and_sizes_that_cannot_be_served_are_refused_by_key_and_value() {
    let architecture = b"general.architecture\x08\0\0\0\x05\0\0\0\0\0\0\0";
    let message = refusal(architecture, b"mamba");
    let wanted = "m.gguf: `general.architecture` = \"mamba\" is not supported; supported: llama, internlm2, qwen2, ";
    assert!(
        message.contains(wanted) && message.ends_with("gptneox"),
        "{message}"
    );
    // The type of the value stands between key and value.
    let u32_of = |key: &str| [key.as_bytes(), &4u32.to_le_bytes()].concat();
    let huge = 0x7fff_ffffu32.to_le_bytes();
    for (key, value, part) in [
        (
            "llama.block_count",
            huge,
            "`llama.block_count` is 2147483647, but must be at most the number of tensors, 21",
        ),
        (
            "llama.embedding_length",
            [0; 4],
            "`hidden_size` = 0; it must be a whole number from 1",
        ),
        (
            "llama.attention.head_count_kv",
            [5, 0, 0, 0],
            "`num_attention_heads` = 6 is not a multiple of",
        ),
        (
            "llama.rope.dimension_count",
            [200, 0, 0, 0],
            "`partial_rotary_factor`",
        ),
    ] {
        let message = refusal(&u32_of(key), &value);
        assert!(
            message.contains("m.gguf") && message.contains(part),
            "{message}"
        );
    }
}
