//! Running the guest.
#![expect(unsafe_code, reason = "loads code that the compile process made")]

use crate::limits::Meter;
use crate::scratch::{self, Stopped, Usage};
use crate::sleep;
use crate::streams::{Capture, Stdin};
use decores_attempt::{EngineError, IN, OUT, Stop, doing, now, since};
use decores_types::bundle::InputManifest;
use decores_types::{Limits, Reason};
use std::path::Path;
use std::time::Duration;
use wasmtime::{AsContextMut, Caller, Engine, Extern, ExternType, Linker, Module, Store, Trap};
use wasmtime_wasi::p1::wasi_snapshot_preview1::WasiSnapshotPreview1 as _;
use wasmtime_wasi::p1::{self, WasiP1Ctx};
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtxBuilder};
use wiggle::GuestMemory;

/// The name a guest finds in its first argument.
const ARGV0: &str = "program";

/// A guest about to run.
pub(crate) struct Guest<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) runtime: &'a tokio::runtime::Runtime,
    pub(crate) limits: &'a Limits,
    pub(crate) manifest: &'a InputManifest,
    pub(crate) scratch: Option<&'a Path>,
    /// Counts what the scratch takes, where nothing else does.
    pub(crate) usage: Option<Usage>,
    pub(crate) stdin: Stdin,
    pub(crate) stdout: Capture,
    pub(crate) stderr: Capture,
}

/// How it ended.
pub(crate) struct Ran {
    /// Exit code, or why it was stopped.
    pub(crate) end: Result<i32, Stop>,
    pub(crate) wall_ms: u64,
    pub(crate) memory_bytes: u64,
}

/// What the calls of one guest work on.
pub(crate) struct State {
    pub(crate) wasi: WasiP1Ctx,
    meter: Meter,
    pub(crate) usage: Option<Usage>,
}

/// What the library looks at in each call: the guest's memory, and its state.
pub(crate) fn parts<'a>(caller: &'a mut Caller<'_, State>) -> wasmtime::Result<(GuestMemory<'a>, &'a mut State)> {
    let fuel = caller.as_context_mut().hostcall_fuel();
    let Some(Extern::Memory(memory)) = caller.get_export("memory") else {
        return Err(wasmtime::Error::msg("the program exports no memory"));
    };
    let (bytes, state) = memory.data_and_store_mut(caller);
    state.wasi.set_hostcall_fuel(fuel);
    Ok((GuestMemory::Unshared(bytes), state))
}

/// Loads what the compile process made.
pub(crate) fn load(engine: &Engine, code: Vec<u8>) -> Result<Module, Stop> {
    // SAFETY: the bytes come from our own compile process over a stream nobody else holds, under the
    // same configuration. A program that took that process over could forge them, and would then run
    // here as it would after breaking out of its sandbox: under the same locks, in the same namespaces,
    // beside no data but its own consumer's.
    unsafe { Module::deserialize(engine, code) }
        .map_err(|e| Stop::job(Reason::ProgramInvalid, format!("the compiled program does not load: {e:#}")))
}

impl Guest<'_> {
    /// Runs it to its end or to a limit.
    pub(crate) fn run(mut self, module: &Module) -> Result<Ran, Stop> {
        let mut linker: Linker<State> = Linker::new(self.engine);
        p1::add_to_linker_async(&mut linker, |state| &mut state.wasi)
            .map_err(|e| EngineError::Runtime(e.to_string()))?;
        let usage = self.usage.take();
        let state = State { wasi: self.wasi()?, meter: Meter::new(self.limits.memory_bytes), usage };
        let mut store = Store::new(self.engine, state);
        store.limiter(|state| &mut state.meter);
        store.set_epoch_deadline(1);
        // At each tick the guest yields, so that the time limit is looked at.
        store.epoch_deadline_async_yield_and_update(1);
        sleep::replace(&mut linker)?;
        if let Some(usage) = &mut store.data_mut().usage {
            // The input alone may be too much.
            usage.charge(0);
            scratch::charge_calls(&mut linker)?;
        }
        if let Some(stop) = stop_of(&mut store) {
            return Err(stop);
        }
        check_command(module, &linker, &mut store)?;
        let start = now();
        let wall = Duration::from_millis(self.limits.wall_ms);
        let called = self.runtime.block_on(async {
            tokio::time::timeout(wall, async {
                let instance = linker.instantiate_async(&mut store, module).await?;
                let command = instance.get_typed_func::<(), ()>(&mut store, "_start")?;
                command.call_async(&mut store, ()).await
            })
            .await
        });
        let wall_ms = since(start);
        let stop = stop_of(&mut store);
        let meter = &store.data().meter;
        let end = match (stop, called) {
            (Some(stop), _) => Err(stop),
            (None, Err(_)) => Err(Stop::job(Reason::LimitTime, "the program ran longer than its limit")),
            (None, Ok(result)) => ending(result, &self.stdout, meter),
        };
        Ok(Ran { end, wall_ms, memory_bytes: meter.peak })
    }

    fn wasi(&self) -> Result<WasiP1Ctx, EngineError> {
        let mut builder = WasiCtxBuilder::new();
        builder
            .allow_blocking_current_thread(true)
            .stdin(self.stdin.clone())
            .stdout(self.stdout.clone())
            .stderr(self.stderr.clone())
            .arg(ARGV0)
            .args(&self.manifest.args);
        for (name, value) in &self.manifest.env {
            builder.env(name, value);
        }
        if let Some(scratch) = self.scratch {
            let wasm = |e: wasmtime::Error| EngineError::Runtime(e.to_string());
            builder.preopened_dir(scratch.join(IN), "/in", FsPerms::ReadOnly).map_err(wasm)?;
            builder.preopened_dir(scratch.join(OUT), "/out", FsPerms::ReadWrite).map_err(wasm)?;
        }
        Ok(builder.build_p1())
    }
}

/// What the scratch has to say about the end.
fn stop_of(store: &mut Store<State>) -> Option<Stop> {
    match store.data_mut().usage.as_mut()?.stopped.take()? {
        Stopped::Full => Some(Stop::job(Reason::LimitScratch, "the program wrote more to its files than its limit")),
        Stopped::Failed(e) => Some(doing("counting the scratch")(e).into()),
    }
}

/// Refuses what is no command or imports what does not exist.
fn check_command(module: &Module, linker: &Linker<State>, store: &mut Store<State>) -> Result<(), Stop> {
    let invalid = |note: String| Stop::job(Reason::ProgramInvalid, note);
    for import in module.imports() {
        if linker.get(&mut *store, import.module(), import.name()).is_err() {
            return Err(invalid(format!(
                "the program imports `{}` `{}`, which does not exist",
                import.module(),
                import.name()
            )));
        }
    }
    // Types of imports are compared here too.
    linker.instantiate_pre(module).map_err(|e| invalid(format!("{e:#}")))?;
    match module.get_export("_start") {
        Some(ExternType::Func(f)) if f.params().len() == 0 && f.results().len() == 0 => Ok(()),
        _ => Err(invalid("the program is not a command: it exports no function `_start` without arguments".to_owned())),
    }
}

/// Sorts the ways a call can end.
fn ending(result: wasmtime::Result<()>, stdout: &Capture, meter: &Meter) -> Result<i32, Stop> {
    let error = match result {
        Ok(()) => return Ok(0),
        Err(e) => e,
    };
    if stdout.exceeded() {
        return Err(Stop::job(Reason::LimitOutput, "the program wrote more output than its limit"));
    }
    let exit = error.downcast_ref::<I32Exit>().map(|e| e.0);
    if meter.denied && exit != Some(0) {
        return Err(Stop::job(Reason::LimitMemory, "the program asked for more memory than its limit"));
    }
    match (exit, error.downcast_ref::<Trap>()) {
        (Some(code), _) => Ok(code),
        (None, Some(Trap::Interrupt)) => Err(Stop::job(Reason::LimitTime, "the program ran longer than its limit")),
        (None, _) => Err(Stop::job(Reason::Trap, format!("{error:#}"))),
    }
}
