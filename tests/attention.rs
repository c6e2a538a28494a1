//! Attention as a network uses it: Q, K and V side by side in one buffer, and their gradients in another.

use std::sync::Arc;

use flowgpu::gpu::{self, Checks, Choice, Gpu};
use flowgpu::kernels::attention::{Attention, Tokens};
use flowgpu::kernels::attention_backward::{AttentionBackwardKeyValue, AttentionBackwardQuery};
use flowgpu::kernels::check::Distance;
use flowgpu::kernels::dropout::DropoutSite;
use flowgpu::kernels::{Binding, Dtype, Place, Plan, Slot, Step};
use flowgpu::rng::{Rng, Stream};
use flowgpu::{Result, cpu};

const BATCH: usize = 2;
const TOKENS: usize = 21;
const HEADS: usize = 3;
const HEAD_WIDTH: usize = 8;
const WIDTH: usize = HEADS * HEAD_WIDTH;
const CONTROL: [u32; 4] = [1, 2, 3, 4];

/// Slots of the plan.
const QKV: usize = 0;
const CONTROLS: usize = 1;
const D_O: usize = 2;
const O: usize = 3;
const LSE: usize = 4;
const D_QKV: usize = 5;

/// Forward, dQ, then dK and dV into the other columns of the same buffer.
fn plan() -> Plan {
    let rows = BATCH * TOKENS;
    let lens = [rows * 3 * WIDTH, 4, rows * WIDTH, rows * WIDTH, rows * HEADS, rows * 3 * WIDTH];
    let slots = lens.map(|len| Slot { dtype: if len == 4 { Dtype::U32 } else { Dtype::F32 }, len });
    let bind = |slots: &[usize]| -> Vec<Binding> {
        slots.iter().map(|&n| Binding { place: Place::Slot(n), offset: 0, len: lens[n] }).collect()
    };
    let [q, k, v] = [0, 1, 2].map(|part| Tokens::part(part, WIDTH, 3));
    let dropout = Some(DropoutSite::new(4, 0.2));
    let attention =
        Attention { q, k, v, dropout, ..Attention::new(BATCH, HEADS, TOKENS, TOKENS, HEAD_WIDTH) };
    let d_o = attention.o;
    let query = AttentionBackwardQuery { attention: attention.clone(), d_o, d_q: q };
    let key_value = AttentionBackwardKeyValue { attention: attention.clone(), d_o, d_k: k, d_v: v };
    let backward = [QKV, QKV, QKV, CONTROLS, O, D_O, LSE];
    let steps = vec![
        Step { kernel: attention.into(), inputs: bind(&[QKV, QKV, QKV, CONTROLS]), outputs: bind(&[O, LSE]) },
        Step { kernel: query.into(), inputs: bind(&backward), outputs: bind(&[D_QKV]) },
        Step { kernel: key_value.into(), inputs: bind(&backward), outputs: bind(&[D_QKV]) },
    ];
    Plan { slots: slots.to_vec(), steps }
}

/// O and dQKV by the shaders.
fn on_gpu(gpu: &Arc<Gpu>, plan: &Plan) -> Result<[Vec<f32>; 2]> {
    let program = gpu::Program::new(gpu, plan, &gpu::Bank::new())?;
    for slot in [QKV, D_O] {
        let values = noise(plan.slots[slot].len, slot as u32);
        gpu.write(program.slot(slot), 0, bytemuck::cast_slice(&values));
    }
    gpu.write(program.slot(CONTROLS), 0, bytemuck::cast_slice(&CONTROL));
    program.run_part(0..program.launches())?;
    let read = |slot: usize| gpu.read(program.slot(slot), 0, plan.slots[slot].len);
    Ok([read(O)?, read(D_QKV)?])
}

fn noise(len: usize, sample: u32) -> Vec<f32> {
    let mut rng = Rng::new(1, Stream::Init, 0, sample);
    (0..len).map(|_| rng.normal() as f32).collect()
}

/// O and dQKV in f64 by the twins.
fn reference(plan: &Plan) -> Result<[Vec<f64>; 2]> {
    let program = cpu::Program::<f64>::new(plan, &cpu::Bank::new())?;
    for slot in [QKV, D_O] {
        program.slot(slot).write_floats(0, &noise(plan.slots[slot].len, slot as u32));
    }
    *program.slot(CONTROLS).write() = cpu::Data::U32(CONTROL.to_vec());
    program.run_part(0..program.launches());
    Ok([O, D_QKV].map(|slot| program.slot(slot).floats(0, plan.slots[slot].len)))
}

#[test]
fn one_buffer_holds_queries_keys_and_values_and_one_their_gradients() -> Result<()> {
    let plan = plan();
    let answers = on_gpu(&Gpu::open(&Choice::Any, Checks::On)?, &plan)?;
    for (answer, reference) in answers.into_iter().zip(reference(&plan)?) {
        let answer: Vec<f64> = answer.into_iter().map(f64::from).collect();
        let distance = Distance::between(&answer, &reference);
        assert!(distance.nmse < 1e-10 && distance.scale > 0.1, "{distance:?}");
    }
    Ok(())
}

#[test]
fn the_same_step_gives_the_same_bits_again() -> Result<()> {
    let plan = plan();
    let gpu = Gpu::open(&Choice::Any, Checks::Off)?;
    let bits = || -> Result<_> {
        Ok(on_gpu(&gpu, &plan)?.map(|values| values.into_iter().map(f32::to_bits).collect::<Vec<_>>()))
    };
    assert_eq!(bits()?, bits()?);
    Ok(())
}
