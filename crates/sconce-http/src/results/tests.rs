//! The grammar of tokens, and results as they fill, are read, give way and grow old.

use proptest::prelude::*;

use super::*;

fn head() -> Head {
    Head::ok("text/plain")
}

fn results(capacity: usize, age: Duration) -> Arc<Results> {
    Results::new(ResultLimits { capacity, age })
}

fn token(id: Uuid, taken: usize) -> Token {
    Token { id, taken }
}

fn items(text: &'static str, next: Option<Token>) -> Option<Page> {
    Some(Page::Items(head(), text.into(), next))
}

#[test]
fn a_result_is_read_while_it_is_written() {
    let results = results(9, Duration::from_secs(9));
    let writer = results.open();
    let id = writer.id;
    let start = token(id, 0);
    assert_eq!(results.page(start, 9), Some(Page::Pending));
    writer.begin(head());
    assert_eq!(results.page(start, 9), Some(Page::Pending));
    writer.push("a".into());
    writer.push("".into());
    assert_eq!(results.page(start, 9), items("a", Some(token(id, 1))));
    assert_eq!(results.page(token(id, 1), 9), Some(Page::Pending));
    writer.push("b".into());
    writer.push("c".into());
    assert_eq!(results.page(start, 2), items("ab", Some(token(id, 2))));
    assert_eq!(
        results.page(token(id, 2), 9),
        items("c", Some(token(id, 3)))
    );
    writer.update(|entry| entry.complete = true);
    assert_eq!(results.page(token(id, 2), 9), items("c", None));
    assert_eq!(results.page(token(id, 3), 9), items("", None));
    assert_eq!(results.page(token(id, 4), 9), None, "nobody was given this");
    assert_eq!(results.page(token(Uuid::new_v4(), 0), 9), None);
}

#[test]
fn the_result_untouched_for_longest_gives_way() {
    let results = results(2, Duration::from_secs(9));
    let (first, second) = (results.open(), results.open());
    assert!(results.page(token(first.id, 0), 1).is_some());
    let third = results.open();
    for (writer, there) in [(&first, true), (&second, false), (&third, true)] {
        assert_eq!(results.page(token(writer.id, 0), 1).is_some(), there);
    }
    second.push("of no use".into());
    assert_eq!(results.lock().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn nobody_asks_and_the_result_goes() {
    let results = results(9, Duration::from_secs(60));
    let writer = results.open();
    let start = token(writer.id, 0);
    writer.begin(head());
    let kept = tokio::spawn(writer.finish());
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert_eq!(results.page(start, 9), items("", None));
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert_eq!(results.page(start, 9), items("", None), "asking keeps it");
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(results.page(start, 9), None);
    kept.await.unwrap();
}

#[tokio::test]
async fn a_result_that_goes_takes_its_job_along_and_the_other_way_round() {
    let results = results(1, Duration::from_secs(60));
    let writer = results.open();
    let job = tokio::spawn(std::future::pending::<()>());
    results.bind(writer.id, job.abort_handle());
    let next = results.open();
    assert!(job.await.unwrap_err().is_cancelled());
    let late = tokio::spawn(std::future::pending::<()>());
    results.bind(writer.id, late.abort_handle());
    assert!(late.await.unwrap_err().is_cancelled());
    let start = token(next.id, 0);
    drop(next);
    assert_eq!(results.page(start, 1), None, "the job died without an end");
}

proptest! {
    #[test]
    fn tokens_are_read_as_they_are_written(id in any::<u128>(), taken in any::<usize>()) {
        let token = token(Uuid::from_u128(id), taken);
        prop_assert_eq!(token.to_string().parse(), Ok(token));
    }

    #[test]
    fn zero_and_nothing_are_the_same_place(id in any::<u128>(), zeros in 0_usize..4) {
        let id = Uuid::from_u128(id);
        prop_assert_eq!(format!("{id}{}", "0".repeat(zeros)).parse(), Ok(token(id, 0)));
    }

    #[test]
    fn no_other_text_is_a_token(text in ".{0,60}", id in any::<u128>(), tail in "[^0-9]{1,3}") {
        // Random text is no UUID.
        prop_assert_eq!(text.parse::<Token>(), Err(()));
        let id = Uuid::from_u128(id);
        prop_assert_eq!(format!("{id}{tail}").parse::<Token>(), Err(()));
        prop_assert_eq!(format!("{id}1{tail}").parse::<Token>(), Err(()));
        prop_assert_eq!(format!("{id}{}0", usize::MAX).parse::<Token>(), Err(()));
        prop_assert_eq!(id.simple().to_string().parse::<Token>(), Err(()));
    }

    #[test]
    fn any_way_of_paging_gives_every_item_once(
        cuts in prop::collection::vec(1_usize..4, 1..20), count in 0_usize..30
    ) {
        let results = results(1, Duration::from_secs(9));
        let writer = results.open();
        writer.begin(head());
        let mut next = Some(token(writer.id, 0));
        let (mut written, mut read) = (String::new(), String::new());
        let mut cuts = cuts.into_iter().cycle();
        while let Some(at) = next {
            let most = cuts.next().unwrap();
            // The writer is sometimes ahead and sometimes behind.
            for _ in 0..cuts.next().unwrap().min(count - written.len().min(count)) {
                let item = char::from(b'a' + u8::try_from(written.len() % 26).unwrap());
                written.push(item);
                writer.push(item.to_string().into());
            }
            if written.len() == count {
                writer.update(|entry| entry.complete = true);
            }
            match results.page(at, most).unwrap() {
                Page::Pending => {}
                Page::Items(_, bytes, token) => {
                    prop_assert!(bytes.len() <= most);
                    read += std::str::from_utf8(&bytes).unwrap();
                    next = token;
                }
            }
        }
        prop_assert_eq!(read, written);
    }
}
