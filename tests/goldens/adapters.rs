//! Adapters: what PEFT computed, alone and beside other rows, on one rank and on several.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sconce_models::{Adapter, AdapterError, AdapterLoader, HfConfig, LoadOptions, find};
use sconce_nn::weights;
use sconce_testkit::close::Tolerance;
use sconce_testkit::golden::{Golden, tiny_models};

use super::check;
use super::player::{Player, Sequence, on_ranks};

/// Folders of `models/adapters`: the base model's name, and the adapter with its goldens.
fn all() -> Vec<(String, Golden)> {
    let root = tiny_models().join("../adapters");
    let folders = |dir: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(dir).expect("models/adapters");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        let mut folders: Vec<_> = paths.filter(|path| path.is_dir()).collect();
        folders.sort();
        folders
    };
    let of_base = |base: PathBuf| {
        let name = base
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let golden = move |dir: PathBuf| (name.clone(), Golden::open(&dir).expect("goldens"));
        folders(&base).into_iter().map(golden).collect::<Vec<_>>()
    };
    folders(&root).into_iter().flat_map(of_base).collect()
}

fn load(base: &str, dir: &Path, world: usize, most_rank: usize) -> Result<Adapter, AdapterError> {
    let config = HfConfig::read(&tiny_models().join(base)).expect("a configuration");
    let arch = find(&config).expect("a known architecture");
    let spec = (arch.spec)(&config).expect("a supported configuration");
    let loader = AdapterLoader::new(arch, &spec, world, None, most_rank).expect("ranks");
    let adapter = loader.load(dir)?;
    assert!(
        world > 1 || adapter.bytes <= loader.most_bytes(),
        "more than was planned"
    );
    Ok(adapter)
}

fn adapted(base: &str, golden: &Golden) -> Player {
    let adapter = load(base, &golden.dir, 1, 64).expect("an adapter");
    Player::open(&tiny_models().join(base)).adapted(Arc::new(adapter))
}

#[test]
fn adapted_models_equal_peft() {
    let found = all();
    assert!(found.len() >= 9, "{}", found.len());
    for (base, golden) in found {
        let mut player = adapted(&base, &golden);
        let mut plain = Player::open(&tiny_models().join(&base));
        for run in &golden.runs {
            let case = format!("{base}: {}", run.prompt);
            let got = player.logits(&run.ids, &[run.ids.len()]);
            check(&golden, &case, &got, &run.logits, Tolerance::F32);
            assert_eq!(
                player.greedy(&run.ids, run.greedy.len()),
                run.greedy,
                "{case}"
            );
            let chunks = player.logits(&run.ids, &[7, 1, 30]);
            check(&golden, &case, &chunks, &got, Tolerance::EXACT);
            assert_ne!(
                plain.logits(&run.ids, &[run.ids.len()]),
                got,
                "{case}: it changes nothing"
            );
        }
    }
}

#[test]
fn several_ranks_cut_adapters_as_their_layers() {
    for (base, golden) in all() {
        let dir = tiny_models().join(&base);
        let source = weights::open(&dir).expect("a checkpoint");
        let ranks = on_ranks(2, |comm| {
            let options = LoadOptions::default();
            let player = Player::load(&dir, &*source, Box::new(comm), &options).ok()?;
            let adapter = load(&base, &golden.dir, 2, 64).expect("an adapter");
            let mut player = player.adapted(Arc::new(adapter));
            let logits = golden
                .runs
                .iter()
                .map(|run| player.logits(&run.ids, &[run.ids.len()]));
            Some(logits.collect::<Vec<_>>())
        });
        for logits in ranks.iter().flatten() {
            for (run, got) in golden.runs.iter().zip(logits) {
                check(
                    &golden,
                    &format!("{base}: {}", run.prompt),
                    got,
                    &run.logits,
                    Tolerance::F32,
                );
            }
        }
    }
}

#[test]
fn rows_of_different_adapters_and_of_none_equal_each_alone() {
    let of_llama: Vec<_> = all()
        .into_iter()
        .filter(|(base, _)| base == "llama")
        .collect();
    let load = |(base, golden): &(String, Golden)| {
        Arc::new(load(base, &golden.dir, 1, 64).expect("an adapter"))
    };
    let mut choices: Vec<Option<Arc<Adapter>>> = of_llama.iter().map(load).map(Some).collect();
    choices.push(None);
    let ids = &of_llama[0].1.runs[1].ids;
    let mut player = Player::open(&tiny_models().join("llama"));
    let start = |adapter: &Option<Arc<Adapter>>| Sequence {
        tokens: ids.clone(),
        adapter: adapter.clone(),
        ..Sequence::default()
    };
    let alone: Vec<_> = choices
        .iter()
        .map(|adapter| {
            player
                .step(&mut [&mut start(adapter)], &[ids.len()])
                .remove(0)
        })
        .collect();
    for (one, logits) in alone.iter().enumerate() {
        assert!(
            alone[..one].iter().all(|other| other != logits),
            "two adapters do the same"
        );
    }
    // Each twice, whole and in pieces, in one batch.
    let mut sequences: Vec<Sequence> = choices.iter().chain(&choices).map(start).collect();
    let mut together = vec![Vec::new(); sequences.len()];
    while sequences.iter().any(|one| one.cached < ids.len()) {
        let mut rows: Vec<(usize, &mut Sequence)> = sequences.iter_mut().enumerate().collect();
        rows.retain(|(_, one)| one.cached < ids.len());
        let pieces = |(at, one): &(usize, &mut Sequence)| {
            [ids.len(), 3 + at][at % 2].min(ids.len() - one.cached)
        };
        let counts: Vec<usize> = rows.iter().map(pieces).collect();
        let (which, mut rows): (Vec<usize>, Vec<&mut Sequence>) = rows.into_iter().unzip();
        for (at, mut logits) in which.into_iter().zip(player.step(&mut rows, &counts)) {
            together[at].append(&mut logits);
        }
    }
    for (at, logits) in together.iter().enumerate() {
        assert_eq!(*logits, alone[at % alone.len()], "row {at}");
    }
}

#[test]
fn adapters_that_do_not_fit_are_refused_by_name() {
    let dir = |name: &str| tiny_models().join("../adapters").join(name);
    for (base, adapter, most, part) in [
        (
            "gpt2",
            "llama/plain",
            64,
            "has no place: adapters may change",
        ),
        ("mistral", "llama/plain", 64, "it is of another base model"),
        (
            "llama",
            "llama/all",
            4,
            "the adapter's rank is 8, option.max_lora_rank = 4; raise it",
        ),
        ("llama", "llama", 64, "adapter_config.json"),
    ] {
        let text = load(base, &dir(adapter), 1, most)
            .expect_err("refused")
            .to_string();
        assert!(text.contains(part), "{adapter} on {base}: {text}");
    }
    let broken = tempfile::tempdir().expect("a folder");
    let copy = |file: &str, change: &dyn Fn(Vec<u8>) -> Vec<u8>| {
        let bytes = std::fs::read(dir("llama/plain").join(file)).expect("a file");
        std::fs::write(broken.path().join(file), change(bytes)).expect("a file");
    };
    let refused = || {
        load("llama", broken.path(), 1, 64)
            .expect_err("refused")
            .to_string()
    };
    let text = |change: fn(String) -> String| {
        move |bytes: Vec<u8>| change(String::from_utf8(bytes).expect("UTF-8")).into_bytes()
    };
    copy("adapter_config.json", &text(|json| json));
    assert!(refused().contains("adapter_model.safetensors"));
    copy("adapter_model.safetensors", &|bytes| {
        bytes[..bytes.len() / 2].to_vec()
    });
    assert!(refused().contains("cut short"), "{}", refused());
    copy("adapter_model.safetensors", &|bytes| bytes);
    copy(
        "adapter_config.json",
        &text(|json| json.replace("\"v_proj\"", "\"v_proj\", \"o_proj\"")),
    );
    assert!(
        refused().contains("`target_modules` names \"o_proj\""),
        "{}",
        refused()
    );
    copy(
        "adapter_config.json",
        &text(|json| json.replace("\"use_dora\": false", "\"use_dora\": true")),
    );
    assert!(
        refused().contains("`use_dora` = true is not supported"),
        "{}",
        refused()
    );
}
