//! CPU profiles of this process: a signal for so much CPU time used, and the stack that it met.

use std::time::Duration;

use pprof::ProfilerGuard;
use prost::Message;

use crate::error::Error;

mod maps;
pub mod pb;
mod table;

/// A stack is not unwound while one of these is being executed: the unwinder may hold or need what they hold.
const NOT_WITHIN: [&str; 4] = ["libc.so", "libgcc", "pthread", "vdso"];

/// A profile that is being taken. Dropping it ends it.
pub struct Sampling {
    guard: ProfilerGuard<'static>,
}

impl Sampling {
    /// Begins. Blocks for some tens of milliseconds; one at a time.
    ///
    /// # Errors
    /// When there is one already, or the system refuses; samples lie in a file in the folder for temporary files.
    pub fn start(frequency_hertz: u16) -> Result<Self, Error> {
        let guard = pprof::ProfilerGuardBuilder::default()
            .frequency(i32::from(frequency_hertz))
            .blocklist(&NOT_WITHIN)
            .build()
            .map_err(|error| failed(&error))?;
        Ok(Self { guard })
    }

    /// Ends, and writes it down as pprof's protobuf, not compressed. Blocks while names are looked up, up to seconds.
    ///
    /// # Errors
    /// When the samples cannot be read back.
    pub fn finish(self) -> Result<Vec<u8>, Error> {
        let report = self.guard.report().build_unresolved().map_err(|error| failed(&error))?;
        // No more signals while names are looked up.
        drop(self.guard);
        let period = Duration::from_secs(1) / u32::try_from(report.timing.frequency).unwrap_or(1).max(1);
        let mut table = table::Table::new(maps::read(), period);
        table.set_time(report.timing.start_time, report.timing.duration);
        for (stack, count) in &report.data {
            let name = stack.thread_name.get(..stack.thread_name_length).unwrap_or_default();
            table.add(&stack.frames, &String::from_utf8_lossy(name), *count);
        }
        Ok(table.finish().encode_to_vec())
    }
}

fn failed(error: &pprof::Error) -> Error {
    Error::Internal(format!("the profile cannot be taken: {error}"))
}

impl std::fmt::Debug for Sampling {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Sampling").finish_non_exhaustive()
    }
}
