//! What SageMaker has to be asked for. Its limits: download and start-up may take from 60 to 3600
//! seconds, an answer 60 seconds, a stream 8 minutes.

use crate::report::{SpeedPart, TimeoutPart};

/// What the limits allow.
const LEAST: u64 = 60;
const MOST: u64 = 3600;

/// An answer to InvokeEndpoint must end within so many seconds.
const INVOCATION: u64 = 60;

/// What fetching or reading weights is assumed to get, in bytes per second: little, so that the
/// timeouts hold on small instances too.
const SLOW: u64 = 100_000_000;

/// What is proposed for `bytes` of weights; `fetched_by_us`: the container fetches them itself.
pub(crate) fn propose(bytes: u64, fetched_by_us: bool, speed: &SpeedPart) -> TimeoutPart {
    let reading = bytes.div_ceil(SLOW);
    let starting = if fetched_by_us { 2 * reading } else { reading };
    let within = |rate: f64| (rate * INVOCATION as f64) as u64;
    TimeoutPart {
        model_data_download: (!fetched_by_us).then(|| rounded(2 * reading)),
        container_startup_health_check: rounded(2 * starting + LEAST),
        invocation: INVOCATION,
        tokens_within_invocation: within(speed.one_sequence),
        tokens_within_invocation_all: within(speed.all_sequences / speed.sequences.max(1) as f64),
    }
}

/// Whole minutes within the limits.
fn rounded(seconds: u64) -> u64 {
    seconds.next_multiple_of(60).clamp(LEAST, MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_grow_with_the_weights_within_the_limits() {
        let speed = SpeedPart {
            bytes_per_token: 1,
            one_sequence: 10.0,
            sequences: 4,
            all_sequences: 20.0,
            all_sequences_full_cache: 18.0,
        };
        // 16 GB: 160 s to read.
        let llama = propose(16_000_000_000, false, &speed);
        assert_eq!(llama.model_data_download, Some(360));
        assert_eq!(llama.container_startup_health_check, 420);
        assert_eq!(llama.tokens_within_invocation, 600);
        assert_eq!(llama.tokens_within_invocation_all, 300);
        let fetched = propose(16_000_000_000, true, &speed);
        assert_eq!(fetched.model_data_download, None);
        assert_eq!(fetched.container_startup_health_check, 720);
        let huge = propose(1 << 42, false, &speed);
        assert_eq!(huge.model_data_download, Some(3600));
        assert_eq!(propose(1, false, &speed).model_data_download, Some(60));
    }
}
