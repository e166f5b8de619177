//! Whether an answer is what it was, byte for byte, where that is promised.

use serde_json::Value;

use crate::exchange::Answer;

/// Bytes that are shown around the first difference.
const AROUND: usize = 40;

/// Statuses that tell of the server's state, or of the time, and not of the request.
const OF_THE_MOMENT: [u16; 6] = [429, 500, 502, 503, 504, 507];

/// What became of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the same.
    Same,
    /// Nothing is promised of it, for this reason.
    Unpromised(&'static str),
    /// It is another, in this.
    Differs(String),
}

/// Compares an answer with the one that was recorded.
pub fn compare(then: &Answer, now: &Answer) -> Verdict {
    if then.by_code {
        return Verdict::Unpromised("the model's own code answered");
    }
    if OF_THE_MOMENT.contains(&then.status) {
        return Verdict::Unpromised("it failed for a reason of that moment, not of the request");
    }
    if then.status != now.status {
        let text = String::from_utf8_lossy(&now.body.0);
        let text: String = text.chars().take(200).collect();
        return Verdict::Differs(format!(
            "the status is {}, and was {}: {text}",
            now.status, then.status
        ));
    }
    if then.content_type != now.content_type {
        let shown = |kind: &Option<String>| kind.clone().unwrap_or_else(|| "not there".into());
        return Verdict::Differs(format!(
            "content-type is {}, and was {}",
            shown(&now.content_type),
            shown(&then.content_type)
        ));
    }
    // What a client did not wait for, or what is too long to keep, is known as far as it went.
    let partial = !then.complete || then.cut;
    let several = [then, now].map(by_choice);
    let (then_body, now_body) = match &several {
        [Some(_), _] if partial => {
            return Verdict::Unpromised("its choices took turns, and it was not seen to its end");
        }
        [Some(then), Some(now)] => (&**then, &**now),
        _ => (&*then.body.0, &*now.body.0),
    };
    let now_body = match partial {
        true => now_body.get(..then_body.len()).unwrap_or(now_body),
        false => now_body,
    };
    match first_difference(then_body, now_body) {
        None => Verdict::Same,
        Some(at) => Verdict::Differs(format!(
            "byte {at} of the body: …{}… was …{}…",
            around(now_body, at),
            around(then_body, at)
        )),
    }
}

/// The events of a stream of several choices, choice by choice: which of them goes on first is a matter of the moment.
fn by_choice(answer: &Answer) -> Option<Vec<u8>> {
    let kind = answer.content_type.as_deref()?;
    let text = str::from_utf8(&answer.body.0).ok()?;
    if !kind.starts_with("text/event-stream") {
        return None;
    }
    let choice = |event: &str| {
        let event: Value = serde_json::from_str(event.strip_prefix("data:")?).ok()?;
        event["choices"][0]["index"].as_u64()
    };
    let mut events: Vec<_> = text
        .split_inclusive("\n\n")
        .map(|event| (choice(event), event))
        .collect();
    if events.iter().all(|(choice, _)| choice.unwrap_or(0) == 0) {
        return None;
    }
    // What belongs to no choice comes last.
    events.sort_by_key(|(choice, _)| choice.unwrap_or(u64::MAX));
    let events: String = events.into_iter().map(|(_, event)| event).collect();
    Some(events.into_bytes())
}

fn first_difference(one: &[u8], other: &[u8]) -> Option<usize> {
    let at = one.iter().zip(other).position(|(one, other)| one != other);
    at.or((one.len() != other.len()).then(|| one.len().min(other.len())))
}

fn around(bytes: &[u8], at: usize) -> String {
    let from = at.saturating_sub(AROUND);
    let to = (at + AROUND).min(bytes.len());
    String::from_utf8_lossy(&bytes[from.min(to)..to])
        .escape_debug()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Content;

    fn answer(status: u16, body: &str) -> Answer {
        Answer {
            status,
            body: Content(body.into()),
            complete: true,
            ..Answer::default()
        }
    }

    #[test]
    fn one_byte_is_a_difference_and_its_place_is_told() {
        let then = answer(200, "the candle is cold");
        assert_eq!(compare(&then, &then.clone()), Verdict::Same);
        for (now, part) in [
            (answer(200, "the candle is warm"), "byte 14"),
            (answer(200, "the candle"), "byte 10"),
            (answer(200, "the candle is cold."), "byte 18"),
            (answer(424, "why"), "the status is 424, and was 200: why"),
        ] {
            let verdict = compare(&then, &now);
            let Verdict::Differs(told) = &verdict else {
                panic!("{verdict:?}");
            };
            assert!(told.contains(part), "{told}");
        }
        let mut other = then.clone();
        other.content_type = Some("text/plain".into());
        assert!(matches!(compare(&then, &other), Verdict::Differs(_)));
    }

    #[test]
    fn what_a_client_left_is_compared_as_far_as_it_went() {
        let mut then = answer(200, "the cand");
        then.complete = false;
        assert_eq!(compare(&then, &answer(200, "the candle")), Verdict::Same);
        assert!(matches!(
            compare(&then, &answer(200, "the can")),
            Verdict::Differs(_)
        ));
        assert!(matches!(
            compare(&then, &answer(200, "the lamp on")),
            Verdict::Differs(_)
        ));
    }

    #[test]
    fn choices_of_a_stream_may_take_turns_otherwise_but_say_the_same() {
        let stream = |pieces: &[(u32, &str)]| {
            let event = |(index, text): &(u32, &str)| {
                format!("data: {{\"choices\":[{{\"index\":{index},\"text\":\"{text}\"}}]}}\n\n")
            };
            let events: String = pieces.iter().map(event).collect();
            Answer {
                content_type: Some("text/event-stream; charset=utf-8".into()),
                ..answer(200, &format!("{events}data: [DONE]\n\n"))
            }
        };
        let then = stream(&[(0, "a"), (1, "b"), (0, "c"), (1, "d")]);
        let turned = stream(&[(1, "b"), (0, "a"), (0, "c"), (1, "d")]);
        assert_eq!(compare(&then, &turned), Verdict::Same);
        for other in [
            stream(&[(0, "c"), (1, "b"), (0, "a"), (1, "d")]),
            stream(&[(0, "a"), (1, "b"), (0, "c")]),
        ] {
            assert!(matches!(compare(&then, &other), Verdict::Differs(_)));
        }
        let mut left = then.clone();
        left.complete = false;
        assert!(matches!(compare(&left, &then), Verdict::Unpromised(_)));
        let (one, other) = (stream(&[(0, "a"), (0, "b")]), stream(&[(0, "b"), (0, "a")]));
        assert!(matches!(compare(&one, &other), Verdict::Differs(_)));
    }

    #[test]
    fn nothing_is_promised_of_code_and_of_a_full_queue() {
        let mut then = answer(200, "a");
        then.by_code = true;
        assert!(matches!(
            compare(&then, &answer(200, "b")),
            Verdict::Unpromised(_)
        ));
        assert!(matches!(
            compare(&answer(503, "a"), &answer(200, "b")),
            Verdict::Unpromised(_)
        ));
    }
}
