//! A job's reply that notes what passes: the queue, the first token, those after it, the end.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use sconce_core::{Event, FinishReason, JobId, RawEvent, Reply, TaskAnswer};

use crate::Request;
use crate::emf::Emf;
use crate::meter::{Meter, Parts};
use crate::traces::Spans;

/// What the client of a job gets, measured.
pub(crate) struct Measured {
    inner: Box<dyn Reply>,
    job: JobId,
    meter: Arc<Meter>,
    request: Request,
    emf: Option<Emf>,
    times: Times,
    /// Status of an answer of the model's own code, and whether it is streamed.
    head: Option<(u16, bool)>,
    is_over: bool,
}

/// When things happened to a job.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// It was queued, on both clocks.
    pub(crate) queued: (SystemTime, Instant),
    /// It left the queue.
    pub(crate) began: Option<Instant>,
    /// Its first token came.
    pub(crate) first: Option<Instant>,
    /// So did the last one so far.
    pub(crate) last: Option<Instant>,
}

impl Times {
    /// From now on.
    fn begin() -> Self {
        Self {
            queued: (SystemTime::now(), Instant::now()),
            began: None,
            first: None,
            last: None,
        }
    }

    /// A moment as others know it.
    pub(crate) fn on_the_wall(&self, moment: Instant) -> SystemTime {
        self.queued.0 + moment.saturating_duration_since(self.queued.1)
    }
}

/// How a job ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ending {
    /// stop, length, done, error or abort.
    pub(crate) reason: &'static str,
    /// The failure.
    pub(crate) error: Option<String>,
    /// Tokens that were read.
    pub(crate) read: Option<usize>,
    /// Tokens that were generated.
    pub(crate) generated: Option<usize>,
}

impl Ending {
    fn of(reason: &'static str) -> Self {
        Self {
            reason,
            ..Self::default()
        }
    }
}

impl Measured {
    pub(crate) fn new(
        inner: Box<dyn Reply>,
        job: JobId,
        meter: Arc<Meter>,
        request: Request,
        emf: Option<Emf>,
    ) -> Self {
        Self {
            inner,
            job,
            meter,
            request,
            emf,
            times: Times::begin(),
            head: None,
            is_over: false,
        }
    }

    /// A token came, or the first part of a stream.
    fn token(&mut self) {
        let now = Instant::now();
        match self.times.last.replace(now) {
            Some(last) => {
                let pause = now.saturating_duration_since(last);
                self.meter.inter_token.observe(pause.as_secs_f64());
            }
            None => self.first(now),
        }
    }

    fn first(&mut self, now: Instant) {
        self.times.first = Some(now);
        let wait = now.saturating_duration_since(self.times.queued.1);
        self.meter.first_token.observe(wait.as_secs_f64());
    }

    fn note(&mut self, event: &Event) {
        let ending = match event {
            Event::Token(_) => return self.token(),
            Event::Progress(_) => return,
            Event::Raw(RawEvent::Head(head)) => {
                self.head = Some((head.code, head.streams));
                return;
            }
            Event::Raw(RawEvent::Chunk(_)) => {
                // A part of it may be any number of tokens, so that only the first one says something.
                if self.times.first.is_none() && self.head.is_some_and(|(_, streams)| streams) {
                    self.first(Instant::now());
                }
                return;
            }
            Event::Raw(RawEvent::End) => match self.head {
                Some((400.., _)) => Ending::of("error"),
                _ => Ending::of("done"),
            },
            Event::Done(output) => Ending {
                reason: match output.finish {
                    FinishReason::Length => "length",
                    FinishReason::EosToken | FinishReason::StopSequence => "stop",
                },
                read: Some(output.prompt_tokens),
                generated: Some(output.all_generated()),
                error: None,
            },
            Event::Answered(answered) => {
                if let TaskAnswer::Pictures(pictures) = &answered.answer {
                    self.meter.drew(pictures.len());
                }
                Ending {
                    read: Some(answered.tokens),
                    ..Ending::of("done")
                }
            }
            Event::Failed(error) => {
                self.meter.failed(error);
                Ending {
                    error: Some(error.to_string()),
                    ..Ending::of("error")
                }
            }
        };
        self.end(&ending);
    }

    fn end(&mut self, ending: &Ending) {
        self.is_over = true;
        let now = Instant::now();
        let whole = now.saturating_duration_since(self.times.queued.1);
        match (ending.read, ending.generated) {
            (Some(read), Some(generated)) => {
                self.meter.generated(read, generated, self.parts(now));
            }
            (Some(read), None) => self.meter.read(read),
            _ => {}
        }
        self.meter.ended(ending.reason, whole);
        if let Some(emf) = &self.emf {
            emf.request(
                &self.meter.label(),
                &self.request.id,
                &self.times,
                now,
                ending,
            );
        }
        if let Some(trace) = &self.request.trace {
            trace.job(Spans {
                job: self.job,
                model: self.meter.label(),
                times: self.times,
                ended: now,
                ending,
            });
        }
    }

    /// `None`: no tokens were told, so that nobody knows them.
    fn parts(&self, now: Instant) -> Option<Parts> {
        let (began, first) = (self.times.began?, self.times.first?);
        Some(Parts {
            prefill: first.saturating_duration_since(began),
            decode: now.saturating_duration_since(first),
        })
    }
}

impl Reply for Measured {
    fn send(&mut self, event: Event) -> bool {
        if !self.is_over {
            self.note(&event);
        }
        self.inner.send(event)
    }

    fn gone(&self) -> bool {
        self.inner.gone()
    }

    fn begins(&mut self) {
        let now = Instant::now();
        self.times.began = Some(now);
        self.meter
            .began(now.saturating_duration_since(self.times.queued.1));
        self.inner.begins();
    }

    fn ready(&self) -> bool {
        self.inner.ready()
    }
}

impl Drop for Measured {
    /// A job that ends without a word has lost its client, or was refused at the door, where the client is still there.
    fn drop(&mut self) {
        if !self.is_over && self.inner.gone() {
            self.end(&Ending::of("abort"));
        }
    }
}

#[cfg(test)]
mod tests {
    use sconce_core::{ModelStatus, Output, Phase, RawHead, ServeError, Token};

    use super::*;
    use crate::Telemetry;

    /// Takes everything; whether its client is there.
    struct Client(bool);

    impl Reply for Client {
        fn send(&mut self, _: Event) -> bool {
            true
        }

        fn gone(&self) -> bool {
            !self.0
        }
    }

    fn model() -> ModelStatus {
        ModelStatus {
            name: "m".into(),
            phase: Phase::Ready,
            ..ModelStatus::default()
        }
    }

    fn token() -> Event {
        Event::Token(Token {
            id: 1,
            text: "a".into(),
            spelled: String::new(),
            logprob: 0.0,
            special: false,
            last: false,
            top: vec![],
        })
    }

    fn done(finish: FinishReason) -> Event {
        Event::Done(Output {
            text: "aaa".into(),
            finish,
            prompt_tokens: 7,
            generated_tokens: 3,
            seed: None,
            prompt: vec![],
            echo: String::new(),
            matched: None,
            others: Vec::new(),
        })
    }

    /// The text of the metrics after a job was told these.
    fn after(is_there: bool, begins: bool, events: Vec<Event>) -> String {
        let telemetry = Telemetry::default();
        let client = Box::new(Client(is_there));
        let mut reply = telemetry.measure(client, JobId(1), &model(), &Request::default());
        if begins {
            reply.begins();
        }
        for event in events {
            assert!(reply.send(event));
        }
        drop(reply);
        telemetry.metrics.text(&[model()], &[])
    }

    fn value(text: &str, name: &str, more: &str) -> Option<f64> {
        let series = format!("sconce_{name}{{model_name=\"m\",version=\"\"{more}}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&*series))?;
        line.parse().ok()
    }

    #[test]
    fn a_generation_is_measured_from_the_queue_to_its_end() {
        let events = vec![token(), token(), token(), done(FinishReason::Length)];
        let text = after(true, true, events);
        for (name, more, wanted) in [
            ("request_queue_time_seconds_count", "", 1.0),
            ("time_to_first_token_seconds_count", "", 1.0),
            ("inter_token_latency_seconds_count", "", 2.0),
            ("request_prefill_time_seconds_count", "", 1.0),
            ("request_decode_time_seconds_count", "", 1.0),
            ("e2e_request_latency_seconds_count", "", 1.0),
            ("prompt_tokens_total", "", 7.0),
            ("generation_tokens_total", "", 3.0),
            ("request_prompt_tokens_sum", "", 7.0),
            ("request_generation_tokens_sum", "", 3.0),
            ("requests_total", ",finished_reason=\"length\"", 1.0),
        ] {
            assert_eq!(value(&text, name, more), Some(wanted), "{name} in\n{text}");
        }
        let stop = after(true, true, vec![done(FinishReason::EosToken)]);
        let reason = ",finished_reason=\"stop\"";
        assert_eq!(value(&stop, "requests_total", reason), Some(1.0));
        let name = "request_decode_time_seconds_count";
        assert_eq!(value(&stop, name, ""), Some(0.0), "nobody told its tokens");
    }

    #[test]
    fn clients_that_leave_are_counted_and_refusals_at_the_door_are_not_theirs() {
        let reason = ",finished_reason=\"abort\"";
        let left = after(false, true, vec![token()]);
        assert_eq!(value(&left, "requests_total", reason), Some(1.0));
        let refused = after(true, false, vec![]);
        assert_eq!(value(&refused, "requests_total", reason), None);
        let finished = after(false, true, vec![done(FinishReason::Length)]);
        assert_eq!(value(&finished, "requests_total", reason), None);
    }

    #[test]
    fn failures_are_counted_by_their_reason() {
        let text = after(true, true, vec![Event::Failed(ServeError::Draining)]);
        let (reason, ended) = (",reason=\"draining\"", ",finished_reason=\"error\"");
        assert_eq!(value(&text, "request_failures_total", reason), Some(1.0));
        assert_eq!(value(&text, "requests_total", ended), Some(1.0));
    }

    #[test]
    fn a_stream_of_a_handler_has_a_first_part_and_a_status() {
        let head = |code, streams| {
            Event::Raw(RawEvent::Head(RawHead {
                code,
                message: "OK".into(),
                properties: vec![],
                streams,
            }))
        };
        let chunk = || Event::Raw(RawEvent::Chunk("x".into()));
        let end = || Event::Raw(RawEvent::End);
        let name = "time_to_first_token_seconds_count";
        let streamed = after(true, true, vec![head(200, true), chunk(), chunk(), end()]);
        assert_eq!(value(&streamed, name, ""), Some(1.0));
        let done = ",finished_reason=\"done\"";
        assert_eq!(value(&streamed, "requests_total", done), Some(1.0));
        let whole = after(true, true, vec![head(424, false), chunk(), end()]);
        assert_eq!(value(&whole, name, ""), Some(0.0));
        let error = ",finished_reason=\"error\"";
        assert_eq!(value(&whole, "requests_total", error), Some(1.0));
    }
}
