//! Several ranks compute as one: the goldens themselves where their heads can be divided, and the same families with
//! eight heads, so that every family is cut into 2, 4 and 8. What a rank reads of a file is checked here, too.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use sconce_models::{Arch, Decoder, HfConfig, LoadError, LoadOptions, Spec, find};
use sconce_nn::weights::{self, HostTensor, WeightError, WeightSource};
use sconce_nn::{Communicator, Solo, Threads};
use sconce_testkit::close::Tolerance;
use sconce_testkit::golden::{Golden, Run};
use serde_json::Value;

use super::player::{Player, on_ranks};
use super::{all, check};

/// Heads that eight ranks can share.
const HEADS: usize = 8;

#[test]
fn several_ranks_equal_one() {
    for golden in all() {
        let mut possible = Vec::new();
        for world in [2, 3, 6] {
            let ranks = on_ranks(world, |comm| play_rank(&golden, comm));
            if ranks.iter().any(Option::is_none) {
                assert!(
                    ranks.iter().all(Option::is_none),
                    "{}: ranks disagree",
                    golden.name
                );
                continue;
            }
            possible.push(world);
            for logits in ranks.iter().flatten() {
                for (run, got) in golden.runs.iter().zip(logits) {
                    let case = format!("{world} ranks, {}", run.prompt);
                    check(&golden, &case, got, &run.logits, Tolerance::F32);
                    let first = ranks[0].as_ref().expect("all ranks");
                    assert_eq!(logits, first, "{}: the ranks' logits differ", golden.name);
                }
            }
        }
        assert!(
            !possible.is_empty(),
            "{} has a number of heads that nothing divides",
            golden.name
        );
    }
}

/// Logits of all runs on one rank; `None` when the heads cannot be divided so.
fn play_rank(golden: &Golden, comm: Threads) -> Option<Vec<Vec<f32>>> {
    let source = weights::open(&golden.dir).expect("a checkpoint");
    let options = LoadOptions::default();
    let mut player = match Player::load(&golden.dir, &*source, Box::new(comm), &options) {
        Ok(player) => player,
        Err(LoadError::Ranks { .. }) => return None,
        Err(error) => panic!("{}: {error}", golden.name),
    };
    let logits = |run: &Run| player.logits(&run.ids, &[40]);
    Some(golden.runs.iter().map(logits).collect())
}

#[test]
fn every_family_with_eight_heads_is_the_same_on_one_two_four_and_eight_ranks() {
    for golden in all() {
        let wide = Wide::of(&golden);
        let run = &golden.runs[3];
        let play = |comm: Box<dyn Communicator + Send>, chunks: &[usize]| {
            let options = LoadOptions::default();
            let player = Player::of(wide.arch, &wide.spec, &wide, comm, &options);
            let mut player = player.unwrap_or_else(|error| panic!("{}: {error}", golden.name));
            player.logits(&run.ids, chunks)
        };
        let one = play(Box::new(Solo), &[run.ids.len()]);
        let mean = one.iter().map(|logit| logit.abs()).sum::<f32>() / one.len() as f32;
        assert!(
            mean > 0.1,
            "{}: the logits say nothing: {mean}",
            golden.name
        );
        for world in [2, 4, 8] {
            let all = on_ranks(world, |comm| play(Box::new(comm), &[run.ids.len()]));
            let case = format!("{world} ranks");
            check(&golden, &case, &all[0], &one, Tolerance::F32);
            // The same bits on every rank, the next time, and in any chunks.
            let again = on_ranks(world, |comm| play(Box::new(comm), &[9, 1, 20]));
            let same = all.iter().chain(&again).all(|logits| *logits == all[0]);
            assert!(same, "{}, {case}: the bits differ", golden.name);
        }
    }
}

/// A golden's family with eight heads: every tensor of the size that the wider configuration asks for, with random
/// numbers spread as those of the golden's tensor.
struct Wide {
    arch: &'static Arch,
    spec: Spec,
    golden: Box<dyn WeightSource>,
    shapes: BTreeMap<String, Vec<usize>>,
}

impl Wide {
    fn of(golden: &Golden) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let text = fs::read_to_string(golden.dir.join("config.json")).expect("readable");
        let mut config: Value = serde_json::from_str(&text).expect("JSON");
        widen(&mut config);
        fs::write(dir.path().join("config.json"), config.to_string()).expect("writable");
        let config = HfConfig::read(dir.path()).expect("a configuration");
        let arch = find(&config).expect("a known architecture");
        let spec = (arch.spec)(&config)
            .unwrap_or_else(|error| panic!("{} with 8 heads: {error}", golden.name));
        assert_eq!(spec.dims.heads, HEADS, "{}", golden.name);
        let source = weights::open(&golden.dir).expect("a checkpoint");
        let shape = |name: String| {
            let shape = source.get(&name).expect("a tensor").shape().to_vec();
            (name, shape)
        };
        let shapes = source.names().into_iter().map(shape).collect();
        let mut wide = Self {
            arch,
            spec,
            golden: source,
            shapes,
        };
        wide.settle(&golden.name);
        wide
    }

    /// Gives each tensor the shape that the decoder asks for.
    fn settle(&mut self, name: &str) {
        for _ in 0..=2 * self.shapes.len() {
            let options = LoadOptions::default();
            match Decoder::survey(self.arch, &self.spec, self, 1, &options) {
                Ok(_) => return,
                Err(LoadError::Shape { tensor, wanted, .. }) => {
                    self.shapes.insert(tensor, wanted);
                }
                // The norms of heads that the golden does not have.
                Err(LoadError::Missing { tensor, .. }) if tensor != of_first_head(&tensor) => {
                    let shape = self.shapes[&of_first_head(&tensor)].clone();
                    self.shapes.insert(tensor, shape);
                }
                Err(error) => panic!("{name} with 8 heads: {error}"),
            }
        }
        panic!("{name} with 8 heads: some tensor is asked for in two shapes");
    }
}

impl WeightSource for Wide {
    fn names(&self) -> Vec<String> {
        self.shapes.keys().cloned().collect()
    }

    fn get(&self, name: &str) -> Result<HostTensor, WeightError> {
        let like = self.golden.get(name);
        let like = like.or_else(|_| self.golden.get(&of_first_head(name)))?;
        let numbers = like.to_vec_f32()?;
        let mean = numbers.iter().sum::<f32>() / numbers.len() as f32;
        let squares: f32 = numbers.iter().map(|number| (number - mean).powi(2)).sum();
        // Wider rows have larger sums; the spread of the uniform distribution is a third of its square.
        let bound = (3.0 * squares / numbers.len() as f32).sqrt() / 2f32.sqrt();
        let seed = name.bytes().fold(17, |seed: u64, byte| {
            seed.wrapping_mul(31).wrapping_add(u64::from(byte))
        });
        let mut random = fastrand::Rng::with_seed(seed);
        let shape = &self.shapes[name];
        let number = |_| mean + bound * (2.0 * random.f32() - 1.0);
        let numbers = (0..shape.iter().product()).map(number).collect();
        Ok(HostTensor::from_f32(numbers, shape))
    }

    fn total_bytes(&self) -> u64 {
        let bytes = |shape: &Vec<usize>| 4 * shape.iter().product::<usize>() as u64;
        self.shapes.values().map(bytes).sum()
    }

    fn describe(&self) -> String {
        format!("{} with eight heads", self.golden.describe())
    }
}

/// The name of the same tensor of the first head, where each head has one of its own.
fn of_first_head(name: &str) -> String {
    let Some((before, after)) = name.split_once(".norms.") else {
        return name.to_owned();
    };
    let after = after.trim_start_matches(|digit: char| digit.is_ascii_digit());
    format!("{before}.norms.0{after}")
}

/// Eight heads of the size that they have, under whichever keys the family has for them.
fn widen(config: &mut Value) {
    let find = |config: &Value, keys: &[&str]| {
        let number = |key: &&str| Some(((*key).to_owned(), config[*key].as_u64()? as usize));
        keys.iter().find_map(number)
    };
    let heads = find(
        config,
        &["num_attention_heads", "n_head", "num_heads", "n_heads"],
    );
    let (heads_key, heads) = heads.expect("a number of heads");
    config[heads_key.as_str()] = HEADS.into();
    if let Some((key, kv_heads)) = find(config, &["num_key_value_heads", "num_kv_heads"]) {
        config[key.as_str()] = match kv_heads {
            1 | 2 => kv_heads,
            kv_heads if kv_heads == heads => HEADS,
            _ => HEADS / 2,
        }
        .into();
    }
    if config["head_dim"].is_u64() {
        return;
    }
    let width = find(config, &["hidden_size", "n_embd", "d_model"]);
    let (width_key, width) = width.expect("a width");
    let wider = width / heads * HEADS;
    for key in [width_key.as_str(), "word_embed_proj_dim"] {
        if config[key] == width {
            config[key] = wider.into();
        }
    }
}

/// Rows of its table, and numbers of each.
#[cfg(target_os = "linux")]
const VOCAB: usize = 128 << 10;
#[cfg(target_os = "linux")]
const WIDTH: usize = 64;

/// A checkpoint of a single layer whose large matrices are cut: 160 MiB of zeros, most of them holes in the file.
#[cfg(target_os = "linux")]
#[test]
fn a_rank_reads_its_own_part_of_the_file_only() {
    const WORLD: u64 = 8;
    let dir = tempfile::tempdir().expect("a directory");
    write_large_llama(dir.path());
    let file = dir.path().join("model.safetensors");
    let config = HfConfig::read(dir.path()).expect("a configuration");
    let arch = find(&config).expect("a known architecture");
    let spec = (arch.spec)(&config).expect("a supported configuration");
    let source = weights::open(dir.path()).expect("a checkpoint");
    assert!(resident(&file) < 1 << 20, "opening reads headers only");
    // Nobody else is asked for anything while a rank loads.
    let rank = Threads::group(WORLD as usize).remove(5);
    let loaded = Decoder::load(
        arch,
        &spec,
        &*source,
        Box::new(rank),
        &LoadOptions::default(),
        &mut |_, _| {},
    );
    let _kept = loaded.expect("loadable");
    let (part, read) = (source.total_bytes() / WORLD, resident(&file));
    // Copies in panels give their pages back, tables leave them where they are. The system maps pages around those that
    // are read, so a row of a matrix that is cut by columns has some more.
    let table = (VOCAB * WIDTH * 4) as u64 / WORLD;
    assert!(
        table * 9 / 10 < read && read < part * 3 / 2,
        "{read} bytes of the file are read, for a part of {part}"
    );
}

#[cfg(target_os = "linux")]
fn write_large_llama(dir: &Path) {
    let (width, inner, vocab) = (WIDTH, 128 << 10, VOCAB);
    let config = serde_json::json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": width,
        "intermediate_size": inner, "vocab_size": vocab, "num_hidden_layers": 1, "num_attention_heads": 8,
        "num_key_value_heads": 8, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
        "tie_word_embeddings": false, "hidden_act": "silu",
    });
    fs::write(dir.join("config.json"), config.to_string()).expect("writable");
    let layer = "model.layers.0.";
    let shapes: [(String, Vec<usize>); 12] = [
        ("model.embed_tokens".into(), vec![vocab, width]),
        (format!("{layer}self_attn.q_proj"), vec![width, width]),
        (format!("{layer}self_attn.k_proj"), vec![width, width]),
        (format!("{layer}self_attn.v_proj"), vec![width, width]),
        (format!("{layer}self_attn.o_proj"), vec![width, width]),
        (format!("{layer}mlp.gate_proj"), vec![inner, width]),
        (format!("{layer}mlp.up_proj"), vec![inner, width]),
        (format!("{layer}mlp.down_proj"), vec![width, inner]),
        (format!("{layer}input_layernorm"), vec![width]),
        (format!("{layer}post_attention_layernorm"), vec![width]),
        ("model.norm".into(), vec![width]),
        ("lm_head".into(), vec![vocab, width]),
    ];
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    for (name, shape) in shapes {
        let begin = end;
        end += 4 * shape.iter().product::<usize>();
        let entry =
            serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": [begin, end]});
        header.insert(format!("{name}.weight"), entry);
    }
    let mut header = Value::from(header).to_string();
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    let file = dir.join("model.safetensors");
    let begin = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
    fs::write(&file, &begin).expect("writable");
    let file = fs::File::options().write(true).open(&file).expect("there");
    file.set_len((begin.len() + end) as u64).expect("room");
}

/// Bytes of the file that this process has mapped and read.
#[cfg(target_os = "linux")]
fn resident(file: &Path) -> u64 {
    let maps = fs::read_to_string("/proc/self/smaps").expect("the maps of this process");
    let name = file.to_string_lossy();
    let mut ours = false;
    let mut kib = 0;
    for line in maps.lines() {
        // The line of a mapping begins with its addresses, those about it with a word.
        let first = line.split_whitespace().next().unwrap_or_default();
        if !first.ends_with(':') {
            ours = line.ends_with(&*name);
        }
        if let (true, Some(size)) = (ours, line.strip_prefix("Rss:")) {
            kib += size
                .trim_end_matches("kB")
                .trim()
                .parse::<u64>()
                .expect("kB");
        }
    }
    kib << 10
}
