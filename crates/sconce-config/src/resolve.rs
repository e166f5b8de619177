//! From everything that was found to settings, in two passes: the server first, because it says
//! where the model is, then the model, whose own file has a say.

use std::path::PathBuf;

use crate::access;
use crate::bucket::{self, BucketAccess, BucketFolder};
use crate::contradictions;
use crate::dialect;
use crate::draft::Draft;
use crate::entry::{self, Scope};
use crate::environment::{CommandLine, Environment};
use crate::error::{ConfigError, ConfigErrors, Written};
use crate::gather::{Gathered, Setting, Strength, Unknown};
use crate::handler::Handler;
use crate::location;
use crate::outside::{Outside, Unreached};
use crate::provenance::{Origin, Provenance};
use crate::python;
use crate::script::{self, Role};
use crate::settings::{
    Management, ModelSettings, ModelSource, PrefixSettings, S3Model, ServerSettings,
};
use crate::settle::{Settled, apply_all, defaults, settle};
use crate::startup::{self, Place, Startup};
use crate::value::Address;

/// A configuration without problems.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The server's settings.
    pub server: ServerSettings,
    /// The model's settings.
    pub model: ModelSettings,
    /// What is probably not meant, as sentences.
    pub warnings: Vec<String>,
    /// Everything that somebody set, with its place; the model's own place first.
    pub origins: Vec<Origin>,
    /// Everything else that has an effect, with its default.
    pub defaults: Vec<Origin>,
}

/// Reads every place on this machine where options are set and makes settings of them, or lists
/// all problems. A model in S3 may have more of them: [`resolve_with`] reads those too.
pub fn resolve(line: &CommandLine, environment: &Environment) -> Result<Resolved, ConfigErrors> {
    resolve_with(line, environment, &Unreached)
}

/// The same; `outside` is asked for what is no directory of this machine.
pub fn resolve_with(
    line: &CommandLine,
    environment: &Environment,
    outside: &dyn Outside,
) -> Result<Resolved, ConfigErrors> {
    let ground = Ground::of(line, environment);
    let of_server = ground.warnings();
    let mut resolved = ground.resolve(None, outside)?;
    resolved.warnings.extend(of_server);
    Ok(resolved)
}

/// What is known before a model is: all that the command line, the environment and
/// `config.properties` say, with the server's part of it settled.
#[derive(Clone)]
pub(crate) struct Ground {
    line: CommandLine,
    environment: Environment,
    pub(crate) gathered: Gathered,
    pub(crate) draft: Draft,
    wrong: Wrong,
}

impl Ground {
    /// Reads it.
    pub(crate) fn of(line: &CommandLine, environment: &Environment) -> Self {
        let mut gathered = Gathered::default();
        gathered.command_line(line);
        gathered.environment(environment);
        gathered.server_file(line, environment);
        let mut draft = Draft::new();
        draft.hub_cache = hub_cache(environment);
        draft.bucket_access = BucketAccess::of(environment);
        let of_server = |scope: Scope| !scope.in_model_file();
        let mut wrong = Wrong(apply_all(
            &mut draft,
            &settle(&gathered.settings),
            of_server,
        ));
        wrong.0.extend(management(&gathered.settings, &mut draft));
        wrong
            .0
            .extend(access::decide(&gathered.settings, &mut draft));
        Self {
            line: line.clone(),
            environment: environment.clone(),
            gathered,
            draft,
            wrong,
        }
    }

    /// What is probably not meant, whatever the models are.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let of_server = |unknown: &&Unknown| !unknown.of_model && self.draft.lenient;
        let unknown = self.gathered.unknown.iter().filter(of_server);
        let unknown = unknown.map(|unknown| unknown.error.to_string());
        self.gathered
            .doubtful
            .iter()
            .cloned()
            .chain(unknown)
            .collect()
    }

    /// The models that a start is about.
    pub(crate) fn startups(&self) -> Result<Vec<Startup>, ConfigError> {
        startup::choose(&self.line, &self.draft, &self.gathered.settings)
    }

    /// What is wrong with the server, where it begins without a model.
    pub(crate) fn refused(self) -> Result<(), ConfigErrors> {
        let mut problems = self.gathered.problems;
        problems.extend(self.wrong.0.into_iter().map(|(_, problem)| problem));
        let of_server = |unknown: &Unknown| !unknown.of_model && !self.draft.lenient;
        let unknown = self.gathered.unknown.into_iter().filter(of_server);
        problems.extend(unknown.map(|unknown| unknown.error));
        match problems.is_empty() {
            true => Ok(()),
            false => Err(ConfigErrors { problems }),
        }
    }

    /// The settings of one model; `None`: of the only one that the start is about.
    pub(crate) fn resolve(
        self,
        startup: Option<Startup>,
        outside: &dyn Outside,
    ) -> Result<Resolved, ConfigErrors> {
        let Self {
            line,
            environment,
            mut gathered,
            mut draft,
            mut wrong,
        } = self;
        let chosen = startup.map_or_else(
            || startup::choose_one(&line, &draft, &gathered.settings),
            Ok,
        );
        let startup = chosen
            .and_then(|startup| startup.unpacked(&draft, outside))
            .map_err(|problem| wrong.unless_caused(OF_STARTUP, problem))
            .ok();
        let folder = startup
            .as_ref()
            .and_then(|startup| outside.folder(&startup.bucket_model(&draft)?));
        if let Some(startup) = &startup {
            gathered.registration(startup, &line, folder.as_ref());
        }
        let settled = settle(&gathered.settings);
        wrong
            .0
            .extend(apply_all(&mut draft, &settled, Scope::in_model_file));
        let mut origins: Vec<_> = startup.iter().map(Startup::origin).collect();
        origins.push(decide_dialect(&mut draft, &settled));
        origins.extend(settled.iter().map(|settled| settled.origin()));
        let defaults = defaults(&settled);
        let mut warnings = startup::unused(&line, &gathered.settings);
        warnings.extend(contradictions::warnings(&settled));
        if let Some(startup) = startup {
            warnings.extend(idle_script(&startup, folder.as_ref(), &gathered, &draft));
            let found = Found {
                gathered: &gathered,
                settled: &settled,
                environment: &environment,
            };
            locate(startup, folder.as_ref(), &found, &mut draft, &mut wrong);
        }
        let mut problems = gathered.problems;
        problems.extend(wrong.0.into_iter().map(|(_, problem)| problem));
        if draft.model.python.is_none() {
            problems.extend(contradictions::contradictions(&settled));
        } else {
            problems.extend(contradictions::of_workers(&settled));
        }
        let (of_model, of_server) = judge_unknown(gathered.unknown, &draft);
        if draft.lenient {
            // Those of the server are told once, whatever the models are.
            warnings.extend(of_model.into_iter().map(|error| error.to_string()));
        } else {
            problems.extend(of_server.into_iter().chain(of_model));
        }
        if !problems.is_empty() {
            return Err(ConfigErrors { problems });
        }
        Ok(Resolved {
            server: draft.server,
            model: draft.model,
            warnings,
            origins,
            defaults,
        })
    }
}

/// An address for the management alone: there is one port, and one of this machine says who may manage there.
fn management(settings: &[Setting], draft: &mut Draft) -> Option<(&'static str, ConfigError)> {
    let Address {
        host,
        port,
        is_https,
    } = draft.management_address.clone()?;
    let ip: Result<std::net::IpAddr, _> = host.parse();
    let is_local = host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback());
    if is_local && draft.server.management == Management::Auto {
        draft.server.management = Management::Loopback;
    }
    let is_other_port = port != draft.server.port && port != 8080;
    if !is_other_port && is_https == draft.tls.is_wanted {
        return None;
    }
    let problem = "must have scheme and port of inference_address: there is one port, and \
                   SCONCE_MANAGEMENT says who may manage models there";
    let mut found = settings.iter();
    let setting = found.find(|setting| setting.entry.key == "management_address")?;
    let error = ConfigError::Invalid {
        written: setting.written(),
        problem: problem.into(),
        default: "",
    };
    Some(("management_address", error))
}

/// Keys that say which models there are.
const OF_STARTUP: &[&str] = &["HF_MODEL_ID", "load_models", "model_store"];

/// The unknown names that matter, of the model and of the server: those of the model are its own code's, if it has any.
fn judge_unknown(unknown: Vec<Unknown>, draft: &Draft) -> (Vec<ConfigError>, Vec<ConfigError>) {
    let (of_model, of_server): (Vec<_>, Vec<_>) =
        unknown.into_iter().partition(|unknown| unknown.of_model);
    let errors = |unknown: Vec<Unknown>| unknown.into_iter().map(|unknown| unknown.error).collect();
    let of_model = if draft.has_own_code() {
        vec![]
    } else {
        of_model
    };
    (errors(of_model), errors(of_server))
}

/// Sets the dialect and what follows from it; says why for the log.
fn decide_dialect(draft: &mut Draft, settled: &[Settled<'_>]) -> Origin {
    let choice = draft.facts.choose();
    draft.model.dialect = choice.dialect;
    let by_dialect = !dialect::is_greedy(choice.dialect);
    draft.model.model_sampling = draft.generation_config.unwrap_or(by_dialect);
    let of_key = |key| settled.iter().find(|s| s.setting.entry.key == key);
    let decisive = choice.key.and_then(of_key);
    Origin {
        key: "dialect".into(),
        value: choice.dialect.name().into(),
        from: decisive.map_or(Provenance::Default, |s| s.setting.from.clone()),
        note: Some(format!("because {}", choice.because)),
    }
}

/// A script beside a model that is served without it.
fn idle_script(
    startup: &Startup,
    folder: Option<&BucketFolder>,
    gathered: &Gathered,
    draft: &Draft,
) -> Option<String> {
    let is_idle = |file: &PathBuf| script::role(file, gathered, draft) == Role::Nothing;
    if draft.facts.handler == Some(Handler::Predictive) {
        // It looks for functions of its own names.
        return None;
    }
    let is_native = |handler: Handler| handler != Handler::OwnCode;
    let names_native = draft.facts.handler.is_some_and(is_native);
    let (script, why) = match &startup.place {
        Place::HubModel(_) => return None,
        Place::Bucket(_) if !names_native => return None,
        Place::Bucket(url) => (
            bucket::script(url, folder?)?,
            "functions for requests or answers are taken from a directory of this machine only",
        ),
        Place::Directory(dir) => (
            location::script(dir).filter(is_idle)?,
            "it has no functions for requests (@input_formatter) or answers (@output_formatter)",
        ),
    };
    let instead = match names_native {
        true => {
            "option.entryPoint names a handler of DJL Serving, whose work the native engine does"
        }
        false => {
            "it has no function that option.handler names, and the native engine serves the \
                  checkpoint beside it"
        }
    };
    Some(format!(
        "{} is not run: {instead}, and {why}",
        script.display()
    ))
}

/// The cache of `huggingface_hub` where no option names another.
fn hub_cache(environment: &Environment) -> Option<PathBuf> {
    let home = environment.get("HOME")?;
    Some(PathBuf::from(home).join(".cache/huggingface/hub"))
}

/// Problems, with the keys that have them.
#[derive(Clone)]
struct Wrong(Vec<(&'static str, ConfigError)>);

impl Wrong {
    /// Adds a problem, unless it only follows from that of one of these keys.
    fn unless_caused(&mut self, by: &[&str], problem: ConfigError) {
        if !self.0.iter().any(|(key, _)| by.contains(key)) {
            self.0.push(("", problem));
        }
    }
}

/// What was found and what of it counts.
struct Found<'a> {
    gathered: &'a Gathered,
    settled: &'a [Settled<'a>],
    environment: &'a Environment,
}

/// Sets name and source of the model.
fn locate(
    startup: Startup,
    folder: Option<&BucketFolder>,
    found: &Found<'_>,
    draft: &mut Draft,
    wrong: &mut Wrong,
) {
    let problem = choose_code(&startup, folder, found, draft);
    let has_code = problem.is_some() || draft.model.python.is_some();
    let located = match &startup.place {
        Place::HubModel(id) => {
            let key = match startup.from {
                Provenance::CommandLine => "the command line's model",
                _ => "HF_MODEL_ID",
            };
            location::of_hub_model(id, key, draft)
        }
        Place::Directory(dir) => location::of_directory(dir, startup.file.as_deref(), draft),
        Place::Bucket(url) => {
            let settings = folder.map_or(PrefixSettings::Unread, |folder| {
                let file = folder.properties.as_ref();
                PrefixSettings::Read(file.map(|file| file.etag.clone()))
            });
            location::of_bucket(url, settings, draft)
        }
    };
    match located {
        Ok(located) => {
            let file = one_file(&startup, located.gguf_file, found.settled, draft);
            draft.model.gguf_file = file.unwrap_or_else(|problem| {
                wrong.unless_caused(&["option.gguf_file"], problem);
                None
            });
            draft.model.source = located.source;
            draft.model.lora.own = located.adapter;
            if let Place::Directory(dir) = &startup.place {
                // Beside serving.properties, wherever option.model_id says that the weights are.
                let beside = dir.join(&draft.model.lora.dir);
                if beside.is_dir() {
                    draft.model.lora.dir = beside;
                }
            }
            if let (Some(python), ModelSource::S3(model)) =
                (&draft.model.python, &mut draft.model.source)
            {
                model.all = python.is_fetched;
            }
        }
        // Own code may do without a checkpoint, and fetch one by itself.
        Err(_) if has_code => {}
        Err(problem) => wrong.unless_caused(&["option.model_id", "option.entryPoint"], problem),
    }
    if let Some(problem) = problem {
        draft.facts.handler = Some(Handler::OwnCode);
        wrong.0.push(("option.entryPoint", problem));
    } else if draft.model.formatters.is_some() {
        // The dialect's own form is that of requests which name one.
        let is_function = |problem: &ConfigError| matches!(problem, ConfigError::Invalid { .. });
        let is_named = script::output_function(found.gathered).is_some();
        wrong.0.retain(|(key, problem)| {
            !(*key == "option.output_formatter" && is_named && is_function(problem))
        });
    } else if draft.model.python.is_some() {
        // What the native engine would refuse is the handler's to judge.
        wrong.0.retain(|(key, _)| python::reads(key));
    }
    draft.model.url = startup.url();
    draft.model.name = startup.name;
    draft.model.version = startup.version;
}

/// Decides whether code of the user's answers, or changes what is answered; what is wrong with it.
fn choose_code(
    startup: &Startup,
    folder: Option<&BucketFolder>,
    found: &Found<'_>,
    draft: &mut Draft,
) -> Option<ConfigError> {
    let code = match &startup.place {
        // A script that happens to lie beside a file that is named as the model is not its own.
        Place::Directory(_) if startup.file.is_some() && draft.facts.handler.is_none() => Ok(None),
        Place::Directory(dir) => location::own_code(dir, draft),
        Place::HubModel(_) | Place::Bucket(_)
            if draft.has_own_code() || draft.facts.handler == Some(Handler::Predictive) =>
        {
            Ok(draft.entry_point.clone().map(Into::into))
        }
        Place::Bucket(url) if draft.facts.handler.is_none() => {
            let script = folder.and_then(|folder| bucket::script(url, folder));
            let is_clear = folder.is_some_and(|folder| !folder.has("config.json"));
            let name = |script: PathBuf| PathBuf::from(script.file_name().unwrap_or_default());
            Ok(if is_clear { script.map(name) } else { script })
        }
        Place::HubModel(_) | Place::Bucket(_) => Ok(None),
    };
    code.transpose()
        .and_then(|code| match (code, &startup.place) {
            (Ok(file), Place::Directory(_))
                if script::role(&file, found.gathered, draft) == Role::Nothing =>
            {
                None
            }
            (Ok(file), Place::Directory(dir)) => {
                python::choose(&file, dir, found.gathered, found.environment, draft).err()
            }
            (Ok(file), Place::HubModel(_)) => Some(ConfigError::OwnCode {
                file,
                why:
                    "code of the hub is not run; put it into a directory of this machine, or below \
                      a prefix of S3, with option.model_id in its serving.properties"
                        .into(),
            }),
            (Ok(file), Place::Bucket(_)) if file.starts_with("s3:") => Some(ConfigError::OwnCode {
                file,
                why:
                    "whether it answers, or changes what the checkpoint beside it answers, cannot \
                      be told before it is fetched; set option.entryPoint to its name to have it \
                      answer, or put both into a directory of this machine"
                        .into(),
            }),
            (Ok(file), Place::Bucket(_)) => {
                let (gathered, environment) = (found.gathered, found.environment);
                python::choose_in_bucket(&file, gathered, environment, draft).err()
            }
            (Err(problem), _) => Some(problem),
        })
}

/// The GGUF file of the model: the one that is named as the model, or by its own option.
fn one_file(
    startup: &Startup,
    located: Option<String>,
    settled: &[Settled<'_>],
    draft: &Draft,
) -> Result<Option<String>, ConfigError> {
    let named = draft.model.gguf_file.clone();
    let (Some(model), Some(option)) = (&located, &named) else {
        return Ok(located.or(named));
    };
    if model == option {
        return Ok(located);
    }
    let by = |key| settled.iter().find(|found| found.setting.entry.key == key);
    let is_startup = startup.file.is_some() || matches!(startup.place, Place::HubModel(_));
    let id = by("option.model_id").filter(|_| !is_startup);
    let startup = || {
        Box::new(Written {
            key: "model".into(),
            value: startup.what(),
            from: startup.from.clone(),
        })
    };
    let second = by("option.gguf_file").map(|found| found.setting.written());
    Err(ConfigError::Contradiction {
        first: id.map_or_else(startup, |found| found.setting.written()),
        second: second.expect("the option is set"),
        reason: "each names another GGUF file; remove option.gguf_file, or name the folder as the \
                 model",
    })
}

impl Gathered {
    /// Adds what the model's own file says, and what `load_models` says of it.
    fn registration(
        &mut self,
        startup: &Startup,
        line: &CommandLine,
        folder: Option<&BucketFolder>,
    ) {
        if let Place::HubModel(_) = startup.place {
            self.generated_file();
        }
        match (&line.properties, &startup.place) {
            (Some(file), _) => self.model_properties(file.clone()),
            (None, Place::Directory(dir)) => self.model_file(dir),
            (None, Place::HubModel(_)) => {}
            (None, Place::Bucket(url)) => {
                let file = folder.and_then(|folder| folder.properties.as_ref());
                if let Some(file) = file {
                    self.model_text(bucket::inside(url, "serving.properties"), &file.bytes);
                }
            }
        }
        let key = |(key, value): &(&'static str, String)| Setting {
            entry: entry::of_key(key).expect("the table has the keys of a registration"),
            spelling: (*key).into(),
            value: value.clone(),
            from: startup.from.clone(),
            strength: Strength::CommandLine,
        };
        self.settings.extend(startup.keys.iter().map(key));
    }
}

impl Startup {
    /// The bucket that is the model, if it is one and its URL can be read.
    fn bucket_model(&self, draft: &Draft) -> Option<S3Model> {
        match &self.place {
            Place::Bucket(url) => bucket::model(url, PrefixSettings::Unread, draft).ok(),
            Place::Directory(_) | Place::HubModel(_) => None,
        }
    }

    fn origin(&self) -> Origin {
        let note = Some(format!("named {}", self.label()));
        Origin {
            key: "model".into(),
            value: self.what(),
            from: self.from.clone(),
            note,
        }
    }
}
