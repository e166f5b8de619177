//! Tests of the group of threads: sums, joins, and every way in which a rank can fail the others.

use candle_core::{DType, Device};

use super::*;

/// Runs `work` in a thread for each rank and returns what each got, or `None` for a panic.
fn on_ranks<R: Send>(ranks: Vec<Threads>, work: impl Fn(Threads) -> R + Sync) -> Vec<Option<R>> {
    let work = &work;
    std::thread::scope(|scope| {
        let threads: Vec<_> = ranks
            .into_iter()
            .map(|rank| scope.spawn(move || work(rank)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().ok())
            .collect()
    })
}

fn message(result: Result<Tensor>) -> String {
    result
        .map(|_| "no error".to_owned())
        .unwrap_or_else(|error| error.to_string())
}

fn zeros(len: usize) -> Tensor {
    Tensor::zeros(len, DType::F32, &Device::Cpu).unwrap()
}

#[test]
fn sums_are_added_in_the_order_of_ranks_and_equal_everywhere() {
    let parts = [1e8f32, 1.0, -1e8, 0.25];
    let sums = on_ranks(Threads::group(4), |rank| {
        let mut sums = Vec::new();
        for round in 0..200 {
            let x = Tensor::new(&[parts[rank.rank()], round as f32], &Device::Cpu).unwrap();
            sums.push(rank.all_reduce(&x).unwrap().to_vec1::<f32>().unwrap());
        }
        sums
    });
    let exact = ((1e8f32 + 1.0) + -1e8) + 0.25;
    for sums in sums {
        let sums = sums.unwrap();
        assert!(
            sums.iter()
                .enumerate()
                .all(|(round, sum)| *sum == [exact, 4.0 * round as f32])
        );
    }
}

#[test]
fn parts_of_unequal_size_are_joined_in_the_order_of_ranks() {
    let joined = on_ranks(Threads::group(3), |rank| {
        let width = rank.rank() + 1;
        let x = Tensor::full(rank.rank() as f32, (2, width), &Device::Cpu).unwrap();
        rank.all_gather(&x, 1).unwrap().to_vec2::<f32>().unwrap()
    });
    for joined in joined {
        assert_eq!(joined.unwrap(), vec![vec![0.0, 1.0, 1.0, 2.0, 2.0, 2.0]; 2]);
    }
}

#[test]
fn a_rank_that_leaves_or_panics_is_named_by_all_others() {
    for how in ["left", "panicked"] {
        let results = on_ranks(Threads::group(3), |rank| {
            if rank.rank() == 1 {
                assert!(how == "left", "this rank fails on purpose");
                return String::new();
            }
            message(rank.all_reduce(&zeros(2)))
        });
        for waiting in [0, 2] {
            let wanted = format!("rank 1 {how}, so rank {waiting} cannot finish its all_reduce");
            assert_eq!(results[waiting].as_deref(), Some(&*wanted));
        }
    }
}

#[test]
fn a_rank_that_leaves_after_its_last_operation_harms_nobody() {
    for _ in 0..200 {
        let results = on_ranks(Threads::group(2), |rank| rank.all_reduce(&zeros(1)).is_ok());
        assert_eq!(results, [Some(true), Some(true)]);
    }
}

#[test]
fn an_abort_wakes_the_waiting_and_stops_what_comes_later() {
    let mut ranks = Threads::group(2);
    let late = ranks.pop().unwrap();
    let handle = late.handle();
    let waiting = ranks.pop().unwrap();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(move || message(waiting.all_reduce(&zeros(1))));
        handle.stop("the model was unloaded");
        assert!(waiter.join().unwrap().contains("the model was unloaded"));
    });
    assert!(message(late.all_gather(&zeros(1), 0)).contains("the model was unloaded"));
}

#[test]
fn ranks_at_different_operations_all_get_an_error() {
    let results = on_ranks(Threads::group(2), |rank| {
        message(rank.all_reduce(&zeros(1 + rank.rank())))
    });
    for result in results {
        let text = result.unwrap();
        assert!(
            text.contains("all_reduce of [1]") && text.contains("all_reduce of [2]"),
            "{text}"
        );
    }
    let mut ranks = Threads::group(1);
    assert!(message(ranks.remove(0).all_gather(&zeros(1), 1)).contains("dimension 1"));
}

#[test]
fn a_rank_that_never_comes_is_named_after_the_timeout() {
    let mut ranks = Threads::group_within(2, Duration::from_millis(1));
    let late = ranks.pop().unwrap();
    let text = message(ranks.pop().unwrap().all_reduce(&zeros(1)));
    assert!(
        text.contains(
            "rank 0 cannot finish its all_reduce: rank 1 stalled while loading: rank 0 waits in all_reduce of [1], \
             and there was no sign of life for 1ms"
        ),
        "{text}"
    );
    assert!(message(late.all_reduce(&zeros(1))).contains("rank 1 stalled"));
}

#[test]
fn a_rank_that_works_is_waited_for_as_long_as_it_takes() {
    let limit = Duration::from_secs(4);
    let mut ranks = Threads::group_within(2, limit);
    let (slow, quick) = (ranks.pop().unwrap(), ranks.pop().unwrap());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let _attached = slow.handle().pulse().attach();
            for _ in 0..15 {
                std::thread::sleep(limit / 10);
                // A single task needs no place in the pool, which other tests keep busy.
                crate::pool::run(1, &|_| {});
            }
            slow.all_reduce(&zeros(1)).unwrap();
        });
        assert!(quick.all_reduce(&zeros(1)).is_ok());
    });
}

#[test]
fn the_first_failure_stays_with_where_it_was() {
    let ranks = Threads::group(2);
    let handle = ranks[0].handle();
    assert_eq!(handle.failure(), None);
    handle.enter(Place::Step(7));
    let ranks = on_ranks(ranks, |rank| {
        rank.all_reduce(&zeros(3)).unwrap();
        rank
    });
    handle.fail(1, "boom".into());
    handle.fail(0, "for lack of the other".into());
    handle.stalled(&[0, 1], Duration::from_secs(1));
    handle.stop("too late");
    let failure = handle.failure().unwrap().to_string();
    assert_eq!(
        failure,
        "rank 1 failed at step 7, after all_reduce of [3]: boom"
    );
    let first = ranks.into_iter().next().flatten().unwrap();
    assert!(message(first.all_reduce(&zeros(3))).contains(&failure));
}

#[test]
fn ranks_that_do_not_even_come_to_an_operation_are_named() {
    let handle = Threads::group(3)[0].handle();
    handle.enter(Place::Reserving);
    handle.stalled(&[0, 2], Duration::from_secs(8));
    assert_eq!(
        handle.failure().unwrap().to_string(),
        "ranks 0, 2 stalled while reserving the key/value cache: there was no sign of life for 8s"
    );
}
