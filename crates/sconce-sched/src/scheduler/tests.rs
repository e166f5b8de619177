//! Small cases of the scheduler.

use super::*;
use crate::plan::Want;

const LIMITS: Limits = Limits {
    max_rows: 8,
    max_step_tokens: 64,
    max_len: 4096,
    blocks: 64,
    prefix_sharing: true,
    border: None,
};

fn scheduler(limits: Limits) -> Scheduler {
    Scheduler::new(limits)
}

/// A prompt of `length` tokens of which none occurs in other sequences.
fn sequence(id: u64, length: usize, max_new_tokens: usize) -> Sequence {
    Sequence {
        id: SeqId(id),
        prompt: (0..length)
            .map(|at| (id as usize * 10_000 + at) as u32)
            .collect(),
        max_new_tokens,
        all_logits: false,
        adapter: 0,
        beams: 1,
    }
}

/// The same prompt as sequence 0 would have.
fn twin(id: u64, length: usize, max_new_tokens: usize) -> Sequence {
    Sequence {
        id: SeqId(id),
        ..sequence(0, length, max_new_tokens)
    }
}

/// The next plan, without a limit for prompts.
fn planned(scheduler: &mut Scheduler) -> StepPlan {
    plan_beside(scheduler, usize::MAX)
}

/// The next plan, with so many tokens of prompts beside those who generate.
fn plan_beside(scheduler: &mut Scheduler, prompts: usize) -> StepPlan {
    let mut plan = StepPlan::default();
    scheduler.plan(prompts, &mut plan);
    plan
}

/// Each row as (sequence, start, tokens, want).
fn rows(plan: &StepPlan) -> Vec<(u64, usize, usize, Want)> {
    let row = |row: &Row| (row.seq.0, row.start, row.tokens.len(), row.want);
    plan.rows.iter().map(row).collect()
}

/// Commits with a token for every row that wants logits; none ends.
fn commit(scheduler: &mut Scheduler, plan: &StepPlan) {
    let picked: Vec<_> = plan
        .rows
        .iter()
        .filter(|row| row.want == Want::Last)
        .map(|row| Picked::new(row.seq, 3, false))
        .collect();
    scheduler.commit(plan, &picked);
    scheduler.audit().unwrap();
}

fn step(scheduler: &mut Scheduler) -> Vec<(u64, usize, usize, Want)> {
    step_beside(scheduler, usize::MAX)
}

fn step_beside(scheduler: &mut Scheduler, prompts: usize) -> Vec<(u64, usize, usize, Want)> {
    let plan = plan_beside(scheduler, prompts);
    scheduler.audit().unwrap();
    commit(scheduler, &plan);
    rows(&plan)
}

#[test]
fn a_long_prompt_is_cut_while_others_generate_and_the_next_waits_its_turn() {
    let mut scheduler = scheduler(LIMITS);
    scheduler.add(sequence(0, 10, 9)).unwrap();
    scheduler.add(sequence(1, 100, 9)).unwrap();
    scheduler.add(sequence(2, 20, 9)).unwrap();
    assert_eq!(
        step(&mut scheduler),
        [(0, 0, 10, Want::Last), (1, 0, 54, Want::None)]
    );
    let second = [
        (0, 10, 1, Want::Last),
        (1, 54, 46, Want::Last),
        (2, 0, 17, Want::None),
    ];
    assert_eq!(step(&mut scheduler), second);
    let third = [
        (0, 11, 1, Want::Last),
        (1, 100, 1, Want::Last),
        (2, 17, 3, Want::Last),
    ];
    assert_eq!(step(&mut scheduler), third);
}

#[test]
fn prompts_take_what_they_may_beside_those_who_generate_and_all_where_nobody_does() {
    let mut scheduler = scheduler(LIMITS);
    scheduler.add(sequence(0, 70, 9)).unwrap();
    assert_eq!(step_beside(&mut scheduler, 5), [(0, 0, 64, Want::None)]);
    assert_eq!(step_beside(&mut scheduler, 5), [(0, 64, 6, Want::Last)]);
    scheduler.add(sequence(1, 7, 9)).unwrap();
    scheduler.add(sequence(2, 20, 9)).unwrap();
    let shared = [(0, 70, 1, Want::Last), (1, 0, 5, Want::None)];
    assert_eq!(step_beside(&mut scheduler, 5), shared);
    let next = [
        (0, 71, 1, Want::Last),
        (1, 5, 2, Want::Last),
        (2, 0, 3, Want::None),
    ];
    assert_eq!(step_beside(&mut scheduler, 5), next);
    // Whoever runs has a token in every step, whatever is allowed.
    let slow = [
        (0, 72, 1, Want::Last),
        (1, 7, 1, Want::Last),
        (2, 3, 1, Want::None),
    ];
    assert_eq!(step_beside(&mut scheduler, 0), slow);
    assert_eq!(scheduler.load().generating, 2);
}

#[test]
fn no_more_rows_run_than_allowed() {
    for (max_rows, max_step_tokens, running) in [(2, 64, 2), (8, 3, 3), (0, 0, 1)] {
        let mut scheduler = scheduler(Limits {
            max_rows,
            max_step_tokens,
            ..LIMITS
        });
        for id in 0..5 {
            scheduler.add(sequence(id, 1, 40)).unwrap();
        }
        (0..20).for_each(|_| drop(step(&mut scheduler)));
        assert_eq!(scheduler.load().running, running);
    }
}

#[test]
fn a_second_prompt_starts_after_the_blocks_of_the_first() {
    let mut scheduler = scheduler(Limits {
        max_step_tokens: 1000,
        ..LIMITS
    });
    scheduler.add(sequence(0, 96, 1)).unwrap();
    step(&mut scheduler);
    assert!(scheduler.is_idle());
    scheduler.add(twin(7, 96, 2)).unwrap();
    assert_eq!(step(&mut scheduler), [(7, 64, 32, Want::Last)]);
    assert_eq!(scheduler.load().used_blocks, 3);
}

#[test]
fn generated_tokens_are_shared_once_their_block_is_full_and_computed() {
    let mut scheduler = scheduler(LIMITS);
    scheduler.add(sequence(0, 31, 3)).unwrap();
    let mut prompt = sequence(0, 31, 3).prompt;
    prompt.extend([3, 3, 3]);
    let next = |id| Sequence {
        id: SeqId(id),
        prompt: prompt.clone(),
        ..sequence(0, 1, 9)
    };
    step(&mut scheduler);
    scheduler.add(next(1)).unwrap();
    assert_eq!(
        step(&mut scheduler),
        [(0, 31, 1, Want::Last), (1, 0, 34, Want::Last)]
    );
    scheduler.add(next(2)).unwrap();
    assert_eq!(step(&mut scheduler)[2], (2, 32, 2, Want::Last));
}

#[test]
fn twins_that_arrive_together_compute_a_long_prompt_once() {
    let mut scheduler = scheduler(Limits {
        max_step_tokens: 160,
        ..LIMITS
    });
    scheduler.add(sequence(0, 128, 9)).unwrap();
    scheduler.add(twin(1, 128, 9)).unwrap();
    assert_eq!(step(&mut scheduler), [(0, 0, 128, Want::Last)]);
    assert_eq!(
        step(&mut scheduler),
        [(0, 128, 1, Want::Last), (1, 96, 32, Want::Last)]
    );
}

#[test]
fn answers_to_one_prompt_compute_it_once() {
    let mut scheduler = scheduler(Limits {
        max_step_tokens: 512,
        ..LIMITS
    });
    for id in 1..4 {
        scheduler.add(twin(id, 70, 3)).unwrap();
    }
    scheduler.add(sequence(9, 20, 3)).unwrap();
    let plan = planned(&mut scheduler);
    assert_eq!(rows(&plan), [(1, 0, 70, Want::Last)]);
    commit(&mut scheduler, &plan);
    // Two full blocks of 32 are there; whoever came after them need not wait any more.
    let plan = planned(&mut scheduler);
    let starts: Vec<_> = rows(&plan)
        .iter()
        .map(|row| (row.0, row.1, row.2))
        .collect();
    assert_eq!(starts, [(1, 70, 1), (2, 64, 6), (3, 64, 6), (9, 0, 20)]);
    commit(&mut scheduler, &plan);
}

#[test]
fn all_logits_are_wanted_of_every_prompt_token_although_its_prefix_is_cached() {
    let mut scheduler = scheduler(Limits {
        max_step_tokens: 40,
        ..LIMITS
    });
    scheduler.add(sequence(0, 64, 1)).unwrap();
    (0..2).for_each(|_| drop(step(&mut scheduler)));
    scheduler
        .add(Sequence {
            all_logits: true,
            ..twin(9, 64, 9)
        })
        .unwrap();
    let plan = planned(&mut scheduler);
    assert_eq!(rows(&plan), [(9, 0, 40, Want::All)]);
    scheduler.commit(&plan, &[]);
    let plan = planned(&mut scheduler);
    assert_eq!(rows(&plan), [(9, 40, 24, Want::All)]);
    scheduler.commit(&plan, &[Picked::new(SeqId(9), 3, false)]);
    assert_eq!(step(&mut scheduler), [(9, 64, 1, Want::Last)]);
}

#[test]
fn logits_that_were_delivered_before_a_preemption_are_not_wanted_again() {
    let mut scheduler = scheduler(Limits {
        max_step_tokens: 40,
        blocks: 5,
        ..LIMITS
    });
    scheduler.add(sequence(1, 31, 40)).unwrap();
    scheduler.add(sequence(2, 31, 40)).unwrap();
    scheduler
        .add(Sequence {
            all_logits: true,
            ..sequence(9, 64, 9)
        })
        .unwrap();
    step(&mut scheduler);
    assert_eq!(step(&mut scheduler)[2], (9, 0, 17, Want::All));
    assert_eq!(step(&mut scheduler)[2], (9, 17, 38, Want::All));
    assert_eq!(
        step(&mut scheduler).len(),
        2,
        "the second one needs another block"
    );
    scheduler.cancel(SeqId(1));
    assert_eq!(step(&mut scheduler)[1], (9, 0, 39, Want::None));
    assert_eq!(planned(&mut scheduler).rows[1].want, Want::All);
}

#[test]
fn the_youngest_steps_back_keeps_its_tokens_and_is_asked_only_for_its_last() {
    let mut scheduler = scheduler(Limits {
        blocks: 4,
        prefix_sharing: false,
        ..LIMITS
    });
    scheduler.add(sequence(0, 30, 60)).unwrap();
    scheduler.add(sequence(1, 30, 60)).unwrap();
    (0..35).for_each(|_| drop(step(&mut scheduler)));
    assert_eq!(
        (scheduler.load().running, scheduler.load().used_blocks),
        (2, 4)
    );
    assert_eq!(step(&mut scheduler), [(0, 64, 1, Want::Last)]);
    assert_eq!(
        (scheduler.load().running, scheduler.load().used_blocks),
        (1, 3)
    );
    let back: Vec<_> = std::iter::repeat_with(|| step(&mut scheduler))
        .find(|rows| rows[0].0 == 1)
        .unwrap();
    assert_eq!(
        back,
        [(1, 0, 64, Want::None)],
        "64 of 65 known tokens fit into a step"
    );
    assert_eq!(step(&mut scheduler), [(1, 64, 1, Want::Last)]);
}

#[test]
fn a_prompt_waits_until_a_block_is_left_over_for_those_who_run() {
    let mut scheduler = scheduler(Limits {
        blocks: 3,
        ..LIMITS
    });
    scheduler.add(sequence(0, 10, 9)).unwrap();
    scheduler.add(sequence(1, 33, 9)).unwrap();
    scheduler.add(sequence(2, 1, 9)).unwrap();
    assert_eq!(step(&mut scheduler).len(), 1, "and nobody overtakes it");
    scheduler.cancel(SeqId(1));
    assert_eq!(step(&mut scheduler).len(), 2);
}

#[test]
fn cancelling_between_plan_and_commit_frees_at_once_and_is_ignored_later() {
    let mut scheduler = scheduler(LIMITS);
    for id in 0..3 {
        scheduler.add(sequence(id, 10, 9)).unwrap();
    }
    let plan = planned(&mut scheduler);
    assert!(scheduler.cancel(SeqId(1)));
    assert!(!scheduler.cancel(SeqId(1)));
    assert_eq!(scheduler.load().used_blocks, 2);
    scheduler.add(sequence(1, 5, 9)).unwrap();
    commit(&mut scheduler, &plan);
    let next = [
        (0, 10, 1, Want::Last),
        (2, 10, 1, Want::Last),
        (1, 0, 5, Want::Last),
    ];
    assert_eq!(step(&mut scheduler), next);
}

#[test]
fn cancelling_everyone_in_flight_still_needs_the_commit() {
    let mut scheduler = scheduler(LIMITS);
    scheduler.add(sequence(0, 10, 9)).unwrap();
    let plan = planned(&mut scheduler);
    scheduler.cancel(SeqId(0));
    assert!(scheduler.is_idle());
    scheduler.commit(&plan, &[]);
    assert_eq!(planned(&mut scheduler), StepPlan::default());
    assert_eq!(scheduler.load().used_blocks, 0);
}

#[test]
fn a_sequence_ends_when_told_or_after_its_last_token() {
    let mut scheduler = scheduler(LIMITS);
    scheduler.add(sequence(0, 10, 9)).unwrap();
    scheduler.add(sequence(1, 10, 2)).unwrap();
    step(&mut scheduler);
    let plan = planned(&mut scheduler);
    let picked = |seq, ends| Picked::new(SeqId(seq), 3, ends);
    scheduler.commit(&plan, &[picked(0, true), picked(1, false)]);
    assert!(scheduler.is_idle());
    assert_eq!(scheduler.load().used_blocks, 0);
}

#[test]
fn what_cannot_come_to_its_end_is_refused_with_numbers() {
    let mut scheduler = scheduler(Limits {
        max_len: 100,
        blocks: 3,
        ..LIMITS
    });
    let (prompt, new) = (90, 11);
    let refused = scheduler.add(sequence(0, prompt, new)).unwrap_err();
    assert_eq!(
        refused,
        Refusal::TooLong {
            prompt,
            new,
            limit: 100
        }
    );
    assert!(
        refused
            .to_string()
            .contains("together 101 exceed max_len = 100")
    );
    let refused = scheduler.add(sequence(0, 90, 8)).unwrap_err();
    assert!(refused.to_string().contains("need 4 blocks"), "{refused}");
    assert!(scheduler.add(sequence(0, 90, usize::MAX)).is_err());
    assert_eq!(
        scheduler.add(sequence(0, 0, 4)),
        Err(Refusal::Nothing { prompt: 0, new: 4 })
    );
    assert_eq!(
        scheduler.add(sequence(0, 4, 0)),
        Err(Refusal::Nothing { prompt: 4, new: 0 })
    );
    assert_eq!(
        scheduler.add(sequence(0, 90, 7)),
        Ok(()),
        "96 computed tokens fill 3 blocks"
    );
    assert_eq!(
        scheduler.add(sequence(0, 1, 1)),
        Err(Refusal::Duplicate(SeqId(0)))
    );
}

#[test]
#[should_panic(expected = "must be committed before")]
fn a_second_plan_in_flight_is_not_made() {
    let mut scheduler = scheduler(LIMITS);
    scheduler.add(sequence(0, 10, 9)).unwrap();
    planned(&mut scheduler);
    planned(&mut scheduler);
}

#[test]
#[should_panic(expected = "no other")]
fn an_older_plan_is_not_committed() {
    let mut scheduler = scheduler(LIMITS);
    scheduler.add(sequence(0, 10, 9)).unwrap();
    let plan = planned(&mut scheduler);
    commit(&mut scheduler, &plan);
    planned(&mut scheduler);
    commit(&mut scheduler, &plan);
}

#[test]
#[should_panic(expected = "a token is picked exactly")]
fn a_missing_token_is_noticed() {
    let mut scheduler = scheduler(LIMITS);
    scheduler.add(sequence(0, 10, 9)).unwrap();
    let plan = planned(&mut scheduler);
    scheduler.commit(&plan, &[]);
}

#[test]
fn who_outgrows_the_border_is_computed_again_and_shares_with_its_like_only() {
    let mut scheduler = scheduler(Limits {
        border: Some(65),
        ..LIMITS
    });
    scheduler.add(twin(0, 64, 9)).unwrap();
    scheduler.add(sequence(1, 3, 9)).unwrap();
    step(&mut scheduler);
    assert_eq!(
        step(&mut scheduler),
        [(0, 64, 1, Want::Last), (1, 0, 3, Want::Last)]
    );
    assert_eq!(
        step(&mut scheduler),
        [(0, 0, 64, Want::None)],
        "66 tokens are beyond; the younger one stepped back as well"
    );
    assert_eq!(
        step(&mut scheduler),
        [(0, 64, 2, Want::Last), (1, 0, 4, Want::Last)]
    );
    scheduler.add(twin(2, 64, 1)).unwrap();
    let rows = step(&mut scheduler);
    assert_eq!(rows[2], (2, 32, 32, Want::Last), "its like had 64 tokens");
    scheduler.add(twin(3, 66, 1)).unwrap();
    assert_eq!(step(&mut scheduler)[2].1, 64);
}

#[test]
fn sequences_of_other_adapters_share_no_blocks() {
    let mut scheduler = scheduler(LIMITS);
    let of = |id, adapter| Sequence {
        adapter,
        ..twin(id, 33, 1)
    };
    for (id, adapter, computed) in [(0, 0, 33), (1, 1, 33), (2, 2, 33), (3, 1, 1), (4, 0, 1)] {
        scheduler.add(of(id, adapter)).unwrap();
        let rows = step(&mut scheduler);
        assert_eq!(rows, [(id, 33 - computed, computed, Want::Last)], "{id}");
    }
}

/// Commits these tokens for the only row.
fn commit_all(scheduler: &mut Scheduler, plan: &StepPlan, tokens: &[u32]) {
    let seq = plan.rows[0].seq;
    let picked = tokens.iter().map(|&token| Picked::new(seq, token, false));
    scheduler.commit(plan, &picked.collect::<Vec<_>>());
    scheduler.audit().unwrap();
}

#[test]
fn guesses_are_computed_behind_the_pending_token_and_right_ones_stay() {
    let mut scheduler = scheduler(LIMITS);
    scheduler.add(sequence(0, 30, 9)).unwrap();
    step(&mut scheduler);
    scheduler.propose(SeqId(0), &[7, 8, 9]);
    let plan = planned(&mut scheduler);
    assert_eq!(rows(&plan), [(0, 30, 4, Want::Last)]);
    assert_eq!((plan.rows[0].proposed, plan.rows[0].known), (3, 34));
    assert_eq!(plan.rows[0].tokens[1..], [7, 8, 9]);
    assert_eq!(plan.rows[0].blocks.len(), 2);
    commit_all(&mut scheduler, &plan, &[7, 8, 5]);
    // A guess is for one plan.
    let plan = planned(&mut scheduler);
    assert_eq!(rows(&plan), [(0, 33, 1, Want::Last)]);
    assert_eq!(plan.rows[0].tokens, [5]);
    commit_all(&mut scheduler, &plan, &[1]);
    // Of 9 new tokens 5 are there, and the last one is never computed.
    scheduler.propose(SeqId(0), &[2; 30]);
    let plan = planned(&mut scheduler);
    assert_eq!(plan.rows[0].proposed, 3);
    commit_all(&mut scheduler, &plan, &[2, 2, 2, 4]);
    assert!(scheduler.is_idle());
}

#[test]
fn guesses_take_neither_blocks_nor_tokens_that_others_need() {
    let mut scheduler = scheduler(Limits {
        blocks: 4,
        max_step_tokens: 12,
        border: Some(40),
        ..LIMITS
    });
    scheduler.add(sequence(0, 12, 40)).unwrap();
    step(&mut scheduler);
    scheduler.propose(SeqId(0), &[5; 60]);
    let plan = planned(&mut scheduler);
    assert_eq!(plan.rows[0].proposed, 6, "half of a step");
    commit_all(&mut scheduler, &plan, &[5, 5, 5, 5, 5, 5, 5]);
    scheduler.add(sequence(1, 40, 9)).unwrap();
    scheduler.propose(SeqId(0), &[5; 60]);
    let plan = planned(&mut scheduler);
    let tokens: usize = plan.rows.iter().map(|row| row.tokens.len()).sum();
    assert!(tokens <= 12 && plan.rows.len() == 2, "{plan:?}");
    scheduler.cancel(SeqId(1));
    let picked = Picked::new(SeqId(0), 1, false);
    scheduler.commit(&plan, &[picked]);
    // Behind the border keys are others.
    while planned_known(&mut scheduler) < 39 {}
    scheduler.propose(SeqId(0), &[5; 60]);
    let plan = planned(&mut scheduler);
    assert_eq!(
        (plan.rows[0].known, plan.rows[0].proposed),
        (40, 1),
        "{plan:?}"
    );
}

/// One step; the tokens that are known behind it.
fn planned_known(scheduler: &mut Scheduler) -> usize {
    step(scheduler);
    scheduler.audit().unwrap();
    scheduler.running[0].known.len()
}

#[test]
fn what_is_found_in_the_cache_is_counted_once_and_so_is_who_steps_back() {
    let mut shared = scheduler(LIMITS);
    shared.add(sequence(0, 40, 2)).unwrap();
    step(&mut shared);
    shared.add(twin(1, 40, 2)).unwrap();
    step(&mut shared);
    let reuse = shared.load().reuse;
    assert_eq!((reuse.queries, reuse.hits), (80, BLOCK as u64));
    assert_eq!(reuse.preemptions, 0);
    // Both fill four blocks in the end, and there are five.
    let mut scarce = scheduler(Limits {
        blocks: 5,
        prefix_sharing: false,
        ..LIMITS
    });
    for id in 0..2 {
        scarce.add(sequence(id, 2 * BLOCK - 1, 40)).unwrap();
    }
    while !scarce.is_idle() {
        step(&mut scarce);
    }
    let reuse = scarce.load().reuse;
    assert_eq!(reuse.hits, 0);
    assert_eq!(reuse.queries, 2 * (2 * BLOCK as u64 - 1), "not again");
    assert_eq!(reuse.preemptions, 1);
}
