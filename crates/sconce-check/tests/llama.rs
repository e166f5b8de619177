//! The plan of Llama 3 8B, whose numbers are worked out by hand: a header of the real shapes
//! before a hole of 16 GB.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs::File;
use std::io::Write;
use std::path::Path;

use sconce_check::{Report, Target, check};
use sconce_config::{CommandLine, Environment};
use tempfile::TempDir;

const CONFIG: &str = r#"{"architectures": ["LlamaForCausalLM"], "hidden_size": 4096,
    "num_attention_heads": 32, "num_key_value_heads": 8, "num_hidden_layers": 32,
    "intermediate_size": 14336, "vocab_size": 128256, "max_position_embeddings": 8192,
    "rope_theta": 500000.0, "tie_word_embeddings": false, "torch_dtype": "bfloat16"}"#;

/// Numbers of all tensors.
const PARAMETERS: u64 = 8_030_261_248;

/// Names and shapes of all tensors.
fn shapes() -> Vec<(String, Vec<u64>)> {
    let mut shapes = vec![
        ("model.embed_tokens.weight".into(), vec![128_256, 4096]),
        ("model.norm.weight".into(), vec![4096]),
        ("lm_head.weight".into(), vec![128_256, 4096]),
    ];
    for layer in 0..32 {
        let parts: [(&str, &[u64]); 9] = [
            ("input_layernorm", &[4096]),
            ("post_attention_layernorm", &[4096]),
            ("self_attn.q_proj", &[4096, 4096]),
            ("self_attn.k_proj", &[1024, 4096]),
            ("self_attn.v_proj", &[1024, 4096]),
            ("self_attn.o_proj", &[4096, 4096]),
            ("mlp.gate_proj", &[14_336, 4096]),
            ("mlp.up_proj", &[14_336, 4096]),
            ("mlp.down_proj", &[4096, 14_336]),
        ];
        let full = |name: &str| format!("model.layers.{layer}.{name}.weight");
        shapes.extend(parts.map(|(name, shape)| (full(name), shape.to_vec())));
    }
    shapes
}

fn write(dir: &Path) {
    std::fs::write(dir.join("config.json"), CONFIG).unwrap();
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    for (name, shape) in shapes() {
        let begin = end;
        end += shape.iter().product::<u64>() * 2;
        let offsets = [begin, end];
        let entry = serde_json::json!({"dtype": "BF16", "shape": shape, "data_offsets": offsets});
        header.insert(name, entry);
    }
    let mut header = serde_json::to_vec(&header).unwrap();
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = File::create(dir.join("model.safetensors")).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes())
        .unwrap();
    file.write_all(&header).unwrap();
    file.set_len(8 + header.len() as u64 + end).unwrap();
}

fn report(gpu: &str, properties: &str) -> Report {
    let dir = TempDir::new().unwrap();
    write(dir.path());
    std::fs::write(dir.path().join("serving.properties"), properties).unwrap();
    let line = CommandLine {
        model_dir: Some(dir.path().into()),
        ..CommandLine::default()
    };
    check(&line, &Environment::default(), &Target::gpus(gpu).unwrap())
}

fn message<'a>(report: &'a Report, code: &str) -> &'a str {
    let reason = report.reasons.iter().find(|reason| reason.code == code);
    &reason
        .unwrap_or_else(|| panic!("no {code} in {report}"))
        .message
}

#[test]
fn the_plan_of_one_a10g_is_what_arithmetic_says() {
    let report = report("a10g", "");
    let model = report.model.as_ref().unwrap();
    assert_eq!(model.parameters, Some(PARAMETERS));
    assert_eq!(model.stored_bytes, Some(16_060_522_496));
    let plan = report.plan.unwrap();
    // The 65 norms are kept in 32 bits: two bytes more for each of their numbers.
    let weights = 16_060_522_496 + 65 * 4096 * 2;
    assert_eq!(plan.weights_bytes, weights);
    // 32 layers, 8 heads of 128, keys and values, 2 bytes.
    assert_eq!(plan.kv_bytes_per_token, 131_072);
    // Logits of 512 tokens and two vectors of the width are the widest place.
    let activations = 512 * (128_256 + 2 * 4096) * 4;
    assert_eq!(plan.activations_bytes, activations);
    // Cosines and sines of 64 pairs at 8192 positions, 96 MiB for products and attention, 256 MiB for recorded steps.
    assert_eq!(plan.workspace_bytes, 8192 * 64 * 2 * 4 + (352 << 20));
    // What is left of nine tenths of 23028 MiB, in blocks of 32 tokens.
    let share = 24_146_608 * 900;
    assert_eq!(plan.available_bytes, Some(share));
    let left = share - weights - activations - 373_293_056 - (600 << 20);
    assert_eq!(left, 4_389_008_064);
    assert_eq!(plan.cache_tokens, 1046 * 32);
    assert_eq!((plan.full_sequences, plan.tokens_each), (4, 1046));
    assert!(plan.total_bytes <= share);
    // All weights but the embedding, at 600 GB/s.
    let speed = report.speed.unwrap();
    assert_eq!(speed.bytes_per_token, weights - 128_256 * 4096 * 2);
    let rate = speed.one_sequence;
    assert!((rate - 39.97).abs() < 0.01, "{rate}");
    // No tokenizer was written.
    let codes: Vec<_> = report.reasons.iter().map(|reason| reason.code).collect();
    assert_eq!((codes, report.exit_code), (vec!["no-tokenizer"], 1));
}

#[test]
fn two_ranks_have_half_of_all_but_norms_and_activations() {
    let plan = report("a10g:2", "option.tensor_parallel_degree=2\n");
    let plan = plan.plan.unwrap();
    let norms = 65 * 4096;
    let weights = (16_060_522_496 - norms * 2) / 2 + norms * 4;
    assert_eq!(plan.weights_bytes, weights);
    assert_eq!(plan.kv_bytes_per_token, 65_536);
    assert_eq!(plan.overhead_bytes, 1000 << 20);
    // Logits are there three times: of the rank, gathered, and without padding.
    let activations = 512 * (3 * 128_256 + 2 * 4096) * 4;
    assert_eq!(plan.activations_bytes, activations);
    assert_eq!((plan.ranks, plan.full_sequences), (2, 21));
}

#[test]
fn the_share_of_a_gpu_is_as_a_start_would_have_it_and_what_only_the_processor_does_is_refused() {
    let plan = report("a10g", "option.gpu_memory_utilization=0.95\n")
        .plan
        .unwrap();
    assert_eq!(plan.available_bytes, Some(24_146_608 * 950));
    let all = report("a10g:4", "option.tensor_parallel_degree=max\n");
    assert_eq!(all.plan.as_ref().unwrap().ranks, 4);
    let blocks = report("a10g", "option.quantize=int8\n");
    assert!(message(&blocks, "processor-only").contains("option.quantize="));
    let idle = report("a10g:4", "option.tensor_parallel_degree=3\n");
    let warning = idle
        .warnings
        .iter()
        .find(|warning| warning.code == "idle-devices");
    let text = &warning.unwrap().message;
    assert!(
        text.contains("1 of 4 GPUs do nothing beside one replica"),
        "{text}"
    );
}

#[test]
fn what_does_not_fit_is_told_with_what_would() {
    let small = report("t4:4", "");
    assert!(message(&small, "bf16-unsupported").contains("option.dtype=fp16"));
    let text = message(&small, "not-enough-memory");
    let needed = "it needs 16061054976 bytes of weights";
    assert!(text.contains(needed), "{text}");
    let cure = "it fits with option.tensor_parallel_degree=2";
    assert!(text.ends_with(cure), "{text}");
    assert!(small.plan.is_none());

    let wide = report("l4", "option.dtype=fp32\n");
    let text = message(&wide, "not-enough-memory");
    assert!(text.ends_with("it fits with option.dtype=fp16"), "{text}");

    let alone = report("t4", "option.dtype=fp16\n");
    let text = message(&alone, "not-enough-memory");
    assert!(text.ends_with("it fits with --gpu v100-32gb:1"), "{text}");
}

#[test]
fn ranks_without_a_gpu_or_without_heads_are_refused_with_the_possible_ones() {
    let many = report("a10g:4", "option.tensor_parallel_degree=8\n");
    let text = message(&many, "tp-exceeds-devices");
    let cure = "= 8, but there are 4 GPUs; set it to one of 1, 2, 4";
    assert!(text.contains(cure), "{text}");
    let odd = report("a10g:4", "option.tensor_parallel_degree=3\n");
    let text = message(&odd, "tp-does-not-divide-heads");
    assert!(text.contains("to one of 1, 2, 4, 8, 16, 32"), "{text}");
}
