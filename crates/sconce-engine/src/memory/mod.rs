//! The plan of a model's memory: what each rank takes, and how many cache blocks that leaves.
//!
//! The engine and `sconce check` make the same plan from the same headers, before a weight is
//! read. All blocks are reserved before the first request; afterwards requests are admitted by
//! blocks, so load can never exhaust memory.

mod available;
mod measured;

pub use available::available_memory;
pub(crate) use measured::Measured;

use sconce_models::Footprint;
use sconce_nn::{BLOCK, KvCache, KvShape};

use crate::error::EngineError;

/// Intermediate numbers of one thread of the CPU kernels: a panel of widened weights, scores of
/// some queries, with room to spare.
const SCRATCH_PER_THREAD: u64 = 1 << 20;

/// The program itself, its tokenizer and buffers of requests. Not measured per model: the largest
/// vocabularies take about this much.
const PROGRAM: u64 = 64 << 20;

/// What a process takes of a GPU's memory for its context and kernels. An estimate for planning, on the large side of
/// what is usually seen (0.3 to 0.6 GiB).
pub(crate) const CUDA_CONTEXT: u64 = 600 << 20;

/// What communication takes on each rank of several: buffers of channels to its peers. An estimate like that of the
/// context.
const NCCL: u64 = 400 << 20;

/// Scratch of the matrix library: 32 MiB is what cuBLAS recommends for Hopper, less for others.
const CUBLAS: u64 = 32 << 20;

/// Scratch of attention: what is not yet joined of the tokens that are computed at a time.
const ATTENTION: u64 = 64 << 20;

/// Recorded steps and the memory that they compute in. An estimate: some hundred kernels for each of some tens of shapes.
const REPLAYS: u64 = 256 << 20;

/// Of the memory that a machine has left, the cache takes one part in so many unless
/// `option.kv_cache_memory` says more: others live there too.
const CACHE_PART_OF_MACHINE: u64 = 4;

/// A model is not served with a shorter context than this, in tokens, unless that is asked for.
const LEAST_LEN: usize = 256;

/// Where a model computes, as far as memory goes; all of one rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes that it may take; `None`: the system does not tell.
    pub bytes: Option<u64>,
    /// Bytes that are taken whatever the model.
    pub overhead: u64,
    /// Bytes of scratch for kernels.
    pub scratch: u64,
    /// Bytes that the cache takes at most where no option says more.
    pub most_cache: Option<u64>,
    /// How keys and values are kept.
    pub keys: Keys,
    /// Whether kernels pack the inputs of products, as those of the CPU do.
    pub packs_inputs: bool,
}

/// How keys and values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// As the CPU kernels of this build have them: values padded to whole vectors.
    Cpu,
    /// Without padding, each number in so many bytes.
    Plain(u64),
}

/// What a small model takes that guesses what comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DraftNeeds {
    /// All but its cache, in bytes.
    pub bytes: u64,
    /// Its cache, which has as many blocks as the model's.
    pub kv: KvShape,
}

/// What the plan is made from; all of one rank, unless it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Its weights.
    pub weights: Footprint,
    /// Activations of the largest step, in bytes.
    pub activations: u64,
    /// The widest input of its products, packed, in bytes.
    pub packed_inputs: u64,
    /// Tables of positions, in bytes.
    pub rotations: u64,
    /// Adapters, as many as may be in memory, in bytes.
    pub adapters: u64,
    /// The small model that guesses what comes next.
    pub draft: Option<DraftNeeds>,
    /// Its part of the cache.
    pub kv: KvShape,
    /// Ranks of the model.
    pub ranks: usize,
    /// Longest sequence in tokens.
    pub max_len: usize,
    /// Whether it may be less, down to `LEAST_LEN`, where the cache holds no more: nobody has
    /// asked for so many.
    pub may_shorten: bool,
    /// Sequences computed at the same time.
    pub max_rows: usize,
    /// `option.kv_cache_memory`, of all ranks; `None`: chosen from the memory at hand.
    pub wanted_cache: Option<u64>,
}

/// What a rank's memory is used for, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Weights.
    pub weights: u64,
    /// Adapters, as many as may be in memory.
    pub adapters: u64,
    /// The small model that guesses what comes next, but for its part of the cache.
    pub draft: u64,
    /// Activations of the largest step.
    pub activations: u64,
    /// Scratch of kernels and tables of positions.
    pub workspace: u64,
    /// What is taken whatever the model.
    pub overhead: u64,
    /// Keys and values of one token.
    pub per_token: u64,
    /// Longest sequence in tokens.
    pub max_len: usize,
    /// Blocks of the cache.
    pub blocks: usize,
    /// All blocks.
    pub cache: u64,
    /// What there is.
    pub room: Option<u64>,
}

impl Room {
    /// The share of one of `ranks` ranks of this machine's memory, for kernels on `threads` threads.
    pub fn of_this_machine(ranks: usize, threads: usize) -> Self {
        let ranks = ranks.max(1) as u64;
        let bytes = available::available_memory().map(|bytes| bytes / ranks);
        Self {
            bytes,
            overhead: PROGRAM / ranks,
            scratch: SCRATCH_PER_THREAD * threads as u64 / ranks,
            most_cache: bytes.map(|bytes| bytes / CACHE_PART_OF_MACHINE),
            keys: Keys::Cpu,
            packs_inputs: true,
        }
    }

    /// The share of one of `ranks` ranks that each may take so many bytes of a GPU; `number`: bytes of a key's or
    /// value's number.
    pub fn of_gpu(bytes: u64, ranks: usize, number: u64) -> Self {
        Self {
            bytes: Some(bytes),
            overhead: CUDA_CONTEXT + if ranks > 1 { NCCL } else { 0 },
            scratch: CUBLAS + ATTENTION + REPLAYS,
            most_cache: None,
            keys: Keys::Plain(number),
            packs_inputs: false,
        }
    }

    /// What weights and the given bytes beside them leave to one of `ranks` ranks; fails when there is no room for them.
    pub fn beside(
        &self,
        ranks: usize,
        weights: u64,
        beside: u64,
    ) -> Result<Option<u64>, EngineError> {
        let rest = beside + self.scratch + self.overhead;
        match self.bytes {
            Some(room) if room < weights + rest => Err(EngineError::TooLarge {
                ranks,
                weights,
                rest,
                room,
            }),
            bytes => Ok(bytes.map(|bytes| bytes - weights - rest)),
        }
    }
}

impl Room {
    /// The same, but not more than so many bytes of all `ranks` ranks together.
    #[must_use]
    pub fn at_most(mut self, bytes: Option<u64>, ranks: usize) -> Self {
        let Some(most) = bytes.map(|bytes| bytes / ranks.max(1) as u64) else {
            return self;
        };
        self.bytes = Some(self.bytes.map_or(most, |bytes| bytes.min(most)));
        let part = most / CACHE_PART_OF_MACHINE;
        self.most_cache = Some(self.most_cache.map_or(part, |bytes| bytes.min(part)));
        self
    }
}

impl Keys {
    /// Bytes of one block in all layers of a rank.
    fn bytes_per_block(self, shape: &KvShape) -> u64 {
        match self {
            Self::Cpu => KvCache::bytes_per_block(shape) as u64,
            Self::Plain(bytes) => {
                (shape.layers * shape.kv_heads * shape.head_dim * 2 * BLOCK) as u64 * bytes
            }
        }
    }
}

impl Plan {
    /// Reserves what the option says for the cache, else what `max_rows` sequences of full length
    /// need, as far as there is room; fails when there is none for the rest, or not for one
    /// sequence. One that may be shorter is as long as the cache.
    pub fn new(needs: &Needs, room: &Room) -> Result<Self, EngineError> {
        let of_draft = |draft: DraftNeeds| room.keys.bytes_per_block(&draft.kv);
        let block = room.keys.bytes_per_block(&needs.kv) + needs.draft.map_or(0, of_draft);
        let block = block.max(1);
        let draft = needs.draft.map_or(0, |draft| draft.bytes);
        let workspace = room.scratch + needs.rotations;
        let packed = if room.packs_inputs {
            needs.packed_inputs
        } else {
            0
        };
        let activations = needs.activations + packed;
        let beside = activations + needs.rotations + needs.adapters + draft;
        let left = room.beside(needs.ranks, needs.weights.weights, beside)?;
        let ranks = needs.ranks as u64;
        let one = needs.max_len.div_ceil(BLOCK) as u64 * block;
        let budget = match (needs.wanted_cache.map(|bytes| bytes / ranks), left) {
            (Some(wanted), Some(left)) if wanted > left => {
                return Err(EngineError::CacheTooLarge {
                    wanted: wanted * ranks,
                    left: left * ranks,
                });
            }
            (Some(wanted), _) => wanted,
            (None, Some(left)) => (needs.max_rows as u64 * one)
                .min(room.most_cache.unwrap_or(left))
                .min(left),
            (None, None) => one,
        };
        let blocks = (budget / block) as usize;
        let max_len = if needs.may_shorten && blocks * BLOCK >= LEAST_LEN {
            needs.max_len.min(blocks * BLOCK)
        } else {
            needs.max_len
        };
        if blocks < max_len.div_ceil(BLOCK) {
            return Err(EngineError::Memory {
                budget: budget * ranks,
                holds: blocks * BLOCK,
                max_len: needs.max_len,
                per_token: block * ranks / BLOCK as u64,
                is_wanted: needs.wanted_cache.is_some(),
            });
        }
        Ok(Self {
            weights: needs.weights.weights,
            adapters: needs.adapters,
            draft,
            activations,
            workspace,
            overhead: room.overhead,
            per_token: block / BLOCK as u64,
            max_len,
            blocks,
            cache: blocks as u64 * block,
            room: room.bytes,
        })
    }

    /// Why sequences are shorter than the model's context, if they are: a sentence with the cure.
    pub fn shortened(&self, needs: &Needs) -> Option<String> {
        if self.max_len >= needs.max_len {
            return None;
        }
        let (holds, context) = (self.max_len, needs.max_len);
        let length = "option.max_model_len to be refused where it does not fit";
        Some(match needs.wanted_cache {
            Some(wanted) => format!(
                "sequences are at most {holds} tokens long, not the {context} of the model's \
                 context: option.kv_cache_memory = {wanted} holds no more; raise it to {} bytes, \
                 or set {length}",
                bytes_for(context, self.per_token * needs.ranks as u64)
            ),
            None => format!(
                "sequences are at most {holds} tokens long, not the {context} of the model's \
                 context: the memory at hand holds no more; choose a larger machine, or more for \
                 option.kv_cache_memory, or set {length}"
            ),
        })
    }

    /// Tokens whose keys and values the cache holds.
    pub fn tokens(&self) -> usize {
        self.blocks * BLOCK
    }

    /// All that the rank takes.
    pub fn total(&self) -> u64 {
        self.weights
            + self.adapters
            + self.draft
            + self.activations
            + self.workspace
            + self.overhead
            + self.cache
    }
}

/// Bytes of the blocks for so many tokens.
pub(crate) fn bytes_for(tokens: usize, per_token: u64) -> u64 {
    tokens.next_multiple_of(BLOCK) as u64 * per_token
}

#[cfg(test)]
mod tests {
    use super::*;
    use sconce_nn::KvDtype;

    /// A block of 32 tokens takes 2 * 32 * 2 = 128 bytes.
    const NEEDS: Needs = Needs {
        weights: Footprint {
            weights: 1000,
            owned: 0,
            tables: 0,
            experts: 0,
        },
        activations: 200,
        packed_inputs: 60,
        rotations: 30,
        adapters: 0,
        draft: None,
        kv: KvShape {
            layers: 1,
            kv_heads: 1,
            head_dim: 1,
            dtype: KvDtype::F32,
        },
        ranks: 1,
        max_len: 64,
        may_shorten: false,
        max_rows: 4,
        wanted_cache: None,
    };
    const ROOM: Room = Room {
        bytes: Some(1 << 40),
        overhead: 5,
        scratch: 15,
        most_cache: None,
        keys: Keys::Plain(2),
        packs_inputs: false,
    };

    fn room(bytes: u64) -> Room {
        Room {
            bytes: Some(bytes),
            ..ROOM
        }
    }

    #[test]
    fn plenty_of_memory_reserves_what_all_rows_can_use_and_no_more() {
        let plan = Plan::new(&NEEDS, &ROOM).unwrap();
        assert_eq!((plan.blocks, plan.tokens(), plan.cache), (8, 256, 1024));
        assert_eq!((plan.per_token, plan.workspace), (4, 45));
        assert_eq!(plan.total(), 1000 + 200 + 45 + 5 + 1024);
    }

    #[test]
    fn adapters_have_their_place_before_the_cache() {
        let adapted = Needs {
            adapters: 100,
            ..NEEDS
        };
        let (with, without) = (
            Plan::new(&adapted, &room(1000 + 230 + 20 + 600)),
            Plan::new(&NEEDS, &room(1850)),
        );
        let (with, without) = (with.unwrap(), without.unwrap());
        assert_eq!((with.adapters, with.cache, without.cache), (100, 384, 512));
        assert!(with.total() <= 1850);
    }

    #[test]
    fn a_small_model_has_a_cache_of_as_many_blocks() {
        let drafted = Needs {
            draft: Some(DraftNeeds {
                bytes: 100,
                kv: NEEDS.kv,
            }),
            ..NEEDS
        };
        let plan = Plan::new(&drafted, &room(1000 + 230 + 20 + 100 + 600)).unwrap();
        assert_eq!((plan.draft, plan.blocks, plan.cache), (100, 2, 512));
        assert!(plan.total() <= 1950);
    }

    #[test]
    fn what_was_promised_to_others_is_not_there() {
        let whole = Room {
            most_cache: Some(1 << 38),
            ..ROOM
        };
        assert_eq!(whole.at_most(None, 1), whole);
        let left = whole.at_most(Some(4000), 2);
        assert_eq!((left.bytes, left.most_cache), (Some(2000), Some(500)));
        let more = left.at_most(Some(1 << 50), 1);
        assert_eq!((more.bytes, more.most_cache), (Some(2000), Some(500)));
    }

    #[test]
    fn packed_inputs_count_where_kernels_pack_them() {
        let packs = Room {
            packs_inputs: true,
            ..ROOM
        };
        let activations = |room| Plan::new(&NEEDS, &room).unwrap().activations;
        assert_eq!((activations(ROOM), activations(packs)), (200, 260));
    }

    #[test]
    fn scarce_memory_reserves_what_is_left_or_the_part_for_the_cache() {
        assert_eq!(Plan::new(&NEEDS, &room(1250 + 700)).unwrap().blocks, 5);
        let part = Room {
            most_cache: Some(300),
            ..ROOM
        };
        assert_eq!(Plan::new(&NEEDS, &part).unwrap().blocks, 2);
    }

    #[test]
    fn weights_without_room_are_refused_with_all_numbers() {
        let text = Plan::new(&NEEDS, &room(1249)).unwrap_err().to_string();
        for part in ["1000 bytes", "250", "1249"] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
        let wanted = Needs {
            wanted_cache: Some(800),
            ..NEEDS
        };
        let text = Plan::new(&wanted, &room(1950)).unwrap_err().to_string();
        assert!(text.contains("option.kv_cache_memory = 800"), "{text}");
        assert!(text.contains("at most 700"), "{text}");
        assert_eq!(Plan::new(&wanted, &room(2050)).unwrap().blocks, 6);
    }

    #[test]
    fn one_full_sequence_must_fit_and_the_message_names_the_cure() {
        let little = Needs {
            wanted_cache: Some(150),
            ..NEEDS
        };
        let text = Plan::new(&little, &ROOM).unwrap_err().to_string();
        for part in ["150", "at most 32", "64", "option.kv_cache_memory", "256"] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
    }

    #[test]
    fn a_length_that_nobody_asked_for_is_what_the_cache_holds_but_not_too_little() {
        let long = Needs {
            max_len: 1000,
            max_rows: 1,
            may_shorten: true,
            ..NEEDS
        };
        let len = |cache: u64| Plan::new(&long, &room(1250 + cache)).map(|plan| plan.max_len);
        // 1000 tokens take 32 blocks of 128 bytes.
        assert_eq!(len(1 << 20).unwrap(), 1000);
        assert_eq!(len(32 * 128).unwrap(), 1000);
        assert_eq!(len(31 * 128).unwrap(), 992);
        assert_eq!(len(8 * 128).unwrap(), LEAST_LEN);
        let text = len(8 * 128 - 1).unwrap_err().to_string();
        assert!(
            text.contains("at most 224") && text.contains("1000"),
            "{text}"
        );
        let asked = Needs {
            may_shorten: false,
            ..long
        };
        assert!(Plan::new(&asked, &room(1250 + 31 * 128)).is_err());
    }

    #[test]
    fn a_cache_that_is_asked_for_and_too_small_is_named_with_what_it_should_be() {
        let needs = Needs {
            max_len: 1000,
            may_shorten: true,
            ranks: 2,
            wanted_cache: Some(2 * 31 * 128),
            ..NEEDS
        };
        let plan = Plan::new(&needs, &ROOM).unwrap();
        let text = plan.shortened(&needs).unwrap();
        for part in ["992", "1000", "option.kv_cache_memory = 7936", "8192 bytes"] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
        let enough = Needs {
            wanted_cache: Some(8192),
            ..needs
        };
        assert_eq!(Plan::new(&enough, &ROOM).unwrap().shortened(&enough), None);
        let chosen = Needs {
            wanted_cache: None,
            ..needs
        };
        let plan = Plan::new(&chosen, &room(1250 + 31 * 128)).unwrap();
        let text = plan.shortened(&chosen).unwrap();
        assert!(text.contains("the memory at hand holds no more"), "{text}");
        let nothing = Needs {
            wanted_cache: Some(2 * 7 * 128),
            ..needs
        };
        let text = Plan::new(&nothing, &ROOM).unwrap_err().to_string();
        for part in ["1792 bytes", "224 tokens", "1000", "option.kv_cache_memory"] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
    }

    #[test]
    fn the_option_is_the_cache_of_all_ranks() {
        let shared = Needs {
            ranks: 2,
            wanted_cache: Some(1024),
            ..NEEDS
        };
        assert_eq!(Plan::new(&shared, &ROOM).unwrap().blocks, 4);
    }
}
