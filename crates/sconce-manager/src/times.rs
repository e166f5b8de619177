//! How long a model is on its way to readiness, and how long it will be.

use std::time::{Duration, Instant};

use sconce_core::{LoadTimes, Phase, Progress};

/// When a model's phases began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    began: Instant,
    /// The present phase.
    entered: Instant,
    is_fetching: bool,
    /// In phases that are over.
    fetching: Duration,
    ended: Option<Instant>,
}

impl Times {
    /// From now on.
    pub(crate) fn begin() -> Self {
        let now = Instant::now();
        Self {
            began: now,
            entered: now,
            is_fetching: false,
            fetching: Duration::ZERO,
            ended: None,
        }
    }

    /// Another phase begins.
    pub(crate) fn enter(&mut self, phase: &Phase) {
        let now = Instant::now();
        if self.is_fetching {
            self.fetching += now - self.entered;
        }
        self.is_fetching = *phase == Phase::Fetching;
        self.entered = now;
        if !phase.is_coming() {
            self.ended.get_or_insert(now);
        }
    }

    /// As far as it has come.
    pub(crate) fn so_far(&self, progress: Progress) -> LoadTimes {
        let in_phase = self.entered.elapsed();
        let fetches = match self.is_fetching {
            true => in_phase,
            false => Duration::ZERO,
        };
        LoadTimes {
            total: self.ended.unwrap_or_else(Instant::now) - self.began,
            fetching: self.fetching + fetches,
            left: self
                .ended
                .is_none()
                .then(|| left(in_phase, progress))
                .flatten(),
        }
    }
}

/// What is left if bytes go on to come as they came.
fn left(taken: Duration, Progress { done, total }: Progress) -> Option<Duration> {
    let rest = total.checked_sub(done)?;
    (done > 0).then(|| taken.mul_f64(rest as f64 / done as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_follows_from_what_came() {
        let progress = |done, total| Progress { done, total };
        let taken = Duration::from_secs(6);
        assert_eq!(left(taken, progress(3, 9)), Some(Duration::from_secs(12)));
        assert_eq!(left(taken, progress(9, 9)), Some(Duration::ZERO));
        assert_eq!(left(taken, progress(0, 9)), None, "nothing came yet");
        assert_eq!(left(taken, progress(9, 0)), None, "nobody knows how many");
    }

    #[test]
    fn phases_of_fetching_are_summed_and_readiness_ends_it() {
        let mut times = Times::begin();
        times.enter(&Phase::Fetching);
        let pause = Duration::from_millis(3);
        std::thread::sleep(pause);
        assert!(times.so_far(Progress::default()).fetching >= pause);
        times.enter(&Phase::Loading);
        let fetched = times.so_far(Progress::default()).fetching;
        assert!(fetched >= pause);
        std::thread::sleep(pause);
        assert_eq!(times.so_far(Progress::default()).fetching, fetched);
        times.enter(&Phase::Ready);
        let total = times.so_far(Progress::default());
        std::thread::sleep(pause);
        assert_eq!(times.so_far(Progress { done: 1, total: 2 }), total);
        assert!(total.total >= 2 * pause && total.left.is_none());
    }
}
