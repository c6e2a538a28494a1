//! Golden files: a network, its inputs, and what a reference computed. What is found is compared.

use std::collections::BTreeMap;
use std::sync::Arc;

use safetensors::SafeTensors;
use serde_json::{Value, json};

use super::{Purpose, StepInputs, StepShape, TrainStep, Update, loss_weights};
use crate::fields::Fields;
use crate::flow::{MAX_STEPS, Solver};
use crate::graph::{Bank, Device};
use crate::kernels::Set;
use crate::kernels::check::Distance;
use crate::kernels::optimizer::Hyper;
use crate::policy::{
    Config, Evaluator, Family, Guidance, Images, Network, Observations, Sampler, SamplerShape, join_states,
};
use crate::{Error, Result};

/// One compared quantity.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantity {
    /// `velocity`, `loss`, `grad/<name>`, `losses`, `param_after/<name>` or `sample`.
    pub name: String,
    /// Σ(x − ref)² / Σ ref²; of weights after some steps, over Σ(ref − start)².
    pub nmse: f64,
    /// max |x − ref|.
    pub max_abs: f64,
    /// Whether the bounds of DESIGN section 6 hold.
    pub pass: bool,
}

/// A golden file in memory.
#[derive(Debug, Clone)]
pub struct Golden {
    /// The network.
    pub config: Config,
    /// Tensors by name: shape and values.
    pub tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    /// The solver and its steps.
    pub solver: Solver,
    /// Solver steps.
    pub steps: usize,
    /// Guidance of the sample.
    pub guidance: Option<Guidance>,
    optimizer: Option<Optimizer>,
}

#[derive(Debug, Clone)]
struct Optimizer {
    decoupled: bool,
    hyper: Hyper,
}

impl Golden {
    /// Reads a golden file's bytes.
    ///
    /// # Errors
    /// If it is no golden file; the sentence says what is missing or wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let broken =
            |e: safetensors::SafeTensorError| Error::input(format!("not a readable safetensors file: {e}"));
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(broken)?;
        let metadata = metadata.metadata().clone().unwrap_or_default();
        if metadata.get("flowgpu.golden").map(String::as_str) != Some("1") {
            return Err(Error::input("no golden file: its metadata lacks `flowgpu.golden` = \"1\""));
        }
        let text = metadata.get("config").ok_or_else(|| Error::input("its metadata lacks `config`"))?;
        let config = Config::parse(text)?;
        let mut tensors = BTreeMap::new();
        for (name, view) in SafeTensors::deserialize(bytes).map_err(broken)?.tensors() {
            if view.dtype() != safetensors::Dtype::F32 {
                return Err(Error::input(format!(
                    "tensor `{name}` is {:?}: golden files hold F32",
                    view.dtype()
                )));
            }
            let values = bytemuck::pod_collect_to_vec(view.data());
            tensors.insert(name, (view.shape().to_vec(), values));
        }
        let (solver, steps) = match metadata.get("solver") {
            None => (config.flow.solver, config.flow.num_steps),
            Some(text) => {
                let mut fields = Fields::of(json_of(text, "solver")?, "`solver`")?;
                let known = (Solver::named(&fields.required::<String>("name")?)?, fields.required("steps")?);
                fields.finish(&[])?;
                known
            }
        };
        let guidance = metadata.get("guidance").map(|text| {
            let mut fields = Fields::of(json_of(text, "guidance")?, "`guidance`")?;
            let scale = fields.required("scale")?;
            fields.finish(&[])?;
            let guidance = Guidance { scale, unconditional: config.unconditional.clone() };
            guidance.check(&config)?;
            Ok(guidance)
        });
        let guidance = guidance.transpose()?;
        if !(1..=MAX_STEPS).contains(&steps) {
            return Err(Error::input(format!("`solver` has {steps} steps: use 1 to {MAX_STEPS}")));
        }
        let optimizer = metadata.get("optimizer").map(|text| Optimizer::parse(text)).transpose()?;
        Ok(Self { config, tensors, solver, steps, guidance, optimizer })
    }

    /// Runs on a device what the file holds, and compares.
    ///
    /// # Errors
    /// If a tensor that is needed is missing or of another shape, or the device fails.
    pub fn verify(&self, device: &Device) -> Result<Vec<Quantity>> {
        let (network, params) = Network::new(&self.config);
        let params = Arc::new(params);
        self.check(&params)?;
        let sets = [Set::Weights, Set::Gradients, Set::Moment1, Set::Moment2];
        let bank = Bank::new(device, &params, &sets)?;
        let run = Run { golden: self, network, bank };
        run.reset();
        let mut quantities = Vec::new();
        if self.tensors.contains_key("expect/velocity") {
            quantities.push(run.velocity()?);
        }
        if self.tensors.contains_key("expect/loss") || self.expects("expect/grad/") {
            quantities.extend(run.loss_and_gradients()?);
        }
        if self.tensors.contains_key("expect/losses") || self.expects("expect/param_after/") {
            quantities.extend(run.optimizer_steps()?);
            run.reset();
        }
        if self.tensors.contains_key("expect/sample") {
            quantities.push(run.sample()?);
        }
        if quantities.is_empty() {
            return Err(Error::input("there is nothing to compare: no tensor is named `expect/...`"));
        }
        Ok(quantities)
    }

    fn expects(&self, prefix: &str) -> bool {
        self.tensors.keys().any(|name| name.starts_with(prefix))
    }

    fn tensor(&self, name: &str) -> Result<&[f32]> {
        let found = self.tensors.get(name).map(|(_, values)| values.as_slice());
        found.ok_or_else(|| Error::input(format!("tensor `{name}` is missing")))
    }

    pub(super) fn shape(&self, name: &str) -> Result<&[usize]> {
        let found = self.tensors.get(name).map(|(shape, _)| shape.as_slice());
        found.ok_or_else(|| Error::input(format!("tensor `{name}` is missing")))
    }

    /// The state vectors `obs/<key>`, [B, S_i] or [B, T, S_i], as one [B, T·S].
    fn state(&self) -> Result<Vec<f32>> {
        let mut parts = Vec::new();
        for (key, feature) in self.config.states() {
            parts.push((self.tensor(&format!("obs/{key}"))?, feature.shape[0]));
        }
        Ok(join_states(&parts))
    }
}

impl Optimizer {
    fn parse(text: &str) -> Result<Self> {
        let mut fields = Fields::of(json_of(text, "optimizer")?, "`optimizer`")?;
        let decoupled = match fields.required::<String>("name")?.as_str() {
            "adamw" => true,
            "adam" => false,
            other => return Err(Error::input(format!("unknown optimizer `{other}`: known are adam, adamw"))),
        };
        let hyper = Hyper {
            lr: fields.required("lr")?,
            betas: fields.required("betas")?,
            eps: fields.required("eps")?,
            weight_decay: fields.or("weight_decay", 0.0)?,
            ema_decay: 0.0,
            max_norm: fields.or("grad_clip_norm", 0.0)?,
        };
        fields.finish(&[])?;
        Ok(Self { decoupled, hyper })
    }
}

fn json_of(text: &str, what: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|e| Error::input(format!("metadata `{what}` is not JSON: {e}")))
}

/// One golden on one device.
struct Run<'a> {
    golden: &'a Golden,
    network: Network,
    bank: Bank,
}

impl Run<'_> {
    /// Puts the file's weights, and zero moments, on the device.
    fn reset(&self) {
        for (_, param) in self.bank.params().iter() {
            if let Ok(values) = self.golden.tensor(&format!("param/{}", param.name)) {
                self.bank.write(Set::Weights, &param.name, values);
            }
            for set in [Set::Moment1, Set::Moment2] {
                self.bank.write(set, &param.name, &vec![0.0; param.len]);
            }
        }
    }

    fn velocity(&self) -> Result<Quantity> {
        let batch = self.golden.shape("x_t")?[0];
        let (t, t_per_slot) = self.times(batch)?;
        let shape = self.sampler_shape(batch)?;
        let evaluator = Evaluator::new(&self.golden.config, &self.network, &self.bank, shape, t_per_slot)?;
        let program = evaluator.program();
        let state = self.golden.state()?;
        self.seen(&state)?.write(program)?;
        program.write("x", self.golden.tensor("x_t")?)?;
        program.write("t", &t)?;
        program.run()?;
        self.near("velocity", &program.read_wide("velocity")?, "expect/velocity")
    }

    /// The times, and whether each slot has its own. One time a sample is all that some families take.
    fn times(&self, batch: usize) -> Result<(Vec<f32>, bool)> {
        let t = self.golden.tensor("t")?;
        let per_slot = t.len() != batch;
        if !per_slot || !matches!(self.golden.config.family, Family::VelocityMlp(_)) {
            return Ok((t.to_vec(), per_slot));
        }
        let rows: Vec<&[f32]> = t.chunks(t.len() / batch).collect();
        if rows.iter().any(|row| row.iter().any(|time| *time != row[0])) {
            return Err(Error::input("`t` differs within a sample: a velocity_mlp takes one time a sample"));
        }
        Ok((rows.iter().map(|row| row[0]).collect(), false))
    }

    fn seen<'a>(&'a self, state: &'a [f32]) -> Result<Observations<'a>> {
        let missing: &[f32] = &[];
        let camera = |(key, _)| match self.golden.tensors.get(&format!("obs/{key}")) {
            Some((_, values)) => Images::Floats(values),
            None => Images::Floats(missing),
        };
        Ok(Observations { images: self.golden.config.images().map(camera).collect(), state })
    }

    /// A batch's shape as the golden's own tensors have it.
    fn sampler_shape(&self, batch: usize) -> Result<SamplerShape> {
        let cameras = self.seen(&[])?.cameras();
        Ok(SamplerShape { cameras, ..SamplerShape::of(&self.golden.config, batch) })
    }

    fn step(&self, purpose: Purpose) -> Result<(TrainStep, Vec<f32>)> {
        let shape = self.golden.shape("actions")?;
        let batch = shape[0];
        let is_pad: Vec<bool> = match self.golden.tensor("action_is_pad") {
            Ok(flags) => flags.iter().map(|&flag| flag != 0.0).collect(),
            Err(_) => vec![false; batch * shape[1]],
        };
        let shape = StepShape {
            batch,
            cameras: self.seen(&[])?.cameras(),
            t_per_slot: self.times(batch)?.1,
            purpose,
            dropout: 0.0,
        };
        let step = TrainStep::new(&self.golden.config, &self.network, &self.bank, shape)?;
        Ok((step, loss_weights(&self.golden.config, &is_pad, &[])))
    }

    /// One run of the step on the file's batch.
    fn run_step(&self, step: &TrainStep, weights: &[f32], hyper: &Hyper, number: u64) -> Result<()> {
        let batch = self.golden.shape("actions")?[0];
        let (state, (times, _)) = (self.golden.state()?, self.times(batch)?);
        let inputs = StepInputs {
            seen: self.seen(&state)?,
            dropped: &vec![0.0; batch],
            actions: self.golden.tensor("actions")?,
            noise: self.golden.tensor("noise")?,
            times: &times,
            weights,
        };
        step.run(&inputs, hyper, 0, number)
    }

    fn loss_and_gradients(&self) -> Result<Vec<Quantity>> {
        let (step, weights) = self.step(Purpose::Gradients)?;
        let no_update =
            Hyper { lr: 0.0, betas: [0.0; 2], eps: 1.0, weight_decay: 0.0, ema_decay: 0.0, max_norm: 0.0 };
        self.run_step(&step, &weights, &no_update, 1)?;
        let mut quantities = Vec::new();
        if let Ok(expected) = self.golden.tensor("expect/loss") {
            quantities.push(relative("loss", &[step.loss()?], expected));
        }
        let gradients = self.bank.read(Set::Gradients)?;
        for ((_, param), gradient) in self.bank.params().iter().zip(&gradients) {
            let Ok(expected) = self.golden.tensor(&format!("expect/grad/{}", param.name)) else { continue };
            let distance = Distance::between(&wide(gradient), &wide(expected));
            let pass = if distance.scale < 1e-9 { distance.max_abs <= 1e-6 } else { distance.nmse <= 1e-10 };
            quantities.push(quantity(format!("grad/{}", param.name), distance, pass));
        }
        Ok(quantities)
    }

    fn optimizer_steps(&self) -> Result<Vec<Quantity>> {
        let optimizer = self.golden.optimizer.as_ref();
        let optimizer = optimizer.ok_or_else(|| Error::input("the metadata lacks `optimizer`"))?;
        let (step, weights) =
            self.step(Purpose::Update(Update { decoupled: optimizer.decoupled, average: false }))?;
        let expected = self.golden.tensor("expect/losses")?;
        let mut losses = Vec::with_capacity(expected.len());
        for k in 0..expected.len() {
            self.run_step(&step, &weights, &optimizer.hyper, k as u64 + 1)?;
            losses.push(step.loss()?);
        }
        let mut quantities = vec![relative("losses", &losses, expected)];
        let after = self.bank.read(Set::Weights)?;
        for ((_, param), after) in self.bank.params().iter().zip(&after) {
            let Ok(expected) = self.golden.tensor(&format!("expect/param_after/{}", param.name)) else {
                continue;
            };
            let start = self.golden.tensor(&format!("param/{}", param.name))?;
            let moved: f64 = expected.iter().zip(start).map(|(r, s)| f64::from(r - s).powi(2)).sum();
            let mut distance = Distance::between(&wide(after), &wide(expected));
            let error: f64 = after.iter().zip(expected).map(|(p, r)| f64::from(p - r).powi(2)).sum();
            distance.nmse = if moved > 0.0 { error / moved } else { error };
            let pass = error <= 1e-7 * moved;
            quantities.push(quantity(format!("param_after/{}", param.name), distance, pass));
        }
        Ok(quantities)
    }

    fn sample(&self) -> Result<Quantity> {
        let batch = self.golden.shape("sample_noise")?[0];
        let shape = SamplerShape {
            steps: self.golden.steps,
            solver: self.golden.solver,
            guidance: self.golden.guidance.clone(),
            ..self.sampler_shape(batch)?
        };
        let sampler = Sampler::new(&self.golden.config, &self.network, &self.bank, shape)?;
        let program = sampler.program();
        let state = self.golden.state()?;
        self.seen(&state)?.write(program)?;
        program.write("noise", self.golden.tensor("sample_noise")?)?;
        program.run()?;
        self.near("sample", &program.read_wide("sample")?, "expect/sample")
    }

    fn near(&self, name: &str, answer: &[f64], expected: &str) -> Result<Quantity> {
        let distance = Distance::between(answer, &wide(self.golden.tensor(expected)?));
        let pass = distance.nmse <= 1e-11 && distance.max_abs <= 1e-4 * distance.scale;
        Ok(quantity(name.to_owned(), distance, pass))
    }
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

fn quantity(name: String, distance: Distance, pass: bool) -> Quantity {
    Quantity { name, nmse: distance.nmse, max_abs: distance.max_abs, pass }
}

/// Numbers that must each be within 1e-6 of their reference, relatively.
fn relative(name: &str, answer: &[f64], expected: &[f32]) -> Quantity {
    let expected = wide(expected);
    let pass = answer.iter().zip(&expected).all(|(x, r)| (x - r).abs() <= 1e-6 * r.abs());
    quantity(name.to_owned(), Distance::between(answer, &expected), pass)
}

impl Quantity {
    /// As `verify --json` prints it.
    pub fn to_json(&self) -> Value {
        json!({"name": self.name, "nmse": self.nmse, "max_abs": self.max_abs, "pass": self.pass})
    }
}
