//! Steps in which each sequence gets one token, recorded as graphs and launched as a whole: launching some hundred kernels
//! one by one takes longer than they compute.
//!
//! What differs from step to step is numbers in memory at fixed addresses, uploaded before a launch. A graph is of so many
//! tokens and of sequences up to some length; a smaller step is filled up with tokens that nobody asked for, whose keys and
//! values go to a block of their own. A shape is computed once launch by launch, which tries it and finds the memory that
//! it needs, then recorded; recording computes nothing. Every kernel is told what it is told without a graph, so a token
//! gets the same bits, unless cuBLAS sums otherwise for another number of rows.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaGraph, sys};
use candle_core::{Device, Result, Tensor};

use super::arena::Arena;
use super::attend::SPLIT;
use super::gpu::Gpu;
use super::step::OnGpu;
use crate::cache::KvCache;
use crate::rope::Rope;
use crate::step::{BLOCK, Placed, Step, StepRow};

/// Steps of more tokens are launched kernel by kernel: then these take longer than their launches.
const MOST_TOKENS: usize = 256;

/// What a graph is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Shape {
    tokens: usize,
    /// Parts of `SPLIT` tokens that the longest sequence has at most.
    splits: usize,
    /// Where the cache is.
    cache: u64,
}

/// A shape that was computed once.
struct Recorded {
    inputs: OnGpu,
    graph: Option<Graph>,
}

struct Graph {
    graph: CudaGraph,
    logits: Tensor,
}

// SAFETY: a graph is used by one thread at a time, that of the rank that has it.
unsafe impl Send for Graph {}

/// The graphs of one rank.
pub(crate) struct Replays {
    device: Device,
    arena: Arc<Arena>,
    recorded: HashMap<Shape, Recorded>,
    padded: Step,
    /// What cuBLAS works in.
    scratch: Option<Tensor>,
    /// Why nothing is recorded any more.
    problem: Option<String>,
}

/// What computes logits.
pub(super) type Compute<'a> = dyn FnMut(&Placed, &mut KvCache) -> Result<Tensor> + 'a;

impl Replays {
    pub(crate) fn new(device: &Device) -> Self {
        Self {
            device: device.clone(),
            arena: Arena::new(),
            recorded: HashMap::new(),
            padded: Step::default(),
            scratch: None,
            problem: None,
        }
    }

    /// Graphs that there are.
    pub(crate) fn count(&self) -> usize {
        let all = self.recorded.values();
        all.filter(|recorded| recorded.graph.is_some()).count()
    }

    pub(crate) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// What `compute` gives for a step, `[sampled, vocab]`, perhaps without calling it.
    pub(crate) fn run(
        &mut self,
        step: &Step,
        ropes: &[Rope],
        kv: &mut KvCache,
        compute: &mut Compute,
    ) -> Result<Tensor> {
        let (Some(shape), None) = (Shape::of(step, kv), &self.problem) else {
            return compute(&Placed::new(step, ropes), kv);
        };
        // Graphs of a cache that is gone are of no use.
        self.recorded.retain(|of, _| of.cache == shape.cache);
        shape.pad(step, kv, &mut self.padded);
        let logits = match self.recorded.get_mut(&shape) {
            None => self.begin(shape, ropes, kv, compute)?,
            Some(recorded) => {
                recorded.inputs.refill(&self.padded, ropes)?;
                match &recorded.graph {
                    Some(Graph { graph, logits }) => {
                        graph.launch().w()?;
                        logits.clone()
                    }
                    None => match self.record(shape, ropes, kv, compute) {
                        Ok(logits) => logits,
                        Err(error) => {
                            self.problem = Some(error.to_string());
                            self.recorded.clear();
                            return compute(&Placed::new(step, ropes), kv);
                        }
                    },
                }
            }
        };
        logits.narrow(0, 0, step.ids.len())
    }

    /// Computes a shape for the first time.
    fn begin(
        &mut self,
        shape: Shape,
        ropes: &[Rope],
        kv: &mut KvCache,
        compute: &mut Compute,
    ) -> Result<Tensor> {
        let length = shape.splits * SPLIT;
        if self.scratch.is_none() {
            self.scratch = Some(Gpu::of_device(self.device.as_cuda_device()?)?.give_scratch()?);
        }
        let inputs = OnGpu::within(&self.padded, ropes, &self.device, length)?;
        let _in_use = self.arena.begin(self.device.as_cuda_device()?, false);
        let logits = compute(&Placed::on(&self.padded, ropes, &inputs), kv)?;
        let graph = None;
        self.recorded.insert(shape, Recorded { inputs, graph });
        Ok(logits)
    }

    /// Records a shape, and launches it.
    fn record(
        &mut self,
        shape: Shape,
        ropes: &[Rope],
        kv: &mut KvCache,
        compute: &mut Compute,
    ) -> Result<Tensor> {
        use sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        let Some(Recorded { inputs, graph }) = self.recorded.get_mut(&shape) else {
            candle_core::bail!("a step is recorded that was not tried");
        };
        let device = self.device.as_cuda_device()?;
        let stream = device.cuda_stream();
        let _in_use = self.arena.begin(device, true);
        // Of this thread only: other ranks and models go on.
        stream
            .begin_capture(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)
            .w()?;
        let computed = compute(&Placed::on(&self.padded, ropes, inputs), kv);
        let captured = stream.end_capture(sys::CUgraphInstantiate_flags(0));
        let logits = computed?;
        let Some(captured) = captured.w()? else {
            candle_core::bail!("nothing was recorded");
        };
        captured.launch().w()?;
        *graph = Some(Graph {
            graph: captured,
            logits: logits.clone(),
        });
        Ok(logits)
    }
}

impl Shape {
    /// That of a step in which each sequence gets one token, of which the logits are wanted.
    fn of(step: &Step, kv: &KvCache) -> Option<Self> {
        let count = step.ids.len();
        let one_each = step.rows.len() == count && step.rows.iter().all(|row| row.q_len == 1);
        let all = step.sampled.len() == count && step.sampled.iter().copied().eq(0..count as u32);
        if count == 0 || count > MOST_TOKENS || !one_each || !all {
            return None;
        }
        let longest = step.rows.iter().map(|row| row.k_len).max()?;
        Some(Self {
            tokens: filled_up(count),
            // Few graphs for all lengths; blocks of a grid that have nothing to do end at once.
            splits: longest.div_ceil(SPLIT).next_power_of_two(),
            cache: kv.address()?,
        })
    }

    /// The step with as many tokens as the shape has; the vectors of an older one are used again.
    fn pad(self, step: &Step, kv: &KvCache, padded: &mut Step) {
        let (count, spare) = (step.ids.len(), kv.blocks() as u32);
        let fill = |to: &mut Vec<u32>, from: &[u32], with: u32| {
            to.clear();
            to.extend_from_slice(from);
            to.resize(self.tokens, with);
        };
        fill(&mut padded.ids, &step.ids, 0);
        fill(&mut padded.positions, &step.positions, 0);
        fill(&mut padded.slots, &step.slots, spare * BLOCK as u32);
        padded.sampled.clear();
        padded.sampled.extend(0..self.tokens as u32);
        padded.rows.resize_with(self.tokens, StepRow::default);
        for (index, row) in padded.rows.iter_mut().enumerate() {
            let alone = [spare];
            let (k_len, known, blocks) = match step.rows.get(index) {
                Some(row) => (row.k_len, row.known, &row.blocks[..]),
                None => (1, 1, &alone[..]),
            };
            row.q_start = index;
            row.q_len = 1;
            row.k_len = k_len;
            row.known = known;
            row.blocks.clear();
            row.blocks.extend_from_slice(blocks);
        }
        debug_assert!(count <= self.tokens);
    }
}

/// The number of tokens that steps of so many are filled up to.
fn filled_up(count: usize) -> usize {
    match count {
        0..=8 => count.next_power_of_two(),
        9..=64 => count.next_multiple_of(8),
        _ => count.next_multiple_of(32),
    }
}
