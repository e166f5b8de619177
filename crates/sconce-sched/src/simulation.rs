//! The scheduler around a fake model that remembers, for each slot of its cache, what was
//! written there: the token, its position and a digest of everything before it. The next token
//! is a function of that digest, read through the planned blocks. Wrong sharing, a lost or
//! doubled token, or a block handed out too early changes an answer.

mod operations;

use std::collections::{BTreeMap, HashSet};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::plan::{BLOCK, BlockId, Picked, Row, StepPlan, Want};
use crate::scheduler::{Limits, Scheduler};
use crate::sequence::{SeqId, Sequence};
use operations::{Operation, limits, operation};

/// Large, so that most sequences generate long enough to outgrow a tiny cache together.
const VOCABULARY: u64 = 200;
/// Ends a sequence.
const END: u32 = 0;
/// Tokens of prompts beside those that generate, where an operation does not say.
const PACE: usize = 16;

/// What the keys and values of one position depend on.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Slot {
    token: u32,
    position: usize,
    digest: u64,
}

/// The next state and output of a SplitMix64 generator, disturbed by the token.
fn mix(digest: u64, token: u32) -> u64 {
    let mut mixed = (digest ^ u64::from(token)).wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

fn next_token(digest: u64) -> u32 {
    (digest % VOCABULARY) as u32
}

/// The digest before the first token, which differs beyond the border and from adapter to adapter.
fn seed(known: usize, border: Option<usize>, adapter: u64) -> u64 {
    1 + u64::from(border.is_some_and(|border| known > border)) + 2 * adapter
}

/// What a sequence generates when it runs alone.
fn alone(sequence: &Sequence, border: Option<usize>) -> Vec<u32> {
    let Sequence {
        prompt,
        max_new_tokens,
        adapter,
        ..
    } = sequence;
    let mut known = prompt.to_vec();
    while known.len() < prompt.len() + *max_new_tokens {
        let first = seed(known.len(), border, *adapter);
        let token = next_token(known.iter().copied().fold(first, mix));
        known.push(token);
        if token == END {
            break;
        }
    }
    known.split_off(prompt.len())
}

/// How texts that end in these digests go on: for each the one before that it continues, and with which token; nothing
/// where they end.
fn parted(digests: &[u64], beams: usize) -> Vec<(usize, u32)> {
    if digests[0].is_multiple_of(70) {
        return Vec::new();
    }
    let parent = |beam: usize| mix(digests[0], beam as u32) as usize % digests.len();
    let text = |beam: usize| {
        let parent = parent(beam);
        // No two texts are alike.
        let token = next_token(digests[parent]) * beams as u32 + beam as u32;
        (parent, token)
    };
    (0..beams).map(text).collect()
}

/// What the texts of a sequence are when it runs alone.
fn alone_together(sequence: &Sequence, border: Option<usize>) -> Vec<Vec<u32>> {
    let prompt = sequence.prompt.len();
    let mut texts = vec![sequence.prompt.clone()];
    while texts[0].len() < prompt + sequence.max_new_tokens {
        let first = seed(texts[0].len(), border, sequence.adapter);
        let digests: Vec<u64> = texts
            .iter()
            .map(|text| text.iter().copied().fold(first, mix))
            .collect();
        let next = parted(&digests, sequence.beams);
        if next.is_empty() {
            break;
        }
        let text = |(parent, token): (usize, u32)| [texts[parent].as_slice(), &[token]].concat();
        texts = next.into_iter().map(text).collect();
    }
    texts.iter().map(|text| text[prompt..].to_vec()).collect()
}

/// A sequence as its client sees it.
struct Client {
    sequence: Sequence,
    /// One, until it parts.
    texts: Vec<Vec<u32>>,
    scored: usize,
    over: bool,
}

impl Client {
    fn known(&self, beam: Option<usize>) -> Vec<u32> {
        let generated = &self.texts[beam.unwrap_or(0)];
        [self.sequence.prompt.as_slice(), generated].concat()
    }
}

struct Simulation {
    limits: Limits,
    scheduler: Scheduler,
    cache: Vec<Option<Slot>>,
    clients: BTreeMap<SeqId, Client>,
    /// Steps that may still be taken: the oldest sequence computes a token in each.
    patience: usize,
    history: Vec<StepPlan>,
}

impl Simulation {
    fn new(limits: Limits, hash_bits: u64) -> Self {
        Self {
            limits,
            scheduler: Scheduler::with_hash_bits(limits, hash_bits),
            cache: vec![None; limits.blocks * BLOCK],
            clients: BTreeMap::new(),
            patience: 0,
            history: Vec::new(),
        }
    }

    fn add(&mut self, sequence: Sequence) {
        let (prompt, new) = (sequence.prompt.len(), sequence.max_new_tokens);
        let beams = sequence.beams;
        let fits = prompt + new <= self.limits.max_len
            && beams <= self.limits.max_rows.clamp(1, self.limits.max_step_tokens)
            && beams * (prompt + new - 1).div_ceil(BLOCK) <= self.limits.blocks;
        let taken = self.scheduler.add(sequence.clone());
        assert_eq!(taken.is_ok(), fits, "{taken:?}");
        if fits {
            // Beyond the border all is computed once more.
            self.patience += 2 * (prompt + new) * beams;
            let client = Client {
                sequence,
                texts: vec![Vec::new()],
                scored: 0,
                over: false,
            };
            self.clients.insert(client.sequence.id, client);
        }
        self.scheduler.audit().unwrap();
    }

    /// Cancels one of the sequences that are not over.
    fn cancel(&mut self, choice: usize) {
        let alive: Vec<_> = self
            .clients
            .values()
            .filter(|client| !client.over)
            .collect();
        if alive.is_empty() {
            return;
        }
        let id = alive[choice % alive.len()].sequence.id;
        assert!(self.scheduler.cancel(id));
        assert!(!self.scheduler.cancel(id));
        self.clients.remove(&id);
        self.scheduler.audit().unwrap();
    }

    /// One step with so many tokens of prompts beside those that generate; between plan and
    /// commit some sequences are cancelled.
    fn step(&mut self, prompts: usize, cancelled_meanwhile: &[usize]) {
        let idle = self.scheduler.is_idle();
        // What is left of an older plan must not show.
        let mut plan = self.history.last().cloned().unwrap_or_default();
        self.guess();
        self.scheduler.plan(prompts, &mut plan);
        self.scheduler.audit().unwrap();
        assert_eq!(plan.rows.is_empty(), idle);
        if idle {
            return;
        }
        self.patience = self
            .patience
            .checked_sub(1)
            .expect("somebody waits forever");
        self.check_shape(&plan);
        self.check_delay(&plan, prompts);
        self.write(&plan);
        let picked: Vec<_> = plan
            .rows
            .iter()
            .flat_map(|row| self.compute(row, &plan))
            .collect();
        for &choice in cancelled_meanwhile {
            self.cancel(choice);
        }
        self.scheduler.commit(&plan, &picked);
        self.scheduler.audit().unwrap();
        for picked in picked.chunk_by(|one, other| one.seq == other.seq) {
            self.deliver(picked);
        }
        self.history.push(plan);
    }

    /// Proposes what really comes to every other sequence, up to a point, and something else behind it.
    fn guess(&mut self) {
        for (id, client) in &self.clients {
            let generated = &client.texts[0];
            let steps = generated.len() + id.0 as usize;
            if client.over || generated.is_empty() || steps.is_multiple_of(3) {
                continue;
            }
            if client.sequence.beams > 1 {
                // Nothing is guessed of those.
                self.scheduler.propose(*id, &[1, 2]);
                continue;
            }
            let all = alone(&client.sequence, self.limits.border);
            let mut guess = all[generated.len()..].to_vec();
            guess.truncate(steps % 7);
            guess.push(1);
            guess.extend(all.iter().take(steps % 5));
            self.scheduler.propose(*id, &guess);
        }
    }

    fn finish(&mut self) {
        while !self.scheduler.is_idle() {
            self.step(PACE, &[]);
        }
        assert_eq!(self.scheduler.load().used_blocks, 0);
        for client in self.clients.values() {
            let Sequence {
                prompt, all_logits, ..
            } = &client.sequence;
            assert!(client.over);
            let wanted = match client.sequence.beams {
                1 => vec![alone(&client.sequence, self.limits.border)],
                _ => alone_together(&client.sequence, self.limits.border),
            };
            assert_eq!(client.texts, wanted);
            assert_eq!(client.scored, if *all_logits { prompt.len() } else { 0 });
        }
    }

    /// Budgets hold, and nobody writes to a block that another row reads.
    fn check_shape(&self, plan: &StepPlan) {
        let tokens: usize = plan.rows.iter().map(|row| row.tokens.len()).sum();
        assert!(tokens <= self.limits.max_step_tokens);
        assert!(plan.rows.len() <= self.limits.max_rows);
        let written = |row: &Row| row.blocks[row.start / BLOCK..].to_vec();
        let mut seen = HashSet::new();
        for row in &plan.rows {
            assert!(!row.tokens.is_empty());
            assert_eq!(
                row.blocks.len(),
                (row.start + row.tokens.len()).div_ceil(BLOCK)
            );
            let distinct: HashSet<BlockId> = row.blocks.iter().copied().collect();
            assert_eq!(distinct.len(), row.blocks.len());
            assert!(written(row).into_iter().all(|block| seen.insert(block)));
        }
        for row in &plan.rows {
            let read = &row.blocks[..row.start / BLOCK];
            assert!(!read.iter().any(|block| seen.contains(block)));
        }
    }

    /// Who generates waits for no more tokens of prompts than were allowed, and prompts get all
    /// that is allowed and of use.
    fn check_delay(&self, plan: &StepPlan, prompts: usize) {
        let generates = |row: &&Row| row.known - row.proposed - row.start == 1;
        let is_prompt = |row: &&Row| !generates(row);
        if !plan.rows.first().is_some_and(|oldest| generates(&oldest)) {
            return;
        }
        let tokens = |row: &Row| row.tokens.len();
        let computed: usize = plan.rows.iter().filter(is_prompt).map(tokens).sum();
        assert!(
            plan.rows
                .iter()
                .all(|row| generates(&row) || row.proposed == 0)
        );
        assert!(computed <= prompts.max(1), "{computed} of {prompts}");
        let all: usize = plan.rows.iter().map(tokens).sum();
        let room = prompts.min(self.limits.max_step_tokens - (all - computed));
        // Texts that come again compute all but the last token, and that together.
        let held = |row: &Row| usize::from(row.beam.is_some() && row.want == Want::None);
        let is_cut = |row: &Row| row.start + row.tokens.len() < row.known - held(row);
        // Only a budget that is used up cuts a prompt.
        assert!(!plan.rows.iter().any(is_cut) || computed == room.max(1));
    }

    /// Writes all rows to the cache. Digests follow positions, so rows go from front to back.
    fn write(&mut self, plan: &StepPlan) {
        for (from, to) in &plan.copies {
            let from = from.index() * BLOCK;
            self.cache
                .copy_within(from..from + BLOCK, to.index() * BLOCK);
        }
        for row in &plan.rows {
            for (position, &token) in (row.start..).zip(&row.tokens) {
                let before = match position {
                    0 => {
                        let adapter = self.clients[&row.seq].sequence.adapter;
                        seed(row.known, self.limits.border, adapter)
                    }
                    _ => self.slot(row, position - 1).digest,
                };
                let slot = Slot {
                    token,
                    position,
                    digest: mix(before, token),
                };
                self.cache[place(row, position)] = Some(slot);
            }
        }
    }

    /// Checks the whole prefix of a row in the cache and picks the next token at its end.
    fn compute(&mut self, row: &Row, plan: &StepPlan) -> Vec<Picked> {
        let mut known = self.clients[&row.seq].known(row.beam);
        known.extend(&row.tokens[row.tokens.len() - row.proposed..]);
        let end = row.start + row.tokens.len();
        assert_eq!(row.known, known.len());
        let adapter = self.clients[&row.seq].sequence.adapter;
        let mut digest = seed(known.len(), self.limits.border, adapter);
        for (position, &token) in known[..end].iter().enumerate() {
            digest = mix(digest, token);
            let right = Slot {
                token,
                position,
                digest,
            };
            assert_eq!(self.slot(row, position), right, "{:?}", row.seq);
        }
        self.check_want(row, end, known.len());
        if end < known.len() {
            return Vec::new();
        }
        if self.clients[&row.seq].sequence.beams > 1 {
            return match row.beam.unwrap_or(0) {
                0 => self.part(row.seq, plan),
                _ => Vec::new(),
            };
        }
        // One behind each proposed token, as long as these are right.
        let mut picked = Vec::new();
        for position in end - 1 - row.proposed..end {
            let token = next_token(self.slot(row, position).digest);
            let ends = token == END;
            picked.push(Picked::new(row.seq, token, ends));
            let client = &self.clients[&row.seq];
            let count = client.texts[0].len() + picked.len();
            let full = count == client.sequence.max_new_tokens;
            if ends || full || known.get(position + 1) != Some(&token) {
                break;
            }
        }
        picked
    }

    /// Picks how all texts of a sequence go on, which are computed together.
    fn part(&self, seq: SeqId, plan: &StepPlan) -> Vec<Picked> {
        let client = &self.clients[&seq];
        let rows = plan.rows.iter().filter(|row| row.seq == seq);
        let digests: Vec<u64> = rows
            .map(|row| self.slot(row, row.start + row.tokens.len() - 1).digest)
            .collect();
        assert_eq!(digests.len(), client.texts.len(), "all step together");
        let end = Picked::new(seq, END, true);
        let next = parted(&digests, client.sequence.beams);
        let texts = next.into_iter().map(|(parent, token)| Picked {
            parent,
            token,
            ends: false,
            ..end
        });
        let texts: Vec<_> = texts.collect();
        if texts.is_empty() { vec![end] } else { texts }
    }

    /// Logits are wanted for what is not known yet, once.
    fn check_want(&mut self, row: &Row, end: usize, known: usize) {
        let client = self
            .clients
            .get_mut(&row.seq)
            .expect("planned sequences are alive");
        let prompt = client.sequence.prompt.len();
        let owed = client.sequence.all_logits && client.scored < prompt;
        if owed && end > client.scored {
            assert_eq!(row.want, Want::All);
            assert!(row.start <= client.scored, "a prompt token was skipped");
            client.scored = end;
        } else if end == known {
            assert_eq!(row.want, Want::Last);
        } else {
            assert_eq!(row.want, Want::None);
        }
    }

    fn deliver(&mut self, picked: &[Picked]) {
        let Some(client) = self.clients.get_mut(&picked[0].seq) else {
            return;
        };
        let (most, last) = (client.sequence.max_new_tokens, picked[picked.len() - 1]);
        if client.sequence.beams == 1 {
            for picked in picked {
                assert!(!client.over, "a token came after the end");
                client.texts[0].push(picked.token);
                client.over = picked.ends || client.texts[0].len() == most;
            }
            return;
        }
        assert!(!client.over, "texts came after the end");
        if !last.ends {
            let text = |one: &Picked| [&client.texts[one.parent][..], &[one.token]].concat();
            client.texts = picked.iter().map(text).collect();
        }
        client.over = last.ends || client.texts[0].len() == most;
    }

    fn slot(&self, row: &Row, position: usize) -> Slot {
        self.cache[place(row, position)].expect("what is read was written")
    }
}

fn place(row: &Row, position: usize) -> usize {
    row.blocks[position / BLOCK].index() * BLOCK + position % BLOCK
}

fn run(limits: Limits, hash_bits: u64, operations: &[Operation]) -> Vec<StepPlan> {
    let mut simulation = Simulation::new(limits, hash_bits);
    for (id, operation) in (0..).zip(operations) {
        match operation {
            Operation::Add {
                family,
                common,
                own,
                new,
                all_logits,
                beams,
            } => {
                let shared = (0..*common as u32).map(|at| at * (family + 3) % 5);
                let unique = (0..*own).map(|_| id as u32 + 100);
                simulation.add(Sequence {
                    id: SeqId(id),
                    prompt: shared.chain(unique).collect(),
                    max_new_tokens: *new,
                    all_logits: *all_logits,
                    adapter: id % 5 / 3,
                    beams: *beams,
                });
            }
            Operation::Cancel(choice) => simulation.cancel(*choice),
            Operation::Step {
                prompts,
                cancelled_meanwhile,
            } => simulation.step(*prompts, cancelled_meanwhile),
        }
    }
    simulation.finish();
    simulation.history
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn everyone_gets_the_tokens_that_it_gets_alone(
        limits in limits(),
        // Two bits: nearly every block collides with another.
        hash_bits in prop_oneof![2 => Just(u64::MAX), 1 => Just(3_u64)],
        operations in prop::collection::vec(operation(), 20..120),
    ) {
        run(limits, hash_bits, &operations);
    }

    #[test]
    fn the_same_calls_give_the_same_plans(
        limits in limits(),
        operations in prop::collection::vec(operation(), 1..60),
    ) {
        prop_assert_eq!(
            run(limits, u64::MAX, &operations),
            run(limits, u64::MAX, &operations)
        );
    }
}

/// What a history brought about.
#[derive(Debug, Default)]
struct Counts {
    /// Rows that compute again what was computed before: preemptions that cost something.
    again: usize,
    /// Rows that skip tokens somebody else computed.
    reused: usize,
    /// Blocks that were written from their start more than once: evicted or freed between.
    rewritten: usize,
}

fn count(history: &[StepPlan]) -> Counts {
    let (mut counts, mut reached, mut begun) = (Counts::default(), BTreeMap::new(), HashSet::new());
    for row in history.iter().flat_map(|plan| &plan.rows) {
        let end = reached.entry((row.seq, row.beam)).or_insert(0);
        counts.again += usize::from(row.start < *end);
        counts.reused += usize::from(row.start > *end);
        *end = row.start + row.tokens.len();
        let first = row.start.div_ceil(BLOCK);
        for block in row.blocks.iter().skip(first) {
            counts.rewritten += usize::from(!begun.insert(*block));
        }
    }
    counts
}

/// Guards the property tests: their inputs must really bring about what they are to check.
#[test]
fn the_random_cases_preempt_share_and_evict_all_the_time() {
    let mut runner = TestRunner::deterministic();
    let cases = (limits(), prop::collection::vec(operation(), 20..120));
    let (mut preempting, mut sharing, mut rewriting) = (0, 0, 0);
    for _ in 0..100 {
        let case = cases.new_tree(&mut runner).expect("nothing is filtered");
        let (limits, operations) = case.current();
        let counts = count(&run(limits, u64::MAX, &operations));
        preempting += usize::from(counts.again > 0);
        sharing += usize::from(counts.reused > 0);
        rewriting += usize::from(counts.rewritten > 0);
    }
    assert!(
        preempting >= 40 && sharing >= 15 && rewriting >= 60,
        "of 100 cases {preempting} preempt, {sharing} share and {rewriting} use blocks again"
    );
}
