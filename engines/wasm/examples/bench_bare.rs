//! The bare rival of a job: the same module under the same configuration, in one process, without
//! sealing, sandbox or receipt. `bench_bare MODULE < stdin > stdout`; times as JSON on standard error.
//! `bench_bare MODULE RUNS` loads, instantiates and runs it so often, compiled once; the median as JSON.
#![allow(unsafe_code, clippy::disallowed_methods, reason = "a benchmark: loads what it just compiled, measures time")]

use decores_engine_wasm::limits;
use std::error::Error;
use std::time::Instant;
use tokio::runtime::Runtime;
use wasmtime::{Engine, Linker, Module, Store};
use wasmtime_wasi::p1::{self, WasiP1Ctx};
use wasmtime_wasi::{I32Exit, WasiCtxBuilder};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).ok_or("give a module")?;
    let program = std::fs::read(path)?;
    let engine = limits::engine()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ms = |since: Instant| since.elapsed().as_secs_f64() * 1000.0;

    let start = Instant::now();
    let code = engine.precompile_module(&program)?;
    let compile = ms(start);

    if let Some(runs) = std::env::args().nth(2) {
        let mut all = (0..runs.parse()?).map(|_| warm(&engine, &runtime, &code)).collect::<Result<Vec<f64>, _>>()?;
        all.sort_by(f64::total_cmp);
        println!("{{\"warmMs\":{:.4}}}", all.get(all.len() / 2).ok_or("no runs")?);
        return Ok(());
    }
    let start = Instant::now();
    // SAFETY: made by this process just above.
    let module = unsafe { Module::deserialize(&engine, &code)? };
    let mut linker: Linker<WasiP1Ctx> = Linker::new(&engine);
    p1::add_to_linker_async(&mut linker, |ctx| ctx)?;
    let wasi = WasiCtxBuilder::new().inherit_stdio().arg("program").allow_blocking_current_thread(true).build_p1();
    let mut store = Store::new(&engine, wasi);
    // Nobody ticks here, so the deadline is never reached; the code checks it all the same.
    store.set_epoch_deadline(1);
    let instance = runtime.block_on(linker.instantiate_async(&mut store, &module))?;
    let command = instance.get_typed_func::<(), ()>(&mut store, "_start")?;
    let instantiate = ms(start);

    let start = Instant::now();
    let result = runtime.block_on(command.call_async(&mut store, ()));
    let run = ms(start);
    let exit = match &result {
        Ok(()) => 0,
        Err(e) => e.downcast_ref::<I32Exit>().ok_or("the program trapped")?.0,
    };
    eprintln!("{{\"compileMs\":{compile:.3},\"exit\":{exit},\"instantiateMs\":{instantiate:.3},\"runMs\":{run:.3}}}");
    Ok(())
}

/// Milliseconds of loading, instantiating and running it, on no input.
fn warm(engine: &Engine, runtime: &Runtime, code: &[u8]) -> Result<f64, Box<dyn Error>> {
    let start = Instant::now();
    // SAFETY: made by this process.
    let module = unsafe { Module::deserialize(engine, code)? };
    let mut linker: Linker<WasiP1Ctx> = Linker::new(engine);
    p1::add_to_linker_async(&mut linker, |ctx| ctx)?;
    let wasi = WasiCtxBuilder::new().arg("program").allow_blocking_current_thread(true).build_p1();
    let mut store = Store::new(engine, wasi);
    store.set_epoch_deadline(1);
    let instance = runtime.block_on(linker.instantiate_async(&mut store, &module))?;
    let command = instance.get_typed_func::<(), ()>(&mut store, "_start")?;
    runtime.block_on(command.call_async(&mut store, ()))?;
    Ok(start.elapsed().as_secs_f64() * 1000.0)
}
