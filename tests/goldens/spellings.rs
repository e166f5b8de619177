//! The same configuration in the spellings of other years and authors describes the same decoder.

use sconce_models::{HfConfig, find};
use sconce_testkit::golden::Golden;
use serde_json::{Value, json};

/// What the program makes of a configuration.
fn described(config: &Value) -> String {
    let config = HfConfig::parse("config.json".into(), config.to_string().as_bytes());
    let config = config.expect("JSON");
    let arch = find(&config).expect("a known architecture");
    let spec = (arch.spec)(&config).expect("a supported configuration");
    format!("{} {spec:?}", arch.names[0])
}

fn take(config: &mut Value, key: &str) -> Value {
    let keys = config.as_object_mut().expect("an object");
    keys.remove(key).unwrap_or_else(|| panic!("no {key}"))
}

fn rename(config: &mut Value, old: &str, new: &str) {
    let value = take(config, old);
    config[new] = value;
}

/// Moves the rotary settings to where they stood before transformers 5.
fn old_rope(config: &mut Value) {
    let mut rope = take(config, "rope_parameters");
    config["rope_theta"] = take(&mut rope, "rope_theta");
    rename(&mut rope, "rope_type", "type");
    config["rope_scaling"] = rope;
}

type Respell = fn(&mut Value);

/// Checkpoint, and another spelling of its configuration.
const SPELLINGS: &[(&str, Respell)] = &[
    ("llama-linear", old_rope),
    ("llama-yarn", old_rope),
    ("qwen3", |c| {
        old_rope(c);
        c["rope_scaling"] = Value::Null;
    }),
    ("phi3-longrope", |c| {
        old_rope(c);
        c["rope_scaling"]["type"] = json!("su");
        take(&mut c["rope_scaling"], "original_max_position_embeddings");
    }),
    ("phi3-longrope", |c| {
        old_rope(c);
        c["rope_scaling"]["type"] = json!("yarn");
    }),
    ("gemma3", |c| {
        take(c, "layer_types");
        take(c, "rope_parameters");
        c["sliding_window_pattern"] = json!(2);
        c["rope_theta"] = json!(50_000.0);
        c["rope_local_base_freq"] = json!(900.0);
        c["rope_scaling"] = json!({"rope_type": "linear", "factor": 2.0});
    }),
    ("falcon-40b", |c| {
        c["architectures"] = json!(["RWForCausalLM"]);
        c["auto_map"] = json!({"AutoModelForCausalLM": "modelling_RW.RWForCausalLM"});
        rename(c, "hidden_size", "n_embed");
        rename(c, "num_hidden_layers", "n_layer");
        rename(c, "num_attention_heads", "n_head");
        rename(c, "num_kv_heads", "n_head_kv");
    }),
    ("mpt", |c| {
        c["architectures"] = json!(["MPTForCausalLM"]);
        take(&mut c["attn_config"], "alibi_bias_max");
    }),
    ("gpt2", |c| rename(c, "n_positions", "n_ctx")),
    ("gpt2", |c| {
        rename(c, "n_embd", "hidden_size");
        rename(c, "n_head", "num_attention_heads");
        rename(c, "n_layer", "num_hidden_layers");
    }),
    ("mixtral", |c| rename(c, "num_local_experts", "num_experts")),
    ("gpt_neo", |c| {
        rename(c, "num_layers", "num_hidden_layers");
        rename(c, "num_heads", "num_attention_heads");
    }),
];

#[test]
fn other_spellings_of_a_configuration_describe_the_same_decoder() {
    for (index, (name, respell)) in SPELLINGS.iter().enumerate() {
        let golden = Golden::tiny(name).expect("a folder of models/tiny");
        let bytes = std::fs::read(golden.dir.join("config.json")).expect("a configuration");
        let config: Value = serde_json::from_slice(&bytes).expect("JSON");
        let mut other = config.clone();
        respell(&mut other);
        assert_ne!(other, config);
        assert_eq!(described(&other), described(&config), "{name}, {index}");
    }
}
