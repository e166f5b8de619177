//! The report for people: aligned columns, then sentences, the verdict last.

use std::fmt::{self, Write as _};

use crate::report::{
    Device, EncoderPart, Exit, ModelPart, OptionPart, PicturePart, PlanPart, Report, SpeedPart,
    TimeoutPart,
};

/// Width of the column of headings.
const HEADING: usize = 11;

/// Width of the column of quantities.
const QUANTITY: usize = 14;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut page = Page::default();
        if let Some(model) = &self.model {
            page.model(model);
        }
        page.options("options", &self.options);
        page.options("defaults", &self.defaults);
        if let Some(device) = &self.device {
            page.device(device);
        }
        if let Some(plan) = &self.plan {
            page.plan(plan);
        }
        if let Some(encoder) = &self.encoder {
            page.encoder(encoder);
        }
        if let Some(pictures) = &self.pictures {
            page.pictures(pictures);
        }
        if let Some(speed) = &self.speed {
            page.speed(speed);
        }
        if let Some(timeouts) = &self.timeouts {
            page.timeouts(timeouts);
        }
        for warning in &self.warnings {
            page.line(
                "warning",
                &format!("[{}] {}", warning.code, warning.message),
            );
        }
        for reason in &self.reasons {
            page.line("reason", &format!("[{}] {}", reason.code, reason.message));
        }
        page.line("verdict", verdict(self.verdict));
        f.write_str(&page.text)
    }
}

fn verdict(verdict: Exit) -> &'static str {
    match verdict {
        Exit::Fine => "nothing speaks against it",
        Exit::WrongConfiguration => "the configuration is wrong; it will not start",
        Exit::WillNotRun => "it will not run",
    }
}

#[derive(Default)]
struct Page {
    text: String,
    /// The last heading: it is not repeated.
    heading: String,
}

impl Page {
    fn line(&mut self, heading: &str, text: &str) {
        let shown = if heading == self.heading { "" } else { heading };
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{shown:<HEADING$}{text}");
        self.heading = heading.into();
    }

    fn model(&mut self, model: &ModelPart) {
        if model.engine == "python" {
            self.line("model", &format!("{}: Python mode", model.name));
            self.line("model", &model.source);
            return;
        }
        let task = model.task.as_deref().unwrap_or("unknown task");
        self.line(
            "model",
            &format!(
                "{}: {task}, dialect {}, {} engine",
                model.name, model.dialect, model.engine
            ),
        );
        self.line("model", &format!("from {}", model.source));
        if let (Some(name), Some(layers), Some(heads), Some(kv_heads), Some(context)) = (
            model.architecture,
            model.layers,
            model.heads,
            model.kv_heads,
            model.context,
        ) {
            self.line(
                "model",
                &format!(
                    "{name}: {layers} layers, {heads} heads, {kv_heads} for keys and values, \
                     context {context}"
                ),
            );
        }
        if let (Some(parameters), Some(stored), Some(dtype)) =
            (model.parameters, model.stored_dtype, model.dtype)
        {
            let kept = if stored == dtype {
                String::new()
            } else {
                format!(", kept as {dtype}")
            };
            self.line(
                "model",
                &format!("{} parameters in {stored}{kept}", count(parameters)),
            );
        }
    }

    fn options(&mut self, heading: &str, options: &[OptionPart]) {
        for option in options {
            let note = option.note.as_deref().map(|note| format!(", {note}"));
            // Nobody set the others.
            let from = if heading == "defaults" {
                String::new()
            } else {
                format!("  ({})", option.from)
            };
            self.line(
                heading,
                &format!(
                    "{} = {}{from}{}",
                    option.key,
                    option.value,
                    note.unwrap_or_default()
                ),
            );
        }
    }

    fn device(&mut self, device: &Device) {
        let count = if device.count == 1 {
            String::new()
        } else {
            format!("{} of ", device.count)
        };
        let threads = device.threads.map(|threads| format!("{threads} threads, "));
        let memory = device.memory_bytes.map_or("memory unknown".into(), size);
        let how = match (device.kind, device.measured) {
            (_, true) => " (measured now)",
            ("gpu", _) => " (data sheet)",
            _ => " (given)",
        };
        self.line(
            "device",
            &format!(
                "{count}{}: {}{memory}{}, {:.0} GB/s{how}",
                device.name,
                threads.unwrap_or_default(),
                if device.kind == "cpu" {
                    " available"
                } else {
                    " each"
                },
                device.bytes_per_second / 1e9
            ),
        );
    }

    fn plan(&mut self, plan: &PlanPart) {
        let rows = [
            ("weights", plan.weights_bytes),
            ("adapters", plan.adapters_bytes),
            ("small model", plan.draft_bytes),
            ("activations", plan.activations_bytes),
            ("workspace", plan.workspace_bytes),
            ("overhead", plan.overhead_bytes),
            ("cache", plan.cache_bytes),
            ("in all", plan.total_bytes),
        ];
        let ranks = match plan.ranks {
            1 => "one rank".into(),
            ranks => format!("each of {ranks} ranks"),
        };
        let room = plan.available_bytes.map(size);
        self.line(
            "memory",
            &format!(
                "of {ranks}{}",
                room.map_or(String::new(), |room| format!(", which has {room}"))
            ),
        );
        for (what, bytes) in rows {
            self.line("memory", &format!("{what:<QUANTITY$}{:>12}", size(bytes)));
        }
        self.line(
            "capacity",
            &format!(
                "{} tokens at {} bytes of keys and values each",
                count(plan.cache_tokens as u64),
                count(plan.kv_bytes_per_token)
            ),
        );
        self.line(
            "capacity",
            &format!(
                "{} sequences of {} tokens, or {} of {}",
                plan.full_sequences, plan.max_len, plan.max_sequences, plan.tokens_each
            ),
        );
    }

    fn encoder(&mut self, part: &EncoderPart) {
        let room = part.available_bytes.map(size);
        let room = room.map_or(String::new(), |room| format!(", which has {room}"));
        self.line("memory", &format!("of the machine{room}"));
        for (what, bytes) in [
            ("weights", part.weights_bytes),
            ("activations", part.activations_bytes),
            ("overhead", part.overhead_bytes),
            ("in all", part.total_bytes),
        ] {
            self.line("memory", &format!("{what:<QUANTITY$}{:>12}", size(bytes)));
        }
        let tokens = count(part.batch_tokens as u64);
        self.line(
            "capacity",
            &format!("{tokens} tokens of all texts in a batch"),
        );
    }

    fn pictures(&mut self, part: &PicturePart) {
        let looked_at = if part.safety_checker {
            "with"
        } else {
            "without"
        };
        let scheduler = format!("{}, {looked_at} a safety checker", part.scheduler);
        self.line("scheduler", &scheduler);
        for (what, bytes) in [
            ("weights", part.weights_bytes),
            ("a picture", part.picture_bytes),
        ] {
            self.line("memory", &format!("{what:<QUANTITY$}{:>12}", size(bytes)));
        }
        let most = part.most_pixels.map_or(String::new(), |most| {
            format!(", or one of {} pixels", count(most))
        });
        let (images, high, wide) = (part.images, part.height, part.width);
        self.line(
            "capacity",
            &format!("{images} pictures of {high} × {wide} pixels at a time{most}"),
        );
    }

    fn speed(&mut self, speed: &SpeedPart) {
        self.line(
            "speed",
            &format!(
                "at most {} tokens/s for one sequence: each reads {} of weights",
                rate(speed.one_sequence),
                size(speed.bytes_per_token)
            ),
        );
        self.line(
            "speed",
            &format!(
                "at most {} tokens/s for {} sequences together, {} with a full cache",
                rate(speed.all_sequences),
                speed.sequences,
                rate(speed.all_sequences_full_cache)
            ),
        );
    }

    fn timeouts(&mut self, timeouts: &TimeoutPart) {
        if let Some(download) = timeouts.model_data_download {
            self.line(
                "timeouts",
                &format!("model_data_download_timeout={download}"),
            );
        }
        self.line(
            "timeouts",
            &format!(
                "container_startup_health_check_timeout={}",
                timeouts.container_startup_health_check
            ),
        );
        self.line(
            "timeouts",
            &format!(
                "an answer has {} s: at most {} tokens for one sequence, {} for each of all",
                timeouts.invocation,
                count(timeouts.tokens_within_invocation),
                count(timeouts.tokens_within_invocation_all)
            ),
        );
    }
}

fn size(bytes: u64) -> String {
    let bytes = bytes as f64;
    for (unit, name) in [(1_u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
        if bytes >= unit as f64 {
            return format!("{:.2} {name}", bytes / unit as f64);
        }
    }
    format!("{bytes} B")
}

/// With commas between thousands.
fn count(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().collect();
    let text = |group: &&[u8]| String::from_utf8_lossy(group).into_owned();
    groups.iter().map(text).collect::<Vec<_>>().join(",")
}

/// Three digits that matter.
fn rate(rate: f64) -> String {
    match rate {
        rate if rate >= 100.0 => count(rate as u64),
        rate => format!("{rate:.1}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_readable() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1536), "1.50 KiB");
        assert_eq!(size(16_060_522_496), "14.96 GiB");
        assert_eq!(count(8_030_261_248), "8,030,261,248");
        assert_eq!(count(12), "12");
        assert_eq!(rate(37.44), "37.4");
        assert_eq!(rate(1234.5), "1,234");
    }
}
