//! The engine's plan for the target, and what to do where there is none.

use sconce_config::ModelSettings;
use sconce_engine::{
    BlockFormat, Description, EngineError, EngineSettings, Needs, Overview, Plan, Quantisation,
    StoredDtype,
};

use crate::device::Target;
use crate::gpus::GPUS;
use crate::report::{PlanPart, Reason, TimeoutPart};

/// A plan as far as it could be made.
#[derive(Default)]
pub(crate) struct Planned {
    pub(crate) needs: Option<Needs>,
    pub(crate) plan: Option<Plan>,
    pub(crate) part: Option<PlanPart>,
    pub(crate) reasons: Vec<Reason>,
    pub(crate) warnings: Vec<Reason>,
}

/// Plans what the settings ask for; `None`: the model's headers do not say enough.
pub(crate) fn of(
    description: &Description,
    settings: &EngineSettings,
    target: &Target,
    (threads, thousandths): (usize, u32),
) -> Option<Planned> {
    let overview = description.overview()?;
    let mut planned = Planned::default();
    planned.judge_ranks(&overview, settings, target, threads);
    planned.judge_dtype(settings, target);
    let planner = Planner {
        description,
        target,
        threads,
        thousandths,
    };
    match description.needs(settings)? {
        Err(error) => planned.reasons.push(Reason::from(&error)),
        Ok(needs) => {
            match planner.plan(&needs) {
                Ok(plan) => {
                    planned.warn_of_length(&needs, &plan);
                    planned.part = Some(part(&needs, &plan));
                    planned.plan = Some(plan);
                }
                Err(error) => {
                    let mut reason = Reason::from(&error);
                    let cures = planner.cures(&overview, settings, &needs);
                    if !cures.is_empty() {
                        reason.message += &format!("; it fits with {}", cures.join(", or with "));
                    }
                    planned.reasons.push(reason);
                }
            }
            planned.needs = Some(needs);
        }
    }
    Some(planned)
}

/// Plans for a model that reads and writes; numbers are as its engine keeps them.
pub(crate) fn of_needs(
    needs: &Needs,
    target: &Target,
    (threads, thousandths): (usize, u32),
) -> Planned {
    let mut planned = Planned::default();
    let number = needs.kv.dtype.bytes() as u64;
    match Plan::new(
        needs,
        &target.room(needs.ranks, threads, number, thousandths),
    ) {
        Ok(plan) => {
            planned.warn_of_length(needs, &plan);
            planned.part = Some(part(needs, &plan));
            planned.plan = Some(plan);
        }
        Err(error) => planned.reasons.push(Reason::from(&error)),
    }
    planned
}

impl Planned {
    fn warn_of_length(&mut self, needs: &Needs, plan: &Plan) {
        self.warnings
            .extend(plan.shortened(needs).map(|message| Reason {
                code: "context-shortened",
                message,
            }));
    }

    fn judge_ranks(
        &mut self,
        overview: &Overview,
        settings: &EngineSettings,
        target: &Target,
        threads: usize,
    ) {
        let ranks = settings.ranks;
        let key = "option.tensor_parallel_degree";
        match target.count() {
            Some(count) if ranks > count => {
                let fits = |world: &&usize| **world <= count;
                let possible = overview.possible_ranks.iter().filter(fits);
                let possible: Vec<_> = possible.map(usize::to_string).collect();
                self.reasons.push(Reason {
                    code: "tp-exceeds-devices",
                    message: format!(
                        "{key} = {ranks}, but there are {count} GPUs; set it to one of {}",
                        possible.join(", ")
                    ),
                });
            }
            Some(count) if !count.is_multiple_of(ranks) => {
                let fits = overview.possible_ranks.iter();
                let most = fits
                    .copied()
                    .filter(|&world| count.is_multiple_of(world))
                    .max();
                self.warnings.push(Reason {
                    code: "idle-devices",
                    message: format!(
                        "{key} = {ranks}: {} of {count} GPUs do nothing beside {}; the heads allow {}",
                        count % ranks,
                        match count / ranks {
                            1 => "one replica".into(),
                            some => format!("{some} replicas"),
                        },
                        most.unwrap_or(1)
                    ),
                });
            }
            None => {
                let warning = settings.warn_of_ranks(threads);
                self.warnings.extend(warning.map(|message| Reason {
                    code: "ranks-exceed-cores",
                    message,
                }));
            }
            _ => {}
        }
        if matches!(target, Target::Gpus { .. }) {
            self.warnings.push(Reason {
                code: "planning-only",
                message: "what is said of GPUs is a plan, from data sheets and estimated overheads"
                    .into(),
            });
        }
    }

    fn judge_dtype(&mut self, settings: &EngineSettings, target: &Target) {
        if let Target::Gpus { gpu, .. } = target
            && !gpu.bf16
            && settings.dtype == Some(StoredDtype::BF16)
        {
            self.reasons.push(Reason {
                code: "bf16-unsupported",
                message: format!(
                    "the weights are kept in bfloat16, in which {} does not compute; set \
                     option.dtype=fp16",
                    gpu.name
                ),
            });
        }
    }
}

/// Makes plans for one target.
struct Planner<'a> {
    description: &'a Description,
    target: &'a Target,
    threads: usize,
    thousandths: u32,
}

impl Planner<'_> {
    fn plan(&self, needs: &Needs) -> Result<Plan, EngineError> {
        let number = needs.kv.dtype.bytes() as u64;
        let room = self
            .target
            .room(needs.ranks, self.threads, number, self.thousandths);
        Plan::new(needs, &room)
    }

    fn fits(&self, settings: &EngineSettings) -> bool {
        let needs = self.description.needs(settings).and_then(Result::ok);
        needs.is_some_and(|needs| self.plan(&needs).is_ok())
    }

    /// Changes of one option with which a plan can be made.
    fn cures(&self, overview: &Overview, settings: &EngineSettings, needs: &Needs) -> Vec<String> {
        let mut cures = Vec::new();
        let count = self.target.count().unwrap_or(1);
        let with = |change: &dyn Fn(&mut EngineSettings)| {
            let mut changed = settings.clone();
            change(&mut changed);
            changed
        };
        let degree = overview
            .possible_ranks
            .iter()
            .copied()
            .filter(|&world| world > settings.ranks && world <= count)
            .find(|&world| self.fits(&with(&|settings| settings.ranks = world)));
        cures.extend(degree.map(|world| format!("option.tensor_parallel_degree={world}")));
        let wide = settings.dtype.is_none_or(|dtype| dtype.size() > 2);
        let halved = with(&|settings| settings.dtype = Some(StoredDtype::F16));
        if wide && self.fits(&halved) {
            cures.push("option.dtype=fp16".into());
        }
        let quantised = [
            ("int8", Quantisation::Blocks(BlockFormat::Q8Row)),
            ("int4", Quantisation::Int4),
        ];
        let quantised = quantised
            .into_iter()
            .filter(|_| settings.quantise.is_none() && self.target.count().is_none())
            .find(|(_, format)| self.fits(&with(&|settings| settings.quantise = Some(*format))));
        cures.extend(quantised.map(|(name, _)| format!("option.quantize={name}")));
        let mut shorter = needs.max_len / 2;
        while shorter >= 64 {
            if self.fits(&with(&|settings| settings.max_model_len = Some(shorter))) {
                cures.push(format!("option.max_model_len={shorter}"));
                break;
            }
            shorter /= 2;
        }
        if cures.is_empty()
            && let Target::Gpus { count, .. } = self.target
        {
            let larger = GPUS.iter().find(|&gpu| {
                let target = &Target::Gpus { gpu, count: *count };
                Planner { target, ..*self }.fits(settings)
            });
            cures.extend(larger.map(|gpu| format!("--gpu {}:{count}", gpu.name)));
        }
        cures
    }
}

fn part(needs: &Needs, plan: &Plan) -> PlanPart {
    PlanPart {
        ranks: needs.ranks,
        weights_bytes: plan.weights,
        adapters_bytes: plan.adapters,
        draft_bytes: plan.draft,
        activations_bytes: plan.activations,
        workspace_bytes: plan.workspace,
        overhead_bytes: plan.overhead,
        cache_bytes: plan.cache,
        total_bytes: plan.total(),
        available_bytes: plan.room,
        kv_bytes_per_token: plan.per_token,
        cache_tokens: plan.tokens(),
        max_len: plan.max_len,
        max_sequences: needs.max_rows,
        full_sequences: (plan.tokens() / plan.max_len.max(1)).min(needs.max_rows),
        tokens_each: (plan.tokens() / needs.max_rows.max(1)).min(plan.max_len),
    }
}

/// What may take too long.
pub(crate) fn warn_of_time(
    settings: &ModelSettings,
    max_len: usize,
    timeouts: &TimeoutPart,
) -> Vec<Reason> {
    let mut warnings = Vec::new();
    let (limit, tokens) = (timeouts.invocation, timeouts.tokens_within_invocation);
    if tokens < max_len as u64 {
        warnings.push(Reason {
            code: "invocation-limit",
            message: format!(
                "a sequence gets at most {tokens} tokens within the {limit} s of InvokeEndpoint, \
                 and the longest has {max_len}: stream long answers, or keep max_new_tokens below"
            ),
        });
    }
    let loading = settings.model_loading_timeout.as_secs();
    let start = timeouts.container_startup_health_check;
    if loading < start / 2 {
        warnings.push(Reason {
            code: "loading-timeout",
            message: format!(
                "model_loading_timeout = {loading} s, but reading the weights may take up to \
                 {start} s on a slow disk; raise it"
            ),
        });
    }
    warnings
}

impl From<&EngineError> for Reason {
    fn from(error: &EngineError) -> Self {
        Self {
            code: error.code(),
            message: error.to_string(),
        }
    }
}
