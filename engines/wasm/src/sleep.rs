//! Sleeping guests.
//!
//! The library sleeps on the thread itself when a guest waits for nothing but a time span, so that no
//! time limit could end it. Here that one case waits in the runtime; all others go to the library.

use crate::run::{State, parts};
use decores_attempt::EngineError;
use std::time::Duration;
use wasmtime::{Caller, Extern, Linker, Memory};
use wasmtime_wasi::p1::wasi_snapshot_preview1 as library;

const MODULE: &str = "wasi_snapshot_preview1";
const NAME: &str = "poll_oneoff";
/// Bytes of a subscription: user data (8), kind (1 at 8), clock (4 at 16), span (8 at 24), flags (2 at 40).
const SUBSCRIPTION: usize = 48;
/// Bytes of an event: user data (8), error (2), kind (1), and nothing for clocks.
const EVENT: usize = 32;
const KIND_CLOCK: u8 = 0;
const FLAG_ABSOLUTE: u8 = 1;

/// Puts our `poll_oneoff` before the library's.
pub(crate) fn replace(linker: &mut Linker<State>) -> Result<(), EngineError> {
    linker.allow_shadowing(true);
    linker
        .func_wrap_async(MODULE, NAME, move |caller, arguments| Box::new(poll(caller, arguments)))
        .map_err(|e| EngineError::Runtime(e.to_string()))?;
    linker.allow_shadowing(false);
    Ok(())
}

async fn poll(
    mut caller: Caller<'_, State>,
    (subscriptions, events, count, done): (i32, i32, i32, i32),
) -> wasmtime::Result<i32> {
    if count == 1
        && let Some(Extern::Memory(memory)) = caller.get_export("memory")
        && let Some((user_data, span)) = plain_sleep(&memory, &caller, subscriptions)
    {
        tokio::time::sleep(span).await;
        let mut event = [0; EVENT];
        if let Some(place) = event.get_mut(..8) {
            place.copy_from_slice(&user_data);
        }
        memory.write(&mut caller, address(events), &event)?;
        memory.write(&mut caller, address(done), &1_u32.to_le_bytes())?;
        return Ok(0);
    }
    let (mut memory, state) = parts(&mut caller)?;
    library::poll_oneoff(&mut state.wasi, &mut memory, subscriptions, events, count, done).await
}

/// User data and span of a subscription that only waits for a span of time.
fn plain_sleep<T: 'static>(memory: &Memory, caller: &Caller<'_, T>, at: i32) -> Option<([u8; 8], Duration)> {
    let mut subscription = [0; SUBSCRIPTION];
    memory.read(caller, address(at), &mut subscription).ok()?;
    let bytes = |at: usize| subscription.get(at..at + 8)?.try_into().ok();
    if *subscription.get(8)? != KIND_CLOCK || subscription.get(40)? & FLAG_ABSOLUTE != 0 {
        return None;
    }
    Some((bytes(0)?, Duration::from_nanos(u64::from_le_bytes(bytes(24)?))))
}

/// Guest addresses are unsigned.
const fn address(pointer: i32) -> usize {
    pointer.cast_unsigned() as usize
}
