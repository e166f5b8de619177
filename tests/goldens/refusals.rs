//! What is wrong with a checkpoint is said with its name, and what only looks wrong is accepted.

use std::collections::BTreeMap;

use sconce_models::{Decoder, HfConfig, LoadOptions, find};
use sconce_nn::weights::{self, HostTensor, WeightError, WeightSource};
use sconce_nn::{Solo, Threads};
use sconce_testkit::close::{Tolerance, close};
use sconce_testkit::golden::Golden;
use serde_json::{Value, json};

use super::player::Player;

/// A checkpoint in memory, to be damaged.
struct Doctored(BTreeMap<String, HostTensor>);

impl Doctored {
    fn of(golden: &Golden) -> Self {
        let source = weights::open(&golden.dir).expect("a checkpoint");
        let names = source.names().into_iter();
        Self(
            names
                .map(|name| (name.clone(), source.get(&name).expect("a listed tensor")))
                .collect(),
        )
    }

    fn add(&mut self, name: &str, shape: &[usize]) {
        let zeros = vec![0.0; shape.iter().product()];
        self.0
            .insert(name.to_owned(), HostTensor::from_f32(zeros, shape));
    }

    fn rename(&mut self, old: &str, new: &str) {
        let tensor = self.0.remove(old).expect("a tensor to rename");
        self.0.insert(new.to_owned(), tensor);
    }
}

impl WeightSource for Doctored {
    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    fn get(&self, name: &str) -> Result<HostTensor, WeightError> {
        Ok(self.0[name].clone())
    }

    fn total_bytes(&self) -> u64 {
        self.0.values().map(|tensor| tensor.byte_len() as u64).sum()
    }

    fn describe(&self) -> String {
        "a doctored checkpoint".to_owned()
    }
}

fn golden(name: &str) -> Golden {
    Golden::tiny(name).expect("a folder of models/tiny")
}

/// The error of loading the model with its configuration and its tensors changed.
fn refusal(name: &str, config: fn(&mut Value), tensors: fn(&mut Doctored)) -> String {
    let golden = golden(name);
    let mut source = Doctored::of(&golden);
    tensors(&mut source);
    let bytes = std::fs::read(golden.dir.join("config.json")).expect("a configuration");
    let mut value: Value = serde_json::from_slice(&bytes).expect("JSON");
    config(&mut value);
    let parse = || {
        let config = HfConfig::parse("config.json".into(), value.to_string().as_bytes())?;
        let arch = find(&config)?;
        Ok::<_, sconce_models::ConfigError>((arch, (arch.spec)(&config)?))
    };
    let (arch, spec) = match parse() {
        Ok(parsed) => parsed,
        Err(error) => return error.to_string(),
    };
    let loaded = Decoder::load(
        arch,
        &spec,
        &source,
        Box::new(Solo),
        &LoadOptions::default(),
        &mut |_, _| {},
    );
    loaded
        .err()
        .map_or_else(|| "it was loaded".to_owned(), |error| error.to_string())
}

type Case = (
    &'static str,
    fn(&mut Value),
    fn(&mut Doctored),
    &'static str,
);

const KEEP: fn(&mut Value) = |_| {};

/// Checkpoint, damage to its configuration, damage to its tensors, what the refusal says.
const CASES: &[Case] = &[
    (
        "llama",
        KEEP,
        |t| drop(t.0.remove("model.layers.1.mlp.up_proj.weight")),
        "no tensor `model.layers.1.mlp.up_proj.weight`; are shards missing",
    ),
    (
        "llama",
        KEEP,
        |t| drop(t.0.remove("lm_head.weight")),
        "`lm_head.weight`; is `tie_word_embeddings` false",
    ),
    (
        "llama",
        |c| c["attention_bias"] = json!(true),
        |_| {},
        "`model.layers.0.self_attn.q_proj.bias`; do `attention_bias` and `mlp_bias` say",
    ),
    (
        "gpt2",
        KEEP,
        |t| drop(t.0.remove("h.1.attn.c_attn.bias")),
        "no tensor `h.1.attn.c_attn.bias`",
    ),
    (
        "gpt_neox",
        |c| c["num_hidden_layers"] = json!(1),
        |_| {},
        "has 12 tensors that its config.json gives no place to: gpt_neox.layers.1.attention.dense.bias, ",
    ),
    (
        "llama",
        KEEP,
        |t| t.add("model.layers.0.self_attn.q_norm.weight", &[8]),
        "model.layers.0.self_attn.q_norm.weight",
    ),
    (
        "gpt_neox",
        KEEP,
        |t| t.add("gpt_neox.layers.0.cross_attention.bias", &[8]),
        "gpt_neox.layers.0.cross_attention.bias",
    ),
    (
        "llama",
        |c| c["intermediate_size"] = json!(52),
        |_| {},
        "`model.layers.0.mlp.gate_proj.weight` has shape [50, 36] where config.json asks for [52, 36]: \
             [intermediate_size (n_inner, ffn_dim), hidden_size (n_embd, d_model)]",
    ),
    (
        "llama",
        |c| c["vocab_size"] = json!(320),
        |_| {},
        "`model.embed_tokens.weight` has shape [307, 36] where config.json asks for [320, 36]: [vocab_size, ",
    ),
    (
        "gpt2",
        KEEP,
        |t| t.add("h.0.mlp.c_fc.weight", &[120, 30]),
        "`h.0.mlp.c_fc.weight` has shape [120, 30] where config.json asks for [30, 120]",
    ),
    (
        "gpt2",
        |c| c["n_positions"] = json!(161),
        |_| {},
        "[161, 30]: [max_position_embeddings (n_positions), ",
    ),
    (
        "llama",
        KEEP,
        |t| {
            drop(t.0.insert(
                "model.norm.weight".into(),
                HostTensor::from_slice(&[1i8; 36], &[36]),
            ))
        },
        "`model.norm.weight` is stored as int8; weights can be",
    ),
    (
        "llama",
        |c| c["num_key_value_heads"] = json!(4),
        |_| {},
        "`num_attention_heads` = 6 is not a multiple of `num_key_value_heads` = 4",
    ),
    (
        "llama",
        |c| c["head_dim"] = json!(7),
        |_| {},
        "`head_dim` = 7; it must be such that an even number",
    ),
    (
        "llama",
        |c| c["hidden_act"] = json!("swoosh"),
        |_| {},
        "`hidden_act` = \"swoosh\" is not supported; supported: ",
    ),
    (
        "llama",
        |c| c["rope_scaling"] = json!({"type": "ntk", "factor": 2}),
        |_| {},
        "`rope_scaling.type` = \"ntk\" is not supported; supported: default, linear, dynamic, yarn, longrope, llama3",
    ),
    (
        "phi3-longrope",
        |c| c["rope_parameters"]["long_factor"] = json!([1, 2]),
        |_| {},
        "`rope_parameters.long_factor` = [1,2]; it must be a list of 3 numbers above 0",
    ),
    (
        "llama-yarn",
        |c| c["rope_parameters"]["truncate"] = json!("no"),
        |_| {},
        "`rope_parameters.truncate` = \"no\"; it must be true or false",
    ),
    (
        "qwen2",
        |c| c["layer_types"] = json!(["full_attention", "chunked_attention"]),
        |_| {},
        "`layer_types` = [\"full_attention\",\"chunked_attention\"] is not supported; supported: a list of",
    ),
    (
        "mixtral",
        |c| c["num_experts_per_tok"] = json!(9),
        |_| {},
        "`num_experts_per_tok` = 9; it must be at most the number of experts, 5",
    ),
    (
        "mixtral",
        KEEP,
        |t| drop(t.0.remove("model.layers.1.block_sparse_moe.experts.3.w2.weight")),
        "no tensor `model.layers.1.block_sparse_moe.experts.3.w2.weight`",
    ),
    (
        "mpt",
        |c| c["attn_config"]["qk_ln"] = json!(true),
        |_| {},
        "`qk_ln` = true is not supported; supported: false",
    ),
    (
        "mpt",
        |c| c["attn_config"]["alibi_bias_max"] = json!(6),
        |_| {},
        "`alibi_bias_max` = 6 is not supported; supported: 8",
    ),
    (
        "gpt_neo",
        |c| c["attention_types"] = json!([[["global"], 1]]),
        |_| {},
        "`attention_types` = [[[\"global\"],1]] is not supported; supported: pairs of",
    ),
    (
        "gptj",
        |c| c["rotary_dim"] = json!(7),
        |_| {},
        "`rotary_dim` = 7; it must be an even number, at most the 6 numbers of a head",
    ),
    (
        "codegen",
        |c| c["n_head"] = json!(5),
        |_| {},
        "`n_head` = 5 is not a multiple of",
    ),
    (
        "falcon-40b",
        |c| c["parallel_attn"] = json!(false),
        |_| {},
        "`parallel_attn` = false is not supported; supported: true with `new_decoder_architecture`",
    ),
    (
        "gemma",
        |c| c["use_bidirectional_attention"] = json!(true),
        |_| {},
        "`use_bidirectional_attention` = true is not supported; supported: false",
    ),
    (
        "opt-350m",
        |c| c["word_embed_proj_dim"] = json!(24),
        |_| {},
        "config.json asks for [307, 24]: [vocab_size, word_embed_proj_dim",
    ),
    (
        "llama",
        |c| c["rope_scaling"] = json!({"rope_type": "linear"}),
        |_| {},
        "`rope_scaling.factor` is absent",
    ),
    (
        "gpt_neox",
        |c| c["rope_parameters"]["partial_rotary_factor"] = json!(0.5),
        |_| {},
        "`partial_rotary_factor` = 0.5; it must be such that an even number of the 10 numbers of a head is rotated, not 5",
    ),
    (
        "gpt2",
        |c| c["add_cross_attention"] = json!(true),
        |_| {},
        "`add_cross_attention` = true is not supported",
    ),
];

#[test]
fn damaged_checkpoints_are_refused_by_name() {
    for (name, config, tensors, wanted) in CASES {
        let got = refusal(name, *config, *tensors);
        assert!(
            got.contains(wanted),
            "{name}:\n  got    {got}\n  wanted {wanted}"
        );
    }
}

#[test]
fn a_number_of_ranks_that_divides_no_heads_is_refused_with_those_that_do() {
    let golden = golden("llama");
    let comm = Threads::group(4).remove(0);
    let source = Doctored::of(&golden);
    let error = Player::load(
        &golden.dir,
        &source,
        Box::new(comm),
        &LoadOptions::default(),
    )
    .err();
    let text = error.expect("6 heads over 4 ranks").to_string();
    assert!(
        text.ends_with(
            "cannot be divided among 4 ranks; set option.tensor_parallel_degree to one of 1, 2, 6"
        ),
        "{text}"
    );
}

/// The golden logits of the second prompt come out although the tensors were changed.
#[track_caller]
fn computes_the_same(name: &str, change: impl Fn(&mut Doctored)) {
    let golden = golden(name);
    let mut source = Doctored::of(&golden);
    change(&mut source);
    let player = Player::load(
        &golden.dir,
        &source,
        Box::new(Solo),
        &LoadOptions::default(),
    );
    let run = &golden.runs[1];
    close(
        &player.expect("loadable").logits(&run.ids, &[run.ids.len()]),
        &run.logits,
        Tolerance::F32,
    );
}

#[test]
fn names_with_and_without_the_prefix_of_the_base_model_are_read() {
    computes_the_same("gpt2", |t| {
        for name in t.names() {
            t.rename(&name, &format!("transformer.{name}"));
        }
    });
    computes_the_same("llama", |t| {
        for name in t.names() {
            t.rename(&name, name.strip_prefix("model.").unwrap_or(&name));
        }
    });
}

#[test]
fn buffers_of_old_checkpoints_are_ignored() {
    computes_the_same("gpt2", |t| {
        t.add("h.0.attn.bias", &[1, 1, 160, 160]);
        t.add("h.0.attn.masked_bias", &[]);
    });
    computes_the_same("gpt_neox", |t| {
        t.add("gpt_neox.layers.1.attention.bias", &[1, 1, 4, 4]);
        t.add("gpt_neox.layers.1.attention.rotary_emb.inv_freq", &[2]);
    });
}

#[test]
fn a_tied_head_may_be_stored_and_float64_is_narrowed() {
    computes_the_same("gpt2", |t| {
        drop(t.0.insert("lm_head.weight".into(), t.0["wte.weight"].clone()))
    });
    computes_the_same("llama-bias-tied", |t| {
        for tensor in t.0.values_mut() {
            *tensor = tensor.to_dtype(weights::StoredDtype::F64).expect("floats");
        }
    });
}

#[test]
fn a_tied_head_that_differs_from_the_embedding_is_used_as_transformers_does() {
    let golden = golden("gpt2");
    let mut source = Doctored::of(&golden);
    source.add("lm_head.weight", &[303, 30]);
    let player = Player::load(
        &golden.dir,
        &source,
        Box::new(Solo),
        &LoadOptions::default(),
    );
    let logits = player.expect("loadable").logits(&[5, 6], &[2]);
    close(&logits, &[0.0; 2 * 303], Tolerance::EXACT);
}
