"""The cases of `make.py` beyond its first three families: one dictionary each, with every variant that a
configuration of the family can express. Sizes are odd on purpose, prompts are longer than windows and rotary borders."""

import transformers as t

SPM = dict(specials=["<unk>", "<s>", "</s>"], bos="<s>", std=0.4)
BPE = dict(specials=["<|endoftext|>"], std=0.4)


def spm(**keys):
    return dict(bos_token_id=1, eos_token_id=2, pad_token_id=None) | keys


def bpe(**keys):
    return dict(bos_token_id=0, eos_token_id=0) | keys


# Six heads, two of them for keys, in 36 numbers with heads of 8; 307 tokens.
GROUPED = dict(vocab_size=307, hidden_size=36, intermediate_size=50, num_hidden_layers=2, num_attention_heads=6,
               num_key_value_heads=2, max_position_embeddings=256)
PLAIN = GROUPED | dict(num_key_value_heads=6)


def rope(**keys):
    return dict(rope_parameters=dict(rope_type="default", rope_theta=8000.0) | keys)


def llama_scaled(**scaling):
    config = GROUPED | dict(head_dim=10, max_position_embeddings=192) | rope(**scaling)
    return dict(config=t.LlamaConfig(**spm(**config)), **SPM)


def old_rope(c):
    """As written before transformers 5."""
    parameters = c.pop("rope_parameters")
    c["rope_theta"] = parameters.pop("rope_theta", 10000.0)
    share = parameters.pop("partial_rotary_factor", None)
    if share is not None:
        c["partial_rotary_factor"] = share
    parameters["type"] = parameters.pop("rope_type")
    c["rope_scaling"] = None if parameters["type"] == "default" else parameters


LONG = dict(rope_type="longrope", short_factor=[1.0, 1.1, 1.3], long_factor=[1.5, 2.5, 4.0],
            original_max_position_embeddings=48)

CASES = {
    "llama-linear": llama_scaled(rope_type="linear", factor=3.0),
    "llama-dynamic": llama_scaled(rope_type="dynamic", factor=2.0),
    "llama-yarn": llama_scaled(rope_type="yarn", factor=4.0, original_max_position_embeddings=48),
    "mistral": dict(
        config=t.MistralConfig(**spm(**GROUPED, sliding_window=20, head_dim=10), **rope()), rewrite=old_rope, **SPM),
    "mixtral": dict(
        config=t.MixtralConfig(**spm(**GROUPED, num_local_experts=5, num_experts_per_tok=2, sliding_window=24), **rope()),
        **SPM),
    "qwen2": dict(
        config=t.Qwen2Config(**bpe(**GROUPED, use_sliding_window=True, sliding_window=18, max_window_layers=1,
                                   tie_word_embeddings=True), **rope()), **BPE),
    "qwen3": dict(config=t.Qwen3Config(**bpe(**GROUPED, head_dim=10, attention_bias=True), **rope()), **BPE),
    "qwen2_moe": dict(
        config=t.Qwen2MoeConfig(**bpe(**GROUPED | dict(num_hidden_layers=3), num_experts=6, num_experts_per_tok=3,
                                      moe_intermediate_size=18, shared_expert_intermediate_size=22,
                                      decoder_sparse_step=1, mlp_only_layers=[1]), **rope()), **BPE),
    "qwen3_moe": dict(
        config=t.Qwen3MoeConfig(**bpe(**GROUPED, head_dim=10, num_experts=7, num_experts_per_tok=2,
                                      moe_intermediate_size=18, norm_topk_prob=True), **rope()), **BPE),
    "gemma": dict(config=t.GemmaConfig(**spm(**GROUPED, head_dim=10), **rope()), **SPM | dict(std=0.25)),
    "gemma2": dict(
        config=t.Gemma2Config(**spm(**GROUPED | dict(num_hidden_layers=3), head_dim=10, sliding_window=17,
                                    query_pre_attn_scalar=14, final_logit_softcapping=20.0,
                                    attn_logit_softcapping=3.0), **rope()), **SPM | dict(std=0.15, narrowest=0.003)),
    "gemma3": dict(
        config=t.Gemma3TextConfig(**spm(**GROUPED | dict(num_hidden_layers=3), head_dim=10, sliding_window=17,
                                        query_pre_attn_scalar=14,
                                        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
                                        rope_parameters={
                                            "full_attention": dict(rope_type="linear", factor=2.0, rope_theta=50000.0),
                                            "sliding_attention": dict(rope_type="default", rope_theta=900.0)})),
        **SPM | dict(std=0.25)),
    "phi": dict(config=t.PhiConfig(**spm(**GROUPED | dict(hidden_size=48), qk_layernorm=True),
                                   **rope(partial_rotary_factor=0.5)), rewrite=old_rope, **SPM),
    "phi3": dict(
        config=t.Phi3Config(**spm(**GROUPED, sliding_window=30), **rope()), **SPM),
    "phi3-longrope": dict(
        config=t.Phi3Config(**spm(**GROUPED, original_max_position_embeddings=48), **rope(**LONG)), **SPM),
    "stablelm": dict(config=t.StableLmConfig(**bpe(**GROUPED | dict(hidden_size=48), use_qkv_bias=True),
                                             **rope(partial_rotary_factor=0.25)), rewrite=old_rope, **BPE),
    "stablelm-parallel": dict(
        config=t.StableLmConfig(**bpe(**GROUPED | dict(hidden_size=48), use_parallel_residual=True, qk_layernorm=True),
                                **rope(partial_rotary_factor=0.5)), **BPE),
    "olmo": dict(config=t.OlmoConfig(**bpe(**PLAIN, clip_qkv=1.5), **rope()), **BPE),
    "olmo2": dict(config=t.Olmo2Config(**bpe(**GROUPED), **rope()), **BPE),
    "granite": dict(
        config=t.GraniteConfig(**spm(**GROUPED, embedding_multiplier=3.0, residual_multiplier=0.6, logits_scaling=0.7,
                                     attention_multiplier=0.2, attention_bias=True, mlp_bias=True,
                                     tie_word_embeddings=True), **rope()), **SPM),
    "cohere": dict(config=t.CohereConfig(**spm(**GROUPED, logit_scale=0.9), **rope()), **SPM),
    "cohere-qk-norm": dict(config=t.CohereConfig(**spm(**GROUPED, use_qk_norm=True, logit_scale=0.9), **rope()), **SPM),
    "cohere2": dict(
        config=t.Cohere2Config(**spm(**GROUPED | dict(num_hidden_layers=4), logit_scale=0.9, sliding_window=19,
                                     layer_types=["sliding_attention", "full_attention"] * 2), **rope()), **SPM),
    "smollm3": dict(
        config=t.SmolLM3Config(**spm(**GROUPED | dict(num_hidden_layers=3), no_rope_layers=[1, 0, 1]), **rope()), **SPM),
    "starcoder2": dict(
        config=t.Starcoder2Config(**bpe(**GROUPED, sliding_window=21, norm_epsilon=1e-4), **rope()), **BPE),
    "falcon-7b": dict(
        config=t.FalconConfig(**bpe(vocab_size=309, hidden_size=36, num_hidden_layers=2, num_attention_heads=6,
                                    max_position_embeddings=256), **rope()), **BPE),
    "falcon-40b": dict(
        config=t.FalconConfig(**bpe(vocab_size=309, hidden_size=36, num_hidden_layers=2, num_attention_heads=6,
                                    num_kv_heads=2, new_decoder_architecture=True, ffn_hidden_size=70,
                                    max_position_embeddings=256, tie_word_embeddings=False), **rope()), **BPE),
    # Its eager attention adds ALiBi twice in transformers 5.24: to the mask and to the scores.
    "falcon-rw": dict(
        attention="sdpa",
        config=t.FalconConfig(**bpe(vocab_size=309, hidden_size=36, num_hidden_layers=2, num_attention_heads=6,
                                    alibi=True, multi_query=False, parallel_attn=False, bias=True,
                                    max_position_embeddings=256)), **BPE),
    "bloom": dict(config=t.BloomConfig(**spm(vocab_size=303, hidden_size=36, n_layer=2, n_head=6)), **SPM,
                  rename={"transformer.": ""}),
    "bloom-residual": dict(
        config=t.BloomConfig(**spm(vocab_size=303, hidden_size=40, n_layer=2, n_head=4,
                                   apply_residual_connection_post_layernorm=True)), **SPM | dict(std=0.2, narrowest=0.003)),
    "mpt": dict(
        config=t.MptConfig(**bpe(vocab_size=305, d_model=36, n_heads=6, n_layers=2, max_seq_len=256,
                                 attn_config=dict(clip_qkv=1.2, softmax_scale=0.3))), **BPE),
    "opt": dict(
        config=t.OPTConfig(**spm(vocab_size=307, hidden_size=36, word_embed_proj_dim=36, ffn_dim=50,
                                 num_hidden_layers=2, num_attention_heads=6, max_position_embeddings=160)),
        **SPM, rename={"model.": ""}),
    "opt-350m": dict(
        config=t.OPTConfig(**spm(vocab_size=307, hidden_size=36, word_embed_proj_dim=22, ffn_dim=50,
                                 num_hidden_layers=2, num_attention_heads=6, max_position_embeddings=160,
                                 do_layer_norm_before=False)), **SPM),
    "gpt_bigcode": dict(
        config=t.GPTBigCodeConfig(**bpe(vocab_size=305, n_embd=30, n_layer=2, n_head=6, n_positions=160)), **BPE),
    "gpt_bigcode-multi-head": dict(
        config=t.GPTBigCodeConfig(**bpe(vocab_size=305, n_embd=30, n_layer=2, n_head=6, n_positions=160,
                                        multi_query=False, scale_attn_weights=False, n_inner=44)), **BPE),
    "gpt_neo": dict(
        config=t.GPTNeoConfig(**bpe(vocab_size=303, hidden_size=30, num_layers=3, num_heads=6, intermediate_size=50,
                                    max_position_embeddings=160, window_size=16,
                                    attention_types=[[["local", "global"], 1], [["local"], 1]])), **BPE),
    "gptj": dict(
        config=t.GPTJConfig(**bpe(vocab_size=303, n_embd=36, n_layer=2, n_head=6, rotary_dim=4, n_positions=160)), **BPE),
    "codegen": dict(
        config=t.CodeGenConfig(**bpe(vocab_size=303, n_embd=40, n_layer=2, n_head=4, rotary_dim=6, n_positions=160)),
        **BPE),
    # Variants of the above.
    "llama-longrope": llama_scaled(rope_type="longrope", factor=4.0, original_max_position_embeddings=40,
                                   short_factor=[1.0, 1.0, 1.1, 1.2, 1.5], long_factor=[1.0, 2.0, 3.0, 4.0, 6.0]),
    "llama-yarn-mscale": llama_scaled(rope_type="yarn", factor=8.0, original_max_position_embeddings=24, mscale=0.8,
                                      mscale_all_dim=0.5, beta_fast=16, beta_slow=2, truncate=False),
    "mistral-no-window": dict(config=t.MistralConfig(**spm(**GROUPED, sliding_window=None), **rope()), **SPM),
    "qwen3-window": dict(
        config=t.Qwen3Config(**bpe(**GROUPED, head_dim=10, use_sliding_window=True, sliding_window=15,
                                   max_window_layers=0), **rope()), **BPE),
    "qwen2_moe-sparse": dict(
        config=t.Qwen2MoeConfig(**bpe(**GROUPED | dict(num_hidden_layers=3), num_experts=5, num_experts_per_tok=2,
                                      moe_intermediate_size=18, shared_expert_intermediate_size=22, qkv_bias=False,
                                      norm_topk_prob=True, decoder_sparse_step=2, use_sliding_window=True,
                                      sliding_window=18), **rope()), **BPE),
    "phi-plain": dict(config=t.PhiConfig(**spm(**PLAIN | dict(hidden_size=48)), **rope(partial_rotary_factor=0.25)),
                      **SPM),
    "phi3-partial": dict(config=t.Phi3Config(**spm(**GROUPED | dict(hidden_size=48), tie_word_embeddings=True),
                                             **rope(partial_rotary_factor=0.75)), **SPM),
    "olmo-bias": dict(config=t.OlmoConfig(**bpe(**GROUPED, attention_bias=True), **rope()), **BPE),
    "cohere-bias": dict(config=t.CohereConfig(**spm(**GROUPED, attention_bias=True, logit_scale=0.9), **rope()), **SPM),
    "smollm3-window": dict(
        config=t.SmolLM3Config(**spm(**GROUPED | dict(num_hidden_layers=3), no_rope_layer_interval=2,
                                     use_sliding_window=True, sliding_window=14, tie_word_embeddings=False), **rope()),
        **SPM),
    "starcoder2-no-bias": dict(
        config=t.Starcoder2Config(**bpe(**GROUPED, use_bias=False, tie_word_embeddings=False), **rope()), **BPE),
    "falcon-11b": dict(
        config=t.FalconConfig(**bpe(vocab_size=309, hidden_size=36, num_hidden_layers=2, num_attention_heads=6,
                                    num_kv_heads=3, new_decoder_architecture=True, num_ln_in_parallel_attn=1,
                                    max_position_embeddings=256), **rope()), **BPE),
    "falcon-serial": dict(
        config=t.FalconConfig(**bpe(vocab_size=309, hidden_size=36, num_hidden_layers=2, num_attention_heads=6,
                                    parallel_attn=False, bias=True, max_position_embeddings=256), **rope()), **BPE),
    "mpt-plain": dict(config=t.MptConfig(**bpe(vocab_size=305, d_model=40, n_heads=4, n_layers=2, max_seq_len=256)), **BPE),
    "opt-bare": dict(
        config=t.OPTConfig(**spm(vocab_size=307, hidden_size=36, word_embed_proj_dim=36, ffn_dim=50,
                                 num_hidden_layers=2, num_attention_heads=6, max_position_embeddings=160,
                                 enable_bias=False, layer_norm_elementwise_affine=False,
                                 _remove_final_layer_norm=True, tie_word_embeddings=False)), **SPM),
    "gpt_neox-plain": dict(
        config=t.GPTNeoXConfig(**bpe(vocab_size=305, hidden_size=36, intermediate_size=45, num_hidden_layers=2,
                                     num_attention_heads=6, max_position_embeddings=256, attention_bias=False),
                               **rope(partial_rotary_factor=1.0)), **BPE),
}
