//! From the settings of a model to the wire dialect that it speaks.

use sconce_config::{Dialect as Configured, ModelSettings, OutputFormatter};
use sconce_http::{Dialect, Formatter, Wire};

/// The dialect of the settings and their choices within it.
pub(crate) fn wire(model: &ModelSettings) -> Wire {
    Wire {
        dialect: dialect(model.dialect),
        formatter: model.output_formatter.map(formatter),
        streaming: model.streaming,
        stop_sequences: model.stop_sequences.clone(),
    }
}

fn dialect(configured: Configured) -> Dialect {
    match configured {
        Configured::DeepSpeed => Dialect::DeepSpeed,
        Configured::FasterTransformer => Dialect::FasterTransformer,
        Configured::HuggingFace => Dialect::HuggingFace,
        Configured::Rolling2023 => Dialect::Rolling2023,
        Configured::Rolling => Dialect::Rolling,
        Configured::RollingTgi => Dialect::RollingTgi,
        Configured::Async => Dialect::Async,
        Configured::Tgi => Dialect::Tgi,
    }
}

fn formatter(configured: OutputFormatter) -> Formatter {
    match configured {
        OutputFormatter::Json => Formatter::Json,
        OutputFormatter::JsonLines => Formatter::JsonLines,
        OutputFormatter::ServerSentEvents => Formatter::Sse,
    }
}
