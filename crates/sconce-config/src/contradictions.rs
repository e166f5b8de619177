//! Options that exclude each other, each valid alone.

use crate::error::ConfigError;
use crate::gather::Setting;
use crate::options::quantize;
use crate::settings::Quantize;
use crate::settle::Settled;
use crate::value::flag;

/// All contradictions among the settings that count.
pub(crate) fn contradictions(settled: &[Settled<'_>]) -> Vec<ConfigError> {
    let all = Settings(settled);
    let pairs = [
        all.two_precisions(),
        all.eight_bits_without_accelerate(),
        all.streams_of_fixed_batches(),
        all.fewer_workers_at_most(),
    ];
    pairs.into_iter().flatten().map(Pair::error).collect()
}

/// Those that matter where the user's own code answers.
pub(crate) fn of_workers(settled: &[Settled<'_>]) -> Option<ConfigError> {
    Settings(settled).fewer_workers_at_most().map(Pair::error)
}

/// What is probably not meant, as sentences.
pub(crate) fn warnings(settled: &[Settled<'_>]) -> Vec<String> {
    let all = Settings(settled);
    let fixed = all.number("batch_size").filter(|(_, size)| *size > 1);
    let rolling = all.get("option.rolling_batch");
    let rolling = rolling.filter(|setting| setting.value != "disable");
    let both = fixed.zip(rolling).map(|((fixed, _), rolling)| {
        format!(
            "{} asks for fixed batches, {} for a rolling one; requests always join the running \
             batch one by one",
            fixed.written(),
            rolling.written()
        )
    });
    both.into_iter().collect()
}

struct Settings<'a>(&'a [Settled<'a>]);

struct Pair<'a> {
    first: &'a Setting,
    second: &'a Setting,
    reason: &'static str,
}

impl Pair<'_> {
    fn error(self) -> ConfigError {
        ConfigError::Contradiction {
            first: self.first.written(),
            second: self.second.written(),
            reason: self.reason,
        }
    }
}

impl<'a> Settings<'a> {
    fn get(&self, key: &str) -> Option<&'a Setting> {
        let mut settings = self.0.iter().map(|settled| settled.setting);
        settings.find(|setting| setting.entry.key == key)
    }

    fn on(&self, key: &str) -> Option<&'a Setting> {
        self.get(key)
            .filter(|setting| flag(&setting.value) == Ok(true))
    }

    fn number(&self, key: &str) -> Option<(&'a Setting, i64)> {
        let setting = self.get(key)?;
        Some((setting, setting.value.parse().ok()?))
    }

    /// Bits by an old name, and others by another or by `option.quantize`.
    fn two_precisions(&self) -> Option<Pair<'a>> {
        let bits = |key, value: &str, bits| {
            let setting = self.get(key)?;
            let meant = match value {
                "" => flag(&setting.value) == Ok(true),
                value => setting.value == value,
            };
            meant.then_some((setting, bits))
        };
        let old = [
            bits("option.dtype", "int8", Quantize::Q8Row),
            bits("option.dtype", "int4", Quantize::Int4),
            bits("option.load_in_8bit", "", Quantize::Q8Row),
            bits("option.load_in_4bit", "", Quantize::Int4),
        ];
        let new = self.get("option.quantize");
        let new = new.and_then(|setting| Some((setting, quantize(&setting.value).ok()?)));
        let mut all = new.into_iter().chain(old.into_iter().flatten());
        let (second, meant) = all.next()?;
        let (first, _) = all.find(|(_, bits)| *bits != meant)?;
        Some(Pair {
            first,
            second,
            reason: match new {
                Some(_) => "weights have one precision; keep option.quantize",
                None => "weights have one precision; keep one of them",
            },
        })
    }

    /// bitsandbytes is Accelerate's, whose handler is that of the engine Python.
    fn eight_bits_without_accelerate(&self) -> Option<Pair<'a>> {
        let engine = self.get("engine")?;
        let (second, reason) = match engine.value.as_str() {
            "FasterTransformer" => {
                let dtype = self.get("option.dtype");
                let int8 = dtype.filter(|setting| setting.value == "int8");
                let reason = "FasterTransformer has weights in 32 and 16 bits only; remove it";
                (int8.or_else(|| self.on("option.load_in_8bit"))?, reason)
            }
            "DeepSpeed" => {
                let reason = "DeepSpeed has 8 bits only as option.quantize=smoothquant or \
                              dynamic_int8; set engine=Python or remove it";
                (self.on("option.load_in_8bit")?, reason)
            }
            _ => return None,
        };
        let first = engine;
        Some(Pair {
            first,
            second,
            reason,
        })
    }

    /// DJL Serving's handler does not start with both either.
    fn streams_of_fixed_batches(&self) -> Option<Pair<'a>> {
        let disabled = self.get("option.rolling_batch")?.value == "disable";
        let (first, size) = self.number("batch_size")?;
        let streaming = self.get("option.enable_streaming")?;
        let streams = flag(&streaming.value) != Ok(false);
        (disabled && size > 1 && streams).then_some(Pair {
            first,
            second: streaming,
            reason: "answers of a fixed batch cannot be streamed; set batch_size=1",
        })
    }

    fn fewer_workers_at_most(&self) -> Option<Pair<'a>> {
        let (first, least) = self.number("minWorkers")?;
        let (second, most) = self.number("maxWorkers")?;
        (most < least).then_some(Pair {
            first,
            second,
            reason: "the greatest number is smaller than the least",
        })
    }
}
