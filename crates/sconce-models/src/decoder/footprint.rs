//! What a decoder takes in memory: its weights, counted while it is laid out, and what a step needs beside them,
//! bounded from its spec. What the cache takes is said by [`sconce_nn::KvCache`].

use sconce_nn::weights::HostTensor;
use sconce_nn::{KvDtype, KvShape, RopeSpec};

use super::load_error::LoadError;
use super::share::Share;
use super::spec::{Mlp, Position, Spec};

/// Bytes of an f32, the type of all that is computed.
const F32: u64 = 4;

/// Bytes of a number that a product's input is packed to: three pieces of bf16, the widest that kernels make of it.
const PACKED: u64 = 6;

/// Bytes of the weights of one rank, in the type in which they are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// All of them.
    pub weights: u64,
    /// Those that are copies in memory of the process's own; the rest lies in mapped files.
    pub owned: u64,
    /// Those of tables of which a token reads single rows: the embedding, unless the output projection is tied to it,
    /// and learned positions.
    pub tables: u64,
    /// Those of experts of which a token uses only some.
    pub experts: u64,
}

/// Bytes that a step takes on one rank beside weights and cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Working {
    /// Activations of the largest step, at their peak.
    pub activations: u64,
    /// What kernels of the CPU make of a product's input before they multiply it.
    pub packed_inputs: u64,
    /// Cosines and sines of all positions.
    pub rotations: u64,
}

impl Footprint {
    pub(crate) fn add(&mut self, weight: &HostTensor) {
        let bytes = weight.byte_len() as u64;
        self.weights += bytes;
        self.owned += if weight.is_owned() { bytes } else { 0 };
    }

    /// Counts a weight that was added as a table.
    pub(crate) fn add_table(&mut self, weight: &HostTensor) {
        self.tables += weight.byte_len() as u64;
    }

    /// Adds numbers that are kept as f32 whatever their type in the file.
    pub(crate) fn add_as_f32(&mut self, numbers: &HostTensor) {
        let bytes = numbers.elements() as u64 * F32;
        self.weights += bytes;
        self.owned += bytes;
    }

    /// Bytes that a step of `tokens` tokens, one of each sequence, reads at least: each weight once, and of the
    /// experts as many as the tokens pick if they all pick different ones.
    pub fn read_by(&self, spec: &Spec, tokens: usize) -> u64 {
        let dense = self.weights - self.tables - self.experts;
        let picked = spec.layers.iter().find_map(|layer| match layer.mlp {
            Mlp::Experts(_, routing) => Some(routing.picked),
            _ => None,
        });
        let used = (picked.unwrap_or(0) * tokens).min(spec.dims.experts) as u64;
        dense + self.experts / (spec.dims.experts.max(1) as u64) * used
    }
}

impl Spec {
    /// The cache of such numbers that each of `world` ranks needs; fails when the heads cannot be divided among them.
    pub fn kv_shape(&self, world: usize, dtype: KvDtype) -> Result<KvShape, LoadError> {
        let share = Share::new(0, world, self.dims)?;
        Ok(KvShape {
            layers: self.dims.layers,
            kv_heads: share.kv_heads(),
            head_dim: self.dims.head,
            dtype,
        })
    }

    /// The numbers of ranks among which its heads can be divided.
    pub fn possible_worlds(&self) -> Vec<usize> {
        Share::possible(&self.dims)
    }

    /// An upper bound for a step of `tokens` tokens on one of `world` ranks. Logits count for every token, because
    /// requests may ask for the log-probabilities of their prompts.
    pub fn working(&self, tokens: usize, world: usize) -> Working {
        let dims = &self.dims;
        let heads = dims.heads.div_ceil(world) * dims.head;
        let kv = dims.kv_heads.div_ceil(world) * dims.head;
        // The residual stream, its norm, queries, keys and values before and after they are changed, the result.
        let attention = 3 * dims.width + 2 * (heads + 2 * kv) + heads;
        let dense = self
            .layers
            .iter()
            .any(|layer| !matches!(layer.mlp, Mlp::Experts(..)));
        // The stream, its norm, gate, up, their product, the result.
        let inner = if dense { dims.inner } else { 0 };
        let plain = 4 * dims.width + 3 * inner.div_ceil(world);
        // Sums, one expert's tokens, and its results; in the worst case all tokens go to the same.
        let experts =
            6 * dims.width + 3 * dims.expert.max(dims.shared).div_ceil(world) + dims.experts;
        let mlp = if dims.experts > 0 {
            plain.max(experts)
        } else {
            plain
        };
        let changed = self.logits.scale.is_some() || self.logits.softcap.is_some();
        let copies = 1 + usize::from(changed) + 2 * usize::from(world > 1);
        let logits = copies * dims.vocab + 2 * dims.width;
        let numbers = attention.max(mlp).max(logits) as u64;
        let experts = dims.expert.max(dims.shared);
        let inputs = [
            dims.width,
            dims.embed,
            heads,
            inner.div_ceil(world),
            experts.div_ceil(world),
        ];
        let widest = inputs.into_iter().max().unwrap_or(0) as u64;
        let tables = match &self.position {
            Position::Rope(tables) => tables.as_slice(),
            _ => &[],
        };
        Working {
            activations: tokens as u64 * numbers * F32,
            packed_inputs: tokens as u64 * widest * PACKED,
            rotations: tables.iter().map(rotation_bytes).sum(),
        }
    }
}

/// Cosines and sines of each pair at each position, twice where long sequences have others.
fn rotation_bytes(table: &RopeSpec) -> u64 {
    let sets = if table.border().is_some() { 2 } else { 1 };
    table.max_len as u64 * (table.dim / 2) as u64 * 2 * F32 * sets
}

#[cfg(test)]
mod tests {
    use sconce_nn::weights::{BlockFormat, RandomSource, StoredDtype};

    use super::*;
    use crate::decoder::{Decoder, LoadOptions, Quantisation};
    use crate::hf_config::HfConfig;

    /// Width 8, 4 heads of 2 with 2 key/value heads, inside 12, 2 layers, vocabulary 10.
    const CONFIG: &str = r#"{"architectures": ["LlamaForCausalLM"], "hidden_size": 8, "num_attention_heads": 4,
        "num_key_value_heads": 2, "num_hidden_layers": 2, "intermediate_size": 12, "vocab_size": 10,
        "max_position_embeddings": 64, "tie_word_embeddings": TIED}"#;

    fn spec(tied: bool) -> (&'static crate::Arch, Spec) {
        scaled_spec(tied, 1)
    }

    /// The same with so many times the width, the heads' width and the inside.
    fn scaled_spec(tied: bool, factor: usize) -> (&'static crate::Arch, Spec) {
        let text = CONFIG.replace("TIED", if tied { "true" } else { "false" });
        let text = text.replace(
            "\"hidden_size\": 8",
            &format!("\"hidden_size\": {}", 8 * factor),
        );
        let inside = format!("\"intermediate_size\": {}", 12 * factor);
        let text = text.replace("\"intermediate_size\": 12", &inside);
        let config = HfConfig::parse("config.json".into(), text.as_bytes()).expect("JSON");
        let arch = crate::find(&config).expect("a known architecture");
        (arch, (arch.spec)(&config).expect("a spec"))
    }

    fn source(tied: bool) -> RandomSource {
        RandomSource::new(shapes(tied), StoredDtype::BF16)
    }

    fn shapes(tied: bool) -> Vec<(String, Vec<usize>)> {
        let mut shapes = vec![
            ("model.embed_tokens.weight".to_owned(), vec![10, 8]),
            ("model.norm.weight".to_owned(), vec![8]),
        ];
        if !tied {
            shapes.push(("lm_head.weight".to_owned(), vec![10, 8]));
        }
        for layer in 0..2 {
            let parts: [(&str, &[usize]); 9] = [
                ("input_layernorm", &[8]),
                ("post_attention_layernorm", &[8]),
                ("self_attn.q_proj", &[8, 8]),
                ("self_attn.k_proj", &[4, 8]),
                ("self_attn.v_proj", &[4, 8]),
                ("self_attn.o_proj", &[8, 8]),
                ("mlp.gate_proj", &[12, 8]),
                ("mlp.up_proj", &[12, 8]),
                ("mlp.down_proj", &[8, 12]),
            ];
            shapes.extend(parts.map(|(name, shape)| {
                (
                    format!("model.layers.{layer}.{name}.weight"),
                    shape.to_vec(),
                )
            }));
        }
        shapes
    }

    /// All sizes but the vocabulary times 32, so that rows fill blocks.
    fn scaled(tied: bool) -> RandomSource {
        let scale = |size: usize| if size == 10 { 10 } else { size * 32 };
        let scaled = shapes(tied).into_iter().map(|(name, shape)| {
            let shape = shape.into_iter().map(scale).collect();
            (name, shape)
        });
        RandomSource::new(scaled, StoredDtype::BF16)
    }

    #[test]
    fn quantised_weights_are_counted_as_they_are_kept() {
        let survey = |tied, world, quantise| {
            let (arch, spec) = scaled_spec(tied, 32);
            let options = LoadOptions {
                dtype: None,
                quantise: Some(quantise),
                ..LoadOptions::default()
            };
            Decoder::survey(arch, &spec, &scaled(tied), world, &options).expect("it fits")
        };
        // Of rows of 256 and 384 numbers: 6 matrices of 2 * 64 + 2 * 32 + 2 * 96 = 384, and one of 96, times 1024.
        let (of_256, of_384, table) = (384 << 10, 96 << 10, 2560);
        let norms = 5 * 256 * 4;
        // What is multiplied lies in panels of sixteen rows: ten of the vocabulary take one, and so do five.
        let head = 16 * 256;
        let q8_0 = |numbers: u64| numbers / 32 * 34;
        let (q4_k, q5_0, q6_k) = (144, 22, 210);
        let eight = survey(false, 1, Quantisation::Blocks(BlockFormat::Q8_0));
        assert_eq!(
            eight.weights,
            q8_0(2 * (of_256 + of_384) + table + head) + norms
        );
        assert_eq!((eight.owned, eight.tables), (eight.weights, q8_0(table)));
        let four = survey(false, 1, Quantisation::Blocks(BlockFormat::Q4K));
        let matrices = 2 * (of_256 / 256 * q4_k + of_384 / 32 * q5_0);
        let tables = table / 256 * q4_k + head / 256 * q6_k;
        assert_eq!(four.weights, matrices + tables + norms);
        let tied = survey(true, 1, Quantisation::Blocks(BlockFormat::Q4K));
        assert_eq!(tied.weights, matrices + head / 256 * q6_k + norms);
        // Halves of rows of 256 no longer fill blocks of 256, so the output of attention takes others.
        let half = survey(true, 2, Quantisation::Int4);
        let (in_rows, in_columns) = ((64 + 64 + 192) << 10, 64 << 10);
        let four_bits = in_rows / 2 / 256 * q4_k + (in_columns + of_384) / 2 / 32 * 18;
        assert_eq!(half.weights, 2 * four_bits + head / 256 * q6_k + norms);
    }

    fn survey(tied: bool, world: usize) -> Footprint {
        let (arch, spec) = spec(tied);
        let options = LoadOptions::default();
        Decoder::survey(arch, &spec, &source(tied), world, &options).expect("it fits")
    }

    #[test]
    fn the_footprint_is_what_the_matrices_and_norms_take() {
        // A layer: 2 * 64 + 2 * 32 + 3 * 96 = 480 numbers in matrices. Norms are f32: 5 * 8 * 4 bytes.
        let matrices = 2 * 480 * 2;
        assert_eq!(
            survey(false, 1),
            Footprint {
                weights: matrices + 2 * 160 + 160,
                owned: matrices + 2 * 160 + 160,
                tables: 160,
                experts: 0
            }
        );
        let tied = survey(true, 1);
        assert_eq!((tied.weights, tied.tables), (matrices + 160 + 160, 0));
        let (_, spec) = spec(false);
        assert_eq!(survey(false, 1).read_by(&spec, 7), matrices + 160 + 160);
    }

    #[test]
    fn a_rank_has_its_share_of_all_but_the_norms() {
        let matrices = 480 * 2;
        assert_eq!(survey(false, 2).weights, matrices + 160 + 160);
    }

    #[test]
    fn a_survey_finds_what_loading_would() {
        let (arch, spec) = spec(true);
        let options = LoadOptions::default();
        let error = Decoder::survey(arch, &spec, &source(false), 1, &options).map(|_| ());
        assert!(error.is_ok(), "a stored head may be tied all the same");
        let (arch, mut short) = self::spec(false);
        short.dims.layers = 1;
        let error = Decoder::survey(arch, &short, &source(false), 1, &options).unwrap_err();
        assert!(matches!(error, LoadError::Unread { .. }), "{error}");
        let error = Decoder::survey(arch, &short, &source(false), 3, &options).unwrap_err();
        assert!(matches!(error, LoadError::Ranks { .. }), "{error}");
    }

    #[test]
    fn the_step_is_bounded_by_its_widest_place() {
        let (_, spec) = spec(false);
        // Logits: 10 + 2 * 8; attention: 3 * 8 + 2 * (8 + 2 * 4) + 8 = 64; MLP: 4 * 8 + 3 * 12 = 68 numbers.
        let working = spec.working(5, 1);
        // The widest input of a product is the inside of the MLP.
        assert_eq!(working.activations, 5 * 68 * 4);
        assert_eq!(working.packed_inputs, 5 * 12 * 6);
        // 64 positions, one pair, cosine and sine.
        assert_eq!(working.rotations, 64 * 2 * 4);
        assert_eq!(spec.possible_worlds(), [1, 2, 4]);
    }
}
