//! From resolved settings to the report: reads the headers, gathers what is wrong, plans.

use sconce_config::{HubModel, ModelSettings, ModelSource, Resolved};
use sconce_engine::{Description, EngineSettings, GpuInfo, TaskMemory, TaskOverview};
use sconce_manager::{DiffusionError, DiffusionOverview, Inspection};

use crate::device::Target;
use crate::plan::{self, Planned};
use crate::python;
use crate::report::{EncoderPart, Exit, ModelPart, OptionPart, PicturePart, Reason, Report};
use crate::speed;
use crate::timeouts;

/// The report on a configuration without problems of its own.
pub(crate) fn report(resolved: &Resolved, target: &Target) -> Report {
    let mut report = Report::new();
    report.options = resolved.origins.iter().map(OptionPart::from).collect();
    report.defaults = resolved.defaults.iter().map(OptionPart::from).collect();
    let warning = |message: &String| Reason {
        code: "configuration",
        message: message.clone(),
    };
    report.warnings = resolved.warnings.iter().map(warning).collect();
    let mut model = named(&resolved.model);
    if let Some(python) = &resolved.model.python {
        let reason = python::describe(&resolved.model, python, &mut model);
        report.warnings.push(reason);
        report.model = Some(model);
        return report.conclude(Exit::WillNotRun);
    }
    let mut found = None;
    if let Target::Machine { .. } = target {
        match sconce_manager::at_hand(&resolved.model) {
            Ok(groups) if groups.is_empty() => {}
            Ok(groups) => {
                found = Target::of_groups(&groups);
                if found.is_none() {
                    report.warnings.push(unknown(&groups[0][0]));
                }
            }
            Err(error) => report.reasons.push(Reason {
                code: error.code(),
                message: error.to_string(),
            }),
        }
    }
    let target = found.as_ref().unwrap_or(target);
    if let (Target::Gpus { .. }, Some(error)) =
        (target, sconce_manager::of_the_processor(&resolved.model))
    {
        report.reasons.push(Reason {
            code: error.code(),
            message: error.to_string(),
        });
    }
    if let Some(python) = &resolved.model.formatters {
        let reason = python::beside(&resolved.model, python);
        report.warnings.push(reason);
    }
    match Inspection::of(&resolved.model) {
        Ok(inspection) => examine(&mut report, &mut model, &resolved.model, inspection, target),
        Err(error) => report.reasons.push(Reason {
            code: error.code(),
            message: error.to_string(),
        }),
    }
    report.model = Some(model);
    report.conclude(Exit::WillNotRun)
}

fn examine(
    report: &mut Report,
    model: &mut ModelPart,
    settings: &ModelSettings,
    inspection: Inspection,
    target: &Target,
) {
    model.task = inspection.task.ok();
    if let Err(error) = inspection.served {
        report.reasons.push(Reason {
            code: error.code(),
            message: error.to_string(),
        });
        return;
    }
    if let Some(overview) = inspection.diffusion {
        examine_diffusion(report, model, settings, overview, target);
        return;
    }
    if let Some(overview) = inspection.overview {
        match overview {
            Ok(overview) => examine_task(report, model, settings, &overview, target),
            Err(error) => report.reasons.push(Reason {
                code: error.code(),
                message: error.to_string(),
            }),
        }
        return;
    }
    let description = &inspection.description;
    describe(model, description);
    let problems = description.problems().into_iter().map(Reason::from);
    report.reasons.extend(problems);
    let vocabulary = description.check_vocabulary().err();
    report.reasons.extend(vocabulary.as_ref().map(Reason::from));
    let untold = description.check_dialogues(inspection.settings.task).err();
    report.reasons.extend(untold.as_ref().map(Reason::from));
    let template = inspection.template.as_ref();
    report.reasons.extend(template.map(Reason::from));
    let doubtful = description.template_problem();
    report.warnings.extend(doubtful.map(|message| Reason {
        code: "chat-template",
        message,
    }));
    let thousandths = settings.gpu_memory_thousandths;
    let engine = for_target(inspection.settings, description, target, settings);
    model.dtype = kept(&engine, description);
    let threads = engine.threads.unwrap_or_else(sconce_engine::threads);
    let device = target.describe(threads);
    if let Some(Planned {
        needs,
        plan,
        part,
        mut reasons,
        mut warnings,
    }) = plan::of(description, &engine, target, (threads, thousandths))
    {
        report.reasons.append(&mut reasons);
        report.warnings.append(&mut warnings);
        if let (Some(needs), Some(plan)) = (&needs, &plan) {
            let speed = speed::bounds(description, needs, plan, &device);
            let bytes = description.stored().map_or(0, |stored| stored.bytes);
            let elsewhere = !matches!(settings.source, ModelSource::Directory(_));
            let timeouts = timeouts::propose(bytes, elsewhere, &speed);
            report
                .warnings
                .extend(plan::warn_of_time(settings, plan.max_len, &timeouts));
            report.timeouts = Some(timeouts);
            report.speed = Some(speed);
        }
        report.plan = part;
    }
    report.device = Some(device);
}

fn unknown(gpu: &GpuInfo) -> Reason {
    Reason {
        code: "unknown-gpu",
        message: format!(
            "a start would compute on {}, of which nothing is known here: what is planned is for the processor; name one \
             like it with --gpu",
            gpu.name
        ),
    }
}

/// A pipeline of pictures: weights and as many pictures as fit beside them.
fn examine_diffusion(
    report: &mut Report,
    model: &mut ModelPart,
    settings: &ModelSettings,
    overview: Result<DiffusionOverview, DiffusionError>,
    target: &Target,
) {
    let overview = match overview {
        Ok(overview) => overview,
        Err(error) => {
            report.reasons.push(Reason {
                code: error.code(),
                message: error.to_string(),
            });
            return;
        }
    };
    model.architecture = Some(overview.class);
    model.layers = Some(overview.blocks);
    model.parameters = Some(overview.parameters);
    model.stored_bytes = Some(overview.stored_bytes);
    report.pictures = Some(PicturePart {
        scheduler: overview.scheduler,
        height: overview.size[0],
        width: overview.size[1],
        images: overview.images,
        most_pixels: overview.most_pixels,
        safety_checker: overview.is_checked,
        weights_bytes: overview.weights_bytes,
        picture_bytes: overview.picture_bytes,
    });
    report.device = Some(target.describe(settings.threads.unwrap_or_else(sconce_engine::threads)));
}

/// A model of a task: one that reads and writes has a cache, of an encoder weights and the largest batch are all. How
/// fast it is depends on what is read.
fn examine_task(
    report: &mut Report,
    model: &mut ModelPart,
    settings: &ModelSettings,
    overview: &TaskOverview,
    target: &Target,
) {
    model.architecture = Some(overview.architecture);
    model.layers = Some(overview.layers);
    model.heads = Some(overview.heads);
    model.kv_heads = Some(overview.heads);
    model.context = Some(overview.context);
    model.parameters = Some(overview.parameters);
    model.stored_bytes = Some(overview.stored_bytes);
    let threads = settings.threads.unwrap_or_else(sconce_engine::threads);
    match overview.memory {
        TaskMemory::Cached(needs) => {
            let mut planned =
                plan::of_needs(&needs, target, (threads, settings.gpu_memory_thousandths));
            report.reasons.append(&mut planned.reasons);
            report.warnings.append(&mut planned.warnings);
            report.plan = planned.part;
        }
        TaskMemory::Batch {
            weights,
            activations,
        } => {
            let room = target.room(1, threads, 4, settings.gpu_memory_thousandths);
            let overhead = room.scratch + room.overhead;
            let reason = room.beside(1, weights, activations).err();
            report.reasons.extend(reason.as_ref().map(Reason::from));
            report.encoder = Some(EncoderPart {
                weights_bytes: weights,
                activations_bytes: activations,
                overhead_bytes: overhead,
                total_bytes: weights + activations + overhead,
                available_bytes: room.bytes,
                batch_tokens: settings.max_batch_tokens,
            });
        }
    }
    report.device = Some(target.describe(threads));
}

/// The engine's settings where the model would compute: a GPU keeps weights in one type.
fn for_target(
    mut settings: EngineSettings,
    description: &Description,
    target: &Target,
    of_model: &ModelSettings,
) -> EngineSettings {
    if let Target::Gpus { count, .. } = *target {
        if of_model.all_gpus {
            settings.ranks = count;
        }
        settings.gpus = target.shares(settings.ranks, of_model.gpu_memory_thousandths);
        settings.dtype = dtype(&settings, description).filter(|dtype| dtype.is_float());
    }
    settings
}

/// The type in which weights are kept.
fn dtype(
    settings: &EngineSettings,
    description: &Description,
) -> Option<sconce_engine::StoredDtype> {
    let stored = description.stored().map(|stored| stored.dtype);
    settings.dtype.or(stored)
}

/// What most weights are kept in, in one word: what is in blocks stays so, whatever the options say.
fn kept(settings: &EngineSettings, description: &Description) -> Option<&'static str> {
    let stored = description.stored().map(|stored| stored.dtype);
    match (
        stored.filter(|dtype| dtype.is_quantised()),
        settings.quantise,
    ) {
        (Some(blocks), _) => Some(blocks.name()),
        (None, Some(quantisation)) => Some(quantisation.name()),
        (None, None) => dtype(settings, description).map(|dtype| dtype.name()),
    }
}

fn named(settings: &ModelSettings) -> ModelPart {
    let source = match &settings.source {
        ModelSource::Directory(dir) => dir.display().to_string(),
        ModelSource::Hub(HubModel { id, endpoint, .. }) => format!("{id} of {endpoint}"),
        ModelSource::S3(model) => model.url(),
    };
    ModelPart {
        name: settings.name.clone(),
        source,
        task: None,
        dialect: settings.dialect.name(),
        engine: "native",
        architecture: None,
        layers: None,
        heads: None,
        kv_heads: None,
        context: None,
        parameters: None,
        stored_dtype: None,
        dtype: None,
        stored_bytes: None,
    }
}

fn describe(model: &mut ModelPart, description: &Description) {
    if let Some(overview) = description.overview() {
        model.architecture = Some(overview.architecture);
        model.layers = Some(overview.layers);
        model.heads = Some(overview.heads);
        model.kv_heads = Some(overview.kv_heads);
        model.context = Some(overview.context);
    }
    if let Some(stored) = description.stored() {
        model.parameters = Some(stored.parameters);
        model.stored_dtype = Some(stored.dtype.name());
        model.stored_bytes = Some(stored.bytes);
    }
}
